//! What lenet_fit's options promise: the learning rate of every step, which state is left and when a fit ends; and
//! that each of them can be stopped anywhere and gone on with.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use lenet::ffi::*;
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::time::Instant;
use support::*;

/// A call of lenet_fit with a progress function.
fn fit(
    model: &Model,
    train: &Dataset,
    validation: Option<&Dataset>,
    options: &lenet_fit_options,
    progress: &mut dyn FnMut(&lenet_progress) -> bool,
) -> lenet_status {
    type Progress<'a> = &'a mut dyn FnMut(&lenet_progress) -> bool;
    unsafe extern "C-unwind" fn call(progress: *const lenet_progress, to: *mut c_void) -> i32 {
        let to = unsafe { &mut *to.cast::<Progress>() };
        (!to(unsafe { &*progress })).into()
    }
    let (mut progress, validation) = (progress, validation.map_or(null(), |v| v.0.cast_const()));
    let user_data = (&raw mut progress).cast();
    unsafe { lenet_fit(model.0, train.0, validation, options, Some(call), user_data) }
}

fn fit_without_progress(
    model: &Model,
    train: &Dataset,
    validation: Option<&Dataset>,
    options: &lenet_fit_options,
) {
    let validation = validation.map_or(null(), |v| v.0.cast_const());
    ok(unsafe { lenet_fit(model.0, train.0, validation, options, None, null_mut()) });
}

fn evaluate(model: &Model, data: &Dataset) -> lenet_metrics {
    evaluate_with(model, data, &mut [0; 9])
}

fn evaluate_with(model: &Model, data: &Dataset, confusion: &mut [u64]) -> lenet_metrics {
    let struct_size = size_of::<lenet_metrics>() as u32;
    let mut metrics = lenet_metrics {
        struct_size,
        reserved: 0,
        count: 0,
        correct: 0,
        loss: f64::NAN,
        accuracy: f64::NAN,
    };
    let (to, length) = (confusion.as_mut_ptr(), confusion.len());
    ok(unsafe { lenet_evaluate(model.0, data.0, &mut metrics, to, length) });
    metrics
}

fn parameters(model: &Model) -> Vec<f32> {
    let length = unsafe { lenet_parameter_count(model.0) };
    let mut parameters = vec![0.0; length];
    ok(unsafe { lenet_get_parameters(model.0, parameters.as_mut_ptr(), length) });
    parameters
}

/// One image, so often.
fn one_image(n: usize) -> MadeData {
    let MadeData { size, images, labels } = MadeData::new(1, 16, 3);
    MadeData { size, images: images.repeat(n), labels: labels.repeat(n) }
}

/// What the header says of LENET_SCHEDULE_ONE_CYCLE.
fn one_cycle(peak: f64, u: f64) -> f64 {
    if u < 0.25 {
        peak * (u / 0.25)
    } else {
        peak * ((1.0 + (std::f64::consts::PI * (u - 0.25) / 0.75).cos()) / 2.0)
    }
}

fn cycle_options(epochs: u32, batch_size: u32) -> lenet_fit_options {
    lenet_fit_options { schedule: LENET_SCHEDULE_ONE_CYCLE, ..fit_options(epochs, batch_size) }
}

/// Noise that can only be learnt by heart: the validation loss rises soon.
fn noise(n: usize, seed: u32) -> MadeData {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let images = (0..n * 256).map(|_| next()).collect();
    MadeData { size: 16, images, labels: (0..n).map(|_| next() % 3).collect() }
}

/// What can be learnt, with wrong labels among it, which are learnt by heart later: the validation loss falls, then
/// it rises.
fn half_true() -> (Dataset, Dataset) {
    let mut train = MadeData::new(60, 16, 3);
    train.labels.iter_mut().step_by(4).for_each(|label| *label = (*label + 1) % 3);
    (Dataset::new(&train), Dataset::new(&MadeData::new(90, 16, 3)))
}

