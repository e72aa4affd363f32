//! What a chunk leaves for the gradient. Of the linear layers that is a panel: their inputs, packed by image, and
//! the gradients of their outputs, as they lie. Their weights' gradient is the product of those two (a GEMM),
//! summed over the images in their order, whoever computes it.

use crate::architecture::Architecture;
use crate::batch::Seen;
use crate::engine::fused::layers::chunk::{Chunk, images_per_chunk, linear_sizes};
use crate::engine::fused::layers::convolution::SUMS;
use crate::engine::fused::vectors::memory::{Memory, take};
use crate::engine::fused::vectors::registers::{OUTPUTS, avx512};
use crate::error::Result;
use pulp::{Simd, bytemuck};
use std::ops::Range;

/// Outputs that are summed at once where there are registers for them; elsewhere half as many.
pub const MOST_OUTPUTS: usize = 2 * OUTPUTS;

/// What one chunk adds to the gradient.
pub struct Partial {
    pub seen: Seen,
    /// For the convolutions' gradient.
    pub sums: Memory,
    pub panel: Memory,
}

impl Partial {
    pub fn zeros(shape: &PanelShape) -> Result<Self> {
        let (sums, panel) = (Memory::zeros(SUMS)?, Memory::zeros(shape.floats())?);
        Ok(Partial { seen: Seen::default(), sums, panel })
    }
}

/// Sizes of a panel's parts, in floats.
#[derive(Clone, Copy)]
pub struct PanelShape {
    images: usize,
    /// Of each layer, the inputs, in blocks of `T` vectors, and outputs, in groups of `OUTPUTS`.
    inputs: [usize; 3],
    outputs: [usize; 3],
    input_block: usize,
}

impl PanelShape {
    pub fn new<S: Simd, const T: usize>(architecture: Architecture) -> Self {
        let input_block = T * S::F32_LANES;
        let sizes = linear_sizes(architecture);
        PanelShape {
            images: images_per_chunk::<S, T>(),
            inputs: sizes.map(|(inputs, _)| inputs.next_multiple_of(input_block)),
            outputs: sizes.map(|(_, outputs)| outputs.next_multiple_of(MOST_OUTPUTS)),
            input_block,
        }
    }

    /// Floats of a panel, in whole vectors.
    fn floats(&self) -> usize {
        let features: usize = self.inputs.iter().chain(&self.outputs).sum();
        (features * self.images).next_multiple_of(self.input_block)
    }
}

/// Keeps a chunk's linear layers in a panel.
#[inline(always)]
pub fn fill<S: Simd, const T: usize>(
    simd: S,
    shape: &PanelShape,
    chunk: &Chunk<S, T>,
    panel: &mut [f32],
) {
    let mut rest = panel;
    for layer in 0..3 {
        let (values, gradients) = chunk.linear_layer(layer);
        let inputs = take(&mut rest, shape.inputs[layer] * shape.images);
        if S::F32_LANES < SIDE {
            transpose(bytemuck::cast_slice(values), shape.images, shape.input_block, inputs);
        } else {
            transpose_squares::<S, T>(simd, values, inputs);
        }
        let outputs = take(&mut rest, shape.outputs[layer] * shape.images);
        let gradients: &[f32] = bytemuck::cast_slice(gradients);
        outputs[..gradients.len()].copy_from_slice(gradients);
    }
}

/// (features, images) to [block of features][image][feature in the block].
fn transpose(from: &[f32], images: usize, block: usize, to: &mut [f32]) {
    for (from, to) in from.chunks(block * images).zip(to.chunks_exact_mut(block * images)) {
        for (image, row) in to.chunks_exact_mut(block).enumerate() {
            for (place, feature) in row.iter_mut().zip(from.chunks_exact(images)) {
                *place = feature[image];
            }
        }
    }
}

/// Features and images of a square that is transposed in registers.
const SIDE: usize = 4;

/// The same by squares: a vector has some side by side. The number of features is a multiple of `SIDE`.
#[inline(always)]
fn transpose_squares<S: Simd, const T: usize>(simd: S, from: &[S::f32s], to: &mut [f32]) {
    let block = T * S::F32_LANES;
    let features = from.as_chunks::<T>().0.as_chunks::<SIDE>().0;
    let to = to.as_chunks_mut::<SIDE>().0;
    for (i, features) in features.iter().enumerate() {
        let first = i * SIDE / block * block * images_per_chunk::<S, T>() + i * SIDE % block;
        for tile in 0..T {
            // Of each square's images the first; the second; ...
            let mut squares = [features[0][tile]; SIDE];
            for (square, feature) in squares.iter_mut().zip(features) {
                *square = feature[tile];
            }
            let squares = simd.deinterleave_shfl_f32s(squares);
            for (k, squares) in squares.iter().enumerate() {
                let squares: &[f32] = bytemuck::cast_slice(std::slice::from_ref(squares));
                for (square, &row) in squares.as_chunks::<SIDE>().0.iter().enumerate() {
                    let image = tile * S::F32_LANES + square * SIDE + k;
                    to[(first + image * block) / SIDE] = row;
                }
            }
        }
    }
}

