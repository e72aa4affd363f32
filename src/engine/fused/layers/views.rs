//! Images as they are seen through their views, for the tile that is about to load them: written one behind the
//! other into memory of the thread that computes it, so they are in its cache and no batch is copied before.

use crate::architecture::Architecture;
use crate::batch::{Images, Pixels};
use crate::view::View;
use pulp::{Simd, WithSimd, bytemuck};

/// Floats of memory for so many of them.
pub fn floats(architecture: Architecture, images: usize) -> usize {
    images * architecture.pixels() + View::bordered_size(size(architecture))
}

fn size(architecture: Architecture) -> [usize; 2] {
    [architecture.height(), architecture.width()]
}

/// Writes those of the batch that `numbers` has, one behind the other.
pub struct Seen<'a, 'r> {
    pub architecture: Architecture,
    pub images: &'a Images<'a>,
    /// Of the whole batch.
    pub views: &'a [View],
    pub numbers: &'a [usize],
    pub memory: &'r mut [f32],
}

impl<'r> WithSimd for Seen<'_, 'r> {
    type Output = Pixels<'r>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Pixels<'r> {
        let Seen { architecture, images, views, numbers, memory } = self;
        let size = size(architecture);
        let (seen, bordered) = memory.split_at_mut(numbers.len() * images.size);
        let resampled = numbers.iter().any(|&i| views[i].is_resampled());
        match images.pixels {
            // Bytes stay bytes, which are a quarter as long.
            Pixels::Byte(pixels) if !resampled => {
                let seen = &mut bytemuck::cast_slice_mut(seen)[..numbers.len() * images.size];
                for (&i, out) in numbers.iter().zip(seen.chunks_exact_mut(images.size)) {
                    let image = &pixels[images.start(i)..][..images.size];
                    views[i].move_pixels(image, size[1], out);
                }
                Pixels::Byte(seen)
            }
            _ => {
                for (&i, out) in numbers.iter().zip(seen.chunks_exact_mut(images.size)) {
                    images.see(i, &views[i], size, bordered, out);
                }
                Pixels::Float(seen)
            }
        }
    }
}
