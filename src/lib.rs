//! lenet: LeNet behind a C ABI, to train and run inside another program.
//!
//! The C API is the public one: `include/lenet.h` is its manual, [`ffi`] its source, and a Rust
//! program that links this crate calls the same functions. The rooms behind it, in the order in
//! which a call walks through them:
//!
//! ```text
//! C caller -> ffi -> model -> engine -> kernels, or a plugin
//!                      |-> checkpoint -> durable_file
//!              dataset -|
//! ```
//!
//! | room | concern |
//! | --- | --- |
//! | `ffi` | every `extern "C"` function: check, call, status |
//! | `error` | what can go wrong: a stable code and a sentence |
//! | `architecture` | what is built: sizes, layer table, parameter names, shapes, places |
//! | `network` | LeNet in candle's operations: definition and oracle |
//! | `parameters` | the flat parameter vector, its views, its first draw |
//! | `engine` | how a batch is computed: fused for CPUs, candle's operations for the rest |
//! | `plugin` | an engine in another shared library: CUDA, which not every host has |
//! | `optimizer` | SGD with momentum, AdamW |
//! | `model` | the handle: published state, one training step |
//! | `turn` | whose turn it is to change a model |
//! | `fit` | epochs, shuffling, progress, cancellation, evaluation |
//! | `dataset` | labelled images, IDX files |
//! | `checkpoint` | a model as a safetensors file and back |
//! | `durable_file` | the whole old file or the whole new one |
//! | `unique` | numbers that tell things apart |
//! | `stock` | buffers that calls borrow and give back |
//! | `failpoint` | where a test build panics |

// `unsafe` is allowed in `ffi` and `plugin`, which must believe C about its pointers, and in two
// files of the fused engine: memory of its own alignment, and jobs that threads borrow. The kernels
// do without.
#![deny(unsafe_code)]
#![cfg_attr(feature = "kernel-benches", allow(missing_docs))]

#[cfg(not(panic = "unwind"))]
compile_error!("lenet turns panics into LENET_ERROR_INTERNAL, which needs panic = \"unwind\"");

mod architecture;
mod checkpoint;
mod dataset;
mod durable_file;
mod engine;
mod error;
mod failpoint;
pub mod ffi;
mod fit;
mod model;
mod network;
mod optimizer;
mod parameters;
mod plugin;
mod stock;
mod turn;
mod unique;

#[cfg(feature = "kernel-benches")]
#[doc(hidden)]
pub use engine::benched as kernels;

#[doc(hidden)]
pub use plugin::on_cpu as plugin_on_cpu;

#[cfg(feature = "failpoints")]
#[doc(hidden)]
pub use failpoint::arm as arm_failpoint;
