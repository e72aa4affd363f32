//! Training and using a model, as the header describes it: what is learnt, what progress says, who
//! waits for whom.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use lenet::ffi::*;
use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use support::{Dataset, MadeData, Model, fit_options, last_error, ok, preset, refused, small};

fn metrics() -> lenet_metrics {
    let struct_size = size_of::<lenet_metrics>() as u32;
    lenet_metrics { struct_size, reserved: 0, count: 0, correct: 0, loss: 0.0, accuracy: 0.0 }
}

fn evaluate(model: &Model, data: &Dataset) -> (lenet_metrics, Vec<u64>) {
    let classes = model.options().classes as usize;
    let (mut metrics, mut confusion) = (metrics(), vec![0; classes * classes]);
    let counts = confusion.as_mut_ptr();
    ok(unsafe { lenet_evaluate(model.0, data.0, &mut metrics, counts, classes * classes) });
    (metrics, confusion)
}

#[test]
fn every_architecture_learns() {
    let made = MadeData::new(96, 16, 3);
    let data = Dataset::new(&made);
    for activation in [LENET_ACTIVATION_SIGMOID, LENET_ACTIVATION_TANH, LENET_ACTIVATION_RELU] {
        for (pooling, padding) in [
            (LENET_POOLING_AVG, 2),
            (LENET_POOLING_AVG, 0),
            (LENET_POOLING_MAX, 2),
            (LENET_POOLING_MAX, 0),
        ] {
            let options = lenet_options {
                activation,
                pooling,
                padding,
                learning_rate: 0.01,
                ..small(LENET_PRESET_MODERN)
            };
            let model = Model::create(&options);
            model.fit(&data, 12, 16);
            let (metrics, confusion) = evaluate(&model, &data);
            assert!(
                metrics.accuracy > 0.95,
                "{activation} {pooling} {padding}: {}",
                metrics.accuracy
            );
            assert_eq!((metrics.count, confusion.iter().sum()), (96, 96u64));
            assert_eq!(confusion[0] + confusion[4] + confusion[8], metrics.correct);
        }
    }
}

#[test]
fn the_extremes_of_size_and_classes_train() {
    let sizes = [(16, 256, 2), (256, 16, 256), (20, 36, 17)];
    for ((height, width, classes), padding) in sizes.into_iter().flat_map(|s| [(s, 2), (s, 0)]) {
        let preset = preset(LENET_PRESET_MODERN);
        let options = lenet_options { height, width, classes, padding, ..preset };
        let model = Model::create(&options);
        let images = vec![100; 2 * (height * width) as usize];
        let labels = [0, (classes - 1) as u8];
        let before = model.train(&images, &labels);
        for _ in 0..5 {
            model.train(&images, &labels);
        }
        assert!(model.train(&images, &labels) < before);
        let (_, probabilities) = model.predict(&images, 2);
        for row in probabilities.chunks(classes as usize) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }
}

#[test]
fn a_step_is_gradients_computed_and_applied() {
    let data = MadeData::new(20, 16, 3);
    let floats = data.floats();
    for options in [
        lenet_options { momentum: 0.5, weight_decay: 0.1, ..small(LENET_PRESET_CLASSIC) },
        small(LENET_PRESET_MODERN),
    ] {
        let (one, two) = (Model::create(&options), Model::create(&options));
        for _ in 0..3 {
            let loss = one.train(&data.images, &data.labels);
            let mut gradients = vec![0.0; two.parameters().len()];
            let (g, length) = (gradients.as_mut_ptr(), gradients.len());
            let (mut computed, n) = (0.0, data.labels.len());
            let (images, labels) = (floats.as_ptr(), data.labels.as_ptr());
            ok(unsafe {
                lenet_compute_gradients(two.0, images, labels, n, g, length, &mut computed)
            });
            ok(unsafe { lenet_apply_gradients(two.0, g, length) });
            assert_eq!(loss, computed);
        }
        assert!(one.bytes() == two.bytes());
    }
}

#[test]
fn bytes_are_floats_divided_by_255() {
    let data = MadeData::new(10, 16, 3);
    let (bytes, floats) = (Model::create(&small(0)), Model::create(&small(0)));
    let images = data.floats();
    bytes.train(&data.images, &data.labels);
    let (labels, n) = (data.labels.as_ptr(), data.labels.len());
    ok(unsafe { lenet_train_batch(floats.0, images.as_ptr(), labels, n, null_mut()) });
    assert!(bytes.bytes() == floats.bytes());
    let mut probabilities = vec![0.0; n * 3];
    let out = probabilities.as_mut_ptr();
    ok(unsafe { lenet_predict(floats.0, images.as_ptr(), n, null_mut(), out) });
    assert_eq!(bytes.predict(&data.images, n).1, probabilities);
}

