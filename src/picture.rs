//! Pictures as files have them: PNG, JPEG, BMP and PNM (PBM, PGM, PPM and PAM), told by their contents and not by their
//! names, as 8-bit pixels, the way up that they are to be seen.
//!
//! The decoders are those of the `image` crate: in safe Rust, fuzzed by their authors, one interface for the
//! four. What they are given is checked before: how large the file and the picture are, and, of a JPEG, that it is whole,
//! for its decoder fills what is missing with grey. Colour profiles and gamma are not looked at: a pixel is the
//! number in the file. 16 bits become 8 by rounding. Of an animation the picture is read that a viewer without
//! animation shows.

use crate::allocation::reserve;
use crate::durable_file;
use crate::error::{Code, Error, Result};
use crate::failpoint;
use crate::file_kind;
use crate::prepare::{Format, Image};
use image::codecs::{bmp::BmpDecoder, jpeg::JpegDecoder, png::PngDecoder, pnm::PnmDecoder};
use image::{DynamicImage, ImageDecoder, ImageError, Limits};
use std::io::{Cursor, Read};
use std::path::Path;

/// Rows and columns that a picture may have, each.
const MAX_SIDE: u32 = 16_384;
/// Pixels that a picture may have: 8,192 x 8,192, more than a phone's camera makes as a rule. So pixels and what a
/// decoder needs beside them are less than 2 GiB, whatever is in the file.
const MAX_PIXELS: u64 = 1 << 26;
/// Bytes that a file may have: `MAX_PIXELS` with 8 bytes each, not compressed.
const MAX_FILE: u64 = 1 << 29;
/// Bytes of pixels that a byte of a file can stand for: deflate makes 1,032 of one (zlib's technical details), and of a PNG
/// with a bit a pixel and a palette each of those 8 pixels with 4 bytes. The other formats pack less.
const MOST_PACKED: u64 = 1032 * 8 * 4;
/// Bytes that a PNG's colour profile and texts may have.
const MAX_EXTRAS: u64 = 1 << 26;

/// What a file holds: rows that touch.
pub struct Picture {
    format: Format,
    height: usize,
    width: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// As others see it that know nothing of files.
    pub fn image(&self) -> Result<Image<'_>> {
        Image::new(self.format, self.height, self.width, 0, &self.pixels)
    }
}

/// The picture at `path`.
pub fn read(path: &Path) -> Result<Picture> {
    let file = durable_file::open(path)?;
    let mut contents = Vec::new();
    let read = file.take(MAX_FILE + 1).read_to_end(&mut contents);
    read.map_err(|e| Error::io("read", path, &e))?;
    failpoint::point();
    decode(&contents).map_err(|e| at(path, e))
}

/// An error in the picture at `path`.
pub fn at(path: &Path, error: Error) -> Error {
    Error::new(error.code, format!("{}: {}", path.display(), error.message))
}

#[derive(Clone, Copy)]
enum Kind {
    Png,
    Jpeg,
    Bmp,
    Pnm,
}

impl Kind {
    fn of(file: &[u8]) -> Option<Kind> {
        match file {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Kind::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Kind::Jpeg),
            [b'B', b'M', rest @ ..] => {
                // Two letters are no proof; the size of what follows the file's header, which ends with it, is one.
                let size = rest.get(12..16).map(|bytes| [bytes[0], bytes[1], bytes[2], bytes[3]]);
                let known = [12, 16, 40, 52, 56, 64, 108, 124];
                known.contains(&u32::from_le_bytes(size?)).then_some(Kind::Bmp)
            }
            [b'P', b'1'..=b'7', b' ' | b'\t' | b'\r' | b'\n' | b'#', ..] => Some(Kind::Pnm),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Png => "PNG",
            Kind::Jpeg => "JPEG",
            Kind::Bmp => "BMP",
            Kind::Pnm => "PNM",
        }
    }
}

