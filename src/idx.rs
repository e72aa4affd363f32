//! IDX files, which MNIST, Fashion-MNIST, EMNIST, KMNIST and QMNIST come in, plain or gzipped. A file's sizes are
//! believed only as far as its data goes.
//!
//! IDX (Yann LeCun's MNIST page): two zero bytes, a type byte, the number of dimensions, each
//! dimension as a big-endian u32, then the data, big-endian.

use crate::durable_file;
use crate::error::{Code, Error, Result};
use crate::failpoint;
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

/// Images of one channel.
pub struct Images {
    pub count: u32,
    pub height: u32,
    pub width: u32,
    pub pixels: Vec<u8>,
}

/// Bytes (n, height, width), or integers from 0 to 255, or either with one channel.
pub fn read_images(path: &Path) -> Result<Images> {
    let (dimensions, pixels) = read(path, Role::Images)?;
    let [count, height, width] = match dimensions[..] {
        [n, height, width] | [n, 1, height, width] => [n, height, width],
        // No other shape passes `Role::check_shape`.
        _ => [dimensions[0], dimensions[1], dimensions[2]],
    };
    Ok(Images { count, height, width, pixels })
}

/// Integers (n) from 0 to 255, or (n, 8) of which the first column is the class, as in QMNIST.
pub fn read_labels(path: &Path) -> Result<Vec<u8>> {
    Ok(read(path, Role::Labels)?.1)
}

/// The dimensions and the data.
fn read(path: &Path, role: Role) -> Result<(Vec<u32>, Vec<u8>)> {
    let mut file = BufReader::new(durable_file::open(path)?);
    let start = file.fill_buf().map_err(|e| Error::io("read", path, &e))?;
    if start.starts_with(GZIP) {
        File { reader: Members::new(file), path, role }.parse()
    } else {
        File { reader: file, path, role }.parse()
    }
}

/// What a file is read for.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Images,
    Labels,
}

impl Role {
    fn check_rank(self, rank: usize) -> Result<(), String> {
        let (wanted, like) = match (self, rank) {
            (Role::Images, 3 | 4) | (Role::Labels, 1 | 2) => return Ok(()),
            (Role::Images, 1) => (3, "labels"),
            (Role::Labels, 3) => (1, "images"),
            (Role::Images, _) => (3, ""),
            (Role::Labels, _) => (1, ""),
        };
        let mut message = format!("an IDX file with {rank} dimensions, not {wanted}");
        if !like.is_empty() {
            message += &format!(", as {like} have: are images and labels swapped?");
        }
        Err(message)
    }

    fn check_shape(self, dimensions: &[u32], element: Element) -> Result<(), String> {
        match (self, dimensions) {
            (Role::Images, [_, _, _] | [_, 1, _, _] | [_, _, _, 1]) => Ok(()),
            (Role::Images, _) => Err(format!(
                "images of the dimensions {dimensions:?}; none of them is one channel, and only gray images are read"
            )),
            (Role::Labels, [_] | [_, 1]) => Ok(()),
            (Role::Labels, [_, QMNIST_COLUMNS]) if element == Element::I32 => Ok(()),
            (Role::Labels, _) => Err(format!(
                "labels of the dimensions {dimensions:?}; each must be one number, its class"
            )),
        }
    }

    /// Numbers of the file that stand for one of ours, the first of them.
    fn stride(self, dimensions: &[u32]) -> usize {
        match (self, dimensions) {
            (Role::Labels, [_, columns]) => *columns as usize,
            _ => 1,
        }
    }

    fn refuse(self, index: usize, value: i32) -> (Code, String) {
        match self {
            Role::Images => {
                (Code::Format, format!("pixel {index} is {value}; it must be from 0 to 255"))
            }
            Role::Labels => (
                Code::LabelOutOfRange,
                format!("labels[{index}] is {value}; a class is from 0 to 255"),
            ),
        }
    }
}

/// Class, hsf series, writer, digit of the writer, code and line of the field, duplicate, unused.
const QMNIST_COLUMNS: u32 = 8;

/// The type byte.
#[derive(Clone, Copy, PartialEq)]
enum Element {
    U8,
    I8,
    I16,
    I32,
}

