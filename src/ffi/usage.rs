//! Using a model: predictions, logits, features, evaluation.

use super::check::*;
use super::guard::fence;
use super::types::*;
use crate::architecture::Outputs;
use crate::batch::Pixels;
use crate::error::Result;
use crate::fit::evaluate;
use crate::model::image_elements;
use std::mem::size_of;

/// Classifies images.
///
/// @param model          The model.
/// @param images         n * height * width floats, row-major, in [0, 1].
/// @param n              Number of images, at least 1.
/// @param classes        [out] n class indices, each the most probable one; may be NULL.
/// @param probabilities  [out] n * classes floats, row-major, each row summing to 1; may be NULL. The
///                       mean of two with options.mirror, see there.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER (model, images), LENET_ERROR_INVALID_ARGUMENT (n),
///         LENET_ERROR_NON_FINITE (a pixel), LENET_ERROR_DIVERGED (a logit left the range of
///         float), LENET_ERROR_FORKED, LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any
///         thread, also during training. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_predict(
    model: *const lenet_model,
    images: *const f32,
    n: usize,
    classes: *mut u8,
    probabilities: *mut f32,
) -> lenet_status {
    // SAFETY: a live model, `n` images, room for `n` classes and rows or NULL (header).
    fence(|| unsafe { predict(model, images, Pixels::Float, n, classes, probabilities) })
}

/// Classifies images of bytes, each standing for byte / 255.
///
/// @param model          The model.
/// @param images         n * height * width bytes, row-major.
/// @param n              Number of images, at least 1.
/// @param classes        [out] As for lenet_predict(); may be NULL.
/// @param probabilities  [out] As for lenet_predict(); may be NULL.
/// @return As lenet_predict(). Any thread, also during training. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_predict_u8(
    model: *const lenet_model,
    images: *const u8,
    n: usize,
    classes: *mut u8,
    probabilities: *mut f32,
) -> lenet_status {
    // SAFETY: a live model, `n` images, room for `n` classes and rows or NULL (header).
    fence(|| unsafe { predict(model, images, Pixels::Byte, n, classes, probabilities) })
}

/// # Safety
/// A live model, `n` images, room for `n` classes and rows or NULL.
unsafe fn predict<'a, T: Copy + 'a>(
    model: *const lenet_model,
    images: *const T,
    pixels: fn(&'a [T]) -> Pixels<'a>,
    n: usize,
    classes: *mut u8,
    probabilities: *mut f32,
) -> Result<()> {
    // SAFETY: as above.
    let model = unsafe { &handle("model", model)?.0 };
    let length = image_elements(model.architecture(), n)?;
    let rows = n * model.architecture().classes();
    // SAFETY: as above.
    let (images, classes, probabilities) = unsafe {
        (
            input("images", images, length)?,
            optional_output("classes", classes, n)?,
            optional_output("probabilities", probabilities, rows)?,
        )
    };
    model.predict(pixels(images), |i, class, row| {
        if let Some(classes) = &classes {
            classes.write_at(i, &[class]);
        }
        if let Some(probabilities) = &probabilities {
            probabilities.write_at(i * row.len(), row);
        }
    })
}

/// The network's outputs before softmax; also with options.mirror those of the image alone.
///
/// @param model   The model.
/// @param images  n * height * width floats, row-major, in [0, 1].
/// @param n       Number of images, at least 1.
/// @param logits  [out] n * classes floats, row-major.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (n),
///         LENET_ERROR_NON_FINITE (a pixel), LENET_ERROR_DIVERGED (a logit left the range of
///         float), LENET_ERROR_FORKED, LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any
///         thread, also during training. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_logits(
    model: *const lenet_model,
    images: *const f32,
    n: usize,
    logits: *mut f32,
) -> lenet_status {
    let logits = (Outputs::Logits, "logits", logits);
    // SAFETY: a live model, `n` images, room for `n` rows (header).
    fence(|| unsafe { outputs(model, images, Pixels::Float, n, logits) })
}

/// The network's outputs before softmax, of images of bytes, each standing for byte / 255.
///
/// @param model   The model.
/// @param images  n * height * width bytes, row-major.
/// @param n       Number of images, at least 1.
/// @param logits  [out] As for lenet_logits().
/// @return As lenet_logits(). Any thread, also during training. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_logits_u8(
    model: *const lenet_model,
    images: *const u8,
    n: usize,
    logits: *mut f32,
) -> lenet_status {
    let logits = (Outputs::Logits, "logits", logits);
    // SAFETY: a live model, `n` images, room for `n` rows (header).
    fence(|| unsafe { outputs(model, images, Pixels::Byte, n, logits) })
}

