//! What a file seems to be that is not what was asked for, so that a message can say so.

use crate::gzip;

/// As many first bytes as tell every kind of file below: tar's mark lies farthest behind.
pub const LENGTH: usize = 512;

/// What is often found under the name of a file of data, by its first bytes.
pub fn of(start: &[u8]) -> Option<&'static str> {
    const MARKS: [(usize, &[u8], &str); 29] = [
        (0, gzip::MARK, "compressed by gzip"),
        (0, b"PK\x03\x04", "a ZIP archive (also .npz, .pt and .xlsx are)"),
        (0, b"PK\x05\x06", "an empty ZIP archive"),
        (0, b"\x93NUMPY", "a NumPy array (.npy)"),
        (0, b"\x89PNG", "a PNG image"),
        (0, b"\xff\xd8\xff", "a JPEG image"),
        (0, b"GIF8", "a GIF image"),
        (8, b"WEBP", "a WebP image"),
        (4, b"ftypavif", "an AVIF image"),
        (4, b"ftyphei", "a HEIC image, as phones make"),
        (4, b"ftypmif1", "a HEIC image, as phones make"),
        (0, b"II*\0", "a TIFF image or a camera's raw one"),
        (0, b"MM\0*", "a TIFF image or a camera's raw one"),
        (0, b"\0\0\0\x0cJXL ", "a JPEG XL image"),
        (0, b"8BPS", "a Photoshop image"),
        (0, b"\0\0\x01\0", "an icon (.ico)"),
        (0, b"\0\0\x08", "an IDX file"),
        (0, b"\x7fELF", "a program or a library"),
        (0, b"SQLite format 3", "an SQLite database"),
        (0, b"version https://git-lfs", "a Git LFS pointer; `git lfs pull` brings the file"),
        (0, b"BZh", "compressed by bzip2, where gzip is read"),
        (0, b"\xfd7zXZ\0", "compressed by xz, where gzip is read"),
        (0, b"\x28\xb5\x2f\xfd", "compressed by zstd, where gzip is read"),
        (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (0, b"\x89HDF\r\n", "an HDF5 file"),
        (0, b"MATLAB 5.0", "a MATLAB file (.mat)"),
        (0, b"PAR1", "a Parquet file"),
        (0, b"%PDF", "a PDF"),
        (257, b"ustar", "a tar archive"),
    ];
    if start.is_empty() {
        return Some("it is empty");
    }
    let marked = |&&(at, mark, _): &&(usize, &[u8], &str)| {
        start.get(at..).is_some_and(|bytes| bytes.starts_with(mark))
    };
    MARKS.iter().find(marked).map(|&(_, _, kind)| kind).or_else(|| text_kind(start))
}

fn text_kind(start: &[u8]) -> Option<&'static str> {
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let is_text = |&b: &u8| b >= b' ' && b != 0x7f || b.is_ascii_whitespace();
    if start.len() < 4 || !text.iter().all(is_text) {
        return None;
    }
    let tag = text.iter().take(15).map(u8::to_ascii_lowercase).collect::<Vec<u8>>();
    if [&b"<!doctype html"[..], b"<html", b"<head", b"<body"].iter().any(|t| tag.starts_with(t)) {
        return Some("an HTML page, as a server sends that does not give the file");
    }
    let line = text.split(|&b| b == b'\n').next().unwrap_or(text);
    Some(match text.first() {
        Some(b'<') => "XML",
        Some(b'{' | b'[') => "JSON",
        _ if line.contains(&b',') => "a CSV file",
        _ => "text",
    })
}
