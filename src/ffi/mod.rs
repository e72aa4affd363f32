//! Every function of the C API, in the header's order: check the arguments, call, turn the result
//! into a status. With `plugin` and its table the only room that knows C exists, and one of the few with `unsafe`.
//!
//! The documentation comments of `types.rs` and of the function files become `include/lenet.h`
//! (build.rs), so they speak to a C programmer. What a pointer must be is said there; the pattern on
//! this side is always the same: `check` turns raw pointers into references, slices and outputs or
//! refuses them, `guard::fence` runs the call, and outputs are written last, when nothing can fail
//! any more.

#![allow(unsafe_code)]
// C names at the boundary.
#![allow(non_camel_case_types)]
// The C documentation above each function says what its pointers must be.
#![allow(clippy::missing_safety_doc)]
// `[out]` is doxygen's word for an output, not a link.
#![allow(rustdoc::broken_intra_doc_links)]

mod check;
mod data;
mod files;
mod guard;
mod image;
mod library;
mod model;
mod names;
mod parameters;
mod train;
mod trust;
mod types;
mod usage;

pub use data::*;
pub use files::*;
pub use image::*;
pub use library::*;
pub use model::*;
pub use names::*;
pub use parameters::*;
pub use train::*;
pub use trust::*;
pub use types::*;
pub use usage::*;
