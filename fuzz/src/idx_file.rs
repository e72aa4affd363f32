//! Pairs of IDX files, plain and gzipped, with sizes that lie, damaged framing and bombs.
//!
//! What must hold: `lenet_dataset_open` succeeds exactly when a parser of our own finds a pair, and
//! then `lenet_dataset_read` gives those bytes. That memory stays with what is there is for
//! `-rss_limit_mb` and `-malloc_limit_mb` to see.

use crate::expect::Expect;
use crate::idx_oracle::{self, Pair};
use crate::number::Number;
use crate::support::{self, Dataset};
use crate::unnamed::Unnamed;
use arbitrary::Arbitrary;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use lenet::ffi::*;
use std::cell::RefCell;
use std::ptr::null_mut;
use std::sync::LazyLock;

/// A pair of files that fit together but for what is changed.
#[derive(Arbitrary, Debug)]
pub struct Input {
    n: u8,
    height: u8,
    width: u8,
    images: Contents,
    labels: Contents,
}

#[derive(Arbitrary, Debug)]
struct Contents {
    changes: Vec<Change>,
    framing: Framing,
    damage: Vec<Damage>,
}

/// What is wrong with an IDX file before it is framed.
#[derive(Arbitrary, Debug)]
enum Change {
    Magic {
        at: u8,
        byte: u8,
    },
    Dimension {
        which: u8,
        value: Number,
    },
    Cut(u16),
    Append(Vec<u8>),
    Byte {
        at: u16,
        byte: u8,
    },
    /// Big-endian numbers of this type instead of bytes, all the same numbers.
    Integers {
        bytes: u8,
    },
    /// One more dimension, of size 1 or larger with as many numbers more.
    Grow {
        at: u8,
        size: u8,
    },
}

#[derive(Arbitrary, Debug)]
enum Framing {
    Plain,
    /// Members that end at these places.
    Gzip {
        level: u8,
        ends: Vec<u16>,
    },
    /// A member with a name, a comment and an extra field.
    Named(Vec<u8>),
    /// The file, then many zeros in few bytes.
    Bomb {
        size: u8,
    },
    /// Gzipped twice.
    Twice,
}

/// What is wrong with the file as it lies there.
#[derive(Arbitrary, Debug)]
enum Damage {
    Byte { at: u16, byte: u8 },
    Truncate(u16),
    Append(Vec<u8>),
    Again,
}

/// Gzip members of 64 KiB of zeros and of a MiB.
static ZEROS: LazyLock<[Vec<u8>; 2]> =
    LazyLock::new(|| [1 << 16, 1 << 20].map(|length| gzip(&vec![0; length], 9)));

thread_local! {
    static FILES: RefCell<[Unnamed; 2]> = RefCell::new([Unnamed::new(), Unnamed::new()]);
}

impl Input {
    /// Opens the pair and checks what comes of it.
    pub fn run(self) {
        let (n, height, width) =
            (usize::from(self.n % 20), usize::from(self.height % 9), usize::from(self.width % 9));
        let images = self.images.build(&[n, height, width]);
        let labels = self.labels.build(&[n]);
        let expected = idx_oracle::pair(&images, &labels);
        let dataset = FILES.with_borrow_mut(|files| {
            files[0].write(&images);
            files[1].write(&labels);
            open(files, expected.is_some())
        });
        if let (Some(dataset), Some(pair)) = (dataset, expected) {
            check(&dataset, &pair);
        }
    }
}

impl Contents {
    fn build(&self, sizes: &[usize]) -> Vec<u8> {
        let elements = sizes.iter().product();
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|&size| bytes.extend((size as u32).to_be_bytes()));
        bytes.extend((0..elements).map(|i: usize| (i * 37) as u8));
        for change in self.changes.iter().take(8) {
            change.apply(&mut bytes);
        }
        let mut bytes = self.framing.apply(&bytes);
        for damage in self.damage.iter().take(8) {
            damage.apply(&mut bytes);
        }
        bytes
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        match self {
            Change::Magic { at, byte } => set(bytes, usize::from(*at % 4), *byte),
            Change::Dimension { which, value } => {
                let at = 4 + 4 * usize::from(which % 3);
                if let Some(place) = bytes.get_mut(at..at + 4) {
                    let old = u32::from_be_bytes(place.try_into().unwrap());
                    let new = value.instead_of(u64::from(old)) as u32;
                    place.copy_from_slice(&new.to_be_bytes());
                }
            }
            Change::Cut(keep) => bytes.truncate(usize::from(*keep)),
            Change::Append(more) => bytes.extend_from_slice(more),
            Change::Byte { at, byte } => set(bytes, usize::from(*at) % length.max(1), *byte),
            Change::Integers { bytes: size } => {
                let (code, zeros) = [(0x0b, 1), (0x0c, 3), (0x09, 0)][usize::from(size % 3)];
                let header = 4 + 4 * bytes.get(3).map_or(0, |&rank| usize::from(rank));
                if header < length && bytes[2] == 8 {
                    let data = bytes.split_off(header);
                    for byte in data {
                        bytes.resize(bytes.len() + zeros, 0);
                        bytes.push(byte);
                    }
                    bytes[2] = code;
                }
            }
            Change::Grow { at, size } => {
                let Some(rank) = bytes.get(3).map(|&rank| usize::from(rank)) else { return };
                let (header, size) = (4 + 4 * rank, [1, 1, 3, 8][usize::from(size % 4)]);
                if header < length && length < 1 << 14 && rank < 8 {
                    let data = bytes.split_off(header).repeat(size);
                    let at = 4 + 4 * (usize::from(*at) % (rank + 1));
                    bytes.splice(at..at, (size as u32).to_be_bytes());
                    bytes.extend(data);
                    bytes[3] += 1;
                }
            }
        }
    }
}

