//! An engine in another shared library, the plugin, so that no host must have what only that one needs.
//!
//! A CUDA build of candle does not load where there is no driver, so it cannot be the library that
//! every program links. It is one of its own, `liblenet_cuda.so.1`: this same source, built with the
//! feature `cuda`. `find` loads it when a model first asks for a GPU, and this engine lets it compute, by way
//! of `plugin_abi`; `plugin` is what answers there. Weights and gradients stay on the other side; batches,
//! logits, losses and errors cross.
//!
//! What belongs to a GPU does not survive fork(): a child gets `Forked`, and what it frees is left to
//! its end.

#![allow(unsafe_code)]

#[cfg(not(feature = "cuda"))]
mod find;

/// A library with the GPUs built in needs no other: its own entry leads to the table.
#[cfg(feature = "cuda")]
mod find {
    use crate::error::Result;
    use crate::plugin_abi::Table;

    unsafe extern "C" {
        fn lenet_plugin() -> *const Table;
    }

    pub fn plugin() -> Result<&'static Table> {
        // SAFETY: defined in this library; what it gives is there for ever.
        Ok(unsafe { &*lenet_plugin() })
    }
}

use super::interface::{self, Engine};
use crate::allocation::reserve;
use crate::architecture::{Architecture, Outputs};
use crate::batch::{Images, Normalization, Seen, Targets};
use crate::error::{Code, Error, Result};
use crate::free_list::FreeList;
use crate::host::signals;
use crate::optimizer::Step;
use crate::parameters::Weights;
use crate::plugin_abi::{
    Batch, Failure, Handle, RanThere, RunThere, SeenThere, Settings, Status, StepThere, Table,
    TargetsThere, outputs_number,
};
use crate::run::{Ran, Run};
use crate::values::{Elsewhere, Values};
use find::plugin;
use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::ptr::null_mut;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};

/// The plugin, if this process is the one that first used it.
fn table() -> Result<&'static Table> {
    let table = plugin()?;
    refuse_forked_child()?;
    Ok(table)
}

fn refuse_forked_child() -> Result<()> {
    static OWNER: AtomicU32 = AtomicU32::new(0);
    interface::refuse_forked_child(&OWNER, ", which has the GPU")
}

/// GPUs that `open` would accept, or why there is none.
pub fn device_count() -> Result<u32> {
    let (mut count, mut failure) = (0, Failure::none());
    let table = table()?;
    let _signals = signals::block(); // on the driver's threads
    // SAFETY: places of ours.
    let status = unsafe { (table.device_count)(&mut count, &mut failure) };
    result(status, &failure)?;
    Ok(count)
}

/// The engine for GPU `index`.
pub fn open(
    index: i32,
    architecture: Architecture,
    normalization: Normalization,
) -> Result<Box<dyn Engine>> {
    let unavailable = |message| Err(Error::new(Code::DeviceUnavailable, message));
    match (u32::try_from(index), device_count()?) {
        (_, 0) => unavailable("LENET_DEVICE_CUDA: the driver sees no GPU".into()),
        (Ok(number), count) if number < count => {
            let there = There::open(table()?, number, architecture, normalization)?;
            Ok(Box::new(RemoteEngine::new(there)))
        }
        (_, count) => {
            unavailable(format!("device_index is {index}; there are {count} GPUs, numbered from 0"))
        }
    }
}

fn result(status: Status, failure: &Failure) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(failure.error(status)) }
}

/// An engine on the other side.
struct There {
    table: &'static Table,
    engine: Handle,
    /// One call at a time.
    turn: Mutex<()>,
    /// Parameters of its network.
    length: usize,
}

// SAFETY: the other side's functions may be called from any thread, one at a time (`turn`).
unsafe impl Send for There {}
// SAFETY: as above.
unsafe impl Sync for There {}

impl There {
    fn open(
        table: &'static Table,
        index: u32,
        architecture: Architecture,
        normalization: Normalization,
    ) -> Result<Self> {
        let (mut engine, mut failure) = (null_mut(), Failure::none());
        let settings = Settings::new(architecture, normalization);
        let _signals = signals::block(); // on the driver's threads
        // SAFETY: places of ours.
        let status = unsafe { (table.open)(index, &settings, &mut engine, &mut failure) };
        result(status, &failure)?;
        let length = architecture.parameter_count();
        Ok(There { table, engine, turn: Mutex::default(), length })
    }

