//! Threads of the library's own: how many there may be, and how they are made.

use super::signals;
use std::thread::{Builder, JoinHandle};

/// By which the panic hook knows them.
pub const NAME: &str = "lenet";

/// Bytes of a thread's stack, whatever the host's limits are; docs/security.md says what it needs.
const STACK: usize = 256 * 1024;

/// How many threads may compute: as told, or as many as affinity and cgroup give this process.
pub fn count(num_threads: u32) -> usize {
    match num_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n as usize,
    }
}

/// Makes threads 1 to `most`; where the system refuses one, fewer.
pub fn start<T, W>(most: usize, work: impl Fn(usize) -> W) -> Vec<JoinHandle<T>>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    let make = |number| {
        let thread = Builder::new().name(NAME.into()).stack_size(STACK);
        thread.spawn(work(number)).ok()
    };
    let _signals = signals::block();
    (1..=most).map_while(make).collect()
}
