//! What a call from outside runs in, from C or from another lenet: a panic becomes INTERNAL, nothing is ever
//! printed, and the floating-point environment is the one that Rust assumes.

pub mod float_environment;

use crate::error::{Code, Error, Result};
use crate::failpoint;
use crate::host::threads;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    /// Whether this thread is inside a fence, and where a panic in it came from.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static PANIC_PLACE: RefCell<String> = const { RefCell::new(String::new()) };
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
    static SILENT: AtomicBool = AtomicBool::new(false);
    // No thread waits for the first one: a fork may cut that off. Until it has set the hook, others could only print
    // of a defect.
    if !SILENT.load(Ordering::Relaxed) && !SILENT.swap(true, Ordering::Relaxed) {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if INSIDE.get() {
                let place = info.location().map(ToString::to_string).unwrap_or_default();
                PANIC_PLACE.set(place);
            } else if std::thread::current().name() != Some(threads::NAME) {
                previous(info);
            }
        }));
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
