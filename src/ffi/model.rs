//! Making, copying, describing, saving and loading models.

use super::check::*;
use super::guard::fence;
use super::image::PREPARATIONS;
use super::library::DEVICES;
use super::types::*;
use crate::architecture::{Activation, Architecture, DEFAULT_PADDING, Pooling};
use crate::batch::Normalization;
use crate::error::{Code, Error, Result};
use crate::model::{Model, Options};
use crate::optimizer::{Optimizer, Rule};
use crate::{checkpoint, durable_file};
use std::ffi::c_char;
use std::mem::size_of;

/// Fills in the options of a preset.
///
/// @param options  [out] The struct; `size` bytes are written.
/// @param size     sizeof(lenet_options) as the caller was compiled.
/// @param preset   LENET_PRESET_CLASSIC, LENET_PRESET_MODERN or LENET_PRESET_ACCURATE.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (size, preset) or
///         LENET_ERROR_INTERNAL. Any thread. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_options_init(
    options: *mut lenet_options,
    size: usize,
    preset: i32,
) -> lenet_status {
    fence(|| {
        check_struct_size::<lenet_options>(size)?;
        let preset = preset_options(preset)?;
        // SAFETY: `size` bytes (header).
        unsafe { init_struct("options", options, size, &preset) }
    })
}

/// Makes a model with fresh parameters: Xavier-uniform weights, biases as PyTorch draws them.
///
/// @param options  How; NULL: LENET_PRESET_CLASSIC, which learns little or nothing from fewer than
///                 some ten thousand images: for data of your own see LENET_PRESET_MODERN.
/// @param model    [out] The model, the caller's to lenet_free().
/// @return LENET_OK, LENET_ERROR_NULL_POINTER (model), LENET_ERROR_INVALID_ARGUMENT (the message
///         names the field), LENET_ERROR_DEVICE_UNAVAILABLE, LENET_ERROR_UNSUPPORTED (LENET_ENGINE),
///         LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any thread. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_create(
    options: *const lenet_options,
    model: *mut *mut lenet_model,
) -> lenet_status {
    fence(|| {
        // SAFETY: one struct of its own size or NULL, one pointer (header).
        let (options, output) = unsafe { (read_options(options)?, output("model", model, 1)?) };
        give(&output, Model::create(options)?);
        Ok(())
    })
}

/// Copies a model as of its last whole step: parameters, optimizer state, progress, options.
///
/// @param model  The model.
/// @param copy   [out] A model of its own, the caller's to lenet_free().
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL.
///         Any thread, also during training. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_clone(
    model: *const lenet_model,
    copy: *mut *mut lenet_model,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model, one pointer (header).
        let (model, output) = unsafe { (handle("model", model)?, output("copy", copy, 1)?) };
        give(&output, model.0.try_clone()?);
        Ok(())
    })
}

/// Copies a model as of its last whole step with another number of classes, to teach it more of them
/// than it was made for, or to forget the last ones. Of the last layer, fc3, the rows that both models
/// have stay, bit for bit, weights, biases and the optimizer's state of them, as do all other layers, the
/// step count and the options. A new class's row is that of a new model of the same seed with so many
/// classes, its optimizer state 0. An epoch that a fit has begun is not gone on with: the next fit begins
/// a new one. Old classes keep their names. The copy is not calibrated.
///
/// Before it is trained, the copy says of the old classes what the model says, and of a new one anything.
/// Train it with images of old and new classes mixed: of new ones alone it forgets the old.
///
/// @param model    The model.
/// @param classes  Classes of the copy, 2 to 256.
/// @param copy     [out] A model of its own, the caller's to lenet_free().
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (classes),
///         LENET_ERROR_DEVICE_UNAVAILABLE, LENET_ERROR_FORKED, LENET_ERROR_OUT_OF_MEMORY or
///         LENET_ERROR_INTERNAL. Any thread, also during training. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_clone_with_classes(
    model: *const lenet_model,
    classes: u32,
    copy: *mut *mut lenet_model,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model, one pointer (header).
        let (model, output) = unsafe { (handle("model", model)?, output("copy", copy, 1)?) };
        give(&output, model.0.clone_with_classes(classes)?);
        Ok(())
    })
}

/// Frees a model.
///
/// @param model  The model, NULL for nothing. No other call may be using it, nor use it afterwards.
///
/// Any thread. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_free(model: *mut lenet_model) {
    fence(|| {
        if !model.is_null() {
            // SAFETY: made by `give`, not freed before and not in use (header).
            drop(unsafe { Box::from_raw(model) });
        }
        Ok(())
    });
}