#[test]
fn the_presets_are_what_the_header_says() {
    let (modern, accurate) = (preset(LENET_PRESET_MODERN), preset(LENET_PRESET_ACCURATE));
    let expected = (LENET_ACTIVATION_RELU, LENET_POOLING_MAX, LENET_OPTIMIZER_ADAMW, 0.004, 0.05);
    let a = &accurate;
    let found = (a.activation, a.pooling, a.optimizer, a.learning_rate, a.weight_decay);
    assert_eq!(found, expected);
    assert_eq!((a.input_mean, a.input_std, a.padding), (0.0, 1.0, modern.padding));
    let fit = fit_preset(LENET_PRESET_ACCURATE);
    assert_eq!((fit.epochs, fit.batch_size), (20, 128));
    assert_eq!((fit.schedule, fit.shift), (LENET_SCHEDULE_ONE_CYCLE, 1));
    let others = lenet_fit_options {
        epochs: 10,
        batch_size: 256,
        schedule: LENET_SCHEDULE_CONSTANT,
        shift: 0,
        ..fit
    };
    for preset in [LENET_PRESET_CLASSIC, LENET_PRESET_MODERN] {
        assert_eq!(format!("{:?}", fit_preset(preset)), format!("{others:?}"));
    }
    let off = (others.keep, others.patience, others.flip, others.rotation, others.scale);
    assert_eq!(off, (LENET_KEEP_LAST, 0, 0.0, 0.0, 0.0));
    let off = (others.max_seconds, others.target_accuracy, others.class_balance, others.reserved);
    assert_eq!(off, (0.0, 0.0, 0.0, 0));
}

/// Every step of a cycle is a step with the rate that the formula gives, with a progress function and without.
#[test]
fn one_cycle_has_the_rates_of_its_formula() {
    let (epochs, n, batch) = (5, 20, 8); // 3 steps an epoch, the last one with 4 images
    let data = one_image(n);
    for optimizer in [LENET_OPTIMIZER_SGD, LENET_OPTIMIZER_ADAMW] {
        let options = lenet_options {
            optimizer,
            learning_rate: 0.05,
            weight_decay: 0.05,
            ..small(LENET_PRESET_MODERN)
        };
        let by_hand = Model::create(&options);
        for step in 0..15 {
            let u = (f64::from(step) + 0.5) / 15.0;
            let rate = one_cycle(options.learning_rate, u);
            ok(unsafe { lenet_set_learning_rate(by_hand.0, rate) });
            let n = if step % 3 == 2 { 4 } else { 8 };
            by_hand.train(&data.images[..n * 256], &data.labels[..n]);
        }
        let dataset = Dataset::new(&data);
        let told = Model::create(&options);
        let mut steps = 0;
        let status = fit(&told, &dataset, None, &cycle_options(epochs, batch), &mut |progress| {
            // The model's own rate is the peak.
            assert_eq!(told.options().learning_rate, options.learning_rate);
            steps += u32::from(progress.event == LENET_PROGRESS_STEP);
            true
        });
        ok(status);
        assert_eq!(steps, 15);
        let alone = Model::create(&options);
        fit_without_progress(&alone, &dataset, None, &cycle_options(epochs, batch));
        assert!(parameters(&told) == parameters(&by_hand));
        assert!(alone.bytes() == told.bytes());
        assert!(parameters(&told) != parameters(&Model::create(&options)));
    }
}

/// Options of every kind, none of which ends the fit before its end but the last two.
fn kinds() -> Vec<(&'static str, lenet_fit_options)> {
    let plain = fit_options(4, 8);
    let cycle = cycle_options(4, 8);
    vec![
        ("cycle", cycle),
        (
            "augmented",
            lenet_fit_options { shift: 1, flip: 0.5, rotation: 10.0, scale: 0.1, ..cycle },
        ),
        ("balanced", lenet_fit_options { class_balance: 0.7, ..cycle }),
        ("best", lenet_fit_options { keep: LENET_KEEP_BEST, ..plain }),
        ("best of a cycle", lenet_fit_options { keep: LENET_KEEP_BEST, patience: 3, ..cycle }),
        ("patience", lenet_fit_options { patience: 1, keep: LENET_KEEP_BEST, ..plain }),
        ("target", lenet_fit_options { target_accuracy: 0.4, keep: LENET_KEEP_BEST, ..plain }),
    ]
}

