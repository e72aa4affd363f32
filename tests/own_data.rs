//! Data that people have: folders of pictures and CSV files, split, counted and named. Good files are held to what
//! Pillow sees in them, hostile ones are refused by name.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

#[path = "support/command.rs"]
mod command;
mod support;

use flate2::{Compression, write::GzEncoder};
use lenet::ffi::*;
use std::ffi::{CString, c_void};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use support::*;

fn pictures() -> PathBuf {
    command::root().join("tests/pictures")
}

fn picture(name: &str) -> Vec<u8> {
    fs::read(pictures().join("folder/class").join(name)).unwrap()
}

fn open_folder(path: &Path, options: *const lenet_options) -> Result<Dataset, lenet_status> {
    let mut dataset = null_mut();
    match unsafe { lenet_dataset_open_folder(c_path(path).as_ptr(), options, &mut dataset) } {
        LENET_OK => Ok(Dataset(dataset)),
        status => {
            assert!(dataset.is_null(), "a refused open has written its output");
            Err(status)
        }
    }
}

#[track_caller]
fn refuse_folder(path: &Path, status: lenet_status, words: &[&str]) {
    let got = open_folder(path, null()).err().unwrap_or(LENET_OK);
    refused(&path.display().to_string(), got, status, words);
}

fn class_name(dataset: &Dataset, index: usize) -> String {
    let mut name = [0; 256];
    let to = name.as_mut_ptr();
    ok(unsafe { lenet_dataset_class_name(dataset.0, index, to, name.len(), null_mut()) });
    text(&name)
}

fn model_class_name(model: &Model, index: usize) -> String {
    let mut name = [0; 256];
    ok(unsafe { lenet_class_name(model.0, index, name.as_mut_ptr(), name.len(), null_mut()) });
    text(&name)
}

fn text(name: &[std::ffi::c_char]) -> String {
    let bytes = name.iter().map(|&byte| byte as u8).take_while(|&byte| byte != 0).collect();
    String::from_utf8(bytes).unwrap()
}

fn class_counts(dataset: &Dataset) -> Vec<u64> {
    let mut counts = vec![u64::MAX; unsafe { lenet_dataset_class_count(dataset.0) }];
    ok(unsafe { lenet_dataset_class_counts(dataset.0, counts.as_mut_ptr(), counts.len()) });
    counts
}

/// A folder with a file for each path, whose folders are made.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, contents) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    folder
}

// ---- pictures

/// The names in tests/pictures and the grey bytes that Pillow sees there, which tests/pictures/make.py wrote.
fn expected() -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(pictures().join("folder/class")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let all = fs::read(pictures().join("expected.bin")).unwrap();
    assert_eq!(all.len(), names.len() * 784);
    names.into_iter().zip(all.chunks(784).map(<[u8]>::to_vec)).collect()
}

#[test]
fn pictures_of_every_kind_are_what_pillow_sees_in_them() {
    let all = expected();
    assert!(all.len() > 25);
    // Told by their contents.
    let files: Vec<(String, Vec<u8>)> = (100..)
        .zip(&all)
        .map(|(i, (name, _))| (format!("class/{i}.jpeg"), picture(name)))
        .collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, file)| (&name[..], &file[..])).collect();
    let data = folder(&files);
    let dataset = open_folder(data.path(), null()).unwrap_or_else(|_| panic!("{}", last_error()));
    assert_eq!((dataset.count(), dataset.size()), (all.len(), (28, 28)));
    for (i, (name, expected)) in all.iter().enumerate() {
        let (pixels, _) = dataset.read(i, 1);
        let most = pixels.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        // Decoders of JPEG differ in the last bits of their cosines, and Pillow rounds colours over black before it makes
        // grey of them.
        let allowed = match &name[..] {
            "cmyk.jpg" => 4,
            name if name.ends_with(".jpg") => 3,
            name if name.contains("alpha") => 1,
            // A scale that is none of bytes is rounded down.
            "plain.pgm" => 1,
            _ => 0,
        };
        assert!(most <= allowed, "{name} differs by {most}");
    }
}

#[test]
fn a_picture_that_is_cut_off_is_refused_wherever_it_ends() {
    for name in ["color.png", "color.jpg", "progressive.jpg", "color.bmp", "color.ppm", "plain.pgm"]
    {
        let whole = picture(name);
        // The end mark's own two bytes, and what may be missing behind the last number or the image itself.
        let dispensable = match name {
            "plain.pgm" => 3,
            "color.png" => 12,
            _ => 0,
        };
        for length in
            (1..whole.len() - dispensable).step_by(13).chain([whole.len() - dispensable - 1])
        {
            let data = folder(&[("a/picture", &whole[..length])]);
            let status = open_folder(data.path(), null()).err().unwrap_or(LENET_OK);
            let message = last_error();
            let known = [LENET_ERROR_CORRUPT, LENET_ERROR_FORMAT].contains(&status);
            assert!(known, "{name} cut at {length}: {} {message}", support::name(status));
            assert!(message.contains("a/picture: "), "{message}");
        }
    }
}

