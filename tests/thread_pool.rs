//! The thread pool's protocol, as it is in src, in every order that the memory model allows: loom takes the
//! place of atomics, mutexes and threads and goes through them all, up to a number of preemptions.
//!
//! It finds a job that is taken back while a worker is inside (an access to what the caller writes at the same time), a
//! wake-up that is lost (a deadlock), and a job that one worker has twice.

// The cells' pointers are good while their closures run; loom checks that no two threads have one.
#![allow(clippy::undocumented_unsafe_blocks)]

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
#[path = "../src/engine/fused/threads/schedule.rs"]
#[allow(dead_code)] // nobody panics here, so nothing is abandoned
mod schedule;

use event::Event;
use gate::{Call, Gate, Padded};
use schedule::{Part, Plan, Schedule, Slot};

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

/// What two threads do: a slab is summed when it has been written, its slot is the next one's when it has been summed,
/// and one thread at a time has a piece.
fn a_part_begins_when_what_it_needs_is_written(plan: Plan) {
    let slots: &'static [Padded<Slot>] =
        Box::leak((0..plan.slots()).map(|_| Padded::default()).collect());
    let cells = |n: usize| (0..n).map(|_| UnsafeCell::new(0)).collect::<Vec<_>>();
    struct Step {
        plan: Plan,
        schedule: Schedule<'static>,
        /// Of each slot the chunks.
        chunks: Vec<UnsafeCell<usize>>,
        sums: Vec<UnsafeCell<usize>>,
    }
    impl Step {
        fn work(&self, thread: usize) {
            let mut home = None;
            while let Some(part) = self.schedule.next(thread, home) {
                let per_slab = self.plan.chunks_per_slab;
                let place = |slab, chunk| &self.chunks[self.schedule.slot(slab) * per_slab + chunk];
                match part {
                    Part::Chunk { slab, chunk } => {
                        home = Some(slab);
                        place(slab, chunk).with_mut(|place| unsafe { *place = slab + 1 });
                        self.schedule.chunk_done(slab);
                    }
                    Part::Piece { slab, piece, .. } => {
                        for chunk in 0..per_slab {
                            assert_eq!(
                                place(slab, chunk).with(|place| unsafe { *place }),
                                slab + 1
                            );
                        }
                        self.sums[piece].with_mut(|sum| unsafe { *sum += 1 });
                        let release = || place(slab, 0).with_mut(|place| unsafe { *place = 0 });
                        self.schedule.piece_done(slab, piece, release);
                    }
                }
            }
        }
    }
    let schedule = Schedule::new(plan, slots, Duration::ZERO);
    let (chunks, sums) = (cells(plan.slots() * plan.chunks_per_slab), cells(plan.pieces));
    let step = Arc::new(Step { plan, schedule, chunks, sums });
    let other = {
        let step = Arc::clone(&step);
        thread::spawn(move || step.work(1))
    };
    step.work(0);
    other.join().unwrap();
    let slabs = plan.slabs();
    assert!(step.sums.iter().all(|sum| sum.with(|sum| unsafe { *sum }) == slabs));
}

/// A plan for one thread has one slot.
const ONE_SLOT: Plan = Plan { threads: 1, chunks: 2, chunks_per_slab: 1, pieces: 1 };

#[test]
fn a_slot_for_two_slabs() {
    check(1, || a_part_begins_when_what_it_needs_is_written(ONE_SLOT));
}

#[test]
fn two_chunks_of_a_slab() {
    let plan = Plan { chunks_per_slab: 2, ..ONE_SLOT };
    check(1, move || a_part_begins_when_what_it_needs_is_written(plan));
}

#[test]
fn two_pieces_of_a_slab() {
    let plan = Plan { chunks: 1, pieces: 2, ..ONE_SLOT };
    check(1, move || a_part_begins_when_what_it_needs_is_written(plan));
}

#[test]
fn two_slabs_at_once() {
    let plan = Plan { threads: 2, ..ONE_SLOT };
    check(1, move || a_part_begins_when_what_it_needs_is_written(plan));
}