fn decode(file: &[u8]) -> Result<Picture> {
    if file.len() as u64 > MAX_FILE {
        let message =
            format!("has more than {MAX_FILE} bytes, which no picture needs that is read");
        return Err(Error::new(Code::Format, message));
    }
    let Some(kind) = Kind::of(file) else {
        let seems = file_kind::of(&file[..file.len().min(file_kind::LENGTH)]);
        let seems = seems.map_or(String::new(), |seems| format!(": {seems}"));
        let message = format!("not a PNG, JPEG, BMP or PNM picture{seems}");
        return Err(Error::new(Code::Format, message));
    };
    let failed = |e: ImageError| from_image(kind, &e);
    let reader = Cursor::new(file);
    match kind {
        Kind::Png => {
            let mut limits = Limits::no_limits();
            limits.max_alloc = Some(MAX_EXTRAS);
            pixels(PngDecoder::with_limits(reader, limits).map_err(failed)?, kind, file)
        }
        Kind::Jpeg if !is_whole_jpeg(file) => {
            Err(Error::new(Code::Corrupt, "a JPEG that is cut off: it has no end"))
        }
        Kind::Jpeg => pixels(JpegDecoder::new(reader).map_err(failed)?, kind, file),
        Kind::Bmp => pixels(BmpDecoder::new(reader).map_err(failed)?, kind, file),
        Kind::Pnm => pixels(PnmDecoder::new(reader).map_err(failed)?, kind, file),
    }
}

/// A decoder that knows only its file's header makes the picture.
fn pixels(mut decoder: impl ImageDecoder, kind: Kind, file: &[u8]) -> Result<Picture> {
    let failed = |e: ImageError| from_image(kind, &e);
    let (width, height) = decoder.dimensions();
    let count = u64::from(width) * u64::from(height);
    if count == 0 || width.max(height) > MAX_SIDE || count > MAX_PIXELS {
        let message = format!(
            "a {} of {width} x {height} pixels; from 1 to {MAX_SIDE} a side and at most {MAX_PIXELS} in all are read",
            kind.name()
        );
        return Err(Error::new(Code::Format, message));
    }
    // Memory grows with what is there, not with what is declared.
    if decoder.total_bytes() > MOST_PACKED.saturating_mul(file.len() as u64) {
        let (name, length) = (kind.name(), file.len());
        let message =
            format!("a {name} that declares {width} x {height} pixels and has {length} bytes");
        return Err(Error::new(Code::Corrupt, message));
    }
    // Decoders abort where memory is refused, so it is asked for before: for the pixels, what a JPEG has of them between its
    // scans, and a copy that is turned or has another format.
    let most = decoder.total_bytes() as usize * 3;
    reserve(&mut Vec::<u8>::new(), most)?;
    failpoint::point();
    let orientation = decoder.orientation().map_err(failed)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    let (height, width, color) = (image.height() as usize, image.width() as usize, image.color());
    let (format, pixels) = match (color.has_color(), color.has_alpha()) {
        (false, false) => (Format::Gray8, image.into_luma8().into_raw()),
        (true, false) => (Format::Rgb8, image.into_rgb8().into_raw()),
        (_, true) => (Format::Rgba8, image.into_rgba8().into_raw()),
    };
    Ok(Picture { format, height, width, pixels })
}

fn from_image(kind: Kind, error: &ImageError) -> Error {
    let (code, what) = match error {
        ImageError::Unsupported(_) => (Code::Format, "a kind of"),
        ImageError::Limits(_) => (Code::Format, "too large a"),
        _ => (Code::Corrupt, "a damaged or cut off"),
    };
    let what = match (error, kind) {
        (ImageError::Unsupported(_), kind) => format!("{what} {} that is not read", kind.name()),
        (_, kind) => format!("{what} {}", kind.name()),
    };
    Error::new(code, format!("{what}: {error}"))
}

/// Whether the markers of a JPEG lead to that of its end. What follows it does not matter.
fn is_whole_jpeg(file: &[u8]) -> bool {
    const START: u8 = 0xd8;
    const END: u8 = 0xd9;
    let mut at = 2;
    loop {
        // The rest of a scan, or what should not be there and harms no decoder.
        let Some(mark) = file[at..].iter().position(|&byte| byte == 0xff) else { return false };
        at += mark + 1;
        let Some(&marker) = file.get(at) else { return false };
        match marker {
            END => return true,
            // A byte of the scan, filling, or a marker that has no length.
            0x00 | 0x01 | 0xd0..=0xd7 | START => at += 1,
            0xff => {}
            _ => {
                let Some(&[high, low]) = file.get(at + 1..at + 3) else { return false };
                at += 1 + usize::from(u16::from_be_bytes([high, low])).max(2);
                if at > file.len() {
                    return false;
                }
            }
        }
    }
}
