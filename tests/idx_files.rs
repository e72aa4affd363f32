//! IDX files, plain and gzipped: good ones read back byte for byte; sizes that lie, files that end
//! too early or too late and files of another kind are refused, before memory is given for a claim.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use flate2::{Compression, write::GzEncoder};
use lenet::ffi::*;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use support::*;

const N: usize = 5;
const HEIGHT: usize = 3;
const WIDTH: usize = 4;

/// An IDX file of bytes with these sizes in its header, whatever its data.
fn idx(sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let sizes: Vec<u8> = sizes.iter().flat_map(|size| size.to_be_bytes()).collect();
    [&[0, 0, 8, sizes.len() as u8 / 4], &sizes[..], data].concat()
}

fn pixels() -> Vec<u8> {
    (0..N * HEIGHT * WIDTH).map(|i| (i * 37) as u8).collect()
}

const LABELS: [u8; N] = [7, 0, 255, 3, 3];

fn images_file() -> Vec<u8> {
    idx(&[N as u32, HEIGHT as u32, WIDTH as u32], &pixels())
}

fn labels_file() -> Vec<u8> {
    idx(&[N as u32], &LABELS)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder with a good pair of files.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("images", &images_file());
        folder.write("labels", &labels_file());
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    #[track_caller]
    fn refuse(&self, images: &Path, labels: &Path, expected: lenet_status, words: &[&str]) {
        let what = format!("{} and {}", images.display(), labels.display());
        let status = Dataset::open(images, labels).err().unwrap_or(LENET_OK);
        refused(&what, status, expected, words);
    }

    /// These bytes as images next to good labels; the message names the file.
    #[track_caller]
    fn refuse_images(&self, bytes: &[u8], expected: lenet_status, words: &[&str]) {
        let images = self.write("bad-images", bytes);
        self.refuse(&images, &self.path("labels"), expected, &[&["bad-images"], words].concat());
    }

    #[track_caller]
    fn refuse_labels(&self, bytes: &[u8], expected: lenet_status, words: &[&str]) {
        let labels = self.write("bad-labels", bytes);
        self.refuse(&self.path("images"), &labels, expected, &[&["bad-labels"], words].concat());
    }
}

#[test]
fn plain_and_gzipped_files_read_back_what_was_written() {
    let folder = Folder::new();
    // gzip files may be several, one behind the other.
    let whole = images_file();
    let members = [gzip(&whole[..11]), gzip(&[]), gzip(&whole[11..])].concat();
    let pairs = [
        (folder.path("images"), folder.path("labels")),
        (folder.write("images.gz", &gzip(&images_file())), folder.path("labels")),
        // Told by what is in them, not by their names.
        (folder.path("images"), folder.write("labels.idx", &gzip(&labels_file()))),
        (folder.write("members.gz", &members), folder.path("labels.idx")),
    ];
    for (images, labels) in pairs {
        let dataset =
            Dataset::open(&images, &labels).unwrap_or_else(|_| panic!("{}", last_error()));
        assert_eq!(dataset.count(), N);
        assert_eq!(dataset.size(), (HEIGHT as u32, WIDTH as u32));
        assert_eq!(dataset.read(0, N), (pixels(), LABELS.to_vec()));
    }
}

#[test]
fn a_range_is_read_or_refused() {
    let folder = Folder::new();
    let dataset = Dataset::open(&folder.path("images"), &folder.path("labels")).unwrap();
    let size = HEIGHT * WIDTH;
    for first in 0..N {
        for n in 1..=N - first {
            let images = pixels()[first * size..(first + n) * size].to_vec();
            let labels = LABELS[first..first + n].to_vec();
            assert_eq!(dataset.read(first, n), (images, labels));
        }
    }
    let past = [(0, 0), (0, N + 1), (1, N), (N, 1), (usize::MAX, 1), (1, usize::MAX)];
    for (first, n) in past {
        let (mut images, mut labels) = ([9; 100], [9; 10]);
        let status = unsafe {
            lenet_dataset_read(dataset.0, first, n, images.as_mut_ptr(), labels.as_mut_ptr())
        };
        let words = [format!("n is {n}")];
        refused("read", status, LENET_ERROR_INVALID_ARGUMENT, &words.each_ref().map(|w| &**w));
        assert_eq!((images, labels), ([9; 100], [9; 10]));
    }
}

