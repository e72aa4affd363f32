//! What passes through an engine: a batch of images where they lie, how their pixels are seen, and what was
//! seen of them. No room knows more words than these to speak of data.

use crate::error::{Code, Error, Result};
use crate::unique::Unique;
use crate::view::View;
use std::ops::Range;

/// What the network sees of a pixel: (pixel - mean) / std.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    pub mean: f64,
    pub std: f64,
}

impl Normalization {
    pub fn is_identity(self) -> bool {
        (self.mean, self.std) == (0.0, 1.0)
    }

    pub fn of(self, pixel: f32) -> f32 {
        (pixel - self.mean as f32) / self.std as f32
    }

    /// The largest magnitude of a float that is taken for a pixel: 100, or what lies 100 standard deviations from
    /// the mean. Hosts may standardize images themselves, and no such pixel comes near; but where someone forgot to
    /// divide by 255, nearly every image has a pixel beyond.
    pub fn largest_pixel(self) -> f32 {
        (self.mean.abs() + 100.0 * self.std).max(100.0) as f32
    }
}

/// Images of one size, row-major, one behind the other.
#[derive(Clone, Copy)]
pub enum Pixels<'a> {
    Float(&'a [f32]),
    /// Bytes 0..=255 that stand for byte / 255.
    Byte(&'a [u8]),
}

/// A batch of images where they lie, in their order or picked by `order`: an engine converts them
/// while it loads them, so no copy of the batch is made before.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    pub pixels: Pixels<'a>,
    /// Pixels of one image.
    pub size: usize,
    /// None: all of them as they lie.
    pub order: Option<Order<'a>>,
    /// `views[i]` is how image i of the batch is seen. None: all of them as they are.
    pub views: Option<&'a [View]>,
}

/// A batch picked from a dataset.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// The images of the batch, as indices into the dataset's pixels.
    pub indices: &'a [u32],
    /// The dataset's number: an engine with memory of its own copies a dataset there once.
    pub dataset: Unique,
    /// Of all its images.
    pub labels: &'a [u8],
}

/// What a byte stands for.
pub fn float_of_byte(byte: u8) -> f32 {
    f32::from(byte) / 255.0
}

/// What a batch is trained towards.
#[derive(Clone, Copy)]
pub struct Targets<'a> {
    /// `labels[i]` belongs to image i.
    pub labels: &'a [u8],
    /// How much each image counts in the loss, at least 0; None: all the same.
    pub weights: Option<&'a [f32]>,
}

impl<'a> Targets<'a> {
    /// Those in this range.
    pub fn part(&self, range: Range<usize>) -> Targets<'a> {
        let weights = self.weights.map(|weights| &weights[range.clone()]);
        Targets { labels: &self.labels[range], weights }
    }

    /// Refuses weights that no mean can be made with.
    pub fn check_weights(&self) -> Result<()> {
        let Some(weights) = self.weights else { return Ok(()) };
        check_finite("weights", weights)?;
        if let Some(i) = weights.iter().position(|&weight| weight < 0.0) {
            let message = format!("weights[{i}] is {}; a weight must be at least 0", weights[i]);
            return Err(Error::invalid(message));
        }
        if weights.iter().all(|&weight| weight == 0.0) {
            return Err(Error::invalid("all weights are 0; there is no mean loss of such a batch"));
        }
        Ok(())
    }

    /// What the images have of the batch's loss; None: all the same. Equal weights, whatever they are, are as none, so
    /// that nothing is rounded otherwise.
    pub fn shares(&self) -> Option<Shares<'a>> {
        let weights = self.weights?;
        let (first, others) = weights.split_first()?;
        if others.iter().all(|weight| weight == first) {
            return None;
        }
        let sum: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        Some(Shares { weights, scale: weights.len() as f64 / sum })
    }
}

/// Weights by their mean: a batch's loss is the mean over its images of share * loss.
#[derive(Clone, Copy)]
pub struct Shares<'a> {
    weights: &'a [f32],
    scale: f64,
}

impl Shares<'_> {
    /// Of image `i` of the batch.
    pub fn of(&self, i: usize) -> f64 {
        f64::from(self.weights[i]) * self.scale
    }
}

impl<'a> Pixels<'a> {
    fn part(self, range: Range<usize>) -> Self {
        match self {
            Pixels::Float(pixels) => Pixels::Float(&pixels[range]),
            Pixels::Byte(pixels) => Pixels::Byte(&pixels[range]),
        }
    }
}

