//! What a call must return.

use crate::canary::Passed;
use crate::support::{last_error, name};
use lenet::ffi::*;

/// The errors that apply to a call. None: it must succeed. Several: the header does not say which
/// one comes first, so any of them is right.
#[derive(Default, Debug)]
pub struct Expect {
    wrong: Vec<lenet_status>,
    possible: Vec<lenet_status>,
}

impl Expect {
    /// The call must fail if this is so.
    pub fn wrong(mut self, so: bool, status: lenet_status) -> Self {
        self.wrong.extend(so.then_some(status));
        self
    }

    /// The call may fail like this if this is so; the header leaves it open or it depends on
    /// arithmetic that is not done again here.
    pub fn possible(mut self, so: bool, status: lenet_status) -> Self {
        self.possible.extend(so.then_some(status));
        self
    }

    /// An argument that the call needs, or for `or_null` one that it can do without.
    pub fn pointer<T>(mut self, passed: Passed<T>) -> Self {
        self.wrong.extend(passed.wrong);
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
        let allowed = self.wrong.contains(&status)
            || self.possible.contains(&status)
            || (status == LENET_OK && self.wrong.is_empty());
        assert!(allowed, "{call}: {} ({}); {self:?}", name(status), last_error());
        assert!(status == LENET_OK || !last_error().is_empty(), "{call}: no message");
        status == LENET_OK
    }
}
