//! What the fuzz targets are made of. A target hands an input to one of these; each says what
//! the library must make of it and panics if the library does something else.

// What each pointer must be is said in lenet.h; here it always comes from a live buffer or handle,
// or is wrong on purpose where the header says that the library notices.
#![allow(clippy::undocumented_unsafe_blocks)]

pub mod calls;
mod canary;
pub mod csv_file;
mod expect;
pub mod idx_file;
mod idx_oracle;
pub mod model_file;
mod number;
mod options;
pub mod picture_file;
mod saved;
mod unnamed;
mod world;

#[path = "../../tests/support/mod.rs"]
mod support;
