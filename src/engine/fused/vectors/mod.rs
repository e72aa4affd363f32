//! What all kernels stand on: memory, registers and lanes of vectors.
//!
//! | room | concern |
//! | --- | --- |
//! | `maps` | how a map lies in memory; lanes added up |
//! | `registers` | how many sums a kernel keeps |
//! | `memory` | memory of cache lines |

pub mod maps;
pub mod memory;
pub mod registers;
