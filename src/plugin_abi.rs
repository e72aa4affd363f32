//! What crosses between this library and its plugin: a table of C functions, and what they take.
//!
//! Every function but those that free says how it went by a status of the C API, 0 for success; on
//! failure it fills in `failure`, writes no other output and changes nothing. Pointers lead to what
//! the other side has made or to as many elements as are said. One engine's functions are not
//! called at the same time.

#![allow(unsafe_code)]

use crate::architecture::{Activation, Architecture, Outputs, Pooling};
use crate::batch::{Images, Normalization, Order, Pixels, Seen, Targets};
use crate::error::{Code, Error, Result};
use crate::optimizer::{Optimizer, Rule, Step};
use crate::run::Run;
use crate::unique::Unique;
use crate::view::View;
use std::ffi::c_void;
use std::ptr::null;
use std::slice;

/// Counts the changes to anything here. The two sides must have the same.
pub const VERSION: u32 = 3;

/// An engine or values, of whoever serves them.
pub type Handle = *mut c_void;
pub type Status = i32;

/// Grows at no end: another table has another version.
#[repr(C)]
pub struct Table {
    pub version: u32,
    pub reserved: u32,
    /// How many devices `open` would accept.
    pub device_count: unsafe extern "C" fn(count: *mut u32, failure: *mut Failure) -> Status,
    /// An engine for device `index`.
    pub open: unsafe extern "C" fn(
        index: u32,
        settings: *const Settings,
        engine: *mut Handle,
        failure: *mut Failure,
    ) -> Status,
    /// Frees an engine whose values have all been freed.
    pub close: unsafe extern "C" fn(engine: Handle),
    /// Values (rows, parameters) from rows of floats.
    pub upload: unsafe extern "C" fn(
        engine: Handle,
        rows: *const f32,
        count: usize,
        values: *mut Handle,
        failure: *mut Failure,
    ) -> Status,
    /// Copies row `i` of values.
    pub download: unsafe extern "C" fn(
        engine: Handle,
        values: Handle,
        i: usize,
        row: *mut f32,
        failure: *mut Failure,
    ) -> Status,
    /// Frees values.
    pub free: unsafe extern "C" fn(engine: Handle, values: Handle),
    /// Writes these outputs, by `outputs_number`, of each image.
    pub outputs: unsafe extern "C" fn(
        engine: Handle,
        weights: Handle,
        batch: *const Batch,
        outputs: u32,
        out: *mut f32,
        failure: *mut Failure,
    ) -> Status,
    /// Writes the gradient of the mean loss into values of one row.
    pub gradient: unsafe extern "C" fn(
        engine: Handle,
        weights: Handle,
        batch: *const Batch,
        targets: *const TargetsThere,
        gradient: Handle,
        seen: *mut SeenThere,
        failure: *mut Failure,
    ) -> Status,
    /// Writes the weights after a step over `next`, which nothing else uses, and whether all are
    /// finite.
    pub step: unsafe extern "C" fn(
        engine: Handle,
        step: *const StepThere,
        now: Handle,
        gradient: Handle,
        next: Handle,
        finite: *mut u32,
        failure: *mut Failure,
    ) -> Status,
    /// Makes one or more of the first steps of a run. The weights after the last completed one are in `next`,
    /// if there is one; `gradient` may be written. `seen` has room for every step of the run; as many are
    /// written as were computed.
    pub train: unsafe extern "C" fn(
        engine: Handle,
        run: *const RunThere,
        now: Handle,
        gradient: Handle,
        next: Handle,
        seen: *mut SeenThere,
        ran: *mut RanThere,
        failure: *mut Failure,
    ) -> Status,
}

/// Why a call failed, UTF-8.
#[repr(C)]
pub struct Failure {
    length: u32,
    text: [u8; 508],
}

impl Failure {
    pub fn none() -> Self {
        Failure { length: 0, text: [0; 508] }
    }

    /// As much of `message` as there is room for.
    pub fn set(&mut self, message: &str) {
        let length = message.floor_char_boundary(self.text.len());
        self.text[..length].copy_from_slice(&message.as_bytes()[..length]);
        self.length = length as u32;
    }