/// Cancelled at any event, saved, loaded and gone on with by the same call, or by one that asks for what remains, a
/// fit gives the bytes of one that was never stopped; so it does when it is stopped at every event.
#[test]
fn a_fit_of_any_kind_is_gone_on_with() {
    let (made, other) = (noise(30, 1), noise(20, 2)); // 4 steps an epoch
    let (train, validation) = (Dataset::new(&made), Dataset::new(&other));
    let validation = Some(&validation);
    let momentum = lenet_options { learning_rate: 0.05, num_threads: 1, ..small_with_momentum() };
    let adam = lenet_options { learning_rate: 0.01, num_threads: 2, ..small(LENET_PRESET_MODERN) };
    for (i, (kind, options)) in kinds().iter().enumerate() {
        let model_options = if i % 2 == 0 { adam } else { momentum };
        let whole = Model::create(&model_options);
        let mut events = Vec::new();
        ok(fit(&whole, &train, validation, options, &mut |progress| {
            events.push((progress.epoch, progress.epochs, progress.event, progress.step));
            true
        }));
        let expected = whole.bytes();
        assert!(!String::from_utf8_lossy(&expected[..3000]).contains("course"), "{kind}");
        assert!(String::from_utf8_lossy(&expected[..3000]).contains("\\\"format\\\":1"), "{kind}");

        // A third of all places, others for each kind.
        for stop in (i % 3..events.len()).step_by(3) {
            let stopped = Model::create(&model_options);
            let mut left = stop;
            let cancelled = fit(&stopped, &train, validation, options, &mut |_| {
                left = left.wrapping_sub(1);
                left != usize::MAX
            });
            assert_eq!(cancelled, LENET_ERROR_CANCELLED);
            let loaded = Model::from_bytes(&stopped.bytes());
            assert!(loaded.bytes() == stopped.bytes());
            let cloned = loaded.try_clone();
            assert!(cloned.bytes() == stopped.bytes());
            // The events go on where they stopped; the end of an epoch that was cancelled in its last step is told.
            let mut rest = Vec::new();
            ok(fit(&loaded, &train, validation, options, &mut |progress| {
                rest.push((progress.epoch, progress.epochs, progress.event, progress.step));
                true
            }));
            assert_eq!(rest, events[stop + 1..], "{kind}, stopped at {:?}", events[stop]);
            assert!(loaded.bytes() == expected, "{kind}, stopped at {:?}", events[stop]);
            let (epoch, epochs, event, step) = events[stop];
            let ended = event == LENET_PROGRESS_EPOCH_END || step == 4;
            let remaining = epochs - epoch + u32::from(!ended);
            if remaining > 0 {
                let remaining = lenet_fit_options { epochs: remaining, ..*options };
                fit_without_progress(&cloned, &train, validation, &remaining);
                assert!(cloned.bytes() == expected, "{kind}, stopped at {:?}", events[stop]);
            }
        }

        let mut bytes = Model::create(&model_options).bytes();
        for _ in &events {
            let model = Model::from_bytes(&bytes);
            let cancelled = fit(&model, &train, validation, options, &mut |_| false);
            assert_eq!(cancelled, LENET_ERROR_CANCELLED, "{kind}");
            bytes = model.bytes();
        }
        let model = Model::from_bytes(&bytes);
        ok(fit(&model, &train, validation, options, &mut |_| panic!("{kind}: nothing is left")));
        assert!(model.bytes() == expected, "{kind}");
    }
}

