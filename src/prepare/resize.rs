//! Smaller and larger pictures, antialiased; RESIZE.
//!
//! The filter is a triangle: bilinear interpolation where a picture grows, and where it shrinks the triangle
//! that many times as wide, so that every pixel counts. PIL calls it BILINEAR and OpenCV has no such thing
//! (its INTER_LINEAR takes four pixels however much a picture shrinks).

use super::image::Image;
use crate::allocation::reserve;
use crate::error::{Code, Error, Result};
use fast_image_resize as fir;

/// Resizing with buffers that stay.
#[derive(Default)]
pub struct Resizer {
    resizer: fir::Resizer,
    resized: Vec<u8>,
}

/// Fits a picture into `frame` = [height, width], in the middle, with its aspect kept. What is left free has
/// the median of the picture's outermost pixels. Transparent pixels are seen before black.
pub fn fit(
    image: &Image,
    frame: [usize; 2],
    resizer: &mut Resizer,
    gray: &mut Vec<u8>,
    out: &mut [u8],
) -> Result<()> {
    let size = [image.height(), image.width()];
    gray.clear();
    reserve(gray, size[0] * size[1])?;
    let mut row = Vec::new();
    for y in 0..size[0] {
        gray.extend_from_slice(image.gray_row(y, 0..size[1], 0, &mut row));
    }
    let fitted = fitted(size, frame);
    let resized = resizer.resize(gray, size, fitted)?;
    out.fill(median(outermost(gray, size)));
    let top_left = [(frame[0] - fitted[0]) / 2, (frame[1] - fitted[1]) / 2];
    place(resized, fitted, out, frame, top_left);
    Ok(())
}

/// The pixels of the first and last row and column, each once.
fn outermost(picture: &[u8], [height, width]: [usize; 2]) -> impl Iterator<Item = u8> {
    let last = if height > 1 { &picture[(height - 1) * width..] } else { &[] };
    let sides = picture.chunks_exact(width).take(height - 1).skip(1).flat_map(move |row| {
        let right = (width > 1).then(|| row[width - 1]);
        std::iter::once(row[0]).chain(right)
    });
    picture[..width].iter().chain(last).copied().chain(sides)
}

/// The lower one of the two in the middle where there are two.
fn median(values: impl Iterator<Item = u8>) -> u8 {
    let mut counts = [0usize; 256];
    values.for_each(|value| counts[usize::from(value)] += 1);
    let half = counts.iter().sum::<usize>().div_ceil(2);
    let mut below = 0;
    let at = counts.iter().position(|count| {
        below += count;
        below >= half
    });
    at.unwrap_or(0) as u8
}

impl Resizer {
    /// The picture `from`, of `size`, resized `to`; both are [height, width].
    pub fn resize(&mut self, from: &[u8], size: [usize; 2], to: [usize; 2]) -> Result<&[u8]> {
        let failed = |e: &dyn std::fmt::Display| Error::new(Code::Internal, format!("resize: {e}"));
        let [height, width] = size.map(|side| side as u32);
        let from = fir::images::ImageRef::new(width, height, from, fir::PixelType::U8)
            .map_err(|e| failed(&e))?;
        self.resized.clear();
        self.resized.resize(to[0] * to[1], 0);
        let [height, width] = to.map(|side| side as u32);
        let pixels = &mut self.resized[..];
        let mut to = fir::images::Image::from_slice_u8(width, height, pixels, fir::PixelType::U8)
            .map_err(|e| failed(&e))?;
        let filter = fir::ResizeAlg::Convolution(fir::FilterType::Bilinear);
        let options = fir::ResizeOptions::new().resize_alg(filter).use_alpha(false);
        self.resizer.resize(&from, &mut to, &options).map_err(|e| failed(&e))?;
        Ok(&self.resized)
    }
}

/// The largest size of `size`'s aspect that `frame` has room for, rounded, at least one pixel each way.
pub fn fitted(size: [usize; 2], frame: [usize; 2]) -> [usize; 2] {
    let [height, width] = size;
    // The side that fills the frame is the longer one in relation to it.
    if height * frame[1] >= width * frame[0] {
        [frame[0], rounded(width * frame[0], height)]
    } else {
        [rounded(height * frame[1], width), frame[1]]
    }
}

/// `numerator / denominator`, halves up, at least 1.
pub fn rounded(numerator: usize, denominator: usize) -> usize {
    ((2 * numerator + denominator) / (2 * denominator)).max(1)
}

/// Copies a picture of `size` into `out`, of `frame`, with its corner at `top_left`.
pub fn place(
    picture: &[u8],
    size: [usize; 2],
    out: &mut [u8],
    frame: [usize; 2],
    top_left: [usize; 2],
) {
    let rows = out.chunks_exact_mut(frame[1]).skip(top_left[0]);
    for (row, from) in rows.zip(picture.chunks_exact(size[1])) {
        row[top_left[1]..top_left[1] + size[1]].copy_from_slice(from);
    }
}
