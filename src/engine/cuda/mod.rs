//! The engine for NVIDIA GPUs: one launch makes any number of training steps, or all predictions of a call.
//!
//! Candle owns the device, its stream and the tensors; the kernels of `cuda/` are custom operations of its, as the
//! CPU's are. What no kernel covers, a network too large for a block's shared memory, images that are seen through
//! views, features and a batch whose images have weights, candle's own operations compute, more slowly; so they do for
//! LENET_ENGINE=candle.
//!
//! A step that is not finite stops the kernel. A run of many steps alternates between two sets of weights of this
//! engine's own, so whoever reads the set that was published is not disturbed, and the last good one is copied from
//! there.

#![allow(unsafe_code)]

mod arguments;
mod buffers;
mod gpu;
mod kernels;
mod pace;

use super::candle::CandleEngine;
use super::interface::{Engine, single_step};
use crate::architecture::{Architecture, Outputs};
use crate::batch::{Images, Normalization, Seen, Targets, chunks};
use crate::error::{Code, Error, Result};
use crate::optimizer::{Optimizer, Rule, Step};
use crate::parameters::Weights;
use crate::run::{Ran, Run};
use crate::values::Values;
use arguments::{
    ADAMW, Address, ApplyArguments, FINISHED, GRADIENT_ONLY, LogitsArguments, NULL, Rates, Report,
    SGD, SGD_MOMENTUM, TrainArguments,
};
use buffers::{Buffers, Inputs};
use candle_core::{CpuStorage, CudaStorage, Device, InplaceOp2, InplaceOp3, Layout, Storage};
use gpu::{Gpu, Grid};
use kernels::Kernels;
use std::cell::Cell;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Images that are brought to the device while those before them are computed.
const IMAGES_IN_FLIGHT: usize = 2048;

/// The engine for a device of candle's: this one, or candle's operations where it does not fit.
pub fn open(
    device: Device,
    architecture: Architecture,
    normalization: Normalization,
) -> Result<Box<dyn Engine>> {
    let gpu = Gpu::of(&device)?;
    let candle = CandleEngine::new(device, normalization);
    if std::env::var_os("LENET_ENGINE").is_some_and(|engine| engine == "candle") {
        return Ok(Box::new(candle));
    }
    Ok(match Kernels::load(&gpu, architecture)? {
        None => Box::new(candle),
        Some(kernels) => {
            let buffers = Mutex::new(Buffers::new(normalization));
            Box::new(CudaEngine { gpu, kernels, normalization, buffers, candle })
        }
    })
}

struct CudaEngine {
    gpu: Gpu,
    kernels: Kernels,
    normalization: Normalization,
    /// One launch at a time uses them.
    buffers: Mutex<Buffers>,
    candle: CandleEngine,
}

impl CudaEngine {
    fn buffers(&self) -> MutexGuard<'_, Buffers> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Launches the kernel for training and waits for it. `sets` are those of `TrainArguments`.
    fn launch_train(
        &self,
        buffers: &mut Buffers,
        inputs: Inputs,
        plan: Plan,
        sets: Sets,
    ) -> Result<Report> {
        let (kernel, grid) = self.kernels.train(plan.batch);
        let workspace = buffers.train_workspace(&self.gpu, &self.kernels, plan.batch)?;
        let (results, report) = buffers.results(&self.gpu, plan.steps)?;
        let arguments = TrainArguments {
            network: self.kernels.network,
            images: inputs.images,
            labels: inputs.labels,
            rates: inputs.rates,
            first: sets.first,
            ping: sets.ping,
            pong: sets.pong,
            gradient: sets.gradient,
            results,
            report,
            workspace,
            rule: plan.rule,
            batch: plan.batch as u32,
            steps: plan.steps as u32,
            launch: buffers.next_launch(),
            reserved: 0,
        };
        // SAFETY: arguments.h says how large each part is; `buffers` made them so, and tensors are kept by the caller.
        // Nothing else writes them before the wait, for `buffers` is locked.
        let launched = unsafe { self.gpu.launch(kernel, grid, &arguments) };
        self.finish(buffers, launched)?;
        buffers.report()
    }

    /// Waits for what was launched. After a failure barriers may stand half-way.
    fn finish(&self, buffers: &mut Buffers, launched: Result<()>) -> Result<()> {
        let finished = launched.and_then(|()| self.gpu.wait());
        finished.inspect_err(|_| buffers.forget_workspaces())
    }

