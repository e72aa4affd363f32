//! Training.

use super::check::*;
use super::guard::fence;
use super::types::*;
use crate::augment::Augmentation;
use crate::batch::{Pixels, Targets};
use crate::error::{Error, Result};
use crate::fence::float_environment::Outside;
use crate::fit::{Event, FitOptions, Keep, Listener, Progress, Schedule, fit};
use crate::model::{Model, image_elements};
use crate::training::Training;
use std::ffi::c_void;
use std::mem::size_of;

/// Makes one optimizer step on a batch. Batches must mix the classes: one that has a single class, as
/// when data lies in the order of its classes, makes the model forget the others. Shuffle it first, in
/// another order each epoch; lenet_fit() does.
///
/// Pixels outside of [0, 1] are taken as they are, for hosts that standardize images themselves, as far
/// as magnitudes of 100, or of |input_mean| + 100 * input_std where that is more. What is larger is
/// refused: it is floats of 0..255, which train badly. Pass bytes to lenet_train_batch_u8(), divide by
/// 255, or set input_std to 255.
///
/// @param model   The model; unchanged if the call fails.
/// @param images  n * height * width floats, row-major, in [0, 1].
/// @param labels  n labels, each below the model's number of classes.
/// @param n       Images of the batch, at least 1.
/// @param loss    [out] Mean softmax cross-entropy over the batch before the step, in nats; may be
///                NULL.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (n),
///         LENET_ERROR_LABEL_OUT_OF_RANGE, LENET_ERROR_NON_FINITE (a pixel),
///         LENET_ERROR_DIVERGED, LENET_ERROR_BUSY, LENET_ERROR_FORKED, LENET_ERROR_OUT_OF_MEMORY or
///         LENET_ERROR_INTERNAL. Any thread; waits while another one is changing the model.
///         Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_train_batch(
    model: *mut lenet_model,
    images: *const f32,
    labels: *const u8,
    n: usize,
    loss: *mut f32,
) -> lenet_status {
    // SAFETY: a live model, `n` images and labels, one float or NULL (header).
    fence(|| unsafe { train_batch(model, images, Pixels::Float, labels, None, n, loss) })
}

/// Makes one optimizer step on a batch of bytes, each standing for byte / 255.
///
/// @param model   The model; unchanged if the call fails.
/// @param images  n * height * width bytes, row-major.
/// @param labels  n labels, each below the model's number of classes.
/// @param n       Images of the batch, at least 1.
/// @param loss    [out] As for lenet_train_batch(); may be NULL.
/// @return As lenet_train_batch(). Any thread; waits while another one is changing the model.
///         Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_train_batch_u8(
    model: *mut lenet_model,
    images: *const u8,
    labels: *const u8,
    n: usize,
    loss: *mut f32,
) -> lenet_status {
    // SAFETY: a live model, `n` images and labels, one float or NULL (header).
    fence(|| unsafe { train_batch(model, images, Pixels::Byte, labels, None, n, loss) })
}

/// Makes one optimizer step on a batch in which images count differently: the loss is the sum of
/// weight * loss over the images, divided by the sum of the weights. For classes of which there are few
/// images, say (the weight of an image the inverse of its class's share of the data), or for labels that
/// are less sure. Only the weights' proportions matter: equal ones, whatever they are, give what
/// lenet_train_batch() gives, bit for bit.
///
/// @param model    The model; unchanged if the call fails.
/// @param images   n * height * width floats, row-major, in [0, 1].
/// @param labels   n labels, each below the model's number of classes.
/// @param weights  n floats, finite and at least 0, of which one is above 0. An image of weight 0
///                 contributes nothing, but its pixels must be finite and its label a class.
/// @param n        Images of the batch, at least 1.
/// @param loss     [out] The weighted mean of softmax cross-entropy before the step, in nats; may be
///                 NULL.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (n, a weight below 0, all
///         weights 0), LENET_ERROR_LABEL_OUT_OF_RANGE, LENET_ERROR_NON_FINITE (a pixel, a weight),
///         LENET_ERROR_DIVERGED, LENET_ERROR_BUSY, LENET_ERROR_FORKED, LENET_ERROR_OUT_OF_MEMORY or
///         LENET_ERROR_INTERNAL. Any thread; waits while another one is changing the model.
///         Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_train_batch_weighted(
    model: *mut lenet_model,
    images: *const f32,
    labels: *const u8,
    weights: *const f32,
    n: usize,
    loss: *mut f32,
) -> lenet_status {
    // SAFETY: a live model, `n` images, labels and weights, one float or NULL (header).
    fence(|| unsafe { train_batch(model, images, Pixels::Float, labels, Some(weights), n, loss) })
}