/// The panels of `images` images.
#[derive(Clone, Copy)]
pub struct Panels<'a> {
    pub shape: PanelShape,
    pub partials: &'a [Partial],
    pub images: usize,
}

impl Panels<'_> {
    /// Each panel with its number of images.
    #[inline(always)]
    fn panels(&self) -> impl Iterator<Item = (&[f32], usize)> {
        let per_panel = self.shape.images;
        let images = (0..self.images).step_by(per_panel);
        let images = images.map(move |first| per_panel.min(self.images - first));
        self.partials.iter().map(|partial| partial.panel.get()).zip(images)
    }

    /// Sets, or if `add` adds to, the gradient of some outputs' weights and biases.
    #[inline(always)]
    pub fn gradient<S: Simd, const T: usize>(
        &self,
        simd: S,
        layer: usize,
        outputs: Range<usize>,
        add: bool,
        weights: &mut [f32],
        bias: &mut [f32],
    ) {
        if avx512::<S>() {
            self.gradient_by::<S, T, MOST_OUTPUTS>(simd, layer, outputs, add, weights, bias);
        } else {
            self.gradient_by::<S, T, OUTPUTS>(simd, layer, outputs, add, weights, bias);
        }
    }

    #[inline(always)]
    fn gradient_by<S: Simd, const T: usize, const A: usize>(
        &self,
        simd: S,
        layer: usize,
        outputs: Range<usize>,
        add: bool,
        weights: &mut [f32],
        bias: &mut [f32],
    ) {
        let shape = &self.shape;
        let before: usize = (0..layer).map(|l| shape.inputs[l] + shape.outputs[l]).sum();
        let (first_input, images) = (before * shape.images, shape.images);
        let first_output = first_input + shape.inputs[layer] * images;
        let inputs = weights.len() / outputs.len();
        if !add {
            weights.fill(0.0);
            bias.fill(0.0);
        }
        for start in (0..inputs).step_by(shape.input_block) {
            let x_start = first_input + start * images;
            let count = shape.input_block.min(inputs - start);
            for first in outputs.clone().step_by(A) {
                let d_start = first_output + first * images;
                let sums = self.products::<S, T, A>(simd, x_start, d_start);
                let rows = weights[(first - outputs.start) * inputs..].chunks_exact_mut(inputs);
                for (row, sum) in rows.zip(&sums) {
                    let sum: &[f32] = bytemuck::cast_slice(sum);
                    row[start..start + count].iter_mut().zip(sum).for_each(|(g, s)| *g += s);
                }
            }
        }
        for (output, bias) in outputs.zip(bias) {
            let mut sum = simd.splat_f32s(0.0);
            for (panel, n) in self.panels() {
                // Lanes without an image have gradient zero. A tile without any image is left out: its
                // memory holds what an earlier batch wrote.
                let deltas = &panel[first_output + output * images..][..images];
                let used = n.div_ceil(S::F32_LANES);
                for &deltas in &bytemuck::cast_slice::<_, S::f32s>(deltas)[..used] {
                    sum = simd.add_f32s(sum, deltas);
                }
            }
            *bias += simd.reduce_sum_f32s(sum);
        }
    }

    /// The sums over all images of the products of a block of inputs, which begins at `x` in every panel, and `A`
    /// gradients, which begin at `deltas`.
    #[inline(always)]
    fn products<S: Simd, const T: usize, const A: usize>(
        &self,
        simd: S,
        x: usize,
        deltas: usize,
    ) -> [[S::f32s; T]; A] {
        let images = images_per_chunk::<S, T>();
        let mut sums = [[simd.splat_f32s(0.0); T]; A];
        for (panel, n) in self.panels() {
            let x = &panel[x..][..n * T * S::F32_LANES];
            let deltas = &panel[deltas..][..A * images];
            for (i, x) in S::as_simd_f32s(x).0.as_chunks::<T>().0.iter().enumerate() {
                let deltas = &deltas[i..][..(A - 1) * images + 1];
                for a in 0..A {
                    let delta = simd.splat_f32s(deltas[a * images]);
                    for b in 0..T {
                        sums[a][b] = simd.mul_add_e_f32s(delta, x[b], sums[a][b]);
                    }
                }
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fused::every_level;
    use pulp::WithSimd;

    struct Features<const T: usize>(usize);

    impl<const T: usize> WithSimd for Features<T> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            if S::F32_LANES < SIDE {
                return; // no squares
            }
            let (block, images) = (T * S::F32_LANES, images_per_chunk::<S, T>());
            let from: Vec<f32> = (0..self.0 * images).map(|i| i as f32).collect();
            let mut out = [0, 1].map(|_| vec![-1.0; self.0.next_multiple_of(block) * images]);
            transpose(&from, images, block, &mut out[0]);
            transpose_squares::<S, T>(simd, bytemuck::cast_slice(&from), &mut out[1]);
            assert!(out[0] == out[1]);
        }
    }

    #[test]
    fn features_are_transposed_for_every_number_of_squares() {
        for level in every_level() {
            for features in (4..=68).step_by(4) {
                level.dispatch(Features::<1>(features));
                level.dispatch(Features::<2>(features));
            }
        }
    }
}
