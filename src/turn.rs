//! Whose turn it is to change a model.

use crate::error::{Code, Error, Result};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

/// Lets one thread at a time change a model. A thread that already has the turn, because it is
/// inside a progress callback, gets BUSY instead of a deadlock.
#[derive(Default)]
pub struct Turn {
    lock: Mutex<()>,
    holder: Mutex<Option<ThreadId>>,
}

pub struct TurnGuard<'a> {
    turn: &'a Turn,
    _lock: MutexGuard<'a, ()>,
}

impl Turn {
    pub fn take(&self) -> Result<TurnGuard<'_>> {
        let me = Some(std::thread::current().id());
        if self.holder() == me {
            return Err(Error::new(
                Code::Busy,
                "this thread is inside a call that is changing the model",
            ));
        }
        let lock = self.lock.lock().map_err(|_| {
            Error::new(
                Code::Internal,
                "an earlier internal failure interrupted training of this model; its last good step can still be used and saved",
            )
        })?;
        self.set_holder(me);
        Ok(TurnGuard { turn: self, _lock: lock })
    }

    fn holder(&self) -> Option<ThreadId> {
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_holder(&self, holder: Option<ThreadId>) {
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = holder;
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        self.turn.set_holder(None);
    }
}
