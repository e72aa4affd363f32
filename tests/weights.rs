//! Images that count differently in a training step.

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
use support::{MadeData, Model, last_error, ok, small, small_with_momentum};

/// One step; the loss before it.
fn train_weighted(model: &Model, images: &[u8], labels: &[u8], weights: &[f32]) -> f32 {
    let (i, l, w) = (images.as_ptr(), labels.as_ptr(), weights.as_ptr());
    let mut loss = f32::NAN;
    ok(unsafe { lenet_train_batch_weighted_u8(model.0, i, l, w, labels.len(), &mut loss) });
    loss
}

#[test]
fn equal_weights_are_no_weights() {
    for options in [small_with_momentum(), small(LENET_PRESET_MODERN)] {
        for num_threads in [1, 2] {
            let options = lenet_options { num_threads, ..options };
            for n in [1, 7, 16, 200, 300] {
                let data = MadeData::new(n, 16, 3);
                let plain = Model::create(&options);
                let losses = [0; 2].map(|_| plain.train(&data.images, &data.labels));
                for weight in [1.0, 0.3, 7e20, 1e-45, f32::MAX] {
                    let (weighted, weights) = (Model::create(&options), vec![weight; n]);
                    let ours = [0; 2]
                        .map(|_| train_weighted(&weighted, &data.images, &data.labels, &weights));
                    assert_eq!(ours, losses, "{n} images of weight {weight}");
                    assert!(weighted.bytes() == plain.bytes(), "{n} images of weight {weight}");
                }
            }
        }
    }
}

/// Loss and gradient of one image after the other, in f64, make those of the batch. The gradient is what a step
/// of SGD at a rate of 1 takes off the parameters.
#[test]
fn a_batch_is_the_weighted_mean_of_its_images() {
    for preset in [LENET_PRESET_CLASSIC, LENET_PRESET_MODERN] {
        let sgd =
            lenet_options { optimizer: LENET_OPTIMIZER_SGD, learning_rate: 1.0, ..small(preset) };
        for n in [2, 7, 16, 200, 300] {
            let data = MadeData::new(n, 16, 3);
            let weights: Vec<f32> = (0..n).map(|i| ((i * i) % 11) as f32 * 0.3).collect();
            let [one, two] = [1, 2].map(|num_threads| {
                let model = Model::create(&lenet_options { num_threads, weight_decay: 0.0, ..sgd });
                let before = model.parameters();
                let loss = train_weighted(&model, &data.images, &data.labels, &weights);
                (loss, before, model.parameters())
            });
            assert!(one == two, "the number of threads changes bits, {n} images");

            let model = Model::create(&sgd);
            let sum: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            let (mut loss, mut gradient) = (0.0, vec![0.0; one.1.len()]);
            for (i, image) in data.images.chunks_exact(256).enumerate() {
                let (of_image, g) = gradients_u8(&model, image, &data.labels[i..=i]);
                let share = f64::from(weights[i]) / sum;
                loss += share * f64::from(of_image);
                gradient.iter_mut().zip(g).for_each(|(sum, g)| *sum += share * f64::from(g));
            }
            assert!((f64::from(one.0) - loss).abs() < 1e-5 * loss, "{} for {loss}", one.0);
            let largest = gradient.iter().fold(0f64, |m, g| m.max(g.abs()));
            for ((before, after), g) in one.1.iter().zip(&one.2).zip(&gradient) {
                let ours = f64::from(*before) - f64::from(*after);
                // A step is rounded to the parameters' own 24 bits.
                let rounding = 1e-5 * largest + 1e-7;
                assert!((ours - g).abs() < rounding, "{n} images: {ours}, not {g} of {largest}");
            }
        }
    }
}

fn gradients_u8(model: &Model, images: &[u8], labels: &[u8]) -> (f32, Vec<f32>) {
    let (mut loss, mut gradients) = (f32::NAN, vec![0.0; model.parameters().len()]);
    let (i, l, n) = (images.as_ptr(), labels.as_ptr(), labels.len());
    let (g, length) = (gradients.as_mut_ptr(), gradients.len());
    ok(unsafe { lenet_compute_gradients_u8(model.0, i, l, n, g, length, &mut loss) });
    (loss, gradients)
}

