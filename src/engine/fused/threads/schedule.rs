//! Which part of a training step a thread does next. The whole step is one job: nobody waits for the last thread between
//! its parts, but each part waits for those that it needs.
//!
//! A batch is cut into slabs and a slab into chunks. When all chunks of a slab are done, the slab is complete and
//! is added to the gradient, piece by piece. A few slabs are in flight at once, each in a slot; when all pieces of one
//! have been added, its slot is the next slab's. To each piece the slabs are added one at a time in their order, but the first
//! two in either: the sum of two floats is the same both ways, and so each thread of two may begin with what it has in
//! its own cache. So the result does not depend on who is fast.
//!
//! No lock, and no word that means different things to two threads: a chunk is taken by raising its slot's word, which
//! has the slab's number in it, so whoever still thinks of an earlier slab of the slot fails. A piece is taken by
//! setting its `BUSY` bit, while the slab is one that it still lacks; a slab's slot is given away only when no piece
//! lacks it. What was written before a part ended with `Release` is there for who takes, with `Acquire`, what needs it.

use super::event::Event;
use super::gate::Padded;
use super::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::cell::Cell;
use std::time::Duration;

/// The most pieces of a gradient.
pub const MOST_PIECES: usize = 40;

/// One slab at a time.
pub struct Slot {
    /// The slab's number, and how many of its chunks have been taken: number << 32 | chunks.
    taken: AtomicU64,
    /// Chunks that are done.
    done: AtomicUsize,
    /// The number, plus one, of the slab if it is complete.
    complete: AtomicUsize,
    /// Pieces that still lack it.
    lacking: AtomicUsize,
}

impl Default for Slot {
    fn default() -> Self {
        let (taken, zero) = (AtomicU64::new(0), || AtomicUsize::new(0));
        Slot { taken, done: zero(), complete: zero(), lacking: zero() }
    }
}

/// How a batch is cut, and for how many threads.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub threads: usize,
    /// Of the whole batch; not 0.
    pub chunks: usize,
    pub chunks_per_slab: usize,
    pub pieces: usize,
}

impl Plan {
    pub fn slabs(&self) -> usize {
        self.chunks.div_ceil(self.chunks_per_slab)
    }

    /// Slabs that threads without an own one, or with all of theirs taken, go to last: thread t begins with those whose
    /// number has t's rest. Each of two threads has slabs of its own.
    fn groups(&self) -> usize {
        self.threads.div_ceil(self.chunks_per_slab).max(2)
    }

    /// Slabs in flight. One thread needs one, and two need one each; from three on there are as many again, for those who
    /// are done with theirs while others are not.
    pub fn slots(&self) -> usize {
        let wanted = match self.threads {
            1 => 1,
            2 => 2,
            _ => 2 * self.groups(),
        };
        wanted.min(self.slabs())
    }
}

/// A part of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Forward and back through the network; `chunk` counts within the slab.
    Chunk { slab: usize, chunk: usize },
    /// A slab's sum for a piece of the gradient; of all slabs the `first` one for this piece, or the `last`.
    Piece { slab: usize, piece: usize, first: bool, last: bool },
}

/// A piece's word is twice its `Sums`, plus this while a thread adds a slab to it.
const BUSY: usize = 1;

/// Which slabs a piece has: 0 none, 1 and 2 the first or the second one alone, 3 both, 4 the first three, and so on.
#[derive(Clone, Copy)]
struct Sums(usize);

impl Sums {
    fn takes(self, slab: usize) -> bool {
        match slab {
            0 | 1 => self.0 < 3 && self.0 & (1 << slab) == 0,
            _ => self.0 == slab + 1,
        }
    }

    fn with(self, slab: usize) -> Sums {
        match slab {
            0 | 1 => Sums(self.0 | 1 << slab),
            _ => Sums(slab + 2),
        }
    }

    fn all(slabs: usize) -> usize {
        if slabs == 1 { 1 } else { slabs + 1 }
    }
}

pub struct Schedule<'a> {
    plan: Plan,
    slots: &'a [Padded<Slot>],
    pieces: [AtomicUsize; MOST_PIECES],
    /// Slabs that have ever had a slot.
    opened: AtomicUsize,
    /// Slabs that all pieces have.
    summed: AtomicUsize,
    abandoned: AtomicBool,
    /// There may be a part for who found none.
    changed: Event,
    looking: Duration,
}

impl<'a> Schedule<'a> {
    /// With the first `plan.slots()` slots, which no other thread uses now.
    pub fn new(plan: Plan, slots: &'a [Padded<Slot>], looking: Duration) -> Self {
        assert!(plan.pieces <= MOST_PIECES);
        let slots = &slots[..plan.slots()];
        for (slab, Padded(slot)) in slots.iter().enumerate() {
            slot.complete.store(0, Ordering::Relaxed);
            open(slot, slab, plan.pieces);
        }
        Schedule {
            plan,
            slots,
            pieces: std::array::from_fn(|_| AtomicUsize::new(0)),
            opened: AtomicUsize::new(slots.len()),
            summed: AtomicUsize::new(0),
            abandoned: AtomicBool::new(false),
            changed: Event::default(),
            looking,
        }
    }

    /// Where slab `slab` is.
    pub fn slot(&self, slab: usize) -> usize {
        slab % self.slots.len()
    }

