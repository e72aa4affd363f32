//! The process that the library lives in, as far as it can harm us or we it: it forks, it sends signals.
//!
//! | file | concern |
//! | --- | --- |
//! | `threads` | how many of our own, and how they are made |
//! | `published` | a value that readers see as a whole while another takes its place |
//! | `lock` | a lock that no fork leaves locked |
//! | `fork` | which threads are still there |
//! | `signals` | which threads take them |

#![allow(unsafe_code)]

mod fork;
mod lock;
mod published;
pub mod signals;
pub mod threads;

pub use fork::{lives, this_thread};
pub use lock::Lock;
pub use published::Published;
