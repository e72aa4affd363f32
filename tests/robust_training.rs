//! Training on anything, for any time: a step either leaves finite parameters or is DIVERGED and leaves those before
//! it, and none leaves the optimizer numbers that some CPUs are slow with.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use lenet::ffi::*;
use safetensors::SafeTensors;
use std::ptr::null_mut;
use support::{MadeData, Model, name, ok, small};

const STEPS: usize = 30;

/// Trains until a step diverges; how many did not.
#[track_caller]
fn train(what: &str, options: &lenet_options, images: &[f32], labels: &[u8]) -> usize {
    let model = Model::create(options);
    for step in 0..STEPS {
        let before = model.parameters();
        let (images, n) = (images.as_ptr(), labels.len());
        let mut loss = f32::NAN;
        let status = unsafe { lenet_train_batch(model.0, images, labels.as_ptr(), n, &mut loss) };
        let after = model.parameters();
        if status == LENET_OK {
            assert!(loss.is_finite() && after.iter().all(|x| x.is_finite()), "{what}, step {step}");
            continue;
        }
        assert_eq!(name(status), "LENET_ERROR_DIVERGED", "{what}: {}", support::last_error());
        assert_eq!(before, after, "{what}: step {step} diverged and left something");
        // A smaller rate goes on from there.
        ok(unsafe { lenet_set_learning_rate(model.0, 0.0) });
        return step;
    }
    STEPS
}

#[test]
fn any_learning_rate_is_finite_or_diverges() {
    let data = MadeData::new(32, 16, 3);
    let floats = data.floats();
    for preset in [LENET_PRESET_CLASSIC, LENET_PRESET_MODERN] {
        for rate in [0.0, 1e-300, 1e-30, 1.0, 1e3, 1e10, 1e30, 1e38, 1e39, 1e300] {
            let options = lenet_options { learning_rate: rate, ..small(preset) };
            let what = format!("preset {preset}, learning rate {rate:e}");
            let steps = train(&what, &options, &floats, &data.labels);
            assert!(rate > 1.0 || steps == STEPS, "{what} diverged after {steps} steps");
            assert!(rate < 1e39 || steps < STEPS, "{what} did not diverge");
        }
        for decay in [1e10, 1e300] {
            let options = lenet_options { weight_decay: decay, ..small(preset) };
            train(&format!("weight decay {decay:e}"), &options, &floats, &data.labels);
        }
    }
}

#[test]
fn dull_data_is_finite() {
    let varied = MadeData::new(32, 16, 3);
    let noise = varied.floats();
    for preset in [LENET_PRESET_CLASSIC, LENET_PRESET_MODERN] {
        for (what, images, labels) in [
            ("black images", vec![0.0; 32 * 256], varied.labels.clone()),
            ("white images", vec![1.0; 32 * 256], varied.labels.clone()),
            ("denormal images", vec![1e-40; 32 * 256], varied.labels.clone()),
            ("one image again and again", noise[..256].repeat(32), varied.labels.clone()),
            ("one class only", noise.clone(), vec![2; 32]),
            ("a batch of one", noise[..256].to_vec(), vec![1]),
        ] {
            assert_eq!(train(what, &small(preset), &images, &labels), STEPS, "{what} diverged");
        }
    }
}

#[test]
fn huge_pixels_are_finite_or_diverge() {
    let labels: Vec<u8> = (0..32).map(|i| i % 3).collect();
    for preset in [LENET_PRESET_CLASSIC, LENET_PRESET_MODERN] {
        // The network sees a pixel of 100 as `size`.
        for size in [1e6, 1e19, 1e30, f32::MAX, -f32::MAX] {
            let options =
                lenet_options { input_std: 100.0 / f64::from(size.abs()), ..small(preset) };
            let pixel = 100.0 * size.signum();
            let images: Vec<f32> =
                (0..32 * 256).map(|i| if i % 7 == 0 { pixel } else { 0.5 }).collect();
            train(&format!("pixels of {size:e}"), &options, &images, &labels);
        }
    }
}

#[test]
fn more_images_than_memory_are_an_error() {
    let model = Model::create(&small(LENET_PRESET_CLASSIC));
    let (image, label) = ([0.5f32; 256], [1u8]);
    for n in [1usize << 40, 1 << 60, usize::MAX] {
        let (images, labels) = (image.as_ptr(), label.as_ptr());
        let status = unsafe { lenet_train_batch(model.0, images, labels, n, null_mut()) };
        assert!(
            [LENET_ERROR_OUT_OF_MEMORY, LENET_ERROR_INVALID_ARGUMENT].contains(&status),
            "{n}: {}",
            name(status)
        );
    }
}

/// Running averages of a model that are subnormal.
fn subnormal_averages(model: &Model) -> usize {
    let bytes = model.bytes();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let averages = tensors.iter().filter(|(name, _)| name.starts_with("optimizer."));
    let floats: Vec<f32> = averages
        .flat_map(|(_, tensor)| tensor.data().chunks_exact(4))
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    assert!(floats.len() >= model.parameters().len());
    floats.iter().filter(|x| x.is_subnormal()).count()
}

#[test]
fn averages_of_gradients_that_vanish_do_not_become_subnormal() {
    let data = MadeData::new(16, 16, 3);
    let modern = lenet_options { learning_rate: 0.01, ..small(LENET_PRESET_MODERN) };
    let momentum = lenet_options { optimizer: LENET_OPTIMIZER_SGD, momentum: 0.9, ..modern };
    for options in [modern, momentum] {
        let model = Model::create(&options);
        for step in 0..3000 {
            model.train(&data.images, &data.labels);
            if step % 500 == 0 {
                assert_eq!(subnormal_averages(&model), 0, "optimizer {}", options.optimizer);
            }
        }
        assert_eq!(subnormal_averages(&model), 0, "optimizer {}", options.optimizer);
    }
}
