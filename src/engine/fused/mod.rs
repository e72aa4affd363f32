//! The engine for CPUs: forward and backward fused over chunks of images that stay in the cache,
//! with the images in the lanes of the vectors.
//!
//! Candle owns the parameters and enters through its custom operations on the flat tensor. The
//! definition of what is computed is `network.rs`; the tests hold this engine to it. It computes on
//! the caller's thread and starts no other.

mod activations;
mod chunk;
mod kernels;

use super::{Engine, Gradient, Images, Normalization, argmax};
use crate::architecture::{Architecture, FC1_FEATURES, FC2_FEATURES};
use crate::error::Result;
use crate::parameters::Parameters;
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape};
use chunk::{
    BackwardWeights, CONVOLUTION_PARAMETERS, Chunk, ForwardWeights, Geometry, images_per_chunk,
};
use kernels::{POSITIONS, linear_weights};
use pulp::{Arch, Simd, WithSimd};
use std::cell::Cell;
use std::ops::Range;

/// Images between two passes over the linear layers' weight gradients; their activations and
/// gradients wait meanwhile, 0.8 MB for 28x28 images.
const SLAB: usize = 256;

pub struct FusedEngine {
    normalization: Normalization,
    arch: Arch,
}

impl FusedEngine {
    pub fn new(arch: Arch, normalization: Normalization) -> Self {
        FusedEngine { normalization, arch }
    }
}

/// The batch and where it goes to the network.
#[derive(Clone, Copy)]
struct Batch<'a> {
    architecture: Architecture,
    normalization: Normalization,
    images: &'a Images<'a>,
}

impl Batch<'_> {
    /// Puts the images of `range` into the chunk; lanes that are left over keep what they had.
    #[inline(always)]
    fn load<S: Simd>(&self, chunk: &mut Chunk<S>, range: Range<usize>, pixels: &mut Vec<f32>) {
        for (i, image) in range.enumerate() {
            pixels.clear();
            self.images.append(image, pixels);
            self.normalization.apply(pixels);
            chunk.load(i, pixels);
        }
    }
}

impl Engine for FusedEngine {
    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn logits(
        &self,
        parameters: &Parameters,
        images: &Images,
        range: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let batch = Batch {
            architecture: parameters.architecture(),
            normalization: self.normalization,
            images,
        };
        let op = LogitsOp { batch, range, arch: self.arch };
        let logits = parameters.flat().apply_op1_no_bwd(&op)?;
        let (storage, _) = logits.storage_and_layout();
        if let candle_core::Storage::Cpu(storage) = &*storage {
            out.extend_from_slice(storage.as_slice()?);
        }
        Ok(())
    }

    fn gradient(
        &self,
        parameters: &Parameters,
        images: &Images,
        labels: &[u8],
    ) -> Result<Gradient> {
        let batch = Batch {
            architecture: parameters.architecture(),
            normalization: self.normalization,
            images,
        };
        let op = GradientOp { batch, labels, arch: self.arch, seen: Cell::default() };
        let flat = parameters.flat().apply_op1_no_bwd(&op)?;
        let Seen { loss, correct } = op.seen.get();
        Ok(Gradient { loss: (loss / labels.len() as f64) as f32, correct, flat })
    }
}

/// Flat parameters to logits (n, classes).
struct LogitsOp<'a> {
    batch: Batch<'a>,
    range: Range<usize>,
    arch: Arch,
}

impl CustomOp1 for LogitsOp<'_> {
    fn name(&self) -> &'static str {
        "lenet-logits"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let flat = contiguous(storage, layout)?;
        let logits = self.arch.dispatch(Logits { op: self, flat });
        let shape = (self.range.len(), self.batch.architecture.classes()).into();
        Ok((CpuStorage::F32(logits), shape))
    }
}

struct Logits<'a> {
    op: &'a LogitsOp<'a>,
    flat: &'a [f32],
}

