//! A model as one safetensors file, and back.
//!
//! The tensors are `conv1.weight` ... `fc3.bias` with PyTorch's shapes, then the optimizer's running
//! averages, flat, as `optimizer.*`, then, in a fit that keeps the best, parameters and averages of that
//! as `best.*`. What else a model is goes as JSON under the single metadata key
//! `lenet`: one key, because safetensors writes several in random order and the same model should
//! make the same bytes.
//!
//! Reading is strict. Every name, type, shape and value is checked before anything is built, and a
//! tensor too many is refused like one too few. A file without our metadata may be a plain PyTorch
//! state_dict: `pytorch`.

mod course;
mod hash;
mod header;
mod pytorch;
mod tensors;

use crate::architecture::{Activation, Architecture, DEFAULT_PADDING, Pooling};
use crate::batch::Normalization;
use crate::calibration::{Calibration, NO_ANSWER, TEMPERATURES};
use crate::class_names::ClassNames;
use crate::error::{Code, Error, Result};
use crate::failpoint;
use crate::model::{Beginning, Model, Options};
use crate::optimizer::MAX_COUNT;
use crate::optimizer::{Optimizer, Rule};
use crate::prepare::Preparation;
use crate::standing::{Epoch, Standing};
use course::{CourseMetadata, best_tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// Version 1.0's format.
const FORMAT: u32 = 1;
/// That which has what came later too. It is written only for a model that uses some of it, so that
/// 1.0 reads the others, and calls this one a later format.
const LATER_FORMAT: u32 = 2;

/// The JSON under `header::METADATA_KEY`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    format: u32,
    height: u32,
    width: u32,
    classes: u32,
    activation: Activation,
    pooling: Pooling,
    input_mean: f64,
    input_std: f64,
    optimizer: Rule,
    learning_rate: f64,
    momentum: f64,
    weight_decay: f64,
    seed: u64,
    step: u64,
    epoch: u64,
    epoch_consumed: u64,
    epoch_count: u64,
    /// Of format 2: 32 hexadecimal digits, in the middle of an epoch only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch_dataset: Option<String>,
    /// Of format 2; missing: `DEFAULT_PADDING`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    padding: Option<u32>,
    /// Of format 2; missing: not calibrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calibration: Option<Calibrated>,
    /// Of format 2: 1; missing: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mirror: Option<u32>,
    /// Of format 2; missing: RESIZE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preparation: Option<Preparation>,
    /// Of format 2: of a fit that has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    course: Option<CourseMetadata>,
    /// Of format 2: one for each class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class_names: Option<Vec<String>>,
}

/// `Calibration` as a file has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Calibrated {
    temperature: f64,
    threshold: f64,
    coverage: f64,
    error: f64,
    loss_before: f64,
    loss_after: f64,
}

impl Calibrated {
    fn of(calibration: &Calibration) -> Option<Self> {
        let &Calibration { temperature, threshold, coverage, error, loss_before, loss_after } =
            calibration;
        let calibrated =
            Calibrated { temperature, threshold, coverage, error, loss_before, loss_after };
        calibration.is_calibrated().then_some(calibrated)
    }

    /// Refuses, by field, what `lenet_calibrate` cannot have found.
    fn read(&self) -> Result<Calibration> {
        let &Calibrated { temperature, threshold, coverage, error, loss_before, loss_after } = self;
        let fields = [
            ("temperature", temperature, TEMPERATURES[0]..=TEMPERATURES[1]),
            ("threshold", threshold, 0.0..=NO_ANSWER),
            ("coverage", coverage, 0.0..=1.0),
            ("error", error, 0.0..=1.0),
            ("loss_before", loss_before, 0.0..=f64::MAX),
            ("loss_after", loss_after, 0.0..=f64::MAX),
        ];
        match fields.iter().find(|(_, value, range)| !range.contains(value)) {
            None => {
                Ok(Calibration { temperature, threshold, coverage, error, loss_before, loss_after })
            }
            Some((name, value, _)) => {
                let message = format!("metadata: calibration.{name} is {value:?}");
                Err(Error::new(Code::Corrupt, message))
            }
        }
    }
}

