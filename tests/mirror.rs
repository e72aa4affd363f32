//! Mirrored prediction: what a model with `mirror` 1 says is the mean of what the same parameters say of an image
//! and of its mirror image, computed here by hand; and nothing else of it changes.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use lenet::ffi::*;
use std::ptr::{null, null_mut};
use support::{Dataset, MadeData, Model, ok, preset};

const CLASSES: usize = 5;

/// Images of noise with a bright band, whose column tells the label, so that a mirror image has another one.
fn made_images(n: usize, height: usize, width: usize) -> (Vec<u8>, Vec<u8>) {
    let mut state = 7u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 25) as u8
    };
    let column = |i: usize| 5 * i % (width - 3);
    let lit = |i: usize, x: usize| (column(i)..column(i) + 4).contains(&x);
    let pixels = (0..n * height * width).map(|at| (at / (height * width), at % width));
    let images = pixels.map(|(i, x)| if lit(i, x) { 128 + noise() } else { noise() });
    let images = images.collect();
    (images, (0..n).map(|i| (column(i) * CLASSES / width) as u8).collect())
}

fn mirrored<T: Copy>(images: &[T], width: usize) -> Vec<T> {
    images.chunks(width).flat_map(|row| row.iter().rev().copied()).collect()
}

/// A model that has learnt some of it, without and with `mirror`.
fn pair(options: &lenet_options) -> [Model; 2] {
    let plain = Model::create(options);
    let (images, labels) = made_images(64, options.height as usize, options.width as usize);
    (0..60).for_each(|_| _ = plain.train(&images, &labels));
    let parameters = plain.parameters();
    let both = Model::create(&lenet_options { mirror: 1, ..*options });
    ok(unsafe { lenet_set_parameters(both.0, parameters.as_ptr(), parameters.len()) });
    [plain, both]
}

fn predict_floats(model: &Model, images: &[f32], n: usize) -> (Vec<u8>, Vec<f32>) {
    let (mut classes, mut probabilities) = (vec![0; n], vec![0.0; n * CLASSES]);
    let (c, p) = (classes.as_mut_ptr(), probabilities.as_mut_ptr());
    ok(unsafe { lenet_predict(model.0, images.as_ptr(), n, c, p) });
    (classes, probabilities)
}

fn largest(row: &[f32]) -> u8 {
    let most = row.iter().fold(f32::MIN, |most, &p| most.max(p));
    row.iter().position(|&p| p == most).unwrap() as u8
}

/// Both kinds of a network, for images that are not square.
fn networks() -> Vec<lenet_options> {
    let modern = preset(LENET_PRESET_MODERN);
    let (classes, input_mean, input_std) = (CLASSES as u32, 0.3, 0.4);
    let shape = lenet_options { height: 20, width: 16, classes, input_mean, input_std, ..modern };
    let mut all = Vec::new();
    for (num_threads, padding) in [(1, 2), (2, 2), (2, 0)] {
        all.push(lenet_options { num_threads, padding, seed: 3, ..shape });
    }
    all
}

#[test]
fn predictions_are_the_mean_of_two() {
    for options in networks() {
        let [plain, both] = pair(&options);
        let mut disagreed = 0;
        // One by one, in lanes, and more than there are views for.
        for n in [1, 2, 13, 40, 2100] {
            let (images, _) = made_images(n, 20, 16);
            let floats: Vec<f32> = images.iter().map(|&b| f32::from(b) / 255.0).collect();
            let (own_classes, own) = plain.predict(&images, n);
            let (_, other) = plain.predict(&mirrored(&images, 16), n);
            let mean: Vec<f32> = own.iter().zip(&other).map(|(p, q)| 0.5 * (p + q)).collect();
            let classes: Vec<u8> = mean.chunks(CLASSES).map(largest).collect();
            disagreed += own_classes.iter().zip(&classes).filter(|(a, b)| a != b).count();
            let expected = (classes, mean);
            assert!(both.predict(&images, n) == expected, "{n} of bytes");
            assert!(predict_floats(&both, &floats, n) == expected, "{n} of floats");
            assert!(both.try_clone().predict(&images, n) == expected, "{n} by a clone");
            assert_eq!(both.logits(&floats, n), plain.logits(&floats, n));
        }
        assert!(disagreed > 20, "mirror images change {disagreed} classes");
    }
}

fn evaluate(model: &Model, data: &Dataset) -> (lenet_metrics, Vec<u64>) {
    let struct_size = size_of::<lenet_metrics>() as u32;
    let mut metrics =
        lenet_metrics { struct_size, reserved: 0, count: 0, correct: 0, loss: 0.0, accuracy: 0.0 };
    let mut confusion = vec![0; CLASSES * CLASSES];
    let (c, length) = (confusion.as_mut_ptr(), confusion.len());
    ok(unsafe { lenet_evaluate(model.0, data.0, &mut metrics, c, length) });
    (metrics, confusion)
}

