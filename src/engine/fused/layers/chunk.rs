//! A chunk of images, forward and backward through the whole network while it is in the cache.
//!
//! A chunk is two tiles, or one with AVX-512: `T`. The convolutions take them one after the
//! other, the linear layers side by side, [feature][tile], so that each weight that is loaded serves both.

use super::convolution::{ConvolutionWeights, PARAMETERS};
use super::geometry::Geometry;
use super::input::Batch;
use super::tile::{Scratch, Tile};
use crate::architecture::{Architecture, FC1_FEATURES, FC2_FEATURES, Outputs};
use crate::engine::fused::kernels::activations::{activate, slope};
use crate::engine::fused::kernels::linear::{linear, linear_inputs};
use crate::engine::fused::vectors::memory::take;
use crate::error::Result;
use pulp::{Simd, bytemuck};
use std::ops::Range;

pub const fn images_per_chunk<S: Simd, const T: usize>() -> usize {
    T * S::F32_LANES
}

/// Inputs and outputs of the three linear layers.
pub fn linear_sizes(architecture: Architecture) -> [(usize, usize); 3] {
    [
        (architecture.features(), FC1_FEATURES),
        (FC1_FEATURES, FC2_FEATURES),
        (FC2_FEATURES, architecture.classes()),
    ]
}

/// All parameters: the convolutions' prepared, the linear layers' as they lie in the flat vector.
pub struct NetworkWeights<'a> {
    pub convolutions: &'a ConvolutionWeights,
    /// Weight (outputs, inputs) and bias of each.
    pub linear: [(&'a [f32], &'a [f32]); 3],
}

impl<'a> NetworkWeights<'a> {
    pub fn new(
        architecture: Architecture,
        convolutions: &'a ConvolutionWeights,
        flat: &'a [f32],
    ) -> Self {
        let mut rest = &flat[PARAMETERS..];
        let linear = linear_sizes(architecture).map(|(inputs, outputs)| {
            let (weight, after) = rest.split_at(inputs * outputs);
            let (bias, after) = after.split_at(outputs);
            rest = after;
            (weight, bias)
        });
        NetworkWeights { convolutions, linear }
    }
}