/// The options that would make such a model: as given to lenet_create() or read from a file, with
/// the present learning rate, and with LENET_DEVICE_AUTO replaced by the device that it became.
///
/// @param model    The model.
/// @param options  [out] The options; struct_size must be set.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (struct_size) or
///         LENET_ERROR_INTERNAL. Any thread, also during training. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_get_options(
    model: *const lenet_model,
    options: *mut lenet_options,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model, one struct of its own size (header).
        let (model, output) =
            unsafe { (handle("model", model)?, output_struct("options", options)?) };
        output.write(&to_c(&model.0.options()));
        Ok(())
    })
}

/// A row of the layer table, in the order of computation: conv1, activation1, pooling1, conv2,
/// activation2, pooling2, flatten, fc1, activation3, fc2, activation4, fc3.
///
/// @param model  The model.
/// @param index  The row, from 0.
/// @param layer  [out] The row; struct_size must be set.
/// @return LENET_OK, LENET_ERROR_NOT_FOUND past the last row, LENET_ERROR_NULL_POINTER,
///         LENET_ERROR_INVALID_ARGUMENT (struct_size) or LENET_ERROR_INTERNAL. Any thread.
///         Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_get_layer(
    model: *const lenet_model,
    index: usize,
    layer: *mut lenet_layer,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model, one struct of its own size (header).
        let (model, output) = unsafe { (handle("model", model)?, output_struct("layer", layer)?) };
        let layers = model.0.architecture().layers();
        let layer = layers.get(index).ok_or_else(|| {
            let message = format!("index is {index}; the model has {} layers", layers.len());
            Error::new(Code::NotFound, message)
        })?;
        output.write(&lenet_layer {
            struct_size: size_of::<lenet_layer>() as u32,
            channels: layer.channels as u32,
            height: layer.height as u32,
            width: layer.width as u32,
            parameters: layer.parameters as u64,
            name: layer.name.as_ptr(),
            kind: layer.kind.as_ptr(),
        });
        Ok(())
    })
}

/// Saves a model as of its last whole step to a safetensors file, from which training goes on as if
/// it had never stopped. Whatever happens, power cuts included, the path holds the whole old file or
/// the whole new one; a file system that cannot sync a folder (CIFS, FAT, some FUSE) may undo the save
/// in a power cut. If the last step, syncing the folder, fails with LENET_ERROR_IO, the new file is in
/// place and the message says so. A file that is replaced keeps its mode where modes can be set; a new
/// one gets what the umask leaves. A process that is killed leaves no other file, but between two
/// system calls, or where Linux's O_TMPFILE is missing: its name then begins with .lenet-.
///
/// @param model  The model.
/// @param path   UTF-8. A regular file there is replaced; anything else, a symbolic link included,
///               is refused.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (path empty or not
///         UTF-8), LENET_ERROR_NOT_FOUND (no such folder), LENET_ERROR_IO,
///         LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any thread, also during training.
///         Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_save(
    model: *const lenet_model,
    path: *const c_char,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model, a string (header).
        let (model, path) = unsafe { (handle("model", model)?, super::check::path("path", path)?) };
        durable_file::replace(path, &checkpoint::save(&model.0)?)
    })
}

/// Loads a model that lenet_save() wrote, or the state_dict of such a network that a PyTorch program
/// saved with safetensors. Every name, type, shape and value is checked first.
///
/// Such a state_dict has ten tensors, weight and bias of five layers. They may be called conv1, conv2,
/// fc1, fc2, fc3, be numbers of an nn.Sequential (0.weight, 3.weight, ...) or of several ones
/// (features.0.weight, classifier.1.weight), or anything else, for the shapes of LeNet's weights tell
/// which is which; what wrappers put before names (module., _orig_mod., model., ...) is no matter. fc1
/// may be a convolution (120, 16, height, width). F16, BF16 and F64 become float. Such a file does not
/// tell activation, pooling, padding or what the pixels were divided by: it is loaded only with options.
///
/// @param path     UTF-8.
/// @param options  Device and threads; NULL: LENET_PRESET_CLASSIC's. For a file of lenet_save() the
///                 rest is ignored. For a PyTorch file it must not be NULL and everything in it counts:
///                 height, width, padding and classes must give the shapes in the file, activation,
///                 pooling, input_mean and input_std be those of the training; mirror is as you
///                 like.
/// @param model    [out] The model, the caller's to lenet_free().
/// @return LENET_OK, LENET_ERROR_NULL_POINTER (path, model), LENET_ERROR_INVALID_ARGUMENT (path, a
///         field of options, or options NULL for a PyTorch file), LENET_ERROR_NOT_FOUND,
///         LENET_ERROR_IO, LENET_ERROR_FORMAT (not a safetensors file), LENET_ERROR_CORRUPT,
///         LENET_ERROR_INCOMPATIBLE (not a LeNet, not the one of the options, or of a later format),
///         LENET_ERROR_NON_FINITE (a value in the file is, or is too large for a float),
///         LENET_ERROR_DEVICE_UNAVAILABLE, LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any
///         thread. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_load(
    path: *const c_char,
    options: *const lenet_options,
    model: *mut *mut lenet_model,
) -> lenet_status {
    fence(|| {
        let given = !options.is_null();
        // SAFETY: a string, one struct of its own size or NULL, one pointer (header).
        let (path, options, output) = unsafe {
            (super::check::path("path", path)?, read_options(options)?, output("model", model, 1)?)
        };
        let bytes = durable_file::read(path)?;
        let loaded = checkpoint::load(&bytes, &options, given)
            .map_err(|e| Error::new(e.code, format!("{}: {}", path.display(), e.message)))?;
        give(&output, loaded);
        Ok(())
    })
}

