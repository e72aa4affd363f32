//! How a job gets from its caller to the workers and when the caller may take it back, without a lock.
//!
//! The gate is one word: the job's number, the last worker that may take part, and whether it is open. The caller
//! opens it with a new number when what the job is made of has been written, does its own part, closes it, and waits for the
//! workers inside. A worker that finds the gate open says in a cache line of its own that it is inside, looks at the
//! gate *again*, and begins only if it is still open. One that comes late does not begin, and nobody waits for
//! one that never came: where the CPUs are busy with something else, the caller does the work alone.
//!
//! Why no worker is inside when `close` returns, so that the job may go: a worker writes "inside", then reads the
//! gate; the caller writes "closed", then reads the "inside" of each. Between the two each has a sequentially
//! consistent fence, and of two such fences one is the first:
//!
//! - The worker's: then the caller reads "inside", or what the worker wrote after it, "outside", with `Release` when it
//!   had done its part. The caller goes on looking until it reads that, with `Acquire`, so all that the worker did
//!   is done before `close` returns.
//! - The caller's: then the worker reads "closed", or a later job's word, and takes no part in this one.
//!
//! A worker that reads a later job's open gate takes part in that one: it said "inside" before it read, so the same
//! holds for that job. What the job is made of was written before its gate was opened with `Release`, and is read
//! after the gate was read with `Acquire`. A worker remembers the last number that it took part in, and so takes
//! part in none twice.

use super::event::Event;
use super::sync::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::Duration;

/// Something in cache lines of its own; some CPUs fetch two at a time.
#[derive(Default)]
#[repr(align(128))]
pub struct Padded<T>(pub T);

/// The gate's word: the number, the last worker, and whether it is open.
#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    const LAST_BITS: u32 = 16;
    /// No number comes that far.
    const STOP: u64 = u64::MAX;

    fn open(number: u64, last: usize) -> Word {
        Word(number << (Self::LAST_BITS + 1) | (last as u64) << 1 | 1)
    }

    fn closed(self) -> Word {
        Word(self.0 & !1)
    }

    fn number(self) -> u64 {
        self.0 >> (Self::LAST_BITS + 1)
    }

    fn last(self) -> usize {
        (self.0 >> 1 & ((1 << Self::LAST_BITS) - 1)) as usize
    }

    /// Whether this worker may take part in a job that it has not yet seen.
    fn offers(self, worker: usize, seen: u64) -> bool {
        self.0 & 1 == 1 && self.number() != seen && worker <= self.last()
    }
}

/// Workers are numbered from 1; the caller, one at a time, is 0.
pub struct Gate {
    word: Padded<AtomicU64>,
    workers: Vec<Padded<Worker>>,
    /// A worker is outside again.
    left: Padded<Event>,
}

struct Worker {
    inside: AtomicBool,
    /// There is a job for it, or an end.
    called: Event,
}

/// What a worker is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// The job with this number: it is inside and must `leave`.
    Job(u64),
    Stop,
}

impl Gate {
    pub fn new(workers: usize) -> Self {
        let worker =
            || Padded(Worker { inside: AtomicBool::new(false), called: Event::default() });
        Gate {
            word: Padded(AtomicU64::new(0)),
            workers: (0..workers).map(|_| worker()).collect(),
            left: Padded::default(),
        }
    }

    fn word(&self) -> Word {
        Word(self.word.0.load(Ordering::Acquire))
    }

    fn set(&self, word: Word) {
        self.word.0.store(word.0, Ordering::Release);
    }

    /// Offers workers 1 to `last` the job that has been written.
    pub fn open(&self, last: usize) {
        let last = last.min(self.workers.len());
        self.set(Word::open(self.word().number() + 1, last));
        self.call_children(0, last);
    }

    /// Takes it back; returns when no worker is inside.
    pub fn close(&self, looking: Duration) {
        let word = self.word();
        self.set(word.closed());
        fence(Ordering::SeqCst);
        for Padded(worker) in &self.workers[..word.last()] {
            self.left.0.wait_until(|| !worker.inside.load(Ordering::Acquire), looking);
        }
    }

    /// Ends every worker.
    pub fn stop(&self) {
        self.set(Word(Word::STOP));
        self.workers.iter().for_each(|Padded(worker)| worker.called.notify());
    }

    /// Waits for a job that worker `number` has not yet `seen`, and goes inside.
    pub fn enter(&self, number: usize, seen: u64, looking: Duration) -> Call {
        let Padded(worker) = &self.workers[number - 1];
        loop {
            let called = || {
                let word = self.word();
                word.0 == Word::STOP || word.offers(number, seen)
            };
            worker.called.wait_until(called, looking);
            worker.inside.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            let word = self.word();
            if word.0 == Word::STOP {
                return Call::Stop;
            }
            if word.offers(number, seen) {
                self.call_children(number, word.last());
                return Call::Job(word.number());
            }
            self.leave(number);
        }
    }

    /// After a worker's part in a job.
    pub fn leave(&self, number: usize) {
        self.workers[number - 1].0.inside.store(false, Ordering::Release);
        self.left.0.notify();
    }

    /// Wakes those that `parent` is to wake, if they sleep: so the caller of many is soon at its own part.
    fn call_children(&self, parent: usize, last: usize) {
        const CHILDREN: usize = 8;
        let children = self.workers[..last].iter().skip(parent * CHILDREN).take(CHILDREN);
        children.for_each(|Padded(worker)| worker.called.notify());
    }
}
