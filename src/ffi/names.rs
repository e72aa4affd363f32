//! What a model's classes are called.

use super::check::*;
use super::guard::fence;
use super::types::*;
use crate::class_names::ClassNames;
use crate::error::{Code, Error, Result};
use crate::training::Training;
use std::ffi::c_char;

/// Gives names to the classes of a model. They are kept in its file and by lenet_clone(); no result
/// depends on them. lenet_fit() gives a model that has none those of its training data, where there
/// are as many as the model has classes.
///
/// @param model   The model; as before if the call fails.
/// @param names   As many strings as the model has classes, UTF-8 of at most 255 bytes each, without
///                control characters; "" for a class without a name. They are copied. NULL with length
///                0 takes the names away.
/// @param length  Strings at names.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER (model, names, names[i]),
///         LENET_ERROR_INVALID_ARGUMENT (length, names[i]), LENET_ERROR_BUSY,
///         LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any thread; waits while another one is
///         changing the model. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_set_class_names(
    model: *mut lenet_model,
    names: *const *const c_char,
    length: usize,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model (header).
        let model = unsafe { handle("model", model.cast_const()) }?;
        if names.is_null() && length == 0 {
            return Training::of(&model.0)?.set_class_names(None);
        }
        // SAFETY: `length` pointers (header).
        let names = unsafe { input("names", names, length) }?;
        let classes = model.0.architecture().classes();
        check_length("names", length, classes)?;
        let copy = |(i, &name): (usize, &*const c_char)| {
            // SAFETY: a string (header).
            Ok(unsafe { text(&format!("names[{i}]"), name) }?.to_string())
        };
        let names = names.iter().enumerate().map(copy).collect::<Result<_>>()?;
        Training::of(&model.0)?.set_class_names(Some(ClassNames::new(names)?))
    })
}

/// The name of a class.
///
/// @param model     The model.
/// @param index     The class, from 0.
/// @param name      [out] Its name, which ends in NUL, "" if it has none; NULL with capacity 0 to ask
///                  for the size.
/// @param capacity  Bytes at name; 256 are enough for any.
/// @param needed    [out] Bytes of the name with its NUL; also set on LENET_ERROR_BUFFER_TOO_SMALL.
///                  May be NULL where name is not.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (needed, if it is not
///         aligned), LENET_ERROR_NOT_FOUND (no class has this index), LENET_ERROR_BUFFER_TOO_SMALL or
///         LENET_ERROR_INTERNAL. Any thread, also during training. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_class_name(
    model: *const lenet_model,
    index: usize,
    name: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model (header).
        let model = unsafe { handle("model", model) }?;
        let state = model.0.state();
        let classes = model.0.architecture().classes();
        let text = class_name(state.class_names.as_ref(), classes, "model", index)?;
        // SAFETY: `capacity` bytes or NULL, one size or NULL (header).
        unsafe { write_text("name", name, capacity, needed, text) }
    })
}

/// The name of class `index` of a thing that has so many.
pub(super) fn class_name<'a>(
    names: Option<&'a ClassNames>,
    classes: usize,
    thing: &str,
    index: usize,
) -> Result<&'a str> {
    if index >= classes {
        let message = format!("index is {index}; the {thing} has {classes} classes");
        return Err(Error::new(Code::NotFound, message));
    }
    Ok(names.map_or("", |names| &names.all()[index]))
}
