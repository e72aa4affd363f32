//! How a batch is computed. The rooms above ask an `Engine` for logits, or for loss and gradient,
//! and know neither the device nor the kernels.

mod candle;
mod fused;
mod values;

pub use self::candle::CandleEngine;
#[cfg(feature = "kernel-benches")]
pub use fused::benched;
pub use fused::threads::THREAD_NAME;
pub use values::Values;

use crate::architecture::Architecture;
use crate::error::{Code, Error, Result};
use crate::optimizer::Step;
use crate::parameters::Weights;
use crate::plugin;
use crate::unique::Unique;
use candle_core::Device;
use fused::FusedEngine;
use pulp::Arch;
use std::ffi::{CStr, OsString};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// A device as the caller asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    Cpu,
    Cuda,
    /// CUDA where it can be had, else the CPU.
    Auto,
}

/// What the network sees of a pixel: (pixel - mean) / std.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    pub mean: f64,
    pub std: f64,
}

impl Normalization {
    fn is_identity(self) -> bool {
        (self.mean, self.std) == (0.0, 1.0)
    }

    fn of(self, pixel: f32) -> f32 {
        (pixel - self.mean as f32) / self.std as f32
    }
}

/// Images of one size, row-major, one behind the other.
#[derive(Clone, Copy)]
pub enum Pixels<'a> {
    Float(&'a [f32]),
    /// Bytes 0..=255 that stand for byte / 255.
    Byte(&'a [u8]),
}

/// A batch of images where they lie, in their order or picked by `order`: an engine converts them
/// while it loads them, so no copy of the batch is made before.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    pub pixels: Pixels<'a>,
    /// Pixels of one image.
    pub size: usize,
    /// None: all of them as they lie.
    pub order: Option<Order<'a>>,
}

/// A batch picked from a dataset.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// The images of the batch, as indices into the dataset's pixels.
    pub indices: &'a [u32],
    /// The dataset's number: an engine with memory of its own copies a dataset there once.
    pub dataset: Unique,
}

impl<'a> Pixels<'a> {
    fn part(self, range: Range<usize>) -> Self {
        match self {
            Pixels::Float(pixels) => Pixels::Float(&pixels[range]),
            Pixels::Byte(pixels) => Pixels::Byte(&pixels[range]),
        }
    }
}

impl<'a> Images<'a> {
    pub fn count(&self) -> usize {
        match (self.order, self.pixels) {
            (Some(order), _) => order.indices.len(),
            (None, Pixels::Float(pixels)) => pixels.len() / self.size,
            (None, Pixels::Byte(pixels)) => pixels.len() / self.size,
        }
    }

    /// The images of the batch in this range.
    pub fn part(&self, range: Range<usize>) -> Images<'a> {
        match self.order {
            Some(order) => {
                let order = Some(Order { indices: &order.indices[range], ..order });
                Images { order, ..*self }
            }
            None => {
                let pixels = self.pixels.part(range.start * self.size..range.end * self.size);
                Images { pixels, ..*self }
            }
        }
    }

    /// Where the pixels of image `i` of the batch begin.
    fn start(&self, i: usize) -> usize {
        self.order.map_or(i, |order| order.indices[i] as usize) * self.size
    }

    /// Refuses those in this range of which a pixel is not finite; `width` is that of an image.
    #[inline(always)]
    fn check_finite(&self, range: Range<usize>, width: usize) -> Result<()> {
        let Pixels::Float(pixels) = self.pixels else { return Ok(()) };
        for i in range {
            let image = &pixels[self.start(i)..][..self.size];
            if let Some(at) = first_not_finite(image) {
                let (value, row, column) = (image[at], at / width, at % width);
                let message = format!("images[{i}] is {value} at row {row}, column {column}");
                return Err(Error::new(Code::NonFinite, message));
            }
        }
        Ok(())
    }
}

/// What a pass forward and backward over a batch sees.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Mean softmax cross-entropy over the batch.
    pub loss: f64,
    /// Images whose largest logit is that of their label.
    pub correct: usize,
}

/// Computes; owns no weights, but says where they are. Labels are below the class count: the model has
/// checked them. Pixels that are not finite an engine refuses itself, when it loads them.
pub trait Engine: Send + Sync {
    /// Takes rows of floats, all of one length, to where this engine computes.
    fn upload(&self, rows: &[&[f32]]) -> Result<Values>;

    /// The weights of another engine for this one: the same where both compute in one place.
    fn adopt(&self, weights: &Arc<Weights>) -> Result<Arc<Weights>> {
        let rows = weights.values().rows()?;
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        Ok(Arc::new(Weights::new(weights.architecture(), self.upload(&rows)?)))
    }

    /// Writes the logits of `images[range]`, (range, classes).
    fn logits(
        &self,
        weights: &Weights,
        images: &Images,
        range: Range<usize>,
        out: &mut [f32],
    ) -> Result<()>;

    /// Writes the gradient of the batch's mean loss, one row, flat like the parameters. `labels[i]`
    /// belongs to image i of the batch.
    fn gradient(
        &self,
        weights: &Weights,
        images: &Images,
        labels: &[u8],
        gradient: &Values,
    ) -> Result<Seen>;

    /// Writes the weights after a step; says whether all are finite.
    fn step(
        &self,
        step: Step,
        now: &Weights,
        gradient: &Values,
        next: &mut Weights,
    ) -> Result<bool>;
}

/// How a CPU computes.
#[derive(Clone, Copy)]
enum CpuEngine {
    /// The fused engine with these vectors.
    Fused(Arch),
    /// Candle's own operations.
    Candle,
}