pub struct Chunk<'a, S: Simd, const T: usize> {
    simd: S,
    geometry: Geometry,
    tiles: [Tile<'a, S::f32s>; T],
    /// Those that hold images.
    used: usize,
    scratch: Scratch<'a, S::f32s>,
    /// Outputs of the convolutions and of the linear layers, (features, T), and their gradients.
    values: [&'a mut [S::f32s]; 4],
    gradients: [&'a mut [S::f32s]; 4],
    /// Images of a tile, if they are seen through views.
    seen: &'a mut [f32],
}

impl<'a, S: Simd, const T: usize> Chunk<'a, S, T> {
    fn linear_vectors(g: &Geometry) -> [usize; 4] {
        let [(features, fc1), (_, fc2), (_, classes)] = linear_sizes(g.architecture);
        [features, fc1, fc2, classes].map(|n| T * n)
    }

    /// Floats of memory that a chunk of a batch takes.
    pub fn floats(g: &Geometry, training: bool, batch: &Batch) -> usize {
        let linear: usize = Self::linear_vectors(g).iter().sum();
        let linear = if training { 2 * linear } else { linear };
        let tiles = T * Tile::<S::f32s>::vectors(g, training);
        (tiles + Scratch::<S::f32s>::vectors::<S>(g, training) + linear) * S::F32_LANES
            + batch.source_floats(S::F32_LANES)
    }

    /// Memory that was zero at first and that only chunks of the same kind have written.
    #[inline(always)]
    pub fn new(simd: S, geometry: Geometry, training: bool, memory: &'a mut [S::f32s]) -> Self {
        let (g, mut rest) = (&geometry, memory);
        let tiles = std::array::from_fn(|_| Tile::new(g, training, &mut rest));
        let scratch = Scratch::new::<S>(g, training, &mut rest);
        let linear = Self::linear_vectors(g);
        let values = linear.map(|n| take(&mut rest, n));
        let gradients = linear.map(|n| take(&mut rest, if training { n } else { 0 }));
        let seen = bytemuck::cast_slice_mut(rest);
        Chunk { simd, geometry, tiles, used: T, scratch, values, gradients, seen }
    }

    pub fn classes(&self) -> usize {
        self.geometry.architecture.classes()
    }

    /// These outputs of image `i`.
    #[inline(always)]
    pub fn outputs(&self, i: usize, outputs: Outputs, out: &mut [f32]) {
        let layer = match outputs {
            Outputs::Features => 2,
            Outputs::Logits => 3,
        };
        let values: &[f32] = bytemuck::cast_slice(self.values[layer]);
        let values = values[i..].iter().step_by(images_per_chunk::<S, T>());
        out.iter_mut().zip(values).for_each(|(o, &v)| *o = v);
    }

    /// Sets the gradient of image `i`'s logits.
    #[inline(always)]
    pub fn set_logits_gradient(&mut self, i: usize, gradient: &[f32]) {
        let values: &mut [f32] = bytemuck::cast_slice_mut(self.gradients[3]);
        let places = values[i..].iter_mut().step_by(images_per_chunk::<S, T>());
        places.zip(gradient).for_each(|(place, &g)| *place = g);
    }

    /// The inputs of linear layer `layer` and the gradients of its outputs, (features, T).
    #[inline(always)]
    pub fn linear_layer(&self, layer: usize) -> (&[S::f32s], &[S::f32s]) {
        (&*self.values[layer], &*self.gradients[layer + 1])
    }

    /// The images of the batch in this range, as many as a chunk has lanes or fewer. Lanes that are left
    /// over repeat the last image, so that nothing is computed with what no caller gave.
    #[inline(always)]
    pub fn forward(
        &mut self,
        weights: &NetworkWeights,
        batch: &Batch,
        range: Range<usize>,
    ) -> Result<()> {
        let (simd, g) = (self.simd, &self.geometry);
        // Here, where it brings the pixels into this core's cache.
        batch.check_pixels(range.clone())?;
        self.used = range.len().div_ceil(S::F32_LANES);
        for (t, tile) in self.tiles.iter_mut().enumerate().take(self.used) {
            let first = range.start + t * S::F32_LANES;
            let number = |lane: usize| (first + lane).min(range.end - 1);
            let source = batch.source(simd, number, self.seen);
            let features = (&mut self.values[0][t..], T);
            tile.forward(simd, g, weights.convolutions, &source, &mut self.scratch, features);
        }
        for (i, (weight, bias)) in weights.linear.iter().enumerate() {
            let (before, after) = self.values.split_at_mut(i + 1);
            linear::<S, T>(simd, weight, bias, before[i], after[0]);
            if i < 2 {
                activate(simd, g.architecture.activation(), after[0]);
            }
        }
        Ok(())
    }

    /// From the logits' gradients to the sums for the convolutions' gradients, which it sets, and to the
    /// gradients of the linear layers' outputs.
    #[inline(always)]
    pub fn backward(&mut self, weights: &NetworkWeights, sums: &mut [f32]) {
        let (simd, g) = (self.simd, &self.geometry);
        for (i, (weight, _)) in weights.linear.iter().enumerate().rev() {
            let (before, after) = self.gradients.split_at_mut(i + 1);
            let gradients = &mut *before[i];
            linear_inputs::<S, T>(simd, weight, after[0], gradients);
            if i > 0 {
                for (gradient, &value) in gradients.iter_mut().zip(&*self.values[i]) {
                    let slope = slope(simd, g.architecture.activation(), value);
                    *gradient = simd.mul_f32s(*gradient, slope);
                }
            }
        }
        sums.fill(0.0);
        // The last one first, while it is in the cache.
        for (t, tile) in self.tiles[..self.used].iter_mut().enumerate().rev() {
            let features = (&self.gradients[0][t..], T);
            tile.backward(simd, g, weights.convolutions, &mut self.scratch, features, sums);
        }
    }
}