    fn call(&self, function: impl FnOnce(&Table, Handle, &mut Failure) -> Status) -> Result<()> {
        refuse_forked_child()?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failure = Failure::none();
        let status = function(self.table, self.engine, &mut failure);
        result(status, &failure)
    }
}

impl Drop for There {
    fn drop(&mut self) {
        if refuse_forked_child().is_ok() {
            // SAFETY: whoever holds values holds this.
            unsafe { (self.table.close)(self.engine) };
        }
    }
}

/// Values on the other side.
struct RemoteValues {
    there: Arc<There>,
    handle: Handle,
    rows: usize,
}

// SAFETY: as for `There`.
unsafe impl Send for RemoteValues {}
// SAFETY: as for `There`.
unsafe impl Sync for RemoteValues {}

impl fmt::Debug for RemoteValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows in a plugin", self.rows)
    }
}

impl Elsewhere for RemoteValues {
    fn count(&self) -> usize {
        self.rows
    }

    fn row(&self, i: usize) -> Result<Vec<f32>> {
        let mut row = vec![0.0f32; self.there.length];
        self.there.call(|table, engine, failure| {
            // SAFETY: values of this engine, room for one of their rows.
            unsafe { (table.download)(engine, self.handle, i, row.as_mut_ptr(), failure) }
        })?;
        Ok(row)
    }
}

impl Drop for RemoteValues {
    fn drop(&mut self) {
        // In a forked child it fails, and there is nothing to free.
        let _ = self.there.call(|table, engine, _| {
            // SAFETY: values of this engine, and the last use of them.
            unsafe { (table.free)(engine, self.handle) };
            0
        });
    }
}

struct RemoteEngine {
    there: Arc<There>,
    seen: FreeList<Vec<SeenThere>>,
}

impl RemoteEngine {
    fn new(there: There) -> Self {
        RemoteEngine { there: Arc::new(there), seen: FreeList::default() }
    }

    /// What values of this engine are there.
    fn handle(values: &Values) -> Result<Handle> {
        let own = match values {
            Values::Elsewhere(values) => (&**values as &dyn Any).downcast_ref::<RemoteValues>(),
            Values::Tensor(_) => None,
        };
        let foreign = || Error::new(Code::Internal, "a plugin is given another engine's values");
        own.map(|values| values.handle).ok_or_else(foreign)
    }
}

impl Engine for RemoteEngine {
    fn upload(&self, rows: &[&[f32]]) -> Result<Values> {
        let flat = rows.concat();
        let mut handle = null_mut();
        self.there.call(|table, engine, failure| {
            // SAFETY: as many rows as are said, each as long as the network has parameters.
            unsafe { (table.upload)(engine, flat.as_ptr(), rows.len(), &mut handle, failure) }
        })?;
        let there = Arc::clone(&self.there);
        Ok(Values::Elsewhere(Box::new(RemoteValues { there, handle, rows: rows.len() })))
    }

    fn outputs(
        &self,
        weights: &Weights,
        images: &Images,
        range: Range<usize>,
        outputs: Outputs,
        out: &mut [f32],
    ) -> Result<()> {
        let weights = Self::handle(weights.values())?;
        let batch = Batch::new(&images.part(range));
        self.there.call(|table, engine, failure| {
            let (outputs, out) = (outputs_number(outputs), out.as_mut_ptr());
            // SAFETY: weights of this engine; room for these outputs of the batch.
            unsafe { (table.outputs)(engine, weights, &batch, outputs, out, failure) }
        })
    }

    fn gradient(
        &self,
        weights: &Weights,
        images: &Images,
        targets: &Targets,
        gradient: &Values,
    ) -> Result<Seen> {
        let (weights, gradient) = (Self::handle(weights.values())?, Self::handle(gradient)?);
        let (batch, targets) = (Batch::new(images), TargetsThere::new(targets));
        let mut seen = SeenThere::default();
        self.there.call(|table, engine, failure| {
            // SAFETY: weights and gradient of this engine; targets for each image.
            unsafe {
                (table.gradient)(engine, weights, &batch, &targets, gradient, &mut seen, failure)
            }
        })?;
        Ok(seen.into())
    }