/// Floats and bytes, and weights whose sum a float does not hold.
#[test]
fn floats_are_weighted_as_bytes_are() {
    let data = MadeData::new(40, 16, 3);
    let [bytes, floats] = [0; 2].map(|_| Model::create(&small(LENET_PRESET_MODERN)));
    let weights: Vec<f32> = (0..40).map(|i| if i % 3 == 0 { f32::MAX } else { 1e38 }).collect();
    let of_bytes = train_weighted(&bytes, &data.images, &data.labels, &weights);
    let (images, mut loss) = (data.floats(), f32::NAN);
    let (i, l, w) = (images.as_ptr(), data.labels.as_ptr(), weights.as_ptr());
    ok(unsafe { lenet_train_batch_weighted(floats.0, i, l, w, 40, &mut loss) });
    assert!(of_bytes == loss && loss.is_finite() && bytes.bytes() == floats.bytes());
}

/// The refused step changes nothing; tests/bad_input.rs has the rest.
#[test]
fn a_batch_that_counts_nowhere_is_refused() {
    let (model, data) = (Model::create(&small_with_momentum()), MadeData::new(5, 16, 3));
    let (i, l, w) = (data.images.as_ptr(), data.labels.as_ptr(), [0f32; 5].as_ptr());
    let before = model.bytes();
    let status = unsafe { lenet_train_batch_weighted_u8(model.0, i, l, w, 5, null_mut()) };
    assert_eq!(status, LENET_ERROR_INVALID_ARGUMENT, "{}", last_error());
    assert!(model.bytes() == before);
}

/// Of 2,000 images of pullovers and shirts, which look alike, one in twenty is a shirt.
#[test]
fn weights_raise_the_recall_of_a_rare_class() {
    // Pullovers, of which every so-and-so-many-th image is replaced by a shirt.
    let mixed = |name: &str, n: usize, every: usize| {
        let (images, labels) = fashion_mnist(name);
        let of_class = |class: u8| {
            let both = images.chunks_exact(784).zip(&labels);
            both.filter(move |(_, label)| **label == class).map(|(image, _)| image)
        };
        let (mut pullovers, mut shirts) = (of_class(2), of_class(6));
        let classes: Vec<u8> = (0..n).map(|i| u8::from(i % every == 0)).collect();
        let chosen = classes.iter().map(|&class| {
            if class == 1 { shirts.next().unwrap() } else { pullovers.next().unwrap() }
        });
        (chosen.collect::<Vec<_>>().concat(), classes)
    };
    let (images, labels) = mixed("train", 2000, 20);
    let (test_images, test_labels) = mixed("t10k", 2000, 2);
    for seed in [1, 2, 3] {
        let recalls = [1.0, 19.0].map(|weight| {
            let options =
                lenet_options { classes: 2, seed, ..support::preset(LENET_PRESET_MODERN) };
            let model = Model::create(&options);
            let weights: Vec<f32> =
                labels.iter().map(|&label| if label == 1 { weight } else { 1.0 }).collect();
            // A rate that falls, so that the last steps do not decide.
            for epoch in 0..6 {
                let rate = 0.001 * (1.0 - f64::from(epoch) / 6.0);
                ok(unsafe { lenet_set_learning_rate(model.0, rate) });
                let batches =
                    images.chunks(784 * 50).zip(labels.chunks(50)).zip(weights.chunks(50));
                for ((images, labels), weights) in batches {
                    train_weighted(&model, images, labels, weights);
                }
            }
            let (classes, _) = model.predict(&test_images, test_labels.len());
            [0, 1].map(|class| {
                let of_class =
                    classes.iter().zip(&test_labels).filter(|(_, truth)| **truth == class);
                of_class.filter(|(predicted, _)| **predicted == class).count() as f64 / 1000.0
            })
        });
        println!("seed {seed}: recall of pullovers and shirts {recalls:?}");
        let [[_, plain], [common, weighted]] = recalls;
        assert!(weighted > plain + 0.4, "seed {seed}: {recalls:?}");
        assert!(common > 0.75, "seed {seed}: {recalls:?}");
    }
}