#[test]
fn a_file_of_another_kind_is_not_read() {
    let folder = Folder::new();
    let format = LENET_ERROR_FORMAT;
    let good = images_file();
    for (at, byte) in [(0, 1), (1, 8), (2, 0x0d), (2, 0)] {
        let mut bad = good.clone();
        bad[at] = byte;
        folder.refuse_images(&bad, format, &["not an IDX file of bytes"]);
    }
    for dimensions in [0, 1, 2, 4, 255] {
        let mut bad = good.clone();
        bad[3] = dimensions;
        folder.refuse_images(&bad, format, &[&format!("{dimensions} dimensions, not 3")]);
    }
    folder.refuse_images(&labels_file(), format, &["1 dimensions, not 3"]);
    folder.refuse_labels(&images_file(), format, &["3 dimensions, not 1"]);
    folder.refuse_images(b"\x89PNG\r\n\x1a\n", format, &["not an IDX file"]);
    folder.refuse_images(&gzip(b"text"), format, &["not an IDX file"]);
    folder.refuse_images(&gzip(&gzip(&good)), format, &["not an IDX file"]);
    folder.refuse_images(&gzip(&[]), format, &["not an IDX file"]);
}

#[test]
fn a_file_that_is_cut_off_is_refused_wherever_it_ends() {
    let folder = Folder::new();
    let corrupt = LENET_ERROR_CORRUPT;
    let good = images_file();
    for end in 0..good.len() {
        match end {
            0..4 => folder.refuse_images(&good[..end], LENET_ERROR_FORMAT, &["not an IDX file"]),
            4..16 => folder.refuse_images(&good[..end], corrupt, &["ends inside the header"]),
            _ => folder.refuse_images(&good[..end], corrupt, &["has", &(end - 16).to_string()]),
        }
    }
    let good = labels_file();
    for end in 4..good.len() {
        folder.refuse_labels(&good[..end], corrupt, &[]);
    }
    let good = gzip(&images_file());
    for end in 2..good.len() {
        folder.refuse_images(&good[..end], corrupt, &[]);
    }
}

#[test]
fn data_must_be_as_long_as_the_sizes_say() {
    let folder = Folder::new();
    let corrupt = LENET_ERROR_CORRUPT;
    let sizes = [N as u32, HEIGHT as u32, WIDTH as u32];
    for dimension in 0..3 {
        for lie in [sizes[dimension] - 1, sizes[dimension] + 1, u32::MAX] {
            let mut lying = sizes;
            lying[dimension] = lie;
            folder.refuse_images(&idx(&lying, &pixels()), corrupt, &["declare"]);
            folder.refuse_images(&gzip(&idx(&lying, &pixels())), corrupt, &["declare"]);
        }
        let mut empty = sizes;
        empty[dimension] = 0;
        folder.refuse_images(&idx(&empty, &[]), corrupt, &[&format!("{empty:?}")]);
        folder.refuse_images(&idx(&empty, &pixels()), corrupt, &[&format!("{empty:?}")]);
    }
    folder.refuse_labels(&idx(&[0], &[]), corrupt, &["[0]"]);
    folder.refuse_labels(&idx(&[N as u32 + 1], &LABELS), corrupt, &["6", "5"]);
    folder.refuse_labels(&idx(&[N as u32 - 1], &LABELS), corrupt, &["more than"]);
    let longer = |mut bytes: Vec<u8>| {
        bytes.push(0);
        bytes
    };
    folder.refuse_images(&longer(images_file()), corrupt, &["more than the declared 60 bytes"]);
    folder.refuse_images(&gzip(&longer(images_file())), corrupt, &["more than the declared 60"]);
    folder.refuse_images(&longer(gzip(&images_file())), corrupt, &[]);
}

