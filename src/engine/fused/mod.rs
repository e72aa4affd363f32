//! The engine for CPUs: forward and backward fused over chunks of images that stay in the cache,
//! with the images in the lanes of the vectors.
//!
//! Candle owns the weights. Logits read them where they lie; gradient and optimizer step are
//! custom operations of candle's, in place. The definition of what is computed is `network.rs` and
//! `optimizer.rs`; the tests hold this engine to them. The result does not depend on the number of
//! threads: what is summed is summed in the order of the images. `docs/engine.md` explains it with a figure, shapes
//! and a glossary.
//!
//! | room | concern |
//! | --- | --- |
//! | `batch` | a batch cut into chunks, which threads share; the optimizer's step |
//! | `layers` | some images through the layers, forward and back |
//! | `kernels` | the inner loops |
//! | `vectors` | memory, registers and lanes of vectors |
//! | `threads` | the model's own threads |

mod batch;
mod kernels;
mod layers;
mod threads;
mod vectors;

/// For benches/kernels.rs.
#[cfg(feature = "kernel-benches")]
pub mod benched {
    pub use super::batch::panels::{PanelShape, Panels, Partial};
    pub use super::kernels::activations::activate;
    pub use super::kernels::correlation::{
        Packed, PackedTransposed, column_weights, convolution_weights,
    };
    pub use super::kernels::linear::{linear, linear_inputs};
    pub use super::kernels::winograd::inputs as transform_inputs;
    pub use super::kernels::winograd_gemm::vectors as panel_vectors;
    pub use super::layers::single::{correlate_outputs, dot_products};
    pub use super::vectors::maps::{Columns, Strides};
    pub use super::vectors::memory::Memory;
    pub use crate::architecture::{Activation, Architecture, Pooling};
}

use super::interface::Engine;
use crate::architecture::Outputs;
use crate::batch::{Images, Normalization, Seen, Targets};
use crate::error::{Code, Error, Result};
use crate::free_list::FreeList;
use crate::host::threads::count;
use crate::optimizer::Step;
use crate::parameters::Weights;
use crate::values::Values;
use batch::forward::Forward;
use batch::gradient::LossAndGradient;
use batch::step::FusedStep;
use batch::workspace::Workspace;
use candle_core::{CpuStorage, Device, InplaceOp2, InplaceOp3, Layout, Storage};
use layers::input::{Batch, Loader};
use pulp::Arch;
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use threads::Pool;

pub struct FusedEngine {
    arch: Arch,
    loader: Loader,
    pool: Pool,
    predicting: FreeList<Workspace>,
    training: FreeList<Workspace>,
    /// For AVX2 where there is AVX-512.
    #[cfg(target_arch = "x86_64")]
    training_small: FreeList<Workspace>,
}

impl FusedEngine {
    pub fn new(arch: Arch, num_threads: u32, normalization: Normalization) -> Self {
        FusedEngine {
            arch,
            loader: Loader::new(normalization),
            pool: Pool::new(count(num_threads)),
            predicting: FreeList::default(),
            training: FreeList::default(),
            #[cfg(target_arch = "x86_64")]
            training_small: FreeList::default(),
        }
    }

    /// Vectors and workspaces to train on so many images: so few would leave half of AVX-512's lanes unused,
    /// and AVX2 takes a fifth less time for them.
    fn training(&self, images: usize) -> (Arch, &FreeList<Workspace>) {
        match self.arch {
            #[cfg(target_arch = "x86_64")]
            Arch::V4(simd) if images <= 8 => (Arch::V3(*simd), &self.training_small),
            arch => (arch, &self.training),
        }
    }

    fn batch<'a>(
        &'a self,
        weights: &Weights,
        flat: &'a [f32],
        images: &'a Images<'a>,
    ) -> Batch<'a> {
        let (architecture, version) = (weights.architecture(), weights.version());
        Batch { architecture, flat, version, images, loader: &self.loader, pool: &self.pool }
    }
}

impl Engine for FusedEngine {
    fn upload(&self, rows: &[&[f32]]) -> Result<Values> {
        Values::on(&Device::Cpu, rows)
    }

    fn adopt(&self, weights: &Arc<Weights>) -> Result<Arc<Weights>> {
        Ok(Arc::clone(weights))
    }

