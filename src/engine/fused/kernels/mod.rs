//! The inner loops, each on maps of vectors that lie in the nearest cache. The innermost multiply-adds of the
//! second convolution are in `winograd_columns` (AVX-512) and `winograd_gemm`.
//!
//! | room | concern |
//! | --- | --- |
//! | `correlation` | a convolution whose kernel has one column: weights packed, and the micro-kernel chosen |
//! | `winograd_gemm` | Winograd along the columns, as products of matrices (GEMM) |
//! | `winograd_columns` | Winograd along the columns, in registers |
//! | `winograd` | Winograd along the rows |
//! | `linear` | linear layers |
//! | `pooling` | pooling, and the way back |
//! | `activations` | sigmoid, tanh, ReLU |

pub mod activations;
pub mod correlation;
pub mod linear;
pub mod pooling;
pub mod winograd;
pub mod winograd_columns;
pub mod winograd_gemm;