/// A batch larger than what an engine computes at once has the gradient of its parts together.
#[test]
fn large_batches_are_the_mean_of_their_images() {
    let data = MadeData::new(300, 16, 3);
    let floats = data.floats();
    let model = Model::create(&small(LENET_PRESET_CLASSIC));
    let gradient = |images: &[f32], labels: &[u8]| {
        let mut g = vec![0.0; model.parameters().len()];
        let (out, length, n) = (g.as_mut_ptr(), g.len(), labels.len());
        let (images, labels) = (images.as_ptr(), labels.as_ptr());
        ok(unsafe { lenet_compute_gradients(model.0, images, labels, n, out, length, null_mut()) });
        g
    };
    let whole = gradient(&floats, &data.labels);
    let (first, second) = (
        gradient(&floats[..100 * 256], &data.labels[..100]),
        gradient(&floats[100 * 256..], &data.labels[100..]),
    );
    let largest = whole.iter().fold(0f32, |m, g| m.max(g.abs()));
    for ((w, a), b) in whole.iter().zip(&first).zip(&second) {
        assert!((w - (a + 2.0 * b) / 3.0).abs() < 1e-5 * largest);
    }
}

#[test]
fn progress_counts_from_one_and_validates_at_the_end_of_an_epoch() {
    unsafe extern "C-unwind" fn collect(p: *const lenet_progress, list: *mut c_void) -> i32 {
        unsafe { (*list.cast::<Vec<lenet_progress>>()).push(*p) };
        0
    }
    let (train, test) =
        (Dataset::new(&MadeData::new(40, 16, 3)), Dataset::new(&MadeData::new(9, 16, 3)));
    let model = Model::create(&small(LENET_PRESET_MODERN));
    let mut seen: Vec<lenet_progress> = Vec::new();
    let (fit, list) = (fit_options(2, 16), (&raw mut seen).cast());
    ok(unsafe { lenet_fit(model.0, train.0, test.0, &fit, Some(collect), list) });

    let places: Vec<_> = seen.iter().map(|p| (p.epoch, p.step, p.event)).collect();
    let of = |epoch| [(epoch, 1, 0), (epoch, 2, 0), (epoch, 3, 0), (epoch, 3, 1)];
    assert_eq!(places, [of(1), of(2)].concat());
    for p in &seen {
        assert_eq!((p.epochs, p.steps), (2, 3));
        assert!(p.loss > 0.0 && (0.0..=1.0).contains(&p.accuracy) && p.images_per_second > 0.0);
        assert_eq!(p.validation_loss.is_nan(), p.event == LENET_PROGRESS_STEP);
        assert_eq!(p.validation_accuracy.is_nan(), p.event == LENET_PROGRESS_STEP);
    }
    let last = seen.last().unwrap();
    let (metrics, _) = evaluate(&model, &test);
    assert_eq!((last.validation_loss, last.validation_accuracy), (metrics.loss, metrics.accuracy));
}

#[test]
fn a_callback_may_use_its_model_and_change_nothing_but_the_rate() {
    struct Inside {
        model: *mut lenet_model,
        data: *const lenet_dataset,
        images: Vec<u8>,
        calls: u32,
    }
    unsafe extern "C-unwind" fn inside(_: *const lenet_progress, data: *mut c_void) -> i32 {
        let inside = unsafe { &mut *data.cast::<Inside>() };
        inside.calls += 1;
        let (model, images) = (inside.model, inside.images.as_ptr());
        let (label, mut class, mut copy) = (0u8, 0u8, null_mut());
        ok(unsafe { lenet_predict_u8(model, images, 1, &mut class, null_mut()) });
        ok(unsafe { lenet_clone(model, &mut copy) });
        unsafe { lenet_free(copy) };
        let numbers = vec![0f32; unsafe { lenet_parameter_count(model) }];
        let (flat, length) = (numbers.as_ptr(), numbers.len());
        for status in [
            unsafe { lenet_train_batch_u8(model, images, &label, 1, null_mut()) },
            unsafe { lenet_train_batch_weighted_u8(model, images, &label, &1.0, 1, null_mut()) },
            unsafe { lenet_set_parameters(model, flat, length) },
            unsafe { lenet_apply_gradients(model, flat, length) },
            unsafe { lenet_fit(model, inside.data, null(), null(), None, null_mut()) },
        ] {
            assert_eq!(status, LENET_ERROR_BUSY);
        }
        // The one change that is allowed; a rate that makes no sense is none.
        let rate = 0.5 / f64::from(inside.calls);
        ok(unsafe { lenet_set_learning_rate(model, rate) });
        let status = unsafe { lenet_set_learning_rate(model, -1.0) };
        refused("rate", status, LENET_ERROR_INVALID_ARGUMENT, &["learning_rate is -1.0"]);
        let mut options = support::preset(LENET_PRESET_CLASSIC);
        ok(unsafe { lenet_get_options(model, &mut options) });
        assert_eq!(options.learning_rate, rate);
        i32::from(inside.calls == 2)
    }
    let made = MadeData::new(30, 16, 3);
    let data = Dataset::new(&made);
    let model = Model::create(&small(LENET_PRESET_CLASSIC));
    let images = made.images.clone();
    let mut state = Inside { model: model.0, data: data.0, images, calls: 0 };
    let (fit, user_data) = (fit_options(5, 10), (&raw mut state).cast());
    let status = unsafe { lenet_fit(model.0, data.0, null(), &fit, Some(inside), user_data) };
    assert_eq!(status, LENET_ERROR_CANCELLED);
    assert!(last_error().contains("step 2 of 3"), "{}", last_error());
    assert_eq!(state.calls, 2);
    // Afterwards the turn is free again, for any thread.
    assert_eq!(model.options().learning_rate, 0.25);
    let set = |model: &Model| ok(unsafe { lenet_set_learning_rate(model.0, 0.125) });
    std::thread::scope(|scope| scope.spawn(|| set(&model)).join().unwrap());
    assert_eq!(model.options().learning_rate, 0.125);
    model.train(&made.images, &made.labels);
}