    fn step(
        &self,
        step: Step,
        now: &Weights,
        gradient: &Values,
        next: &mut Weights,
    ) -> Result<bool> {
        let (now, gradient) = (Self::handle(now.values())?, Self::handle(gradient)?);
        let next = Self::handle(next.values_mut())?;
        let step = StepThere::new(step);
        let mut finite = 0;
        self.there.call(|table, engine, failure| {
            // SAFETY: values of this engine; `next` is borrowed for this call alone.
            unsafe { (table.step)(engine, &step, now, gradient, next, &mut finite, failure) }
        })?;
        Ok(finite != 0)
    }

    fn train(
        &self,
        run: &Run,
        now: &Weights,
        gradient: &Values,
        next: &mut Weights,
        each: &mut dyn FnMut(Seen),
    ) -> Result<Ran> {
        let (now, gradient) = (Self::handle(now.values())?, Self::handle(gradient)?);
        let next = Self::handle(next.values_mut())?;
        let mut seen = self.seen.take().unwrap_or_default();
        seen.clear();
        reserve(&mut seen, run.steps())?;
        seen.resize(run.steps(), SeenThere::default());
        let (run, mut ran) = (RunThere::new(run), RanThere::default());
        self.there.call(|table, engine, failure| {
            let seen = seen.as_mut_ptr();
            // SAFETY: values of this engine, `next` borrowed for this call alone; room for every step.
            unsafe { (table.train)(engine, &run, now, gradient, next, seen, &mut ran, failure) }
        })?;
        let seen_steps = seen.iter().take(ran.seen as usize);
        seen_steps.for_each(|&seen| each(seen.into()));
        self.seen.give_back(seen);
        Ok(Ran { steps: ran.steps as usize, finite: ran.steps == ran.seen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::{Activation, Pooling};
    use crate::augment::Augmentation;
    use crate::batch::{Order, Pixels};
    use crate::engine::CandleEngine;
    use crate::optimizer::{Optimizer, Rule};
    use crate::parameters::xavier;
    use crate::plugin::on_cpu;
    use crate::unique::Unique;
    use crate::view::View;
    use candle_core::Device;

    /// Everything that an engine says and writes, bit for bit.
    fn use_everything(engine: &dyn Engine, architecture: Architecture) -> Result<Vec<Vec<f32>>> {
        let parameters = xavier(architecture, 3);
        let zeros = vec![0.0; parameters.len()];
        let now = Weights::new(architecture, engine.upload(&[&parameters, &zeros])?);
        let mut next = Weights::new(architecture, engine.upload(&[&zeros, &zeros])?);
        let gradient = engine.upload(&[&zeros])?;

        let size = architecture.pixels();
        let bytes: Vec<u8> = (0..6 * size).map(|i| (i * i % 251) as u8).collect();
        let floats: Vec<f32> = bytes.iter().map(|&b| f32::from(b) / 255.0).collect();
        let order = Some(Order {
            indices: &[4, 1, 5, 1],
            dataset: Unique::next(),
            labels: &[0, 1, 2, 0, 1, 2],
        });
        let mut all = Vec::new();
        let options = Augmentation { shift: 2, flip: 0.5, rotation: 20.0, scale: 0.1 };
        let views: Vec<View> = (0..6).map(|i| options.draw(1, 2, i)).collect();
        for (pixels, order, views) in [
            (Pixels::Byte(&bytes), None, None),
            (Pixels::Float(&floats), None, None),
            (Pixels::Byte(&bytes), order, None),
            (Pixels::Byte(&bytes), None, Some(&*views)),
            (Pixels::Float(&floats), None, Some(&*views)),
            (Pixels::Byte(&bytes), order, Some(&views[..4])),
        ] {
            let images = Images { pixels, size, order, views };
            for outputs in [Outputs::Logits, Outputs::Features] {
                let mut out = vec![0.0; 2 * architecture.outputs(outputs)];
                engine.outputs(&now, &images, 2..4, outputs, &mut out)?;
                all.push(out);
            }
            let labels: Vec<u8> = (0..images.count()).map(|i| (i % 3) as u8).collect();
            let counts: Vec<f32> = (0..images.count()).map(|i| i as f32).collect();
            for weights in [None, Some(&*counts)] {
                let targets = Targets { labels: &labels, weights };
                let seen = engine.gradient(&now, &images, &targets, &gradient)?;
                all.extend([vec![seen.loss as f32, seen.correct as f32], gradient.row(0)?]);
            }
        }
        let optimizer = Optimizer { rule: Rule::Sgd, momentum: 0.9, weight_decay: 0.1 };
        for (number, learning_rate) in [(1, 0.1), (2, 1e38)] {
            let step = Step { optimizer, number, learning_rate };
            let finite = engine.step(step, &now, &gradient, &mut next)?;
            all.push(vec![finite.into()]);
            if finite {
                all.extend(next.values().rows()?);
            }
        }
        all.extend(engine.adopt(&Arc::new(next))?.values().rows()?);
        Ok(all)
    }

    /// What the steps of a run saw and left, each with its own rate, until one that is not finite; and how many steps
    /// the engine made at once.
    fn run(engine: &dyn Engine, architecture: Architecture) -> Result<(Vec<Vec<f32>>, Vec<usize>)> {
        let parameters = xavier(architecture, 3);
        let zeros = vec![0.0; parameters.len()];
        let upload = |rows: &[&[f32]]| -> Result<Weights> {
            Ok(Weights::new(architecture, engine.upload(rows)?))
        };
        let mut now = upload(&[&parameters, &zeros])?;
        let gradient = engine.upload(&[&zeros])?;
        let size = architecture.pixels();
        let bytes: Vec<u8> = (0..11 * size).map(|i| (i * i % 251) as u8).collect();
        let labels: Vec<u8> = (0..11).map(|i| i % 3).collect();
        let mut run = Run {
            images: Images { pixels: Pixels::Byte(&bytes), size, order: None, views: None },
            targets: Targets { labels: &labels, weights: None },
            batch: 2,
            optimizer: Optimizer { rule: Rule::Sgd, momentum: 0.9, weight_decay: 0.1 },
            number: 5,
            learning_rates: &[0.1, 0.0, 0.05, 0.2, 0.01, 1e300],
        };
        let (mut all, mut at_once, mut finite) = (Vec::new(), Vec::new(), true);
        while finite && run.steps() > 0 {
            let mut next = upload(&[&zeros, &zeros])?;
            let mut each = |seen: Seen| all.push(vec![seen.loss as f32, seen.correct as f32]);
            let ran = engine.train(&run, &now, &gradient, &mut next, &mut each)?;
            run = run.after(ran.steps);
            finite = ran.finite;
            if ran.steps > 0 {
                now = next;
                at_once.push(ran.steps);
            }
        }
        assert!(!finite, "a step with an infinite rate was finite");
        all.extend(now.values().rows()?);
        Ok((all, at_once))
    }

    #[test]
    fn a_plugins_engine_is_the_one_behind_it() {
        // SAFETY: a table of this library's.
        let table: &'static Table = unsafe { &*on_cpu().cast() };
        let normalization = Normalization { mean: 0.2, std: 0.5 };
        for (activation, pooling) in
            [(Activation::Relu, Pooling::Max), (Activation::Tanh, Pooling::Average)]
        {
            let padding = if pooling == Pooling::Max { 2 } else { 0 };
            let architecture = Architecture::new(16, 20, 3, activation, pooling)
                .and_then(|architecture| architecture.with_padding(padding))
                .unwrap();
            let there = There::open(table, 1, architecture, normalization).unwrap();
            let there = RemoteEngine::new(there);
            let here = CandleEngine::new(Device::Cpu, normalization);
            let (there, here) = (&there as &dyn Engine, &here as &dyn Engine);
            let engines = [there, here];
            let [there, here] = engines.map(|engine| use_everything(engine, architecture).unwrap());
            assert!(format!("{there:?}") == format!("{here:?}")); // NaN is itself
            let [there, here] = engines.map(|engine| run(engine, architecture).unwrap());
            assert!(format!("{:?}", there.0) == format!("{:?}", here.0));
            assert_eq!((there.1, here.1), (vec![3, 2], vec![1; 5]));
        }
    }
}