    fn launch_logits(
        &self,
        buffers: &mut Buffers,
        parameters: Address,
        images: &Images,
        out: &mut [f32],
    ) -> Result<()> {
        let n = images.count();
        let classes = out.len() / n;
        let workspace = buffers.logits_workspace(&self.gpu, &self.kernels)?;
        let logits = buffers.logits(&self.gpu, out.len())?;
        buffers.reserve_images(&self.gpu, images)?;
        let launched = chunks(0..n, IMAGES_IN_FLIGHT).try_for_each(|range| {
            let images = buffers.bring_images(images, range.clone())?;
            let (kernel, grid) = self.kernels.logits(range.len());
            let logits = logits + (range.start * classes * size_of::<f32>()) as Address;
            let network = self.kernels.network;
            let arguments = LogitsArguments { network, images, parameters, logits, workspace };
            // SAFETY: as in `launch_train`; each range has a part of the mapped memory of its own.
            unsafe { self.gpu.launch(kernel, grid, &arguments) }
        });
        self.finish(buffers, launched)?;
        buffers.read_logits(out)
    }
}

/// What a launch for training makes.
#[derive(Clone, Copy)]
struct Plan {
    batch: usize,
    steps: usize,
    rule: arguments::Rule,
}

/// Sets of weights and a gradient on the device.
#[derive(Clone, Copy)]
struct Sets {
    first: Address,
    ping: Address,
    pong: Address,
    gradient: Address,
}

impl Engine for CudaEngine {
    fn upload(&self, rows: &[&[f32]]) -> Result<Values> {
        self.candle.upload(rows)
    }

    fn outputs(
        &self,
        weights: &Weights,
        images: &Images,
        range: Range<usize>,
        outputs: Outputs,
        out: &mut [f32],
    ) -> Result<()> {
        if images.views.is_some() || outputs == Outputs::Features {
            return self.candle.outputs(weights, images, range, outputs, out);
        }
        images.check_pixels(range.clone(), weights.architecture().width(), self.normalization)?;
        let (storage, layout) = weights.values().tensor()?.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            return Err(Error::new(Code::Internal, "the weights are not on the GPU"));
        };
        let parameters = self.gpu.floats(storage, layout)?;
        self.launch_logits(&mut self.buffers(), parameters, &images.part(range), out)
    }

    fn gradient(
        &self,
        weights: &Weights,
        images: &Images,
        targets: &Targets,
        gradient: &Values,
    ) -> Result<Seen> {
        if images.views.is_some() || targets.shares().is_some() {
            return self.candle.gradient(weights, images, targets, gradient);
        }
        let labels = targets.labels;
        images.check_pixels(0..labels.len(), weights.architecture().width(), self.normalization)?;
        let mut buffers = self.buffers();
        let inputs = buffers.bring(&self.gpu, images, labels, &[])?;
        let rule = arguments::Rule { rule: GRADIENT_ONLY, ..Default::default() };
        let plan = Plan { batch: labels.len(), steps: 1, rule };
        let launch = |out: Address, weights: Address| {
            let sets = Sets { first: weights, ping: NULL, pong: NULL, gradient: out };
            self.launch_train(&mut buffers, inputs, plan, sets).map(drop)
        };
        let op =
            TwoTensors { name: "lenet-gradient", gpu: &self.gpu, launch: Cell::new(Some(launch)) };
        gradient.tensor()?.inplace_op2(weights.values().tensor()?, &op)?;
        buffers.seen(0)
    }

    fn step(
        &self,
        step: Step,
        now: &Weights,
        gradient: &Values,
        next: &mut Weights,
    ) -> Result<bool> {
        let finite = Cell::new(false);
        let op = ApplyOp { engine: self, step, finite: &finite };
        let (next, now) = (next.values_mut().tensor()?, now.values().tensor()?);
        next.inplace_op3(now, gradient.tensor()?, &op)?;
        Ok(finite.get())
    }

    fn train(
        &self,
        run: &Run,
        now: &Weights,
        gradient: &Values,
        next: &mut Weights,
        each: &mut dyn FnMut(Seen),
    ) -> Result<Ran> {
        if run.images.views.is_some() || run.targets.shares().is_some() {
            return single_step(self, run, now, gradient, next, each);
        }
        let mut buffers = self.buffers();
        let steps = buffers.pace.steps(run.batch, self.kernels.train_groups).min(run.steps());
        let images = run.images.part(0..run.targets.labels.len().min(steps * run.batch));
        let labels = &run.targets.labels[..images.count()];
        images.check_pixels(0..labels.len(), now.architecture().width(), self.normalization)?;
        let rates: Vec<Rates> = (0..steps).map(|i| rates(run.step(i))).collect();
        let inputs = buffers.bring(&self.gpu, &images, labels, &rates)?;
        let plan = Plan { batch: run.batch.min(labels.len()), steps, rule: rule(run.optimizer) };
        let (next, now) = (next.values_mut().tensor()?, now.values().tensor()?);
        let report = Cell::new(Report::default());
        let start = Instant::now();
        // A single step writes where its result belongs, a run alternates between two places.
        let pair = if steps > 1 { Some(buffers.pair(now)?) } else { None };
        let launch = |out: Address, first: Address| {
            let pong = pair.as_ref().map_or(NULL, |pair| out + pair.stride_bytes());
            let sets = Sets { first, ping: out, pong, gradient: NULL };
            report.set(self.launch_train(&mut buffers, inputs, plan, sets)?);
            Ok(())
        };
        let op =
            TwoTensors { name: "lenet-train", gpu: &self.gpu, launch: Cell::new(Some(launch)) };
        pair.as_ref().map_or(next, |pair| &pair.sets).inplace_op2(now, &op)?;
        let Report { steps: good, reason } = report.get();
        let (good, finite) = (good as usize, reason == FINISHED);
        if let Some(pair) = pair.filter(|_| good > 0) {
            next.slice_set(&pair.set((good - 1) % 2)?, 0, 0)?;
        }
        if finite {
            buffers.pace.note(run.batch, start.elapsed() / steps as u32);
        }
        for i in 0..steps.min(good + usize::from(!finite)) {
            each(buffers.seen(i)?);
        }
        Ok(Ran { steps: good, finite })
    }
}

