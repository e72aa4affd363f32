//! The fence: a failure becomes a status and a message, a panic becomes INTERNAL, and neither is
//! ever printed or leaves the library.

use super::float_environment;
use super::types::lenet_status;
use crate::engine::THREAD_NAME;
use crate::error::{Code, Error, Result};
use crate::failpoint;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
    /// Whether this thread is inside a fence, and where a panic in it came from.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static PANIC_PLACE: RefCell<String> = const { RefCell::new(String::new()) };
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

/// Runs what must neither panic through nor print.
pub fn catch<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let _inside = float_environment::Inside::enter();
    silence_panics();
    // A progress callback may call back into the library: fences nest.
    let outer = INSIDE.replace(true);
    // What a panic may have left half-done is either dropped with the call's own values or guarded
    // by the model's turn, which is then poisoned.
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        failpoint::point();
        body()
    }));
    INSIDE.set(outer);
    result.unwrap_or_else(|payload| {
        let place = PANIC_PLACE.take();
        let message = format!("internal failure at {place}: {}", panic_message(&*payload));
        Err(Error::new(Code::Internal, message))
    })
}

/// Rust's default hook prints panics to stderr. Ours is silent on threads inside a fence, where it
/// notes the place, and on those that compute for them; others (a Rust host that links this crate)
/// keep the hook that was there.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if INSIDE.get() {
                let place = info.location().map(ToString::to_string).unwrap_or_default();
                PANIC_PLACE.set(place);
            } else if std::thread::current().name() != Some(THREAD_NAME) {
                previous(info);
            }
        }));
    });
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
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