    pub fn error(&self, status: Status) -> Error {
        let text = &self.text[..self.text.len().min(self.length as usize)];
        let code = CODES.iter().find(|code| **code as Status == status);
        Error::new(*code.unwrap_or(&Code::Internal), String::from_utf8_lossy(text))
    }
}

/// What a plugin may fail with; anything else is a defect of it.
const CODES: [Code; 3] = [Code::DeviceUnavailable, Code::OutOfMemory, Code::Forked];

/// What an engine is made for.
#[repr(C)]
pub struct Settings {
    height: u32,
    width: u32,
    classes: u32,
    activation: u32,
    pooling: u32,
    padding: u32,
    mean: f64,
    std: f64,
}

const ACTIVATIONS: [Activation; 3] = [Activation::Sigmoid, Activation::Tanh, Activation::Relu];
const POOLINGS: [Pooling; 2] = [Pooling::Average, Pooling::Max];
const RULES: [Rule; 2] = [Rule::Sgd, Rule::AdamW];
const OUTPUTS: [Outputs; 2] = [Outputs::Logits, Outputs::Features];

fn number<T: PartialEq>(of: T, all: &[T]) -> u32 {
    all.iter().position(|one| *one == of).map_or(u32::MAX, |i| i as u32)
}

fn numbered<T: Copy>(number: u32, all: &[T]) -> Result<T> {
    let defect = || Error::new(Code::Internal, format!("a plugin was given the constant {number}"));
    all.get(number as usize).copied().ok_or_else(defect)
}

pub fn outputs_number(outputs: Outputs) -> u32 {
    number(outputs, &OUTPUTS)
}

pub fn numbered_outputs(number: u32) -> Result<Outputs> {
    numbered(number, &OUTPUTS)
}

impl Settings {
    pub fn new(a: Architecture, normalization: Normalization) -> Self {
        Settings {
            height: a.height() as u32,
            width: a.width() as u32,
            classes: a.classes() as u32,
            activation: number(a.activation(), &ACTIVATIONS),
            pooling: number(a.pooling(), &POOLINGS),
            padding: a.padding() as u32,
            mean: normalization.mean,
            std: normalization.std,
        }
    }

    pub fn read(&self) -> Result<(Architecture, Normalization)> {
        let activation = numbered(self.activation, &ACTIVATIONS)?;
        let pooling = numbered(self.pooling, &POOLINGS)?;
        let architecture =
            Architecture::new(self.height, self.width, self.classes, activation, pooling)?
                .with_padding(self.padding)?;
        Ok((architecture, Normalization { mean: self.mean, std: self.std }))
    }
}

/// Images: either floats or bytes, as they lie or picked from a dataset.
#[repr(C)]
pub struct Batch {
    floats: *const f32,
    bytes: *const u8,
    /// Elements of that.
    length: usize,
    /// Indices of images, or NULL.
    order: *const u32,
    order_length: usize,
    /// The dataset's number.
    dataset: u64,
    /// Of all images of the dataset, or NULL.
    labels: *const u8,
    /// One for each image of the batch, or NULL.
    views: *const View,
}

impl Batch {
    pub fn new(images: &Images) -> Self {
        let (floats, bytes, length) = match images.pixels {
            Pixels::Float(pixels) => (pixels.as_ptr(), null(), pixels.len()),
            Pixels::Byte(pixels) => (null(), pixels.as_ptr(), pixels.len()),
        };
        let mut batch = Batch {
            floats,
            bytes,
            length,
            order: null(),
            order_length: 0,
            dataset: 0,
            labels: null(),
            views: images.views.map_or(null(), <[View]>::as_ptr),
        };
        if let Some(Order { indices, dataset, labels }) = images.order {
            (batch.order, batch.order_length) = (indices.as_ptr(), indices.len());
            (batch.dataset, batch.labels) = (dataset.number(), labels.as_ptr());
        }
        batch
    }

