//! Pictures as programs have them: prepared for a model, and classified.

use super::check::*;
use super::guard::fence;
use super::types::*;
use crate::batch::Pixels;
use crate::error::{Code, Error, Result};
use crate::model::Model;
use crate::picture;
use crate::prepare::{Format, Image, Preparation};
use std::ffi::c_char;

/// Makes of a picture what the model's network sees: the height * width bytes that lenet_predict_u8()
/// takes, and that a dataset for training should be made of. What is done is the model's
/// lenet_options.preparation, LENET_PREPARE_RESIZE or LENET_PREPARE_GLYPH, where it is described.
///
/// @param model   The model.
/// @param image   The picture; struct_size must be set.
/// @param pixels  [out] height * width bytes of the model's size, row-major.
/// @param length  Bytes that pixels has room for.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER (model, image, image.pixels, pixels),
///         LENET_ERROR_INVALID_ARGUMENT (the message names the field of image),
///         LENET_ERROR_BUFFER_TOO_SMALL, LENET_ERROR_NOT_FOUND (LENET_PREPARE_GLYPH: no ink in the
///         picture), LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any thread, also during
///         training. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_prepare_image(
    model: *const lenet_model,
    image: *const lenet_image,
    pixels: *mut u8,
    length: usize,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model, a picture, room for `length` bytes (header).
        let (model, image, output) = unsafe {
            (&handle("model", model)?.0, read_image(image)?, output("pixels", pixels, length)?)
        };
        check_capacity("pixels", length, model.architecture().pixels())?;
        model.with_prepared(&image, |prepared| {
            output.write(prepared);
            Ok(())
        })
    })
}

/// Classifies a picture: lenet_prepare_image() and lenet_predict_u8() in one.
///
/// @param model          The model.
/// @param image          The picture; struct_size must be set.
/// @param classes        [out] One class index, the most probable one; may be NULL.
/// @param probabilities  [out] As many floats as the model has classes, summing to 1; may be NULL.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER (model, image, image.pixels),
///         LENET_ERROR_INVALID_ARGUMENT (the message names the field of image), LENET_ERROR_NOT_FOUND
///         (LENET_PREPARE_GLYPH: no ink in the picture), LENET_ERROR_DIVERGED (a logit left the range
///         of float), LENET_ERROR_FORKED, LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any
///         thread, also during training. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_predict_image(
    model: *const lenet_model,
    image: *const lenet_image,
    classes: *mut u8,
    probabilities: *mut f32,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model, a picture (header).
        let (model, image) = unsafe { (&handle("model", model)?.0, read_image(image)?) };
        let count = model.architecture().classes();
        // SAFETY: room for one class and `count` floats, or NULL (header).
        let (classes, probabilities) = unsafe {
            (
                optional_output("classes", classes, 1)?,
                optional_output("probabilities", probabilities, count)?,
            )
        };
        predict_image(model, &image, classes, probabilities)
    })
}

/// Classifies a picture in a file: it is read as lenet_dataset_open_folder() reads one, prepared as the
/// model's options say and classified.
///
/// @param model          The model.
/// @param path           UTF-8; a PNG, JPEG, BMP or PNM file.
/// @param classes        [out] One class index, the most probable one; may be NULL.
/// @param probabilities  [out] As many floats as the model has classes, which sum to 1; may be NULL.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER (model, path), LENET_ERROR_INVALID_ARGUMENT (path empty
///         or not UTF-8), LENET_ERROR_NOT_FOUND (no such file, or LENET_PREPARE_GLYPH: no ink in the
///         picture), LENET_ERROR_IO, LENET_ERROR_FORMAT (no such picture), LENET_ERROR_CORRUPT (it is
///         cut off or damaged), LENET_ERROR_DIVERGED, LENET_ERROR_FORKED, LENET_ERROR_OUT_OF_MEMORY
///         or LENET_ERROR_INTERNAL. Any thread, also during training. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_predict_file(
    model: *const lenet_model,
    path: *const c_char,
    classes: *mut u8,
    probabilities: *mut f32,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live model, a string (header).
        let (model, path) =
            unsafe { (&handle("model", model)?.0, super::check::path("path", path)?) };
        let count = model.architecture().classes();
        // SAFETY: room for one class and `count` floats, or NULL (header).
        let (classes, probabilities) = unsafe {
            (
                optional_output("classes", classes, 1)?,
                optional_output("probabilities", probabilities, count)?,
            )
        };
        let picture = picture::read(path)?;
        let predicted =
            picture.image().and_then(|i| predict_image(model, &i, classes, probabilities));
        predicted.map_err(|e| picture::at(path, e))
    })
}

/// Prepares a picture, classifies it and writes what is asked for.
pub(super) fn predict_image(
    model: &Model,
    image: &Image,
    classes: Option<Output<u8>>,
    probabilities: Option<Output<f32>>,
) -> Result<()> {
    model.with_prepared(image, |prepared| {
        model.predict(Pixels::Byte(prepared), |_, class, row| {
            if let Some(classes) = &classes {
                classes.write(&[class]);
            }
            if let Some(probabilities) = &probabilities {
                probabilities.write(row);
            }
        })
    })
}

/// The caller's picture, checked.
///
/// # Safety
/// `image` is as `input_struct` needs it, and its pixels are NULL or lead to as many bytes as its fields say,
/// which nobody writes during `'a`.
unsafe fn read_image<'a>(image: *const lenet_image) -> Result<Image<'a>> {
    let defaults = lenet_image {
        struct_size: 0,
        format: LENET_FORMAT_GRAY8,
        height: 0,
        width: 0,
        stride: 0,
        pixels: std::ptr::null(),
    };
    // SAFETY: the caller's promise is the same.
    let image = unsafe { input_struct("image", image, defaults) }?;
    let in_image = |e: Error| Error::new(e.code, format!("image: {}", e.message));
    let format = constant("format", image.format, &FORMATS).map_err(in_image)?;
    let [height, width] = [image.height, image.width].map(|side| side as usize);
    let length = Image::length(format, height, width, image.stride).map_err(in_image)?;
    if image.pixels.is_null() {
        return Err(Error::new(Code::NullPointer, "image: pixels is NULL"));
    }
    // SAFETY: `length` bytes (caller), counted from the fields above.
    let pixels = unsafe { input("image: pixels", image.pixels, length) }?;
    Image::new(format, height, width, image.stride, pixels).map_err(in_image)
}

const FORMATS: [Constant<Format>; 5] = [
    (LENET_FORMAT_GRAY8, "LENET_FORMAT_GRAY8", Format::Gray8),
    (LENET_FORMAT_RGB8, "LENET_FORMAT_RGB8", Format::Rgb8),
    (LENET_FORMAT_BGR8, "LENET_FORMAT_BGR8", Format::Bgr8),
    (LENET_FORMAT_RGBA8, "LENET_FORMAT_RGBA8", Format::Rgba8),
    (LENET_FORMAT_BGRA8, "LENET_FORMAT_BGRA8", Format::Bgra8),
];

pub(super) const PREPARATIONS: [Constant<Preparation>; 2] = [
    (LENET_PREPARE_RESIZE, "LENET_PREPARE_RESIZE", Preparation::Resize),
    (LENET_PREPARE_GLYPH, "LENET_PREPARE_GLYPH", Preparation::Glyph),
];