#[test]
fn a_claim_costs_no_memory() {
    let folder = Folder::new();
    let before = peak_of_address_space();
    let most = u32::MAX;
    for claim in [
        [most, 1, 1],
        [most, 28, 28],
        [60_000, most, 28],
        [60_000, 28, most],
        [most, most, 1],
        [1, most, most],
        [most, most, most],
    ] {
        let file = idx(&claim, &pixels());
        folder.refuse_images(&file, LENET_ERROR_CORRUPT, &["declares"]);
        folder.refuse_images(&gzip(&file), LENET_ERROR_CORRUPT, &["declares"]);
    }
    // A bomb: a thousand times its size, but no more is unpacked than the header declares.
    let bomb = gzip(&idx(&[1, 1, 1], &vec![0; 1 << 26]));
    folder.refuse_images(&bomb, LENET_ERROR_CORRUPT, &["more than the declared 1 byte"]);
    // The smallest claim is 4 GiB; the allocator reserves some address space for each thread.
    let grown = peak_of_address_space() - before;
    assert!(grown < 1 << 30, "{} MiB", grown >> 20);
}

/// The most that this process has ever mapped.
fn peak_of_address_space() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn images_and_labels_must_be_as_many() {
    let folder = Folder::new();
    for n in [N - 1, N + 1] {
        let labels = folder.write("other-labels", &idx(&[n as u32], &vec![1; n]));
        let words = ["holds 5 images", "other-labels", &format!("holds {n} labels")];
        folder.refuse(&folder.path("images"), &labels, LENET_ERROR_INCOMPATIBLE, &words);
    }
}

#[test]
fn damage_in_a_gzip_file_is_found() {
    let folder = Folder::new();
    let good = gzip(&images_file());
    // The trailer is the CRC of the contents, then their length.
    for at in good.len() - 8..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        folder.refuse_images(&bad, LENET_ERROR_CORRUPT, &[]);
    }
    let mut method = good.clone();
    method[2] = 7;
    folder.refuse_images(&method, LENET_ERROR_CORRUPT, &[]);
    for at in 10..good.len() - 8 {
        let mut bad = good.clone();
        bad[at] ^= 0xff;
        let images = folder.write("bad-images", &bad);
        let status = Dataset::open(&images, &folder.path("labels")).err().unwrap_or(LENET_OK);
        // What was an IDX header may be another kind of file now.
        let expected = [LENET_ERROR_CORRUPT, LENET_ERROR_FORMAT];
        assert!(expected.contains(&status), "byte {at}: {} {}", name(status), last_error());
    }
}

#[test]
fn files_that_cannot_be_read_say_which() {
    let folder = Folder::new();
    let (images, labels) = (folder.path("images"), folder.path("labels"));
    let none = folder.path("none");
    folder.refuse(&none, &labels, LENET_ERROR_NOT_FOUND, &[none.to_str().unwrap()]);
    folder.refuse(&images, &none, LENET_ERROR_NOT_FOUND, &[none.to_str().unwrap()]);
    let root = folder.path("");
    folder.refuse(&root, &labels, LENET_ERROR_IO, &[root.to_str().unwrap()]);
    folder.refuse(&images, &root, LENET_ERROR_IO, &[root.to_str().unwrap()]);
    let below = images.join("file");
    folder.refuse(&below, &labels, LENET_ERROR_IO, &[below.to_str().unwrap()]);
    folder.refuse(
        Path::new("/dev/null"),
        &labels,
        LENET_ERROR_IO,
        &["/dev/null: not a regular file"],
    );
    // A regular file that cannot be read where nothing is mapped, as at its beginning.
    folder.refuse(Path::new("/proc/self/mem"), &labels, LENET_ERROR_IO, &["/proc/self/mem"]);
    let invalid = LENET_ERROR_INVALID_ARGUMENT;
    folder.refuse(Path::new(""), &labels, invalid, &["images_path is empty"]);
    folder.refuse(&images, Path::new(""), invalid, &["labels_path is empty"]);
}
