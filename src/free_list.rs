//! A free list: buffers that calls borrow and give back, so that a call that is made again and again allocates
//! nothing: as many are kept as calls ever ran at once.

use crate::host::Lock;

pub struct FreeList<T>(Lock<Vec<T>>);

impl<T> Default for FreeList<T> {
    fn default() -> Self {
        FreeList(Lock::default())
    }
}

impl<T> FreeList<T> {
    /// One that an earlier call has given back.
    pub fn take(&self) -> Option<T> {
        self.0.lock().pop()
    }

    pub fn give_back(&self, item: T) {
        self.0.lock().push(item);
    }
}