    /// # Safety
    /// The pointers and lengths are of slices.
    pub unsafe fn read(&self, size: usize) -> Images<'_> {
        // SAFETY: as above.
        unsafe {
            let pixels = if self.floats.is_null() {
                Pixels::Byte(slice::from_raw_parts(self.bytes, self.length))
            } else {
                Pixels::Float(slice::from_raw_parts(self.floats, self.length))
            };
            let order = (!self.order.is_null()).then(|| Order {
                indices: slice::from_raw_parts(self.order, self.order_length),
                dataset: Unique::numbered(self.dataset),
                labels: slice::from_raw_parts(self.labels, self.length / size),
            });
            let mut images = Images { pixels, size, order, views: None };
            if !self.views.is_null() {
                images.views = Some(slice::from_raw_parts(self.views, images.count()));
            }
            images
        }
    }
}

/// What images are trained towards.
#[repr(C)]
pub struct TargetsThere {
    /// A label for each image.
    labels: *const u8,
    /// A weight for each image, or NULL.
    weights: *const f32,
}

impl TargetsThere {
    pub fn new(targets: &Targets) -> Self {
        let weights = targets.weights.map_or(null(), <[f32]>::as_ptr);
        TargetsThere { labels: targets.labels.as_ptr(), weights }
    }

    /// # Safety
    /// The pointers are of slices of `count` elements.
    pub unsafe fn read(&self, count: usize) -> Targets<'_> {
        // SAFETY: as above.
        unsafe {
            let labels = slice::from_raw_parts(self.labels, count);
            let weights = self.weights;
            let weights = (!weights.is_null()).then(|| slice::from_raw_parts(weights, count));
            Targets { labels, weights }
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct SeenThere {
    pub loss: f64,
    pub correct: u64,
}

impl From<Seen> for SeenThere {
    fn from(seen: Seen) -> Self {
        SeenThere { loss: seen.loss, correct: seen.correct as u64 }
    }
}

impl From<SeenThere> for Seen {
    fn from(seen: SeenThere) -> Self {
        Seen { loss: seen.loss, correct: seen.correct as usize }
    }
}

#[repr(C)]
pub struct RunThere {
    batch: Batch,
    targets: TargetsThere,
    /// Images of the run.
    count: usize,
    /// Images of a step.
    size: usize,
    /// The first step. Those after it have its optimizer and the numbers that follow.
    first: StepThere,
    /// One a step.
    learning_rates: *const f64,
    steps: usize,
}

impl RunThere {
    pub fn new(run: &Run) -> Self {
        RunThere {
            batch: Batch::new(&run.images),
            targets: TargetsThere::new(&run.targets),
            count: run.targets.labels.len(),
            size: run.batch,
            first: StepThere::new(run.step(0)),
            learning_rates: run.learning_rates.as_ptr(),
            steps: run.learning_rates.len(),
        }
    }

    /// # Safety
    /// The pointers and lengths are of slices; an image has `size` pixels.
    pub unsafe fn read(&self, size: usize) -> Result<Run<'_>> {
        let Step { optimizer, number, .. } = self.first.read()?;
        // SAFETY: as above.
        let (images, targets, learning_rates) = unsafe {
            (
                self.batch.read(size),
                self.targets.read(self.count),
                slice::from_raw_parts(self.learning_rates, self.steps),
            )
        };
        Ok(Run { images, targets, batch: self.size, optimizer, number, learning_rates })
    }
}

/// How far a run came.
#[repr(C)]
#[derive(Default)]
pub struct RanThere {
    /// Completed steps.
    pub steps: u64,
    /// Steps that were computed: one more if that one is not finite.
    pub seen: u64,
}

#[repr(C)]
pub struct StepThere {
    rule: u32,
    reserved: u32,
    momentum: f64,
    weight_decay: f64,
    number: u64,
    learning_rate: f64,
}

impl StepThere {
    pub fn new(step: Step) -> Self {
        let Optimizer { rule, momentum, weight_decay } = step.optimizer;
        let (number, learning_rate) = (step.number, step.learning_rate);
        let rule = self::number(rule, &RULES);
        StepThere { rule, reserved: 0, momentum, weight_decay, number, learning_rate }
    }

    pub fn read(&self) -> Result<Step> {
        let rule = numbered(self.rule, &RULES)?;
        let (momentum, weight_decay) = (self.momentum, self.weight_decay);
        let optimizer = Optimizer { rule, momentum, weight_decay };
        Ok(Step { optimizer, number: self.number, learning_rate: self.learning_rate })
    }
}
