//! What host and kernels share: the structs of `cuda/arguments.h`, field for field. What they mean is said there.

use candle_core::cuda_backend::cudarc::driver::DeviceRepr;

/// Threads of a block, and blocks that handle 16 images together.
pub const THREADS: u32 = 256;
pub const GROUP: u32 = 16;
pub const MOST_GROUPS: u32 = 64;

/// An address that the device can use.
pub type Address = u64;
pub const NULL: Address = 0;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Network {
    pub height: u32,
    pub width: u32,
    pub padding: u32,
    pub classes: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Images {
    pub pixels: Address,
    pub indices: Address,
    pub floats: u32,
    pub count: u32,
    pub mean: f32,
    pub std: f32,
}

pub const GRADIENT_ONLY: u32 = 0;
pub const SGD: u32 = 1;
pub const SGD_MOMENTUM: u32 = 2;
pub const ADAMW: u32 = 3;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    pub rate: f32,
    pub keep: f32,
    pub scale: f32,
    pub reserved: f32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Rule {
    pub rule: u32,
    pub momentum: f32,
    pub weight_decay: f32,
    pub reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct StepResult {
    pub loss: f64,
    pub correct: u32,
    pub images: u32,
}

/// Of a report: nothing was not finite.
pub const FINISHED: u32 = 0;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub steps: u32,
    pub reason: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TrainArguments {
    pub network: Network,
    pub images: Images,
    pub labels: Address,
    pub rates: Address,
    pub first: Address,
    pub ping: Address,
    pub pong: Address,
    pub gradient: Address,
    pub results: Address,
    pub report: Address,
    pub workspace: Address,
    pub rule: Rule,
    pub batch: u32,
    pub steps: u32,
    pub launch: u32,
    pub reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LogitsArguments {
    pub network: Network,
    pub images: Images,
    pub parameters: Address,
    pub logits: Address,
    pub workspace: Address,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ApplyArguments {
    pub now: Address,
    pub gradient: Address,
    pub next: Address,
    pub report: Address,
    pub rule: Rule,
    pub rates: Rates,
    pub parameters: u32,
    pub reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SizesArguments {
    pub network: Network,
    pub batch: u32,
    pub groups: u32,
    pub sizes: Address,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// Of a block's dynamic shared memory.
    pub shared_bytes: u64,
    pub train_floats: u64,
    pub logits_floats: u64,
}

// SAFETY: plain numbers, laid out as C does on both sides.
unsafe impl DeviceRepr for TrainArguments {}
// SAFETY: as above.
unsafe impl DeviceRepr for LogitsArguments {}
// SAFETY: as above.
unsafe impl DeviceRepr for ApplyArguments {}
// SAFETY: as above.
unsafe impl DeviceRepr for SizesArguments {}
