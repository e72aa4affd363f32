//! Places where a test build panics, to prove what survives it (tests/panics.rs). In any other build
//! there is nothing.

#[cfg(feature = "failpoints")]
mod armed {
    use std::cell::Cell;

    thread_local! {
        /// Points that this thread still passes before one panics.
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// The point after `passed` others on this thread panics; with none, no point does. Gives back
    /// what is left of an earlier order.
    pub fn arm(passed: Option<u32>) -> Option<u32> {
        LEFT.replace(passed)
    }

    pub fn point() {
        match LEFT.take() {
            Some(0) => panic!("failpoint"),
            left => LEFT.set(left.map(|n| n - 1)),
        }
    }
}

#[cfg(feature = "failpoints")]
pub use armed::{arm, point};

/// A place where a panic must not harm anything.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn point() {}
