//! The C API with the C taken off, for tests that are about something else than its pointers: a
//! failed call is a failed test, handles free themselves, made data.

// Each test crate uses a part of it.
#![allow(dead_code)]

use lenet::ffi::*;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::path::Path;
use std::ptr::{null, null_mut};

pub fn last_error() -> String {
    unsafe { CStr::from_ptr(lenet_last_error()) }.to_str().unwrap().to_string()
}

#[track_caller]
pub fn ok(status: lenet_status) {
    assert_eq!(status, LENET_OK, "{}", last_error());
}

/// "LENET_ERROR_IO" and the like.
pub fn name(status: lenet_status) -> &'static str {
    unsafe { CStr::from_ptr(lenet_status_name(status)) }.to_str().unwrap()
}

/// The call before failed like this, with a message that has these words.
#[track_caller]
pub fn refused(what: &str, status: lenet_status, expected: lenet_status, words: &[&str]) {
    let message = last_error();
    assert_eq!(name(status), name(expected), "{what}: {message}");
    for word in words {
        assert!(message.contains(word), "{what}: {word:?} is not in {message:?}");
    }
}

pub fn preset(preset: i32) -> lenet_options {
    let mut options = MaybeUninit::uninit();
    let size = size_of::<lenet_options>();
    ok(unsafe { lenet_options_init(options.as_mut_ptr(), size, preset) });
    unsafe { options.assume_init() }
}

/// A preset's network for 16x16 images and 3 classes, the smallest that is quick.
pub fn small(preset_constant: i32) -> lenet_options {
    lenet_options { height: 16, width: 16, classes: 3, ..preset(preset_constant) }
}

/// The same with SGD with momentum, which has state to lose.
pub fn small_with_momentum() -> lenet_options {
    let classic = small(LENET_PRESET_CLASSIC);
    lenet_options { momentum: 0.9, learning_rate: 0.1, seed: 5, ..classic }
}

pub fn fit_preset(preset: i32) -> lenet_fit_options {
    let mut options = MaybeUninit::uninit();
    let size = size_of::<lenet_fit_options>();
    ok(unsafe { lenet_fit_options_init(options.as_mut_ptr(), size, preset) });
    unsafe { options.assume_init() }
}

pub fn fit_options(epochs: u32, batch_size: u32) -> lenet_fit_options {
    lenet_fit_options { epochs, batch_size, ..fit_preset(LENET_PRESET_CLASSIC) }
}

fn empty_calibration() -> lenet_calibration {
    let struct_size = size_of::<lenet_calibration>() as u32;
    lenet_calibration { struct_size, ..unsafe { std::mem::zeroed() } }
}

