//! The model's own threads: started when a call first has work for them, joined when the model is
//! freed.
//!
//! Between calls a worker looks for work for a while, because to wake it costs more than a small
//! batch, and then sleeps. Which thread does what decides nothing: they take work off queues and
//! write to places of their own. But what another core has written takes long to read, several times as
//! long where the two share no cache: so threads are numbered, and each begins with the part of the work
//! that was its own before. A call that finds the workers taken by another one computes on its caller's
//! thread alone, and so does a forked child, where there are none.

#![allow(unsafe_code)]

use crate::host::{Lock, threads};
use pulp::{Simd, WithSimd};
use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread looks for a change before it sleeps. To be woken costs some 50 us, so this is
/// worth it for callers that come back soon, and an idle model is soon at rest.
const SPIN: Duration = Duration::from_micros(200);

/// A function that several threads run at once, each with a number: the caller's is 0.
type Job<'a> = &'a (dyn Fn(usize) + Sync);

pub struct Pool {
    threads: usize,
    /// Of the latest job.
    latest: AtomicUsize,
    crew: Lock<Option<Crew>>,
}

impl Pool {
    pub fn new(threads: usize) -> Self {
        Pool { threads, latest: AtomicUsize::new(1), crew: Lock::default() }
    }

    /// Threads that so many pieces of work are worth.
    pub fn threads_for(&self, pieces: usize) -> usize {
        self.threads.min(pieces).max(1)
    }

    /// Threads for so many pieces of work that follow a job: at most as many as had a part in it. Others
    /// would have to be woken, or made.
    pub fn threads_after(&self, pieces: usize) -> usize {
        self.threads_for(pieces).min(self.latest.load(Ordering::Relaxed))
    }

    /// Runs `job` on this thread and, at the same time, on up to `threads` - 1 others, or fewer;
    /// returns when all have finished. Where the system refuses a thread, fewer do the same.
    pub fn run(&self, threads: usize, job: Job) {
        let helpers = threads.min(self.threads) - 1;
        self.latest.store(helpers + 1, Ordering::Relaxed);
        if helpers == 0 {
            return job(0);
        }
        let Some(mut crew) = self.crew.try_lock() else { return job(0) };
        crew.get_or_insert_with(|| Crew::new(self.threads - 1)).run(helpers, job);
    }
}

/// Worker threads, and the process that has them.
struct Crew {
    process: u32,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    desk: Mutex<Desk>,
    /// The job's number, as a hint for those who spin.
    posted: AtomicUsize,
    /// Threads that are in the job, as a hint for those who spin.
    busy: AtomicUsize,
    wake: Condvar,
    done: Condvar,
}

/// What caller and workers agree on.
#[derive(Default)]
struct Desk {
    /// Counts jobs, so that no worker takes one twice.
    number: usize,
    job: Option<Job<'static>>,
    /// The last worker that may join in.
    helpers: usize,
    stop: bool,
    panic: Option<Box<dyn Any + Send>>,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }

    fn work(&self, number: usize) {
        let mut seen = 0;
        loop {
            spin_while(|| self.posted.load(Ordering::Acquire) == seen);
            let mut desk = self.desk();
            while desk.number == seen && !desk.stop {
                desk = self.wake.wait(desk).unwrap_or_else(PoisonError::into_inner);
            }
            if desk.stop {
                return;
            }
            seen = desk.number;
            let Some(job) = desk.job.filter(|_| number <= desk.helpers) else { continue };
            self.busy.fetch_add(1, Ordering::Relaxed);
            drop(desk);
            let result = catch_unwind(AssertUnwindSafe(|| job(number)));
            let mut desk = self.desk();
            desk.panic = result.err().or(desk.panic.take());
            self.busy.fetch_sub(1, Ordering::Release);
            drop(desk);
            self.done.notify_one();
        }
    }
}

fn spin_while(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while condition() && start.elapsed() < SPIN {
        std::hint::spin_loop();
    }
}

impl Crew {
    fn new(workers: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let workers = threads::start(workers, |number| {
            let shared = Arc::clone(&shared);
            move || shared.work(number)
        });
        Crew { process: std::process::id(), shared, workers }
    }

    fn run(&self, helpers: usize, job: Job) {
        if self.process != std::process::id() {
            return job(0);
        }
        // SAFETY: only the lifetime changes. Workers take the job off the desk while it lies there,
        // and this function leaves only after it has taken it away and the last of them is out of it.
        let posted = unsafe { mem::transmute::<Job<'_>, Job<'static>>(job) };
        let mut desk = self.shared.desk();
        desk.number += 1;
        desk.job = Some(posted);
        desk.helpers = helpers;
        self.shared.posted.store(desk.number, Ordering::Release);
        drop(desk);
        self.shared.wake.notify_all();

        let own = catch_unwind(AssertUnwindSafe(|| job(0)));

        self.shared.desk().job = None;
        spin_while(|| self.shared.busy.load(Ordering::Acquire) > 0);
        let mut desk = self.shared.desk();
        while self.shared.busy.load(Ordering::Acquire) > 0 {
            desk = self.shared.done.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
        let panic = desk.panic.take();
        drop(desk);
        if let Some(panic) = own.err().or(panic) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let workers = mem::take(&mut self.workers);
        if self.process != std::process::id() {
            // There is nothing to join in a forked child, and the desk may be locked for ever.
            workers.into_iter().for_each(mem::forget);
            return;
        }
        self.shared.desk().stop = true;
        self.shared.posted.store(usize::MAX, Ordering::Release);
        self.shared.wake.notify_all();
        for worker in workers {
            let _ = worker.join(); // a worker catches its panics
        }
    }
}

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

/// The guarded value, though a panic went through it: the call that it ends uses it no more.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once_and_panics_come_back() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for n in [0, 1, 7, 1000] {
                let mut counts = vec![0; n];
                let (first, second) = counts.split_at_mut(n / 3);
                let queue = WorkQueues::new([first.iter_mut(), second.iter_mut()]);
                let numbers = Mutex::new(Vec::new());
                pool.run(threads, &|thread| {
                    numbers.lock().unwrap().push(thread);
                    while let Some(count) = queue.next(thread) {
                        *count += 1;
                    }
                });
                let mut numbers = numbers.into_inner().unwrap();
                numbers.sort_unstable();
                assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
                assert!(numbers[0] == 0 && numbers[numbers.len() - 1] < threads, "{numbers:?}");
                assert!(counts.iter().all(|&count| count == 1));
            }
            let broken = || pool.run(threads, &|_| panic!("a defect"));
            assert!(catch_unwind(AssertUnwindSafe(broken)).is_err());
        }
    }

    #[test]
    fn a_call_inside_another_finds_no_workers_and_goes_on() {
        let pool = Pool::new(2);
        let (inner, outer) = (AtomicUsize::new(0), AtomicUsize::new(0));
        pool.run(2, &|_| {
            outer.fetch_add(1, Ordering::Relaxed);
            pool.run(2, &|_| _ = inner.fetch_add(1, Ordering::Relaxed));
        });
        assert_eq!(inner.load(Ordering::Relaxed), outer.load(Ordering::Relaxed));
    }
}
