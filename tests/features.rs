//! What the last layer sees, the byte twins of float functions, and models with other classes.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use lenet::ffi::*;
use std::ptr::{null, null_mut};
use support::{Dataset, MadeData, Model, fit_options, ok, small, small_with_momentum};

const FEATURES: usize = 84;

fn features(model: &Model, images: &[f32], n: usize) -> Vec<f32> {
    let mut features = vec![f32::NAN; n * FEATURES];
    ok(unsafe { lenet_features(model.0, images.as_ptr(), n, features.as_mut_ptr()) });
    features
}

/// Networks that take different ways: every activation, both poolings, large sides, many classes.
fn networks() -> Vec<lenet_options> {
    let (classic, modern) = (small(LENET_PRESET_CLASSIC), small(LENET_PRESET_MODERN));
    let activation = LENET_ACTIVATION_TANH;
    vec![
        classic,
        lenet_options { activation, classes: 256, input_mean: 0.3, ..classic },
        modern,
        lenet_options { height: 32, width: 32, padding: 0, ..modern },
    ]
}

/// fc3 by hand, in f64.
#[test]
fn fc3_makes_logits_of_features() {
    for options in networks() {
        let classes = options.classes as usize;
        for num_threads in [1, 2] {
            let model = Model::create(&lenet_options { num_threads, ..options });
            let trained = MadeData::new(30, options.height as usize, 3);
            (0..3).for_each(|_| _ = model.train(&trained.images, &trained.labels));
            let parameters = model.parameters();
            let (rest, bias) = parameters.split_at(parameters.len() - classes);
            let weights = &rest[rest.len() - classes * FEATURES..];
            for n in [1, 2, 3, 4, 7, 16, 33, 300] {
                let data = MadeData::new(n, options.height as usize, 3);
                let floats = data.floats();
                let logits = model.logits(&floats, n);
                let largest = logits.iter().fold(0f64, |m, x| m.max(f64::from(x.abs())));
                let features = features(&model, &floats, n);
                for (features, logits) in features.chunks(FEATURES).zip(logits.chunks(classes)) {
                    let rows = weights.chunks(FEATURES).zip(bias).zip(logits);
                    for ((row, &bias), &logit) in rows {
                        let pairs = row.iter().zip(features);
                        let ours: f64 = pairs.map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                        let off = ours + f64::from(bias) - f64::from(logit);
                        assert!(off.abs() <= 1e-5 * largest, "{n} images: {ours}, not {logit}");
                    }
                }
            }
        }
    }
}

#[test]
fn twins_for_bytes_are_the_functions_for_floats() {
    for options in networks() {
        let (size, classes) = (options.height as usize, options.classes as usize);
        let model = Model::create(&options);
        for n in [1, 5, 40, 300] {
            let data = MadeData::new(n, size, 3);
            let (floats, images, labels) =
                (data.floats(), data.images.as_ptr(), data.labels.as_ptr());
            let mut out = vec![f32::NAN; n * classes];
            ok(unsafe { lenet_logits_u8(model.0, images, n, out.as_mut_ptr()) });
            assert!(out == model.logits(&floats, n), "logits of {n} images");
            let mut out = vec![f32::NAN; n * FEATURES];
            ok(unsafe { lenet_features_u8(model.0, images, n, out.as_mut_ptr()) });
            assert!(out == features(&model, &floats, n), "features of {n} images");

            let length = model.parameters().len();
            let (mut ours, mut theirs) = (vec![f32::NAN; length], vec![f32::NAN; length]);
            let (mut loss, mut other) = (f32::NAN, f32::NAN);
            let (o, t, f) = (ours.as_mut_ptr(), theirs.as_mut_ptr(), floats.as_ptr());
            ok(unsafe {
                lenet_compute_gradients_u8(model.0, images, labels, n, o, length, &mut loss)
            });
            ok(unsafe { lenet_compute_gradients(model.0, f, labels, n, t, length, &mut other) });
            assert!(ours == theirs && loss == other, "gradients of {n} images");
        }
    }
}

fn with_classes(model: &Model, classes: u32) -> Model {
    let mut copy = null_mut();
    ok(unsafe { lenet_clone_with_classes(model.0, classes, &mut copy) });
    Model(copy)
}

/// Parameters and optimizer state, flat, each as all layers before fc3, fc3.weight and fc3.bias.
fn vectors(model: &Model) -> Vec<[Vec<f32>; 3]> {
    let bytes = model.bytes();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let optimizer = file.tensors().into_iter().filter(|(name, _)| name.starts_with("optimizer."));
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect()
    };
    let mut states: Vec<_> = optimizer.map(|(name, t)| (name, floats(t.data()))).collect();
    states.sort_by(|(a, _), (b, _)| a.cmp(b));
    let classes = model.options().classes as usize;
    let flat = std::iter::once(model.parameters()).chain(states.into_iter().map(|(_, s)| s));
    flat.map(|mut rest| {
        let bias = rest.split_off(rest.len() - classes);
        let weight = rest.split_off(rest.len() - classes * FEATURES);
        [rest, weight, bias]
    })
    .collect()
}