/// A PNG that says it is so large, with the CRC that goes with it, and nothing else.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
    header.extend([8, 0, 0, 0, 0]);
    let mut crc = flate2::Crc::new();
    crc.update(&header);
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    file.extend(header);
    file.extend(crc.sum().to_be_bytes());
    file.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82");
    file
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    let mut jpeg = picture("color.jpg");
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xff);
    let mut bmp = picture("color.bmp");
    bmp[18..22].copy_from_slice(&60_000u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&60_000u32.to_le_bytes());
    let pnm = b"P5 60000 60000 255\n";
    let png = png_of(60_000, 60_000);
    for (name, file) in [("png", &png[..]), ("jpeg", &jpeg), ("bmp", &bmp), ("pnm", pnm)] {
        let data = folder(&[("a/bomb", file)]);
        let before = peak();
        let size = if name == "jpeg" { "65535 x 65535" } else { "60000 x 60000" };
        refuse_folder(data.path(), LENET_ERROR_FORMAT, &["a/bomb: ", size, "16384"]);
        assert!(peak() - before < 4 << 20, "{name} took {} bytes", peak() - before);
    }
    for (width, height) in [(16_385, 1), (1, 16_385), (16_384, 4_097)] {
        let data = folder(&[("a/bomb", &png_of(width, height))]);
        refuse_folder(data.path(), LENET_ERROR_FORMAT, &["16384 a side", "67108864"]);
    }
    // As large as may be, but nothing is there that could be unpacked to it.
    for (name, file) in [("png", &png_of(8192, 8192)[..]), ("pnm", b"P6 8192 8192 255\n0123456789")]
    {
        let data = folder(&[("a/bomb", file)]);
        let before = peak();
        let words = ["a/bomb: ", "declares 8192 x 8192 pixels and has"];
        refuse_folder(data.path(), LENET_ERROR_CORRUPT, &words);
        assert!(peak() - before < 4 << 20, "{name} took {} bytes", peak() - before);
    }
    // Not too large, so that it is decoded, and cut off.
    let data = folder(&[("a/bomb", &png_of(64, 64))]);
    refuse_folder(data.path(), LENET_ERROR_CORRUPT, &["a/bomb: a damaged or cut off PNG"]);
}

/// Most bytes that were ever resident.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn what_is_no_picture_is_refused_by_path_and_kind() {
    let gif = b"GIF89a\x01\0\x01\0\0\0\0;";
    let html = b"<!DOCTYPE html><html></html>";
    for (file, words) in [
        (&gif[..], "a GIF image"),
        (html, "an HTML page"),
        (b"", "it is empty"),
        (b"label,pixel0\n1,2\n", "a CSV file"),
        (b"Bmx: text that begins like a bitmap", "text"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (b"\x01\x02\x03\x04", "not a PNG, JPEG, BMP or PNM picture"),
    ] {
        let good = picture("gray.png");
        let data = folder(&[("a/1.png", &good), ("a/2.png", file), ("b/1.png", &good)]);
        refuse_folder(data.path(), LENET_ERROR_FORMAT, &["a/2.png: ", words]);
    }
}

// ---- folders

#[test]
fn classes_and_images_lie_in_the_order_of_their_names() {
    let (gray, color, bits) = (picture("gray.png"), picture("color.png"), picture("bits.png"));
    let data = folder(&[
        ("ant/9.png", &gray),
        ("ant/10.png", &color),
        ("Zebra/x", &bits),
        ("ärger/.hidden", b"no picture"),
        ("ärger/1", &gray),
        ("ärger/2", &bits),
        (".git/config", b"no picture"),
        (".DS_Store", b"no picture"),
        ("Thumbs.db", b"no picture"),
        ("ant/desktop.ini", b"no picture"),
    ]);
    let dataset = open_folder(data.path(), null()).unwrap_or_else(|_| panic!("{}", last_error()));
    assert_eq!([0, 1, 2].map(|i| class_name(&dataset, i)), ["Zebra", "ant", "ärger"]);
    let (pixels, labels) = dataset.read(0, 5);
    assert_eq!(labels, [0, 1, 1, 2, 2]);
    assert_eq!(class_counts(&dataset), [1, 2, 2]);
    let expected = expected();
    let of = |name: &str| &expected.iter().find(|(n, _)| n == name).unwrap().1;
    let images = ["bits.png", "color.png", "gray.png", "gray.png", "bits.png"].map(|n| &of(n)[..]);
    assert!(pixels == images.concat());
}

