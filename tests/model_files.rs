//! Model files that are cut off, damaged, forged or somewhere they cannot be: each is refused with
//! the status that lenet.h promises and without a defect showing (LENET_ERROR_INTERNAL); and a save
//! that is refused leaves nothing behind.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use lenet::ffi::*;
use serde_json::{Value, json};
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};
use support::*;

/// A trained model with optimizer state.
fn trained(options: &lenet_options) -> Model {
    let model = Model::create(options);
    let data = MadeData::new(6, 16, 3);
    model.train(&data.images, &data.labels);
    model
}

fn adamw() -> lenet_options {
    small(LENET_PRESET_MODERN)
}

/// A model file taken apart, to be put together again with something wrong.
struct File {
    tensors: Vec<Tensor>,
    /// The JSON under "lenet"; a file from PyTorch has none.
    metadata: Option<Value>,
}

struct Tensor {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl File {
    fn of(model: &Model) -> File {
        let bytes = model.bytes();
        let (header, data) = split(&bytes);
        let header: Value = serde_json::from_slice(header).unwrap();
        let metadata = header["__metadata__"]["lenet"].as_str().unwrap();
        let tensors =
            header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
        let tensor = |(name, info): (&String, &Value)| {
            let number = |value: &Value| value.as_u64().unwrap() as usize;
            let place = number(&info["data_offsets"][0])..number(&info["data_offsets"][1]);
            let shape = info["shape"].as_array().unwrap().iter().map(number).collect();
            Tensor { name: name.clone(), dtype: "F32", shape, data: data[place].to_vec() }
        };
        File {
            tensors: tensors.map(tensor).collect(),
            metadata: Some(serde_json::from_str(metadata).unwrap()),
        }
    }

    /// What PyTorch would save of the same network.
    fn pytorch(model: &Model) -> File {
        let mut file = File::of(model);
        file.metadata = None;
        file.tensors.retain(|tensor| !tensor.name.starts_with("optimizer."));
        file
    }

