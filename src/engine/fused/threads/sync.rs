//! The operations that the protocols of `gate` and `event` are written with. tests/thread_pool.rs gives them
//! loom's instead, which tries every order that the memory model allows.

pub use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
pub use std::sync::{Condvar, Mutex};

use std::time::{Duration, Instant};

/// Looks for as long as this whether something has come about; says whether.
pub fn spin_until(ready: impl Fn() -> bool, time: Duration) -> bool {
    /// Looks between two at the clock.
    const LOOKS: usize = 32;
    let start = Instant::now();
    loop {
        for _ in 0..LOOKS {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() >= time {
            return ready();
        }
    }
}
