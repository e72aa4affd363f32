//! Waiting for something that other threads bring about.
//!
//! A thread that waits looks for a while, because to be woken costs some 50 us, and then sleeps. Whoever brings
//! something about pays for the wake-up only if somebody sleeps: it writes, then looks for sleepers; a sleeper
//! counts itself, then looks once more. Between the two accesses each has a sequentially consistent fence, and of two
//! such fences one is the first:
//!
//! - The sleeper's: then `notify` sees it counted. It takes the mutex, which the sleeper holds from before it counted
//!   itself until it is inside of `Condvar::wait`, so the notification comes when it can be heard.
//! - `notify`'s: then the sleeper sees what was written before it, and does not sleep.

use super::sync::{AtomicUsize, Condvar, Mutex, Ordering, fence, spin_until};
use std::sync::PoisonError;
use std::time::Duration;

pub struct Event {
    /// Threads that sleep or are about to.
    sleepers: AtomicUsize,
    mutex: Mutex<()>,
    woken: Condvar,
}

impl Default for Event {
    fn default() -> Self {
        let (sleepers, mutex, woken) = (AtomicUsize::new(0), Mutex::new(()), Condvar::new());
        Event { sleepers, mutex, woken }
    }
}

impl Event {
    /// Returns when `ready` is true, which sleeps after some time of looking. Whoever makes it true calls `notify`
    /// after that.
    pub fn wait_until(&self, ready: impl Fn() -> bool, looking: Duration) {
        if spin_until(&ready, looking) {
            return;
        }
        let mut guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        while !ready() {
            guard = self.woken.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Wakes those who sleep, so that they look again.
    pub fn notify(&self) {
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            drop(self.mutex.lock().unwrap_or_else(PoisonError::into_inner));
            self.woken.notify_all();
        }
    }
}
