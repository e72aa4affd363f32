//! This process as the system sees it; apart from the rest, which the fuzz targets share and which needs no libc.

// Each test crate uses a part of it.
#![allow(dead_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Threads of this process.
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Seconds after which a child hangs for ever.
const PATIENCE: u32 = 60;

/// A forked child, which must be waited for.
#[must_use]
pub struct Child(libc::pid_t);

impl Child {
    /// A child that does this and ends.
    #[track_caller]
    pub fn fork(body: impl FnOnce()) -> Child {
        Child::fork_here().unwrap_or_else(|| end_child(body))
    }

    /// Returns twice; None is in the child, which `end_child` must end.
    #[track_caller]
    pub fn fork_here() -> Option<Child> {
        match unsafe { libc::fork() } {
            0 => {
                unsafe { libc::alarm(PATIENCE) };
                None
            }
            child => {
                assert!(child > 0, "{}", std::io::Error::last_os_error());
                Some(Child(child))
            }
        }
    }

    #[track_caller]
    pub fn succeeds(self, what: &str) {
        let mut status = 0;
        assert_eq!(unsafe { libc::waitpid(self.0, &mut status, 0) }, self.0);
        let hung = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGALRM;
        assert!(!hung, "{what}: the child hangs");
        assert_eq!(status, 0, "{what}: in the child");
    }
}

/// What remains to be done in a child; a failed assertion is its exit status, and goes to stderr without a lock.
pub fn end_child(body: impl FnOnce()) -> ! {
    let result = catch_unwind(AssertUnwindSafe(body));
    if let Err(panic) = &result {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
    }
    unsafe { libc::_exit(i32::from(result.is_err())) };
}

/// Asserts that `works` is true in a forked child, which ends with it.
#[track_caller]
pub fn works_in_a_child(works: impl FnOnce() -> bool) {
    Child::fork(|| assert!(works())).succeeds("a child");
}