pub fn c_path(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

/// A model that is freed when it goes out of scope. Shared between threads as the header allows.
pub struct Model(pub *mut lenet_model);

unsafe impl Send for Model {}
unsafe impl Sync for Model {}

impl Model {
    pub fn create(options: &lenet_options) -> Model {
        let mut model = null_mut();
        ok(unsafe { lenet_create(options, &mut model) });
        Model(model)
    }

    pub fn load(path: &Path, options: *const lenet_options) -> Model {
        let mut model = null_mut();
        ok(unsafe { lenet_load(c_path(path).as_ptr(), options, &mut model) });
        Model(model)
    }

    pub fn from_bytes(bytes: &[u8]) -> Model {
        let mut model = null_mut();
        ok(unsafe { lenet_load_buffer(bytes.as_ptr(), bytes.len(), null(), &mut model) });
        Model(model)
    }

    /// As `from_bytes`, for a file that does not tell all options.
    pub fn from_bytes_with(bytes: &[u8], options: &lenet_options) -> Model {
        let mut model = null_mut();
        ok(unsafe { lenet_load_buffer(bytes.as_ptr(), bytes.len(), options, &mut model) });
        Model(model)
    }

    /// As `from_bytes`, for bytes that may be refused.
    pub fn try_from_bytes(
        bytes: &[u8],
        options: *const lenet_options,
    ) -> Result<Model, lenet_status> {
        let mut model = null_mut();
        match unsafe { lenet_load_buffer(bytes.as_ptr(), bytes.len(), options, &mut model) } {
            LENET_OK => Ok(Model(model)),
            status => {
                assert!(model.is_null(), "a refused load has written its output");
                Err(status)
            }
        }
    }

    /// What `lenet_save` would write: parameters, optimizer state, progress, options.
    pub fn bytes(&self) -> Vec<u8> {
        let mut needed = 0;
        ok(unsafe { lenet_save_buffer(self.0, null_mut(), 0, &mut needed) });
        // A model in training may need a little more by now.
        let mut bytes = vec![0; needed + 1024];
        ok(unsafe { lenet_save_buffer(self.0, bytes.as_mut_ptr(), bytes.len(), &mut needed) });
        bytes.truncate(needed);
        bytes
    }

    pub fn try_clone(&self) -> Model {
        let mut copy = null_mut();
        ok(unsafe { lenet_clone(self.0, &mut copy) });
        Model(copy)
    }

    pub fn options(&self) -> lenet_options {
        let mut options = preset(LENET_PRESET_CLASSIC);
        ok(unsafe { lenet_get_options(self.0, &mut options) });
        options
    }

    pub fn parameters(&self) -> Vec<f32> {
        let mut parameters = vec![0.0; unsafe { lenet_parameter_count(self.0) }];
        ok(unsafe { lenet_get_parameters(self.0, parameters.as_mut_ptr(), parameters.len()) });
        parameters
    }

    /// One step; the loss before it.
    pub fn train(&self, images: &[u8], labels: &[u8]) -> f32 {
        let mut loss = f32::NAN;
        let (images, n) = (images.as_ptr(), labels.len());
        ok(unsafe { lenet_train_batch_u8(self.0, images, labels.as_ptr(), n, &mut loss) });
        loss
    }

    pub fn fit(&self, data: &Dataset, epochs: u32, batch_size: u32) {
        let options = fit_options(epochs, batch_size);
        ok(unsafe { lenet_fit(self.0, data.0, null(), &options, None, null_mut()) });
    }

    /// With `max_error`.
    pub fn calibrate(&self, validation: &Dataset, max_error: f64) -> lenet_calibration {
        let mut found = empty_calibration();
        ok(unsafe { lenet_calibrate(self.0, validation.0, max_error, &mut found) });
        found
    }

    pub fn calibration(&self) -> lenet_calibration {
        let mut found = empty_calibration();
        ok(unsafe { lenet_get_calibration(self.0, &mut found) });
        found
    }

    pub fn logits(&self, images: &[f32], n: usize) -> Vec<f32> {
        let mut logits = vec![f32::NAN; n * self.options().classes as usize];
        ok(unsafe { lenet_logits(self.0, images.as_ptr(), n, logits.as_mut_ptr()) });
        logits
    }

    /// Classes (n) and probabilities (n, classes).
    pub fn predict(&self, images: &[u8], n: usize) -> (Vec<u8>, Vec<f32>) {
        let mut classes = vec![0; n];
        let mut probabilities = vec![f32::NAN; n * self.options().classes as usize];
        let (c, p) = (classes.as_mut_ptr(), probabilities.as_mut_ptr());
        ok(unsafe { lenet_predict_u8(self.0, images.as_ptr(), n, c, p) });
        (classes, probabilities)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        unsafe { lenet_free(self.0) };
    }
}

/// A dataset that is freed when it goes out of scope.
pub struct Dataset(pub *mut lenet_dataset);

unsafe impl Send for Dataset {}
unsafe impl Sync for Dataset {}

impl Dataset {
    pub fn new(data: &MadeData) -> Dataset {
        let mut dataset = null_mut();
        let (images, labels) = (data.images.as_ptr(), data.labels.as_ptr());
        let (n, size) = (data.labels.len(), data.size as u32);
        ok(unsafe { lenet_dataset_from_memory(images, labels, n, size, size, &mut dataset) });
        Dataset(dataset)
    }

    /// The dataset in a pair of IDX files, which may be refused.
    pub fn open(images: &Path, labels: &Path) -> Result<Dataset, lenet_status> {
        let (images, labels) = (c_path(images), c_path(labels));
        let mut dataset = null_mut();
        match unsafe { lenet_dataset_open(images.as_ptr(), labels.as_ptr(), &mut dataset) } {
            LENET_OK => Ok(Dataset(dataset)),
            status => {
                assert!(dataset.is_null(), "a refused open has written its output");
                Err(status)
            }
        }
    }

    pub fn count(&self) -> usize {
        unsafe { lenet_dataset_count(self.0) }
    }

    /// Height and width.
    pub fn size(&self) -> (u32, u32) {
        let (mut height, mut width) = (0, 0);
        ok(unsafe { lenet_dataset_size(self.0, &mut height, &mut width) });
        (height, width)
    }

    /// `n` images and labels from `first` on.
    pub fn read(&self, first: usize, n: usize) -> (Vec<u8>, Vec<u8>) {
        let (height, width) = self.size();
        let mut images = vec![0; n * (height * width) as usize];
        let mut labels = vec![0; n];
        let (i, l) = (images.as_mut_ptr(), labels.as_mut_ptr());
        ok(unsafe { lenet_dataset_read(self.0, first, n, i, l) });
        (images, labels)
    }
}

impl Drop for Dataset {
    fn drop(&mut self) {
        unsafe { lenet_dataset_free(self.0) };
    }
}

/// Square images of noise with a bright band whose place tells the class: learnt in a few steps.
pub struct MadeData {
    pub size: usize,
    pub images: Vec<u8>,
    pub labels: Vec<u8>,
}

impl MadeData {
    pub fn new(n: usize, size: usize, classes: usize) -> MadeData {
        let mut state = 1u32;
        let mut images = Vec::with_capacity(n * size * size);
        let labels: Vec<u8> = (0..n).map(|i| (i % classes) as u8).collect();
        for &label in &labels {
            let band =
                usize::from(label) * size / classes..(usize::from(label) + 1) * size / classes;
            for row in 0..size {
                for _ in 0..size {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let noise = (state >> 26) as u8;
                    images.push(if band.contains(&row) { 192 + noise } else { noise });
                }
            }
        }
        MadeData { size, images, labels }
    }

    /// As the float functions want them.
    pub fn floats(&self) -> Vec<f32> {
        self.images.iter().map(|&p| f32::from(p) / 255.0).collect()
    }
}

/// How often or how long a test does what could go on for ever: `usual`, or as the environment says.
pub fn times(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |times| times.parse().unwrap())
}
