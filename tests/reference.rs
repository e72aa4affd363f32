//! Is it the seed's network? PyTorch's logits, loss, gradients and parameters after five steps, as
//! `tests/reference/make.py` recorded them, against ours: within 1e-5 of each tensor's largest value.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use lenet::ffi::*;
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use support::{Model, ok, preset, refused};

/// Batches that each optimizer trained with, the first of them that of logits, loss and gradient.
const STEPS: usize = 5;
const TOLERANCE: f32 = 1e-5;

const NAMES: [&str; 10] = [
    "conv1.weight",
    "conv1.bias",
    "conv2.weight",
    "conv2.bias",
    "fc1.weight",
    "fc1.bias",
    "fc2.weight",
    "fc2.bias",
    "fc3.weight",
    "fc3.bias",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/reference")
}

/// One file of the reference.
struct Reference {
    bytes: Vec<u8>,
    metadata: HashMap<String, String>,
}

impl Reference {
    fn open(name: &str) -> Self {
        let bytes = std::fs::read(folder().join(name)).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap_or_default();
        Reference { bytes, metadata }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.bytes).unwrap().tensor(name).unwrap().data().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let bytes = self.bytes(name);
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    /// The ten tensors `prefix.<name>`, one behind the other, as the flat vector has them.
    fn flat(&self, prefix: &str) -> Vec<f32> {
        NAMES.iter().flat_map(|name| self.floats(&format!("{prefix}.{name}"))).collect()
    }

    fn text(&self, key: &str) -> &str {
        self.metadata.get(key).unwrap_or_else(|| panic!("no {key} in the metadata"))
    }

    fn number(&self, key: &str) -> f64 {
        self.text(key).parse().unwrap()
    }

    /// Options of the case's network with an optimizer whose hyper-parameters have this prefix.
    fn options(&self, optimizer: &str) -> lenet_options {
        let mut options = preset(LENET_PRESET_CLASSIC);
        options.height = self.number("height") as u32;
        options.width = self.number("width") as u32;
        options.classes = self.number("classes") as u32;
        options.activation = match self.text("activation") {
            "sigmoid" => LENET_ACTIVATION_SIGMOID,
            "tanh" => LENET_ACTIVATION_TANH,
            "relu" => LENET_ACTIVATION_RELU,
            other => panic!("{other}"),
        };
        options.pooling = match self.text("pooling") {
            "avg" => LENET_POOLING_AVG,
            "max" => LENET_POOLING_MAX,
            other => panic!("{other}"),
        };
        options.padding =
            self.metadata.get("padding").map_or(2, |padding| padding.parse().unwrap());
        options.input_mean = self.number("input_mean");
        options.input_std = self.number("input_std");
        options.learning_rate = self.number(&format!("{optimizer}.learning_rate"));
        match optimizer {
            "sgd" => {}
            "momentum" => {
                options.momentum = self.number("momentum.momentum");
                options.weight_decay = self.number("momentum.weight_decay");
            }
            "adamw" => {
                options.optimizer = LENET_OPTIMIZER_ADAMW;
                options.weight_decay = self.number("adamw.weight_decay");
            }
            other => panic!("{other}"),
        }
        options
    }

    /// A model of the case's network with PyTorch's initial parameters.
    fn model(&self, optimizer: &str) -> Model {
        let model = Model::create(&self.options(optimizer));
        let parameters = self.flat("parameters");
        ok(unsafe { lenet_set_parameters(model.0, parameters.as_ptr(), parameters.len()) });
        model
    }
}

fn logits(model: &Model, images: &[u8], n: usize) -> Vec<f32> {
    let images: Vec<f32> = images.iter().map(|&p| f32::from(p) / 255.0).collect();
    model.logits(&images, n)
}

fn assert_close(what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let largest = theirs.iter().fold(0f32, |m, x| m.max(x.abs()));
    let error = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(
        error <= TOLERANCE * largest,
        "{what}: off by {:e} of the largest value {largest}",
        error / largest
    );
}

/// Compares a flat vector tensor by tensor.
fn assert_flat_close(what: &str, reference: &Reference, prefix: &str, ours: &[f32]) {
    let mut rest = ours;
    for name in NAMES {
        let theirs = reference.floats(&format!("{prefix}.{name}"));
        let (tensor, tail) = rest.split_at(theirs.len());
        assert_close(&format!("{what} {prefix}.{name}"), tensor, &theirs);
        rest = tail;
    }
    assert!(rest.is_empty());
}