#[test]
fn what_is_not_a_folder_of_folders_of_pictures_is_refused_by_path() {
    let good = &picture("gray.png")[..];
    let at = |data: &tempfile::TempDir, path: &str| data.path().join(path).display().to_string();

    refuse_folder(Path::new("/nowhere/data"), LENET_ERROR_NOT_FOUND, &["/nowhere/data"]);
    let data = folder(&[("a", good)]);
    refuse_folder(&data.path().join("a"), LENET_ERROR_IO, &["cannot read the folder"]);
    refuse_folder(data.path(), LENET_ERROR_FORMAT, &[&at(&data, "a"), "a folder of its own"]);
    let data = folder(&[]);
    refuse_folder(data.path(), LENET_ERROR_FORMAT, &["has no folder in it"]);
    let data = folder(&[("a/1", good), ("readme.txt", b"text")]);
    refuse_folder(data.path(), LENET_ERROR_FORMAT, &[&at(&data, "readme.txt"), "is no folder"]);
    let data = folder(&[("a/1", good), ("a/b/1", good)]);
    refuse_folder(data.path(), LENET_ERROR_FORMAT, &[&at(&data, "a/b"), "is a folder in that"]);
    let data = folder(&[("a/1", good), ("b/.hidden", good)]);
    refuse_folder(data.path(), LENET_ERROR_FORMAT, &[&at(&data, "b"), "has no picture"]);
    let many: Vec<String> = (0..257).map(|i| format!("{i:03}/1")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|path| (&path[..], good)).collect();
    refuse_folder(folder(&many).path(), LENET_ERROR_FORMAT, &["more than 256"]);
    let most = open_folder(folder(&many[..256]).path(), null());
    assert_eq!(most.map(|dataset| class_counts(&dataset)), Ok(vec![1; 256]));

    let data = folder(&[("a/1", good)]);
    let odd = data.path().join(std::ffi::OsStr::from_bytes(b"b\xff"));
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("1"), good).unwrap();
    refuse_folder(data.path(), LENET_ERROR_FORMAT, &["not UTF-8"]);
    let data = folder(&[("a\nb/1", good)]);
    refuse_folder(data.path(), LENET_ERROR_FORMAT, &["control character U+000A"]);
    // The name of a picture may be any bytes.
    let data = folder(&[("a/1", good)]);
    fs::write(data.path().join("a").join(std::ffi::OsStr::from_bytes(b"\xff")), good).unwrap();
    assert_eq!(open_folder(data.path(), null()).map(|dataset| dataset.count()), Ok(2));
}

#[test]
fn links_are_followed_and_nothing_is_waited_for() {
    let good = &picture("gray.png")[..];
    let data = folder(&[("a/1", good)]);
    let elsewhere = folder(&[("class/1", good)]);
    symlink(elsewhere.path().join("class"), data.path().join("b")).unwrap();
    symlink(data.path().join("a/1"), data.path().join("a/2")).unwrap();
    assert_eq!(open_folder(data.path(), null()).map(|d| class_counts(&d)), Ok(vec![2, 1]));

    symlink(data.path().join("nothing"), data.path().join("a/3")).unwrap();
    refuse_folder(data.path(), LENET_ERROR_NOT_FOUND, &["a/3"]);
    fs::remove_file(data.path().join("a/3")).unwrap();
    symlink(data.path().join("a/3"), data.path().join("a/3")).unwrap();
    refuse_folder(data.path(), LENET_ERROR_IO, &["a/3"]);
    fs::remove_file(data.path().join("a/3")).unwrap();
    symlink(data.path(), data.path().join("c")).unwrap();
    refuse_folder(data.path(), LENET_ERROR_FORMAT, &["c/a", "is a folder in that of a class"]);
    fs::remove_file(data.path().join("c")).unwrap();

    let fifo = data.path().join("a/3");
    assert_eq!(unsafe { libc::mkfifo(c_path(&fifo).as_ptr(), 0o644) }, 0);
    refuse_folder(data.path(), LENET_ERROR_IO, &["a/3", "not a regular file"]);
    fs::remove_file(&fifo).unwrap();
    symlink("/dev/zero", &fifo).unwrap();
    refuse_folder(data.path(), LENET_ERROR_IO, &["a/3", "not a regular file"]);
    fs::remove_file(&fifo).unwrap();

    // Root may read everything.
    if unsafe { libc::geteuid() } != 0 {
        let secret = data.path().join("a/1");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
        refuse_folder(data.path(), LENET_ERROR_IO, &["a/1"]);
    }
}

/// A folder of `n` pictures in three classes.
fn many(n: usize) -> tempfile::TempDir {
    let all = expected();
    let names: Vec<&str> = all.iter().map(|(name, _)| &name[..]).collect();
    let files: Vec<(String, Vec<u8>)> =
        (0..n).map(|i| (format!("{}/{i:05}", i % 3), picture(names[i % names.len()]))).collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, file)| (&name[..], &file[..])).collect();
    folder(&files)
}

