//! The plugin: candle's engine behind the table of functions by which another lenet, which `engine::remote` is
//! in, lets it compute. Built with the feature `cuda` it has the GPUs.

#![allow(unsafe_code)]

use crate::architecture::{Architecture, Outputs};
use crate::batch::{Images, Normalization, Seen, Targets};
use crate::engine::{CandleEngine, Engine};
use crate::error::Result;
use crate::fence;
use crate::optimizer::Step;
use crate::parameters::Weights;
use crate::plugin_abi::{
    Batch, Failure, Handle, RanThere, RunThere, SeenThere, Settings, Status, StepThere, Table,
    TargetsThere, VERSION, numbered_outputs,
};
use crate::run::{Ran, Run};
use crate::values::Values;
use candle_core::Device;
use std::ffi::c_void;
use std::ops::Range;
use std::slice;

/// Where the engines of a plugin compute.
trait Devices {
    fn count() -> Result<u32>;

    fn open(
        index: u32,
        architecture: Architecture,
        normalization: Normalization,
    ) -> Result<Box<dyn Engine>>;
}

/// The table of a plugin with these devices.
const fn table<D: Devices>() -> Table {
    Table {
        version: VERSION,
        reserved: 0,
        device_count: device_count::<D>,
        open: open::<D>,
        close,
        upload,
        download,
        free,
        outputs,
        gradient,
        step,
        train,
    }
}

/// The entry of a plugin without a GPU, for tests: candle's CPU device, twice.
pub fn on_cpu() -> *const c_void {
    struct Cpu;

    impl Devices for Cpu {
        fn count() -> Result<u32> {
            Ok(2)
        }

        fn open(_: u32, _: Architecture, seen: Normalization) -> Result<Box<dyn Engine>> {
            Ok(Box::new(Several(CandleEngine::new(Device::Cpu, seen))))
        }
    }

    static TABLE: Table = table::<Cpu>();
    (&raw const TABLE).cast()
}

/// Makes up to three steps of a run at once, as a GPU makes many.
struct Several(CandleEngine);

impl Engine for Several {
    fn upload(&self, rows: &[&[f32]]) -> Result<Values> {
        self.0.upload(rows)
    }

    fn outputs(
        &self,
        weights: &Weights,
        images: &Images,
        range: Range<usize>,
        outputs: Outputs,
        out: &mut [f32],
    ) -> Result<()> {
        self.0.outputs(weights, images, range, outputs, out)
    }

    fn gradient(
        &self,
        weights: &Weights,
        images: &Images,
        targets: &Targets,
        gradient: &Values,
    ) -> Result<Seen> {
        self.0.gradient(weights, images, targets, gradient)
    }

    fn step(
        &self,
        step: Step,
        now: &Weights,
        gradient: &Values,
        next: &mut Weights,
    ) -> Result<bool> {
        self.0.step(step, now, gradient, next)
    }

    fn train(
        &self,
        run: &Run,
        now: &Weights,
        gradient: &Values,
        next: &mut Weights,
        each: &mut dyn FnMut(Seen),
    ) -> Result<Ran> {
        let mut ran = self.0.train(run, now, gradient, next, each)?;
        while ran.finite && ran.steps < run.steps().min(3) {
            let now = self.copy(next)?;
            let rest = run.after(ran.steps);
            // A step that is not finite must leave the one before.
            let after = &mut self.copy(next)?;
            let step = self.0.train(&rest, &now, gradient, after, each)?;
            if step.steps == 1 {
                *next = self.copy(after)?;
            }
            ran = Ran { steps: ran.steps + step.steps, finite: step.finite };
        }
        Ok(ran)
    }
}

struct Served {
    engine: Box<dyn Engine>,
    architecture: Architecture,
}

/// Runs the body of a table function: no panic leaves it, nothing is printed.
///
/// # Safety
/// `failure` is the caller's.
unsafe fn answer(failure: *mut Failure, body: impl FnOnce() -> Result<()>) -> Status {
    match fence::catch(body) {
        Ok(()) => 0,
        Err(error) => {
            // SAFETY: as above.
            unsafe { (*failure).set(&error.message) };
            error.code as Status
        }
    }
}

/// # Safety
/// From `open`, and not closed.
unsafe fn served<'a>(engine: Handle) -> &'a Served {
    // SAFETY: as above.
    unsafe { &*engine.cast::<Served>() }
}

/// Values are weights of any number of rows.
///
/// # Safety
/// From `upload`, and not freed.
unsafe fn values<'a>(values: Handle) -> &'a Weights {
    // SAFETY: as above.
    unsafe { &*values.cast::<Weights>() }
}

/// # Safety
/// A `T` that was boxed, and its last use.
unsafe fn dispose<T>(handle: Handle) {
    // A failure to free has nobody to be told.
    let _ = fence::catch(|| {
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(handle.cast::<T>()) });
        Ok(())
    });
}

// The safety of what follows: the table says what is passed.

unsafe extern "C" fn device_count<D: Devices>(count: *mut u32, failure: *mut Failure) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(failure, || {
            *count = D::count()?;
            Ok(())
        })
    }
}

