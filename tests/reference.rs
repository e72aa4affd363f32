//! Is it the seed's network? PyTorch's logits, loss, gradients and parameters after five steps, as
//! `tests/reference/make.py` recorded them, against ours: within 1e-5 of each tensor's largest value.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use lenet::ffi::*;
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::path::PathBuf;
use std::ptr::null;
use support::{Model, ok, preset};

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

/// PyTorch's logits of four images.
fn assert_logits(file: &str, model: &Model) {
    let expected = Reference::open(file);
    let theirs = expected.floats("logits");
    let ours = logits(model, &expected.bytes("images"), theirs.len() / 10);
    assert_close(file, &ours, &theirs);
}

#[test]
fn pytorchs_files_load_under_every_naming_scheme() {
    for scheme in ["named", "sequential", "reshape", "net"] {
        let model = Model::load(&folder().join(format!("pytorch_{scheme}.safetensors")), null());
        assert_logits("pytorch_logits.safetensors", &model);
    }
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
