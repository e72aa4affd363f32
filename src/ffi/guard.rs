//! What every exported function runs in: a failure becomes a status and a message, and a panic, by way of
//! `fence`, the failure INTERNAL.

use super::types::lenet_status;
use crate::error::Result;
use crate::fence::catch;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Runs the body of an exported function.
pub fn fence(body: impl FnOnce() -> Result<()>) -> lenet_status {
    match catch(body) {
        Ok(()) => super::types::LENET_OK,
        Err(error) => {
            set_last_error(&error.message);
            error.code as lenet_status
        }
    }
}

/// Runs the body of an exported function that has no status to return.
pub fn fence_or<T>(otherwise: T, body: impl FnOnce() -> Result<T>) -> T {
    match catch(body) {
        Ok(value) => value,
        Err(error) => {
            set_last_error(&error.message);
            otherwise
        }
    }
}

fn set_last_error(message: &str) {
    // A NUL byte can only come from a path or a file's tensor name.
    let message = CString::new(message.replace('\0', "\u{fffd}")).unwrap_or_default();
    // While the thread is being torn down there is nobody left to ask.
    let _ = LAST_ERROR.try_with(|last| last.replace(message));
}

/// Valid until the next failure on this thread.
pub fn last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(CStr::as_ptr(c""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn a_panic_becomes_internal_and_says_where() {
        assert_eq!(fence(|| panic!("broken {}", 7)), Code::Internal as i32);
        // SAFETY: the string lives in this thread until its next failure.
        let message = unsafe { CStr::from_ptr(last_error()) }.to_str().unwrap();
        assert!(message.contains("broken 7") && message.contains("guard.rs"), "{message}");
        assert_eq!(fence(|| Ok(())), 0);
        assert_eq!(fence_or(5, || panic!("again")), 5);
    }
}
