//! Is it the seed's network? PyTorch's logits, loss, gradients and parameters after five steps, as
//! `tests/reference/make.py` recorded them, against ours: within 1e-5 of each tensor's largest value.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

use lenet::ffi::*;
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::path::PathBuf;
use std::ptr::{null, null_mut};

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

fn ok(status: lenet_status) {
    let message = unsafe { CStr::from_ptr(lenet_last_error()) };
    assert_eq!(status, LENET_OK, "{message:?}");
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
        let mut model = null_mut();
        ok(unsafe { lenet_create(&self.options(optimizer), &mut model) });
        let parameters = self.flat("parameters");
        ok(unsafe { lenet_set_parameters(model, parameters.as_ptr(), parameters.len()) });
        Model(model)
    }
}

fn preset(preset: i32) -> lenet_options {
    let mut options = std::mem::MaybeUninit::uninit();
    let size = size_of::<lenet_options>();
    ok(unsafe { lenet_options_init(options.as_mut_ptr(), size, preset) });
    unsafe { options.assume_init() }
}

struct Model(*mut lenet_model);

impl Model {
    fn load(path: &str, options: *const lenet_options) -> Model {
        let path = CString::new(path).unwrap();
        let mut model = null_mut();
        ok(unsafe { lenet_load(path.as_ptr(), options, &mut model) });
        Model(model)
    }

    fn parameters(&self) -> Vec<f32> {
        let mut parameters = vec![0.0; unsafe { lenet_parameter_count(self.0) }];
        ok(unsafe { lenet_get_parameters(self.0, parameters.as_mut_ptr(), parameters.len()) });
        parameters
    }

    fn logits(&self, images: &[u8], n: usize, classes: usize) -> Vec<f32> {
        let images: Vec<f32> = images.iter().map(|&p| f32::from(p) / 255.0).collect();
        let mut logits = vec![0.0; n * classes];
        ok(unsafe { lenet_logits(self.0, images.as_ptr(), n, logits.as_mut_ptr()) });
        logits
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        unsafe { lenet_free(self.0) };
    }
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
    let n = labels.len() / 5;
    let size = images.len() / 5;

    let model = reference.model("sgd");
    let logits = reference.floats("logits");
    let ours = model.logits(&images[..size], n, logits.len() / n);
    assert_close(&format!("{case} logits"), &ours, &logits);

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
            ok(unsafe {
                lenet_train_batch_u8(model.0, images.as_ptr(), labels.as_ptr(), n, null_mut())
            });
        }
        assert_flat_close(case, &reference, optimizer, &model.parameters());
    }
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
fn pytorchs_files_load_under_every_naming_scheme() {
    let expected = Reference::open("pytorch_logits.safetensors");
    let (images, logits) = (expected.bytes("images"), expected.floats("logits"));
    let n = logits.len() / 10;
    for scheme in ["named", "sequential", "reshape", "net"] {
        let path = folder().join(format!("pytorch_{scheme}.safetensors"));
        let model = Model::load(path.to_str().unwrap(), null());
        assert_close(scheme, &model.logits(&images, n, 10), &logits);
    }
}

#[test]
fn what_a_pytorch_file_does_not_tell_comes_from_the_options() {
    let path = folder().join("pytorch_named.safetensors");
    let mut options = preset(LENET_PRESET_MODERN);
    options.input_mean = 0.25;
    let model = Model::load(path.to_str().unwrap(), &options);
    let mut loaded = preset(LENET_PRESET_CLASSIC);
    ok(unsafe { lenet_get_options(model.0, &mut loaded) });
    assert_eq!((loaded.activation, loaded.pooling), (LENET_ACTIVATION_RELU, LENET_POOLING_MAX));
    assert_eq!((loaded.optimizer, loaded.input_mean), (LENET_OPTIMIZER_ADAMW, 0.25));
    assert_eq!((loaded.height, loaded.width, loaded.classes), (28, 28, 10));
}

/// `saved_by_lenet.safetensors` is what this recipe saved when PyTorch loaded it (make.py). That the
/// recipe still saves the same names, shapes and metadata, and the file the same logits, shows that
/// PyTorch would load today's file as well.
#[test]
fn pytorch_loads_what_is_saved_here() {
    let mut options = preset(LENET_PRESET_CLASSIC);
    options.seed = 2024;
    options.momentum = 0.9;
    let mut model = null_mut();
    ok(unsafe { lenet_create(&options, &mut model) });
    let model = Model(model);
    let mut bytes = vec![0; 4 << 20];
    let mut needed = 0;
    ok(unsafe { lenet_save_buffer(model.0, bytes.as_mut_ptr(), bytes.len(), &mut needed) });
    bytes.truncate(needed);

    let path = folder().join("saved_by_lenet.safetensors");
    if std::env::var_os("LENET_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, &bytes).unwrap();
    }
    assert!(std::fs::read(&path).unwrap() == bytes, "not the bytes that PyTorch has seen");
    let expected = Reference::open("saved_by_lenet_logits.safetensors");
    let (images, logits) = (expected.bytes("images"), expected.floats("logits"));
    assert_close("logits", &model.logits(&images, logits.len() / 10, 10), &logits);
}
