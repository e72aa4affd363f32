//! What is done with a whole batch: it is cut into chunks of images, which the threads share.
//!
//! | room | concern |
//! | --- | --- |
//! | `forward` | logits |
//! | `gradient` | loss and gradient, and a step with it |
//! | `pieces` | the gradient in pieces that threads share |
//! | `step` | the optimizer's step |
//! | `workspace` | what a call computes in, kept for the next one |
//! | `slabs` | the slabs in flight: what their chunks left |
//! | `panels` | what a chunk leaves for the gradient, and the linear layers' weight gradients from it |

pub mod forward;
pub mod gradient;
pub mod panels;
pub mod pieces;
pub mod slabs;
pub mod step;
pub mod workspace;