/// Makes one optimizer step on a batch of bytes, each standing for byte / 255, in which images count
/// differently.
///
/// @param model    The model; unchanged if the call fails.
/// @param images   n * height * width bytes, row-major.
/// @param labels   n labels, each below the model's number of classes.
/// @param weights  As for lenet_train_batch_weighted().
/// @param n        Images of the batch, at least 1.
/// @param loss     [out] As for lenet_train_batch_weighted(); may be NULL.
/// @return As lenet_train_batch_weighted(). Any thread; waits while another one is changing the model.
///         Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_train_batch_weighted_u8(
    model: *mut lenet_model,
    images: *const u8,
    labels: *const u8,
    weights: *const f32,
    n: usize,
    loss: *mut f32,
) -> lenet_status {
    // SAFETY: a live model, `n` images, labels and weights, one float or NULL (header).
    fence(|| unsafe { train_batch(model, images, Pixels::Byte, labels, Some(weights), n, loss) })
}

/// # Safety
/// A live model, `n` images, labels and weights, one float or NULL.
unsafe fn train_batch<'a, T: Copy + 'a>(
    model: *const lenet_model,
    images: *const T,
    pixels: fn(&'a [T]) -> Pixels<'a>,
    labels: *const u8,
    weights: Option<*const f32>,
    n: usize,
    loss: *mut f32,
) -> Result<()> {
    // SAFETY: as above.
    let (model, loss) = unsafe { (&handle("model", model)?.0, optional_output("loss", loss, 1)?) };
    // SAFETY: as above.
    let (images, labels) = unsafe { read_batch(model, images, labels, n) }?;
    // SAFETY: as above.
    let weights = weights.map(|weights| unsafe { input("weights", weights, n) }).transpose()?;
    let targets = Targets { labels, weights };
    let result = Training::of(model)?.step(pixels(images), &targets)?;
    if let Some(loss) = loss {
        loss.write(&[result.loss]);
    }
    Ok(())
}

/// `n` images of the model's size and their labels.
///
/// # Safety
/// `n` images and labels.
pub(super) unsafe fn read_batch<'a, T: Copy>(
    model: &Model,
    images: *const T,
    labels: *const u8,
    n: usize,
) -> Result<(&'a [T], &'a [u8])> {
    let length = image_elements(model.architecture(), n)?;
    // SAFETY: as above.
    unsafe { Ok((input("images", images, length)?, input("labels", labels, n)?)) }
}

/// Trains for a number of epochs, each over the whole dataset in an order of its own that follows
/// from the model's seed. Steps that were completed are kept, whatever the call returns.
///
/// To stop is free. A fit that was cancelled, or that failed, can be gone on with, also after the model
/// was saved and loaded, and gives the same model, bit for bit, as if it had not been stopped
/// (max_seconds apart). `train` must have the same content: height, width, images and labels in their
/// order, wherever they come from; a hash of it is kept in the model. There are two cases.
///
/// - Options that set none of schedule, keep, patience, target_accuracy and max_seconds: the rest of the
///   interrupted epoch is the first epoch of the next lenet_fit(), so ask for the epochs that remain.
///   Over other data every epoch is whole.
/// - Options that set one of them: make the same call again, with the same options and validation data.
///   The model keeps how far the fit is, what was best and its parameters, until the fit has ended.
///   `epochs` may be that of the whole fit or what remains of it, the interrupted epoch included.
///   Any other lenet_fit() forgets this fit, and if its options set one of these fields, too, begins with a whole
///   epoch. The learning rate is no such option: a new one is the peak from then on.
///
/// A cancelled fit leaves the last step, with LENET_KEEP_BEST too; a fit that ends leaves what `keep`
/// says. The epochs that LENET_KEEP_BEST goes back behind still count, so that the next fit shuffles
/// anew.
///
/// @param model       The model.
/// @param train       Training data, of the model's image size.
/// @param validation  Evaluated after each epoch; may be NULL, unless an option needs it.
/// @param options     How; NULL: LENET_PRESET_CLASSIC's.
/// @param progress    Called after each step and each epoch; may be NULL.
/// @param user_data   Passed on to progress.
/// @return LENET_OK, LENET_ERROR_CANCELLED, LENET_ERROR_NULL_POINTER (model, train),
///         LENET_ERROR_INVALID_ARGUMENT (image size, a field of options, an option that needs
///         validation data), LENET_ERROR_LABEL_OUT_OF_RANGE, LENET_ERROR_DIVERGED, LENET_ERROR_BUSY,
///         LENET_ERROR_FORKED, LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any thread; waits
///         while another one is changing the model. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_fit(
    model: *mut lenet_model,
    train: *const lenet_dataset,
    validation: *const lenet_dataset,
    options: *const lenet_fit_options,
    progress: lenet_progress_fn,
    user_data: *mut c_void,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model and datasets, one struct of its own size or NULL (header).
        let (model, train, validation, options) = unsafe {
            (
                handle("model", model.cast_const())?,
                handle("train", train)?,
                optional_handle("validation", validation)?,
                read_fit_options(options)?,
            )
        };
        let mut announce = progress.map(|progress| {
            move |report: &Progress| {
                let report = progress_to_c(report);
                let _outside = Outside::enter();
                // SAFETY: the caller's function, with a struct that lives during the call (header).
                unsafe { progress(&raw const report, user_data) == 0 }
            }
        });
        let announce = announce.as_mut().map(|announce| announce as &mut Listener);
        fit(&model.0, &train.0, validation.map(|v| &v.0), &options, announce)
    })
}