    fn bytes(&self) -> Vec<u8> {
        let mut entries = Vec::new();
        if let Some(metadata) = &self.metadata {
            let lenet = Value::String(metadata.to_string());
            entries.push(format!(r#""__metadata__":{{"lenet":{lenet}}}"#));
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            let start = data.len();
            data.extend_from_slice(&tensor.data);
            entries.push(format!(
                r#""{}":{{"dtype":"{}","shape":{:?},"data_offsets":[{start},{}]}}"#,
                tensor.name,
                tensor.dtype,
                tensor.shape,
                data.len()
            ));
        }
        join(&format!("{{{}}}", entries.join(",")), &data)
    }

    fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    fn remove(&mut self, name: &str) {
        self.tensors.retain(|tensor| tensor.name != name);
    }

    fn add(&mut self, name: &str, values: &[f32]) {
        let data = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = vec![values.len()];
        self.tensors.push(Tensor { name: name.into(), dtype: "F32", shape, data });
    }

    fn set_metadata(&mut self, key: &str, value: Value) {
        self.metadata.as_mut().unwrap()[key] = value;
    }
}

impl Tensor {
    fn set(&mut self, index: usize, value: f32) {
        self.data[4 * index..][..4].copy_from_slice(&value.to_le_bytes());
    }
}

/// Header and data of a safetensors file.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = bytes.split_first_chunk().unwrap();
    rest.split_at(u64::from_le_bytes(*length) as usize)
}

fn join(header: &str, data: &[u8]) -> Vec<u8> {
    let length = header.len() as u64;
    [&length.to_le_bytes(), header.as_bytes(), data].concat()
}

#[track_caller]
fn load_refused(what: &str, bytes: &[u8], expected: lenet_status, words: &[&str]) {
    refused(what, load(bytes, null()), expected, words);
}

fn load(bytes: &[u8], options: *const lenet_options) -> lenet_status {
    Model::try_from_bytes(bytes, options).err().unwrap_or(LENET_OK)
}

/// What may come out when a file was damaged by chance: a documented refusal, or a model that can
/// be used and saved.
fn damage_is_survived(what: &str, bytes: &[u8]) -> lenet_status {
    // Those of the models here, as PyTorch's files do not tell them.
    match Model::try_from_bytes(bytes, &small_with_momentum()) {
        Err(status) => {
            let documented = [
                LENET_ERROR_FORMAT,
                LENET_ERROR_CORRUPT,
                LENET_ERROR_INCOMPATIBLE,
                LENET_ERROR_NON_FINITE,
            ];
            assert!(documented.contains(&status), "{what}: {} {}", name(status), last_error());
            assert!(!last_error().is_empty(), "{what}: no message");
            status
        }
        Ok(model) => {
            let options = model.options();
            let image = vec![127; (options.height * options.width) as usize];
            let mut class = 0;
            let status =
                unsafe { lenet_predict_u8(model.0, image.as_ptr(), 1, &mut class, null_mut()) };
            // A changed weight or input_std may well be too large.
            let usable = [LENET_OK, LENET_ERROR_DIVERGED].contains(&status);
            assert!(usable, "{what}: {} {}", name(status), last_error());
            assert!(!model.bytes().is_empty());
            LENET_OK
        }
    }
}

#[test]
fn the_file_put_together_again_is_the_same_model() {
    for options in [small_with_momentum(), adamw()] {
        let model = trained(&options);
        let again = Model::from_bytes(&File::of(&model).bytes());
        assert!(again.bytes() == model.bytes());
        let pytorch = Model::from_bytes_with(&File::pytorch(&model).bytes(), &options);
        assert_eq!(pytorch.parameters(), model.parameters());
    }
}

#[test]
fn a_file_that_is_cut_off_is_corrupt_wherever_it_ends() {
    let bytes = trained(&small_with_momentum()).bytes();
    let start = bytes.len() - split(&bytes).1.len();
    for end in 0..9 {
        load_refused("cut", &bytes[..end], LENET_ERROR_FORMAT, &["not a safetensors file"]);
    }
    let in_data = (0..1000).map(|i| start + i * (bytes.len() - start) / 1000);
    for end in (9..start).chain(in_data).chain([bytes.len() - 1]) {
        load_refused(&format!("cut at {end}"), &bytes[..end], LENET_ERROR_CORRUPT, &["buffer: "]);
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_survived() {
    let model = trained(&small_with_momentum());
    let files = [model.bytes(), File::pytorch(&model).bytes(), trained(&adamw()).bytes()];
    for mut bytes in files {
        let header = bytes.len() - split(&bytes).1.len();
        let mut refusals = 0;
        for bit in 0..8 * header {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let what = format!("bit {} of byte {}", bit % 8, bit / 8);
            refusals += usize::from(damage_is_survived(&what, &bytes) != LENET_OK);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(refusals > 6 * header, "only {refusals} of {} bits matter", 8 * header);
    }
}

#[test]
fn every_flipped_bit_of_the_data_is_another_number_or_refused() {
    let mut bytes = trained(&adamw()).bytes();
    let start = bytes.len() - split(&bytes).1.len();
    for i in 0..2000 {
        let at = start + i * (bytes.len() - start) / 2000;
        bytes[at] ^= 1 << (i % 8);
        damage_is_survived(&format!("byte {at}"), &bytes);
        bytes[at] ^= 1 << (i % 8);
    }
}

type Change = fn(&mut File);

#[test]
fn tensors_that_are_not_this_models_are_refused_by_name() {
    let (incompatible, not_finite) = (LENET_ERROR_INCOMPATIBLE, LENET_ERROR_NON_FINITE);
    let cases: &[(Change, lenet_status, &[&str])] = &[
        (|f| f.remove("fc2.bias"), incompatible, &["fc2.bias is missing"]),
        (|f| f.add("fc4.bias", &[1.0]), incompatible, &["fc4.bias does not belong"]),
        (|f| f.tensor("fc1.bias").name = "fc1.Bias".into(), incompatible, &["fc1.bias is missing"]),
        (|f| f.tensors.clear(), incompatible, &["is missing"]),
        (|f| f.add("conv1.bias", &[1.0; 6]), LENET_ERROR_CORRUPT, &["conv1.bias occurs twice"]),
        (
            |f| f.tensor("conv1.weight").shape = vec![6, 25],
            incompatible,
            &["conv1.weight is F32 [6, 25]", "F32 [6, 1, 5, 5]"],
        ),
        (
            |f| f.tensor("fc3.weight").shape = vec![84, 3],
            incompatible,
            &["fc3.weight is F32 [84, 3]", "[3, 84]"],
        ),
        (
            |f| {
                f.remove("fc3.bias");
                f.add("fc3.bias", &[0.0; 4]);
            },
            incompatible,
            &["fc3.bias is F32 [4]", "F32 [3]"],
        ),
        (
            |f| {
                f.remove("fc3.bias");
                f.add("fc3.bias", &[]);
            },
            incompatible,
            &["fc3.bias is F32 [0]", "F32 [3]"],
        ),
        (|f| f.tensor("fc3.bias").dtype = "I32", incompatible, &["fc3.bias is I32 [3]"]),
        (
            |f| {
                f.tensor("fc3.bias").dtype = "F16";
                f.tensor("fc3.bias").data.truncate(6);
            },
            incompatible,
            &["fc3.bias is F16 [3]"],
        ),
        (|f| f.tensor("fc3.bias").dtype = "F99", LENET_ERROR_CORRUPT, &["F99"]),
        (|f| f.tensor("fc3.bias").set(2, f32::NAN), not_finite, &["fc3.bias[2] is NaN"]),
        (
            |f| f.tensor("conv1.weight").set(0, f32::INFINITY),
            not_finite,
            &["conv1.weight[0] is inf"],
        ),
        (
            |f| f.tensor("fc1.weight").set(7679, f32::NEG_INFINITY),
            not_finite,
            &["fc1.weight[7679] is -inf"],
        ),
    ];
    let sgd = trained(&small_with_momentum());
    for (change, status, words) in cases {
        let mut ours = File::of(&sgd);
        change(&mut ours);
        load_refused("ours", &ours.bytes(), *status, words);
    }
}

#[test]
fn optimizer_state_goes_with_the_optimizer() {
    let incompatible = LENET_ERROR_INCOMPATIBLE;
    let sgd: &[(Change, lenet_status, &[&str])] = &[
        (|f| f.remove("optimizer.momentum_buffer"), incompatible, &["momentum_buffer is missing"]),
        (
            |f| f.set_metadata("momentum", json!(0.0)),
            incompatible,
            &["momentum_buffer does not belong"],
        ),
        (
            |f| f.tensor("optimizer.momentum_buffer").shape = vec![1, 20_791],
            incompatible,
            &["optimizer.momentum_buffer is F32 [1, 20791]"],
        ),
        (
            |f| f.tensor("optimizer.momentum_buffer").set(7, f32::NAN),
            LENET_ERROR_NON_FINITE,
            &["optimizer.momentum_buffer[7] is NaN"],
        ),
        (|f| f.set_metadata("optimizer", json!("adamw")), incompatible, &["exp_avg is missing"]),
        // A file without our metadata is PyTorch's, where an optimizer has no place.
        (|f| f.metadata = None, incompatible, &["momentum_buffer does not belong"]),
    ];
    let adam: &[(Change, lenet_status, &[&str])] = &[
        (|f| f.remove("optimizer.exp_avg"), incompatible, &["exp_avg is missing"]),
        (|f| f.remove("optimizer.exp_avg_sq"), incompatible, &["exp_avg_sq is missing"]),
        (
            |f| f.tensor("optimizer.exp_avg_sq").set(3, -1e-9),
            LENET_ERROR_CORRUPT,
            &["optimizer.exp_avg_sq[3] is -"],
        ),
    ];
    for (options, cases) in [(small_with_momentum(), sgd), (adamw(), adam)] {
        let model = trained(&options);
        for (change, status, words) in cases {
            let mut file = File::of(&model);
            change(&mut file);
            load_refused("optimizer", &file.bytes(), *status, words);
        }
    }
}

#[test]
fn metadata_is_strict() {
    let model = trained(&small_with_momentum());
    let corrupt = |key: &str, value: Value, words: &[&str]| {
        let mut file = File::of(&model);
        file.set_metadata(key, value.clone());
        load_refused(&format!("{key}: {value}"), &file.bytes(), LENET_ERROR_CORRUPT, words);
    };
    let keys: Vec<String> =
        File::of(&model).metadata.unwrap().as_object().unwrap().keys().cloned().collect();
    for key in &keys {
        let mut file = File::of(&model);
        file.metadata.as_mut().unwrap().as_object_mut().unwrap().remove(key);
        load_refused(key, &file.bytes(), LENET_ERROR_CORRUPT, &["metadata", key]);
        for value in [json!(null), json!([]), json!({}), json!("1"), json!(true)] {
            corrupt(key, value, &["metadata"]);
        }
        // The one number that may be negative.
        if key != "input_mean" {
            corrupt(key, json!(-1), &["metadata"]);
        }
    }
    corrupt("dropout", json!(0.5), &["metadata", "dropout"]);
    for size in [0, 12, 18, 260, u32::MAX] {
        corrupt("height", json!(size), &[&format!("height is {size}")]);
        corrupt("width", json!(size), &[&format!("width is {size}")]);
    }
    for classes in [0, 1, 257] {
        corrupt("classes", json!(classes), &[&format!("classes is {classes}")]);
    }
    for key in ["activation", "pooling", "optimizer"] {
        corrupt(key, json!("gelu"), &["metadata", "gelu"]);
    }
    corrupt("momentum", json!(1.0), &["momentum is 1"]);
    corrupt("input_std", json!(0.0), &["input_std is 0"]);
    for key in ["step", "epoch"] {
        corrupt(key, json!(u64::MAX), &["impossible progress", "18446744073709551615"]);
        corrupt(key, json!(1e30), &["metadata"]);
    }
    corrupt("epoch_consumed", json!(7), &["impossible progress", "consumed: 7"]);

    for format in [0u32, 3, u32::MAX] {
        let mut file = File::of(&model);
        file.set_metadata("format", json!(format));
        // Whatever else a later format has.
        file.set_metadata("dropout", json!(0.5));
        let said = format!("format {format}; this library reads 1 and 2");
        load_refused("format", &file.bytes(), LENET_ERROR_INCOMPATIBLE, &[&said]);
    }
    let mut file = File::of(&model);
    file.set_metadata("height", json!(20));
    load_refused("height", &file.bytes(), LENET_ERROR_INCOMPATIBLE, &["fc1.weight"]);
}

/// A file with nothing that 1.0 did not have is one that 1.0 reads, byte for byte; one with padding 0
/// is of a format that 1.0 refuses as a later one.
#[test]
fn padding_is_in_the_file_only_where_it_is_not_the_default() {
    let padded = File::of(&trained(&small_with_momentum())).metadata.unwrap();
    assert_eq!((&padded["format"], padded.get("padding")), (&json!(1), None));

    let model = trained(&lenet_options { padding: 0, ..small_with_momentum() });
    let metadata = File::of(&model).metadata.unwrap();
    assert_eq!((&metadata["format"], metadata.get("padding")), (&json!(2), Some(&json!(0))));
    // NULL options say padding 2, and the file is right.
    let loaded = Model::from_bytes(&model.bytes());
    assert_eq!(loaded.options().padding, 0);
    assert!(loaded.bytes() == model.bytes());

    let corrupt = LENET_ERROR_CORRUPT;
    let cases: [(Change, lenet_status, &[&str]); 6] = [
        (|f| f.set_metadata("padding", json!(1)), corrupt, &["metadata: padding is 1"]),
        (|f| f.set_metadata("padding", json!(u32::MAX)), corrupt, &["padding is 4294967295"]),
        (|f| f.set_metadata("padding", json!(-1)), corrupt, &["metadata"]),
        (|f| f.set_metadata("padding", json!("0")), corrupt, &["metadata"]),
        (|f| f.set_metadata("format", json!(1)), corrupt, &["padding does not belong"]),
        (
            |f| f.set_metadata("padding", json!(2)),
            LENET_ERROR_INCOMPATIBLE,
            &["fc1.weight is F32 [120, 16]", "[120, 64]"],
        ),
    ];
    for (change, status, words) in cases {
        let mut file = File::of(&model);
        change(&mut file);
        load_refused("padding", &file.bytes(), status, words);
    }
}

/// A file that was never calibrated says nothing of it; one that was is of format 2.
#[test]
fn a_calibration_is_in_the_file_and_every_number_of_it_is_checked() {
    let model = trained(&small_with_momentum());
    assert_eq!(File::of(&model).metadata.unwrap().get("calibration"), None);
    model.calibrate(&Dataset::new(&MadeData::new(30, 16, 3)), 0.1);
    let metadata = File::of(&model).metadata.unwrap();
    assert_eq!(metadata["format"], json!(2));
    let found = metadata["calibration"].as_object().unwrap().clone();
    assert_eq!(found.len(), 6);

    let refuse = |calibration: Value, words: &[&str]| {
        let mut file = File::of(&model);
        file.set_metadata("calibration", calibration);
        load_refused("calibration", &file.bytes(), LENET_ERROR_CORRUPT, words);
    };
    for key in found.keys() {
        let with = |value: Value| {
            let mut changed = found.clone();
            changed.insert(key.clone(), value);
            Value::Object(changed)
        };
        refuse(with(json!(-0.5)), &[&format!("metadata: calibration.{key} is -0.5")]);
        for value in [json!(null), json!("1"), json!([1]), json!(true)] {
            refuse(with(value), &["metadata"]);
        }
        if !key.starts_with("loss") {
            refuse(with(json!(20.5)), &[&format!("calibration.{key} is 20.5")]);
        }
        let mut without = found.clone();
        without.remove(key);
        refuse(Value::Object(without), &["metadata", key]);
    }
    let mut more = found;
    more.insert("bias".into(), json!(0.5));
    refuse(Value::Object(more), &["metadata", "bias"]);
    refuse(json!([]), &["metadata"]);
    let mut file = File::of(&model);
    file.set_metadata("format", json!(1));
    let words = ["calibration does not belong"];
    load_refused("format", &file.bytes(), LENET_ERROR_CORRUPT, &words);
}

/// As with padding 0: 1.0 would predict otherwise.
#[test]
fn mirror_is_in_the_file_only_where_it_is_1() {
    let model = trained(&lenet_options { mirror: 1, ..small_with_momentum() });
    let metadata = File::of(&model).metadata.unwrap();
    assert_eq!((&metadata["format"], metadata.get("mirror")), (&json!(2), Some(&json!(1))));
    let without = File::of(&trained(&small_with_momentum())).metadata.unwrap();
    assert_eq!((&without["format"], without.get("mirror")), (&json!(1), None));

    let corrupt = LENET_ERROR_CORRUPT;
    let cases: [(Change, lenet_status, &[&str]); 5] = [
        (|f| f.set_metadata("mirror", json!(2)), corrupt, &["metadata: mirror is 2"]),
        (|f| f.set_metadata("mirror", json!(-1)), corrupt, &["metadata"]),
        (|f| f.set_metadata("mirror", json!(true)), corrupt, &["metadata"]),
        (|f| f.set_metadata("format", json!(1)), corrupt, &["mirror does not belong"]),
        (|f| f.set_metadata("mirror", json!(0)), LENET_OK, &[]),
    ];
    for (change, status, words) in cases {
        let mut file = File::of(&model);
        change(&mut file);
        if status == LENET_OK {
            assert_eq!(Model::from_bytes(&file.bytes()).options().mirror, 0);
        } else {
            load_refused("mirror", &file.bytes(), status, words);
        }
    }

    // A plain PyTorch file does not tell, so the options do.
    let options = lenet_options { mirror: 1, ..small_with_momentum() };
    let loaded = Model::from_bytes_with(&File::pytorch(&model).bytes(), &options);
    assert_eq!(loaded.options().mirror, 1);
}

/// The same for GLYPH; RESIZE is what a file without it means.
#[test]
fn preparation_is_in_the_file_only_where_it_is_not_the_default() {
    let resizes = File::of(&trained(&small_with_momentum())).metadata.unwrap();
    assert_eq!((&resizes["format"], resizes.get("preparation")), (&json!(1), None));

    let glyph = LENET_PREPARE_GLYPH;
    let model = trained(&lenet_options { preparation: glyph, ..small_with_momentum() });
    assert_eq!(model.options().preparation, glyph);
    assert_eq!(model.try_clone().options().preparation, glyph);
    let metadata = File::of(&model).metadata.unwrap();
    let expected = (&json!(2), Some(&json!("glyph")));
    assert_eq!((&metadata["format"], metadata.get("preparation")), expected);
    // NULL options say RESIZE, and the file is right.
    let loaded = Model::from_bytes(&model.bytes());
    assert_eq!(loaded.options().preparation, glyph);
    assert!(loaded.bytes() == model.bytes());

    let cases: [(Change, &[&str]); 3] = [
        (|f| f.set_metadata("preparation", json!("Glyph")), &["metadata", "Glyph"]),
        (|f| f.set_metadata("preparation", json!(1)), &["metadata"]),
        (|f| f.set_metadata("format", json!(1)), &["preparation does not belong"]),
    ];
    for (change, words) in cases {
        let mut file = File::of(&model);
        change(&mut file);
        load_refused("preparation", &file.bytes(), LENET_ERROR_CORRUPT, words);
    }
}

/// Whatever can be loaded can be trained, saved and loaded again.
#[test]
fn the_last_step_and_epoch_stay_the_last() {
    let last = json!(i64::MAX);
    let mut file = File::of(&trained(&adamw()));
    for key in ["step", "epoch"] {
        file.set_metadata(key, last.clone());
    }
    let model = Model::from_bytes(&file.bytes());
    model.fit(&Dataset::new(&MadeData::new(8, 16, 3)), 1, 4);
    let again = File::of(&Model::from_bytes(&model.bytes()));
    let metadata = again.metadata.unwrap();
    assert_eq!((&metadata["step"], &metadata["epoch"]), (&last, &last));
    assert_eq!(metadata["epoch_consumed"], json!(0));
}

#[test]
fn headers_that_lie_are_refused() {
    let bytes = trained(&small_with_momentum()).bytes();
    let (header, data) = split(&bytes);
    let header = std::str::from_utf8(header).unwrap().trim_end();
    let corrupt = |what: &str, bytes: &[u8], words: &[&str]| {
        load_refused(what, bytes, LENET_ERROR_CORRUPT, words);
    };
    corrupt("surplus", &[&bytes[..], &[0]].concat(), &["safetensors"]);
    corrupt("missing", &bytes[..bytes.len() - 4], &["safetensors"]);
    corrupt("twice", &join(&header.replacen('{', r#"{"__metadata__":{},"#, 1), data), &["twice"]);
    corrupt("no object", &join(r#"{"__metadata__":[]}"#, &[]), &["header"]);
    corrupt("numbers", &join(r#"{"__metadata__":{"lenet":1}}"#, &[]), &["header"]);
    corrupt("no JSON", &join(r#"{"__metadata__":{"lenet":"{"}}"#, &[]), &["metadata"]);
    corrupt("no tensor", &join(r#"{"fc1.bias":1}"#, &[]), &["safetensors"]);
    corrupt("not closed", &join(r#"{"#, &[]), &["header"]);
    corrupt("twice closed", &join(&format!("{header}}}"), data), &["header"]);
    corrupt("nested", &join(&r#"{"a":"#.repeat(100_000), &[]), &["header"]);
    // Overlapping, reversed, beyond the end, and a shape whose size overflows.
    for (shape, offsets) in [
        ("[6]", "[0,24]"),
        ("[6]", "[24,0]"),
        ("[6]", "[4000000000,4000000024]"),
        ("[6]", "[18446744073709551592,18446744073709551615]"),
        ("[4294967296,4294967296,4294967296]", "[0,24]"),
        ("[0,18446744073709551615]", "[0,24]"),
    ] {
        let tensor =
            format!(r#"{{"x":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}},"#);
        corrupt(offsets, &join(&header.replacen('{', &tensor, 1), data), &["safetensors"]);
    }
    let no_tensors = join("{}", &[]);
    load_refused("no tensors", &no_tensors, LENET_ERROR_INCOMPATIBLE, &["has no tensors"]);

    for bytes in [&b""[..], b"{}", b"PK\x03\x04 a zip, as torch.save makes", &[0; 64], &[0xff; 64]]
    {
        load_refused("another file", bytes, LENET_ERROR_FORMAT, &["not a safetensors file"]);
    }
    let huge = [&100_000_001u64.to_le_bytes()[..], b"{}"].concat();
    load_refused("huge", &huge, LENET_ERROR_FORMAT, &["not a safetensors file"]);
}

#[test]
fn a_pytorch_file_must_be_a_lenet() {
    let incompatible = LENET_ERROR_INCOMPATIBLE;
    let cases: &[(Change, lenet_status, &[&str])] = &[
        (|f| f.remove("fc3.bias"), incompatible, &["fc3.bias is missing"]),
        (|f| f.add("bn.weight", &[1.0]), incompatible, &["bn.weight does not belong"]),
        (
            |f| f.tensor("fc1.weight").shape = vec![64, 120],
            incompatible,
            &[
                "fc1.weight is F32 [64, 120]; this model needs F32 [120, 64]; its axes are in another order",
            ],
        ),
        (
            |f| f.tensor("fc1.weight").shape = vec![7680],
            incompatible,
            &["fc1.weight is F32 [7680]"],
        ),
        // As MLX has it: channels last.
        (
            |f| f.tensor("conv2.weight").shape = vec![16, 5, 5, 6],
            incompatible,
            &["conv2.weight is F32 [16, 5, 5, 6]", "its axes are in another order than PyTorch's"],
        ),
        (|f| f.tensor("fc3.bias").shape = vec![], LENET_ERROR_CORRUPT, &["safetensors"]),
        (|f| f.tensor("fc3.bias").shape = vec![1, 3], incompatible, &["fc3.bias is F32 [1, 3]"]),
        (|f| f.tensor("fc2.weight").shape = vec![120, 84], incompatible, &["fc2.weight is F32"]),
        (|f| f.tensor("fc2.weight").dtype = "U32", incompatible, &["fc2.weight is U32"]),
        (
            |f| f.tensor("fc2.weight").set(1, f32::NAN),
            LENET_ERROR_NON_FINITE,
            &["fc2.weight[1] is NaN"],
        ),
        (
            |f| {
                f.tensor("fc1.weight").shape = vec![0, usize::MAX];
                f.tensor("fc1.weight").data.clear();
            },
            incompatible,
            &["fc1.weight is F32 [0, 18446744073709551615]"],
        ),
    ];
    let options = small_with_momentum();
    let model = trained(&options);
    for (change, status, words) in cases {
        let mut file = File::pytorch(&model);
        change(&mut file);
        refused("pytorch", load(&file.bytes(), &options), *status, words);
    }
}

/// The same ten tensors under other names.
fn renamed(model: &Model, layers: [&str; 5]) -> File {
    let mut file = File::pytorch(model);
    for tensor in &mut file.tensors {
        let (layer, kind) = tensor.name.split_once('.').unwrap();
        let ours = ["conv1", "conv2", "fc1", "fc2", "fc3"];
        let at = ours.iter().position(|&name| name == layer).unwrap();
        tensor.name = format!("{}.{kind}", layers[at]);
    }
    file
}

#[test]
fn the_layers_may_have_any_names() {
    let options = small_with_momentum();
    let model = trained(&options);
    let good = [
        ["0", "3", "7", "9", "11"],
        ["2", "3", "10", "11", "100"],
        ["net.0", "net.3", "net.7", "net.9", "net.11"],
        [
            "module.model.conv1",
            "module.model.conv2",
            "module.model.fc1",
            "module.model.fc2",
            "module.model.fc3",
        ],
        [
            "_orig_mod.module.0",
            "_orig_mod.module.3",
            "_orig_mod.module.7",
            "_orig_mod.module.9",
            "_orig_mod.module.11",
        ],
        [
            "state_dict.conv1",
            "state_dict.conv2",
            "state_dict.fc1",
            "state_dict.fc2",
            "state_dict.fc3",
        ],
        ["features.0", "features.3", "classifier.1", "classifier.3", "classifier.5"],
        ["features.module.0", "features.module.3", "classifier.0", "classifier.2", "classifier.4"],
        ["b", "a", "e", "d", "c"],
        ["C1", "C3", "C5", "F6", "OUTPUT"],
    ];
    for names in good {
        let loaded = Model::from_bytes_with(&renamed(&model, names).bytes(), &options);
        assert_eq!(loaded.parameters(), model.parameters(), "{names:?}");
    }
    let refuse = |what: &str, file: &File, words: &[&str]| {
        refused(what, load(&file.bytes(), &options), LENET_ERROR_INCOMPATIBLE, words);
    };
    // An nn.Sequential computes in the order of its numbers.
    let names = ["3", "0", "7", "9", "11"];
    refuse("order", &renamed(&model, names), &["module 0 cannot follow module 3"]);
    let names = ["net.0", "net.00", "net.7", "net.9", "net.11"];
    refuse(
        "the same number",
        &renamed(&model, names),
        &["module net.00 cannot follow module net.0"],
    );
    // Names that are ours are believed.
    let names = ["conv1", "conv2", "fc2", "fc1", "fc3"];
    refuse("ours", &renamed(&model, names), &["fc1.weight is F32 [84, 120]"]);
}

/// A refusal says what was found, as far as a message can.
#[test]
fn other_networks_are_refused_by_what_they_have() {
    let options = small_with_momentum();
    let model = trained(&options);
    let refuse = |what: &str, file: &File, words: &[&str]| {
        refused(what, load(&file.bytes(), &options), LENET_ERROR_INCOMPATIBLE, words);
    };
    let numbered = || renamed(&model, ["0", "4", "9", "11", "13"]);

    let mut batch_norm = numbered();
    batch_norm.add("1.weight", &[1.0; 6]);
    batch_norm.add("1.bias", &[1.0; 6]);
    batch_norm.add("1.running_mean", &[1.0; 6]);
    batch_norm.add("1.num_batches_tracked", &[1.0]);
    let said = "tensors 1.num_batches_tracked, 1.running_mean do not belong into this model";
    refuse("batch norm", &batch_norm, &[said, "the file has 14 tensors: 0.bias, 0.weight, 1.bias"]);

    let mut named = File::pytorch(&model);
    named.add("bn1.num_batches_tracked", &[1.0]);
    refuse("a buffer", &named, &["tensor bn1.num_batches_tracked does not belong"]);

    let mut no_bias = numbered();
    no_bias.remove("0.bias");
    refuse(
        "no bias",
        &no_bias,
        &["tensor 0.bias is missing; the file has 9 tensors: 0.weight, 11"],
    );
    let mut no_bias = File::pytorch(&model);
    no_bias.remove("conv1.bias");
    refuse(
        "no bias",
        &no_bias,
        &["tensor conv1.bias is missing; the file has 9 tensors: conv1.weight"],
    );

    let mut trainer = numbered();
    trainer.add("optimizer.state.0.exp_avg", &[0.0; 3]);
    refuse("optimizer", &trainer, &["tensor optimizer.state.0.exp_avg does not belong"]);

    let mut wide = numbered();
    wide.tensor("0.weight").shape = vec![2, 3, 5, 5];
    let said = ["not LeNet's: 0.weight [2, 3, 5, 5], 11.weight [84, 120]", "[6, 1, 5, 5], [16, 6"];
    refuse("other sizes", &wide, &said);

    let mut six = numbered();
    six.add("15.weight", &[1.0; 84]);
    six.add("15.bias", &[1.0]);
    six.tensor("15.weight").shape = vec![1, 84];
    refuse("two that fit one place", &six, &["13.weight [3, 84], 15.weight [1, 84]"]);

    let mut many = File::pytorch(&model);
    many.tensors.clear();
    for i in 0..1000 {
        many.add(&format!("{i:0>100}.gamma"), &[]);
    }
    refuse("many", &many, &["and 988 more do not belong", "the file has 1000 tensors", "000..."]);
    assert!(last_error().len() < 2500, "{}", last_error().len());
    many.tensors.clear();
    refuse("none", &many, &["the file has no tensors"]);
}

#[test]
fn floats_of_other_precisions_are_read_and_must_fit() {
    let options = small_with_momentum();
    let model = trained(&options);
    let with = |name: &str, dtype: &'static str, bytes: Vec<u8>| {
        let mut file = File::pytorch(&model);
        let tensor = file.tensor(name);
        (tensor.dtype, tensor.data) = (dtype, bytes);
        load(&file.bytes(), &options)
    };
    let wide = |values: [f64; 3]| values.map(f64::to_le_bytes).concat();
    ok(with("fc3.bias", "F64", wide([0.5, -1e-300, f32::MAX.into()])));
    let not_finite = LENET_ERROR_NON_FINITE;
    for (value, said) in [
        (1e300, "fc3.bias[1] is 1e300, too large for a float"),
        (-3.5e38, "fc3.bias[1] is -3.5e38, too large for a float"),
        (f64::INFINITY, "fc3.bias[1] is inf"),
        (f64::NAN, "fc3.bias[1] is NaN"),
    ] {
        refused("F64", with("fc3.bias", "F64", wide([0.5, value, 0.0])), not_finite, &[said]);
    }
    let half = |bits: [u16; 3]| bits.map(u16::to_le_bytes).concat();
    ok(with("fc3.bias", "F16", half([0x3c00, 0x7bff, 0x0001])));
    ok(with("fc3.bias", "BF16", half([0x3f80, 0x7f7f, 0x0001])));
    for (dtype, bits, said) in [
        ("F16", 0x7c00, "fc3.bias[2] is inf"),
        ("F16", 0x7e00, "fc3.bias[2] is NaN"),
        ("BF16", 0xff80, "fc3.bias[2] is -inf"),
        ("BF16", 0x7fc0, "fc3.bias[2] is NaN"),
    ] {
        refused(dtype, with("fc3.bias", dtype, half([0, 0, bits])), not_finite, &[said]);
    }
    for (dtype, bytes) in [("I8", 3), ("U16", 6), ("I64", 24), ("F8_E4M3", 3), ("BOOL", 3)] {
        let said = format!("fc3.bias is {dtype} [3]; this model needs F32 [3]");
        let status = with("fc3.bias", dtype, vec![0; bytes]);
        refused(dtype, status, LENET_ERROR_INCOMPATIBLE, &[&said]);
    }
}

fn load_path(path: &CString) -> lenet_status {
    let mut model = null_mut();
    let status = unsafe { lenet_load(path.as_ptr(), null(), &mut model) };
    assert_eq!(model.is_null(), status != LENET_OK);
    unsafe { lenet_free(model) };
    status
}

fn save_path(model: &Model, path: &CString) -> lenet_status {
    unsafe { lenet_save(model.0, path.as_ptr()) }
}

/// Names in a folder, with their contents.
fn contents(folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut contents: Vec<_> = entries.map(|path| (path.clone(), fs::read(path).ok())).collect();
    contents.sort();
    contents
}

#[test]
fn files_that_cannot_be_loaded_say_their_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let model = trained(&small_with_momentum());
    let bytes = model.bytes();
    ok(save_path(&model, &c_path(&path("whole"))));
    assert!(fs::read(path("whole")).unwrap() == bytes);
    ok(load_path(&c_path(&path("whole"))));

    let refuse = |path: &Path, expected: lenet_status, words: &[&str]| {
        let shown = path.to_str().unwrap();
        refused(shown, load_path(&c_path(path)), expected, &[&[shown], words].concat());
    };
    for (i, end) in [0, 8, 9, 500, bytes.len() / 2, bytes.len() - 1].into_iter().enumerate() {
        let cut = path(&format!("cut-{i}"));
        fs::write(&cut, &bytes[..end]).unwrap();
        refuse(&cut, if end < 9 { LENET_ERROR_FORMAT } else { LENET_ERROR_CORRUPT }, &[]);
    }
    fs::write(path("text"), "conv1.weight = 0.1\n").unwrap();
    refuse(&path("text"), LENET_ERROR_FORMAT, &["not a safetensors file"]);
    refuse(Path::new("/dev/null"), LENET_ERROR_IO, &["not a regular file"]);
    refuse(&path("none"), LENET_ERROR_NOT_FOUND, &["cannot read"]);
    refuse(&path("none/model"), LENET_ERROR_NOT_FOUND, &["cannot read"]);
    refuse(folder.path(), LENET_ERROR_IO, &["cannot read"]);
    refuse(&path("whole/model"), LENET_ERROR_IO, &["cannot read"]);
    refuse(&path(&"x".repeat(300)), LENET_ERROR_IO, &["cannot read"]);

    let invalid = LENET_ERROR_INVALID_ARGUMENT;
    refused("empty", load_path(&CString::default()), invalid, &["path is empty"]);
    let latin1 = CString::new(b"caf\xe9").unwrap();
    refused("latin1", load_path(&latin1), invalid, &["path is not UTF-8 at byte 3"]);
}

#[test]
fn a_save_that_is_refused_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("folder")).unwrap();
    fs::write(path("file"), "old").unwrap();
    symlink(path("file"), path("link")).unwrap();
    symlink(path("nowhere"), path("dangling")).unwrap();
    let before = contents(folder.path());

    let model = trained(&small_with_momentum());
    let refuse = |path: &Path, expected: &[lenet_status]| {
        let shown = path.to_str().unwrap();
        let status = save_path(&model, &c_path(path));
        assert!(expected.contains(&status), "{shown}: {} {}", name(status), last_error());
        assert!(last_error().contains(shown.rsplit_once('/').unwrap().0), "{}", last_error());
    };
    let (io, not_found) = ([LENET_ERROR_IO], [LENET_ERROR_NOT_FOUND]);
    for place in ["folder", "link", "dangling", "file/model"] {
        refuse(&path(place), &io);
    }
    refuse(&path(&"x".repeat(300)), &io);
    refuse(Path::new("/dev/null"), &io);
    refuse(&path("missing/model"), &not_found);
    // Nobody, root included, can make a file there; the kernel chooses its words.
    refuse(Path::new("/proc/model"), &[LENET_ERROR_IO, LENET_ERROR_NOT_FOUND]);
    let invalid = LENET_ERROR_INVALID_ARGUMENT;
    refused("empty", save_path(&model, &CString::default()), invalid, &["path is empty"]);
    let latin1 = CString::new(b"caf\xe9").unwrap();
    refused("latin1", save_path(&model, &latin1), invalid, &["path is not UTF-8 at byte 3"]);

    assert!(contents(folder.path()) == before, "{:?}", fs::read_dir(folder.path()));
    assert!(fs::metadata("/dev/null").unwrap().permissions().mode() & 0o170_000 == 0o020_000);
}

#[test]
fn a_save_replaces_the_file_and_keeps_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let model = trained(&small_with_momentum());

    fs::write(path("plain"), "").unwrap();
    ok(save_path(&model, &c_path(&path("model"))));
    assert_eq!(mode(&path("model")), mode(&path("plain")), "not what the umask leaves");

    let data = MadeData::new(6, 16, 3);
    for kept in [0o600, 0o444, 0o666] {
        fs::set_permissions(path("model"), fs::Permissions::from_mode(kept)).unwrap();
        model.train(&data.images, &data.labels);
        ok(save_path(&model, &c_path(&path("model"))));
        assert_eq!(mode(&path("model")), kept);
        assert!(fs::read(path("model")).unwrap() == model.bytes());
    }
    assert_eq!(contents(folder.path()).len(), 2, "a temporary file was left");
}

/// Whatever of it is there when it is read, that is a model, whole, or refused.
#[test]
fn a_file_that_shrinks_and_grows_while_it_is_read_is_whole_or_refused() {
    let model = trained(&adamw());
    let file = File::of(&model).bytes();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    fs::write(&path, &file).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let target = fs::File::options().write(true).open(&path).unwrap();
            // Now and then it is left alone for a moment, so that a reader can find it whole.
            for cut in (0..file.len()).step_by(911).cycle() {
                target.set_len(cut as u64).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&target, &file, 0).unwrap();
                if cut % 2 == 1 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
            }
        });
        let (mut whole, mut refused) = (0, 0);
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut unexpected = false; // the other thread is to be told before this one panics
        let enough = |whole: u32, refused: u32| whole + refused >= 300 && whole > 0 && refused > 0;
        while !unexpected && !enough(whole, refused) && Instant::now() < deadline {
            let mut loaded = null_mut();
            let path = c_path(&path);
            let status = unsafe { lenet_load(path.as_ptr(), null(), &mut loaded) };
            if status == LENET_OK {
                unexpected = unexpected || Model(loaded).parameters() != model.parameters();
                whole += 1;
            } else {
                let as_cut_off = [LENET_ERROR_FORMAT, LENET_ERROR_CORRUPT, LENET_ERROR_IO];
                unexpected = unexpected || !as_cut_off.contains(&status) || !loaded.is_null();
                refused += 1;
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(!unexpected, "{}", last_error());
        assert!(whole > 0 && refused > 0, "{whole} whole, {refused} refused");
    });
}
