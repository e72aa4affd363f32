//! Labelled images in memory.

use crate::allocation::reserve;
use crate::class_names::ClassNames;
use crate::csv_file;
use crate::error::{Code, Error, Result};
use crate::idx::{self, Images};
use crate::picture_folder::{self, Progress};
use crate::prepare::Preparer;
use crate::split;
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
    class_count: usize,
    /// As many as classes, if classes have names.
    class_names: Option<ClassNames>,
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

    /// Rows of a CSV file, each a label and height x width pixels.
    pub fn open_csv(path: &Path, height: u32, width: u32) -> Result<Self> {
        let size = Dataset::image_bytes(1, height, width)?;
        let csv_file::Rows { pixels, labels } = csv_file::read(path, size)?;
        Ok(Dataset::new(pixels, labels, height, width))
    }

    /// The pictures in a folder, a folder a class, each prepared to the preparer's size.
    pub fn open_folder(
        folder: &Path,
        preparer: Preparer,
        num_threads: u32,
        progress: Option<Progress>,
    ) -> Result<Self> {
        let images = picture_folder::read(folder, preparer, num_threads, progress)?;
        let (height, width) = (preparer.height as u32, preparer.width as u32);
        let dataset = Dataset::new(images.pixels, images.labels, height, width);
        let class_count = images.class_names.all().len();
        Ok(Dataset { class_count, class_names: Some(images.class_names), ..dataset })
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
        let class_count = labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
        let (number, class_names) = (Unique::next(), None);
        Dataset { images, labels, height, width, class_count, class_names, number, hash }
    }

    /// Two datasets, of which the first has `fraction` of the images, of each class its share; both have the classes of
    /// this one and its images in their order.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<[Dataset; 2]> {
        let of_first = split::choose(&self.labels, &self.class_counts(), fraction, seed)?;
        Ok([self.part(&of_first, true)?, self.part(&of_first, false)?])
    }

    /// The images for which `choice` is `chosen`.
    fn part(&self, choice: &[bool], chosen: bool) -> Result<Dataset> {
        let count = choice.iter().filter(|&&choice| choice == chosen).count();
        let size = self.images.len() / self.count();
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        reserve(&mut images, count * size)?;
        reserve(&mut labels, count)?;
        for (i, _) in choice.iter().enumerate().filter(|(_, choice)| **choice == chosen) {
            images.extend_from_slice(&self.images[i * size..(i + 1) * size]);
            labels.push(self.labels[i]);
        }
        let part = Dataset::new(images, labels, self.height, self.width);
        let class_names = self.class_names.clone();
        Ok(Dataset { class_count: self.class_count, class_names, ..part })
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

    /// The largest label + 1, or as many as there were folders; of a part of a split that of the whole.
    pub fn class_count(&self) -> usize {
        self.class_count
    }

    pub fn class_names(&self) -> Option<&ClassNames> {
        self.class_names.as_ref()
    }

    /// Images of each class.
    pub fn class_counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.class_count];
        self.labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
        counts
    }

    /// Mean and standard deviation of all pixels / 255. How often each value occurs is exact, so nothing is lost in
    /// adding up.
    pub fn statistics(&self) -> (f64, f64) {
        let mut counts = [0u64; 256];
        self.images.iter().for_each(|&pixel| counts[usize::from(pixel)] += 1);
        let mean_of = |of: &dyn Fn(f64) -> f64| {
            let sum: f64 =
                (0..).zip(&counts).map(|(v, &n)| of(f64::from(v) / 255.0) * n as f64).sum();
            sum / self.images.len() as f64
        };
        let mean = mean_of(&|x| x);
        (mean, mean_of(&|x| (x - mean) * (x - mean)).sqrt())
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
