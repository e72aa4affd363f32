//! How a batch is computed: which engine a device gets. The rooms above ask an `Engine` for logits, or for
//! loss and gradient, and know neither the device nor the kernels.
//!
//! No file here imports one above it (tests/house.rs):
//!
//! | room | concern |
//! | --- | --- |
//! | `remote` | an engine in another shared library, the plugin: CUDA, which not every host has |
//! | `cuda` | the engine for NVIDIA GPUs, of the plugin alone: many steps a launch |
//! | `fused` | the engine for CPUs: forward and backward in the cache |
//! | `candle` | candle's operations on any of its devices, and what the others are compared with |
//! | `interface` | what every engine can do |

mod candle;
#[cfg(feature = "cuda")]
mod cuda;
mod fused;
mod interface;
mod remote;

pub use self::candle::CandleEngine;
#[cfg(feature = "cuda")]
pub use cuda::open as open_cuda;
#[cfg(feature = "kernel-benches")]
pub use fused::benched;
pub use interface::Engine;

use crate::architecture::Architecture;
use crate::batch::Normalization;
use crate::error::{Code, Error, Result};
use crate::host::Lock;
use candle_core::Device;
use fused::FusedEngine;
use pulp::Arch;
use std::ffi::CStr;

/// A device as the caller asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    Cpu,
    Cuda,
    /// CUDA where it can be had, else the CPU.
    Auto,
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
        static CHOICE: Lock<Option<Result<CpuEngine>>> = Lock::new(None);
        CHOICE.lock().get_or_insert_with(CpuEngine::choose).clone()
    }

    fn choose() -> Result<Self> {
        let Some(choice) = std::env::var_os("LENET_ENGINE") else {
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
        DeviceChoice::Cuda => remote::device_count().unwrap_or(0),
        DeviceChoice::Auto => remote::device_count().unwrap_or(0).max(1),
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
        let engine = remote::open(index, architecture, normalization)?;
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
