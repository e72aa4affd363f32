//! The engine for CPUs: forward and backward fused over chunks of images that stay in the cache,
//! with the images in the lanes of the vectors.
//!
//! Candle owns the parameters and enters through its custom operations on the flat tensor. The
//! definition of what is computed is `network.rs`; the tests hold this engine to it. The result does
//! not depend on the number of threads: what is summed is summed in the order of the images.

mod activations;
mod chunk;
mod kernels;
mod slab;
pub mod threads;

use super::{Engine, Gradient, Images, Normalization, argmax, chunks};
use crate::architecture::Architecture;
use crate::error::Result;
use crate::parameters::Parameters;
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape};
use chunk::{
    BackwardWeights, CONVOLUTION_PARAMETERS, Chunk, ForwardWeights, Geometry, images_per_chunk,
};
use pulp::{Arch, Simd, WithSimd};
use slab::{Rows, Slab};
use std::cell::Cell;
use std::ops::Range;
use threads::share;

/// Images between two passes over the linear layers' weight gradients; their activations and
/// gradients wait meanwhile, 0.8 MB for 28x28 images.
const SLAB: usize = 256;

/// Images whose logits are computed at once: enough for every thread, and no second copy of all the
/// logits of a huge call.
const BLOCK: usize = 8192;

pub struct FusedEngine {
    normalization: Normalization,
    arch: Arch,
    threads: usize,
}

impl FusedEngine {
    pub fn new(arch: Arch, num_threads: u32, normalization: Normalization) -> Self {
        FusedEngine { normalization, arch, threads: threads::count(num_threads) }
    }

    fn batch<'a>(&self, parameters: &Parameters, images: &'a Images<'a>) -> Batch<'a> {
        let (normalization, threads) = (self.normalization, self.threads);
        Batch { architecture: parameters.architecture(), normalization, images, threads }
    }
}

/// Fewer chunks than this for each thread are not worth starting it.
const CHUNKS_PER_THREAD: usize = 2;

/// The batch and how it goes to the network.
#[derive(Clone, Copy)]
struct Batch<'a> {
    architecture: Architecture,
    normalization: Normalization,
    images: &'a Images<'a>,
    threads: usize,
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

    /// Threads that so many chunks are worth.
    fn threads_for(&self, chunks: usize) -> usize {
        self.threads.min(chunks / CHUNKS_PER_THREAD).max(1)
    }

    /// The images of `range` in whole chunks, a part for each thread.
    fn parts<S: Simd>(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let size = images_per_chunk::<S>();
        let count = range.len().div_ceil(size);
        chunks(range, count.div_ceil(self.threads_for(count)) * size).collect()
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
        let batch = self.batch(parameters, images);
        for range in chunks(range, BLOCK) {
            let op = LogitsOp { batch, range, arch: self.arch };
            let logits = parameters.flat().apply_op1_no_bwd(&op)?;
            let (storage, _) = logits.storage_and_layout();
            if let candle_core::Storage::Cpu(storage) = &*storage {
                out.extend_from_slice(storage.as_slice()?);
            }
        }
        Ok(())
    }

    fn gradient(
        &self,
        parameters: &Parameters,
        images: &Images,
        labels: &[u8],
    ) -> Result<Gradient> {
        let batch = self.batch(parameters, images);
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
        let mut logits = vec![0.0; self.op.range.len() * classes];
        let mut rest = logits.as_mut_slice();
        let mut jobs = Vec::new();
        for part in batch.parts::<S>(self.op.range.clone()) {
            let (rows, later) = rest.split_at_mut(part.len() * classes);
            rest = later;
            let weights = &weights;
            jobs.push(move || {
                simd.vectorize(
                    #[inline(always)]
                    || batch.forward(simd, weights, part, rows),
                );
            });
        }
        share(batch.threads, jobs);
        logits
    }
}