    fn outputs(
        &self,
        weights: &Weights,
        images: &Images,
        range: Range<usize>,
        outputs: Outputs,
        out: &mut [f32],
    ) -> Result<()> {
        let (storage, layout) = weights.values().tensor()?.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            return Err(Error::new(Code::Internal, "the weights are not on the CPU"));
        };
        let batch = self.batch(weights, contiguous(storage, layout)?, images);
        let mut workspace = self.predicting.take().unwrap_or_default();
        let pass = Forward { batch, range, workspace: &mut workspace, outputs, out };
        self.arch.dispatch(pass)?;
        self.predicting.give_back(workspace);
        Ok(())
    }

    fn gradient(
        &self,
        weights: &Weights,
        images: &Images,
        targets: &Targets,
        gradient: &Values,
    ) -> Result<Seen> {
        let seen = Cell::new(Ok(Seen::default()));
        let op = GradientOp { engine: self, weights, images, targets, seen };
        gradient.tensor()?.inplace_op2(weights.values().tensor()?, &op)?;
        let mut seen = op.seen.into_inner()?;
        seen.loss /= targets.labels.len() as f64;
        Ok(seen)
    }

    fn step(
        &self,
        step: Step,
        now: &Weights,
        gradient: &Values,
        next: &mut Weights,
    ) -> Result<bool> {
        let op = StepOp { engine: self, step, finite: Cell::new(false) };
        let (next, now) = (next.values_mut().tensor()?, now.values().tensor()?);
        next.inplace_op3(now, gradient.tensor()?, &op)?;
        Ok(op.finite.get())
    }
}

/// Weights to the flat gradient of the mean loss.
struct GradientOp<'a> {
    engine: &'a FusedEngine,
    weights: &'a Weights,
    images: &'a Images<'a>,
    targets: &'a Targets<'a>,
    /// What it saw on the way, or why it could not.
    seen: Cell<Result<Seen>>,
}

impl InplaceOp2 for GradientOp<'_> {
    fn name(&self) -> &'static str {
        "lenet-gradient"
    }

    fn cpu_fwd(
        &self,
        gradient: &mut CpuStorage,
        gradient_layout: &Layout,
        flat: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<()> {
        let gradient = contiguous_mut(gradient, gradient_layout)?;
        let flat = contiguous(flat, layout)?;
        let batch = self.engine.batch(self.weights, flat, self.images);
        let targets = self.targets;
        let (arch, free_list) = self.engine.training(targets.labels.len());
        let mut workspace = free_list.take().unwrap_or_default();
        let pass = LossAndGradient { batch, targets, workspace: &mut workspace, gradient };
        self.seen.set(arch.dispatch(pass));
        free_list.give_back(workspace);
        Ok(())
    }
}

/// Weights and gradient to the weights after a step.
struct StepOp<'a> {
    engine: &'a FusedEngine,
    step: Step,
    /// Whether all results are.
    finite: Cell<bool>,
}

impl InplaceOp3 for StepOp<'_> {
    fn name(&self) -> &'static str {
        "lenet-step"
    }

    fn cpu_fwd(
        &self,
        next: &mut CpuStorage,
        next_layout: &Layout,
        now: &CpuStorage,
        now_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let next = contiguous_mut(next, next_layout)?;
        let now = contiguous(now, now_layout)?;
        let gradient = contiguous(gradient, gradient_layout)?;
        let (step, pool) = (self.step, &self.engine.pool);
        let step = FusedStep { step, pool, now, gradient, next };
        self.finite.set(self.engine.arch.dispatch(step));
        Ok(())
    }
}

/// The elements of a contiguous tensor.
fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice()?[start..end]),
        None => candle_core::bail!("weights and gradients are contiguous"),
    }
}

fn contiguous_mut<'a>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> candle_core::Result<&'a mut [f32]> {
    match (layout.contiguous_offsets(), storage) {
        (Some((start, end)), CpuStorage::F32(values)) => Ok(&mut values[start..end]),
        _ => candle_core::bail!("weights and gradients are contiguous floats"),
    }
}