impl Metadata {
    /// The fields of format 2, and whether they are there.
    fn later(&self) -> [(&'static str, bool); 7] {
        [
            ("calibration", self.calibration.is_some()),
            ("class_names", self.class_names.is_some()),
            ("course", self.course.is_some()),
            ("epoch_dataset", self.epoch_dataset.is_some()),
            ("mirror", self.mirror.is_some()),
            ("padding", self.padding.is_some()),
            ("preparation", self.preparation.is_some()),
        ]
    }
}

/// Read first, so that a later format is called that and not corrupt.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// The file's bytes, all of one published step.
pub fn save(model: &Model) -> Result<Vec<u8>> {
    let (options, state) = (model.options(), model.state());
    let architecture = options.architecture;
    let padding = architecture.padding() as u32;
    let padding = (padding != DEFAULT_PADDING).then_some(padding);
    let preparation = Some(options.preparation).filter(|&p| p != Preparation::default());
    let Standing { epoch, course } = &state.standing;
    let class_names = state.class_names.as_ref().map(|names| names.all().to_vec());
    let mut metadata = Metadata {
        format: FORMAT,
        height: architecture.height() as u32,
        width: architecture.width() as u32,
        classes: architecture.classes() as u32,
        activation: architecture.activation(),
        pooling: architecture.pooling(),
        input_mean: options.normalization.mean,
        input_std: options.normalization.std,
        optimizer: options.optimizer.rule,
        learning_rate: state.learning_rate,
        momentum: options.optimizer.momentum,
        weight_decay: options.optimizer.weight_decay,
        seed: options.seed,
        step: state.step,
        epoch: epoch.index,
        epoch_consumed: epoch.consumed,
        epoch_count: epoch.count,
        epoch_dataset: epoch.dataset.map(hash::to_hex),
        padding,
        calibration: Calibrated::of(&state.calibration),
        mirror: options.mirror.then_some(1),
        preparation,
        course: course.as_ref().map(CourseMetadata::new),
        class_names,
    };
    if metadata.later().iter().any(|(_, is_there)| *is_there) {
        metadata.format = LATER_FORMAT;
    }
    let internal = |e: &dyn std::fmt::Display| Error::new(Code::Internal, format!("save: {e}"));
    let metadata = serde_json::to_string(&metadata).map_err(|e| internal(&e))?;

    let parameters = little_endian(&state.weights.row(0)?);
    let mut tensors = Vec::new();
    for spec in architecture.parameters() {
        let bytes = &parameters[4 * spec.range().start..4 * spec.range().end];
        tensors.push((spec.name.to_string(), spec.shape().to_vec(), bytes));
    }
    let names = options.optimizer.state_names();
    let averages: Vec<Vec<u8>> = (1..=names.len())
        .map(|i| Ok(little_endian(&state.weights.row(i)?)))
        .collect::<Result<_>>()?;
    let flat = vec![architecture.parameter_count()];
    for (name, bytes) in names.iter().zip(&averages) {
        tensors.push((optimizer_tensor(name), flat.clone(), bytes));
    }
    let kept = course.as_ref().and_then(|course| course.kept.as_ref());
    let best = kept.map_or(Ok(Vec::new()), |kept| kept.weights.values().rows())?;
    let best: Vec<Vec<u8>> = best.iter().map(|row| little_endian(row)).collect();
    for (name, bytes) in best_tensors(&options.optimizer).iter().zip(&best) {
        tensors.push((name.clone(), flat.clone(), bytes));
    }
    let views: Vec<_> = tensors
        .into_iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape, bytes)?)))
        .collect::<Result<_, safetensors::SafeTensorError>>()
        .map_err(|e| internal(&e))?;
    failpoint::point();
    let metadata = HashMap::from([(header::METADATA_KEY.to_string(), metadata)]);
    safetensors::serialize(views, Some(metadata)).map_err(|e| internal(&e))
}

/// The model in `bytes`. `options` gives device and threads; for a plain PyTorch file all that such a
/// file does not tell, so that it is refused unless they are `given` by the caller.
pub fn load(bytes: &[u8], options: &Options, given: bool) -> Result<Model> {
    let (names, metadata) = header::read(bytes)?;
    let tensors = SafeTensors::deserialize(bytes)
        .map_err(|e| Error::new(Code::Corrupt, format!("safetensors: {e}")))?;
    failpoint::point();
    match metadata {
        Some(metadata) => load_lenet(&tensors, &names, &metadata, options),
        None => pytorch::load(&tensors, &names, options, given),
    }
}