unsafe extern "C" fn open<D: Devices>(
    index: u32,
    settings: *const Settings,
    engine: *mut Handle,
    failure: *mut Failure,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(failure, || {
            let (architecture, normalization) = (*settings).read()?;
            let made = D::open(index, architecture, normalization)?;
            *engine = Box::into_raw(Box::new(Served { engine: made, architecture })).cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn close(engine: Handle) {
    // SAFETY: see above.
    unsafe { dispose::<Served>(engine) };
}

unsafe extern "C" fn upload(
    engine: Handle,
    rows: *const f32,
    count: usize,
    values: *mut Handle,
    failure: *mut Failure,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(failure, || {
            let Served { engine, architecture } = served(engine);
            let length = architecture.parameter_count();
            let rows = slice::from_raw_parts(rows, count * length);
            let rows: Vec<&[f32]> = rows.chunks_exact(length).collect();
            let made = Weights::new(*architecture, engine.upload(&rows)?);
            *values = Box::into_raw(Box::new(made)).cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn download(
    engine: Handle,
    from: Handle,
    i: usize,
    row: *mut f32,
    failure: *mut Failure,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(failure, || {
            let length = served(engine).architecture.parameter_count();
            let values = values(from).row(i)?;
            slice::from_raw_parts_mut(row, length).copy_from_slice(&values);
            Ok(())
        })
    }
}

unsafe extern "C" fn free(_: Handle, values: Handle) {
    // SAFETY: see above.
    unsafe { dispose::<Weights>(values) };
}

unsafe extern "C" fn outputs(
    engine: Handle,
    weights: Handle,
    batch: *const Batch,
    outputs: u32,
    out: *mut f32,
    failure: *mut Failure,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(failure, || {
            let Served { engine, architecture } = served(engine);
            let images = (*batch).read(architecture.pixels());
            let (n, outputs) = (images.count(), numbered_outputs(outputs)?);
            let out = slice::from_raw_parts_mut(out, n * architecture.outputs(outputs));
            engine.outputs(values(weights), &images, 0..n, outputs, out)
        })
    }
}

unsafe extern "C" fn gradient(
    engine: Handle,
    weights: Handle,
    batch: *const Batch,
    targets: *const TargetsThere,
    gradient: Handle,
    seen: *mut SeenThere,
    failure: *mut Failure,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(failure, || {
            let Served { engine, architecture } = served(engine);
            let images = (*batch).read(architecture.pixels());
            let targets = (*targets).read(images.count());
            let gradient = values(gradient).values();
            let here = engine.gradient(values(weights), &images, &targets, gradient)?;
            *seen = here.into();
            Ok(())
        })
    }
}

unsafe extern "C" fn step(
    engine: Handle,
    step: *const StepThere,
    now: Handle,
    gradient: Handle,
    next: Handle,
    finite: *mut u32,
    failure: *mut Failure,
) -> Status {
    // SAFETY: see above; `next` is nobody else's.
    unsafe {
        answer(failure, || {
            let next = &mut *next.cast::<Weights>();
            let gradient = values(gradient).values();
            let engine = &served(engine).engine;
            *finite = engine.step((*step).read()?, values(now), gradient, next)?.into();
            Ok(())
        })
    }
}

unsafe extern "C" fn train(
    engine: Handle,
    run: *const RunThere,
    now: Handle,
    gradient: Handle,
    next: Handle,
    seen: *mut SeenThere,
    ran: *mut RanThere,
    failure: *mut Failure,
) -> Status {
    // SAFETY: see above; `next` is nobody else's.
    unsafe {
        answer(failure, || {
            let Served { engine, architecture } = served(engine);
            let run = (*run).read(architecture.pixels())?;
            let seen = slice::from_raw_parts_mut(seen, run.steps());
            let next = &mut *next.cast::<Weights>();
            let mut count = 0;
            let mut each = |step: Seen| {
                seen[count] = step.into();
                count += 1;
            };
            let gradient = values(gradient).values();
            let here = engine.train(&run, values(now), gradient, next, &mut each)?;
            *ran = RanThere { steps: here.steps as u64, seen: count as u64 };
            Ok(())
        })
    }
}

/// NVIDIA's GPUs, as the driver numbers them.
#[cfg(feature = "cuda")]
mod cuda {
    use super::{Devices, table};
    use crate::architecture::Architecture;
    use crate::batch::Normalization;
    use crate::engine::{Engine, open_cuda};
    use crate::error::{Code, Error, Result};
    use crate::plugin_abi::Table;
    use candle_core::Device;
    use candle_core::cuda_backend::cudarc::driver::CudaContext;

    pub struct Gpus;

    impl Devices for Gpus {
        fn count() -> Result<u32> {
            let count = CudaContext::device_count().map_err(|error| {
                Error::new(Code::DeviceUnavailable, format!("the driver says {error:?}"))
            })?;
            Ok(count.max(0) as u32)
        }

        fn open(
            index: u32,
            architecture: Architecture,
            normalization: Normalization,
        ) -> Result<Box<dyn Engine>> {
            // A stream of its own: candle's default ones are per thread and wait for nobody.
            let device = Device::new_cuda_with_stream(index as usize).map_err(Error::from);
            let engine = device.and_then(|device| open_cuda(device, architecture, normalization));
            engine.map_err(|error| match error.code {
                Code::OutOfMemory => error,
                _ => Error::new(Code::DeviceUnavailable, error.message),
            })
        }
    }

    static GPUS: Table = table::<Gpus>();

    /// What liblenet looks for.
    #[unsafe(no_mangle)]
    pub extern "C" fn lenet_plugin() -> *const Table {
        &GPUS
    }
}
