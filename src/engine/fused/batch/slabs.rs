//! The slabs of a batch that are in flight. Each thread writes its chunks' partials to memory that it wrote before, which
//! its cache still has; they move to the chunk's slab, where all may read them, and back when the slab has been
//! summed.

use super::panels::{PanelShape, Partial};
use crate::allocation::reserve;
use crate::batch::Seen;
use crate::engine::fused::threads::{Padded, Plan, Slot, lock};
use crate::error::{Code, Error, Result};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

#[derive(Default)]
pub struct Slabs {
    pub slots: Vec<Padded<Slot>>,
    /// Of each slot the chunks that are done, in their order.
    done: Vec<RwLock<Vec<Partial>>>,
    /// Those that no slab has.
    spare: Mutex<Vec<Partial>>,
    /// All there are.
    count: usize,
    /// What each chunk of the batch saw.
    seen: Vec<Mutex<Seen>>,
}

impl Slabs {
    /// Room for a batch.
    pub fn grow(&mut self, plan: &Plan, shape: &PanelShape) -> Result<()> {
        let more = plan.slots().saturating_sub(self.slots.len());
        reserve(&mut self.slots, more)?;
        reserve(&mut self.done, more)?;
        for _ in 0..more {
            let mut done = Vec::new();
            reserve(&mut done, plan.chunks_per_slab)?;
            self.slots.push(Padded::default());
            self.done.push(RwLock::new(done));
        }
        let spare = self.spare.get_mut().unwrap_or_else(PoisonError::into_inner);
        let wanted = plan.chunks.min(plan.slots() * plan.chunks_per_slab);
        reserve(spare, wanted.saturating_sub(self.count))?;
        while self.count < wanted {
            spare.push(Partial { owner: self.count % plan.threads, ..Partial::zeros(shape)? });
            self.count += 1;
        }
        let more = plan.chunks.saturating_sub(self.seen.len());
        reserve(&mut self.seen, more)?;
        self.seen.extend((0..more).map(|_| Mutex::default()));
        Ok(())
    }

    /// One for `thread` to write, if it can be its own.
    pub fn take(&self, thread: usize) -> Result<Partial> {
        let mut spare = lock(&self.spare);
        let own = spare.iter().rposition(|partial| partial.owner == thread);
        match own.or(spare.len().checked_sub(1)) {
            Some(i) => Ok(spare.swap_remove(i)),
            None => Err(Error::new(Code::Internal, "more chunks are in flight than were planned")),
        }
    }

    /// To the slab in slot `slot`; `chunk` is that of the slab, `number` of the batch.
    pub fn put(&self, slot: usize, chunk: usize, number: usize, seen: Seen, partial: Partial) {
        *lock(&self.seen[number]) = seen;
        let mut done = self.done[slot].write().unwrap_or_else(PoisonError::into_inner);
        let place = done.partition_point(|other| other.chunk < chunk);
        done.insert(place, Partial { chunk, ..partial });
    }

    /// Those of a slab that is complete.
    pub fn partials(&self, slot: usize) -> RwLockReadGuard<'_, Vec<Partial>> {
        self.done[slot].read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes them back.
    pub fn release(&self, slot: usize) {
        let mut done = self.done[slot].write().unwrap_or_else(PoisonError::into_inner);
        lock(&self.spare).append(&mut done);
    }

    /// What the first `chunks` chunks saw, added up in their order.
    pub fn seen(&self, chunks: usize) -> Seen {
        self.seen[..chunks].iter().fold(Seen::default(), |total, seen| {
            let seen = lock(seen);
            Seen { loss: total.loss + seen.loss, correct: total.correct + seen.correct }
        })
    }
}
