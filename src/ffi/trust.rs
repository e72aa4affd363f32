//! How far to trust an answer.

use super::check::*;
use super::guard::fence;
use super::types::*;
use crate::calibrate::calibrate;
use crate::calibration::Calibration;
use std::mem::size_of;

/// Fits probabilities to how often they are right, on data that the model was not trained on, and finds
/// the probability from which on at most a given share of its answers is wrong.
///
/// From then on lenet_predict() and its like give softmax(logits / temperature), and losses are those of
/// these probabilities; lenet_logits() stays, and so do the classes, but for those of a model with
/// options.mirror where an image and its mirror image disagree. The temperature, from 0.05 to 20, is that of
/// the least mean loss on `validation` (Guo and others 2017, "On Calibration of Modern Neural Networks").
/// The threshold is the lowest one at which at most `max_error` of the validation images whose largest
/// probability reaches it are classified wrongly. A host that answers only from it on turns the other
/// images away; on other images the share may differ, the more so the fewer were used here. Both are
/// kept by lenet_clone(), in the file, and when training goes on: calibrate again afterwards.
///
/// @param model       The model; unchanged if the call fails.
/// @param validation  Data of the model's image size and classes, like that of the use; some thousand
///                    images are good.
/// @param max_error   The share of answers that may be wrong, 0 to 1.
/// @param result      [out] What was found; struct_size must be set; may be NULL.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER (model, validation), LENET_ERROR_INVALID_ARGUMENT (image
///         size, max_error, struct_size), LENET_ERROR_LABEL_OUT_OF_RANGE, LENET_ERROR_DIVERGED,
///         LENET_ERROR_BUSY, LENET_ERROR_FORKED, LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL.
///         Any thread. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_calibrate(
    model: *mut lenet_model,
    validation: *const lenet_dataset,
    max_error: f64,
    result: *mut lenet_calibration,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model and dataset, one struct of its own size or NULL (header).
        let (model, validation, output) = unsafe {
            (
                &handle("model", model)?.0,
                &handle("validation", validation)?.0,
                optional_output_struct("result", result)?,
            )
        };
        let calibration = calibrate(model, validation, max_error)?;
        if let Some(output) = output {
            output.write(&to_c(&calibration));
        }
        Ok(())
    })
}

/// What lenet_calibrate() found last for this model, or for the one that it was copied or loaded from.
///
/// @param model        The model.
/// @param calibration  [out] struct_size must be set. Of a model that was never calibrated: temperature
///                     1, threshold 0, coverage 1, the rest NaN.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (struct_size) or
///         LENET_ERROR_INTERNAL. Any thread, also during training. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_get_calibration(
    model: *const lenet_model,
    calibration: *mut lenet_calibration,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model, one struct of its own size (header).
        let (model, output) =
            unsafe { (handle("model", model)?, output_struct("calibration", calibration)?) };
        output.write(&to_c(&model.0.state().calibration));
        Ok(())
    })
}

fn to_c(calibration: &Calibration) -> lenet_calibration {
    let &Calibration { temperature, threshold, coverage, error, loss_before, loss_after } =
        calibration;
    lenet_calibration {
        struct_size: size_of::<lenet_calibration>() as u32,
        reserved: 0,
        temperature,
        threshold,
        coverage,
        error,
        loss_before,
        loss_after,
    }
}