/// Another call forgets the fit that was cancelled, and a new cycle is of whole epochs.
#[test]
fn another_fit_begins_anew() {
    let (train, other) = (Dataset::new(&noise(30, 1)), Dataset::new(&noise(20, 2)));
    let options = cycle_options(3, 8);
    let model = Model::create(&small(LENET_PRESET_MODERN));
    let mut steps = 0;
    let mut count_down = |_: &lenet_progress| {
        steps += 1;
        steps < 7
    };
    let cancelled = fit(&model, &train, Some(&other), &options, &mut count_down);
    assert_eq!(cancelled, LENET_ERROR_CANCELLED);
    let cancelled = model.bytes();
    let first = |train: &Dataset, validation: Option<&Dataset>, options: &lenet_fit_options| {
        let model = Model::from_bytes(&cancelled);
        let mut first = (0, 0);
        let status = fit(&model, train, validation, options, &mut |progress| {
            first = (progress.epoch, progress.step);
            false
        });
        assert_eq!(status, LENET_ERROR_CANCELLED);
        first
    };
    let validation = Some(&other);
    assert_eq!(first(&train, validation, &options), (2, 3));
    assert_eq!(first(&train, validation, &lenet_fit_options { epochs: 2, ..options }), (2, 3));
    for epochs in [1, 4] {
        let changed = lenet_fit_options { epochs, ..options };
        assert_eq!(first(&train, validation, &changed), (1, 1));
    }
    assert_eq!(first(&train, None, &options), (1, 1));
    assert_eq!(first(&other, validation, &options), (1, 1));
    let changes: [fn(&mut lenet_fit_options); 9] = [
        |o| o.batch_size = 7,
        |o| o.shift = 1,
        |o| o.flip = 0.5,
        |o| o.rotation = 1.0,
        |o| o.scale = 0.1,
        |o| o.class_balance = 0.1,
        |o| o.keep = LENET_KEEP_BEST,
        |o| o.patience = 1,
        |o| o.target_accuracy = 0.99,
    ];
    for change in changes {
        let mut changed = options;
        change(&mut changed);
        assert_eq!(first(&train, validation, &changed), (1, 1), "{changed:?}");
    }
    // Without a course of its own a fit takes the rest of the epoch, as ever, and forgets the other.
    assert_eq!(first(&train, None, &fit_options(3, 8)), (1, 3));
    let forgotten = Model::from_bytes(&cancelled);
    forgotten.fit(&train, 1, 8);
    assert!(!String::from_utf8_lossy(&forgotten.bytes()[..3000]).contains("course"));
    // A new peak is not another fit.
    let model = Model::from_bytes(&cancelled);
    ok(unsafe { lenet_set_learning_rate(model.0, 0.5) });
    let mut first = 0;
    fit(&model, &train, validation, &options, &mut |progress| {
        first = progress.step;
        false
    });
    assert_eq!(first, 3);
}

#[test]
fn the_best_that_is_kept_is_the_lowest() {
    let (train, validation) = half_true();
    let model_options = small(LENET_PRESET_MODERN);
    let options = lenet_fit_options { keep: LENET_KEEP_BEST, ..fit_options(30, 8) };
    let model = Model::create(&model_options);
    let mut ends = Vec::new();
    ok(fit(&model, &train, Some(&validation), &options, &mut |progress| {
        if progress.event == LENET_PROGRESS_EPOCH_END {
            // What the progress function sees is the last step.
            assert_eq!(evaluate(&model, &validation).loss, progress.validation_loss);
            ends.push((progress.validation_loss, parameters(&model)));
        }
        true
    }));
    let (best, (loss, weights)) =
        ends.iter().enumerate().min_by(|(_, a), (_, b)| a.0.total_cmp(&b.0)).unwrap();
    assert!(best > 0 && best < 29, "the {best}th is no test of anything");
    assert!(&parameters(&model) == weights);
    assert_eq!(evaluate(&model, &validation).loss, *loss);

    // Averages and steps are those of that epoch, too: a step from there is the same step. The epochs after it count.
    let until = Model::create(&model_options);
    until.fit(&train, best as u32 + 1, 8);
    let made = noise(8, 3);
    for model in [&model, &until] {
        model.train(&made.images, &made.labels);
    }
    assert!(parameters(&model) == parameters(&until));
    assert!(model.bytes() != until.bytes());
    let number = |model: &Model| {
        let bytes = model.bytes();
        let text = String::from_utf8_lossy(&bytes[..3000]).into_owned();
        text.split("epoch\\\":").nth(1).unwrap().split(',').next().unwrap().to_string()
    };
    assert_eq!((number(&model), number(&until)), ("30".into(), (best + 1).to_string()));
}

