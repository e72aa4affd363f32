//! Whose turn it is to change a model.

use crate::error::{Code, Error, Result};
use crate::host::{Lock, lives, this_thread};
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};

/// Lets one thread at a time change a model. A thread that already has the turn, because it is
/// inside a progress callback, gets BUSY instead of a deadlock. In a forked child the turn is not
/// that of a thread which stayed in the parent: what it was about to publish was not published.
#[derive(Default)]
pub struct Turn {
    /// The thread's number; 0 is nobody.
    holder: AtomicU64,
    /// A panic ended somebody's turn.
    broken: AtomicBool,
    waiting: Lock<Vec<Thread>>,
}

pub struct TurnGuard<'a> {
    turn: &'a Turn,
    /// Whether a panic was on its way before the turn began.
    panicking: bool,
}

impl Turn {
    pub fn take(&self) -> Result<TurnGuard<'_>> {
        let me = this_thread();
        while let Err(holder) = self.take_from(0, me) {
            if holder == me {
                return Err(Error::new(
                    Code::Busy,
                    "this thread is inside a call that is changing the model",
                ));
            }
            if lives(holder) {
                self.wait();
            } else if self.take_from(holder, me).is_ok() {
                break;
            }
        }
        let guard = TurnGuard { turn: self, panicking: thread::panicking() };
        if self.broken.load(Ordering::Relaxed) {
            return Err(Error::new(
                Code::Internal,
                "an earlier internal failure interrupted training of this model; its last good step can still be used and saved",
            ));
        }
        Ok(guard)
    }

    /// Whether this thread has it: it is inside a progress callback.
    pub fn is_mine(&self) -> bool {
        self.holder.load(Ordering::Relaxed) == this_thread()
    }

    /// Else who has it.
    fn take_from(&self, holder: u64, me: u64) -> Result<(), u64> {
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        self.holder.compare_exchange(holder, me, acquire, relaxed).map(drop)
    }

    /// Until the turn ends, or is about to.
    fn wait(&self) {
        self.waiting.lock().push(thread::current());
        // Whoever ends a turn gives it up first and then looks who waits.
        if self.holder.load(Ordering::Relaxed) != 0 {
            thread::park();
        }
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        if thread::panicking() && !self.panicking {
            self.turn.broken.store(true, Ordering::Relaxed);
        }
        self.turn.holder.store(0, Ordering::Release);
        // All of them: some may be the parent's, which nothing wakes.
        let waiting = mem::take(&mut *self.turn.waiting.lock());
        waiting.iter().for_each(Thread::unpark);
    }
}
