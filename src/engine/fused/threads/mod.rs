//! The threads that a model computes on.
//!
//! | room | concern |
//! | --- | --- |
//! | `queue` | work that threads share |
//! | `pool` | the threads, and a job for them |
//! | `gate` | how a job is handed over and taken back, without a lock |
//! | `event` | waiting: looking for a while, then sleeping |
//! | `sync` | what those two are written with |

mod event;
mod gate;
mod pool;
mod queue;
mod sync;

pub use pool::{Pool, count, lock};
pub use queue::{WorkQueues, next, run};