fn check_case(case: &str) {
    let reference = Reference::open(&format!("{case}.safetensors"));
    let images = reference.bytes("images");
    let labels = reference.bytes("labels");
    let n = labels.len() / STEPS;
    let size = images.len() / STEPS;

    let model = reference.model("sgd");
    let ours = logits(&model, &images[..size], n);
    assert_close(&format!("{case} logits"), &ours, &reference.floats("logits"));

    let floats: Vec<f32> = images[..size].iter().map(|&p| f32::from(p) / 255.0).collect();
    let mut gradients = vec![0.0; model.parameters().len()];
    let mut loss = 0.0;
    ok(unsafe {
        lenet_compute_gradients(
            model.0,
            floats.as_ptr(),
            labels.as_ptr(),
            n,
            gradients.as_mut_ptr(),
            gradients.len(),
            &mut loss,
        )
    });
    assert_close(&format!("{case} loss"), &[loss], &reference.floats("loss"));
    assert_flat_close(case, &reference, "gradient", &gradients);

    for optimizer in ["sgd", "momentum", "adamw"] {
        let model = reference.model(optimizer);
        for (images, labels) in images.chunks(size).zip(labels.chunks(n)) {
            model.train(images, labels);
        }
        let ours = model.parameters();
        match optimizer {
            "adamw" => assert_adamw_close(case, &reference, &ours),
            _ => assert_flat_close(case, &reference, optimizer, &ours),
        }
    }
}

/// AdamW divides a gradient by the root of the mean square of those so far, which after step t is at
/// least the first one over the root of t. So rounding, 2e-6 of the tensor's largest gradient, moves a
/// parameter whose own first gradient is smaller by up to twice that ratio of the learning rate (once by
/// the gradient, once by the mean square), and where the gradient is within rounding of zero, either way.
/// Each parameter may be so far off, and one in 200 further than TOLERANCE.
fn assert_adamw_close(case: &str, reference: &Reference, ours: &[f32]) {
    let learning_rate = reference.number("adamw.learning_rate") as f32;
    let mut rest = ours;
    let mut apart = 0;
    for name in NAMES {
        let gradients = reference.floats(&format!("gradient.{name}"));
        let theirs = reference.floats(&format!("adamw.{name}"));
        let largest = |values: &[f32]| values.iter().fold(0f32, |m, x| m.max(x.abs()));
        let (rounding, near) = (2e-6 * largest(&gradients), TOLERANCE * largest(&theirs));
        let (tensor, tail) = rest.split_at(theirs.len());
        for (i, (gradient, (&ours, &theirs))) in
            gradients.iter().zip(tensor.iter().zip(&theirs)).enumerate()
        {
            let of_step = |t: usize| 2.0 * (rounding * (t as f32).sqrt() / gradient.abs()).min(1.0);
            let reach = near + learning_rate * (1..=STEPS).map(of_step).sum::<f32>();
            let error = (ours - theirs).abs();
            assert!(error <= reach, "{case} adamw.{name}[{i}] is {ours}, not {theirs}");
            apart += usize::from(error > near);
        }
        rest = tail;
    }
    assert!(rest.is_empty());
    assert!(200 * apart <= ours.len(), "{case}: {apart} of {} differ", ours.len());
}

#[test]
fn classic_is_pytorchs() {
    check_case("classic");
}

#[test]
fn modern_is_pytorchs() {
    check_case("modern");
}

#[test]
fn tanh_with_another_size_and_normalized_input_is_pytorchs() {
    check_case("tanh");
}

#[test]
fn the_other_combinations_are_pytorchs() {
    for case in ["sigmoid_max", "relu_avg", "tanh_max"] {
        check_case(case);
    }
}

#[test]
fn without_padding_it_is_pytorchs() {
    check_case("unpadded");
}

/// PyTorch's logits of a few images, tensors with this prefix.
fn assert_logits_of(file: &str, prefix: &str, model: &Model) {
    let expected = Reference::open(file);
    let theirs = expected.floats(&format!("{prefix}logits"));
    let ours = logits(model, &expected.bytes(&format!("{prefix}images")), theirs.len() / 10);
    assert_close(&format!("{file} {prefix}"), &ours, &theirs);
}

fn assert_logits(file: &str, model: &Model) {
    assert_logits_of(file, "", model);
}

#[test]
fn pytorchs_files_load_under_every_naming_scheme() {
    for scheme in ["named", "sequential", "reshape", "net"] {
        let path = folder().join(format!("pytorch_{scheme}.safetensors"));
        let model = Model::load(&path, &preset(LENET_PRESET_CLASSIC));
        assert_logits("pytorch_logits.safetensors", &model);
        let status = load_status(&path, null());
        let words = ["options is NULL", "activation, pooling, padding"];
        refused(scheme, status, LENET_ERROR_INVALID_ARGUMENT, &words);
    }
}

