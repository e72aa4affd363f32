//! IDX files, which MNIST, Fashion-MNIST, EMNIST, KMNIST and QMNIST come in, plain or gzipped. A file's sizes are
//! believed only as far as its data goes.
//!
//! IDX (Yann LeCun's MNIST page): two zero bytes, a type byte, the number of dimensions, each
//! dimension as a big-endian u32, then the data, big-endian.

use crate::durable_file;
use crate::error::{Code, Error, Result};
use crate::failpoint;
use crate::file_kind;
use crate::gzip::{self, is_bad_data};
use std::io::{BufRead, BufReader, Read};
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
    if start.starts_with(gzip::MARK) {
        File { reader: gzip::Members::new(file), path, role }.parse()
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
        start.extend(self.up_to(file_kind::LENGTH - start.len()).unwrap_or_default());
        let message = match file_kind::of(&start) {
            // What it was in is unpacked already.
            Some(_) if start.starts_with(gzip::MARK) => "not an IDX file: gzipped twice".into(),
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
