//! Datasets.

use super::check::*;
use super::guard::{fence, fence_or};
use super::types::*;
use crate::dataset::Dataset;
use std::ffi::c_char;

/// Reads a dataset from a pair of IDX files, plain or gzipped, as MNIST and its kin come. A file of
/// another kind (an HTML page, a ZIP archive, a CSV file) is called that in the message. The images
/// are as they lie in the file: EMNIST's lie transposed, rows for columns, and a model that is trained
/// on them needs every image that it sees transposed as well.
///
/// @param images_path  UTF-8; integers from 0 to 255 with 3 dimensions (n, height, width), or with 4
///                     of which one is the only channel: (n, 1, height, width) or
///                     (n, height, width, 1). Bytes, or 16 or 32 bits; not floats, which do not tell
///                     what stands for white.
/// @param labels_path  UTF-8; integers from 0 to 255 with 1 dimension (n), or (n, 1), or QMNIST's
///                     (n, 8) with 32 bits, of which the first column is the class.
/// @param dataset      [out] The dataset, the caller's to lenet_dataset_free().
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (a path empty or not
///         UTF-8), LENET_ERROR_NOT_FOUND, LENET_ERROR_IO, LENET_ERROR_FORMAT (not such an IDX file,
///         or a pixel that is not from 0 to 255), LENET_ERROR_LABEL_OUT_OF_RANGE (a label that is
///         not from 0 to 255), LENET_ERROR_CORRUPT (its data does not go with its sizes, or there
///         are other bytes than zeros behind gzip data), LENET_ERROR_INCOMPATIBLE (unequal numbers
///         of images and labels), LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any thread.
///         Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_dataset_open(
    images_path: *const c_char,
    labels_path: *const c_char,
    dataset: *mut *mut lenet_dataset,
) -> lenet_status {
    fence(|| {
        // SAFETY: two strings, one pointer (header).
        let (images, labels, output) = unsafe {
            (
                path("images_path", images_path)?,
                path("labels_path", labels_path)?,
                output("dataset", dataset, 1)?,
            )
        };
        give(&output, Dataset::open(images, labels)?);
        Ok(())
    })
}

/// Makes a dataset by copying images and labels.
///
/// @param images   n * height * width bytes, row-major, 0..255 for 0..1.
/// @param labels   n labels.
/// @param n        Number of images, at least 1.
/// @param height   Rows of an image, at least 1.
/// @param width    Columns of an image, at least 1.
/// @param dataset  [out] The dataset, the caller's to lenet_dataset_free().
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (n, height, width),
///         LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any thread. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_dataset_from_memory(
    images: *const u8,
    labels: *const u8,
    n: usize,
    height: u32,
    width: u32,
    dataset: *mut *mut lenet_dataset,
) -> lenet_status {
    fence(|| {
        let bytes = Dataset::image_bytes(n, height, width)?;
        // SAFETY: `bytes` and `n` bytes, one pointer (header).
        let (images, labels, output) = unsafe {
            (
                input("images", images, bytes)?,
                input("labels", labels, n)?,
                output("dataset", dataset, 1)?,
            )
        };
        give(&output, Dataset::from_memory(images, labels, height, width)?);
        Ok(())
    })
}

/// Frees a dataset.
///
/// @param dataset  The dataset, NULL for nothing. No other call may be using it, nor use it
///                 afterwards.
///
/// Any thread. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_dataset_free(dataset: *mut lenet_dataset) {
    fence(|| {
        if !dataset.is_null() {
            // SAFETY: made by `give`, not freed before and not in use (header).
            drop(unsafe { Box::from_raw(dataset) });
        }
        Ok(())
    });
}

/// The number of images.
///
/// @param dataset  The dataset.
/// @return The number; 0 if dataset is NULL, which lenet_last_error() then says. Any thread.
///         Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_dataset_count(dataset: *const lenet_dataset) -> usize {
    // SAFETY: a live dataset (header).
    fence_or(0, || Ok(unsafe { handle("dataset", dataset) }?.0.count()))
}

/// The size of the images.
///
/// @param dataset  The dataset.
/// @param height   [out] Rows.
/// @param width    [out] Columns.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER or LENET_ERROR_INTERNAL. Any thread. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_dataset_size(
    dataset: *const lenet_dataset,
    height: *mut u32,
    width: *mut u32,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live dataset, two numbers (header).
        let (dataset, height, width) = unsafe {
            (handle("dataset", dataset)?, output("height", height, 1)?, output("width", width, 1)?)
        };
        height.write(&[dataset.0.height()]);
        width.write(&[dataset.0.width()]);
        Ok(())
    })
}

/// Copies images and labels out of a dataset.
///
/// @param dataset  The dataset.
/// @param first    Index of the first image, from 0.
/// @param n        How many, at least 1.
/// @param images   [out] n * height * width bytes.
/// @param labels   [out] n labels.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (first and n go past
///         the end) or LENET_ERROR_INTERNAL. Any thread. Since 1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_dataset_read(
    dataset: *const lenet_dataset,
    first: usize,
    n: usize,
    images: *mut u8,
    labels: *mut u8,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live dataset (header).
        let dataset = unsafe { handle("dataset", dataset) }?;
        let (from_images, from_labels) = dataset.0.read(first, n)?;
        // SAFETY: room for `n` images and labels (header).
        let (images, labels) = unsafe {
            (
                output("images", images, from_images.len())?,
                output("labels", labels, from_labels.len())?,
            )
        };
        images.write(from_images);
        labels.write(from_labels);
        Ok(())
    })
}

/// Hands a new dataset to the caller.
fn give(output: &Output<*mut lenet_dataset>, dataset: Dataset) {
    output.write(&[Box::into_raw(Box::new(lenet_dataset(dataset)))]);
}