#[test]
fn the_number_of_threads_changes_neither_data_nor_error() {
    let data = many(301);
    let read = |num_threads: u32| {
        let options = lenet_options { num_threads, ..preset(LENET_PRESET_MODERN) };
        open_folder(data.path(), &options)
    };
    let first = read(1).unwrap().read(0, 301);
    for threads in [2, 3, 8, 200] {
        assert!(read(threads).unwrap().read(0, 301) == first, "{threads} threads");
    }
    for bad in ["1/00001", "1/00040", "1/00298", "2/00002", "2/00299"] {
        fs::write(data.path().join(bad), "no picture").unwrap();
    }
    for threads in [1, 2, 3, 8, 200] {
        for _ in 0..10 {
            let status = read(threads).err().unwrap_or(LENET_OK);
            refused("two bad files", status, LENET_ERROR_FORMAT, &["1/00001: "]);
        }
    }
}

/// A file, a folder and a picture in memory go the same way.
#[test]
fn a_file_is_classified_as_the_picture_in_it() {
    // A bar of ink on a larger sheet.
    let mut sheet = b"P5 40 50 255\n".to_vec();
    sheet.extend(
        (0..2000).map(|i| if (10..35).contains(&(i / 40)) && i % 40 / 4 == 3 { 9 } else { 240 }),
    );
    let glyphs = folder(&[("digit/1.pgm", &sheet)]);
    let resize = preset(LENET_PRESET_MODERN);
    let options = lenet_options { preparation: LENET_PREPARE_GLYPH, ..resize };
    let all = pictures().join("folder");
    let mut seen = Vec::new();
    for (options, root) in
        [(resize, all.as_path()), (resize, glyphs.path()), (options, glyphs.path())]
    {
        let model = Model::create(&options);
        let dataset = open_folder(root, &options).unwrap_or_else(|_| panic!("{}", last_error()));
        let class = fs::read_dir(root).unwrap().next().unwrap().unwrap().path();
        let mut names: Vec<_> = fs::read_dir(class).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        for (i, path) in names.iter().enumerate() {
            let (mut class, mut probabilities) = (99, [f32::NAN; 10]);
            let (file, out) = (c_path(path), probabilities.as_mut_ptr());
            ok(unsafe { lenet_predict_file(model.0, file.as_ptr(), &mut class, out) });
            let (classes, expected) = model.predict(&dataset.read(i, 1).0, 1);
            assert!(class == classes[0] && probabilities[..] == expected[..], "{path:?}");
        }
        seen.push(dataset.read(0, 1).0);
    }
    assert_ne!(seen[1], seen[2], "options.preparation makes no difference");
    let model = Model::create(&options);
    let data = folder(&[("a/blank.pgm", b"P2 4 4 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0")]);
    let path = c_path(&data.path().join("a/blank.pgm"));
    let mut class = 99;
    let status = unsafe { lenet_predict_file(model.0, path.as_ptr(), &mut class, null_mut()) };
    refused("no ink", status, LENET_ERROR_NOT_FOUND, &["a/blank.pgm: ", "ink"]);
    assert_eq!(class, 99);
    let status = open_folder(data.path(), &options).err().unwrap_or(LENET_OK);
    refused("no ink", status, LENET_ERROR_NOT_FOUND, &["a/blank.pgm: ", "ink"]);
}

#[test]
fn pictures_are_made_the_size_that_options_say() {
    let data = many(3);
    let options = lenet_options { height: 32, width: 64, ..preset(LENET_PRESET_MODERN) };
    assert_eq!(open_folder(data.path(), &options).map(|dataset| dataset.size()), Ok((32, 64)));
    let options = lenet_options { height: 30, ..options };
    let status = open_folder(data.path(), &options).err().unwrap_or(LENET_OK);
    refused("30 rows", status, LENET_ERROR_INVALID_ARGUMENT, &["height is 30"]);
}

/// What a progress function has been told, and after how many pictures it cancels.
struct Told {
    steps: Vec<u64>,
    all: u64,
    cancel_at: u64,
}

extern "C-unwind" fn tell(progress: *const lenet_progress, told: *mut c_void) -> i32 {
    let (progress, told) = unsafe { (&*progress, &mut *told.cast::<Told>()) };
    assert_eq!(progress.struct_size as usize, size_of::<lenet_progress>());
    assert_eq!((progress.event, progress.epoch, progress.epochs), (LENET_PROGRESS_PICTURE, 1, 1));
    assert!(progress.loss.is_nan() && progress.images_per_second > 0.0);
    assert_eq!(progress.steps, told.all);
    told.steps.push(progress.step);
    i32::from(progress.step >= told.cancel_at)
}