impl Framing {
    fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Framing::Plain => bytes.to_vec(),
            Framing::Gzip { level, ends } => {
                let mut ends: Vec<usize> =
                    ends.iter().take(6).map(|&end| usize::from(end) % (bytes.len() + 1)).collect();
                ends.push(bytes.len());
                ends.sort_unstable();
                let level = if *level < 128 { 0 } else { u32::from(level % 9) + 1 };
                let mut start = 0;
                let member = |end| {
                    let member = gzip(&bytes[start..end], level);
                    start = end;
                    member
                };
                ends.into_iter().flat_map(member).collect()
            }
            Framing::Named(text) => {
                let text: Vec<u8> = text.iter().copied().filter(|&b| b != 0).take(64).collect();
                let mut member = gzip(bytes, 0);
                let (extra, name, comment) = (4, 8, 16);
                member[3] = extra | name | comment;
                let length = (text.len() as u16).to_le_bytes();
                let fields = [&length[..], &text, &text, &[0], &text, &[0]].concat();
                member.splice(10..10, fields);
                member
            }
            Framing::Bomb { size } => {
                // Mostly small ones, which are quick.
                let zeros = match *size {
                    0..=251 => ZEROS[0].repeat(usize::from(size % 4)),
                    252..=254 => ZEROS[1].clone(),
                    255 => ZEROS[1].repeat(4),
                };
                [gzip(bytes, 0), zeros].concat()
            }
            Framing::Twice => gzip(&gzip(bytes, 6), 0),
        }
    }
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        match self {
            Damage::Byte { at, byte } => set(bytes, usize::from(*at) % length.max(1), *byte),
            Damage::Truncate(keep) => bytes.truncate(usize::from(*keep)),
            Damage::Append(more) => bytes.extend_from_slice(more),
            Damage::Again if length < 1 << 12 => bytes.extend_from_within(..),
            Damage::Again => {}
        }
    }
}

fn set(bytes: &mut [u8], at: usize, byte: u8) {
    if let Some(place) = bytes.get_mut(at) {
        *place = byte;
    }
}

/// A gzip member without names. At level 0 it is stored, which is quick.
pub fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    if level == 0 {
        store(bytes, &mut member);
    } else {
        deflate(bytes, level, &mut member);
    }
    let mut crc = Crc::new();
    crc.update(bytes);
    member.extend(crc.sum().to_le_bytes());
    member.extend((bytes.len() as u32).to_le_bytes());
    member
}

/// Deflate's blocks for what is not compressed.
fn store(bytes: &[u8], member: &mut Vec<u8>) {
    let mut rest = bytes;
    loop {
        let (block, behind) = rest.split_at(rest.len().min(usize::from(u16::MAX)));
        let length = block.len() as u16;
        member.push(u8::from(behind.is_empty()));
        member.extend(length.to_le_bytes());
        member.extend((!length).to_le_bytes());
        member.extend_from_slice(block);
        rest = behind;
        if rest.is_empty() {
            return;
        }
    }
}

/// What compresses is kept for the next member: it has tables of hundreds of KiB.
fn deflate(bytes: &[u8], level: u32, member: &mut Vec<u8>) {
    thread_local! {
        static LEVELS: RefCell<[Option<Compress>; 10]> = RefCell::default();
    }
    member.reserve(bytes.len() + bytes.len() / 8 + 128);
    LEVELS.with_borrow_mut(|levels| {
        let new = || Compress::new(Compression::new(level), false);
        let compress = levels[level as usize].get_or_insert_with(new);
        compress.reset();
        let ended = compress.compress_vec(bytes, member, FlushCompress::Finish).unwrap();
        assert_eq!(ended, Status::StreamEnd, "there is room for all of it");
    });
}

/// Opens the two files, which are a dataset or are not.
fn open(files: &[Unnamed; 2], good: bool) -> Option<Dataset> {
    unsafe { lenet_device_count(99, &mut 0) };
    let before = support::last_error();
    let [images, labels] = [0, 1].map(|i| support::c_path(&files[i].path()));
    let mut dataset = null_mut();
    let status = unsafe { lenet_dataset_open(images.as_ptr(), labels.as_ptr(), &mut dataset) };
    if good {
        assert!(Expect::default().check("lenet_dataset_open", status));
        return Some(Dataset(dataset));
    }
    let errors = [
        LENET_ERROR_FORMAT,
        LENET_ERROR_CORRUPT,
        LENET_ERROR_INCOMPATIBLE,
        LENET_ERROR_LABEL_OUT_OF_RANGE,
    ];
    let expect = errors.iter().fold(Expect::default(), |e, &status| e.wrong(true, status));
    expect.check("lenet_dataset_open", status);
    assert!(dataset.is_null(), "a refused open has written its output");
    assert_ne!(support::last_error(), before, "a refused open has left no message");
    None
}

/// The dataset is what the files say.
fn check(dataset: &Dataset, pair: &Pair) {
    let &Pair { n, height, width, ref images, ref labels } = pair;
    assert_eq!(dataset.count(), n);
    assert_eq!(dataset.size(), (height as u32, width as u32));
    let (read_images, read_labels) = dataset.read(0, n);
    assert!(read_images == *images && read_labels == *labels);
    let (size, last) = (height * width, n - 1);
    let (read_images, read_labels) = dataset.read(last, 1);
    assert!(read_images == images[last * size..] && read_labels == labels[last..]);
}
