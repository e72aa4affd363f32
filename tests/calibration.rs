//! Probabilities that can be trusted: the temperature, the threshold, and where they are kept.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

#[path = "support/command.rs"]
mod command;
#[path = "support/fashion_mnist.rs"]
mod fashion_mnist;
mod support;

use fashion_mnist::fashion_mnist;
use lenet::ffi::*;
use std::ptr::null_mut;
use support::{Dataset, MadeData, Model, ok, refused, small};

/// A model that has learnt `MadeData` so well that it is too sure of itself, and other such data with wrong labels.
fn too_sure() -> (Model, MadeData) {
    let model = Model::create(&lenet_options { learning_rate: 0.01, ..small(LENET_PRESET_MODERN) });
    let data = MadeData::new(60, 16, 3);
    for _ in 0..100 {
        model.train(&data.images, &data.labels);
    }
    let mut validation = MadeData::new(300, 16, 3);
    validation.labels.iter_mut().step_by(7).for_each(|label| *label = (*label + 1) % 3);
    (model, validation)
}

/// softmax(logits / temperature), in f64.
fn probabilities(logits: &[f32], classes: usize, temperature: f64) -> Vec<f64> {
    let rows = logits.chunks(classes).flat_map(|row| {
        let largest = f64::from(row.iter().copied().fold(f32::MIN, f32::max));
        let powers: Vec<f64> =
            row.iter().map(|&x| ((f64::from(x) - largest) / temperature).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(move |power| power / sum).collect::<Vec<_>>()
    });
    rows.collect()
}

fn loss(probabilities: &[f64], labels: &[u8]) -> f64 {
    let rows = probabilities.chunks(probabilities.len() / labels.len()).zip(labels);
    rows.map(|(row, &label)| -row[usize::from(label)].ln()).sum::<f64>() / labels.len() as f64
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance
}

#[test]
fn the_temperature_has_the_least_loss_and_is_in_the_probabilities() {
    let (model, data) = too_sure();
    let (floats, n) = (data.floats(), data.labels.len());
    let logits = model.logits(&floats, n);
    let (classes_before, _) = model.predict(&data.images, n);
    let found = model.calibrate(&Dataset::new(&data), 0.05);

    let of = |temperature| loss(&probabilities(&logits, 3, temperature), &data.labels);
    assert!(
        close(found.loss_before, of(1.0), 1e-9)
            && close(found.loss_after, of(found.temperature), 1e-9)
    );
    let least = (1..2000).map(|i| of(0.01 * f64::from(i))).fold(f64::INFINITY, f64::min);
    assert!(
        found.loss_after <= least + 1e-9 && found.loss_before > least + 0.01,
        "{found:?}, {least}"
    );
    assert!(found.temperature > 1.5, "{found:?}");

    let (classes, given) = model.predict(&data.images, n);
    assert_eq!(classes, classes_before);
    let expected = probabilities(&logits, 3, found.temperature);
    assert!(given.iter().zip(&expected).all(|(&a, &b)| close(a.into(), b, 1e-6)));
    assert_eq!(model.logits(&floats, n), logits);
}

#[test]
fn the_threshold_is_the_lowest_with_so_few_errors() {
    let (model, data) = too_sure();
    let n = data.labels.len();
    for max_error in [0.0, 0.01, 0.05, 0.1, 0.2, 1.0] {
        let found = model.calibrate(&Dataset::new(&data), max_error);
        let (classes, given) = model.predict(&data.images, n);
        let largest: Vec<f64> =
            given.chunks(3).map(|row| f64::from(row.iter().copied().fold(0.0, f32::max))).collect();
        // (images, wrong ones) of those that reach the threshold.
        let reach = |threshold: f64| {
            let of = (0..n).filter(|&i| largest[i] >= threshold);
            (of.clone().count(), of.filter(|&i| classes[i] != data.labels[i]).count())
        };
        let good = |threshold: &&f64| {
            let (images, wrong) = reach(**threshold);
            wrong as f64 <= max_error * images as f64
        };
        let lowest = largest.iter().filter(good).copied().fold(2.0, f64::min);
        let (images, wrong) = reach(lowest);
        assert_eq!(found.threshold, lowest, "{max_error}: {found:?}");
        assert_eq!(found.coverage, images as f64 / n as f64);
        assert_eq!(found.error, if images == 0 { 0.0 } else { wrong as f64 / images as f64 });
    }
    assert_eq!(model.calibration().coverage, 1.0);
}

#[test]
fn a_model_that_is_always_wrong_never_answers() {
    let (model, mut data) = too_sure();
    data.labels = model.predict(&data.images, data.labels.len()).0;
    data.labels.iter_mut().for_each(|label| *label = (*label + 1) % 3);
    let found = model.calibrate(&Dataset::new(&data), 0.5);
    assert_eq!((found.threshold, found.coverage, found.error), (2.0, 0.0, 0.0), "{found:?}");
    assert!(close(found.temperature, 20.0, 0.01) && found.loss_after < found.loss_before);
    // What was found is what a file can have.
    assert_eq!(Model::from_bytes(&model.bytes()).calibration().threshold, 2.0);
}

#[test]
fn it_is_kept_by_copies_files_and_training() {
    let (model, data) = too_sure();
    let of = |model: &Model| {
        let found = model.calibration();
        [
            found.temperature,
            found.threshold,
            found.coverage,
            found.error,
            found.loss_before,
            found.loss_after,
        ]
    };
    let none = of(&model);
    assert!(none[..3] == [1.0, 0.0, 1.0] && none[3..].iter().all(|x| x.is_nan()), "{none:?}");
    let plain = model.bytes();
    let found = model.calibrate(&Dataset::new(&data), 0.1);
    let known = of(&model);
    assert_eq!((known[0], known[5]), (found.temperature, found.loss_after));
    assert_ne!(model.bytes(), plain);
    let (copy, loaded) = (model.try_clone(), Model::from_bytes(&model.bytes()));
    assert!(of(&copy) == known && of(&loaded) == known);
    assert!(loaded.bytes() == model.bytes());
    copy.train(&data.images, &data.labels);
    copy.fit(&Dataset::new(&data), 1, 50);
    assert_eq!(of(&copy), known);
    // Calibrating again begins with the logits, not with what was found before.
    assert_eq!(model.calibrate(&Dataset::new(&data), 0.1).temperature, found.temperature);
}

#[test]
fn from_inside_a_progress_function_it_is_busy() {
    unsafe extern "C-unwind" fn calibrates(
        _: *const lenet_progress,
        user: *mut std::ffi::c_void,
    ) -> i32 {
        let (model, data) = unsafe { *user.cast::<(*mut lenet_model, *mut lenet_dataset)>() };
        let status = unsafe { lenet_calibrate(model, data, 0.1, null_mut()) };
        refused("calibrate", status, LENET_ERROR_BUSY, &[]);
        0
    }
    let (model, data) = too_sure();
    let data = Dataset::new(&data);
    let mut both = (model.0, data.0);
    let (options, user) = (support::fit_options(1, 100), (&raw mut both).cast());
    ok(unsafe { lenet_fit(model.0, data.0, std::ptr::null(), &options, Some(calibrates), user) });
}

/// Mean difference of confidence and accuracy over 15 bins of confidence (Guo and others 2017, equation 3).
fn expected_calibration_error(model: &Model, images: &[u8], labels: &[u8]) -> f64 {
    let (classes, probabilities) = model.predict(images, labels.len());
    let mut bins = [(0.0, 0.0); 15];
    for ((row, class), label) in probabilities.chunks(10).zip(classes).zip(labels) {
        let confidence = f64::from(row[usize::from(class)]);
        let bin = &mut bins[((confidence * 15.0) as usize).min(14)];
        bin.0 += confidence;
        bin.1 += f64::from(u8::from(class == *label));
    }
    bins.iter().map(|(confidence, right)| (confidence - right).abs()).sum::<f64>()
        / labels.len() as f64
}

/// Trained on 8,000 images, calibrated on 4,000 others, measured on the 10,000 of the test set.
#[test]
fn on_fashion_mnist_the_calibration_error_falls_below_0_015() {
    let (train_images, train_labels) = fashion_mnist("train");
    let part = |first: usize, n: usize| {
        let images = train_images[first * 784..(first + n) * 784].to_vec();
        let labels = train_labels[first..first + n].to_vec();
        Dataset::new(&MadeData { images, labels, size: 28 })
    };
    let (mean, std) = (0.286, 0.353);
    let modern = support::preset(LENET_PRESET_MODERN);
    let options = lenet_options { input_mean: mean, input_std: std, seed: 1, ..modern };
    let model = Model::create(&options);
    model.fit(&part(0, 8000), 12, 64);
    let (images, labels) = fashion_mnist("t10k");
    let before = expected_calibration_error(&model, &images, &labels);
    let found = model.calibrate(&part(8000, 4000), 0.02);
    let after = expected_calibration_error(&model, &images, &labels);
    let (classes, probabilities) = model.predict(&images, labels.len());
    let answered: Vec<bool> = probabilities
        .chunks(10)
        .zip(classes.iter().zip(&labels))
        .filter(|(row, _)| row.iter().any(|&p| f64::from(p) >= found.threshold))
        .map(|(_, (class, label))| class == label)
        .collect();
    let wrong = answered.iter().filter(|right| !**right).count() as f64 / answered.len() as f64;
    println!(
        "calibration error {before:.4}, then {after:.4}; {found:?}; answered {} of {}, {wrong:.4} of them wrongly",
        answered.len(),
        labels.len()
    );
    assert!(before > 0.03 && after < 0.015, "{before} {after}");
    assert!(found.coverage > 0.5 && wrong < 0.03, "{found:?} {wrong}");
}
