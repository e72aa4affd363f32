//! A value that readers see as a whole while another one takes its place.

use super::lock::Lock;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The value is one word, a pointer, which changes at once: so a thread that fork() cut off in the middle leaves the old
/// or the new value, and the child goes on with it.
pub struct Published<T> {
    /// Keeps the value from being dropped between reading the pointer and counting one more that has it.
    lock: Lock<()>,
    /// From `Arc::into_raw`; one count is this struct's.
    pointer: AtomicPtr<T>,
    value: PhantomData<Arc<T>>,
}

impl<T> Published<T> {
    pub fn new(value: Arc<T>) -> Self {
        let pointer = AtomicPtr::new(Arc::into_raw(value).cast_mut());
        Published { lock: Lock::default(), pointer, value: PhantomData }
    }

    pub fn get(&self) -> Arc<T> {
        let _lock = self.lock.lock();
        let pointer = self.pointer.load(Ordering::Relaxed);
        // SAFETY: from `Arc::into_raw`, and its count does not go down while this thread has the lock.
        unsafe {
            Arc::increment_strong_count(pointer);
            Arc::from_raw(pointer)
        }
    }

    /// Gives back the value before.
    pub fn replace(&self, value: Arc<T>) -> Arc<T> {
        let value = Arc::into_raw(value).cast_mut();
        let lock = self.lock.lock();
        let previous = self.pointer.swap(value, Ordering::Relaxed);
        drop(lock);
        // SAFETY: from `Arc::into_raw`, with the count that was this struct's.
        unsafe { Arc::from_raw(previous) }
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        // SAFETY: from `Arc::into_raw`, with the count that is this struct's.
        drop(unsafe { Arc::from_raw(*self.pointer.get_mut()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_have_whole_values_and_nothing_is_left() {
        let number = |n: u64| Arc::new([n; 4]);
        let first = number(0);
        let published = Published::new(Arc::clone(&first));
        assert_eq!(Arc::strong_count(&first), 2);
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=10_000).for_each(|n| drop(published.replace(number(n)))));
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut last = 0;
                    while last < 10_000 {
                        let now = *published.get();
                        assert!(now == [now[0]; 4] && now[0] >= last);
                        last = now[0];
                    }
                });
            }
        });
        assert_eq!(Arc::strong_count(&first), 1);
        let last = published.get();
        drop(published);
        assert_eq!(Arc::strong_count(&last), 1);
    }
}