impl Element {
    /// Floats are refused because an IDX file does not tell what stands for white: 1, 255, or what
    /// someone's normalisation made of it.
    fn new(code: u8) -> Result<Self, String> {
        let floats = match code {
            0x08 => return Ok(Element::U8),
            0x09 => return Ok(Element::I8),
            0x0b => return Ok(Element::I16),
            0x0c => return Ok(Element::I32),
            0x0d => "32-bit floats",
            0x0e => "64-bit floats",
            _ => return Err("not an IDX file".into()),
        };
        Err(format!("an IDX file of {floats} (type 0x{code:02x}); integers from 0 to 255 are read"))
    }

    fn size(self) -> usize {
        match self {
            Element::U8 | Element::I8 => 1,
            Element::I16 => 2,
            Element::I32 => 4,
        }
    }

    fn value(self, bytes: &[u8]) -> i32 {
        match (self, bytes) {
            (Element::I8, &[a, ..]) => i32::from(a as i8),
            (Element::I16, &[a, b, ..]) => i32::from(i16::from_be_bytes([a, b])),
            (Element::I32, &[a, b, c, d, ..]) => i32::from_be_bytes([a, b, c, d]),
            _ => bytes.first().map_or(0, |&a| i32::from(a)),
        }
    }
}

/// An unpacked file.
struct File<'a, R> {
    reader: R,
    path: &'a Path,
    role: Role,
}

impl<R: Read> File<'_, R> {
    fn parse(mut self) -> Result<(Vec<u32>, Vec<u8>)> {
        let magic = self.up_to(4)?;
        let [0, 0, code, rank] = magic[..] else {
            return Err(self.another_kind(magic));
        };
        let element = Element::new(code).map_err(|why| self.error(Code::Format, why))?;
        let rank = usize::from(rank);
        self.role.check_rank(rank).map_err(|why| self.error(Code::Format, why))?;
        let header = self.up_to(4 * rank)?;
        if header.len() < 4 * rank {
            return Err(self.error(Code::Corrupt, "ends inside the header"));
        }
        let (header, _) = header.as_chunks::<4>();
        let dimensions: Vec<u32> = header.iter().map(|&bytes| u32::from_be_bytes(bytes)).collect();
        let shape = self.role.check_shape(&dimensions, element);
        shape.map_err(|why| self.error(Code::Format, why))?;
        let declared =
            dimensions.iter().try_fold(element.size(), |size, &d| size.checked_mul(d as usize));
        let size = match declared {
            Some(size) if size > 0 && isize::try_from(size).is_ok() => size,
            _ => {
                return Err(
                    self.error(Code::Corrupt, format!("declares the dimensions {dimensions:?}"))
                );
            }
        };
        let data = match element {
            Element::U8 if self.role.stride(&dimensions) == 1 => self.bytes(size)?,
            _ => self.integers(size, element, self.role.stride(&dimensions))?,
        };
        failpoint::point();
        if !self.up_to(1)?.is_empty() {
            let message = format!("has more than the declared {size} bytes of data");
            return Err(self.error(Code::Corrupt, message));
        }
        Ok((dimensions, data))
    }

    fn bytes(&mut self, size: usize) -> Result<Vec<u8>> {
        let data = self.up_to(size)?;
        self.check_length(data.len(), size)?;
        Ok(data)
    }

    /// The first of every `stride` integers in `size` bytes, each from 0 to 255.
    fn integers(&mut self, size: usize, element: Element, stride: usize) -> Result<Vec<u8>> {
        /// A multiple of any item.
        const PIECE: usize = 1 << 16;
        let item = element.size() * stride;
        let (mut values, mut done) = (Vec::new(), 0);
        while done < size {
            let wanted = PIECE.min(size - done);
            let piece = self.up_to(wanted)?;
            done += piece.len();
            if piece.len() < wanted {
                self.check_length(done, size)?;
            }
            let count = piece.len() / item;
            values.try_reserve(count).map_err(|_| {
                self.error(Code::OutOfMemory, format!("cannot allocate {count} bytes more"))
            })?;
            for number in piece.chunks(item).map(|item| element.value(item)) {
                let value = u8::try_from(number).map_err(|_| {
                    let (code, message) = self.role.refuse(values.len(), number);
                    self.error(code, message)
                })?;
                values.push(value);
            }
        }
        Ok(values)
    }

    fn check_length(&self, length: usize, declared: usize) -> Result<()> {
        if length == declared {
            return Ok(());
        }
        let message = format!("declares {declared} bytes of data and has {length}");
        Err(self.error(Code::Corrupt, message))
    }

    /// Why a file that begins with `start` is refused.
    fn another_kind(&mut self, mut start: Vec<u8>) -> Error {
        // What can be read of it decides.
        start.extend(self.up_to(KIND_LENGTH - start.len()).unwrap_or_default());
        let message = match kind(&start) {
            Some(kind) => format!("not an IDX file: {kind}"),
            None => "not an IDX file".into(),
        };
        self.error(Code::Format, message)
    }

    /// At most `limit` bytes; memory grows with what is there, not with what is declared.
    fn up_to(&mut self, limit: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.reader.by_ref().take(limit as u64).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            // What the gzip decoder finds wrong is wrong with the file, not with reading it.
            Err(e) if is_bad_data(&e) => Err(self.error(Code::Corrupt, e)),
            // Not covered: a disk that fails after the file's first bytes.
            Err(e) => Err(Error::io("read", self.path, &e)),
        }
    }

    fn error(&self, code: Code, why: impl std::fmt::Display) -> Error {
        Error::new(code, format!("{}: {why}", self.path.display()))
    }
}