    /// The next part for `thread`, whose latest chunk was of slab `home`; waits for one if there will be one. The part is
    /// to be ended by `chunk_done` or `piece_done`.
    pub fn next(&self, thread: usize, home: Option<usize>) -> Option<Part> {
        let part = Cell::new(None);
        let found_or_over = || {
            part.set(self.find(thread, home));
            part.get().is_some() || self.is_over()
        };
        self.changed.wait_until(found_or_over, self.looking);
        part.get()
    }

    fn is_over(&self) -> bool {
        self.summed.load(Ordering::Acquire) == self.plan.slabs()
            || self.abandoned.load(Ordering::Relaxed)
    }

    pub fn chunk_done(&self, slab: usize) {
        let Padded(slot) = &self.slots[self.slot(slab)];
        if slot.done.fetch_add(1, Ordering::AcqRel) + 1 == self.chunks_of(slab) {
            slot.complete.store(slab + 1, Ordering::Release);
            self.changed.notify();
        }
    }

    /// `release` is called when all pieces have the slab and before its slot is another's.
    pub fn piece_done(&self, slab: usize, piece: usize, release: impl FnOnce()) {
        let sums = Sums(self.pieces[piece].load(Ordering::Relaxed) / 2).with(slab);
        self.pieces[piece].store(sums.0 * 2, Ordering::Release);
        let Padded(slot) = &self.slots[self.slot(slab)];
        if slot.lacking.fetch_sub(1, Ordering::AcqRel) == 1 {
            release();
            slot.complete.store(0, Ordering::Relaxed);
            if slab + self.slots.len() < self.plan.slabs() {
                open(slot, slab + self.slots.len(), self.plan.pieces);
                self.opened.fetch_add(1, Ordering::Relaxed);
            }
            self.summed.fetch_add(1, Ordering::AcqRel);
        }
        self.changed.notify();
    }

    /// Nobody waits any more: a thread did not end its part.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.changed.notify();
    }

    fn chunks_of(&self, slab: usize) -> usize {
        let per_slab = self.plan.chunks_per_slab;
        per_slab.min(self.plan.chunks - slab * per_slab)
    }

    /// Towards the end the long parts come first, so that no thread begins one when the others are done; before that, a
    /// slab's pieces, while it is in this thread's cache.
    pub(super) fn find(&self, thread: usize, home: Option<usize>) -> Option<Part> {
        let here = || home.and_then(|slab| self.piece_of(slab, 0..self.plan.pieces));
        let elsewhere = || self.piece();
        if self.opened.load(Ordering::Relaxed) == self.plan.slabs() {
            self.chunk(thread).or_else(here).or_else(elsewhere)
        } else {
            here().or_else(|| self.chunk(thread)).or_else(elsewhere)
        }
    }

    /// A chunk of the lowest slab of this thread's, else of the lowest.
    fn chunk(&self, thread: usize) -> Option<Part> {
        let groups = self.plan.groups();
        loop {
            let words = self.slots.iter().map(|Padded(slot)| slot.taken.load(Ordering::Acquire));
            let free = words.map(|word| ((word >> 32) as usize, (word & 0xffff_ffff) as usize));
            let free = free.filter(|&(slab, chunk)| chunk < self.chunks_of(slab));
            let (slab, chunk) =
                free.min_by_key(|&(slab, _)| (slab % groups != thread % groups, slab))?;
            let Padded(slot) = &self.slots[self.slot(slab)];
            let word = (slab as u64) << 32 | chunk as u64;
            let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
            if slot.taken.compare_exchange(word, word + 1, acquire, relaxed).is_ok() {
                return Some(Part::Chunk { slab, chunk });
            }
        }
    }

    /// A piece of any complete slab; the last pieces first, for those who have the slab in their cache begin with the first.
    fn piece(&self) -> Option<Part> {
        let complete = self.slots.iter().map(|Padded(slot)| slot.complete.load(Ordering::Relaxed));
        let mut slabs = complete.filter_map(|number| number.checked_sub(1));
        slabs.find_map(|slab| self.piece_of(slab, (0..self.plan.pieces).rev()))
    }

    /// A piece that lacks the slab, if this is complete.
    fn piece_of(&self, slab: usize, mut pieces: impl Iterator<Item = usize>) -> Option<Part> {
        let Padded(slot) = &self.slots[self.slot(slab)];
        if slot.complete.load(Ordering::Acquire) != slab + 1 {
            return None;
        }
        pieces.find_map(|piece| {
            let word = self.pieces[piece].load(Ordering::Relaxed);
            let sums = Sums(word / 2);
            let may = word & BUSY == 0 && sums.takes(slab);
            let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
            let take =
                || self.pieces[piece].compare_exchange(word, word | BUSY, acquire, relaxed).is_ok();
            let last = sums.with(slab).0 == Sums::all(self.plan.slabs());
            (may && take()).then_some(Part::Piece { slab, piece, first: sums.0 == 0, last })
        })
    }
}

/// Gives the slot to a slab, from which on threads take its chunks.
fn open(slot: &Slot, slab: usize, pieces: usize) {
    slot.done.store(0, Ordering::Relaxed);
    slot.lacking.store(pieces, Ordering::Relaxed);
    slot.taken.store((slab as u64) << 32, Ordering::Release);
}
