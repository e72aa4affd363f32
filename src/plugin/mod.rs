//! Engines from another shared library, so that no host must have what only they need.
//!
//! A CUDA build of candle does not load where there is no driver, so it cannot be the library that
//! every program links. It is one of its own, `liblenet_cuda.so.1`: this same source, built with the
//! feature `cuda`. Two sides share one table of functions: `serve` fills it, where the GPU is;
//! `find` loads that library when a model asks for a GPU, and `engine` calls it. Weights and gradients stay
//! on the other side; batches, logits, losses and errors cross.
//!
//! The second boundary of this crate that knows C, beside `ffi`: what crosses it is C's.

#![allow(unsafe_code)]

mod engine;
#[cfg(not(feature = "cuda"))]
mod find;
mod serve;
mod table;

/// A library with the GPUs built in needs no other.
#[cfg(feature = "cuda")]
mod find {
    use super::{serve, table::Table};
    use crate::error::Result;

    pub fn plugin() -> Result<&'static Table> {
        Ok(&serve::GPUS)
    }
}

pub use engine::{PluginValues, device_count, open};
pub use serve::on_cpu;