/// Fills in the fit options of a preset.
///
/// @param options  [out] The struct; `size` bytes are written.
/// @param size     sizeof(lenet_fit_options) as the caller was compiled.
/// @param preset   LENET_PRESET_CLASSIC or LENET_PRESET_MODERN: both 10 epochs in batches of 256.
///                 LENET_PRESET_ACCURATE: 20 epochs in batches of 128, LENET_SCHEDULE_ONE_CYCLE, shift 1.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (size, preset) or
///         LENET_ERROR_INTERNAL. Any thread. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_fit_options_init(
    options: *mut lenet_fit_options,
    size: usize,
    preset: i32,
) -> lenet_status {
    fence(|| {
        check_struct_size::<lenet_fit_options>(size)?;
        let preset = super::check::preset(preset, FIT_DEFAULTS, FIT_DEFAULTS, FIT_ACCURATE)?;
        // SAFETY: `size` bytes (header).
        unsafe { init_struct("options", options, size, &preset) }
    })
}

/// Changes the learning rate for the steps to come. Of the calls that change a model it is the only one
/// that the model's own progress function may make: the next step has the new rate, as if the fit had
/// been cancelled there, the rate set, and the fit gone on with. That is how to have a schedule of one's
/// own.
///
/// @param model          The model.
/// @param learning_rate  Finite, at least 0.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (learning_rate) or
///         LENET_ERROR_INTERNAL. Any thread; waits while another one is changing the model. Since 1.0;
///         from inside a progress function since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_set_learning_rate(
    model: *mut lenet_model,
    learning_rate: f64,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model (header).
        let model = unsafe { handle("model", model.cast_const()) }?;
        model.0.set_learning_rate(learning_rate)
    })
}

const FIT_DEFAULTS: lenet_fit_options = lenet_fit_options {
    struct_size: size_of::<lenet_fit_options>() as u32,
    epochs: 10,
    batch_size: 256,
    schedule: LENET_SCHEDULE_CONSTANT,
    shift: 0,
    keep: LENET_KEEP_LAST,
    patience: 0,
    reserved: 0,
    flip: 0.0,
    rotation: 0.0,
    scale: 0.0,
    max_seconds: 0.0,
    target_accuracy: 0.0,
    class_balance: 0.0,
};

const FIT_ACCURATE: lenet_fit_options = lenet_fit_options {
    epochs: 20,
    batch_size: 128,
    schedule: LENET_SCHEDULE_ONE_CYCLE,
    shift: 1,
    ..FIT_DEFAULTS
};

/// # Safety
/// As `input_struct`.
unsafe fn read_fit_options(options: *const lenet_fit_options) -> Result<FitOptions> {
    let mut o = FIT_DEFAULTS;
    if !options.is_null() {
        // SAFETY: the caller's promise is the same.
        o = unsafe { input_struct("options", options, o) }?;
    }
    if o.reserved != 0 {
        return Err(Error::invalid(format!("reserved is {}; it must be 0", o.reserved)));
    }
    let schedules = [
        (LENET_SCHEDULE_CONSTANT as i32, "LENET_SCHEDULE_CONSTANT", Schedule::Constant),
        (LENET_SCHEDULE_ONE_CYCLE as i32, "LENET_SCHEDULE_ONE_CYCLE", Schedule::OneCycle),
    ];
    let keeps = [
        (LENET_KEEP_LAST as i32, "LENET_KEEP_LAST", Keep::Last),
        (LENET_KEEP_BEST as i32, "LENET_KEEP_BEST", Keep::Best),
    ];
    Ok(FitOptions {
        epochs: o.epochs,
        batch_size: o.batch_size,
        schedule: constant("schedule", o.schedule, &schedules)?,
        augmentation: Augmentation {
            shift: o.shift,
            flip: o.flip,
            rotation: o.rotation,
            scale: o.scale,
        },
        class_balance: o.class_balance,
        keep: constant("keep", o.keep, &keeps)?,
        patience: o.patience,
        target_accuracy: o.target_accuracy,
        max_seconds: o.max_seconds,
    })
}

fn progress_to_c(report: &Progress) -> lenet_progress {
    let (validation_loss, validation_accuracy) =
        report.validation.map_or((f64::NAN, f64::NAN), |v| (v.loss, v.accuracy()));
    lenet_progress {
        struct_size: size_of::<lenet_progress>() as u32,
        epoch: report.epoch,
        epochs: report.epochs,
        event: match report.event {
            Event::Step => LENET_PROGRESS_STEP,
            Event::EpochEnd => LENET_PROGRESS_EPOCH_END,
        },
        step: report.step,
        steps: report.steps,
        loss: report.loss,
        accuracy: report.accuracy,
        validation_loss,
        validation_accuracy,
        images_per_second: report.images_per_second,
    }
}
