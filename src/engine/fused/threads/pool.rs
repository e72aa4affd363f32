//! The model's own threads: started when a call first has work for them, joined when the model is
//! freed.
//!
//! Between calls a worker looks for work for a while, because to wake it costs more than a small
//! batch, and then sleeps. Which thread does what decides nothing: each piece of work has a place of its own
//! to write to. But what another core has written takes long to read, several times as
//! long where the two share no cache: so threads are numbered, and each begins with the part of the work
//! that was its own before. A call that finds the workers taken by another one computes on its caller's
//! thread alone, and so does a forked child, where there are none.

#![allow(unsafe_code)]

use super::gate::{Call, Gate};
use crate::fence::THREAD_NAME;
use crate::host::{Lock, signals};
use std::any::Any;
use std::cell::UnsafeCell;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a thread looks for a change before it sleeps. To be woken costs some 50 us, so this is
/// worth it for callers that come back soon, and an idle model is soon at rest.
const LOOKING: Duration = Duration::from_micros(200);

/// The same where there are more threads than CPUs: whoever looks keeps another one from computing.
const LOOKING_CROWDED: Duration = Duration::from_micros(5);

/// Bytes of a thread's stack, whatever the host's limits are; docs/security.md says what it needs.
const STACK: usize = 256 * 1024;

/// How many threads may compute: as told, or as many as affinity and cgroup give this process.
pub fn count(num_threads: u32) -> usize {
    match num_threads {
        0 => cpus(),
        n => n as usize,
    }
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A function that several threads run at once, each with a number: the caller's is 0.
type Job<'a> = &'a (dyn Fn(usize) + Sync);

pub struct Pool {
    threads: usize,
    /// Of the latest job.
    latest: AtomicUsize,
    workers: Lock<Option<Workers>>,
}

impl Pool {
    pub fn new(threads: usize) -> Self {
        Pool { threads, latest: AtomicUsize::new(1), workers: Lock::default() }
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
        let Some(mut workers) = self.workers.try_lock() else { return job(0) };
        workers.get_or_insert_with(|| Workers::new(self.threads - 1)).run(helpers, job);
    }
}

/// Worker threads, and the process that has them.
struct Workers {
    process: u32,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What caller and workers have in common.
struct Shared {
    gate: Gate,
    /// The caller's alone while the gate is closed; read-only for those inside while it is open.
    job: UnsafeCell<Option<Job<'static>>>,
    /// A worker's.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    looking: Duration,
}

// SAFETY: the gate says who may touch the job, and that is one thread, or several that only read.
unsafe impl Sync for Shared {}
// SAFETY: a job is a reference to what is Sync.
unsafe impl Send for Shared {}

impl Shared {
    /// The life of worker `number`.
    fn work(&self, number: usize) {
        let mut seen = 0;
        while let Call::Job(job) = self.gate.enter(number, seen, self.looking) {
            seen = job;
            // SAFETY: this thread is inside, so the caller waits in `close` before it changes the job.
            let job = unsafe { *self.job.get() };
            let result = catch_unwind(AssertUnwindSafe(|| job.map(|job| job(number))));
            if let Err(panic) = result {
                *lock(&self.panic) = Some(panic);
            }
            self.gate.leave(number);
        }
    }
}

impl Workers {
    fn new(count: usize) -> Self {
        let looking = if count < cpus() { LOOKING } else { LOOKING_CROWDED };
        let (gate, job, panic) = (Gate::new(count), UnsafeCell::new(None), Mutex::default());
        let shared = Arc::new(Shared { gate, job, panic, looking });
        let start = |number| {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(THREAD_NAME.into());
            thread.stack_size(STACK).spawn(move || shared.work(number)).ok()
        };
        let _signals = signals::block();
        let threads = (1..=count).map_while(start).collect();
        Workers { process: std::process::id(), shared, threads }
    }

    /// One call at a time.
    fn run(&mut self, helpers: usize, job: Job) {
        if self.process != std::process::id() {
            return job(0);
        }
        let Shared { gate, panic, looking, .. } = &*self.shared;
        // SAFETY: only the lifetime changes. Workers use the job between `open` and the end of `close`, which this
        // function does not leave before.
        let lent = unsafe { mem::transmute::<Job<'_>, Job<'static>>(job) };
        // SAFETY: the gate is closed and no worker is inside: there was no job yet, or `close` ended the last one.
        unsafe { *self.shared.job.get() = Some(lent) };
        gate.open(helpers.min(self.threads.len()));
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        gate.close(*looking);
        // SAFETY: as above.
        unsafe { *self.shared.job.get() = None };
        if let Some(panic) = own.err().or(lock(panic).take()) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let threads = mem::take(&mut self.threads);
        if self.process != std::process::id() {
            // There is nothing to join in a forked child, and a mutex may be locked for ever.
            threads.into_iter().for_each(mem::forget);
            return;
        }
        self.shared.gate.stop();
        for thread in threads {
            let _ = thread.join(); // a worker catches its panics
        }
    }
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
