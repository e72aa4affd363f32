//! Parameters and gradients, flat.

use super::check::*;
use super::guard::{fence, fence_or};
use super::train::read_batch;
use super::types::*;
use crate::batch::Pixels;
use crate::error::Result;
use crate::training::Training;

/// The number of parameters, which is the length of the flat vectors below: conv1.weight,
/// conv1.bias, conv2, fc1, fc2, fc3.weight, fc3.bias, each row-major with PyTorch's axes. 61706 for
/// 28x28 images and 10 classes.
///
/// @param model  The model.
/// @return The number; 0 if model is NULL, which lenet_last_error() then says. Any thread.
///         Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_parameter_count(model: *const lenet_model) -> usize {
    // SAFETY: a live model (header).
    fence_or(0, || Ok(unsafe { handle("model", model) }?.0.architecture().parameter_count()))
}

/// Copies the parameters of the last whole step.
///
/// @param model       The model.
/// @param parameters  [out] lenet_parameter_count() floats.
/// @param length      Floats that parameters has room for.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_BUFFER_TOO_SMALL,
///         LENET_ERROR_INVALID_ARGUMENT, LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any
///         thread, also during training. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_get_parameters(
    model: *const lenet_model,
    parameters: *mut f32,
    length: usize,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model, room for `length` floats (header).
        let (model, output) =
            unsafe { (&handle("model", model)?.0, output("parameters", parameters, length)?) };
        check_capacity("parameters", length, model.architecture().parameter_count())?;
        output.write(&model.state().weights.row(0)?);
        Ok(())
    })
}

/// Replaces the parameters. The optimizer's state, the step count and the progress stay.
///
/// @param model       The model; unchanged if the call fails.
/// @param parameters  lenet_parameter_count() floats, all finite.
/// @param length      Their number, exactly.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (length),
///         LENET_ERROR_NON_FINITE, LENET_ERROR_BUSY, LENET_ERROR_OUT_OF_MEMORY or
///         LENET_ERROR_INTERNAL. Any thread; waits while another one is changing the model.
///         Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_set_parameters(
    model: *mut lenet_model,
    parameters: *const f32,
    length: usize,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model, `length` floats (header).
        let (model, parameters) = unsafe {
            (&handle("model", model.cast_const())?.0, input("parameters", parameters, length)?)
        };
        check_length("parameters", length, model.architecture().parameter_count())?;
        Training::of(model)?.set_parameters(parameters)
    })
}

/// Computes loss and gradient of a batch and changes nothing. For training on several machines:
/// compute, average the gradients, apply; on one machine the two calls are lenet_train_batch(), bit
/// for bit.
///
/// @param model      The model.
/// @param images     n * height * width floats, row-major, in [0, 1].
/// @param labels     n labels, each below the model's number of classes.
/// @param n          Images of the batch, at least 1.
/// @param gradients  [out] lenet_parameter_count() floats: the gradient of the mean loss, without
///                   weight decay.
/// @param length     Floats that gradients has room for.
/// @param loss       [out] Mean softmax cross-entropy over the batch, in nats; may be NULL.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (n),
///         LENET_ERROR_BUFFER_TOO_SMALL, LENET_ERROR_LABEL_OUT_OF_RANGE, LENET_ERROR_NON_FINITE (a
///         pixel), LENET_ERROR_DIVERGED, LENET_ERROR_FORKED, LENET_ERROR_OUT_OF_MEMORY or
///         LENET_ERROR_INTERNAL. Any thread, also during training. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_compute_gradients(
    model: *const lenet_model,
    images: *const f32,
    labels: *const u8,
    n: usize,
    gradients: *mut f32,
    length: usize,
    loss: *mut f32,
) -> lenet_status {
    let outputs = (gradients, length, loss);
    // SAFETY: a live model, `n` images and labels, room for `length` floats and one or NULL (header).
    fence(|| unsafe { compute_gradients(model, images, Pixels::Float, labels, n, outputs) })
}

/// Computes loss and gradient of a batch of bytes, each standing for byte / 255, and changes nothing.
///
/// @param model      The model.
/// @param images     n * height * width bytes, row-major.
/// @param labels     n labels, each below the model's number of classes.
/// @param n          Images of the batch, at least 1.
/// @param gradients  [out] As for lenet_compute_gradients().
/// @param length     Floats that gradients has room for.
/// @param loss       [out] As for lenet_compute_gradients(); may be NULL.
/// @return As lenet_compute_gradients(). Any thread, also during training. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_compute_gradients_u8(
    model: *const lenet_model,
    images: *const u8,
    labels: *const u8,
    n: usize,
    gradients: *mut f32,
    length: usize,
    loss: *mut f32,
) -> lenet_status {
    let outputs = (gradients, length, loss);
    // SAFETY: a live model, `n` images and labels, room for `length` floats and one or NULL (header).
    fence(|| unsafe { compute_gradients(model, images, Pixels::Byte, labels, n, outputs) })
}

/// # Safety
/// A live model, `n` images and labels, room for as many gradients as are said, one float or NULL.
unsafe fn compute_gradients<'a, T: Copy + 'a>(
    model: *const lenet_model,
    images: *const T,
    pixels: fn(&'a [T]) -> Pixels<'a>,
    labels: *const u8,
    n: usize,
    (gradients, length, loss): (*mut f32, usize, *mut f32),
) -> Result<()> {
    // SAFETY: as above.
    let (model, output, loss) = unsafe {
        (
            &handle("model", model)?.0,
            output("gradients", gradients, length)?,
            optional_output("loss", loss, 1)?,
        )
    };
    check_capacity("gradients", length, model.architecture().parameter_count())?;
    // SAFETY: as above.
    let (images, labels) = unsafe { read_batch(model, images, labels, n) }?;
    let gradient = model.compute_gradients(pixels(images), labels)?;
    output.write(&gradient.flat);
    if let Some(loss) = loss {
        loss.write(&[gradient.loss]);
    }
    Ok(())
}

/// Makes one optimizer step with a gradient that the caller brings.
///
/// @param model      The model; unchanged if the call fails.
/// @param gradients  lenet_parameter_count() floats, all finite.
/// @param length     Their number, exactly.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (length),
///         LENET_ERROR_NON_FINITE, LENET_ERROR_DIVERGED, LENET_ERROR_BUSY,
///         LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any thread; waits while another one is
///         changing the model. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_apply_gradients(
    model: *mut lenet_model,
    gradients: *const f32,
    length: usize,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model, `length` floats (header).
        let (model, gradients) = unsafe {
            (&handle("model", model.cast_const())?.0, input("gradients", gradients, length)?)
        };
        check_length("gradients", length, model.architecture().parameter_count())?;
        Training::of(model)?.apply_gradients(gradients)
    })
}
