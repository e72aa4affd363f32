//! The host's signals are the host's threads': none of them runs a handler, or is taken from a sigwait(), on a thread of
//! ours.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// A fault of the thread's own code raises these. They stay as they are: blocked, the kernel would kill the process without
/// the crash handler that the host may have for them. All others can wait for another thread. (abort() unblocks its
/// own.)
const FAULTS: [i32; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

/// For as long as it lives, signals that can wait do so on this thread, and threads that it makes begin
/// like that, with their first instruction.
#[must_use]
pub struct Blocked {
    before: libc::sigset_t,
    /// Stays on its thread.
    _thread: PhantomData<*const ()>,
}

pub fn block() -> Blocked {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: places of ours; sigfillset writes the whole set, pthread_sigmask the whole of the one before. With these
    // arguments neither fails.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        for fault in FAULTS {
            libc::sigdelset(all.as_mut_ptr(), fault);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
        Blocked { before: before.assume_init(), _thread: PhantomData }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the set that was there before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}
