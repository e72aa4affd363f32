//! What is done to a model file.

use crate::number::Number;
use arbitrary::Arbitrary;
use serde_json::{Value, json};
use std::borrow::Cow;

/// One change. Those of the JSON come first, then those of its text, then those of the bytes.
#[derive(Arbitrary, Debug)]
pub enum Mutation {
    Offset {
        tensor: u8,
        end: bool,
        value: Number,
    },
    Shift {
        tensor: u8,
        by: i8,
    },
    Shape {
        tensor: u8,
        axis: u8,
        value: Number,
    },
    Rank {
        tensor: u8,
        axes: u8,
    },
    Dtype {
        tensor: u8,
        dtype: u8,
    },
    Rename {
        tensor: u8,
        name: Name,
    },
    Remove {
        tensor: u8,
    },
    /// Other names for all tensors, as other programs have them.
    Wrap(u8),
    /// Another type for all tensors, with as many elements as there are bytes for, or as many bytes.
    Retype {
        dtype: u8,
        data: bool,
    },
    Metadata {
        key: u8,
        value: Scalar,
    },
    /// Where a fit stands: images of an epoch, of how many, and the two counters.
    Counters {
        consumed: u8,
        count: u8,
        step: Number,
        epoch: Number,
    },
    /// A fit that has not ended, if the file is of one.
    Course {
        key: u8,
        value: Scalar,
    },
    MetadataText(String),
    MetadataKey(u8),
    HeaderByte {
        at: u16,
        byte: u8,
    },
    HeaderInsert {
        at: u16,
        text: Vec<u8>,
    },
    HeaderCut {
        at: u16,
        length: u8,
    },
    HeaderRepeat {
        at: u16,
        length: u8,
    },
    HeaderLength(Number),
    HeaderSpaces(u8),
    Float {
        at: u16,
        bits: u32,
    },
    Bytes {
        at: u16,
        bytes: Vec<u8>,
    },
    Truncate(u32),
    CutData(u8),
    Append(Vec<u8>),
}

/// A tensor's name.
#[derive(Arbitrary, Debug)]
pub enum Name {
    Known(u8),
    Sequential(u8, bool, bool),
    Any(String),
}

/// A value in the metadata.
#[derive(Arbitrary, Debug)]
pub enum Scalar {
    Whole(Number),
    Real(f64),
    Text(String),
    Known(u8),
    Null,
    Missing,
}

const KEYS: [&str; 21] = [
    "format",
    "height",
    "width",
    "classes",
    "activation",
    "pooling",
    "input_mean",
    "input_std",
    "optimizer",
    "learning_rate",
    "momentum",
    "weight_decay",
    "seed",
    "step",
    "epoch",
    "epoch_consumed",
    "epoch_count",
    "padding",
    "epoch_dataset",
    "mirror",
    "course",
];
const COURSE_KEYS: [&str; 9] =
    ["identity", "total", "epochs", "judged", "waited", "over", "seconds", "lowest", "best_step"];
/// What wrappers put before all names, and the five layers' names in nested modules.
const PREFIXES: [&str; 5] = ["module.", "_orig_mod.", "model.", "net.", "."];
const NESTED: [(&str, &str); 5] = [
    ("conv1.", "features.0."),
    ("conv2.", "features.3."),
    ("fc1.", "classifier.1."),
    ("fc2.", "classifier.3."),
    ("fc3.", "classifier.5."),
];
/// Types that become F32, and their bytes.
const FLOATS: [(&str, usize); 4] = [("F16", 2), ("BF16", 2), ("F64", 8), ("F32", 4)];
const DTYPES: [&str; 8] = ["F16", "BF16", "F64", "I8", "U8", "BOOL", "F4", "f32"];
const NAMES: [&str; 10] = [
    "__metadata__",
    "conv1.weight",
    "conv1.bias",
    "fc3.bias",
    "optimizer.momentum_buffer",
    "optimizer.exp_avg",
    "optimizer.exp_avg_sq",
    "best.parameters",
    "best.exp_avg_sq",
    "",
];
const WORDS: [&str; 8] = ["sigmoid", "tanh", "relu", "avg", "max", "sgd", "adamw", "Relu"];

/// A saved model, taken apart.
pub struct Base {
    /// All of it.
    pub bytes: Vec<u8>,
    header: Value,
    metadata: Value,
    /// Where its data begins.
    data: usize,
}

impl Base {
    pub fn new(bytes: Vec<u8>) -> Base {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let metadata = header["__metadata__"]["lenet"].as_str().unwrap();
        let metadata = serde_json::from_str(metadata).unwrap();
        Base { bytes, header, metadata, data: 8 + length }
    }
}