fn load_lenet(
    tensors: &SafeTensors,
    names: &BTreeSet<String>,
    metadata: &str,
    options: &Options,
) -> Result<Model> {
    let bad = |e: serde_json::Error| Error::new(Code::Corrupt, format!("metadata: {e}"));
    let Format { format } = serde_json::from_str(metadata).map_err(bad)?;
    if ![FORMAT, LATER_FORMAT].contains(&format) {
        let message =
            format!("the file has format {format}; this library reads {FORMAT} and {LATER_FORMAT}");
        return Err(Error::new(Code::Incompatible, message));
    }
    let metadata: Metadata = serde_json::from_str(metadata).map_err(bad)?;
    if format == FORMAT
        && let Some((field, _)) = metadata.later().iter().find(|(_, is_there)| *is_there)
    {
        let message = format!("metadata: {field} does not belong into format {FORMAT}");
        return Err(Error::new(Code::Corrupt, message));
    }
    let out_of_range = |e: Error| Error::new(Code::Corrupt, format!("metadata: {}", e.message));
    let architecture = Architecture::new(
        metadata.height,
        metadata.width,
        metadata.classes,
        metadata.activation,
        metadata.pooling,
    )
    .and_then(|architecture| architecture.with_padding(metadata.padding.unwrap_or(DEFAULT_PADDING)))
    .map_err(out_of_range)?;
    let mirror = metadata.mirror.unwrap_or(0);
    if mirror > 1 {
        return Err(out_of_range(Error::invalid(format!("mirror is {mirror}; it must be 0 or 1"))));
    }
    let options = Options {
        architecture,
        optimizer: Optimizer {
            rule: metadata.optimizer,
            momentum: metadata.momentum,
            weight_decay: metadata.weight_decay,
        },
        learning_rate: metadata.learning_rate,
        seed: metadata.seed,
        normalization: Normalization { mean: metadata.input_mean, std: metadata.input_std },
        mirror: mirror == 1,
        preparation: metadata.preparation.unwrap_or_default(),
        ..options.clone()
    };
    options.check().map_err(out_of_range)?;
    let epoch = Epoch {
        index: metadata.epoch,
        consumed: metadata.epoch_consumed,
        count: metadata.epoch_count,
        dataset: metadata
            .epoch_dataset
            .map(|hex| read_hash(&hex, metadata.epoch_consumed))
            .transpose()?,
    };
    let reachable = epoch.index.max(metadata.step) <= MAX_COUNT;
    if !reachable || (epoch.consumed > 0 && epoch.consumed >= epoch.count) {
        let message = format!("metadata: impossible progress: step {}, {epoch:?}", metadata.step);
        return Err(Error::new(Code::Corrupt, message));
    }

    let calibration = metadata.calibration.as_ref().map(Calibrated::read).transpose()?;
    let calibration = calibration.unwrap_or_default();

    let (optimizer, course) = (options.optimizer, metadata.course);
    let best_step = course.as_ref().and_then(CourseMetadata::best_step);
    let course = course.map(|course| course.read(metadata.step, epoch)).transpose()?;
    let averages: Vec<String> =
        optimizer.state_names().iter().map(|name| optimizer_tensor(name)).collect();
    let best = best_step.map_or(Vec::new(), |_| best_tensors(&optimizer));
    let expected = architecture.parameters().map(|spec| spec.name.to_string()).into_iter();
    let expected = expected.chain(averages.iter().chain(&best).cloned()).collect();
    tensors::check_names(names, &expected)?;
    let mut parameters = Vec::with_capacity(architecture.parameter_count());
    for spec in architecture.parameters() {
        parameters.extend(tensors::read_f32(tensors, spec.name, spec.shape())?);
    }
    let read_flat = |names: &[String]| -> Result<Vec<Vec<f32>>> {
        names.iter().map(|name| read_flat(tensors, name, architecture)).collect()
    };
    let kept = best_step.map(|step| Ok::<_, Error>((step, read_flat(&best)?))).transpose()?;
    let (averages, step) = (Some(read_flat(&averages)?), metadata.step);
    let standing = Standing { epoch, course };
    let class_names = metadata.class_names.map(|names| read_names(names, architecture.classes()));
    let class_names = class_names.transpose()?;
    Model::begin(
        options,
        Beginning { parameters, averages, step, standing, kept, calibration, class_names },
    )
}

/// Parameters or an average of them.
fn read_flat(tensors: &SafeTensors, name: &str, architecture: Architecture) -> Result<Vec<f32>> {
    let values = tensors::read_f32(tensors, name, &[architecture.parameter_count()])?;
    if name.ends_with(".exp_avg_sq")
        && let Some(i) = values.iter().position(|&x| x < 0.0)
    {
        return Err(Error::new(Code::Corrupt, format!("{name}[{i}] is {}", values[i])));
    }
    Ok(values)
}

/// The tensors of what was best, in the order of the rows of weights.
fn best_tensors(optimizer: &Optimizer) -> Vec<String> {
    let names = ["parameters"].into_iter().chain(optimizer.state_names().iter().copied());
    names.map(best_tensor).collect()
}

/// Names for so many classes.
fn read_names(names: Vec<String>, classes: usize) -> Result<ClassNames> {
    let bad = |why: String| Error::new(Code::Corrupt, format!("metadata: class_names: {why}"));
    if names.len() != classes {
        return Err(bad(format!("{} names of {classes} classes", names.len())));
    }
    ClassNames::new(names).map_err(|e| bad(e.message))
}

/// The hash of the dataset that an unfinished epoch was begun with.
fn read_hash(hex: &str, consumed: u64) -> Result<u128> {
    hash::from_hex(hex).filter(|_| consumed > 0).ok_or_else(|| {
        let message = format!("metadata: epoch_dataset is {hex:?} after {consumed} images");
        Error::new(Code::Corrupt, message)
    })
}

fn optimizer_tensor(name: &str) -> String {
    format!("optimizer.{name}")
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    // Not collected from an iterator of bytes, which takes ten times as long.
    let mut bytes = vec![0; size_of_val(values)];
    let (places, _) = bytes.as_chunks_mut::<4>();
    for (place, value) in places.iter_mut().zip(values) {
        *place = value.to_le_bytes();
    }
    bytes
}
