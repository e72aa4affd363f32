//! lenet: LeNet behind a C ABI, to train and run inside another program.
//!
//! The C API is the public one: `include/lenet.h` is its manual, [`ffi`] its source, and a Rust
//! program that links this crate calls the same functions. The rooms behind it, each above all that it
//! uses: no room imports one above it, and the files of `engine` are ordered likewise (tests/house.rs).
//!
//! ```text
//! C caller -> ffi -> fit -> model -> engine -> kernels, or plugin_abi ~> plugin, in another library
//!              |-> checkpoint -|               |
//!              |-> dataset -> idx, csv_file    plugin -> engine
//!                    |-> picture_folder -> picture -> prepare
//! ```
//!
//! | room | concern |
//! | --- | --- |
//! | `ffi` | every `extern "C"` function: check, call, status |
//! | `plugin` | an engine for another lenet to compute with: CUDA, which not every host has |
//! | `checkpoint` | a model as a safetensors file and back |
//! | `calibrate` | a model's temperature and threshold, from a dataset |
//! | `fit` | epochs, shuffling, progress, cancellation, evaluation |
//! | `augment` | how images are seen in training, drawn at random |
//! | `training` | the right to change a model, and the steps that change it |
//! | `model` | the handle: published state, who may change it, predictions |
//! | `options` | what a model is made with |
//! | `dataset` | labelled images in memory |
//! | `engine` | how a batch is computed: fused for CPUs, candle's operations for the rest |
//! | `network` | LeNet in candle's operations: definition and oracle |
//! | `state` | what a model is as of one step, and what it begins with |
//! | `standing` | where training stands, to go on after a stop |
//! | `parameters` | the flat parameter vector, its views, its first draw |
//! | `plugin_abi` | what crosses between a library and its plugin: a table of C functions |
//! | `run` | training steps that follow each other |
//! | `values` | rows of floats where an engine keeps them |
//! | `calibration` | how far probabilities can be trusted |
//! | `prediction` | from logits to probabilities, a class, a loss |
//! | `batch` | images where they lie, how pixels are seen, what was seen of a batch |
//! | `view` | how one image is seen: mirrored, turned, scaled, shifted |
//! | `architecture` | what is built: sizes, layer table, parameter names, shapes, places |
//! | `optimizer` | SGD with momentum, AdamW |
//! | `turn` | whose turn it is to change a model |
//! | `picture_folder` | a folder of pictures, a folder a class |
//! | `picture` | PNG, JPEG, BMP and PNM files, as pixels |
//! | `prepare` | any picture to the network's input |
//! | `idx` | IDX files: the images and labels of MNIST and its kin |
//! | `split` | which images of a dataset go into which of two parts |
//! | `class_names` | what classes are called |
//! | `csv_file` | CSV files of images and labels |
//! | `file_kind` | what a file seems to be that is not what was asked for |
//! | `gzip` | gzip data, as it lies in files |
//! | `durable_file` | the whole old file or the whole new one |
//! | `fence` | what calls from outside run in: panics, floating-point environment |
//! | `free_list` | buffers that calls borrow and give back |
//! | `host` | the process around: forks, signals, and a lock that no fork leaves locked |
//! | `allocation` | memory that may be refused |
//! | `error` | what can go wrong: a stable code and a sentence |
//! | `unique` | numbers that tell things apart |
//! | `failpoint` | where a test build panics |

// `unsafe` is allowed in `ffi`, in both sides of the plugin and in its table, which must believe C about its
// pointers; in `fence`, for a register; in `host`, which asks the system; and in two files of the fused engine: memory
// of its own alignment, and jobs that threads borrow. The kernels do without. CUDA kernels of our own may have it in
// `engine/cuda`.
#![deny(unsafe_code)]
#![cfg_attr(feature = "kernel-benches", allow(missing_docs))]

#[cfg(not(panic = "unwind"))]
compile_error!("lenet turns panics into LENET_ERROR_INTERNAL, which needs panic = \"unwind\"");

mod allocation;
mod architecture;
mod augment;
mod batch;
mod calibrate;
mod calibration;
mod checkpoint;
mod class_names;
mod csv_file;
mod dataset;
mod durable_file;
mod engine;
mod error;
mod failpoint;
mod fence;
pub mod ffi;
mod file_kind;
mod fit;
mod free_list;
mod gzip;
mod host;
mod idx;
mod model;
mod network;
mod optimizer;
mod options;
mod parameters;
mod picture;
mod picture_folder;
mod plugin;
mod plugin_abi;
mod prediction;
mod prepare;
mod run;
mod split;
mod standing;
mod state;
mod training;
mod turn;
mod unique;
mod values;
mod view;

#[cfg(feature = "kernel-benches")]
#[doc(hidden)]
pub use engine::benched as kernels;

#[doc(hidden)]
pub use plugin::on_cpu as plugin_on_cpu;

#[cfg(feature = "failpoints")]
#[doc(hidden)]
pub use failpoint::arm as arm_failpoint;
