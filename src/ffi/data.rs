//! Datasets.

use super::check::*;
use super::guard::{fence, fence_or};
use super::names::class_name;
use super::types::*;
use crate::dataset::Dataset;
use crate::error::Error;
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

/// Divides a dataset in two: training and validation data, or training and test data.
///
/// Each class gives its share, so that both parts have the classes in equal measure: the first part has
/// fraction of all images, rounded; of each class fraction of its images, rounded down, and where that
/// leaves some, one more of those classes that rounding down took most from (of equals, the lower one).
/// But a class of two images or more is in both parts, whatever fraction is. Which images they are is
/// drawn; the same seed, dataset and fraction give the same parts everywhere. In each part they keep
/// their order, and both have the class names and the class count of the whole.
///
/// @param dataset   The dataset; it stays as it is.
/// @param fraction  Above 0 and below 1: 0.8 for four fifths in the first part.
/// @param seed      Of the draw.
/// @param first     [out] A dataset of its own, the caller's to lenet_dataset_free().
/// @param rest      [out] The same, of all other images.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (fraction, also if it
///         leaves a part empty), LENET_ERROR_OUT_OF_MEMORY or LENET_ERROR_INTERNAL. Any thread.
///         Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_dataset_split(
    dataset: *const lenet_dataset,
    fraction: f64,
    seed: u64,
    first: *mut *mut lenet_dataset,
    rest: *mut *mut lenet_dataset,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live dataset, two pointers (header).
        let (dataset, first, rest) = unsafe {
            (handle("dataset", dataset)?, output("first", first, 1)?, output("rest", rest, 1)?)
        };
        let [part, other] = dataset.0.split(fraction, seed)?;
        give(&first, part);
        give(&rest, other);
        Ok(())
    })
}

/// The number of classes: the folders of lenet_dataset_open_folder(), else the largest label + 1. The
/// parts of a split have that of the whole.
///
/// @param dataset  The dataset.
/// @return The number; 0 if dataset is NULL, which lenet_last_error() then says. Any thread.
///         Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_dataset_class_count(dataset: *const lenet_dataset) -> usize {
    // SAFETY: a live dataset (header).
    fence_or(0, || Ok(unsafe { handle("dataset", dataset) }?.0.class_count()))
}

/// How many images each class has.
///
/// @param dataset  The dataset.
/// @param counts   [out] lenet_dataset_class_count() numbers, by label.
/// @param length   Elements at counts: exactly as many.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (length) or
///         LENET_ERROR_INTERNAL. Any thread. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_dataset_class_counts(
    dataset: *const lenet_dataset,
    counts: *mut u64,
    length: usize,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live dataset, `length` numbers (header).
        let (dataset, counts) =
            unsafe { (handle("dataset", dataset)?, output("counts", counts, length)?) };
        let classes = dataset.0.class_count();
        if length != classes {
            let message =
                format!("length of counts is {length}; the dataset has {classes} classes");
            return Err(Error::invalid(message));
        }
        counts.write(&dataset.0.class_counts());
        Ok(())
    })
}

/// The name of a class: that of its folder. Datasets of other kinds have no names.
///
/// @param dataset   The dataset.
/// @param index     The class, from 0.
/// @param name      [out] Its name, which ends in NUL, "" if it has none; NULL with capacity 0 to ask
///                  for the size.
/// @param capacity  Bytes at name; 256 are enough for any.
/// @param needed    [out] Bytes of the name with its NUL; also set on LENET_ERROR_BUFFER_TOO_SMALL.
///                  May be NULL where name is not.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER, LENET_ERROR_INVALID_ARGUMENT (needed, if it is not
///         aligned), LENET_ERROR_NOT_FOUND (no class has this index), LENET_ERROR_BUFFER_TOO_SMALL or
///         LENET_ERROR_INTERNAL. Any thread. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_dataset_class_name(
    dataset: *const lenet_dataset,
    index: usize,
    name: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live dataset (header).
        let dataset = unsafe { handle("dataset", dataset) }?;
        let (names, classes) = (dataset.0.class_names(), dataset.0.class_count());
        let text = class_name(names, classes, "dataset", index)?;
        // SAFETY: `capacity` bytes or NULL, one size or NULL (header).
        unsafe { write_text("name", name, capacity, needed, text) }
    })
}

/// Mean and standard deviation of all pixels, as the network sees bytes: divided by 255. They are what
/// input_mean and input_std of lenet_options may be; a dataset of one colour has the deviation 0,
/// which input_std may not be.
///
/// @param dataset  The dataset.
/// @param mean     [out] The mean, 0 to 1.
/// @param std      [out] The standard deviation, over all pixels and not of a sample, 0 to 0.5.
/// @return LENET_OK, LENET_ERROR_NULL_POINTER or LENET_ERROR_INTERNAL. Any thread. Since 1.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lenet_dataset_statistics(
    dataset: *const lenet_dataset,
    mean: *mut f64,
    std: *mut f64,
) -> lenet_status {
    fence(|| {
        // SAFETY: a live dataset, two numbers (header).
        let (dataset, mean, std) = unsafe {
            (handle("dataset", dataset)?, output("mean", mean, 1)?, output("std", std, 1)?)
        };
        let (mean_of_all, std_of_all) = dataset.0.statistics();
        mean.write(&[mean_of_all]);
        std.write(&[std_of_all]);
        Ok(())
    })
}

/// Hands a new dataset to the caller.
pub(super) fn give(output: &Output<*mut lenet_dataset>, dataset: Dataset) {
    output.write(&[Box::into_raw(Box::new(lenet_dataset(dataset)))]);
}