#[test]
fn progress_is_told_and_may_cancel() {
    let data = many(100);
    let path = c_path(data.path());
    for num_threads in [1, 4] {
        let options = lenet_options { num_threads, ..preset(LENET_PRESET_MODERN) };
        let open = |cancel_at: u64| {
            let mut told = Told { steps: Vec::new(), all: 100, cancel_at };
            let (mut dataset, to) = (null_mut(), (&raw mut told).cast());
            let (path, function) = (path.as_ptr(), Some(tell as _));
            let status = unsafe {
                lenet_dataset_open_folder_with(path, &options, function, to, &mut dataset)
            };
            (status, told.steps, Dataset(dataset))
        };
        let (status, steps, dataset) = open(u64::MAX);
        ok(status);
        assert_eq!(dataset.count(), 100);
        assert!(steps.is_sorted_by(|a, b| a < b) && steps.last() == Some(&100), "{steps:?}");
        assert!(num_threads > 1 || steps.len() == 100);
        for cancel_at in [1, 50, 100] {
            let (status, steps, dataset) = open(cancel_at);
            refused("cancelled", status, LENET_ERROR_CANCELLED, &["of 100 pictures"]);
            assert!(dataset.0.is_null() && steps.last().is_some_and(|&last| last >= cancel_at));
        }
    }
}

/// Says in a child of a fork what the call returns there.
extern "C-unwind" fn fork(_: *const lenet_progress, child: *mut c_void) -> i32 {
    let child = unsafe { &mut *child.cast::<Option<i32>>() };
    if child.is_none() {
        *child = Some(unsafe { libc::fork() });
    }
    0
}

#[test]
fn a_child_that_progress_makes_does_not_wait_for_threads_that_stayed_behind() {
    let data = many(100);
    let path = c_path(data.path());
    // Whether others still read when this thread first reports is for the scheduler to say.
    for (num_threads, expected) in [(1, &[LENET_OK][..]), (4, &[LENET_ERROR_FORKED, LENET_OK])] {
        let options = lenet_options { num_threads, ..preset(LENET_PRESET_MODERN) };
        let (mut child, mut dataset) = (None::<i32>, null_mut());
        let to = (&raw mut child).cast();
        let status = unsafe {
            lenet_dataset_open_folder_with(path.as_ptr(), &options, Some(fork), to, &mut dataset)
        };
        if child == Some(0) {
            unsafe { libc::_exit(status) };
        }
        ok(status);
        drop(Dataset(dataset));
        let mut ended = 0;
        let child = child.unwrap();
        assert_eq!(unsafe { libc::waitpid(child, &mut ended, 0) }, child);
        assert!(
            libc::WIFEXITED(ended) && expected.contains(&libc::WEXITSTATUS(ended)),
            "{ended:x}"
        );
    }
}

// ---- CSV

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn open_csv(contents: &[u8], height: u32, width: u32) -> Result<Dataset, lenet_status> {
    let data = folder(&[("table.csv", contents)]);
    let path = c_path(&data.path().join("table.csv"));
    let mut dataset = null_mut();
    match unsafe { lenet_dataset_open_csv(path.as_ptr(), height, width, &mut dataset) } {
        LENET_OK => Ok(Dataset(dataset)),
        status => {
            assert!(dataset.is_null(), "a refused open has written its output");
            Err(status)
        }
    }
}

#[test]
fn a_csv_file_reads_the_same_however_it_is_written() {
    let heading = "label,1x1,1x2,2x1,2x2\n";
    let plain = "7,0,1,2,255\n0,12,120,9,8\n";
    let variants = [
        plain.to_string(),
        format!("{heading}{plain}"),
        format!("\u{feff}{heading}{plain}"),
        format!("\u{feff}{plain}"),
        format!("{heading}{plain}").replace('\n', "\r\n"),
        format!("{heading}{plain}\n\n"),
        format!("\n{heading}\n{plain}"),
        plain.trim_end().to_string(),
        format!("{heading}{plain}").replace(',', ";"),
        "\"7\" , \"0\", \"1\" ,\"2\" , \"255\"\n0, \"12\",120, \"9\" , 8\n".to_string(),
        format!("{heading}{plain}").replace(',', "\t"),
        format!("{heading}{plain}").replace(',', " , "),
        "\"label\",\"a,b\",\"c\"\"d\",x,y\n\"7\",\"0\",\"1\",2,255\n0,12,120,9,8\n".to_string(),
        "7.0,0.0,1.0,2.0,255.0\n0,1.2e+01,1.2e2,9,008\n".to_string(),
    ];
    for variant in variants {
        for file in [variant.clone().into_bytes(), gzip(variant.as_bytes())] {
            let dataset = open_csv(&file, 2, 2).unwrap_or_else(|_| panic!("{}", last_error()));
            let (pixels, labels) = dataset.read(0, 2);
            assert_eq!(
                (&pixels[..], &labels[..]),
                (&[0, 1, 2, 255, 12, 120, 9, 8][..], &[7, 0][..])
            );
            assert_eq!((dataset.count(), dataset.size()), (2, (2, 2)), "{variant:?}");
        }
    }
    // Columns without names, as pandas calls them.
    let row =
        |first: usize| (0..785).map(|i| (first * i).to_string()).collect::<Vec<_>>().join(",");
    let dataset = open_csv(format!("{}\n{}\n", row(1), row(0)).as_bytes(), 28, 28);
    assert_eq!(dataset.map(|dataset| dataset.read(0, 1)), Ok((vec![0; 784], vec![0])));
    // Without any heading, the first row counts.
    assert_eq!(open_csv(b"0,1\n1,2\n", 1, 1).map(|dataset| dataset.count()), Ok(2));
}