/// The numbers of a step that the kernels take as f32, from f64 as the CPU's engine has them.
fn rates(step: Step) -> Rates {
    let rate = step.learning_rate as f32;
    match step.optimizer.rule {
        Rule::Sgd => Rates { rate, ..Rates::default() },
        Rule::AdamW => {
            let (mean_correction, square_correction) = step.bias_corrections();
            Rates {
                rate: (step.learning_rate / mean_correction) as f32,
                keep: (1.0 - step.learning_rate * step.optimizer.weight_decay) as f32,
                scale: (1.0 / square_correction.sqrt()) as f32,
                reserved: 0.0,
            }
        }
    }
}

fn rule(optimizer: Optimizer) -> arguments::Rule {
    let rule = match optimizer.rule {
        Rule::Sgd if optimizer.momentum == 0.0 => SGD,
        Rule::Sgd => SGD_MOMENTUM,
        Rule::AdamW => ADAMW,
    };
    let momentum = optimizer.momentum as f32;
    let weight_decay = optimizer.weight_decay as f32;
    arguments::Rule { rule, momentum, weight_decay, reserved: 0 }
}

/// One tensor written, one read.
struct TwoTensors<'a, F> {
    name: &'static str,
    gpu: &'a Gpu,
    /// Given both addresses, once.
    launch: Cell<Option<F>>,
}

impl<F: FnOnce(Address, Address) -> Result<()>> InplaceOp2 for TwoTensors<'_, F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        _: &mut CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<()> {
        candle_core::bail!("{} is for GPUs", self.name)
    }

    fn cuda_fwd(
        &self,
        out: &mut CudaStorage,
        out_layout: &Layout,
        read: &CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<()> {
        let (out, read) = (self.gpu.floats(out, out_layout)?, self.gpu.floats(read, layout)?);
        match self.launch.take() {
            Some(launch) => launch(out, read).map_err(candle_core::Error::wrap),
            None => candle_core::bail!("{} is run once", self.name),
        }
    }
}

/// Weights and gradient to the weights after a step.
struct ApplyOp<'a> {
    engine: &'a CudaEngine,
    step: Step,
    finite: &'a Cell<bool>,
}

impl InplaceOp3 for ApplyOp<'_> {
    fn name(&self) -> &'static str {
        "lenet-step"
    }

    fn cpu_fwd(
        &self,
        _: &mut CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<()> {
        candle_core::bail!("lenet-step is for GPUs")
    }

    fn cuda_fwd(
        &self,
        next: &mut CudaStorage,
        next_layout: &Layout,
        now: &CudaStorage,
        now_layout: &Layout,
        gradient: &CudaStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let CudaEngine { gpu, kernels, .. } = self.engine;
        let mut buffers = self.engine.buffers();
        let count = gradient_layout.shape().elem_count();
        let (_, report) = buffers.results(gpu, 0).map_err(candle_core::Error::wrap)?;
        let arguments = ApplyArguments {
            now: gpu.floats(now, now_layout)?,
            gradient: gpu.floats(gradient, gradient_layout)?,
            next: gpu.floats(next, next_layout)?,
            report,
            rule: rule(self.step.optimizer),
            rates: rates(self.step),
            parameters: count as u32,
            reserved: 0,
        };
        let blocks = count.div_ceil(arguments::THREADS as usize) as u32;
        let grid = Grid { blocks, shared_bytes: 0, cooperative: false };
        // SAFETY: tensors of as many floats as `Weights` has, and a report; nothing else writes them before the wait.
        let launched = unsafe { gpu.launch(&kernels.apply, grid, &arguments) };
        let report = launched.and_then(|()| gpu.wait()).and_then(|()| buffers.report());
        self.finite.set(report.map_err(candle_core::Error::wrap)?.reason == FINISHED);
        Ok(())
    }
}
