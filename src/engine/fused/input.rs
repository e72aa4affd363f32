//! Pixels into lanes: converted, normalized and gathered in one go.

use crate::architecture::CONV1_PADDING;
use crate::engine::{Images, Normalization, Pixels};
use pulp::Simd;

/// Lanes of the longest vectors.
const MOST_LANES: usize = 16;

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
}

/// Where a tile has its images from.
pub struct Source<'a> {
    pub loader: &'a Loader,
    pub images: &'a Images<'a>,
    /// Of each lane where its image's pixels begin, and that image's row that is the tile's first.
    pub lanes: [(usize, usize); MOST_LANES],
}

impl Source<'_> {
    /// Row `y` of the padded tile, as the network sees it, into `out`, which is zero at the borders.
    /// False if it is outside of all images.
    #[inline(always)]
    pub fn row<S: Simd>(&self, simd: S, y: usize, out: &mut [S::f32s]) -> bool {
        let Loader { normalization, of_byte } = self.loader;
        match self.images.pixels {
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

    /// Pixel by pixel into the lanes; those that the row is outside of see zero.
    #[inline(always)]
    fn gather<S: Simd, P: Copy>(
        &self,
        simd: S,
        pixels: &[P],
        y: usize,
        out: &mut [S::f32s],
        value: impl Fn(P) -> f32,
    ) -> bool {
        let width = out.len() - 2 * CONV1_PADDING;
        let height = self.images.size / width;
        let mut rows = [&pixels[..width]; MOST_LANES];
        let mut inside = [0.0; MOST_LANES];
        for lane in 0..S::F32_LANES {
            let (start, top) = self.lanes[lane];
            let row = (top + y).wrapping_sub(CONV1_PADDING);
            if row < height {
                inside[lane] = 1.0;
            }
            rows[lane] = &pixels[start + row.min(height - 1) * width..][..width];
        }
        if inside == [0.0; MOST_LANES] {
            return false;
        }
        let inside = S::as_simd_f32s(&inside).0[0];
        for (x, place) in out[CONV1_PADDING..][..width].iter_mut().enumerate() {
            let mut values = [0.0; MOST_LANES];
            for lane in 0..S::F32_LANES {
                values[lane] = value(rows[lane][x]);
            }
            *place = simd.mul_f32s(S::as_simd_f32s(&values).0[0], inside);
        }
        true
    }
}
