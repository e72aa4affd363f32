//! Pairs of IDX files, plain and gzipped, with sizes that lie, damaged framing and bombs.
//!
//! What must hold: `lenet_dataset_open` succeeds exactly when a parser of our own finds a pair, and
//! then `lenet_dataset_read` gives those bytes. That memory stays with what is there is for
//! `-rss_limit_mb` and `-malloc_limit_mb` to see.

use crate::expect::Expect;
use crate::idx_oracle::{self, Pair};
use crate::number::Number;
use crate::support::{self, Dataset};
use arbitrary::Arbitrary;
use flate2::Compression;
use flate2::write::GzEncoder;
use lenet::ffi::*;
use std::cell::RefCell;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
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
    /// The file, then MiB of zeros in a few KiB.
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

/// A gzip member of a MiB of zeros.
static ZEROS: LazyLock<Vec<u8>> = LazyLock::new(|| gzip(&vec![0; 1 << 20], 9));

thread_local! {
    static FILES: RefCell<[Unnamed; 2]> = RefCell::new([Unnamed::new(), Unnamed::new()]);
}

/// A file in memory that has a path while it is open, and that nobody has to remove.
struct Unnamed {
    file: File,
    path: PathBuf,
}

impl Unnamed {
    fn new() -> Unnamed {
        let file = tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile()).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Unnamed { file, path }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.file.set_len(0).unwrap();
        self.file.rewind().unwrap();
        self.file.write_all(bytes).unwrap();
    }
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
                if header < length && rank < 8 {
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
                let mut start = 0;
                let member = |end| {
                    let member = gzip(&bytes[start..end], u32::from(level % 10));
                    start = end;
                    member
                };
                ends.into_iter().flat_map(member).collect()
            }
            Framing::Named(text) => {
                let text: Vec<u8> = text.iter().copied().filter(|&b| b != 0).take(64).collect();
                let builder = flate2::GzBuilder::new().extra(text.clone()).filename(text.clone());
                let mut encoder = builder.comment(text).write(Vec::new(), Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Framing::Bomb { size } => {
                // Mostly small ones, which are quick.
                let mib = if *size < 250 { size % 4 } else { 32 };
                [gzip(bytes, 6), ZEROS.repeat(mib.into())].concat()
            }
            Framing::Twice => gzip(&gzip(bytes, 6), 6),
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

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Opens the two files, which are a dataset or are not.
fn open(files: &[Unnamed; 2], good: bool) -> Option<Dataset> {
    unsafe { lenet_device_count(99, &mut 0) };
    let before = support::last_error();
    let [images, labels] = [0, 1].map(|i| support::c_path(&files[i].path));
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
