//! A panic inside any function of the library, at any of its failpoints: the caller gets INTERNAL, the
//! process lives, and the model is at a whole step, which predicts and can be saved. Training goes on
//! or, where the panic may have left something half-done, is refused.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use lenet::arm_failpoint;
use lenet::ffi::*;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::ptr::{null, null_mut};
use support::{Dataset, MadeData, Model, c_path, fit_options, last_error, name, ok};

/// What the calls are made with.
struct Fixture {
    data: MadeData,
    floats: Vec<f32>,
    dataset: Dataset,
    folder: tempfile::TempDir,
    /// Pictures, and a CSV file.
    own: tempfile::TempDir,
    saved: Vec<u8>,
    options: lenet_options,
    fit_options: lenet_fit_options,
    /// As many as there are parameters.
    numbers: Vec<f32>,
}

impl Fixture {
    fn new(model: &Model) -> Fixture {
        let data = MadeData::new(20, 16, 3);
        let folder = tempfile::tempdir().unwrap();
        let (mut images, mut labels) = (vec![0, 0, 8, 3], vec![0, 0, 8, 1]);
        for (header, sizes) in [(&mut images, &[20u32, 16, 16][..]), (&mut labels, &[20][..])] {
            sizes.iter().for_each(|size| header.extend(size.to_be_bytes()));
        }
        images.extend(&data.images);
        labels.extend(&data.labels);
        std::fs::write(folder.path().join("images"), images).unwrap();
        std::fs::write(folder.path().join("labels"), labels).unwrap();
        let (floats, dataset) = (data.floats(), Dataset::new(&data));
        let saved = model.bytes();
        std::fs::write(folder.path().join("model"), &saved).unwrap();
        let (options, numbers) = (model.options(), vec![0.125; model.parameters().len()]);
        let own = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(own.path().join("pictures/class")).unwrap();
        std::fs::write(own.path().join("pictures/class/1"), b"P5 1 1 255\n\x07").unwrap();
        std::fs::write(own.path().join("table"), "label,a,b\n1,2,3\n").unwrap();
        let fit_options = fit_options(1, 20);
        Fixture { data, floats, dataset, folder, own, saved, options, fit_options, numbers }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// What is not being tested passes no points.
fn unarmed(work: impl FnOnce()) {
    let left = arm_failpoint(None);
    work();
    arm_failpoint(left);
}

type Call = fn(&Model, &Fixture) -> lenet_status;

/// Calls that change a model.
const TRAINING: &[(&str, Call)] = &[
    ("lenet_train_batch", |m, f| {
        let (images, labels) = (f.floats.as_ptr(), f.data.labels.as_ptr());
        unsafe { lenet_train_batch(m.0, images, labels, 20, null_mut()) }
    }),
    ("lenet_train_batch_u8", |m, f| {
        let (images, labels) = (f.data.images.as_ptr(), f.data.labels.as_ptr());
        unsafe { lenet_train_batch_u8(m.0, images, labels, 20, null_mut()) }
    }),
    ("lenet_train_batch_weighted", |m, f| {
        let (images, labels, weights) =
            (f.floats.as_ptr(), f.data.labels.as_ptr(), f.numbers.as_ptr());
        unsafe { lenet_train_batch_weighted(m.0, images, labels, weights, 20, null_mut()) }
    }),
    ("lenet_train_batch_weighted_u8", |m, f| {
        let (images, labels, weights) =
            (f.data.images.as_ptr(), f.data.labels.as_ptr(), f.numbers.as_ptr());
        unsafe { lenet_train_batch_weighted_u8(m.0, images, labels, weights, 20, null_mut()) }
    }),
    ("lenet_fit", |m, f| unsafe {
        lenet_fit(m.0, f.dataset.0, f.dataset.0, &f.fit_options, None, null_mut())
    }),
    ("lenet_set_class_names", |m, _| {
        let names = [c"ant".as_ptr(), c"bee".as_ptr(), c"cat".as_ptr()];
        unsafe { lenet_set_class_names(m.0, names.as_ptr(), 3) }
    }),
    ("lenet_set_learning_rate", |m, _| unsafe { lenet_set_learning_rate(m.0, 0.25) }),
    ("lenet_calibrate", |m, f| unsafe { lenet_calibrate(m.0, f.dataset.0, 0.1, null_mut()) }),
    ("lenet_set_parameters", |m, f| unsafe {
        lenet_set_parameters(m.0, f.numbers.as_ptr(), f.numbers.len())
    }),
    ("lenet_apply_gradients", |m, f| unsafe {
        lenet_apply_gradients(m.0, f.numbers.as_ptr(), f.numbers.len())
    }),
];

fn picture(f: &Fixture) -> lenet_image {
    let (struct_size, format) = (size_of::<lenet_image>() as u32, LENET_FORMAT_RGBA8);
    let pixels = f.data.images.as_ptr();
    lenet_image { struct_size, format, height: 16, width: 16, stride: 0, pixels }
}

/// Calls that change nothing.
const READING: &[(&str, Call)] = &[
    ("lenet_device_count", |_, _| unsafe { lenet_device_count(LENET_DEVICE_CPU, &mut 0) }),
    ("lenet_options_init", |_, f| {
        let mut options = f.options;
        let size = size_of::<lenet_options>();
        unsafe { lenet_options_init(&mut options, size, LENET_PRESET_MODERN) }
    }),
    ("lenet_fit_options_init", |_, f| {
        let mut options = f.fit_options;
        let size = size_of::<lenet_fit_options>();
        unsafe { lenet_fit_options_init(&mut options, size, LENET_PRESET_MODERN) }
    }),
    ("lenet_create", |_, f| {
        let mut made = null_mut();
        let status = unsafe { lenet_create(&f.options, &mut made) };
        unarmed(|| unsafe { lenet_free(made) });
        status
    }),
    ("lenet_clone", |m, _| {
        let mut made = null_mut();
        let status = unsafe { lenet_clone(m.0, &mut made) };
        unarmed(|| unsafe { lenet_free(made) });
        status
    }),
    ("lenet_clone_with_classes", |m, _| {
        let mut made = null_mut();
        let status = unsafe { lenet_clone_with_classes(m.0, 5, &mut made) };
        unarmed(|| unsafe { lenet_free(made) });
        status
    }),
    ("lenet_get_options", |m, f| {
        let mut options = f.options;
        unsafe { lenet_get_options(m.0, &mut options) }
    }),
    ("lenet_get_layer", |m, _| {
        let mut layer: lenet_layer = unsafe { std::mem::zeroed() };
        layer.struct_size = size_of::<lenet_layer>() as u32;
        unsafe { lenet_get_layer(m.0, 3, &mut layer) }
    }),
    ("lenet_save", |m, f| unsafe { lenet_save(m.0, c_path(&f.path("model")).as_ptr()) }),
    ("lenet_load", |_, f| {
        let mut made = null_mut();
        let status = unsafe { lenet_load(c_path(&f.path("model")).as_ptr(), null(), &mut made) };
        unarmed(|| unsafe { lenet_free(made) });
        status
    }),
    ("lenet_save_buffer", |m, f| {
        let mut buffer = vec![0; f.saved.len()];
        let mut size = 0;
        unsafe { lenet_save_buffer(m.0, buffer.as_mut_ptr(), buffer.len(), &mut size) }
    }),
    ("lenet_load_buffer", |_, f| {
        let mut made = null_mut();
        let (buffer, size) = (f.saved.as_ptr(), f.saved.len());
        let status = unsafe { lenet_load_buffer(buffer, size, null(), &mut made) };
        unarmed(|| unsafe { lenet_free(made) });
        status
    }),
    ("lenet_dataset_open", |_, f| {
        let mut made = null_mut();
        let (images, labels) = (c_path(&f.path("images")), c_path(&f.path("labels")));
        let status = unsafe { lenet_dataset_open(images.as_ptr(), labels.as_ptr(), &mut made) };
        unarmed(|| unsafe { lenet_dataset_free(made) });
        status
    }),
    ("lenet_dataset_open_folder", |_, f| {
        let mut made = null_mut();
        let path = c_path(&f.own.path().join("pictures"));
        let status = unsafe { lenet_dataset_open_folder(path.as_ptr(), &f.options, &mut made) };
        unarmed(|| unsafe { lenet_dataset_free(made) });
        status
    }),
    ("lenet_dataset_open_folder_with", |_, f| {
        let mut made = null_mut();
        let path = c_path(&f.own.path().join("pictures"));
        let status = unsafe {
            let to = &mut made;
            lenet_dataset_open_folder_with(path.as_ptr(), &f.options, None, null_mut(), to)
        };
        unarmed(|| unsafe { lenet_dataset_free(made) });
        status
    }),
    ("lenet_predict_file", |m, f| {
        let path = c_path(&f.own.path().join("pictures/class/1"));
        unsafe { lenet_predict_file(m.0, path.as_ptr(), null_mut(), null_mut()) }
    }),
    ("lenet_dataset_open_csv", |_, f| {
        let mut made = null_mut();
        let path = c_path(&f.own.path().join("table"));
        let status = unsafe { lenet_dataset_open_csv(path.as_ptr(), 1, 2, &mut made) };
        unarmed(|| unsafe { lenet_dataset_free(made) });
        status
    }),
    ("lenet_dataset_split", |_, f| {
        let (mut first, mut rest) = (null_mut(), null_mut());
        let status = unsafe { lenet_dataset_split(f.dataset.0, 0.5, 1, &mut first, &mut rest) };
        unarmed(|| unsafe { lenet_dataset_free(first) });
        unarmed(|| unsafe { lenet_dataset_free(rest) });
        status
    }),
    ("lenet_dataset_class_counts", |_, f| unsafe {
        lenet_dataset_class_counts(f.dataset.0, [0; 3].as_mut_ptr(), 3)
    }),
    ("lenet_dataset_class_name", |_, f| unsafe {
        lenet_dataset_class_name(f.dataset.0, 0, null_mut(), 0, &mut 0)
    }),
    ("lenet_dataset_statistics", |_, f| unsafe {
        lenet_dataset_statistics(f.dataset.0, &mut 0.0, &mut 0.0)
    }),
    ("lenet_class_name", |m, _| unsafe { lenet_class_name(m.0, 0, null_mut(), 0, &mut 0) }),
    ("lenet_dataset_from_memory", |_, f| {
        let mut made = null_mut();
        let (images, labels) = (f.data.images.as_ptr(), f.data.labels.as_ptr());
        let status = unsafe { lenet_dataset_from_memory(images, labels, 20, 16, 16, &mut made) };
        unarmed(|| unsafe { lenet_dataset_free(made) });
        status
    }),
    ("lenet_dataset_size", |_, f| unsafe { lenet_dataset_size(f.dataset.0, &mut 0, &mut 0) }),
    ("lenet_dataset_read", |_, f| {
        let (mut images, mut labels) = (vec![0; 256], vec![0; 1]);
        let (images, labels) = (images.as_mut_ptr(), labels.as_mut_ptr());
        unsafe { lenet_dataset_read(f.dataset.0, 2, 1, images, labels) }
    }),
    ("lenet_predict", |m, f| {
        let (mut classes, mut out) = ([0; 20], [0.0; 60]);
        let (classes, out) = (classes.as_mut_ptr(), out.as_mut_ptr());
        unsafe { lenet_predict(m.0, f.floats.as_ptr(), 20, classes, out) }
    }),
    ("lenet_predict_u8", |m, f| {
        let (mut classes, mut out) = ([0; 20], [0.0; 60]);
        let (classes, out) = (classes.as_mut_ptr(), out.as_mut_ptr());
        unsafe { lenet_predict_u8(m.0, f.data.images.as_ptr(), 20, classes, out) }
    }),
    ("lenet_logits", |m, f| {
        let mut out = [0.0; 60];
        unsafe { lenet_logits(m.0, f.floats.as_ptr(), 20, out.as_mut_ptr()) }
    }),
    ("lenet_logits_u8", |m, f| {
        let mut out = [0.0; 60];
        unsafe { lenet_logits_u8(m.0, f.data.images.as_ptr(), 20, out.as_mut_ptr()) }
    }),
    ("lenet_features", |m, f| {
        let mut out = [0.0; 20 * 84];
        unsafe { lenet_features(m.0, f.floats.as_ptr(), 20, out.as_mut_ptr()) }
    }),
    ("lenet_features_u8", |m, f| {
        let mut out = [0.0; 20 * 84];
        unsafe { lenet_features_u8(m.0, f.data.images.as_ptr(), 20, out.as_mut_ptr()) }
    }),
    ("lenet_prepare_image", |m, f| {
        let mut out = [0; 256];
        unsafe { lenet_prepare_image(m.0, &picture(f), out.as_mut_ptr(), out.len()) }
    }),
    ("lenet_predict_image", |m, f| {
        let (mut class, mut out) = (0, [0.0; 3]);
        unsafe { lenet_predict_image(m.0, &picture(f), &mut class, out.as_mut_ptr()) }
    }),
    ("lenet_evaluate", |m, f| {
        let mut metrics: lenet_metrics = unsafe { std::mem::zeroed() };
        metrics.struct_size = size_of::<lenet_metrics>() as u32;
        unsafe { lenet_evaluate(m.0, f.dataset.0, &mut metrics, null_mut(), 0) }
    }),
    ("lenet_get_calibration", |m, _| {
        let mut found: lenet_calibration = unsafe { std::mem::zeroed() };
        found.struct_size = size_of::<lenet_calibration>() as u32;
        unsafe { lenet_get_calibration(m.0, &mut found) }
    }),
    ("lenet_get_parameters", |m, f| {
        let mut parameters = f.numbers.clone();
        unsafe { lenet_get_parameters(m.0, parameters.as_mut_ptr(), parameters.len()) }
    }),
    ("lenet_compute_gradients", |m, f| {
        let mut out = f.numbers.clone();
        let (images, labels) = (f.floats.as_ptr(), f.data.labels.as_ptr());
        let (out, length) = (out.as_mut_ptr(), out.len());
        unsafe { lenet_compute_gradients(m.0, images, labels, 20, out, length, null_mut()) }
    }),
    ("lenet_compute_gradients_u8", |m, f| {
        let mut out = f.numbers.clone();
        let (images, labels) = (f.data.images.as_ptr(), f.data.labels.as_ptr());
        let (out, length) = (out.as_mut_ptr(), out.len());
        unsafe { lenet_compute_gradients_u8(m.0, images, labels, 20, out, length, null_mut()) }
    }),
];

type Silent = fn(&Model, &Fixture);

/// Calls that return no status: the point that panics is passed on the way, and that is all.
const WITHOUT_STATUS: &[(&str, Silent)] = &[
    ("lenet_version", |_, _| assert!(!lenet_version().is_null())),
    ("lenet_version_number", |_, _| assert!(lenet_version_number() > 0)),
    ("lenet_build_info", |_, _| assert!(!lenet_build_info().is_null())),
    ("lenet_status_name", |_, _| assert!(!lenet_status_name(1).is_null())),
    ("lenet_last_error", |_, _| assert!(!lenet_last_error().is_null())),
    ("lenet_free", |_, _| unsafe { lenet_free(null_mut()) }),
    ("lenet_dataset_free", |_, _| unsafe { lenet_dataset_free(null_mut()) }),
    ("lenet_dataset_count", |_, f| {
        unsafe { lenet_dataset_count(f.dataset.0) };
    }),
    ("lenet_dataset_class_count", |_, f| {
        unsafe { lenet_dataset_class_count(f.dataset.0) };
    }),
    ("lenet_parameter_count", |m, _| {
        unsafe { lenet_parameter_count(m.0) };
    }),
];

fn model() -> Model {
    Model::create(&lenet_options { num_threads: 1, ..support::small_with_momentum() })
}

/// The call, panicking after `passed` points; false if it had no more of them and went through.
#[track_caller]
fn panics(name_of_call: &str, passed: u32, call: impl FnOnce() -> lenet_status) -> bool {
    arm_failpoint(Some(passed));
    let status = call();
    let through = arm_failpoint(None).is_some();
    if through {
        ok(status);
        return false;
    }
    assert_eq!(name(status), "LENET_ERROR_INTERNAL", "{name_of_call}, point {passed}");
    let message = last_error();
    assert!(message.contains("failpoint"), "{name_of_call}, point {passed}: {message}");
    true
}

/// The model computes, and a file of it holds its parameters.
#[track_caller]
fn assert_usable(model: &Model, fixture: &Fixture) {
    let (classes, _) = model.predict(&fixture.data.images, 20);
    let loaded = Model::from_bytes(&model.bytes());
    assert_eq!(loaded.parameters(), model.parameters());
    assert_eq!(loaded.predict(&fixture.data.images, 20).0, classes);
}

#[test]
fn a_panic_in_training_leaves_a_whole_step() {
    let original = model();
    let fixture = Fixture::new(&original);
    for (name_of_call, call) in TRAINING {
        let after = original.try_clone();
        ok(call(&after, &fixture));
        let wholes = [original.bytes(), after.bytes()];
        let mut refused = 0;
        for passed in 0.. {
            let model = original.try_clone();
            if !panics(name_of_call, passed, || call(&model, &fixture)) {
                assert!(passed >= 3, "{name_of_call} has {passed} points only");
                break;
            }
            let now = model.bytes();
            assert!(wholes.contains(&now), "{name_of_call}, point {passed}: half a step");
            assert_usable(&model, &fixture);
            let status = call(&model, &fixture);
            if status != LENET_OK {
                assert_eq!(name(status), "LENET_ERROR_INTERNAL");
                let message = last_error();
                assert!(message.contains("an earlier internal failure"), "{message}");
                refused += 1;
            }
        }
        assert!(refused > 0, "{name_of_call}: no point is inside the turn");
    }
}

#[test]
fn a_panic_in_a_call_that_reads_changes_nothing() {
    let model = model();
    let fixture = Fixture::new(&model);
    for (name_of_call, call) in READING {
        for passed in 0.. {
            if !panics(name_of_call, passed, || call(&model, &fixture)) {
                assert!(passed >= 1, "{name_of_call} has {passed} points only");
                break;
            }
            assert_eq!(model.bytes(), fixture.saved);
            let file = std::fs::read(fixture.path("model")).unwrap();
            assert!(file == fixture.saved, "{name_of_call}, point {passed}: the file is broken");
            let files = std::fs::read_dir(fixture.folder.path()).unwrap().count();
            assert_eq!(files, 3, "{name_of_call}, point {passed}: a temporary file was left");
            ok(call(&model, &fixture));
        }
        ok(call(&model, &fixture));
    }
    assert_usable(&model, &fixture);
}

#[test]
fn a_panic_in_a_call_without_a_status_stays_inside() {
    let model = model();
    let fixture = Fixture::new(&model);
    for (_, call) in WITHOUT_STATUS {
        for passed in 0..3 {
            arm_failpoint(Some(passed));
            call(&model, &fixture);
            arm_failpoint(None);
        }
    }
    assert_usable(&model, &fixture);
}

/// A function that is added to the header must be added here.
#[test]
fn no_function_of_the_header_is_left_out() {
    let header = include_str!("../include/lenet.h");
    let declared: BTreeSet<&str> = header
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter(|line| !line.starts_with("typedef"))
        .filter_map(|line| {
            let before = line.split_once('(')?.0;
            before.rsplit([' ', '*']).next().filter(|name| name.starts_with("lenet_"))
        })
        .collect();
    let status = TRAINING.iter().chain(READING).map(|(name, _)| *name);
    let tested: BTreeSet<&str> =
        status.chain(WITHOUT_STATUS.iter().map(|(name, _)| *name)).collect();
    assert_eq!(declared, tested);
}
