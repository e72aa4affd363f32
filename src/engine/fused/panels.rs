//! The linear layers' weight gradients. Every chunk leaves its layers' inputs and the gradients of
//! their outputs, image-major, in a panel; then each weight's gradient is summed over the images in
//! their order, whoever computes it.

use super::chunk::{Chunk, images_per_chunk, linear_sizes};
use super::kernels::{OUTPUTS, POSITIONS};
use super::memory::take;
use crate::architecture::Architecture;
use pulp::{Simd, bytemuck};
use std::ops::Range;

/// Sizes of a panel's parts, in floats.
#[derive(Clone, Copy)]
pub struct PanelShape {
    images: usize,
    /// Of each layer, the inputs, in blocks of `POSITIONS` vectors, and outputs, in blocks of `OUTPUTS`.
    inputs: [usize; 3],
    outputs: [usize; 3],
    input_block: usize,
}

impl PanelShape {
    pub fn new<S: Simd>(architecture: Architecture) -> Self {
        let input_block = POSITIONS * S::F32_LANES;
        let sizes = linear_sizes(architecture);
        PanelShape {
            images: images_per_chunk::<S>(),
            inputs: sizes.map(|(inputs, _)| inputs.next_multiple_of(input_block)),
            outputs: sizes.map(|(_, outputs)| outputs.next_multiple_of(OUTPUTS)),
            input_block,
        }
    }

    /// Floats of a panel, in whole vectors.
    pub fn floats(&self) -> usize {
        let features: usize = self.inputs.iter().chain(&self.outputs).sum();
        (features * self.images).next_multiple_of(self.input_block)
    }
}

/// Keeps a chunk's linear layers in a panel. The shape's sizes are written out where constants make the
/// copying faster.
#[inline(always)]
pub fn fill<S: Simd>(shape: &PanelShape, chunk: &Chunk<S>, panel: &mut [f32]) {
    let mut rest = panel;
    for layer in 0..3 {
        let (values, gradients) = chunk.linear_layer(layer);
        let inputs = take(&mut rest, shape.inputs[layer] * shape.images);
        transpose(values, images_per_chunk::<S>(), POSITIONS * S::F32_LANES, inputs);
        let outputs = take(&mut rest, shape.outputs[layer] * shape.images);
        transpose(gradients, images_per_chunk::<S>(), OUTPUTS, outputs);
    }
}

/// (features, images) to [block of features][image][feature in the block].
#[inline(always)]
fn transpose(from: &[f32], images: usize, block: usize, to: &mut [f32]) {
    for (from, to) in from.chunks(block * images).zip(to.chunks_exact_mut(block * images)) {
        for (image, row) in to.chunks_exact_mut(block).enumerate() {
            for (place, feature) in row.iter_mut().zip(from.chunks_exact(images)) {
                *place = feature[image];
            }
        }
    }
}

/// The panels of `images` images, one behind the other.
#[derive(Clone, Copy)]
pub struct Panels<'a> {
    pub shape: PanelShape,
    pub panels: &'a [f32],
    pub images: usize,
}

impl Panels<'_> {
    /// The `len` floats at `start` of each panel with its number of images.
    #[inline(always)]
    fn parts(&self, start: usize, len: usize) -> impl Iterator<Item = (&[f32], usize)> {
        let parts = self.panels.chunks_exact(self.shape.floats()).map(move |p| &p[start..][..len]);
        let per_panel = self.shape.images;
        let images = (0..self.images).step_by(per_panel);
        parts.zip(images.map(move |first| per_panel.min(self.images - first)))
    }

    /// Sets, or if `add` adds to, the gradient of some outputs' weights and biases.
    #[inline(always)]
    pub fn gradient<S: Simd>(
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
            for first in outputs.clone().step_by(OUTPUTS) {
                let d_start = first_output + first * images;
                let mut sums = [[simd.splat_f32s(0.0); POSITIONS]; OUTPUTS];
                let x_parts = self.parts(x_start, shape.input_block * images);
                let d_parts = self.parts(d_start, OUTPUTS * images);
                for ((x, n), (deltas, _)) in x_parts.zip(d_parts) {
                    let x = &bytemuck::cast_slice::<_, S::f32s>(x).as_chunks::<POSITIONS>().0[..n];
                    let deltas = &deltas.as_chunks::<OUTPUTS>().0[..n];
                    sums = add_products(simd, deltas, x, sums);
                }
                let rows = weights[(first - outputs.start) * inputs..].chunks_exact_mut(inputs);
                for (row, sum) in rows.zip(&sums) {
                    let sum: &[f32] = bytemuck::cast_slice(sum);
                    row[start..start + count].iter_mut().zip(sum).for_each(|(g, s)| *g += s);
                }
            }
        }
        for first in outputs.clone().step_by(OUTPUTS) {
            let bias = &mut bias[first - outputs.start..];
            for (deltas, n) in self.parts(first_output + first * images, OUTPUTS * images) {
                for deltas in deltas.chunks_exact(OUTPUTS).take(n) {
                    bias.iter_mut().zip(deltas).for_each(|(b, d)| *b += d);
                }
            }
        }
    }
}

type Sums<V> = [[V; POSITIONS]; OUTPUTS];

/// `sums`, which is in registers meanwhile, and the products of each image's gradients and inputs.
#[inline(always)]
fn add_products<S: Simd>(
    simd: S,
    deltas: &[[f32; OUTPUTS]],
    x: &[[S::f32s; POSITIONS]],
    mut sums: Sums<S::f32s>,
) -> Sums<S::f32s> {
    for (deltas, x) in deltas.iter().zip(x) {
        for a in 0..OUTPUTS {
            let delta = simd.splat_f32s(deltas[a]);
            for b in 0..POSITIONS {
                sums[a][b] = simd.mul_add_e_f32s(delta, x[b], sums[a][b]);
            }
        }
    }
    sums
}
