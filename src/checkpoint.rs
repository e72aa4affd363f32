//! A model as one safetensors file, and back.
//!
//! The tensors are `conv1.weight` ... `fc3.bias` with PyTorch's shapes, then the optimizer's running
//! averages, flat, as `optimizer.*`. What else a model is goes as JSON under the single metadata key
//! `lenet`: one key, because safetensors writes several in random order and the same model should
//! make the same bytes.
//!
//! Reading is strict. Every name, type, shape and value is checked before anything is built, and a
//! tensor too many is refused like one too few. A file without our metadata may be a plain PyTorch
//! state_dict, whose architecture follows from its shapes and the caller's options.

use crate::architecture::{Activation, Architecture, CONV2_CHANNELS, Pooling};
use crate::batch::Normalization;
use crate::error::{Code, Error, Result};
use crate::failpoint;
use crate::model::{Epoch, MAX_COUNT, Model, Options, check_finite};
use crate::optimizer::{Optimizer, Rule};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::marker::PhantomData;

const METADATA_KEY: &str = "lenet";
const FORMAT: u32 = 1;

/// safetensors' own limit on the header's length.
const MAX_HEADER: u64 = 100_000_000;

/// The JSON under `METADATA_KEY`.
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
    /// 32 hexadecimal digits, in the middle of an epoch only: version 1.0 does not know this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch_dataset: Option<String>,
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
    let metadata = Metadata {
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
        epoch: state.epoch.index,
        epoch_consumed: state.epoch.consumed,
        epoch_count: state.epoch.count,
        epoch_dataset: state.epoch.dataset.map(|hash| format!("{hash:032x}")),
    };
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
    for (name, bytes) in names.iter().zip(&averages) {
        tensors.push((optimizer_tensor(name), vec![architecture.parameter_count()], bytes));
    }
    let views: Vec<_> = tensors
        .into_iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape, bytes)?)))
        .collect::<Result<_, safetensors::SafeTensorError>>()
        .map_err(|e| internal(&e))?;
    failpoint::point();
    let metadata = HashMap::from([(METADATA_KEY.to_string(), metadata)]);
    safetensors::serialize(views, Some(metadata)).map_err(|e| internal(&e))
}

