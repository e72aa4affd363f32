//! A lock that no fork leaves locked, for what is touched for a moment or can be made anew.

use super::fork::{lives, this_thread};
use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Nobody's number.
const FREE: u64 = 0;

/// Guards a value. A child of fork that finds it locked by a thread of the parent leaves the value, which that thread
/// may have been changing, and begins with a default one. What such a thread left unlocked is whole: the
/// child's memory is the parent's of one moment.
///
/// A panic does not poison it. Waiting is for moments: a thread that waits for long looks again every 50 us, so that
/// one of higher priority does not keep the holder from the CPU for ever.
pub struct Lock<T> {
    /// The number of the thread that has it.
    owner: AtomicU64,
    value: UnsafeCell<ManuallyDrop<T>>,
}

// SAFETY: the value is handed from thread to thread, one at a time has it.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Lock::new(T::default())
    }
}

impl<T> Lock<T> {
    pub const fn new(value: T) -> Self {
        Lock { owner: AtomicU64::new(FREE), value: UnsafeCell::new(ManuallyDrop::new(value)) }
    }
}

impl<T: Default> Lock<T> {
    pub fn lock(&self) -> Guard<'_, T> {
        let mut tries = 0;
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            match tries {
                0..64 => std::hint::spin_loop(),
                64..80 => std::thread::yield_now(),
                _ => std::thread::sleep(Duration::from_micros(50)),
            }
            tries = 80.min(tries + 1);
        }
    }

    /// None if another thread, or this one, has it.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let me = this_thread();
        let take =
            |from| self.owner.compare_exchange(from, me, Ordering::Acquire, Ordering::Relaxed);
        match take(FREE) {
            Ok(_) => Some(Guard(self)),
            Err(owner) if !lives(owner) && take(owner).is_ok() => {
                // SAFETY: it is this thread's now, and the old value is nobody's any more. It is not dropped: it may be
                // half of one.
                unsafe { self.value.get().write(ManuallyDrop::new(T::default())) };
                Some(Guard(self))
            }
            Err(_) => None,
        }
    }
}

impl<T> Drop for Lock<T> {
    fn drop(&mut self) {
        // Locked is what a thread of the parent may have left half-done.
        if *self.owner.get_mut() == FREE {
            // SAFETY: whole, and not used again.
            unsafe { ManuallyDrop::drop(self.value.get_mut()) };
        }
    }
}

pub struct Guard<'a, T>(&'a Lock<T>);

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this thread has the lock for as long as there is a guard.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.0.owner.store(FREE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fork::tests::in_a_child;
    use super::*;

    #[test]
    fn one_thread_at_a_time_has_it() {
        let sum = Lock::new(0u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| *sum.lock() += 1));
            }
        });
        assert_eq!(*sum.lock(), 40_000);
        let held = sum.lock();
        assert!(sum.try_lock().is_none());
        drop(held);
        assert!(sum.try_lock().is_some());
    }

    #[test]
    fn what_a_vanished_thread_has_is_made_anew_and_never_dropped() {
        /// Counts those that are dropped, but for default ones.
        #[derive(Default)]
        struct Counted<'a>(Option<&'a AtomicU64>);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                self.0.inspect(|dropped| _ = dropped.fetch_add(1, Ordering::Relaxed));
            }
        }
        let dropped = AtomicU64::new(0);
        let [free, used, dropped_only] = [(); 3].map(|()| Lock::new(Counted(Some(&dropped))));
        let [taken, forked] = [(); 2].map(|()| std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            let (used, dropped_only, taken, forked) = (&used, &dropped_only, &taken, &forked);
            scope.spawn(move || {
                let _held = (used.lock(), dropped_only.lock());
                taken.wait();
                forked.wait();
            });
            taken.wait();
            assert!(used.try_lock().is_none());
            // SAFETY: the child's copies of what is not used after it.
            let [free, used, dropped_only] =
                [&free, used, dropped_only].map(|lock| unsafe { std::ptr::read(lock) });
            let [free, used, dropped_only] = [free, used, dropped_only].map(ManuallyDrop::new);
            let works = in_a_child(|| {
                let count = || dropped.load(Ordering::Relaxed);
                drop(ManuallyDrop::into_inner(dropped_only));
                let anew = used.try_lock().is_some_and(|value| (*value).0.is_none());
                drop(ManuallyDrop::into_inner(used));
                let abandoned = count();
                drop(ManuallyDrop::into_inner(free));
                anew && abandoned == 0 && count() == 1
            });
            forked.wait();
            assert!(works);
        });
        drop([free, used, dropped_only]);
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
    }
}