impl Batch<'_> {
    /// The logits of some of the images.
    #[inline(always)]
    fn forward<S: Simd>(
        &self,
        simd: S,
        weights: &ForwardWeights,
        images: Range<usize>,
        rows: &mut [f32],
    ) {
        let classes = self.architecture.classes();
        let mut chunk = Chunk::new(simd, Geometry::new(self.architecture));
        let mut pixels = Vec::new();
        let rows = rows.chunks_mut(classes * images_per_chunk::<S>());
        for (range, rows) in chunks(images, images_per_chunk::<S>()).zip(rows) {
            self.load(&mut chunk, range, &mut pixels);
            chunk.forward(weights);
            for (i, row) in rows.chunks_exact_mut(classes).enumerate() {
                chunk.values(3, i, row);
            }
        }
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
        let weights = Weights {
            forward: ForwardWeights::new(batch.architecture, self.flat),
            backward: BackwardWeights::new(batch.architecture, self.flat),
        };
        let mut slab = Slab::new(simd, batch.architecture, labels.len().min(SLAB));
        let mut gradient = vec![0.0; self.flat.len()];
        let mut seen = Seen::default();
        for range in chunks(0..labels.len(), SLAB) {
            let count = range.len().div_ceil(images_per_chunk::<S>());
            let mut notes = vec![ChunkNotes::default(); count];
            let (mut rows, mut rest) = (slab.rows(), notes.as_mut_slice());
            let mut jobs = Vec::new();
            for part in batch.parts::<S>(range.clone()) {
                let (own, later) = rows.split_at(part.len());
                rows = later;
                let (notes, later) =
                    rest.split_at_mut(part.len().div_ceil(images_per_chunk::<S>()));
                rest = later;
                let weights = &weights;
                jobs.push(move || {
                    simd.vectorize(
                        #[inline(always)]
                        || batch.forward_backward(simd, weights, labels, part, own, notes),
                    );
                });
            }
            share(batch.threads, jobs);
            for note in &notes {
                seen.loss += note.seen.loss;
                seen.correct += note.seen.correct;
                gradient.iter_mut().zip(&note.convolutions).for_each(|(g, c)| *g += c);
            }
            slab.add_weight_gradients(range.len(), &mut gradient, batch.threads_for(count));
        }
        (gradient, seen)
    }
}

struct Weights {
    forward: ForwardWeights,
    backward: BackwardWeights,
}

/// What comes of one chunk and is summed up in the chunks' order.
#[derive(Clone, Default)]
struct ChunkNotes {
    seen: Seen,
    /// Gradients of the convolutions' parameters.
    convolutions: Vec<f32>,
}

impl Batch<'_> {
    /// Some of the images forward and backward; their rows of the slab, their chunks' notes.
    #[inline(always)]
    fn forward_backward<S: Simd>(
        &self,
        simd: S,
        weights: &Weights,
        labels: &[u8],
        images: Range<usize>,
        mut slab: Rows<S::f32s>,
        notes: &mut [ChunkNotes],
    ) {
        let mut chunk = Chunk::new(simd, Geometry::new(self.architecture));
        let mut pixels = Vec::new();
        let mut row = vec![0.0; self.architecture.classes()];
        let first = images.start;
        for (range, note) in chunks(images, images_per_chunk::<S>()).zip(notes) {
            self.load(&mut chunk, range.clone(), &mut pixels);
            chunk.forward(&weights.forward);
            for i in 0..images_per_chunk::<S>() {
                if i < range.len() {
                    chunk.values(3, i, &mut row);
                    let label = usize::from(labels[range.start + i]);
                    note.seen.correct += usize::from(argmax(&row) == label);
                    note.seen.loss += cross_entropy_gradient(&mut row, label, labels.len());
                } else {
                    row.fill(0.0); // a lane that is left over contributes nothing
                }
                chunk.set_logits_gradient(i, &row);
            }
            chunk.backward(&weights.backward);
            note.convolutions.resize(CONVOLUTION_PARAMETERS, 0.0);
            chunk.drain_convolution_sums(&mut note.convolutions);
            for (i, image) in range.enumerate() {
                slab.keep(&chunk, i, image - first);
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
        let engine = FusedEngine::new(arch, 1, NORMALIZATION);
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

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        for architecture in every_combination(16, 20, 5) {
            let parameters = Parameters::xavier(architecture, 3, &Device::Cpu).unwrap();
            for n in [1, 70, 300] {
                let (pixels, labels) = made_batch(architecture, n, 7);
                let images = Images {
                    pixels: Pixels::Byte(&pixels),
                    size: architecture.pixels(),
                    order: None,
                };
                let run = |threads| {
                    let engine = FusedEngine::new(Arch::new(), threads, NORMALIZATION);
                    let mut logits = Vec::new();
                    engine.logits(&parameters, &images, 0..n, &mut logits).unwrap();
                    let gradient = engine.gradient(&parameters, &images, &labels).unwrap();
                    (
                        logits,
                        gradient.loss,
                        gradient.correct,
                        gradient.flat.to_vec1::<f32>().unwrap(),
                    )
                };
                let one = run(1);
                for threads in [2, 3, 8] {
                    assert!(run(threads) == one, "{architecture:?}, {n} images, {threads} threads");
                }
            }
        }
    }
}
