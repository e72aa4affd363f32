//! Work that threads share.

use super::pool::{Pool, lock};
use pulp::{Simd, WithSimd};
use std::sync::Mutex;

/// Runs `work` on several threads, compiled for this CPU's vectors: it must be inlined.
#[inline(always)]
pub fn run<S: Simd>(simd: S, pool: &Pool, threads: usize, work: impl Fn(usize) + Sync) {
    pool.run(threads, &|thread| simd.vectorize(Inlined(&work, thread)));
}

/// `Simd::vectorize` calls a closure that only borrows by way of a function that is not inlined, and
/// then it is compiled without vectors; this one it inlines.
struct Inlined<'a, F>(&'a F, usize);

impl<F: Fn(usize)> WithSimd for Inlined<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        (self.0)(self.1);
    }
}

/// Pieces of work in two queues: a thread takes from its own, and steals from the other when that is empty.
pub struct WorkQueues<I>([WorkQueue<I>; 2]);

/// In cache lines of its own (some CPUs fetch two), which its thread keeps.
#[repr(align(128))]
struct WorkQueue<I>(Mutex<I>);

impl<I: Iterator> WorkQueues<I> {
    pub fn new(queues: [I; 2]) -> Self {
        WorkQueues(queues.map(|queue| WorkQueue(Mutex::new(queue))))
    }

    /// The next piece for this thread: of its own queue, and when that is empty, of the other.
    pub fn next(&self, thread: usize) -> Option<I::Item> {
        let [own, other] = [thread % 2, (thread + 1) % 2].map(|queue| &self.0[queue].0);
        next(own).or_else(|| next(other))
    }

    /// Does `each` piece on several threads, as `run` does.
    #[inline(always)]
    pub fn share<S: Simd>(self, simd: S, pool: &Pool, threads: usize, each: impl Fn(I::Item) + Sync)
    where
        I: Send,
    {
        run(
            simd,
            pool,
            threads,
            #[inline(always)]
            |thread| {
                while let Some(piece) = self.next(thread) {
                    each(piece);
                }
            },
        );
    }
}

/// The next piece of work.
pub fn next<I: Iterator>(queue: &Mutex<I>) -> Option<I::Item> {
    lock(queue).next()
}

