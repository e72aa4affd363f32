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
    for (at, byte) in [(0, 1), (1, 8), (2, 0), (2, 0x0a), (2, 0x0f)] {
        let mut bad = good.clone();
        bad[at] = byte;
        folder.refuse_images(&bad, format, &["not an IDX file"]);
    }
    for dimensions in [0, 1, 2, 5, 255] {
        let mut bad = good.clone();
        bad[3] = dimensions;
        folder.refuse_images(&bad, format, &[&format!("{dimensions} dimensions, not 3")]);
    }
    for dimensions in [0, 3, 4, 255] {
        let mut bad = labels_file();
        bad[3] = dimensions;
        folder.refuse_labels(&bad, format, &[&format!("{dimensions} dimensions, not 1")]);
    }
    let swapped = "are images and labels swapped?";
    folder.refuse_images(&labels_file(), format, &["1 dimensions, not 3, as labels have", swapped]);
    folder.refuse_labels(&images_file(), format, &["3 dimensions, not 1, as images have", swapped]);
}

#[test]
fn what_a_file_is_instead_is_said() {
    let folder = Folder::new();
    let mut tar = vec![0; 1024];
    (tar[..6]).copy_from_slice(b"images");
    tar[257..262].copy_from_slice(b"ustar");
    let html = b"\r\n <!DOCTYPE html><html><head><title>404, not found</title>";
    let kinds: [(&[u8], &str); 24] = [
        (b"", "it is empty"),
        (html, "an HTML page"),
        (b"\xef\xbb\xbf<HTML lang=\"de\">\n", "an HTML page"),
        (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", "XML"),
        (b"{\"message\": \"not found\"}", "JSON"),
        (b"label,1x1,1x2,1x3\n5,0,0,255\n", "a CSV file"),
        (b"5,0,0,255\r\n", "a CSV file"),
        (b"not here\n", "text"),
        (b"PK\x03\x04\x14\0\0\0", "a ZIP archive"),
        (b"PK\x05\x06\0\0\0\0", "an empty ZIP archive"),
        (b"\x93NUMPY\x01\0v\0{'descr': '|u1'", "a NumPy array"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG image"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image"),
        (b"GIF89a\x10\0", "a GIF image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (b"BZh91AY&SY", "compressed by bzip2"),
        (b"\xfd7zXZ\0\0\x04", "compressed by xz"),
        (b"\x28\xb5\x2f\xfd\x04", "compressed by zstd"),
        (b"7z\xbc\xaf\x27\x1c\0\x04", "a 7z archive"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"MATLAB 5.0 MAT-file", "a MATLAB file"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"%PDF-1.7", "a PDF"),
        (&tar, "a tar archive"),
    ];
    for (bytes, kind) in kinds {
        let kind = format!("not an IDX file: {kind}");
        folder.refuse_images(bytes, LENET_ERROR_FORMAT, &[&kind]);
        folder.refuse_images(&gzip(bytes), LENET_ERROR_FORMAT, &[&kind]);
        folder.refuse_labels(bytes, LENET_ERROR_FORMAT, &[&kind]);
    }
    folder.refuse_images(&gzip(&gzip(&images_file())), LENET_ERROR_FORMAT, &["gzipped twice"]);
    // Nothing that can be told, and nothing is guessed.
    for bytes in [&b"abc"[..], b"\x01\x02\x03\x04\x05", b"label\0,5", b"\0\0"] {
        folder.refuse_images(bytes, LENET_ERROR_FORMAT, &["not an IDX file"]);
        assert!(last_error().ends_with("not an IDX file"), "{}", last_error());
    }
}

/// An IDX file of integers of `size` bytes, signed if not of type 8.
fn integers(code: u8, size: usize, sizes: &[u32], values: &[i32]) -> Vec<u8> {
    let data: Vec<u8> =
        values.iter().flat_map(|value| value.to_be_bytes()[4 - size..].to_vec()).collect();
    let mut file = idx(sizes, &data);
    file[2] = code;
    file
}

const SHORT: (u8, usize) = (0x0b, 2);
const INT: (u8, usize) = (0x0c, 4);

#[test]
fn integers_of_other_sizes_are_read_when_all_of_them_are_bytes() {
    let folder = Folder::new();
    let n = N as u32;
    let labels = LABELS.map(i32::from);
    // QMNIST: the class, then what else is known of a digit.
    let rows: Vec<i32> =
        labels.iter().flat_map(|&class| [class, 4, 2424, 9, -1, 55903, i32::MIN, 0]).collect();
    let short = |sizes: &[u32], values: &[i32]| integers(SHORT.0, SHORT.1, sizes, values);
    let int = |sizes: &[u32], values: &[i32]| integers(INT.0, INT.1, sizes, values);
    let good = [
        short(&[n], &labels),
        int(&[n], &labels),
        int(&[n, 1], &labels),
        idx(&[n, 1], &LABELS),
        int(&[n, 8], &rows),
        gzip(&int(&[n, 8], &rows)),
    ];
    for file in &good {
        let labels = folder.write("labels-of-integers", file);
        let dataset = Dataset::open(&folder.path("images"), &labels);
        let dataset = dataset.unwrap_or_else(|_| panic!("{}", last_error()));
        assert_eq!(dataset.read(0, N), (pixels(), LABELS.to_vec()));
    }
    let range = LENET_ERROR_LABEL_OUT_OF_RANGE;
    for bad in [-1, 256, i32::from(i16::MAX), i32::from(i16::MIN)] {
        for at in [0, 3, N - 1] {
            let mut labels = labels;
            labels[at] = bad;
            let words = format!("labels[{at}] is {bad}");
            folder.refuse_labels(&short(&[n], &labels), range, &[&words]);
            folder.refuse_labels(&int(&[n], &labels), range, &[&words]);
            let mut rows = rows.clone();
            rows[8 * at] = bad;
            folder.refuse_labels(&int(&[n, 8], &rows), range, &[&words]);
        }
    }
    folder.refuse_labels(&int(&[n], &[0, 1, i32::MIN, 0, 0]), range, &["labels[2] is -2147483648"]);
    folder.refuse_labels(
        &integers(0x09, 1, &[n], &[0, -128, 1, 2, 3]),
        range,
        &["labels[1] is -128"],
    );
    // One number of each label, or nothing: which would it be?
    for file in [idx(&[n, 10], &[0; 50]), short(&[n, 8], &rows), int(&[n, 3], &[0; 15])] {
        let words = [&*format!("[{n}, "), "one number"];
        folder.refuse_labels(&file, LENET_ERROR_FORMAT, &words);
    }
    // Cut off and too long, as for bytes.
    let file = int(&[n, 8], &rows);
    for end in [12, 13, 43, 44, file.len() - 1] {
        let has = format!("declares 160 bytes of data and has {}", end - 12);
        folder.refuse_labels(&file[..end], LENET_ERROR_CORRUPT, &[&has]);
    }
    let longer = [&file[..], &[0]].concat();
    folder.refuse_labels(&longer, LENET_ERROR_CORRUPT, &["more than the declared 160 bytes"]);
}

#[test]
fn more_labels_than_are_converted_at_once() {
    let folder = Folder::new();
    let n = 50_000;
    let classes: Vec<u8> = (0..n).map(|i| (i * 7 % 256) as u8).collect();
    let rows: Vec<i32> =
        classes.iter().flat_map(|&c| [i32::from(c), 1, 2, 3, 4, 5, 6, 7]).collect();
    let images = folder.write("many-images", &idx(&[n, 1, 1], &vec![0; n as usize]));
    let labels = folder.write("many", &integers(INT.0, INT.1, &[n, 8], &rows));
    let dataset = Dataset::open(&images, &labels).unwrap_or_else(|_| panic!("{}", last_error()));
    assert!(dataset.read(0, n as usize).1 == classes);
    let mut rows = rows;
    rows[8 * 49_999] = 300;
    let labels = folder.write("many", &integers(INT.0, INT.1, &[n, 8], &rows));
    folder.refuse(&images, &labels, LENET_ERROR_LABEL_OUT_OF_RANGE, &["labels[49999] is 300"]);
}

#[test]
fn images_of_one_channel_and_of_integers_are_read_and_others_named() {
    let folder = Folder::new();
    let [n, height, width] = [N as u32, HEIGHT as u32, WIDTH as u32];
    let values: Vec<i32> = pixels().iter().map(|&pixel| i32::from(pixel)).collect();
    let short = |values: &[i32]| integers(SHORT.0, SHORT.1, &[n, height, width], values);
    let int = |values: &[i32]| integers(INT.0, INT.1, &[n, height, width], values);
    let good = [
        idx(&[n, 1, height, width], &pixels()),
        idx(&[n, height, width, 1], &pixels()),
        integers(INT.0, INT.1, &[n, height, width, 1], &values),
        short(&values),
        gzip(&int(&values)),
    ];
    for file in &good {
        let images = folder.write("other-images", file);
        let dataset = Dataset::open(&images, &folder.path("labels"));
        let dataset = dataset.unwrap_or_else(|_| panic!("{}", last_error()));
        assert_eq!(dataset.size(), (height, width));
        assert_eq!(dataset.read(0, N), (pixels(), LABELS.to_vec()));
    }
    let format = LENET_ERROR_FORMAT;
    let mut bad = values.clone();
    bad[33] = 256;
    folder.refuse_images(&short(&bad), format, &["pixel 33 is 256"]);
    folder.refuse_images(&int(&bad), format, &["pixel 33 is 256"]);
    // Bytes that were written as signed.
    let signed = integers(0x09, 1, &[n, height, width], &values);
    folder.refuse_images(&signed, format, &["pixel 4 is -108"]);
    for (code, size, name) in [(0x0d, 4, "32-bit floats"), (0x0e, 8, "64-bit floats")] {
        let mut file = idx(&[n, height, width], &vec![0; size * values.len()]);
        file[2] = code;
        folder.refuse_images(&file, format, &[name, "integers from 0 to 255"]);
        folder.refuse_labels(&file, format, &[name]);
    }
    for channels in [[n, 3, height, width], [n, height, width, 3]] {
        let file = idx(&channels, &[pixels(), pixels(), pixels()].concat());
        folder.refuse_images(&file, format, &[&format!("{channels:?}"), "one channel"]);
    }
}

/// What gunzip does: several members are one file, zeros behind the last fill a block. But other
/// bytes, which it warns of, are refused.
#[test]
fn behind_gzip_data_there_may_be_zeros_and_nothing_else() {
    let folder = Folder::new();
    let file = gzip(&images_file());
    let members = [gzip(&images_file()[..20]), gzip(&images_file()[20..])].concat();
    for zeros in [1, 2, 7, 8, 512, 10_240, 8192 - file.len(), 8193 - file.len(), 1 << 20] {
        for data in [&file, &members] {
            let images = folder.write("padded", &[data, &vec![0; zeros][..]].concat());
            let dataset = Dataset::open(&images, &folder.path("labels"));
            let dataset = dataset.unwrap_or_else(|_| panic!("{zeros}: {}", last_error()));
            assert_eq!(dataset.read(0, N), (pixels(), LABELS.to_vec()));
        }
    }
    let corrupt = LENET_ERROR_CORRUPT;
    let surplus = "other bytes than zeros behind its gzip data";
    let zeros = [0; 9000];
    let behind: [&[u8]; 8] = [
        b"\x01",
        b"text",
        b"\x1f",
        b"\x1f\0",
        b"\x1f\x8b",
        b"\x1f\x8b\x07\0\0\0\0\0\0\0\0",
        &[&zeros[..], b"\x01"].concat(),
        // gunzip looks for no member behind zeros.
        &[&zeros[..], &gzip(b"")].concat(),
    ];
    for bytes in behind {
        folder.refuse_images(&[&file, bytes].concat(), corrupt, &[surplus]);
    }
    // A member that begins well and is damaged then is damage.
    let mut second = gzip(b"");
    let last = second.len() - 5;
    second[last] ^= 1;
    folder.refuse_images(&[file, second].concat(), corrupt, &["checksum"]);
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