/// `base` with these changes, or what PyTorch would have saved of it with them.
pub fn mutated(base: &Base, pytorch: bool, mutations: &[Mutation]) -> Vec<u8> {
    if mutations.is_empty() && !pytorch {
        return base.bytes.clone();
    }
    let (mut header, mut metadata) = (base.header.clone(), base.metadata.clone());
    let mut data = Cow::Borrowed(&base.bytes[base.data..]);
    let mut key = "lenet";
    let mut text = None;
    let mut has_metadata = !pytorch;
    if pytorch {
        data = Cow::Owned(strip_optimizer(&mut header, &data));
    }
    header.as_object_mut().unwrap().remove("__metadata__");
    for mutation in mutations {
        match mutation {
            Mutation::Metadata { key, value } => {
                set(&mut metadata, KEYS[usize::from(*key) % KEYS.len()], value);
            }
            Mutation::Course { key, value } if metadata["course"].is_object() => {
                let key = COURSE_KEYS[usize::from(*key) % COURSE_KEYS.len()];
                set(&mut metadata["course"], key, value);
            }
            Mutation::Counters { consumed, count, step, epoch } => {
                metadata["epoch_consumed"] = json!(consumed % 8);
                metadata["epoch_count"] = json!(count % 8);
                metadata["step"] = json!(step.instead_of(0));
                metadata["epoch"] = json!(epoch.instead_of(0));
            }
            Mutation::MetadataText(other) => text = Some(other.clone()),
            Mutation::MetadataKey(choice) => match choice % 3 {
                0 => has_metadata = !has_metadata,
                1 => key = "format",
                _ => key = "Lenet",
            },
            Mutation::Wrap(choice) => wrap(&mut header, *choice),
            Mutation::Retype { dtype, data: change } => {
                retype(&mut header, &mut data, *dtype, *change);
            }
            _ => change_tensor(&mut header, mutation),
        }
    }
    if has_metadata {
        let text = text.unwrap_or_else(|| metadata.to_string());
        header["__metadata__"] = json!({ key: text });
    }
    let mut header = header.to_string().into_bytes();
    mutations.iter().for_each(|mutation| change_text(&mut header, mutation));
    let mut length = header.len() as u64;
    let mut data = &data[..];
    for mutation in mutations {
        match *mutation {
            Mutation::HeaderLength(value) => length = value.instead_of(length),
            Mutation::CutData(by) => data = &data[..data.len().saturating_sub(usize::from(by))],
            _ => {}
        }
    }
    let mut bytes = [&length.to_le_bytes(), &header[..], data].concat();
    mutations.iter().for_each(|mutation| change_bytes(&mut bytes, mutation));
    bytes
}

/// What PyTorch would save: parameters only, which lie before the averages or behind them.
fn strip_optimizer(header: &mut Value, old: &[u8]) -> Vec<u8> {
    let tensors = header.as_object_mut().unwrap();
    let is_state = |name: &str| name.starts_with("optimizer.") || name.starts_with("best.");
    let mut data = Vec::with_capacity(old.len());
    tensors.retain(|name, _| !is_state(name) && name != "__metadata__");
    for info in tensors.values_mut() {
        let offset = |i: usize| info["data_offsets"][i].as_u64().unwrap() as usize;
        let place = offset(0)..offset(1);
        let start = data.len();
        data.extend_from_slice(&old[place]);
        info["data_offsets"] = json!([start, data.len()]);
    }
    data
}

fn set(metadata: &mut Value, key: &str, value: &Scalar) {
    let old = metadata[key].as_u64().unwrap_or(0);
    metadata[key] = match value {
        Scalar::Whole(number) => json!(number.instead_of(old)),
        Scalar::Real(value) => json!(value),
        Scalar::Text(text) => json!(text),
        Scalar::Known(word) => json!(WORDS[usize::from(*word) % WORDS.len()]),
        Scalar::Null => Value::Null,
        Scalar::Missing => {
            metadata.as_object_mut().unwrap().remove(key);
            return;
        }
    };
}

fn wrap(header: &mut Value, choice: u8) {
    let tensors = std::mem::take(header.as_object_mut().unwrap());
    let prefix = PREFIXES.get(usize::from(choice) % (PREFIXES.len() + 1));
    let renamed = |name: String| match prefix {
        Some(prefix) => format!("{prefix}{name}"),
        None => match NESTED.iter().find(|(ours, _)| name.starts_with(ours)) {
            Some((ours, theirs)) => name.replacen(ours, theirs, 1),
            None => name,
        },
    };
    *header = tensors.into_iter().map(|(name, info)| (renamed(name), info)).collect();
}