/// What fc3.weight has after three classes.
fn new_rows([_, weight, _]: &[Vec<f32>; 3]) -> &[f32] {
    &weight[3 * FEATURES..]
}

/// Optimizer steps, by the model's file.
fn steps(model: &Model) -> u64 {
    let bytes = model.bytes();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let ours: serde_json::Value =
        serde_json::from_str(&header.metadata().as_ref().unwrap()["lenet"]).unwrap();
    ours["step"].as_u64().unwrap()
}

/// Parameters and each of the averages, row by row.
#[test]
fn what_both_models_have_of_fc3_stays() {
    for options in [small_with_momentum(), lenet_options { seed: 9, ..small(LENET_PRESET_MODERN) }]
    {
        let data = MadeData::new(20, 16, 3);
        let model = Model::create(&options);
        (0..4).for_each(|_| _ = model.train(&data.images, &data.labels));
        ok(unsafe { lenet_set_learning_rate(model.0, 0.03125) });
        let before = model.bytes();
        for classes in [2, 3, 4, 256] {
            let copy = with_classes(&model, classes);
            let expected = lenet_options { classes, learning_rate: 0.03125, ..options };
            assert_eq!(format!("{:?}", copy.options()), format!("{expected:?}"));
            let fresh = Model::create(&expected);
            let (ours, theirs, new) = (vectors(&copy), vectors(&model), vectors(&fresh));
            assert_eq!(ours.len(), if options.optimizer == LENET_OPTIMIZER_SGD { 2 } else { 3 });
            for ((ours, theirs), new) in ours.iter().zip(&theirs).zip(&new) {
                assert!(ours[0] == theirs[0] && ours[0].iter().any(|&x| x != 0.0));
                for ((ours, theirs), new) in ours.iter().zip(theirs).zip(new).skip(1) {
                    let both = ours.len().min(theirs.len());
                    assert!(ours[..both] == theirs[..both], "{classes} classes");
                    assert!(ours[both..] == new[both..], "{classes} classes");
                }
            }
            assert!(classes <= 3 || new_rows(&vectors(&copy)[0]).iter().all(|&w| w != 0.0));
            assert_eq!(steps(&copy), steps(&model));
            // It can be trained, saved and loaded like any model.
            let made = MadeData::new(20, 16, classes.min(20) as usize);
            copy.train(&made.images, &made.labels);
            let loaded = Model::from_bytes(&copy.bytes());
            assert_eq!(loaded.options().classes, classes);
            loaded.train(&made.images, &made.labels);
            copy.train(&made.images, &made.labels);
            assert!(loaded.bytes() == copy.bytes());
        }
        assert!(with_classes(&model, 3).bytes() == before, "as many classes: a clone");
        assert!(model.bytes() == before);
    }
}

/// An old class's logits are those of the model, up to how vectors are filled.
#[test]
fn a_model_with_more_classes_says_the_same_of_the_old_ones() {
    let (data, model) = (MadeData::new(20, 16, 3), Model::create(&small(LENET_PRESET_MODERN)));
    (0..10).for_each(|_| _ = model.train(&data.images, &data.labels));
    let floats = data.floats();
    let (old, new) = (model.logits(&floats, 20), with_classes(&model, 5).logits(&floats, 20));
    for (old, new) in old.chunks(3).zip(new.chunks(5)) {
        assert_eq!(old, &new[..3]);
    }
}

#[test]
fn a_calibration_for_other_classes_is_none() {
    let (made, model) = (MadeData::new(40, 16, 3), Model::create(&small(LENET_PRESET_MODERN)));
    (0..5).for_each(|_| _ = model.train(&made.images, &made.labels));
    model.calibrate(&Dataset::new(&made), 0.1);
    assert!(model.calibration().loss_after.is_finite());
    let fresh = Model::create(&small(LENET_PRESET_MODERN)).calibration();
    for classes in [3, 4] {
        let copy = with_classes(&model, classes).calibration();
        assert_eq!(format!("{copy:?}"), format!("{fresh:?}"));
    }
}

#[test]
fn an_interrupted_epoch_is_not_gone_on_with_under_other_classes() {
    unsafe extern "C-unwind" fn stop(_: *const lenet_progress, _: *mut std::ffi::c_void) -> i32 {
        1
    }
    let data = Dataset::new(&MadeData::new(40, 16, 3));
    let model = Model::create(&small_with_momentum());
    model.fit(&data, 1, 10);
    let fit = fit_options(1, 10);
    let status = unsafe { lenet_fit(model.0, data.0, null(), &fit, Some(stop), null_mut()) };
    assert_eq!(status, LENET_ERROR_CANCELLED);
    let copy = with_classes(&model, 4);
    copy.fit(&data, 1, 10);
    assert_eq!((steps(&model), steps(&copy)), (5, 9), "4 steps and 1, then a whole epoch");
}
