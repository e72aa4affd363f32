//! Who is still there after fork(): of the parent's threads only the one that forked lives on in the child,
//! and what the others held, they hold for ever.
//!
//! So threads have numbers, which are given in order and never again, also in a child. A child notes the
//! next number: whoever has a lower one stayed in the parent, but for the thread that forked. This costs a call
//! nothing but a comparison where it finds something taken; a look at the process's id would be a system call.
//!
//! fork() runs the handler; a child made by clone() or _Fork() itself is not noticed.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// 0 is nobody.
static NEXT: AtomicU64 = AtomicU64::new(1);
/// The first number that was given in this process.
static FIRST: AtomicU64 = AtomicU64::new(1);
/// The number of the thread that forked this process, if it had one.
static FORKING: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// The number of the calling thread, never 0.
pub fn this_thread() -> u64 {
    match NUMBER.get() {
        0 => give_number(),
        number => number,
    }
}

/// Whether the thread with this number can still do something.
pub fn lives(thread: u64) -> bool {
    thread >= FIRST.load(Ordering::Relaxed) || thread == FORKING.load(Ordering::Relaxed)
}

/// Nobody holds anything without a number, so the handler is there before a fork can matter.
#[cold]
fn give_number() -> u64 {
    static HANDLED: AtomicBool = AtomicBool::new(false);
    // Two threads that come here at once register it twice, which does no harm. To wait for the other one would:
    // it may be cut off by the fork.
    if !HANDLED.load(Ordering::Relaxed) {
        // SAFETY: a function that lives as long as the process: the library is never unloaded (build.rs).
        let status = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        HANDLED.store(status == 0, Ordering::Relaxed); // else there was no memory; the next thread tries again
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    NUMBER.set(number);
    number
}

/// In the child, on its only thread, before fork() returns.
extern "C" fn in_child() {
    FIRST.store(NEXT.load(Ordering::Relaxed), Ordering::Relaxed);
    FORKING.store(NUMBER.get(), Ordering::Relaxed);
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// What is true in a child.
    pub fn in_a_child(holds: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child calls nothing that another thread may have locked.
        match unsafe { libc::fork() } {
            0 => {
                let holds = holds();
                // SAFETY: ends the child.
                unsafe { libc::_exit(holds.into()) }
            }
            child => {
                let mut status = 0;
                // SAFETY: a child of this process.
                assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
                libc::WEXITSTATUS(status) == 1
            }
        }
    }

    #[test]
    fn in_a_child_lives_who_forked_and_who_came_later() {
        let me = this_thread();
        let other = std::thread::spawn(this_thread).join().unwrap();
        assert!(me != other && lives(me) && lives(other));
        assert!(in_a_child(|| {
            let late = std::thread::spawn(this_thread).join().unwrap();
            let again = std::thread::spawn(move || {
                // A child of the child, of another thread than the first one.
                in_a_child(|| lives(this_thread()) && !lives(me) && !lives(late) && !lives(other))
            });
            me == this_thread()
                && lives(me)
                && !lives(other)
                && lives(late)
                && again.join().unwrap()
        }));
    }
}
