//! Numbers that tell things apart: nothing else in this process has had the same one, also not what
//! lay at the same address before.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unique(u64);

impl Unique {
    pub fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Unique(LAST.fetch_add(1, Ordering::Relaxed))
    }

    pub fn number(self) -> u64 {
        self.0
    }

    /// As another library's `next` gave it: to be compared with its others only.
    pub fn numbered(number: u64) -> Self {
        Unique(number)
    }
}
