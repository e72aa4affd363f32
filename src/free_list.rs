//! A free list: buffers that calls borrow and give back, so that a call that is made again and again allocates
//! nothing: as many are kept as calls ever ran at once.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub struct FreeList<T>(Mutex<Vec<T>>);

impl<T> Default for FreeList<T> {
    fn default() -> Self {
        FreeList(Mutex::default())
    }
}

impl<T> FreeList<T> {
    /// One that an earlier call has given back.
    pub fn take(&self) -> Option<T> {
        self.items().pop()
    }

    pub fn give_back(&self, item: T) {
        self.items().push(item);
    }

    fn items(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