impl<'a> Images<'a> {
    pub fn count(&self) -> usize {
        match (self.order, self.pixels) {
            (Some(order), _) => order.indices.len(),
            (None, Pixels::Float(pixels)) => pixels.len() / self.size,
            (None, Pixels::Byte(pixels)) => pixels.len() / self.size,
        }
    }

    /// The images of the batch in this range.
    pub fn part(&self, range: Range<usize>) -> Images<'a> {
        let views = self.views.map(|views| &views[range.clone()]);
        match self.order {
            Some(order) => {
                let order = Some(Order { indices: &order.indices[range], ..order });
                Images { order, views, ..*self }
            }
            None => {
                let pixels = self.pixels.part(range.start * self.size..range.end * self.size);
                Images { pixels, views, ..*self }
            }
        }
    }

    /// Where the pixels of image `i` of the batch begin.
    pub fn start(&self, i: usize) -> usize {
        self.order.map_or(i, |order| order.indices[i] as usize) * self.size
    }

    /// Writes as floats what is seen of image `i` through a view. `bordered` is room of `View::bordered_size`.
    #[inline(always)]
    pub fn see(
        &self,
        i: usize,
        view: &View,
        size: [usize; 2],
        bordered: &mut [f32],
        out: &mut [f32],
    ) {
        let range = self.start(i)..self.start(i) + self.size;
        match self.pixels {
            // A view that moves whole pixels only gives them as they are here, too.
            Pixels::Byte(pixels) => {
                view.resample(&pixels[range], size, float_of_byte, bordered, out);
            }
            Pixels::Float(pixels) if view.is_resampled() => {
                view.resample(&pixels[range], size, |pixel| pixel, bordered, out);
            }
            Pixels::Float(pixels) => view.move_pixels(&pixels[range], size[1], out),
        }
    }

    /// Refuses those in this range that have a pixel which is not finite, or too large to be one; `width` is that
    /// of an image.
    #[inline(always)]
    pub fn check_pixels(
        &self,
        range: Range<usize>,
        width: usize,
        normalization: Normalization,
    ) -> Result<()> {
        let Pixels::Float(pixels) = self.pixels else { return Ok(()) };
        let largest = normalization.largest_pixel().min(f32::MAX);
        for i in range {
            let image = &pixels[self.start(i)..][..self.size];
            // What is not a number is not within either.
            if let Some(at) = first_beyond(image, largest) {
                let value = image[at];
                let (row, column) = (at / width, at % width);
                let place = format!("images[{i}] is {value} at row {row}, column {column}");
                return Err(match value.is_finite() {
                    false => Error::new(Code::NonFinite, place),
                    true => Error::invalid(format!(
                        "{place}; pixels of this model are from {} to {largest}: divide values of 0..255 by 255, or pass bytes",
                        -largest
                    )),
                });
            }
        }
        Ok(())
    }
}

/// What a pass forward and backward over a batch sees.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Mean softmax cross-entropy over the batch, by the images' weights.
    pub loss: f64,
    /// Images, whatever their weights, whose largest logit is that of their label.
    pub correct: usize,
}

impl Seen {
    /// Whether the loss is, as the f32 that callers get.
    pub fn is_finite(&self) -> bool {
        (self.loss as f32).is_finite()
    }
}

/// The range in pieces of `size`, the last one perhaps smaller.
pub fn chunks(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(size).map(move |start| start..end.min(start + size))
}

/// The index of the first value that is infinite or not a number.
pub fn first_not_finite(values: &[f32]) -> Option<usize> {
    first_beyond(values, f32::MAX)
}

/// The index of the first value that is not from -largest to largest; inlined, so that a kernel's vectors are
/// used for it.
#[inline(always)]
fn first_beyond(values: &[f32], largest: f32) -> Option<usize> {
    // Blocks without a way out in the middle, which the compiler makes vectors of.
    const BLOCK: usize = 256;
    let within = |x: &f32| x.abs() <= largest;
    let bad = |block: &[f32]| block.iter().fold(false, |bad, x| bad | !within(x));
    let block = values.chunks(BLOCK).position(bad)?;
    let beyond = values[block * BLOCK..].iter().position(|x| !within(x))?;
    Some(block * BLOCK + beyond)
}

/// Refuses values that are not finite, by index.
pub fn check_finite(name: &str, values: &[f32]) -> Result<()> {
    match first_not_finite(values) {
        None => Ok(()),
        Some(i) => Err(Error::new(Code::NonFinite, format!("{name}[{i}] is {}", values[i]))),
    }
}

/// Index of the largest logit, the first one among equals.
pub fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (class, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = class;
        }
    }
    best
}
