//! A model's file in memory.

use crate::support;
use lenet::ffi::*;
use std::cell::RefCell;

/// More than the file of a small network has.
const USUAL: usize = 1 << 19;

/// Gives `then` what `lenet_save` would write: in one call if the model is small, and in a buffer that is
/// used again, because AddressSanitizer maps every large one anew.
pub fn with_saved<T>(model: *mut lenet_model, then: impl FnOnce(&[u8]) -> T) -> T {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; USUAL]);
    }
    BUFFER.with_borrow_mut(|buffer| {
        let (status, needed) = save(model, buffer);
        if status == LENET_ERROR_BUFFER_TOO_SMALL {
            let mut large = vec![0; needed];
            support::ok(save(model, &mut large).0);
            return then(&large);
        }
        support::ok(status);
        then(&buffer[..needed])
    })
}

fn save(model: *mut lenet_model, bytes: &mut [u8]) -> (lenet_status, usize) {
    let mut needed = 0;
    let (start, capacity) = (bytes.as_mut_ptr(), bytes.len());
    let status = unsafe { lenet_save_buffer(model, start, capacity, &mut needed) };
    (status, needed)
}

/// The same, to keep.
pub fn saved(model: *mut lenet_model) -> Vec<u8> {
    with_saved(model, <[u8]>::to_vec)
}