impl CpuEngine {
    /// The best that this CPU can, unless the environment variable LENET_ENGINE, read once, names
    /// another one: for tests and measurements.
    fn chosen() -> Result<Self> {
        static CHOICE: OnceLock<Option<OsString>> = OnceLock::new();
        let Some(choice) = CHOICE.get_or_init(|| std::env::var_os("LENET_ENGINE")) else {
            return Ok(CpuEngine::Fused(Arch::new()));
        };
        let unsupported =
            |why: &str| Error::new(Code::Unsupported, format!("LENET_ENGINE is {choice:?}; {why}"));
        let arch = match choice.to_str() {
            Some("candle") => return Ok(CpuEngine::Candle),
            Some("fused") => Some(Arch::new()),
            Some("portable") => Some(Arch::Scalar),
            #[cfg(target_arch = "x86_64")]
            Some("avx512") => pulp::x86::V4::try_new().map(Arch::V4),
            #[cfg(target_arch = "x86_64")]
            Some("avx2") => pulp::x86::V3::try_new().map(Arch::V3),
            #[cfg(target_arch = "aarch64")]
            Some("neon") => pulp::aarch64::Neon::try_new().map(Arch::Neon),
            _ => return Err(unsupported(CpuEngine::NAMES)),
        };
        arch.map(CpuEngine::Fused).ok_or_else(|| unsupported("this CPU has no such vectors"))
    }

    #[cfg(target_arch = "x86_64")]
    const NAMES: &str = "it must be fused, avx512, avx2, portable or candle";
    #[cfg(target_arch = "aarch64")]
    const NAMES: &str = "it must be fused, neon, portable or candle";
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    const NAMES: &str = "it must be fused, portable or candle";

    fn open(self, num_threads: u32, normalization: Normalization) -> Box<dyn Engine> {
        match self {
            CpuEngine::Fused(arch) => Box::new(FusedEngine::new(arch, num_threads, normalization)),
            CpuEngine::Candle => Box::new(CandleEngine::new(Device::Cpu, normalization)),
        }
    }
}

/// What a model on the CPU computes with, for `lenet_build_info`.
pub fn description() -> &'static CStr {
    match CpuEngine::chosen() {
        #[cfg(target_arch = "x86_64")]
        Ok(CpuEngine::Fused(Arch::V4(_))) => c"CPU: fused engine, AVX-512; CUDA: as a plugin",
        #[cfg(target_arch = "x86_64")]
        Ok(CpuEngine::Fused(Arch::V3(_))) => c"CPU: fused engine, AVX2 and FMA; CUDA: as a plugin",
        #[cfg(target_arch = "aarch64")]
        Ok(CpuEngine::Fused(Arch::Neon(_))) => c"CPU: fused engine, NEON; CUDA: as a plugin",
        Ok(CpuEngine::Fused(_)) => c"CPU: fused engine, no vectors; CUDA: as a plugin",
        Ok(CpuEngine::Candle) => c"CPU: candle's operations; CUDA: as a plugin",
        Err(_) => c"CPU: LENET_ENGINE names no engine that this CPU has; CUDA: as a plugin",
    }
}

/// Devices of a kind that `open` would accept.
pub fn device_count(choice: DeviceChoice) -> u32 {
    match choice {
        DeviceChoice::Cpu => 1,
        DeviceChoice::Cuda => plugin::device_count().unwrap_or(0),
        DeviceChoice::Auto => plugin::device_count().unwrap_or(0).max(1),
    }
}

/// The engine for a device, and the device that `Auto` became.
pub fn open(
    choice: DeviceChoice,
    index: i32,
    num_threads: u32,
    architecture: Architecture,
    normalization: Normalization,
) -> Result<(Box<dyn Engine>, DeviceChoice)> {
    let cuda = || {
        let engine = plugin::open(index, architecture, normalization)?;
        Ok((engine, DeviceChoice::Cuda))
    };
    let cpu = || Ok((CpuEngine::chosen()?.open(num_threads, normalization), DeviceChoice::Cpu));
    match choice {
        DeviceChoice::Cuda => cuda(),
        DeviceChoice::Auto => cuda().or_else(|_: Error| cpu()),
        DeviceChoice::Cpu if index != 0 => Err(Error::new(
            Code::DeviceUnavailable,
            format!("device_index is {index}; there is one CPU device, index 0"),
        )),
        DeviceChoice::Cpu => cpu(),
    }
}

/// Refuses a child of the process that was the first to come here with this `owner`; `stayed` says
/// what is there and not here.
pub fn refuse_forked_child(owner: &OnceLock<u32>, stayed: &str) -> Result<()> {
    let process = std::process::id();
    let owner = *owner.get_or_init(|| process);
    if owner == process {
        return Ok(());
    }
    Err(Error::new(Code::Forked, format!("process {process} was forked from {owner}{stayed}")))
}

/// The range in pieces of `size`, the last one perhaps smaller.
fn chunks(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(size).map(move |start| start..end.min(start + size))
}

/// The index of the first value that is infinite or not a number; inlined, so that a kernel's vectors are
/// used for it.
#[inline(always)]
pub fn first_not_finite(values: &[f32]) -> Option<usize> {
    // Blocks without a way out in the middle, which the compiler makes vectors of.
    const BLOCK: usize = 256;
    let bad = |block: &[f32]| block.iter().fold(false, |bad, x| bad | !x.is_finite());
    let block = values.chunks(BLOCK).position(bad)?;
    let within = values[block * BLOCK..].iter().position(|x| !x.is_finite())?;
    Some(block * BLOCK + within)
}

/// Index of the largest logit, the first one among equals.
pub fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (class, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = class;
        }
    }
    best
}
