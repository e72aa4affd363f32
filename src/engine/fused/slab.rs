//! What the linear layers' weight gradients are made of, image-major, for a slab of images: each
//! weight then sums over the images in their order, whoever computes it.

use super::chunk::Chunk;
use super::kernels::{OUTPUTS, POSITIONS, linear_weights};
use super::threads::share;
use crate::architecture::{Architecture, FC1_FEATURES, FC2_FEATURES};
use pulp::{Simd, bytemuck};
use std::ops::Range;

pub struct Slab<S: Simd> {
    simd: S,
    architecture: Architecture,
    layers: [Layer<S::f32s>; 3],
}

struct Layer<V> {
    shape: LayerShape,
    /// (images, inputs), rows padded with zeros to whole pairs of vectors.
    values: Vec<V>,
    /// (images, outputs)
    gradients: Vec<f32>,
}

#[derive(Clone, Copy)]
struct LayerShape {
    inputs: usize,
    outputs: usize,
    /// Vectors in a row of `values`.
    stride: usize,
}

/// Some neighbouring images of a slab, for one thread to write.
pub struct Rows<'a, V>([LayerRows<'a, V>; 3]);

struct LayerRows<'a, V> {
    shape: LayerShape,
    values: &'a mut [V],
    gradients: &'a mut [f32],
}

impl<S: Simd> Slab<S> {
    #[inline(always)]
    pub fn new(simd: S, architecture: Architecture, images: usize) -> Self {
        let layer = |inputs: usize, outputs: usize| {
            let stride = inputs.div_ceil(POSITIONS * S::F32_LANES) * POSITIONS;
            let values = vec![simd.splat_f32s(0.0); images * stride];
            let shape = LayerShape { inputs, outputs, stride };
            Layer { shape, values, gradients: vec![0.0; images * outputs] }
        };
        let layers = [
            layer(architecture.features(), FC1_FEATURES),
            layer(FC1_FEATURES, FC2_FEATURES),
            layer(FC2_FEATURES, architecture.classes()),
        ];
        Slab { simd, architecture, layers }
    }

    pub fn rows(&mut self) -> Rows<'_, S::f32s> {
        Rows(self.layers.each_mut().map(|layer| LayerRows {
            shape: layer.shape,
            values: &mut layer.values,
            gradients: &mut layer.gradients,
        }))
    }

    /// Adds the weights' and biases' gradients over the first `images` images to the flat `gradient`.
    pub fn add_weight_gradients(&self, images: usize, gradient: &mut [f32], threads: usize) {
        let specs = self.architecture.parameters();
        let mut rest = &mut gradient[specs[4].offset..];
        let mut jobs = Vec::new();
        for layer in &self.layers {
            let LayerShape { inputs, outputs, .. } = layer.shape;
            let (mut weights, after) = rest.split_at_mut(outputs * inputs);
            let (bias, after) = after.split_at_mut(outputs);
            rest = after;
            for row in layer.gradients.chunks_exact(outputs).take(images) {
                bias.iter_mut().zip(row).for_each(|(b, d)| *b += d);
            }
            // Whole blocks of the kernel for each job.
            let block = outputs.div_ceil(threads).next_multiple_of(OUTPUTS);
            for first in (0..outputs).step_by(block) {
                let block = first..outputs.min(first + block);
                let (own, others) = weights.split_at_mut(block.len() * inputs);
                weights = others;
                jobs.push(move || self.weight_gradients(layer, images, block, own));
            }
        }
        share(threads, jobs);
    }

    fn weight_gradients(
        &self,
        layer: &Layer<S::f32s>,
        images: usize,
        block: Range<usize>,
        gradient: &mut [f32],
    ) {
        let (simd, LayerShape { inputs, outputs, stride }) = (self.simd, layer.shape);
        simd.vectorize(
            #[inline(always)]
            || {
                let deltas = (&layer.gradients[..images * outputs], outputs);
                linear_weights(simd, deltas, block, (&layer.values, stride), inputs, gradient);
            },
        );
    }
}

impl<'a, V> Rows<'a, V> {
    /// The first `images` images, and the rest.
    pub fn split_at(self, images: usize) -> (Self, Self) {
        let [(a, x), (b, y), (c, z)] = self.0.map(|layer| {
            let LayerShape { outputs, stride, .. } = layer.shape;
            let (values, later_values) = layer.values.split_at_mut(images * stride);
            let (gradients, later_gradients) = layer.gradients.split_at_mut(images * outputs);
            (
                LayerRows { values, gradients, ..layer },
                LayerRows { shape: layer.shape, values: later_values, gradients: later_gradients },
            )
        });
        (Rows([a, b, c]), Rows([x, y, z]))
    }

    /// Keeps image `i` of the chunk as image `n` of these.
    #[inline(always)]
    pub fn keep<S: Simd<f32s = V>>(&mut self, chunk: &Chunk<S>, i: usize, n: usize)
    where
        V: bytemuck::Pod,
    {
        for (l, layer) in self.0.iter_mut().enumerate() {
            let LayerShape { inputs, outputs, stride } = layer.shape;
            let row: &mut [f32] =
                bytemuck::cast_slice_mut(&mut layer.values[n * stride..(n + 1) * stride]);
            chunk.values(l, i, &mut row[..inputs]);
            chunk.gradients(l + 1, i, &mut layer.gradients[n * outputs..(n + 1) * outputs]);
        }
    }
}
