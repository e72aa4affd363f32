//! Datasets from files that people have: pictures and tables.

use super::check::*;
use super::data::give;
use super::guard::fence;
use super::model::read_options;
use super::types::*;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::fence::float_environment::Outside;
use crate::prepare::Preparer;
use std::ffi::{c_char, c_void};
use std::mem::size_of;

/// Reads a folder of pictures, with a folder for each class: path/cat/1.png, path/dog/photo.jpg, ... The
/// classes are numbered in the order of the folders' names, the images lie in the order of the classes
/// and in each in that of the files' names (both by their bytes, so Zebra stands before ant, and 10
/// before 9). So the folders of training and test data must have the same names: compare them by
/// lenet_dataset_class_name().
///
/// A picture is a PNG, JPEG, BMP or PNM (PBM, PGM, PPM, PAM) file, whatever it is called, of at most
/// 16,384 x 16,384 and in all 2^26 pixels and 512 MiB. It is turned as its EXIF orientation says;
/// 16-bit samples are rounded to 8, colour profiles and gamma not applied, of an animation one picture is
/// read. Then it is prepared as lenet_prepare_image() does it for a model with these options.
///
/// Hidden files and folders, whose names begin with a full stop, are not looked at, nor Thumbs.db and
/// desktop.ini. Symbolic links are followed. Everything else is an error with its path: a file that is no
/// whole picture (the first one in the order above), a file beside the folders of the classes, a folder in
/// one of them, a class without a picture, more than 256 classes, a class's name that is not
/// UTF-8 or has control characters, what is no regular file, and what may not be read.
///
/// It takes options.num_threads threads, the caller's included, which are gone when the call returns; the
/// dataset is the same for any number.
///
/// @param path     UTF-8; the folder.
/// @param options  Its preparation, height and width say what images are made, num_threads by how many
///                 threads; those of the model that the data is for, as from lenet_get_options(). NULL:
///                 LENET_PRESET_CLASSIC's, 28 x 28.
/// @param dataset  [out] The dataset, the caller's to lenet_dataset_free(). Its classes have names.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER (path, dataset), LENET_ERROR_INVALID_ARGUMENT (path empty
///         or not UTF-8, a field of options), LENET_ERROR_NOT_FOUND (also LENET_PREPARE_GLYPH: no ink in
///         a picture), LENET_ERROR_IO, LENET_ERROR_FORMAT (no such folder of pictures),
///         LENET_ERROR_CORRUPT (a picture is cut off or damaged), LENET_ERROR_OUT_OF_MEMORY or
///         LENET_ERROR_INTERNAL. Any thread. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_dataset_open_folder(
    path: *const c_char,
    options: *const lenet_options,
    dataset: *mut *mut lenet_dataset,
) -> lenet_status {
    // SAFETY: a string, one struct of its own size or NULL, one pointer (header).
    fence(|| unsafe { open_folder(path, options, None, std::ptr::null_mut(), dataset) })
}

/// Reads a folder of pictures as lenet_dataset_open_folder() does, and tells how far it is.
///
/// @param path       As there.
/// @param options    As there.
/// @param progress   Called on this thread from time to time, and when the last picture has been read, with
///                   event LENET_PROGRESS_PICTURE, epoch and epochs 1, step the number of pictures that
///                   have been read, steps that of all, images_per_second, and NaN for the rest. A return
///                   value other than 0 cancels. From inside, every call is allowed. May be NULL.
/// @param user_data  Passed on to progress.
/// @param dataset    [out] As there.
/// @return As lenet_dataset_open_folder(), LENET_ERROR_CANCELLED, or LENET_ERROR_FORKED in a child
///         process that progress has made while other threads read. Any thread. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_dataset_open_folder_with(
    path: *const c_char,
    options: *const lenet_options,
    progress: lenet_progress_fn,
    user_data: *mut c_void,
    dataset: *mut *mut lenet_dataset,
) -> lenet_status {
    // SAFETY: a string, one struct of its own size or NULL, one pointer (header).
    fence(|| unsafe { open_folder(path, options, progress, user_data, dataset) })
}

/// # Safety
/// A string, one struct of its own size or NULL, a function, one pointer.
unsafe fn open_folder(
    path: *const c_char,
    options: *const lenet_options,
    progress: lenet_progress_fn,
    user_data: *mut c_void,
    dataset: *mut *mut lenet_dataset,
) -> Result<()> {
    // SAFETY: as above.
    let (path, options, output) = unsafe {
        (super::check::path("path", path)?, read_options(options)?, output("dataset", dataset, 1)?)
    };
    let start = std::time::Instant::now();
    let mut announce = progress.map(|progress| {
        move |done: usize, all: usize| {
            let report = pictures_to_c(done, all, start.elapsed().as_secs_f64());
            let _outside = Outside::enter();
            // SAFETY: the caller's function, with a struct that lives during the call (header).
            unsafe { progress(&raw const report, user_data) == 0 }
        }
    });
    let announce =
        announce.as_mut().map(|announce| announce as &mut dyn FnMut(usize, usize) -> bool);
    let (height, width) = (options.architecture.height(), options.architecture.width());
    let preparer = Preparer { preparation: options.preparation, height, width };
    give(&output, Dataset::open_folder(path, preparer, options.num_threads, announce)?);
    Ok(())
}

fn pictures_to_c(done: usize, all: usize, seconds: f64) -> lenet_progress {
    lenet_progress {
        struct_size: size_of::<lenet_progress>() as u32,
        epoch: 1,
        epochs: 1,
        event: LENET_PROGRESS_PICTURE,
        step: done as u64,
        steps: all as u64,
        loss: f64::NAN,
        accuracy: f64::NAN,
        validation_loss: f64::NAN,
        validation_accuracy: f64::NAN,
        images_per_second: done as f64 / seconds,
    }
}

/// Reads a CSV file with a row an image, plain or gzipped: its label, then its pixels, row by row, as
/// Kaggle's digit recognizer and the CSV forms of MNIST and Fashion-MNIST have them.
///
/// Numbers are whole, from 0 to 255; 12.0 and 1.2e+01 are 12. Fields are divided by commas, semicolons
/// or tabs, whichever the first line has most of, and may have spaces round them or be quoted. Lines
/// end with LF or CRLF; empty ones are passed over. A first line that begins with two names is taken for
/// a heading, and so is 0, 1, 2, ... where that is no image; a UTF-8 mark before it does no harm. Pixels
/// from 0 to 1 are refused, as far as they can be told: multiply them by 255.
///
/// @param path     UTF-8.
/// @param height   Rows of an image, at least 1.
/// @param width    Columns of an image, at least 1; a line has 1 + height * width fields.
/// @param dataset  [out] The dataset, the caller's to lenet_dataset_free().
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (path empty or not UTF-8,
///         height, width), LENET_ERROR_NOT_FOUND, LENET_ERROR_IO, LENET_ERROR_FORMAT (not such a CSV
///         file; the message has line, column and value), LENET_ERROR_LABEL_OUT_OF_RANGE (a number that
///         is no label), LENET_ERROR_CORRUPT (damaged gzip data), LENET_ERROR_OUT_OF_MEMORY or
///         LENET_ERROR_INTERNAL. Any thread. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_dataset_open_csv(
    path: *const c_char,
    height: u32,
    width: u32,
    dataset: *mut *mut lenet_dataset,
) -> lenet_status {
    fence(|| {
        // SAFETY: a string, one pointer (header).
        let (path, output) =
            unsafe { (super::check::path("path", path)?, output("dataset", dataset, 1)?) };
        give(&output, Dataset::open_csv(path, height, width)?);
        Ok(())
    })
}