/// Each prediction made during training is that of one of the steps, bit for bit.
#[test]
fn readers_see_whole_steps_while_others_train() {
    let made = MadeData::new(60, 16, 3);
    let data = Dataset::new(&made);
    let options = lenet_options { learning_rate: 0.05, ..small(LENET_PRESET_MODERN) };
    let image = &made.images[..256];

    let recorded = Model::create(&options);
    struct Steps<'a> {
        model: &'a Model,
        image: &'a [u8],
        rows: Vec<Vec<f32>>,
    }
    unsafe extern "C-unwind" fn record(_: *const lenet_progress, steps: *mut c_void) -> i32 {
        let steps = unsafe { &mut *steps.cast::<Steps>() };
        steps.rows.push(steps.model.predict(steps.image, 1).1);
        0
    }
    let start = recorded.predict(image, 1).1;
    let mut steps = Steps { model: &recorded, image, rows: vec![start] };
    let (fit, user_data) = (fit_options(4, 10), (&raw mut steps).cast());
    ok(unsafe { lenet_fit(recorded.0, data.0, null(), &fit, Some(record), user_data) });

    let model = Model::create(&options);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut rows = Vec::new();
                    loop {
                        rows.push(model.predict(image, 1).1);
                        model.bytes();
                        if done.load(Ordering::Relaxed) {
                            return rows;
                        }
                    }
                })
            })
            .collect();
        // Two threads train: they take turns.
        std::thread::scope(|trainers| {
            for _ in 0..2 {
                trainers.spawn(|| model.fit(&data, 2, 10));
            }
        });
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            let rows = reader.join().unwrap();
            assert!(rows.iter().all(|row| steps.rows.contains(row)));
        }
    });
    assert_eq!(model.parameters(), recorded.parameters());
}

#[test]
fn a_copy_goes_its_own_way() {
    let data = MadeData::new(12, 16, 3);
    let model = Model::create(&small(LENET_PRESET_MODERN));
    model.train(&data.images, &data.labels);
    let copy = model.try_clone();
    let before = model.bytes();
    assert!(copy.bytes() == before);
    copy.train(&data.images, &data.labels);
    assert!(copy.bytes() != before && model.bytes() == before);
    model.train(&data.images, &data.labels);
    assert!(copy.bytes() == model.bytes());
}

#[test]
fn the_layer_table_is_the_seeds() {
    let model = Model::create(&preset(LENET_PRESET_CLASSIC));
    let rows: Vec<_> = (0..)
        .map_while(|index| {
            let mut layer: lenet_layer = unsafe { std::mem::zeroed() };
            layer.struct_size = size_of::<lenet_layer>() as u32;
            let status = unsafe { lenet_get_layer(model.0, index, &mut layer) };
            (status == LENET_OK).then_some(layer)
        })
        .map(|l| {
            let text = |p| unsafe { CStr::from_ptr(p) }.to_str().unwrap();
            format!(
                "{} {} {}x{}x{} {}",
                text(l.name),
                text(l.kind),
                l.channels,
                l.height,
                l.width,
                l.parameters
            )
        })
        .collect();
    let expected = [
        "conv1 Conv2d 6x28x28 156",
        "activation1 Sigmoid 6x28x28 0",
        "pooling1 AvgPool2d 6x14x14 0",
        "conv2 Conv2d 16x10x10 2416",
        "activation2 Sigmoid 16x10x10 0",
        "pooling2 AvgPool2d 16x5x5 0",
        "flatten Flatten 400x1x1 0",
        "fc1 Linear 120x1x1 48120",
        "activation3 Sigmoid 120x1x1 0",
        "fc2 Linear 84x1x1 10164",
        "activation4 Sigmoid 84x1x1 0",
        "fc3 Linear 10x1x1 850",
    ];
    assert_eq!(rows, expected);
}