fn is_bad_data(error: &io::Error) -> bool {
    use ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

const GZIP: &[u8] = &[0x1f, 0x8b];

/// The contents of gzip members, one behind the other; behind the last one there may be zeros, which
/// fill the block of a tape or a disk. Like gunzip, but what else is there is an error.
struct Members<R> {
    member: Member<R>,
}

enum Member<R> {
    Inside { decoder: GzDecoder<R>, first: bool },
    Behind,
}

impl<R: BufRead> Members<R> {
    fn new(reader: R) -> Self {
        Members { member: Member::Inside { decoder: GzDecoder::new(reader), first: true } }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let Member::Inside { decoder, first } = &mut self.member else { return Ok(0) };
            match decoder.read(out) {
                // A member's header follows, or something that begins like one.
                Err(e) if !*first && decoder.header().is_none() && is_bad_data(&e) => {
                    return Err(surplus());
                }
                Ok(0) if !out.is_empty() => {}
                other => return other,
            }
            let Member::Inside { decoder, .. } =
                std::mem::replace(&mut self.member, Member::Behind)
            else {
                return Ok(0);
            };
            let mut rest = decoder.into_inner();
            match first_byte(&mut rest)? {
                None => {}
                Some(byte) if byte == GZIP[0] => {
                    let decoder = GzDecoder::new(rest);
                    self.member = Member::Inside { decoder, first: false };
                }
                Some(_) => skip_zeros(rest)?,
            }
        }
    }
}

fn first_byte(reader: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        match reader.fill_buf() {
            Ok(bytes) => return Ok(bytes.first().copied()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn skip_zeros(reader: impl BufRead) -> io::Result<()> {
    for byte in reader.bytes() {
        if byte? != 0 {
            return Err(surplus());
        }
    }
    Ok(())
}

fn surplus() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "has other bytes than zeros behind its gzip data")
}

/// As many first bytes as tell every kind of file below: tar's mark lies farthest behind.
const KIND_LENGTH: usize = 512;

/// What is often found under the name of an IDX file, by its first bytes.
fn kind(start: &[u8]) -> Option<&'static str> {
    const MARKS: [(usize, &[u8], &str); 17] = [
        (0, GZIP, "gzipped twice"),
        (0, b"PK\x03\x04", "a ZIP archive (also .npz, .pt and .xlsx are)"),
        (0, b"PK\x05\x06", "an empty ZIP archive"),
        (0, b"\x93NUMPY", "a NumPy array (.npy)"),
        (0, b"\x89PNG", "a PNG image"),
        (0, b"\xff\xd8\xff", "a JPEG image"),
        (0, b"GIF8", "a GIF image"),
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
