//! Pixels into lanes: converted, normalized and spread in one go.

use crate::engine::{Images, Normalization, Pixels};
use std::ops::Range;

pub struct Loader {
    normalization: Normalization,
    /// What the network sees of each byte.
    of_byte: [f32; 256],
}

impl Loader {
    pub fn new(normalization: Normalization) -> Self {
        let of_byte = std::array::from_fn(|byte| normalization.of(byte as f32 / 255.0));
        Loader { normalization, of_byte }
    }

    /// Writes some rows of image `i` into rows that begin `row_stride` floats apart, neighbours
    /// `lanes` floats apart.
    #[inline(always)]
    pub fn spread(
        &self,
        images: &Images,
        (i, rows): (usize, Range<usize>),
        width: usize,
        out: &mut [f32],
        row_stride: usize,
        lanes: usize,
    ) {
        let part = rows.start * width..rows.end * width;
        let rows = out.chunks_mut(row_stride).map(|row| row.iter_mut().step_by(lanes));
        match images.image(i) {
            Pixels::Byte(pixels) => {
                for (row, pixels) in rows.zip(pixels[part].chunks_exact(width)) {
                    row.zip(pixels).for_each(|(place, &p)| *place = self.of_byte[usize::from(p)]);
                }
            }
            Pixels::Float(pixels) if self.normalization.is_identity() => {
                for (row, pixels) in rows.zip(pixels[part].chunks_exact(width)) {
                    row.zip(pixels).for_each(|(place, &p)| *place = p);
                }
            }
            Pixels::Float(pixels) => {
                for (row, pixels) in rows.zip(pixels[part].chunks_exact(width)) {
                    row.zip(pixels).for_each(|(place, &p)| *place = self.normalization.of(p));
                }
            }
        }
    }
}