#[test]
fn patience_ends_a_fit() {
    let (train, validation) = half_true();
    for patience in [1, 3] {
        let options = lenet_fit_options { patience, ..fit_options(40, 8) };
        let model =
            Model::create(&lenet_options { learning_rate: 0.01, ..small(LENET_PRESET_MODERN) });
        let mut losses = Vec::new();
        ok(fit(&model, &train, Some(&validation), &options, &mut |progress| {
            if progress.event == LENET_PROGRESS_EPOCH_END {
                losses.push(progress.validation_loss);
            }
            true
        }));
        assert!(losses.len() < 40, "{losses:?}");
        // Each loss but the last ones was followed by a lower one in time.
        let mut lowest = f64::INFINITY;
        let mut waited = 0;
        for (i, loss) in losses.iter().enumerate() {
            assert!(waited < patience, "{patience}: {losses:?}, after {i}");
            waited = if *loss < lowest { 0 } else { waited + 1 };
            lowest = lowest.min(*loss);
        }
        assert_eq!(waited, patience, "{losses:?}");
        // The last step is kept.
        assert_eq!(evaluate(&model, &validation).loss, *losses.last().unwrap());
    }
}

#[test]
fn a_target_ends_a_fit_with_the_model_that_reached_it() {
    let (train, validation) = (MadeData::new(60, 16, 3), MadeData::new(30, 16, 3));
    let (train, validation) = (Dataset::new(&train), Dataset::new(&validation));
    for keep in [LENET_KEEP_LAST, LENET_KEEP_BEST] {
        let options = lenet_fit_options { target_accuracy: 0.9, keep, ..fit_options(50, 8) };
        let model = Model::create(&small(LENET_PRESET_MODERN));
        let mut accuracies = Vec::new();
        ok(fit(&model, &train, Some(&validation), &options, &mut |progress| {
            if progress.event == LENET_PROGRESS_EPOCH_END {
                accuracies.push(progress.validation_accuracy);
            }
            true
        }));
        let (last, before) = accuracies.split_last().unwrap();
        assert!(before.len() < 49 && *last >= 0.9, "{accuracies:?}");
        assert!(before.iter().all(|&accuracy| accuracy < 0.9), "{accuracies:?}");
        assert_eq!(evaluate(&model, &validation).accuracy, *last);
    }
}

/// It ends in time, whatever else it is told, and the cycle is over by then.
#[test]
fn a_fit_ends_when_its_time_is_up() {
    let (train, test) =
        (Dataset::new(&MadeData::new(3000, 16, 3)), Dataset::new(&MadeData::new(500, 16, 3)));
    let seconds = 0.6;
    for (epochs, schedule, validated, told) in [
        (0, LENET_SCHEDULE_ONE_CYCLE, true, true),
        (0, LENET_SCHEDULE_ONE_CYCLE, false, false),
        (1_000_000, LENET_SCHEDULE_ONE_CYCLE, true, false),
        (0, LENET_SCHEDULE_CONSTANT, true, true),
    ] {
        let options =
            lenet_fit_options { max_seconds: seconds, schedule, ..fit_options(epochs, 32) };
        let model = Model::create(&small(LENET_PRESET_MODERN));
        let validation = validated.then_some(&test);
        let (mut seen, at_start) = (Vec::new(), parameters(&model));
        let start = Instant::now();
        if told {
            ok(fit(&model, &train, validation, &options, &mut |progress| {
                seen.push(*progress);
                true
            }));
        } else {
            fit_without_progress(&model, &train, validation, &options);
        }
        let took = start.elapsed().as_secs_f64();
        // Beside other tests a thread may wait, and one engine takes long for an evaluation.
        let start = Instant::now();
        let accuracy = evaluate(&model, &test).accuracy;
        let evaluation = start.elapsed().as_secs_f64();
        let right = seconds - 0.05 - evaluation..seconds + 0.4 + 2.0 * evaluation;
        assert!(right.contains(&took), "{took} s, not {right:?}");
        assert!(accuracy > 0.9 && parameters(&model) != at_start, "{accuracy}");
        if let Some(last) = seen.last() {
            assert_eq!((last.event, last.epochs), (LENET_PROGRESS_EPOCH_END, epochs));
            assert_eq!(last.validation_accuracy, accuracy);
            assert!(last.step <= last.steps);
            assert!(seen.iter().all(|progress| progress.loss.is_finite()));
        }
        // Nothing is left to go on with, and the next epoch is a whole one.
        assert!(String::from_utf8_lossy(&model.bytes()[..3000]).contains("\\\"format\\\":1"));
        let mut first = 0;
        fit(&model, &train, None, &fit_options(1, 32), &mut |progress| {
            first = progress.step;
            false
        });
        assert_eq!(first, 1);
    }
}

