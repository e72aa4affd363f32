//! A batch, and its pixels into lanes: converted, normalized and gathered in one go.

use super::views;
use crate::architecture::Architecture;
use crate::batch::{Images, Normalization, Pixels, float_of_byte};
use crate::engine::fused::threads::Pool;
use crate::engine::fused::vectors::registers::avx512;
use crate::error::Result;
use crate::unique::Unique;
use pulp::{Simd, bytemuck};
use std::ops::Range;

/// Lanes of the longest vectors.
const MOST_LANES: usize = 16;

/// What all passes need to know.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    pub architecture: Architecture,
    /// All parameters, flat.
    pub flat: &'a [f32],
    pub version: Unique,
    pub images: &'a Images<'a>,
    pub loader: &'a Loader,
    pub pool: &'a Pool,
}

impl<'a> Batch<'a> {
    /// Refuses images in this range that no pixels can be.
    #[inline(always)]
    pub fn check_pixels(&self, range: Range<usize>) -> Result<()> {
        self.images.check_pixels(range, self.architecture.width(), self.loader.normalization)
    }

    /// Floats of memory that a source of so many images takes.
    pub fn source_floats(&self, images: usize) -> usize {
        if self.images.views.is_some() { views::floats(self.architecture, images) } else { 0 }
    }

    /// Where a tile has these images of the batch from, each lane one: the image's number.
    #[inline(always)]
    pub fn source<S: Simd>(
        &self,
        simd: S,
        number: impl Fn(usize) -> usize,
        memory: &'a mut [f32],
    ) -> Source<'a> {
        let numbers: [usize; MOST_LANES] = std::array::from_fn(number);
        let (pixels, starts) = self.seen(simd, &numbers[..S::F32_LANES], memory);
        self.source_of(pixels, starts.map(|start| (start, 0)))
    }

    /// Where a tile has a single image from, each lane a band of so many rows.
    #[inline(always)]
    pub fn source_of_bands<S: Simd>(
        &self,
        simd: S,
        number: usize,
        rows: usize,
        memory: &'a mut [f32],
    ) -> Source<'a> {
        let (pixels, [start, ..]) = self.seen(simd, &[number], memory);
        self.source_of(pixels, std::array::from_fn(|lane| (start, lane * rows)))
    }

    fn source_of(&self, pixels: Pixels<'a>, lanes: [(usize, usize); MOST_LANES]) -> Source<'a> {
        let (size, padding) = (self.images.size, self.architecture.padding());
        Source { loader: self.loader, pixels, size, padding, lanes }
    }

    /// Where the pixels of these images are, as they are seen, and begin.
    #[inline(always)]
    fn seen<S: Simd>(
        &self,
        simd: S,
        numbers: &[usize],
        memory: &'a mut [f32],
    ) -> (Pixels<'a>, [usize; MOST_LANES]) {
        let Batch { architecture, images, .. } = *self;
        match images.views {
            None => {
                let start = |lane: usize| numbers.get(lane).map_or(0, |&i| images.start(i));
                (images.pixels, std::array::from_fn(start))
            }
            Some(views) => {
                let pixels =
                    simd.vectorize(views::Seen { architecture, images, views, numbers, memory });
                (pixels, std::array::from_fn(|lane| lane * images.size))
            }
        }
    }
}

pub struct Loader {
    normalization: Normalization,
    /// What the network sees of each byte.
    of_byte: [f32; 256],
}

impl Loader {
    pub fn new(normalization: Normalization) -> Self {
        let of_byte = std::array::from_fn(|byte| normalization.of(float_of_byte(byte as u8)));
        Loader { normalization, of_byte }
    }
}

/// Where a tile has its images from.
pub struct Source<'a> {
    pub loader: &'a Loader,
    pub pixels: Pixels<'a>,
    /// Pixels of one image.
    pub size: usize,
    pub padding: usize,
    /// Of each lane where its image's pixels begin, and that image's row that is the tile's first.
    pub lanes: [(usize, usize); MOST_LANES],
}

