//! Labelled images in memory.

use crate::allocation::reserve;
use crate::error::{Code, Error, Result};
use crate::idx::{self, Images};
use crate::unique::Unique;
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
        let Images { count, height, width, pixels } = idx::read_images(images_path)?;
        let labels = idx::read_labels(labels_path)?;
        if count as usize != labels.len() {
            return Err(Error::new(
                Code::Incompatible,
                format!(
                    "{} holds {count} images, {} holds {} labels",
                    images_path.display(),
                    labels_path.display(),
                    labels.len()
                ),
            ));
        }
        Ok(Dataset::new(pixels, labels, height, width))
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