/// The time that a fit has had counts when it is gone on with.
#[test]
fn a_fit_with_a_time_is_gone_on_with() {
    let train = Dataset::new(&MadeData::new(3000, 16, 3));
    let cycle = cycle_options(0, 32);
    let options = lenet_fit_options { max_seconds: 0.8, ..cycle };
    let model = Model::create(&small(LENET_PRESET_MODERN));
    let start = Instant::now();
    let mut events = 0.0;
    let cancelled = fit(&model, &train, None, &options, &mut |_| {
        events += 1.0;
        start.elapsed().as_secs_f64() < 0.5
    });
    assert_eq!(cancelled, LENET_ERROR_CANCELLED);
    let loaded = Model::from_bytes(&model.bytes());
    let start = Instant::now();
    fit_without_progress(&loaded, &train, None, &options);
    let took = start.elapsed().as_secs_f64();
    let most = 0.7 + 3.0 * (0.5 / events);
    assert!((0.2..most).contains(&took), "{took} s, not 0.2 to {most}");
}

/// Of 95 images of a class and 5 of another that looks nearly the same, the rare one is found more often.
#[test]
fn balanced_classes_raise_the_recall_of_the_rare_one() {
    let made = |n: usize, rare: usize, seed: u32| {
        let mut state = seed;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let labels: Vec<u8> = (0..n).map(|i| (i % 20 < rare) as u8).collect();
        let mut images = Vec::new();
        for &label in &labels {
            // A patch that is brighter by less than the noise.
            images.extend((0..256).map(|i| {
                let patch = (4..12).contains(&(i / 16)) && (4..12).contains(&(i % 16));
                next() / 2 + if patch && label == 1 { 16 } else { 0 }
            }));
        }
        MadeData { size: 16, images, labels }
    };
    let (train, test) = (Dataset::new(&made(2000, 1, 1)), Dataset::new(&made(400, 10, 7)));
    let recall = |class_balance: f64| {
        let options = lenet_fit_options { class_balance, ..cycle_options(8, 32) };
        let model = Model::create(&lenet_options { classes: 2, ..small(LENET_PRESET_ACCURATE) });
        fit_without_progress(&model, &train, None, &options);
        let mut confusion = [0u64; 4];
        evaluate_with(&model, &test, &mut confusion);
        confusion[3] as f64 / (confusion[2] + confusion[3]) as f64
    };
    let [plain, half, even] = [0.0, 0.5, 1.0].map(recall);
    assert!(plain + 0.1 < half.min(even), "recall {plain}, {half}, {even}");
}

/// Classes of one size are as if nobody had asked.
#[test]
fn balance_changes_nothing_where_classes_are_even() {
    let train = Dataset::new(&MadeData::new(60, 16, 3));
    let [plain, balanced] = [0.0, 0.3].map(|class_balance| {
        let model = Model::create(&small(LENET_PRESET_MODERN));
        let options = lenet_fit_options { class_balance, ..fit_options(2, 8) };
        fit_without_progress(&model, &train, None, &options);
        model.bytes()
    });
    assert!(plain == balanced);
}

