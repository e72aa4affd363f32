//! The thread pool's protocol, as it is in src, in every order that the memory model allows: loom takes the
//! place of atomics, mutexes and threads and goes through them all, up to a number of preemptions.
//!
//! It finds a job that is taken back while a worker is inside (an access to what the caller writes at the same time), a
//! wake-up that is lost (a deadlock), and a job that one worker has twice.

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use std::time::Duration;

mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
    pub use loom::sync::{Condvar, Mutex};

    /// Looks once: all that may happen between two looks happens in some order anyway.
    pub fn spin_until(ready: impl Fn() -> bool, _: std::time::Duration) -> bool {
        ready()
    }
}

#[path = "../src/engine/fused/threads/event.rs"]
mod event;
#[path = "../src/engine/fused/threads/gate.rs"]
mod gate;

use event::Event;
use gate::{Call, Gate};

/// Of a model with several workers; all orders with so many preemptions.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

struct Shared {
    gate: Gate,
    /// The caller's alone while the gate is closed.
    job: UnsafeCell<u64>,
}

/// Jobs for as many helpers as `jobs` says, one after the other.
fn every_job_is_handed_over_and_taken_back(workers: usize, jobs: &'static [usize]) {
    let shared = Arc::new(Shared { gate: Gate::new(workers), job: UnsafeCell::new(0) });
    let threads: Vec<_> = (1..=workers)
        .map(|number| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (mut seen, mut last) = (0, 0);
                while let Call::Job(job) = shared.gate.enter(number, seen, Duration::ZERO) {
                    assert!(job > seen, "a job twice");
                    seen = job;
                    let job = shared.job.with(|job| unsafe { *job });
                    assert!(job > last && number <= jobs[job as usize - 1]);
                    last = job;
                    shared.gate.leave(number);
                }
            })
        })
        .collect();
    for (i, &helpers) in jobs.iter().enumerate() {
        shared.job.with_mut(|job| unsafe { *job = i as u64 + 1 });
        shared.gate.open(helpers);
        shared.gate.close(Duration::ZERO);
    }
    shared.job.with_mut(|job| unsafe { *job = 0 });
    shared.gate.stop();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn one_worker_in_two_jobs() {
    check(3, || every_job_is_handed_over_and_taken_back(1, &[1, 1]));
}

#[test]
fn two_workers_in_one_job_and_one_in_the_next() {
    check(2, || every_job_is_handed_over_and_taken_back(2, &[2, 1]));
}

/// Two sleep until a third has written both of what they wait for.
#[test]
fn no_wake_up_is_lost() {
    check(3, || {
        let shared = Arc::new((Event::default(), AtomicUsize::new(0)));
        let sleepers: Vec<_> = [1, 2]
            .map(|n| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let (event, count) = &*shared;
                    event.wait_until(|| count.load(Ordering::Acquire) >= n, Duration::ZERO);
                })
            })
            .into();
        let (event, count) = &*shared;
        for n in [1, 2] {
            count.store(n, Ordering::Release);
            event.notify();
        }
        sleepers.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