impl Source<'_> {
    /// Row `y` of the padded tile, as the network sees it, into `out`, which is zero at the borders.
    /// False if it is outside of all images.
    #[inline(always)]
    pub fn row<S: Simd>(&self, simd: S, y: usize, out: &mut [S::f32s]) -> bool {
        let Loader { normalization, of_byte } = self.loader;
        match self.pixels {
            Pixels::Byte(pixels) => {
                self.gather(simd, pixels, y, out, |pixel| of_byte[usize::from(pixel)])
            }
            Pixels::Float(pixels) if normalization.is_identity() => {
                self.gather(simd, pixels, y, out, |pixel| pixel)
            }
            Pixels::Float(pixels) => {
                self.gather(simd, pixels, y, out, |pixel| normalization.of(pixel))
            }
        }
    }

    /// Into the lanes; those that the row is outside of see zero.
    #[inline(always)]
    fn gather<S: Simd, P: Copy>(
        &self,
        simd: S,
        pixels: &[P],
        y: usize,
        out: &mut [S::f32s],
        value: impl Fn(P) -> f32,
    ) -> bool {
        let width = out.len() - 2 * self.padding;
        let height = self.size / width;
        let mut rows = [&pixels[..width]; MOST_LANES];
        let mut inside = [0.0; MOST_LANES];
        for lane in 0..S::F32_LANES {
            let (start, top) = self.lanes[lane];
            let row = (top + y).wrapping_sub(self.padding);
            if row < height {
                inside[lane] = 1.0;
            }
            rows[lane] = &pixels[start + row.min(height - 1) * width..][..width];
        }
        if inside == [0.0; MOST_LANES] {
            return false;
        }
        let out = &mut out[self.padding..][..width];
        if avx512::<S>() {
            transposed(simd, &rows, out, value);
        } else {
            pixel_by_pixel::<S, P>(&rows, out, value);
        }
        if inside[..S::F32_LANES].contains(&0.0) {
            let inside = S::as_simd_f32s(&inside).0[0];
            for place in out {
                *place = simd.mul_f32s(*place, inside);
            }
        }
        true
    }
}

/// Pixel `x` of each row into vector `x`.
#[inline(always)]
fn pixel_by_pixel<S: Simd, P: Copy>(
    rows: &[&[P]; MOST_LANES],
    out: &mut [S::f32s],
    value: impl Fn(P) -> f32,
) {
    for (x, place) in out.iter_mut().enumerate() {
        let mut values = [0.0; MOST_LANES];
        for lane in 0..S::F32_LANES {
            values[lane] = value(rows[lane][x]);
        }
        *place = S::as_simd_f32s(&values).0[0];
    }
}

/// The same by squares of four rows and four pixels, which takes less time where rows are many.
#[inline(always)]
fn transposed<S: Simd, P: Copy>(
    simd: S,
    rows: &[&[P]; MOST_LANES],
    out: &mut [S::f32s],
    value: impl Fn(P) -> f32,
) {
    let (width, lanes) = (out.len(), S::F32_LANES);
    for first in (0..width).step_by(lanes) {
        // The last ones of a row once more, rather than fewer than a vector holds.
        let first = first.min(width - lanes);
        let places: &mut [f32] = bytemuck::cast_slice_mut(&mut out[first..][..lanes]);
        let places = places.as_chunks_mut::<4>().0;
        for (i, rows) in rows[..lanes].as_chunks::<4>().0.iter().enumerate() {
            let mut images = [simd.splat_f32s(0.0); 4];
            for (image, row) in images.iter_mut().zip(rows) {
                let mut values = [0.0; MOST_LANES];
                for (place, &pixel) in values.iter_mut().zip(&row[first..][..lanes]) {
                    *place = value(pixel);
                }
                *image = S::as_simd_f32s(&values).0[0];
            }
            // Of every four pixels the first, of all four rows; the second; ...
            for (k, fours) in simd.deinterleave_shfl_f32s(images).into_iter().enumerate() {
                let fours = [fours];
                let fours = bytemuck::cast_slice::<_, f32>(&fours).as_chunks::<4>().0;
                for (j, &four) in fours.iter().enumerate() {
                    places[(4 * j + k) * (lanes / 4) + i] = four;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fused::every_level;
    use pulp::WithSimd;

    struct Rows(usize);

    impl WithSimd for Rows {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            if S::F32_LANES < 4 {
                return; // no squares
            }
            let pixels: Vec<u8> = (0..MOST_LANES * self.0).map(|i| (i * i % 251) as u8).collect();
            let rows = std::array::from_fn(|lane| &pixels[lane * self.0..][..self.0]);
            let mut out = [vec![simd.splat_f32s(7.0); self.0], vec![simd.splat_f32s(9.0); self.0]];
            pixel_by_pixel::<S, u8>(&rows, &mut out[0], f32::from);
            transposed(simd, &rows, &mut out[1], f32::from);
            let [naive, ours] = out.each_ref().map(|out| bytemuck::cast_slice::<_, f32>(out));
            assert_eq!(ours, naive);
        }
    }

    #[test]
    fn rows_are_transposed_for_every_width() {
        for level in every_level() {
            for width in (16..=64).step_by(4) {
                level.dispatch(Rows(width));
            }
        }
    }
}