/// Saves a model as lenet_save() does, into memory.
///
/// @param model     The model.
/// @param buffer    [out] The bytes of the file; NULL with capacity 0 to ask for the size.
/// @param capacity  Bytes at buffer.
/// @param needed    [out] Bytes of the file; also set on LENET_ERROR_BUFFER_TOO_SMALL. The size
///                  changes a little while a model trains: a file has numbers in text.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_BUFFER_TOO_SMALL,
///         LENET_ERROR_INVALID_ARGUMENT, LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any
///         thread, also during training. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_save_buffer(
    model: *const lenet_model,
    buffer: *mut u8,
    capacity: usize,
    needed: *mut usize,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model, one size, `capacity` bytes or NULL and 0 (header).
        let (model, needed) = unsafe { (handle("model", model)?, output("needed", needed, 1)?) };
        let asks_for_size = buffer.is_null() && capacity == 0;
        let target = if asks_for_size {
            None
        } else {
            // SAFETY: as above.
            Some(unsafe { output("buffer", buffer, capacity) }?)
        };
        let bytes = checkpoint::save(&model.0)?;
        needed.write(&[bytes.len()]);
        if let Some(target) = target {
            check_capacity("buffer", capacity, bytes.len())?;
            target.write(&bytes);
        }
        Ok(())
    })
}

/// Loads a model as lenet_load() does, from memory.
///
/// @param buffer   The bytes of the file; copied, may be freed afterwards.
/// @param length   Bytes at buffer.
/// @param options  As for lenet_load(), NULL included.
/// @param model    [out] The model, the caller's to lenet_free().
/// @return As lenet_load(), but for LENET_ERROR_NOT_FOUND and LENET_ERROR_IO. Any thread. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_load_buffer(
    buffer: *const u8,
    length: usize,
    options: *const lenet_options,
    model: *mut *mut lenet_model,
) -> lenet_status {
    fence(|| {
        let given = !options.is_null();
        // SAFETY: `length` bytes, one struct of its own size or NULL, one pointer (header).
        let (bytes, options, output) = unsafe {
            (input("buffer", buffer, length)?, read_options(options)?, output("model", model, 1)?)
        };
        let loaded = checkpoint::load(bytes, &options, given)
            .map_err(|e| Error::new(e.code, format!("buffer: {}", e.message)))?;
        give(&output, loaded);
        Ok(())
    })
}

/// Hands a new model to the caller.
fn give(output: &Output<*mut lenet_model>, model: Model) {
    output.write(&[Box::into_raw(Box::new(lenet_model(model)))]);
}

/// The options of a preset.
fn preset_options(preset: i32) -> Result<lenet_options> {
    let classic = lenet_options {
        struct_size: size_of::<lenet_options>() as u32,
        device: LENET_DEVICE_CPU,
        device_index: 0,
        num_threads: 0,
        height: 28,
        width: 28,
        classes: 10,
        activation: LENET_ACTIVATION_SIGMOID,
        pooling: LENET_POOLING_AVG,
        optimizer: LENET_OPTIMIZER_SGD,
        seed: 0,
        learning_rate: 0.9,
        momentum: 0.0,
        weight_decay: 0.0,
        input_mean: 0.0,
        input_std: 1.0,
        preparation: LENET_PREPARE_RESIZE,
        mirror: 0,
        padding: DEFAULT_PADDING,
        reserved: 0,
    };
    let modern = lenet_options {
        activation: LENET_ACTIVATION_RELU,
        pooling: LENET_POOLING_MAX,
        optimizer: LENET_OPTIMIZER_ADAMW,
        learning_rate: 0.001,
        weight_decay: 0.01,
        ..classic
    };
    let accurate = lenet_options { learning_rate: 0.004, weight_decay: 0.05, ..modern };
    super::check::preset(preset, classic, modern, accurate)
}