impl WithSimd for Logits<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let batch = self.op.batch;
        let classes = batch.architecture.classes();
        let weights = ForwardWeights::new(batch.architecture, self.flat);
        let mut chunk = Chunk::new(simd, Geometry::new(batch.architecture));
        let mut pixels = Vec::new();
        let mut logits = vec![0.0; self.op.range.len() * classes];
        let rows = logits.chunks_mut(classes * images_per_chunk::<S>());
        for (range, rows) in chunks(self.op.range.clone(), images_per_chunk::<S>()).zip(rows) {
            batch.load(&mut chunk, range, &mut pixels);
            chunk.forward(&weights);
            for (i, row) in rows.chunks_exact_mut(classes).enumerate() {
                chunk.values(3, i, row);
            }
        }
        logits
    }
}

/// Flat parameters to the flat gradient of the mean loss; notes what it saw on the way.
struct GradientOp<'a> {
    batch: Batch<'a>,
    labels: &'a [u8],
    arch: Arch,
    seen: Cell<Seen>,
}

/// Sum of the losses, and hits.
#[derive(Clone, Copy, Default)]
struct Seen {
    loss: f64,
    correct: usize,
}

impl CustomOp1 for GradientOp<'_> {
    fn name(&self) -> &'static str {
        "lenet-gradient"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let flat = contiguous(storage, layout)?;
        let (gradient, seen) = self.arch.dispatch(LossAndGradient { op: self, flat });
        self.seen.set(seen);
        Ok((CpuStorage::F32(gradient), layout.shape().clone()))
    }
}

struct LossAndGradient<'a> {
    op: &'a GradientOp<'a>,
    flat: &'a [f32],
}

impl WithSimd for LossAndGradient<'_> {
    type Output = (Vec<f32>, Seen);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let GradientOp { batch, labels, .. } = *self.op;
        let forward = ForwardWeights::new(batch.architecture, self.flat);
        let backward = BackwardWeights::new(batch.architecture, self.flat);
        let mut chunk = Chunk::new(simd, Geometry::new(batch.architecture));
        let mut slab = Slab::<S>::new(simd, batch.architecture, labels.len().min(SLAB));
        let mut gradient = vec![0.0; self.flat.len()];
        let mut seen = Seen::default();
        let mut pixels = Vec::new();
        let mut row = vec![0.0; batch.architecture.classes()];
        for slab_range in chunks(0..labels.len(), SLAB) {
            for range in chunks(slab_range.clone(), images_per_chunk::<S>()) {
                batch.load(&mut chunk, range.clone(), &mut pixels);
                chunk.forward(&forward);
                for i in 0..images_per_chunk::<S>() {
                    match range.clone().nth(i) {
                        Some(image) => {
                            chunk.values(3, i, &mut row);
                            let label = usize::from(labels[image]);
                            seen.correct += usize::from(argmax(&row) == label);
                            seen.loss += cross_entropy_gradient(&mut row, label, labels.len());
                        }
                        // A lane that is left over contributes nothing.
                        None => row.fill(0.0),
                    }
                    chunk.set_logits_gradient(i, &row);
                }
                chunk.backward(&backward);
                chunk.drain_convolution_sums(&mut gradient[..CONVOLUTION_PARAMETERS]);
                for (i, image) in range.enumerate() {
                    slab.keep(&chunk, i, image - slab_range.start);
                }
            }
            slab.add_weight_gradients(slab_range.len(), &mut gradient);
        }
        (gradient, seen)
    }
}

/// Image-major activations and gradients of the linear layers, for their weight gradients.
struct Slab<S: Simd> {
    simd: S,
    architecture: Architecture,
    layers: [SlabLayer<S::f32s>; 3],
}

struct SlabLayer<V> {
    inputs: usize,
    outputs: usize,
    /// (images, inputs), rows padded with zeros to whole pairs of vectors.
    values: Vec<V>,
    /// Vectors a row.
    stride: usize,
    /// (images, outputs)
    gradients: Vec<f32>,
}

impl<S: Simd> Slab<S> {
    #[inline(always)]
    fn new(simd: S, architecture: Architecture, images: usize) -> Self {
        let layer = |inputs: usize, outputs: usize| {
            let stride = inputs.div_ceil(POSITIONS * S::F32_LANES) * POSITIONS;
            let values = vec![simd.splat_f32s(0.0); images * stride];
            SlabLayer { inputs, outputs, values, stride, gradients: vec![0.0; images * outputs] }
        };
        let layers = [
            layer(architecture.features(), FC1_FEATURES),
            layer(FC1_FEATURES, FC2_FEATURES),
            layer(FC2_FEATURES, architecture.classes()),
        ];
        Slab { simd, architecture, layers }
    }