#[test]
fn a_csv_file_that_says_something_else_is_refused_by_line_and_column() {
    let good = "label,a,b,c,d\n7,0,1,2,255\n";
    for (rest, words) in [
        ("7,0,1,2\n", &["line 3 has 4 columns, not 5", "4 pixels"][..]),
        ("7,0,1,2,3,4\n", &["line 3 has 6 columns, not 5"]),
        ("7,0,1,2,3,\n", &["line 3, column 6 is empty"]),
        ("\n\n7,0,1,300,3\n", &["line 5, column 4 is 300", "0 to 255"]),
        ("7,-1,1,2,3\n", &["line 3, column 2 is -1"]),
        ("7,0.5,1,2,3\n", &["line 3, column 2 is 0.5", "multiply"]),
        ("7,1.5,1,2,3\n", &["line 3, column 2 is 1.5"]),
        ("7,nan,1,2,3\n", &["line 3, column 2 is nan"]),
        ("7,,1,2,3\n", &["line 3, column 2 is empty"]),
        ("7,x,1,2,3\n", &["line 3, column 2 is x"]),
        ("cat,0,1,2,3\n", &["line 3, column 1 is cat", "a label"]),
        (",0,1,2,3\n", &["line 3, column 1 is empty"]),
        ("7,0 1,1,2,3\n", &["line 3, column 2 is 0 1"]),
        ("7;0;1;2;3\n", &["line 3, column 1 is 7;0;1;2;3"]),
        ("\"7,0,1,2,3\n", &["line 3, column 1 is 7,0,1,2,3"]),
    ] {
        let status = open_csv(format!("{good}{rest}").as_bytes(), 2, 2).err().unwrap_or(LENET_OK);
        refused(rest, status, LENET_ERROR_FORMAT, &[&["table.csv: "], words].concat());
    }
    for (rest, words) in [("256,0,1,2,3\n", "column 1 is 256"), ("-1,0,1,2,3\n", "column 1 is -1")]
    {
        let status = open_csv(format!("{good}{rest}").as_bytes(), 2, 2).err().unwrap_or(LENET_OK);
        refused(rest, status, LENET_ERROR_LABEL_OUT_OF_RANGE, &["line 3", words]);
    }
    let long = format!("7,{},1,2,3\n", "1".repeat(300));
    let too_long = "x".repeat(5 * 256 + 1);
    for (file, words) in [
        ("", "no row"),
        ("label,a,b,c,d\n", "no row"),
        ("\n\n", "no row"),
        ("label,a\n7,1\n", "line 1 has 2 columns"),
        ("pixel1,pixel2,pixel3,pixel4,class\n1,2,3,4,5\n", "has class last"),
        ("1,0.0,1.0,0.0,1.0\n", "multiply them by 255"),
        (&long, "column 2 begins with 1111"),
        (&too_long, "line 1 is longer than 1280 bytes"),
        ("<html><body>not found</body></html>\n", "an HTML page"),
        ("{\"label\": 1}\n", "JSON"),
        ("PK\x03\x04 zip", "a ZIP archive"),
    ] {
        let status = open_csv(file.as_bytes(), 2, 2).err().unwrap_or(LENET_OK);
        refused(file, status, LENET_ERROR_FORMAT, &["table.csv: ", words]);
    }
    let mut damaged = gzip(good.as_bytes());
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    refused("gzip", open_csv(&damaged, 2, 2).err().unwrap(), LENET_ERROR_CORRUPT, &["table.csv"]);
}

#[test]
fn a_csv_bomb_costs_no_memory() {
    let zeros = gzip(&vec![b'0'; 64 << 20]);
    let before = peak();
    let status = open_csv(&zeros, 28, 28).err().unwrap();
    refused("a line of 64 MiB", status, LENET_ERROR_FORMAT, &["line 1 is longer"]);
    assert!(peak() - before < 8 << 20, "{} bytes", peak() - before);
}

// ---- split, counts, statistics

fn made(labels: &[u8]) -> Dataset {
    let images: Vec<u8> = (0..labels.len() * 4).map(|i| (i / 4) as u8).collect();
    let mut dataset = null_mut();
    let (n, i, l) = (labels.len(), images.as_ptr(), labels.as_ptr());
    ok(unsafe { lenet_dataset_from_memory(i, l, n, 2, 2, &mut dataset) });
    Dataset(dataset)
}

fn split(dataset: &Dataset, fraction: f64, seed: u64) -> [Dataset; 2] {
    let (mut first, mut rest) = (null_mut(), null_mut());
    ok(unsafe { lenet_dataset_split(dataset.0, fraction, seed, &mut first, &mut rest) });
    [Dataset(first), Dataset(rest)]
}

