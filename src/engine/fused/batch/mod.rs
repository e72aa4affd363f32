//! What is done with a whole batch: it is cut into chunks of images, which the threads share.
//!
//! | room | concern |
//! | --- | --- |
//! | `forward` | logits |
//! | `gradient` | loss and gradient |
//! | `step` | the optimizer's step that follows |
//! | `workspace` | what a call computes in, kept for the next one |
//! | `panels` | what a chunk leaves for the gradient, and the linear layers' weight gradients from it |

pub mod forward;
pub mod gradient;
pub mod panels;
pub mod step;
pub mod workspace;