/// As many elements of the new type as each tensor had, in new bytes made of the old ones; or the type
/// only.
fn retype(header: &mut Value, data: &mut Cow<[u8]>, dtype: u8, change: bool) {
    let (dtype, size) = FLOATS[usize::from(dtype) % FLOATS.len()];
    let mut new = Vec::new();
    for info in header.as_object_mut().unwrap().values_mut() {
        info["dtype"] = json!(dtype);
        let place = [0, 1].map(|i| info["data_offsets"][i].as_u64().unwrap_or(0) as usize);
        let Some(bytes) = data.get(place[0]..place[1]).filter(|_| change) else { continue };
        let start = new.len();
        for x in bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)) {
            match size {
                2 => new.extend_from_slice(&x.to_le_bytes()[2..]), // a BF16
                8 => new.extend_from_slice(&f64::from(x).to_le_bytes()),
                _ => new.extend_from_slice(&x.to_le_bytes()),
            }
        }
        info["data_offsets"] = json!([start, new.len()]);
    }
    if change {
        *data = Cow::Owned(new);
    }
}

fn change_tensor(header: &mut Value, mutation: &Mutation) {
    let tensors = header.as_object_mut().unwrap();
    let (Mutation::Offset { tensor, .. }
    | Mutation::Shift { tensor, .. }
    | Mutation::Shape { tensor, .. }
    | Mutation::Rank { tensor, .. }
    | Mutation::Dtype { tensor, .. }
    | Mutation::Rename { tensor, .. }
    | Mutation::Remove { tensor }) = *mutation
    else {
        return;
    };
    let Some(name) = tensors.keys().nth(usize::from(tensor) % tensors.len().max(1)).cloned() else {
        return;
    };
    let mut info = tensors.remove(&name).unwrap();
    let replace = |value: &mut Value, by: Number| {
        *value = json!(by.instead_of(value.as_u64().unwrap_or(0)));
    };
    let mut renamed = name;
    match mutation {
        Mutation::Offset { end, value, .. } => {
            replace(&mut info["data_offsets"][usize::from(*end)], *value);
        }
        Mutation::Shift { by, .. } => {
            for end in 0..2 {
                replace(&mut info["data_offsets"][end], Number::Near(*by));
            }
        }
        Mutation::Shape { axis, value, .. } => {
            let shape = info["shape"].as_array_mut().unwrap();
            let axis = usize::from(*axis) % (shape.len() + 1);
            if axis == shape.len() {
                shape.push(json!(1));
            }
            replace(&mut shape[axis], *value);
        }
        Mutation::Rank { axes, .. } => {
            info["shape"].as_array_mut().unwrap().truncate(usize::from(*axes) % 5);
        }
        Mutation::Dtype { dtype, .. } => {
            info["dtype"] = json!(DTYPES[usize::from(*dtype) % DTYPES.len()]);
        }
        Mutation::Rename { name, .. } => renamed = name.text(),
        _ => return,
    }
    tensors.insert(renamed, info);
}

impl Name {
    fn text(&self) -> String {
        match self {
            Name::Known(i) => NAMES[usize::from(*i) % NAMES.len()].into(),
            Name::Sequential(index, net, bias) => {
                let prefix = if *net { "net." } else { "" };
                format!("{prefix}{index}.{}", if *bias { "bias" } else { "weight" })
            }
            Name::Any(name) => name.clone(),
        }
    }
}

fn change_text(header: &mut Vec<u8>, mutation: &Mutation) {
    let length = header.len();
    let place = |at: u16| usize::from(at) % length.max(1);
    match mutation {
        Mutation::HeaderByte { at, byte } if length > 0 => header[place(*at)] = *byte,
        Mutation::HeaderInsert { at, text } => {
            let at = place(*at);
            header.splice(at..at, text.iter().copied());
        }
        Mutation::HeaderCut { at, length: cut } => {
            let at = place(*at);
            header.drain(at..(at + usize::from(*cut)).min(length));
        }
        Mutation::HeaderRepeat { at, length: more } => {
            let at = place(*at);
            let again = header[at..(at + usize::from(*more)).min(length)].to_vec();
            header.splice(at..at, again);
        }
        Mutation::HeaderSpaces(n) => header.extend(vec![b' '; usize::from(*n)]),
        _ => {}
    }
}

fn change_bytes(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let length = bytes.len();
    match mutation {
        // From the end, where the data is.
        Mutation::Float { at, bits } => {
            let at = length.saturating_sub(4 * (1 + usize::from(*at)));
            bytes[at..(at + 4).min(length)].copy_from_slice(&bits.to_le_bytes()[..4.min(length)]);
        }
        Mutation::Bytes { at, bytes: new } => {
            let at = usize::from(*at) % length.max(1);
            let n = new.len().min(length - at);
            bytes[at..at + n].copy_from_slice(&new[..n]);
        }
        Mutation::Truncate(keep) => bytes.truncate(*keep as usize % (length + 1)),
        Mutation::Append(more) => bytes.extend_from_slice(more),
        _ => {}
    }
}