/// What the last layer, fc3, sees of images: the activations after fc2. fc3.weight times them, plus
/// fc3.bias, are the logits. To compare, search or cluster images by, or to train something of one's own
/// on.
///
/// @param model     The model.
/// @param images    n * height * width floats, row-major, in [0, 1].
/// @param n         Number of images, at least 1.
/// @param features  [out] n * 84 floats, row-major.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (n),
///         LENET_ERROR_NON_FINITE (a pixel), LENET_ERROR_DIVERGED (a feature left the range of
///         float), LENET_ERROR_FORKED, LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any
///         thread, also during training. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_features(
    model: *const lenet_model,
    images: *const f32,
    n: usize,
    features: *mut f32,
) -> lenet_status {
    let features = (Outputs::Features, "features", features);
    // SAFETY: a live model, `n` images, room for `n` rows (header).
    fence(|| unsafe { outputs(model, images, Pixels::Float, n, features) })
}

/// What the last layer sees of images of bytes, each standing for byte / 255.
///
/// @param model     The model.
/// @param images    n * height * width bytes, row-major.
/// @param n         Number of images, at least 1.
/// @param features  [out] As for lenet_features().
/// @return As lenet_features(). Any thread, also during training. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_features_u8(
    model: *const lenet_model,
    images: *const u8,
    n: usize,
    features: *mut f32,
) -> lenet_status {
    let features = (Outputs::Features, "features", features);
    // SAFETY: a live model, `n` images, room for `n` rows (header).
    fence(|| unsafe { outputs(model, images, Pixels::Byte, n, features) })
}

/// Writes outputs of images to a parameter of that name.
///
/// # Safety
/// A live model, `n` images, room for `n` rows.
unsafe fn outputs<'a, T: Copy + 'a>(
    model: *const lenet_model,
    images: *const T,
    pixels: fn(&'a [T]) -> Pixels<'a>,
    n: usize,
    (outputs, name, out): (Outputs, &str, *mut f32),
) -> Result<()> {
    // SAFETY: as above.
    let model = unsafe { &handle("model", model)?.0 };
    let length = image_elements(model.architecture(), n)?;
    let rows = n * model.architecture().outputs(outputs);
    // SAFETY: as above.
    let (images, out) = unsafe { (input("images", images, length)?, output(name, out, rows)?) };
    model.with_outputs(pixels(images), outputs, |rows| out.write(rows))
}

/// Measures loss and accuracy on a dataset.
///
/// @param model             The model.
/// @param dataset           Data of the model's image size.
/// @param metrics           [out] The result; struct_size must be set.
/// @param confusion         [out] classes * classes counts, row = truth, column = prediction; may be
///                          NULL.
/// @param confusion_length  Counts that confusion has room for; not used if it is NULL.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER (model, dataset, metrics),
///         LENET_ERROR_INVALID_ARGUMENT (image size, struct_size), LENET_ERROR_LABEL_OUT_OF_RANGE,
///         LENET_ERROR_BUFFER_TOO_SMALL (confusion), LENET_ERROR_DIVERGED, LENET_ERROR_FORKED,
///         LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any thread, also during training.
///         Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_evaluate(
    model: *const lenet_model,
    dataset: *const lenet_dataset,
    metrics: *mut lenet_metrics,
    confusion: *mut u64,
    confusion_length: usize,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model and dataset, one struct of its own size, room for the counts or NULL
        // (header).
        let (model, dataset, output, confusion) = unsafe {
            (
                &handle("model", model)?.0,
                &handle("dataset", dataset)?.0,
                output_struct("metrics", metrics)?,
                optional_output("confusion", confusion, confusion_length)?,
            )
        };
        let classes = model.architecture().classes();
        if confusion.is_some() {
            check_capacity("confusion", confusion_length, classes * classes)?;
        }
        let mut counts = vec![0u64; classes * classes];
        let metrics = evaluate(model, dataset, &mut |truth, predicted| {
            counts[truth * classes + predicted] += 1;
        })?;
        output.write(&lenet_metrics {
            struct_size: size_of::<lenet_metrics>() as u32,
            reserved: 0,
            count: metrics.count,
            correct: metrics.correct,
            loss: metrics.loss,
            accuracy: metrics.accuracy(),
        });
        if let Some(confusion) = confusion {
            confusion.write(&counts);
        }
        Ok(())
    })
}