/// The model in `bytes`. `options` gives device and threads; for a plain PyTorch file all that the
/// file does not tell: activation, pooling, normalisation, optimizer, and the image's proportions.
pub fn load(bytes: &[u8], options: &Options) -> Result<Model> {
    let (names, metadata) = read_header(bytes)?;
    let tensors = SafeTensors::deserialize(bytes)
        .map_err(|e| Error::new(Code::Corrupt, format!("safetensors: {e}")))?;
    failpoint::point();
    match metadata {
        Some(metadata) => load_lenet(&tensors, &names, &metadata, options),
        None => load_pytorch(&tensors, &names, options),
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
    if format != FORMAT {
        let message = format!("the file has format {format}; this library reads {FORMAT}");
        return Err(Error::new(Code::Incompatible, message));
    }
    let metadata: Metadata = serde_json::from_str(metadata).map_err(bad)?;
    let out_of_range = |e: Error| Error::new(Code::Corrupt, format!("metadata: {}", e.message));
    let architecture = Architecture::new(
        metadata.height,
        metadata.width,
        metadata.classes,
        metadata.activation,
        metadata.pooling,
    )
    .map_err(out_of_range)?;
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

    let averages = options.optimizer.state_names();
    let expected = architecture.parameters().map(|spec| spec.name.to_string()).into_iter();
    let expected = expected.chain(averages.iter().map(|name| optimizer_tensor(name))).collect();
    check_names(names, &expected)?;
    let parameters = read_parameters(tensors, architecture, |name| name.to_string())?;
    let count = [architecture.parameter_count()];
    let mut optimizer = Vec::new();
    for name in averages {
        let values = read_tensor(tensors, &optimizer_tensor(name), &count)?;
        if *name == "exp_avg_sq"
            && let Some(i) = values.iter().position(|&x| x < 0.0)
        {
            let message = format!("{}[{i}] is {}", optimizer_tensor(name), values[i]);
            return Err(Error::new(Code::Corrupt, message));
        }
        optimizer.push(values);
    }
    Model::restore(options, &parameters, Some(&optimizer), metadata.step, epoch)
}

/// The hash of the dataset that an unfinished epoch was begun with.
fn read_hash(hex: &str, consumed: u64) -> Result<u128> {
    let digits = hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let hash = u128::from_str_radix(hex, 16).ok();
    hash.filter(|_| digits && consumed > 0).ok_or_else(|| {
        let message = format!("metadata: epoch_dataset is {hex:?} after {consumed} images");
        Error::new(Code::Corrupt, message)
    })
}

fn load_pytorch(
    tensors: &SafeTensors,
    names: &BTreeSet<String>,
    options: &Options,
) -> Result<Model> {
    let ours = options.architecture.parameters().map(|spec| spec.name.to_string());
    let theirs = sequential_names(names).unwrap_or_else(|| ours.clone());
    check_names(names, &theirs.iter().cloned().collect())?;
    let renamed: HashMap<&str, &String> = ours.iter().map(String::as_str).zip(&theirs).collect();
    let rename = |name: &str| renamed[name].clone();

    let shape = |name: &str| tensors.tensor(&rename(name)).map_or(vec![], |t| t.shape().to_vec());
    let classes = shape("fc3.bias").first().copied().unwrap_or(0);
    let features = shape("fc1.weight").get(1).copied().unwrap_or(0);
    let architecture = proportions(options.architecture, features)
        .and_then(|(height, width)| {
            let (activation, pooling) =
                (options.architecture.activation(), options.architecture.pooling());
            let classes = u32::try_from(classes).unwrap_or(u32::MAX);
            Architecture::new(height, width, classes, activation, pooling).ok()
        })
        .ok_or_else(|| {
            Error::new(
                Code::Incompatible,
                format!("not a LeNet: {features} inputs of fc1 and {classes} classes; set height and width in the options if the images are not square"),
            )
        })?;
    let options = Options { architecture, ..options.clone() };
    let parameters = read_parameters(tensors, architecture, rename)?;
    Model::restore(options, &parameters, None, 0, Epoch::default())
}

/// Image height and width for a number of `fc1` inputs: those of the options if they fit, else the
/// square ones.
fn proportions(options: Architecture, features: usize) -> Option<(u32, u32)> {
    if options.features() == features {
        return Some((options.height() as u32, options.width() as u32));
    }
    let side = (features / CONV2_CHANNELS).isqrt();
    let fits = CONV2_CHANNELS.checked_mul(side * side) == Some(features);
    let image = u32::try_from(4 * (side.min(256) + 2)).ok()?;
    fits.then_some((image, image))
}

/// The ten names of an `nn.Sequential`'s state_dict in our order: `<integer>.weight` and `.bias` for
/// five integers, whatever they are; d2l's class puts `net.` before each.
fn sequential_names(names: &BTreeSet<String>) -> Option<[String; 10]> {
    let prefix = if names.iter().all(|name| name.starts_with("net.")) { "net." } else { "" };
    let mut layers: BTreeMap<u64, [Option<&String>; 2]> = BTreeMap::new();
    for name in names {
        let (index, tensor) = name.strip_prefix(prefix)?.split_once('.')?;
        if !index.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let tensor = ["weight", "bias"].iter().position(|&t| t == tensor)?;
        layers.entry(index.parse().ok()?).or_default()[tensor] = Some(name);
    }
    let ordered: Option<Vec<String>> =
        layers.values().flatten().map(|name| name.cloned()).collect();
    ordered?.try_into().ok()
}

/// Tensor names and our metadata, without the leniency of the library's reader: names that occur
/// twice are an error.
fn read_header(bytes: &[u8]) -> Result<(BTreeSet<String>, Option<String>)> {
    let not_safetensors = || Error::new(Code::Format, "not a safetensors file");
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(not_safetensors)?;
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER || rest.first() != Some(&b'{') {
        return Err(not_safetensors());
    }
    let json = rest
        .get(..length as usize)
        .ok_or_else(|| Error::new(Code::Corrupt, "the file ends inside its header"))?;
    let bad = |e: serde_json::Error| Error::new(Code::Corrupt, format!("header: {e}"));
    let Unique(mut header) = serde_json::from_slice::<Unique<Box<RawValue>>>(json).map_err(bad)?;
    let metadata = match header.remove("__metadata__") {
        None => None,
        Some(json) => {
            let Unique(mut entries) = serde_json::from_str(json.get()).map_err(bad)?;
            entries.remove(METADATA_KEY)
        }
    };
    Ok((header.into_keys().collect(), metadata))
}

/// A JSON object none of whose names occurs twice.
struct Unique<V>(BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<V>, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, V>()? {
                    if entries.contains_key(&name) {
                        return Err(A::Error::custom(format!("{name} occurs twice")));
                    }
                    entries.insert(name, value);
                }
                Ok(Unique(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

fn check_names(names: &BTreeSet<String>, expected: &BTreeSet<String>) -> Result<()> {
    let (what, name) = if let Some(missing) = expected.difference(names).next() {
        ("is missing", missing)
    } else if let Some(surplus) = names.difference(expected).next() {
        ("does not belong into this model", surplus)
    } else {
        return Ok(());
    };
    Err(Error::new(Code::Incompatible, format!("tensor {name} {what}")))
}

/// The flat parameter vector; `rename` gives the file's name for ours.
fn read_parameters(
    tensors: &SafeTensors,
    architecture: Architecture,
    rename: impl Fn(&str) -> String,
) -> Result<Vec<f32>> {
    let mut flat = Vec::with_capacity(architecture.parameter_count());
    for spec in architecture.parameters() {
        flat.extend(read_tensor(tensors, &rename(spec.name), spec.shape())?);
    }
    Ok(flat)
}

fn read_tensor(tensors: &SafeTensors, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let tensor = tensors
        .tensor(name)
        .map_err(|e| Error::new(Code::Corrupt, format!("tensor {name}: {e}")))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        return Err(Error::new(
            Code::Incompatible,
            format!(
                "tensor {name} is {:?} {:?}; this model needs F32 {shape:?}",
                tensor.dtype(),
                tensor.shape()
            ),
        ));
    }
    let (values, _) = tensor.data().as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    check_finite(name, &values)?;
    Ok(values)
}

fn optimizer_tensor(name: &str) -> String {
    format!("optimizer.{name}")
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}