/// Every kind of vectors that this CPU has, and none.
#[cfg(test)]
pub fn every_level() -> Vec<Arch> {
    let mut levels = vec![Arch::Scalar];
    #[cfg(target_arch = "x86_64")]
    levels.extend(pulp::x86::V3::try_new().map(Arch::V3));
    #[cfg(target_arch = "x86_64")]
    levels.extend(pulp::x86::V4::try_new().map(Arch::V4));
    #[cfg(target_arch = "aarch64")]
    levels.extend(pulp::aarch64::Neon::try_new().map(Arch::Neon));
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::{Activation, Architecture, Pooling};
    use crate::batch::{Pixels, argmax};
    use crate::engine::candle::CandleEngine;
    use crate::network;
    use crate::parameters::{Parameters, xavier};
    use candle_core::{DType, Tensor};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const NORMALIZATION: Normalization = Normalization { mean: 0.3, std: 0.4 };

    fn made_weights(architecture: Architecture, seed: u64) -> Weights {
        let values = Values::on(&Device::Cpu, &[&xavier(architecture, seed)]).unwrap();
        Weights::new(architecture, values)
    }

    fn zeros(architecture: Architecture) -> Values {
        Values::on(&Device::Cpu, &[&vec![0.0; architecture.parameter_count()]]).unwrap()
    }

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

    fn unweighted(labels: &[u8]) -> Targets<'_> {
        Targets { labels, weights: None }
    }

    /// Logits, loss and flat gradient by `network.rs` in f64, whose rounding is no excuse.
    fn oracle(
        weights: &Weights,
        pixels: &[u8],
        targets: &Targets,
    ) -> candle_core::Result<(Vec<f64>, f64, Vec<f64>)> {
        let architecture = weights.architecture();
        let flat = weights.values().tensor().unwrap().get(0)?.to_dtype(DType::F64)?;
        let parameters = Parameters::new(architecture, &flat)?;
        let Normalization { mean, std } = NORMALIZATION;
        let pixels: Vec<f64> =
            pixels.iter().map(|&p| (f64::from(p) / 255.0 - mean) / std).collect();
        let n = targets.labels.len();
        let shape = (n, 1, architecture.height(), architecture.width());
        let images = Tensor::from_vec(pixels, shape, &Device::Cpu)?;
        let labels: Vec<u32> = targets.labels.iter().map(|&l| l.into()).collect();
        let labels = Tensor::from_vec(labels, n, &Device::Cpu)?;

        let logits = network::logits(&parameters, &images)?;
        let loss = match targets.weights {
            None => network::loss(&logits, &labels, None)?,
            Some(weights) => {
                let weights: Vec<f64> = weights.iter().map(|&w| w.into()).collect();
                let weights = Tensor::from_vec(weights, n, &Device::Cpu)?;
                let softmax = candle_nn::ops::softmax(&logits, 1)?;
                let losses = softmax.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1)?.log()?.neg()?;
                ((losses * &weights)?.sum_all()? / weights.sum_all()?)?
            }
        };
        let gradients = loss.backward()?;
        let gradient = gradients.get(parameters.flat()).expect("the parameters have a gradient");
        Ok((logits.flatten_all()?.to_vec1()?, loss.to_scalar()?, gradient.to_vec1()?))
    }

    fn compare(architecture: Architecture, arch: Arch, n: usize, seed: u64) -> Result<(), String> {
        let weights = made_weights(architecture, 11);
        let (pixels, labels) = made_batch(architecture, n, seed);
        let (logits, loss, gradient) = oracle(&weights, &pixels, &unweighted(&labels)).unwrap();

        let images = Images {
            pixels: Pixels::Byte(&pixels),
            size: architecture.pixels(),
            order: None,
            views: None,
        };
        let engine = FusedEngine::new(arch, 1, NORMALIZATION);
        let mut ours = vec![0.0; n * architecture.classes()];
        engine.outputs(&weights, &images, 0..n, Outputs::Logits, &mut ours).unwrap();
        check_close("logits", &ours, &logits)?;
        let hits = ours.chunks(architecture.classes()).zip(&labels);
        let hits = hits.filter(|(row, label)| argmax(row) == usize::from(**label)).count();

        let ours = zeros(architecture);
        let seen = engine.gradient(&weights, &images, &unweighted(&labels), &ours).unwrap();
        check_close("loss", &[seen.loss as f32], &[loss])?;
        assert_eq!(seen.correct, hits);
        let ours = ours.row(0).unwrap();
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

    /// The same, with padding and without.
    fn with_either_padding(height: u32, width: u32, classes: u32) -> Vec<Architecture> {
        let padded = every_combination(height, width, classes).into_iter();
        padded.flat_map(|a| [a, a.with_padding(0).unwrap()]).collect()
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
                for level in every_level() {
                    assert_candles(architecture, level, 9);
                }
            }
        }
    }

    /// The smallest maps, tutorials' and LeNet-5's sizes, unequal sides; one by one and in chunks.
    #[test]
    fn every_size_without_padding_is_candles() {
        for (height, width, classes) in
            [(16, 16, 3), (16, 24, 7), (20, 16, 5), (28, 28, 10), (32, 32, 10), (20, 24, 256)]
        {
            for architecture in every_combination(height, width, classes) {
                let architecture = architecture.with_padding(0).unwrap();
                for level in every_level() {
                    for n in [1, 9, 40] {
                        assert_candles(architecture, level, n);
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_pixel_that_is_not_finite_is_refused() {
        let architecture = every_combination(16, 20, 3)[0];
        let (weights, gradient) = (made_weights(architecture, 1), zeros(architecture));
        let mut engines: Vec<Box<dyn Engine>> =
            vec![Box::new(CandleEngine::new(Device::Cpu, NORMALIZATION))];
        for threads in [1, 2, 8] {
            engines.push(Box::new(FusedEngine::new(Arch::new(), threads, NORMALIZATION)));
        }
        for n in [2, 300] {
            let mut pixels = vec![0.5; n * architecture.pixels()];
            let size = architecture.pixels();
            pixels[(n / 3) * size + 47] = f32::INFINITY;
            pixels[(n / 3 + 1) * size] = f32::NAN;
            pixels[n * size - 1] = f32::NEG_INFINITY;
            let images = Images { pixels: Pixels::Float(&pixels), size, order: None, views: None };
            let named = format!("images[{}] is inf at row 2, column 7", n / 3);
            let mut logits = vec![0.0; n * architecture.classes()];
            for engine in &engines {
                let outputs = Outputs::Logits;
                let error =
                    engine.outputs(&weights, &images, 0..n, outputs, &mut logits).unwrap_err();
                assert_eq!((error.code, &*error.message), (Code::NonFinite, &*named));
                let (labels, gradient) = (vec![1; n], &gradient);
                let error = engine.gradient(&weights, &images, &unweighted(&labels), gradient);
                let error = error.unwrap_err();
                assert_eq!((error.code, &*error.message), (Code::NonFinite, &*named));
            }
        }
    }

    #[test]
    fn with_all_vectors_and_without_any_it_is_candles() {
        for architecture in with_either_padding(20, 16, 7) {
            for level in every_level() {
                for n in [1, 2, 3, 33] {
                    assert_candles(architecture, level, n);
                }
            }
        }
    }

    /// Candle's operations, and fused with all vectors and without any, with so many threads.
    fn every_engine(threads: u32) -> Vec<Box<dyn Engine>> {
        let candle: Box<dyn Engine> = Box::new(CandleEngine::new(Device::Cpu, NORMALIZATION));
        let fused = every_level().into_iter().map(|level| -> Box<dyn Engine> {
            Box::new(FusedEngine::new(level, threads, NORMALIZATION))
        });
        fused.chain([candle]).collect()
    }

    /// Loss, hits and gradient of a batch.
    fn pass(
        engine: &dyn Engine,
        weights: &Weights,
        pixels: &[u8],
        targets: &Targets,
    ) -> (f64, usize, Vec<f32>) {
        let architecture = weights.architecture();
        let (pixels, size) = (Pixels::Byte(pixels), architecture.pixels());
        let gradient = zeros(architecture);
        let images = Images { pixels, size, order: None, views: None };
        let seen = engine.gradient(weights, &images, targets, &gradient).unwrap();
        (seen.loss, seen.correct, gradient.row(0).unwrap())
    }

    /// Weights from 0 to some thousands, and one batch where a single image counts.
    #[test]
    fn a_weighted_mean_is_candles() {
        let architecture = every_combination(16, 20, 5)[0];
        let weights = made_weights(architecture, 5);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for n in [2, 7, 16, 200, 300, 301] {
            let (pixels, labels) = made_batch(architecture, n, n as u64);
            let mut counts: Vec<f32> = (0..n)
                .map(|i| if i % 5 == 3 { 0.0 } else { (rng.random::<f32>() * 9.0).exp() })
                .collect();
            if n == 301 {
                counts.fill(0.0);
                counts[222] = 1e-30;
            }
            let targets = Targets { labels: &labels, weights: Some(&counts) };
            let (_, loss, expected) = oracle(&weights, &pixels, &targets).unwrap();
            let one_by_one = every_engine(1);
            for (one, two) in one_by_one.iter().zip(every_engine(2)) {
                let ours = pass(&**one, &weights, &pixels, &targets);
                check_close("loss", &[ours.0 as f32], &[loss]).unwrap();
                for spec in architecture.parameters() {
                    let range = spec.range();
                    let what = format!("{n} images, {}", spec.name);
                    check_close(&what, &ours.2[range.clone()], &expected[range]).unwrap();
                }
                let plain = pass(&**one, &weights, &pixels, &unweighted(&labels));
                assert_eq!(ours.1, plain.1, "hits do not depend on weights");
                assert!(ours == pass(&*two, &weights, &pixels, &targets), "{n} images");
            }
        }
    }

    #[test]
    fn equal_weights_change_no_bit() {
        let architecture = every_combination(16, 20, 5)[5];
        let weights = made_weights(architecture, 5);
        for n in [1, 7, 16, 200, 300] {
            let (pixels, labels) = made_batch(architecture, n, n as u64);
            for engine in every_engine(2) {
                let plain = pass(&*engine, &weights, &pixels, &unweighted(&labels));
                for weight in [1.0, 0.3, 7e20, 1e-42, f32::MAX] {
                    let counts = vec![weight; n];
                    let targets = Targets { labels: &labels, weights: Some(&counts) };
                    assert!(plain == pass(&*engine, &weights, &pixels, &targets), "{weight}, {n}");
                }
            }
        }
    }

    #[test]
    fn what_a_batch_that_diverged_left_behind_changes_nothing() {
        for architecture in with_either_padding(16, 20, 5) {
            let weights = made_weights(architecture, 3);
            let diverged = vec![f32::NAN; architecture.parameter_count()];
            let diverged = Values::on(&Device::Cpu, &[&diverged]).unwrap();
            let diverged = Weights::new(architecture, diverged);
            for level in every_level() {
                let used = FusedEngine::new(level, 2, NORMALIZATION);
                let run = |engine: &FusedEngine, weights: &Weights, n: usize| {
                    let (pixels, labels) = made_batch(architecture, n, 7);
                    let pixels = Pixels::Byte(&pixels);
                    let images =
                        Images { pixels, size: architecture.pixels(), order: None, views: None };
                    let mut logits = vec![0.0; n * architecture.classes()];
                    engine.outputs(weights, &images, 0..n, Outputs::Logits, &mut logits).unwrap();
                    let gradient = zeros(architecture);
                    engine.gradient(weights, &images, &unweighted(&labels), &gradient).unwrap();
                    (logits, gradient.row(0).unwrap())
                };
                for (n, before) in [(1, 8), (3, 8), (8, 32), (9, 32), (17, 32), (140, 160)] {
                    run(&used, &diverged, before);
                    let fresh = FusedEngine::new(level, 2, NORMALIZATION);
                    let (ours, expected) = (run(&used, &weights, n), run(&fresh, &weights, n));
                    assert!(ours == expected, "{architecture:?}, {level:?}, {n} images");
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        for architecture in with_either_padding(16, 20, 5) {
            let weights = made_weights(architecture, 3);
            for n in [1, 70, 300] {
                let (pixels, labels) = made_batch(architecture, n, 7);
                let images = Images {
                    pixels: Pixels::Byte(&pixels),
                    size: architecture.pixels(),
                    order: None,
                    views: None,
                };
                let run = |threads| {
                    let engine = FusedEngine::new(Arch::new(), threads, NORMALIZATION);
                    let mut logits = vec![0.0; n * architecture.classes()];
                    engine.outputs(&weights, &images, 0..n, Outputs::Logits, &mut logits).unwrap();
                    let gradient = zeros(architecture);
                    let targets = unweighted(&labels);
                    let seen = engine.gradient(&weights, &images, &targets, &gradient).unwrap();
                    (logits, seen.loss, seen.correct, gradient.row(0).unwrap())
                };
                let one = run(1);
                for threads in [2, 3, 8] {
                    assert!(run(threads) == one, "{architecture:?}, {n} images, {threads} threads");
                }
            }
        }
    }
}
