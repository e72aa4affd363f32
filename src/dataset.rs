//! Labelled images in memory, and the IDX files that MNIST and Fashion-MNIST come in, plain or
//! gzipped. A file's sizes are believed only as far as its data goes.
//!
//! IDX (Yann LeCun's MNIST page): two zero bytes, a type byte (8: unsigned byte), the number of
//! dimensions, each dimension as a big-endian u32, then the data.

use crate::allocation::reserve;
use crate::durable_file;
use crate::error::{Code, Error, Result};
use crate::failpoint;
use crate::unique::Unique;
use flate2::read::MultiGzDecoder;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use twox_hash::xxhash3_128::Hasher;

/// Never changes once made.
#[derive(Debug)]
pub struct Dataset {
    images: Vec<u8>,
    labels: Vec<u8>,
    height: u32,
    width: u32,
    number: Unique,
    hash: u128,
}

impl Dataset {
    pub fn open(images_path: &Path, labels_path: &Path) -> Result<Self> {
        let ([n, height, width], images) = read_idx::<3>(images_path)?;
        let ([labels_n], labels) = read_idx::<1>(labels_path)?;
        if n != labels_n {
            return Err(Error::new(
                Code::Incompatible,
                format!(
                    "{} holds {n} images, {} holds {labels_n} labels",
                    images_path.display(),
                    labels_path.display()
                ),
            ));
        }
        Ok(Dataset::new(images, labels, height, width))
    }

    /// Copies `labels.len()` images of height x width bytes.
    pub fn from_memory(images: &[u8], labels: &[u8], height: u32, width: u32) -> Result<Self> {
        let copy = |from: &[u8]| {
            let mut to = Vec::new();
            reserve(&mut to, from.len())?;
            to.extend_from_slice(from);
            Ok::<_, Error>(to)
        };
        let (images, labels) = (copy(images)?, copy(labels)?);
        Ok(Dataset::new(images, labels, height, width))
    }

    fn new(images: Vec<u8>, labels: Vec<u8>, height: u32, width: u32) -> Self {
        let mut hasher = Hasher::new();
        for part in [&height.to_le_bytes()[..], &width.to_le_bytes(), &labels, &images] {
            hasher.write(part);
        }
        let hash = hasher.finish_128();
        Dataset { images, labels, height, width, number: Unique::next(), hash }
    }

    /// Bytes of `n` images, or why there cannot be so many.
    pub fn image_bytes(n: usize, height: u32, width: u32) -> Result<usize> {
        for (name, size) in [("height", height), ("width", width)] {
            if size == 0 {
                return Err(Error::invalid(format!("{name} is 0")));
            }
        }
        if n == 0 || n > u32::MAX as usize {
            return Err(Error::invalid(format!("n is {n}; it must be from 1 to {}", u32::MAX)));
        }
        let bytes = (height as usize).checked_mul(width as usize).and_then(|p| p.checked_mul(n));
        bytes.filter(|&bytes| isize::try_from(bytes).is_ok()).ok_or_else(|| {
            Error::invalid(format!("{n} images of {height} x {width} do not fit into memory"))
        })
    }

    pub fn count(&self) -> usize {
        self.labels.len()
    }

    pub fn height(&self) -> u32 {
        self.height
    }

    pub fn width(&self) -> u32 {
        self.width
    }

    /// Tells this dataset from any other in this process, were they equal.
    pub fn number(&self) -> Unique {
        self.number
    }

    /// The same for the same content, everywhere and always: XXH3 with 128 bits of height and width
    /// (u32, little-endian), labels and images. It is kept in files. Made at once, when the data has
    /// just been copied or unpacked, so that no lock guards it; it takes a tenth of the copy's time.
    pub fn hash(&self) -> u128 {
        self.hash
    }

    pub fn images(&self) -> &[u8] {
        &self.images
    }

    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// `n` images and labels from `first` on.
    pub fn read(&self, first: usize, n: usize) -> Result<(&[u8], &[u8])> {
        let count = self.count();
        match first.checked_add(n) {
            _ if n == 0 => Err(Error::invalid("n is 0")),
            Some(end) if end <= count => {
                let size = self.images.len() / count;
                Ok((&self.images[first * size..end * size], &self.labels[first..end]))
            }
            _ => Err(Error::invalid(format!(
                "first is {first} and n is {n}; the dataset has {count} images"
            ))),
        }
    }
}

/// The dimensions and the data of an IDX file of bytes with D dimensions.
fn read_idx<const D: usize>(path: &Path) -> Result<([u32; D], Vec<u8>)> {
    let mut file = BufReader::new(durable_file::open(path)?);
    let start = file.fill_buf().map_err(|e| Error::io("read", path, &e))?;
    if start.starts_with(&[0x1f, 0x8b]) {
        parse_idx(MultiGzDecoder::new(file), path)
    } else {
        parse_idx(file, path)
    }
}

fn parse_idx<const D: usize>(mut reader: impl Read, path: &Path) -> Result<([u32; D], Vec<u8>)> {
    let shown = path.display();
    let format = |why: &str| Err(Error::new(Code::Format, format!("{shown}: {why}")));
    let corrupt = |why: String| Err(Error::new(Code::Corrupt, format!("{shown}: {why}")));

    let mut magic = Vec::new();
    read_up_to(&mut reader, 4, &mut magic, path)?;
    if magic.len() < 4 || magic[..3] != [0, 0, 8] {
        return format("not an IDX file of bytes");
    }
    if usize::from(magic[3]) != D {
        return format(&format!("an IDX file with {} dimensions, not {D}", magic[3]));
    }
    let mut header = Vec::new();
    read_up_to(&mut reader, 4 * D, &mut header, path)?;
    if header.len() < 4 * D {
        return corrupt("ends inside the header".into());
    }
    let mut dimensions = [0; D];
    for (dimension, bytes) in dimensions.iter_mut().zip(header.chunks_exact(4)) {
        *dimension = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    let declared = dimensions.iter().try_fold(1usize, |size, &d| size.checked_mul(d as usize));
    let size = match declared {
        Some(size) if size > 0 && isize::try_from(size).is_ok() => size,
        _ => return corrupt(format!("declares the dimensions {dimensions:?}")),
    };
    let mut data = Vec::new();
    read_up_to(&mut reader, size, &mut data, path)?;
    if data.len() < size {
        return corrupt(format!("declares {size} bytes of data and has {}", data.len()));
    }
    failpoint::point();
    let mut surplus = Vec::new();
    read_up_to(&mut reader, 1, &mut surplus, path)?;
    if !surplus.is_empty() {
        return corrupt(format!("has more than the declared {size} bytes of data"));
    }
    Ok((dimensions, data))
}

/// Appends at most `limit` bytes; memory grows with what is there, not with what is declared.
fn read_up_to(reader: &mut impl Read, limit: usize, out: &mut Vec<u8>, path: &Path) -> Result<()> {
    match reader.by_ref().take(limit as u64).read_to_end(out) {
        Ok(_) => Ok(()),
        // What the gzip decoder finds wrong is wrong with the file, not with reading it.
        Err(e) if is_bad_data(&e) => {
            Err(Error::new(Code::Corrupt, format!("{}: {e}", path.display())))
        }
        // Not covered: a disk that fails after the file's first bytes.
        Err(e) => Err(Error::io("read", path, &e)),
    }
}

fn is_bad_data(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}
