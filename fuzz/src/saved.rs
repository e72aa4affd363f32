//! A model's file in memory.

use crate::support;
use lenet::ffi::*;

/// More than the file of a small network has.
const USUAL: usize = 1 << 19;

/// What `lenet_save` would write, in one call if the model is small.
pub fn saved(model: *mut lenet_model) -> Vec<u8> {
    let (mut bytes, mut needed) = (vec![0; USUAL], 0);
    let mut status = unsafe { lenet_save_buffer(model, bytes.as_mut_ptr(), USUAL, &mut needed) };
    if status == LENET_ERROR_BUFFER_TOO_SMALL {
        bytes.resize(needed, 0);
        status = unsafe { lenet_save_buffer(model, bytes.as_mut_ptr(), needed, &mut needed) };
    }
    support::ok(status);
    bytes.truncate(needed);
    bytes
}