/// The header's text of a file, changed.
fn edit_header(bytes: &[u8], edit: impl Fn(&mut String)) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    edit(&mut header);
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[8 + length..]].concat()
}

/// A file of a fit that is cancelled in its second epoch, after `events` events.
fn file_of_a_fit(events: u32) -> Vec<u8> {
    let (train, validation) = (Dataset::new(&noise(30, 1)), Dataset::new(&noise(20, 2)));
    let options = lenet_fit_options { keep: LENET_KEEP_BEST, ..cycle_options(3, 8) };
    let model = Model::create(&small(LENET_PRESET_MODERN));
    let mut left = events;
    fit(&model, &train, Some(&validation), &options, &mut |_| {
        left -= 1;
        left > 0
    });
    model.bytes()
}

#[test]
fn what_no_fit_leaves_is_refused() {
    let whole = file_of_a_fit(7);
    assert!(Model::try_from_bytes(&whole, null()).is_ok());
    let set = |name: &str, value: &str| {
        let key = format!("\\\"{name}\\\":");
        edit_header(&whole, |header| {
            let course = header.find("course").unwrap();
            let at = course + header[course..].find(&key).unwrap_or_else(|| panic!("{name}"));
            let begin = at + key.len();
            let end = begin + header[begin..].find([',', '}']).unwrap();
            header.replace_range(begin..end, value);
        })
    };
    for (name, value) in [
        ("identity", "\\\"00\\\""),
        ("total", "4294967296"),
        ("total", "0.5"),
        ("epochs", "4"),
        ("epochs", "2"),
        ("epochs", "0"),
        ("epochs", "18446744073709551615"),
        ("judged", "0"),
        ("judged", "2"),
        ("judged", "18446744073709551615"),
        ("waited", "2"),
        ("over", "true"),
        ("over", "1"),
        ("seconds", "-1"),
        ("seconds", "1e999"),
        ("lowest", "-0.5"),
        ("best_step", "100"),
    ] {
        let status = Model::try_from_bytes(&set(name, value), null()).err().unwrap_or(LENET_OK);
        refused(&format!("{name} {value}"), status, LENET_ERROR_CORRUPT, &["metadata"]);
    }
    // The tensors of what was best belong to the number of its step.
    let without = edit_header(&whole, |header| {
        let at = header.find(",\\\"best_step").unwrap();
        let end = at + header[at..].find('}').unwrap();
        header.replace_range(at..end, "");
    });
    let status = Model::try_from_bytes(&without, null()).err().unwrap_or(LENET_OK);
    refused("without best_step", status, LENET_ERROR_INCOMPATIBLE, &["best."]);
    let plain = edit_header(&whole, |header| {
        *header = header.replace("\\\"format\\\":2", "\\\"format\\\":1");
        let at = header.find(",\\\"epoch_dataset").unwrap();
        let end = at + 1 + header[at + 1..].find(',').unwrap();
        header.replace_range(at..end, "");
    });
    let status = Model::try_from_bytes(&plain, null()).err().unwrap_or(LENET_OK);
    refused("format 1", status, LENET_ERROR_CORRUPT, &["course", "format 1"]);
}

/// A file that is forged so that it can be, leads a fit nowhere without an end.
#[test]
fn a_forged_course_ends() {
    let (train, validation) = (Dataset::new(&noise(30, 1)), Dataset::new(&noise(20, 2)));
    let options = lenet_fit_options { keep: LENET_KEEP_BEST, ..cycle_options(3, 8) };
    let all = |header: &mut String| {
        *header = header.replace("\\\"epoch\\\":1", "\\\"epoch\\\":9223372036854775807");
        *header = header.replace("\\\"epochs\\\":1", "\\\"epochs\\\":3");
        *header = header.replace("\\\"judged\\\":1", "\\\"judged\\\":3");
    };
    let forged = Model::from_bytes(&edit_header(&file_of_a_fit(7), all));
    fit_without_progress(&forged, &train, Some(&validation), &options);
}