fn load_status(path: &Path, options: *const lenet_options) -> lenet_status {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    let mut model = null_mut();
    let status = unsafe { lenet_load(path.as_ptr(), options, &mut model) };
    assert!(model.is_null(), "loaded");
    status
}

/// ReLU, max pooling and no padding, for square images.
fn unpadded(side: u32) -> lenet_options {
    lenet_options { height: side, width: side, padding: 0, ..preset(LENET_PRESET_MODERN) }
}

#[test]
fn weights_load_as_others_write_them() {
    let lenet5 = lenet_options {
        activation: LENET_ACTIVATION_TANH,
        pooling: LENET_POOLING_AVG,
        ..unpadded(32)
    };
    let small = ["dataparallel", "compiled", "lightning", "nested", "half", "bfloat16", "double"];
    let small = small.map(|form| (form, unpadded(16)));
    for (form, options) in small.into_iter().chain([("tutorial", unpadded(28)), ("lenet5", lenet5)])
    {
        let model = Model::load(&folder().join(format!("foreign_{form}.safetensors")), &options);
        assert_logits_of("foreign_logits.safetensors", &format!("{form}."), &model);
        // What it became is a file of ours, which tells everything.
        let again = Model::from_bytes(&model.bytes());
        assert_eq!(again.options().padding, 0);
        assert_logits_of("foreign_logits.safetensors", &format!("{form}."), &again);
    }
}

/// Before, the first became a model of 24x24 images, the second one of 28x28.
#[test]
fn another_padding_or_size_than_the_files_is_refused_with_the_cause() {
    let cases = [
        (
            "tutorial",
            28,
            2,
            "28 x 28 with padding 2 gives 400; padding 0 gives 256: set padding to 0",
        ),
        (
            "tutorial",
            24,
            0,
            "24 x 24 with padding 0 gives 144; padding 2 gives 256: set padding to 2",
        ),
        (
            "tutorial",
            32,
            2,
            "32 x 32 with padding 2 gives 576; 24 x 24 with padding 2 or 28 x 28 with padding 0 gives 256",
        ),
        (
            "lenet5",
            32,
            2,
            "32 x 32 with padding 2 gives 576; padding 0 gives 400: set padding to 0",
        ),
        (
            "lenet5",
            28,
            0,
            "28 x 28 with padding 0 gives 256; padding 2 gives 400: set padding to 2",
        ),
    ];
    for (form, side, padding, cause) in cases {
        let path = folder().join(format!("foreign_{form}.safetensors"));
        let options = lenet_options { padding, ..unpadded(side) };
        let status = load_status(&path, &options);
        let inputs = if form == "lenet5" { "c5.weight has 400" } else { "fc1.weight has 256" };
        refused(form, status, LENET_ERROR_INCOMPATIBLE, &[&format!("{inputs} inputs; {cause}")]);
    }
    let options = lenet_options { classes: 26, ..unpadded(28) };
    let status = load_status(&folder().join("foreign_tutorial.safetensors"), &options);
    let said = "fc3.weight has 10 outputs; classes is 26: set it to 10";
    refused("classes", status, LENET_ERROR_INCOMPATIBLE, &[said]);
}

#[test]
fn what_a_pytorch_file_does_not_tell_comes_from_the_options() {
    let mut options = preset(LENET_PRESET_MODERN);
    options.input_mean = 0.25;
    let model = Model::load(&folder().join("pytorch_named.safetensors"), &options);
    let loaded = model.options();
    assert_eq!((loaded.activation, loaded.pooling), (LENET_ACTIVATION_RELU, LENET_POOLING_MAX));
    assert_eq!((loaded.optimizer, loaded.input_mean), (LENET_OPTIMIZER_ADAMW, 0.25));
    assert_eq!((loaded.height, loaded.width, loaded.classes), (28, 28, 10));
}

/// `saved_by_lenet.safetensors` is what this recipe saved when PyTorch loaded it (make.py). That the
/// recipe still saves the same bytes, and that PyTorch's logits are ours, shows that PyTorch would
/// load today's file as well. To make the file again: set LENET_WRITE_REFERENCE, then make.py.
#[test]
fn pytorch_loads_what_is_saved_here() {
    let options = lenet_options { seed: 2024, momentum: 0.9, ..preset(LENET_PRESET_CLASSIC) };
    let model = Model::create(&options);
    let path = folder().join("saved_by_lenet.safetensors");
    if std::env::var_os("LENET_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, model.bytes()).unwrap();
    }
    assert!(std::fs::read(&path).unwrap() == model.bytes(), "not the bytes that PyTorch has seen");
    assert_logits("saved_by_lenet_logits.safetensors", &model);
}