#[test]
fn a_split_gives_each_class_its_share_and_loses_nothing() {
    let labels: Vec<u8> = (0..250).map(|i| [0, 3, 3, 1, 5][i % 5]).collect();
    let dataset = made(&labels);
    let parts = split(&dataset, 0.8, 7);
    assert_eq!(parts.each_ref().map(Dataset::count), [200, 50]);
    assert_eq!(class_counts(&parts[0]), [40, 40, 0, 80, 0, 40]);
    assert_eq!(class_counts(&parts[1]), [10, 10, 0, 20, 0, 10]);
    // Each image is in one of them, with its label, and they lie in their order.
    let read = parts.each_ref().map(|part| part.read(0, part.count()));
    let numbers =
        read.each_ref().map(|(pixels, _)| pixels.iter().step_by(4).copied().collect::<Vec<u8>>());
    for ((numbers, (_, part)), _) in numbers.iter().zip(&read).zip(0..) {
        assert!(numbers.is_sorted());
        assert!(numbers.iter().zip(part).all(|(&n, &label)| labels[usize::from(n)] == label));
    }
    let mut all = numbers.concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..250));
    // The same again, and another with another seed.
    let [again, _] = split(&dataset, 0.8, 7);
    let [other, _] = split(&dataset, 0.8, 8);
    assert!(again.read(0, 200) == read[0] && other.read(0, 200) != read[0]);
}

#[test]
fn a_split_that_leaves_a_part_empty_is_refused() {
    let mut parts = [null_mut(); 2];
    let [first, rest] = &mut parts;
    for (labels, fraction, words) in [
        (&[0u8, 1][..], 0.01, "leaves one of the parts of 2 images empty"),
        (&[0, 1], 0.99, "leaves one of the parts"),
        (&[0], 0.5, "leaves one of the parts of 1 images"),
        (&[0, 1], 0.0, "fraction is 0.0"),
        (&[0, 1], 1.0, "fraction is 1.0"),
        (&[0, 1], f64::NAN, "fraction is NaN"),
        (&[0, 1], -0.5, "fraction is -0.5"),
    ] {
        let dataset = made(labels);
        let status = unsafe { lenet_dataset_split(dataset.0, fraction, 0, first, rest) };
        refused("split", status, LENET_ERROR_INVALID_ARGUMENT, &[words]);
    }
    assert_eq!(parts, [null_mut(); 2]);
}

#[test]
fn statistics_are_those_of_all_pixels() {
    let dataset = made(&[1; 256]);
    let (mut mean, mut std) = (f64::NAN, f64::NAN);
    ok(unsafe { lenet_dataset_statistics(dataset.0, &mut mean, &mut std) });
    // Each byte as often: the variance of 0..=255 is (256^2 - 1) / 12.
    assert!((mean - 0.5).abs() < 1e-15, "{mean}");
    assert!((std - (65535.0f64 / 12.0).sqrt() / 255.0).abs() < 1e-15, "{std}");
    assert_eq!(class_counts(&dataset), [0, 256]);
    let dataset = open_csv(b"0,9,9,9,9\n", 2, 2).unwrap();
    ok(unsafe { lenet_dataset_statistics(dataset.0, &mut mean, &mut std) });
    assert_eq!((mean, std), (9.0 / 255.0, 0.0));
}

// ---- names

fn set_names(model: &Model, names: &[&str]) -> lenet_status {
    let names: Vec<CString> = names.iter().map(|name| CString::new(*name).unwrap()).collect();
    let names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    unsafe { lenet_set_class_names(model.0, names.as_ptr(), names.len()) }
}

#[test]
fn names_go_from_the_folder_to_the_model_and_its_file() {
    let data = many(30);
    for (from, to) in [("0", "ant"), ("1", "bée"), ("2", "cat")] {
        fs::rename(data.path().join(from), data.path().join(to)).unwrap();
    }
    let options = small(LENET_PRESET_MODERN);
    let dataset = open_folder(data.path(), &options).unwrap();
    let [train, rest] = split(&dataset, 0.5, 1);
    assert_eq!([0, 1, 2].map(|i| class_name(&rest, i)), ["ant", "bée", "cat"]);

    let model = Model::create(&options);
    assert_eq!(model_class_name(&model, 2), "");
    model.fit(&train, 1, 5);
    let names = |model: &Model| [0, 1, 2].map(|i| model_class_name(model, i));
    assert_eq!(names(&model), ["ant", "bée", "cat"]);
    assert_eq!(names(&model.try_clone()), names(&model));
    assert_eq!(names(&Model::from_bytes(&model.bytes())), names(&model));
    // Steps that follow, of which each is written over a state that others have left, keep them.
    model.fit(&train, 2, 5);
    assert_eq!(names(&model), ["ant", "bée", "cat"]);
    // A model's own names stay, and a model of other classes takes none.
    ok(set_names(&model, &["x", "", "z"]));
    model.fit(&train, 1, 5);
    assert_eq!(names(&model), ["x", "", "z"]);
    // A model with other classes keeps the names of those that both have.
    for (classes, expected) in [(2, &["x", ""][..]), (5, &["x", "", "z", "", ""])] {
        let mut other = null_mut();
        ok(unsafe { lenet_clone_with_classes(model.0, classes, &mut other) });
        let other = Model(other);
        let names: Vec<String> =
            (0..classes as usize).map(|i| model_class_name(&other, i)).collect();
        assert_eq!(names, expected);
    }
    let four = Model::create(&lenet_options { classes: 4, ..options });
    four.fit(&train, 1, 5);
    assert_eq!(model_class_name(&four, 0), "");
}

