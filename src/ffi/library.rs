//! Functions about the library itself.

use super::check::{Constant, constant, output};
use super::guard::{self, fence, fence_or};
use super::types::*;
use crate::engine::{self, DeviceChoice};
use std::ffi::{CStr, c_char};

/// The library's version as a string, "1.1.0".
///
/// @return A static string, never freed. Any thread. Since 1.0.
#[unsafe(no_mangle)]
pub extern "C" fn lenet_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// The library's version as a number, major * 10000 + minor * 100 + patch. Compare it with
/// LENET_VERSION_NUMBER to learn whether the header is older or newer than the library.
///
/// @return The number. Any thread. Since 1.0.
#[unsafe(no_mangle)]
pub extern "C" fn lenet_version_number() -> u32 {
    // Not covered: the compiler calls it.
    const fn number(text: &str) -> u32 {
        let Ok(number) = u32::from_str_radix(text, 10) else { panic!("the version has numbers") };
        number
    }
    const NUMBER: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) * 10_000
        + number(env!("CARGO_PKG_VERSION_MINOR")) * 100
        + number(env!("CARGO_PKG_VERSION_PATCH"));
    NUMBER
}

/// What this library computes with: engine, CPU kernels chosen, CUDA or not. For logs, not to be
/// parsed. The environment variable LENET_ENGINE, read once, chooses among "fused" (the default: the best
/// vectors that the CPU has), "avx512", "avx2", "neon" and "portable" (the same engine with those
/// vectors or none) and "candle" (candle's own operations, slow), for tests and measurements.
///
/// @return A static string, never freed. Any thread. Since 1.0.
#[unsafe(no_mangle)]
pub extern "C" fn lenet_build_info() -> *const c_char {
    fence_or(CStr::as_ptr(c""), || Ok(engine::description().as_ptr()))
}

/// The name of a status: "LENET_OK", "LENET_ERROR_IO", ...
///
/// @param status  Any number.
/// @return A static string, never freed; "LENET_ERROR_UNKNOWN" for a number that is no status.
///         Any thread. Since 1.0.
#[unsafe(no_mangle)]
pub extern "C" fn lenet_status_name(status: lenet_status) -> *const c_char {
    macro_rules! names {
        ($($constant:ident)*) => {
            match status {
                $($constant => concat!(stringify!($constant), "\0").as_ptr().cast(),)*
                _ => CStr::as_ptr(c"LENET_ERROR_UNKNOWN"),
            }
        };
    }
    names! {
        LENET_OK LENET_ERROR_NULL_POINTER LENET_ERROR_INVALID_ARGUMENT
        LENET_ERROR_LABEL_OUT_OF_RANGE LENET_ERROR_NON_FINITE LENET_ERROR_DIVERGED
        LENET_ERROR_BUFFER_TOO_SMALL LENET_ERROR_NOT_FOUND LENET_ERROR_IO LENET_ERROR_FORMAT
        LENET_ERROR_CORRUPT LENET_ERROR_INCOMPATIBLE LENET_ERROR_DEVICE_UNAVAILABLE
        LENET_ERROR_UNSUPPORTED LENET_ERROR_OUT_OF_MEMORY LENET_ERROR_CANCELLED LENET_ERROR_BUSY
        LENET_ERROR_FORKED LENET_ERROR_INTERNAL
    }
}

/// What went wrong in the last call on this thread that failed: the argument, the index, the value.
/// A call that succeeds leaves it alone.
///
/// @return UTF-8, "" if nothing failed yet; valid until the next failure on this thread or the
///         thread's end. Any thread, each has its own. Since 1.0.
#[unsafe(no_mangle)]
pub extern "C" fn lenet_last_error() -> *const c_char {
    guard::last_error()
}

/// How many devices of a kind a model can be made on.
///
/// @param device  LENET_DEVICE_CPU or LENET_DEVICE_CUDA; LENET_DEVICE_AUTO counts the devices that
///                it would choose among.
/// @param count   [out] Number of devices, 0 if there is none or this library cannot use them.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER (count), LENET_ERROR_INVALID_ARGUMENT (device) or
///         LENET_ERROR_INTERNAL. Any thread. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_device_count(device: i32, count: *mut u32) -> lenet_status {
    fence(|| {
        let device = constant("device", device, &DEVICES)?;
        // SAFETY: one u32 (header).
        let count = unsafe { output("count", count, 1) }?;
        count.write(&[engine::device_count(device)]);
        Ok(())
    })
}

pub(super) const DEVICES: [Constant<DeviceChoice>; 3] = [
    (LENET_DEVICE_CPU, "LENET_DEVICE_CPU", DeviceChoice::Cpu),
    (LENET_DEVICE_CUDA, "LENET_DEVICE_CUDA", DeviceChoice::Cuda),
    (LENET_DEVICE_AUTO, "LENET_DEVICE_AUTO", DeviceChoice::Auto),
];