#[test]
fn evaluation_is_of_the_mean() {
    let options = lenet_options { height: 16, ..networks()[1] };
    let [plain, both] = pair(&options);
    let n = 2500;
    let (images, labels) = made_images(n, 16, 16);
    let data = MadeData { size: 16, images, labels };
    let (classes, probabilities) = both.predict(&data.images, n);
    let mut confusion = vec![0; CLASSES * CLASSES];
    let mut loss = 0.0;
    for (i, (&label, class)) in data.labels.iter().zip(&classes).enumerate() {
        confusion[usize::from(label) * CLASSES + usize::from(*class)] += 1;
        loss -= f64::from(probabilities[i * CLASSES + usize::from(label)]).ln() / n as f64;
    }
    let correct = data.labels.iter().zip(&classes).filter(|(a, b)| a == b).count();
    let dataset = Dataset::new(&data);
    let (metrics, counts) = evaluate(&both, &dataset);
    assert_eq!((metrics.count, metrics.correct), (n as u64, correct as u64));
    assert_eq!(counts, confusion);
    assert!((metrics.loss - loss).abs() < 1e-6 * loss, "{}, not {loss}", metrics.loss);
    let (alone, _) = evaluate(&plain, &dataset);
    assert!((metrics.loss - alone.loss).abs() > 1e-3, "mirror images change nothing here");

    // Training is as without, and what it is told of validation is what evaluation says.
    let fit = |model: &Model, seen: &mut [f64; 2]| {
        unsafe extern "C-unwind" fn note(
            progress: *const lenet_progress,
            seen: *mut std::ffi::c_void,
        ) -> i32 {
            unsafe {
                let progress = &*progress;
                if progress.event == LENET_PROGRESS_EPOCH_END {
                    *seen.cast() = [progress.validation_loss, progress.validation_accuracy];
                }
            }
            0
        }
        let (fit, seen) = (support::fit_options(1, 100), (&raw mut *seen).cast());
        ok(unsafe { lenet_fit(model.0, dataset.0, dataset.0, &fit, Some(note), seen) });
    };
    let mut seen = [[f64::NAN; 2]; 2];
    // From the same optimizer state on.
    let plain = Model::create(&lenet_options { mirror: 0, ..both.options() });
    let both = Model::create(&lenet_options { mirror: 1, ..plain.options() });
    fit(&plain, &mut seen[0]);
    fit(&both, &mut seen[1]);
    assert!(plain.parameters() == both.parameters());
    for (model, seen) in [plain, both].iter().zip(seen) {
        let (metrics, _) = evaluate(model, &dataset);
        assert_eq!(seen, [metrics.loss, metrics.accuracy]);
    }
    assert_ne!(seen[0], seen[1]);
}

/// Temperature and threshold are found for the means, and each of the two has the temperature.
#[test]
fn calibration_is_of_the_mean() {
    let options = lenet_options { height: 16, ..networks()[1] };
    let [plain, both] = pair(&options);
    let (n, images) = (600, made_images(600, 16, 16).0);
    // Labels that are mostly right.
    let right = both.predict(&images, n).0;
    let label = |(i, class): (usize, u8)| if i % 4 == 0 { (class + 1) % 5 } else { class };
    let labels: Vec<u8> = right.into_iter().enumerate().map(label).collect();
    let data = MadeData { size: 16, images, labels };
    let dataset = Dataset::new(&data);
    let before = evaluate(&both, &dataset).0.loss;
    let found = both.calibrate(&dataset, 0.1);
    let temperature = found.temperature as f32;
    assert!(!(0.8..1.25).contains(&temperature), "{found:?}");

    let probabilities = |images: &[u8]| -> Vec<f32> {
        let floats: Vec<f32> = images.iter().map(|&b| f32::from(b) / 255.0).collect();
        let rows = plain.logits(&floats, n);
        let rows = rows.chunks(CLASSES).flat_map(|row| {
            let sum: f32 = row.iter().map(|x| (x / temperature).exp()).sum();
            row.iter().map(move |x| (x / temperature).exp() / sum)
        });
        rows.collect()
    };
    let own = probabilities(&data.images);
    let other = probabilities(&mirrored(&data.images, 16));
    let (classes, given) = both.predict(&data.images, n);
    for ((p, q), given) in own.iter().zip(&other).zip(&given) {
        assert!((0.5 * (p + q) - given).abs() < 1e-5);
    }
    let sure: Vec<bool> = given
        .chunks(CLASSES)
        .map(|row| row.iter().any(|&p| f64::from(p) >= found.threshold))
        .collect();
    let answered = sure.iter().filter(|sure| **sure).count();
    let wrong = classes.iter().zip(&data.labels).map(|(class, label)| class != label);
    let wrong = wrong.zip(&sure).filter(|(wrong, sure)| *wrong && **sure).count();
    assert_eq!(found.coverage, answered as f64 / n as f64);
    assert!(answered == 0 || found.error == wrong as f64 / answered as f64);

    let after = evaluate(&both, &dataset).0.loss;
    assert!((found.loss_before - before).abs() < 1e-9 && (found.loss_after - after).abs() < 1e-9);
    assert!(after < before);
}

#[test]
fn a_file_keeps_it() {
    let options = networks()[0];
    let [plain, both] = pair(&options);
    let (images, _) = made_images(3, 20, 16);
    let saved = both.bytes();
    // The file is right, whatever the options say.
    for given in [null(), &raw const options] {
        let loaded = Model::try_from_bytes(&saved, given).unwrap();
        assert_eq!(loaded.options().mirror, 1);
        assert!(loaded.bytes() == saved);
        assert_eq!(loaded.predict(&images, 3), both.predict(&images, 3));
    }
    let mirror = lenet_options { mirror: 1, ..options };
    let loaded = Model::from_bytes_with(&plain.bytes(), &mirror);
    assert_eq!(loaded.options().mirror, 0);
    assert!(loaded.bytes() == plain.bytes());
}

#[test]
fn a_pixel_that_is_none_and_a_failure_are_named_as_without() {
    let [plain, both] = pair(&networks()[1]);
    let mut images = vec![0.5; 2100 * 320];
    images[2050 * 320 + 17] = f32::NAN;
    let predict = |model: &Model| {
        let n = 2100;
        let status = unsafe { lenet_predict(model.0, images.as_ptr(), n, null_mut(), null_mut()) };
        (status, support::last_error())
    };
    assert_eq!(predict(&plain).0, LENET_ERROR_NON_FINITE);
    assert_eq!(predict(&plain), predict(&both));
    assert!(predict(&both).1.contains("images[2050] is NaN at row 1, column 1"));
}