    /// Keeps image `i` of the chunk as the slab's image `n`.
    #[inline(always)]
    fn keep(&mut self, chunk: &Chunk<S>, i: usize, n: usize) {
        for (l, layer) in self.layers.iter_mut().enumerate() {
            let row = &mut layer.values[n * layer.stride..(n + 1) * layer.stride];
            let row: &mut [f32] = pulp::bytemuck::cast_slice_mut(row);
            chunk.values(l, i, &mut row[..layer.inputs]);
            chunk.gradients(l + 1, i, &mut layer.gradients[n * layer.outputs..][..layer.outputs]);
        }
    }

    #[inline(always)]
    fn add_weight_gradients(&self, images: usize, gradient: &mut [f32]) {
        let specs = self.architecture.parameters();
        for (l, layer) in self.layers.iter().enumerate() {
            let (weight, bias) = (specs[4 + 2 * l], specs[5 + 2 * l]);
            let gradients = &layer.gradients[..images * layer.outputs];
            linear_weights(
                self.simd,
                images,
                (gradients, layer.outputs),
                (&layer.values, layer.stride),
                layer.inputs,
                &mut gradient[weight.range()],
            );
            let bias = &mut gradient[bias.range()];
            for row in gradients.chunks_exact(layer.outputs) {
                bias.iter_mut().zip(row).for_each(|(b, d)| *b += d);
            }
        }
    }
}

/// Replaces logits by the gradient of the loss, (softmax - one-hot) / n, and returns this image's
/// loss.
fn cross_entropy_gradient(logits: &mut [f32], label: usize, n: usize) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let of_label = f64::from(logits[label]) - f64::from(largest);
    let mut sum = 0.0;
    for x in &mut *logits {
        *x = (*x - largest).exp();
        sum += *x;
    }
    let scale = 1.0 / (sum * n as f32);
    logits.iter_mut().for_each(|x| *x *= scale);
    logits[label] -= 1.0 / n as f32;
    f64::from(sum).ln() - of_label
}

/// The elements of a flat parameter tensor.
fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice()?[start..end]),
        None => candle_core::bail!("flat parameters are contiguous"),
    }
}

