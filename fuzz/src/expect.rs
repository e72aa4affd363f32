//! What a call must return.

use crate::canary::Passed;
use crate::support::{last_error, name};
use lenet::ffi::*;

/// The errors that apply to a call. None: it must succeed. Several: the header does not say which
/// one comes first, so any of them is right.
#[derive(Default)]
pub struct Expect {
    wrong: Statuses,
    possible: Statuses,
}

impl Expect {
    /// The call must fail if this is so.
    pub fn wrong(mut self, so: bool, status: lenet_status) -> Self {
        self.wrong.0 |= u64::from(so) << status;
        self
    }

    /// The call may fail like this if this is so; the header leaves it open or it depends on
    /// arithmetic that is not done again here.
    pub fn possible(mut self, so: bool, status: lenet_status) -> Self {
        self.possible.0 |= u64::from(so) << status;
        self
    }

    /// An argument that the call needs, or for `or_null` one that it can do without.
    pub fn pointer<T>(mut self, passed: Passed<T>) -> Self {
        if let Some(status) = passed.wrong {
            self.wrong.0 |= 1 << status;
        }
        self
    }

    /// A struct that says its own size. The library does not need it aligned.
    pub fn structure<T>(self, passed: Passed<T>) -> Self {
        let status = passed.wrong.unwrap_or(LENET_OK);
        let misaligned = status == LENET_ERROR_INVALID_ARGUMENT;
        self.wrong(status == LENET_ERROR_NULL_POINTER, status).possible(misaligned, status)
    }

    /// The status is right, and a failure is explained. Says whether the call has succeeded.
    pub fn check(&self, call: &str, status: lenet_status) -> bool {
        let Expect { wrong, possible } = self;
        let allowed =
            wrong.has(status) || possible.has(status) || (status == LENET_OK && wrong.0 == 0);
        assert!(
            allowed,
            "{call}: {} ({}); wrong: {:?}, possible: {:?}",
            name(status),
            last_error(),
            wrong.names(),
            possible.names()
        );
        assert!(status == LENET_OK || !last_error().is_empty(), "{call}: no message");
        status == LENET_OK
    }
}

/// A bit for each status, none of which is above 63.
#[derive(Clone, Copy, Default)]
struct Statuses(u64);

impl Statuses {
    fn has(self, status: lenet_status) -> bool {
        (0..64).contains(&status) && self.0 >> status & 1 == 1
    }

    fn names(self) -> Vec<&'static str> {
        (0..64).filter(|&status| self.has(status)).map(name).collect()
    }
}