/// The caller's options, checked; NULL: the classic preset.
///
/// # Safety
/// As `input_struct`.
pub(super) unsafe fn read_options(options: *const lenet_options) -> Result<Options> {
    let mut o = preset_options(LENET_PRESET_CLASSIC)?;
    if !options.is_null() {
        // SAFETY: the caller's promise is the same.
        o = unsafe { input_struct("options", options, o) }?;
    }
    let device = constant("device", o.device, &DEVICES)?;
    if o.device_index < 0 {
        return Err(Error::invalid(format!(
            "device_index is {}; it must be at least 0",
            o.device_index
        )));
    }
    if o.num_threads > MAX_THREADS {
        return Err(Error::invalid(format!(
            "num_threads is {}; it must be at most {MAX_THREADS}",
            o.num_threads
        )));
    }
    if o.mirror > 1 {
        return Err(Error::invalid(format!("mirror is {}; it must be 0 or 1", o.mirror)));
    }
    if o.reserved != 0 {
        return Err(Error::invalid(format!("reserved is {}; it must be 0", o.reserved)));
    }
    let activation = constant("activation", o.activation, &ACTIVATIONS)?;
    let pooling = constant("pooling", o.pooling, &POOLINGS)?;
    let rule = constant("optimizer", o.optimizer, &OPTIMIZERS)?;
    let options = Options {
        architecture: Architecture::new(o.height, o.width, o.classes, activation, pooling)?
            .with_padding(o.padding)?,
        device,
        device_index: o.device_index,
        num_threads: o.num_threads,
        optimizer: Optimizer { rule, momentum: o.momentum, weight_decay: o.weight_decay },
        learning_rate: o.learning_rate,
        seed: o.seed,
        normalization: Normalization { mean: o.input_mean, std: o.input_std },
        mirror: o.mirror == 1,
        preparation: constant("preparation", o.preparation, &PREPARATIONS)?,
    };
    options.check()?;
    Ok(options)
}

fn to_c(options: &Options) -> lenet_options {
    let architecture = options.architecture;
    lenet_options {
        struct_size: size_of::<lenet_options>() as u32,
        device: number(options.device, &DEVICES),
        device_index: options.device_index,
        num_threads: options.num_threads,
        height: architecture.height() as u32,
        width: architecture.width() as u32,
        classes: architecture.classes() as u32,
        activation: number(architecture.activation(), &ACTIVATIONS),
        pooling: number(architecture.pooling(), &POOLINGS),
        optimizer: number(options.optimizer.rule, &OPTIMIZERS),
        seed: options.seed,
        learning_rate: options.learning_rate,
        momentum: options.optimizer.momentum,
        weight_decay: options.optimizer.weight_decay,
        input_mean: options.normalization.mean,
        input_std: options.normalization.std,
        preparation: number(options.preparation, &PREPARATIONS),
        mirror: options.mirror.into(),
        padding: architecture.padding() as u32,
        reserved: 0,
    }
}

const MAX_THREADS: u32 = 1024;

const ACTIVATIONS: [Constant<Activation>; 3] = [
    (LENET_ACTIVATION_SIGMOID, "LENET_ACTIVATION_SIGMOID", Activation::Sigmoid),
    (LENET_ACTIVATION_TANH, "LENET_ACTIVATION_TANH", Activation::Tanh),
    (LENET_ACTIVATION_RELU, "LENET_ACTIVATION_RELU", Activation::Relu),
];
const POOLINGS: [Constant<Pooling>; 2] = [
    (LENET_POOLING_AVG, "LENET_POOLING_AVG", Pooling::Average),
    (LENET_POOLING_MAX, "LENET_POOLING_MAX", Pooling::Max),
];
const OPTIMIZERS: [Constant<Rule>; 2] = [
    (LENET_OPTIMIZER_SGD, "LENET_OPTIMIZER_SGD", Rule::Sgd),
    (LENET_OPTIMIZER_ADAMW, "LENET_OPTIMIZER_ADAMW", Rule::AdamW),
];