fn chunks(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(size).map(move |start| start..end.min(start + size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::{Activation, Pooling};
    use crate::engine::Pixels;
    use crate::network;
    use candle_core::{DType, Tensor};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const NORMALIZATION: Normalization = Normalization { mean: 0.3, std: 0.4 };

    /// Images with a border of zeros and noise inside, labels in turn.
    fn made_batch(architecture: Architecture, n: usize, seed: u64) -> (Vec<u8>, Vec<u8>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (height, width) = (architecture.height(), architecture.width());
        let inside = |i: usize| {
            let (y, x) = (i / width % height, i % width);
            y >= 4 && x >= 4 && y + 4 < height && x + 4 < width
        };
        let images = (0..n * architecture.pixels())
            .map(|i| if inside(i) { rng.random::<u8>() } else { 0 })
            .collect();
        let labels = (0..n).map(|i| (i % architecture.classes()) as u8).collect();
        (images, labels)
    }

    /// Says what is further off than 1e-5 of the largest value.
    fn check_close(what: &str, ours: &[f32], oracle: &[f64]) -> Result<(), String> {
        let largest = oracle.iter().fold(0f64, |m, x| m.max(x.abs()));
        let near = |a: f32, b: f64| (f64::from(a) - b).abs() <= 1e-5 * largest; // NaN is never near
        match ours.iter().zip(oracle).position(|(&a, &b)| !near(a, b)) {
            None => Ok(()),
            Some(i) => Err(format!("{what}[{i}] is {}, not {} of {largest}", ours[i], oracle[i])),
        }
    }

    /// Logits, loss and flat gradient by `network.rs` in f64, whose rounding is no excuse.
    fn oracle(
        parameters: &Parameters,
        pixels: &[u8],
        labels: &[u8],
    ) -> candle_core::Result<(Vec<f64>, f64, Vec<f64>)> {
        let architecture = parameters.architecture();
        let flat = parameters.flat().to_dtype(DType::F64)?.detach();
        let parameters = Parameters::new(architecture, &flat)?;
        let Normalization { mean, std } = NORMALIZATION;
        let pixels: Vec<f64> =
            pixels.iter().map(|&p| (f64::from(p) / 255.0 - mean) / std).collect();
        let shape = (labels.len(), 1, architecture.height(), architecture.width());
        let images = Tensor::from_vec(pixels, shape, &Device::Cpu)?;
        let labels: Vec<u32> = labels.iter().map(|&l| l.into()).collect();
        let labels = Tensor::from_slice(&labels, labels.len(), &Device::Cpu)?;

        let logits = network::logits(&parameters, &images)?;
        let loss = network::loss(&logits, &labels)?;
        let gradients = loss.backward()?;
        let gradient = gradients.get(parameters.flat()).expect("the parameters have a gradient");
        Ok((logits.flatten_all()?.to_vec1()?, loss.to_scalar()?, gradient.to_vec1()?))
    }

    fn compare(architecture: Architecture, arch: Arch, n: usize, seed: u64) -> Result<(), String> {
        let parameters = Parameters::xavier(architecture, 11, &Device::Cpu).unwrap();
        let (pixels, labels) = made_batch(architecture, n, seed);
        let (logits, loss, gradient) = oracle(&parameters, &pixels, &labels).unwrap();

        let images =
            Images { pixels: Pixels::Byte(&pixels), size: architecture.pixels(), order: None };
        let engine = FusedEngine::new(arch, NORMALIZATION);
        let mut ours = Vec::new();
        engine.logits(&parameters, &images, 0..n, &mut ours).unwrap();
        check_close("logits", &ours, &logits)?;
        let hits = ours.chunks(architecture.classes()).zip(&labels);
        let hits = hits.filter(|(row, label)| argmax(row) == usize::from(**label)).count();

        let ours = engine.gradient(&parameters, &images, &labels).unwrap();
        check_close("loss", &[ours.loss], &[loss])?;
        assert_eq!(ours.correct, hits);
        let ours: Vec<f32> = ours.flat.to_vec1().unwrap();
        for spec in architecture.parameters() {
            check_close(spec.name, &ours[spec.range()], &gradient[spec.range()])?;
        }
        Ok(())
    }

    /// Two values of a window that differ by less than rounding may change places between two right
    /// engines, and the gradient goes another way: about one max-pooled batch in a hundred here has
    /// such a window. So those have three tries with other images; a mistake fails all of them.
    fn assert_candles(architecture: Architecture, arch: Arch, n: usize) {
        let tries = if architecture.pooling() == Pooling::Max { 3 } else { 1 };
        let failures: Vec<String> = (0..tries)
            .map_while(|t| compare(architecture, arch, n, (1000 * t + n) as u64).err())
            .collect();
        assert!(failures.len() < tries, "{architecture:?}, {n} images: {failures:?}");
    }

    fn every_combination(height: u32, width: u32, classes: u32) -> Vec<Architecture> {
        let activations = [Activation::Sigmoid, Activation::Tanh, Activation::Relu];
        let poolings = [Pooling::Average, Pooling::Max];
        let all = activations.iter().flat_map(|a| poolings.iter().map(move |p| (*a, *p)));
        all.map(|(a, p)| Architecture::new(height, width, classes, a, p).unwrap()).collect()
    }

    #[test]
    fn every_batch_size_is_candles() {
        for architecture in every_combination(16, 16, 3) {
            for n in (1..=40).chain([256, 300]) {
                assert_candles(architecture, Arch::new(), n);
            }
        }
    }

    #[test]
    fn every_size_and_class_count_is_candles() {
        for (height, width, classes) in [(28, 28, 10), (16, 64, 2), (48, 20, 23), (32, 32, 256)] {
            for architecture in every_combination(height, width, classes) {
                assert_candles(architecture, Arch::new(), 9);
            }
        }
    }

    #[test]
    fn without_vectors_it_is_candles_too() {
        for architecture in every_combination(20, 16, 7) {
            for n in [1, 2, 3, 33] {
                assert_candles(architecture, Arch::Scalar, n);
            }
        }
    }
}