#[test]
fn only_a_model_with_names_has_a_file_of_the_later_format() {
    let model = Model::create(&small(LENET_PRESET_MODERN));
    let format = |model: &Model| {
        let file = model.bytes();
        let text = String::from_utf8_lossy(&file).into_owned();
        if text.contains(r#"\"format\":2"#) { 2 } else { 1 }
    };
    let without = model.bytes();
    assert_eq!(format(&model), 1);
    ok(set_names(&model, &["a", "b", "\u{1f98a}"]));
    assert_eq!(format(&model), 2);
    assert_eq!(model_class_name(&model, 2), "\u{1f98a}");
    ok(unsafe { lenet_set_class_names(model.0, null(), 0) });
    assert!(model.bytes() == without);
}

#[test]
fn a_name_that_cannot_be_is_refused_and_nothing_changes() {
    let model = Model::create(&small(LENET_PRESET_MODERN));
    ok(set_names(&model, &["a", "b", "c"]));
    let long = "x".repeat(256);
    for (names, words) in [
        (&["a", "b"][..], "length of names is 2; this model has 3"),
        (&["a", "b", "c", "d"], "length of names is 4"),
        (&["a", "b\n", "c"], "names[1] has the control character U+000A"),
        (&["a", "b", "\u{85}"], "names[2] has the control character U+0085"),
        (&[&long, "b", "c"], "names[0] has 256 bytes"),
    ] {
        let status = set_names(&model, names);
        refused("names", status, LENET_ERROR_INVALID_ARGUMENT, &[words]);
    }
    let names = [c"a".as_ptr(), null(), c"c".as_ptr()];
    let status = unsafe { lenet_set_class_names(model.0, names.as_ptr(), 3) };
    refused("NULL", status, LENET_ERROR_NULL_POINTER, &["names[1] is NULL"]);
    let names = [c"a".as_ptr(), c"\xff".as_ptr(), c"c".as_ptr()];
    let status = unsafe { lenet_set_class_names(model.0, names.as_ptr(), 3) };
    refused("UTF-8", status, LENET_ERROR_INVALID_ARGUMENT, &["names[1] is not UTF-8 at byte 0"]);
    assert_eq!([0, 1, 2].map(|i| model_class_name(&model, i)), ["a", "b", "c"]);

    let (mut needed, mut name) = (0, [0x55; 4]);
    let get = |name: *mut _, capacity, needed| unsafe {
        lenet_class_name(model.0, 1, name, capacity, needed)
    };
    ok(get(null_mut(), 0, &mut needed));
    assert_eq!(needed, 2);
    needed = 0;
    let status = get(name.as_mut_ptr(), 1, &mut needed);
    refused("too small", status, LENET_ERROR_BUFFER_TOO_SMALL, &["name has room for 1; 2"]);
    assert_eq!((needed, name), (2, [0x55; 4]));
    refused("NULL", get(null_mut(), 0, null_mut()), LENET_ERROR_NULL_POINTER, &["name is NULL"]);
    refused("NULL", get(null_mut(), 9, &mut needed), LENET_ERROR_NULL_POINTER, &["name is NULL"]);
    ok(get(name.as_mut_ptr(), 2, null_mut()));
    assert_eq!(name, [b'b' as _, 0, 0x55, 0x55]);
    let status = unsafe { lenet_class_name(model.0, 3, name.as_mut_ptr(), 4, null_mut()) };
    refused("index", status, LENET_ERROR_NOT_FOUND, &["index is 3; the model has 3 classes"]);
}

#[test]
fn names_in_a_file_are_checked() {
    let model = Model::create(&small(LENET_PRESET_MODERN));
    ok(set_names(&model, &["aa", "bbbbbb", "cc"]));
    let file = model.bytes();
    for (from, to) in [
        (r#"\"bbbbbb\""#, r#"\"\",\"\" "#),
        (r#"\"bbbbbb\""#, r#"\"b\\n\"  "#),
        (r#"\"format\":2"#, r#"\"format\":1"#),
    ] {
        let at = file.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        let mut forged = file.clone();
        forged[at..at + from.len()].copy_from_slice(to.as_bytes());
        let status = Model::try_from_bytes(&forged, null()).err().unwrap_or(LENET_OK);
        refused(from, status, LENET_ERROR_CORRUPT, &["metadata"]);
    }
}
