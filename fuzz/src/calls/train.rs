//! Training.

use super::{Labels, Pixels, Sizes, bytes, model_argument};
use crate::canary::{Buffer, Pointer};
use crate::expect::Expect;
use crate::number::{Count, pick};
use crate::options::StructSize;
use crate::support;
use crate::world::{Handle, World};
use arbitrary::{Arbitrary, Result, Unstructured};
use lenet::ffi::*;
use std::ffi::c_void;
use std::ptr::null_mut;

/// A call.
#[derive(Arbitrary, Debug)]
pub enum Call {
    Batch {
        model: Handle,
        pixels: Pixels,
        batch: Batch,
    },
    BatchU8 {
        model: Handle,
        seed: u8,
        batch: Batch,
    },
    Weighted {
        model: Handle,
        pixels: Pixels,
        weights: (Pointer, Weights),
        batch: Batch,
    },
    WeightedU8 {
        model: Handle,
        seed: u8,
        weights: (Pointer, Weights),
        batch: Batch,
    },
    Fit {
        model: Handle,
        data: Handle,
        validation: Option<Handle>,
        options: Fit,
        progress: Progress,
    },
    SetLearningRate {
        model: Handle,
        rate: Rate,
    },
}

/// The arguments of a step beside its pixels.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Batch {
    pub images: Pointer,
    pub labels: (Pointer, Labels),
    pub n: Count,
    pub loss: Pointer,
}

/// Weights of one kind.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Weights {
    Usual(u8),
    Equal(u8),
    Extreme(u8),
    Zero,
    Negative(u8),
    NotFinite(u8, bool),
}

impl Weights {
    fn make(self, n: usize) -> Vec<f32> {
        let mut weights: Vec<f32> = bytes(3, n).map(f32::from).collect();
        let at = |i: u8| usize::from(i) % n;
        match self {
            Weights::Usual(seed) => weights[at(seed)] = 1.0, // so that not all are 0
            Weights::Equal(weight) => weights.fill(f32::from(weight) + 1.0),
            Weights::Extreme(i) => weights[at(i)] = if i % 2 == 0 { f32::MAX } else { 1e-45 },
            Weights::Zero => weights.fill(if n % 2 == 0 { 0.0 } else { -0.0 }),
            Weights::Negative(i) => weights[at(i)] = -1.0,
            Weights::NotFinite(i, nan) => {
                weights[at(i)] = if nan { f32::NAN } else { f32::INFINITY };
            }
        }
        weights
    }

    fn expect(self, expect: Expect) -> Expect {
        let wrong = matches!(self, Weights::Zero | Weights::Negative(_));
        expect
            .wrong(wrong, LENET_ERROR_INVALID_ARGUMENT)
            .wrong(matches!(self, Weights::NotFinite(..)), LENET_ERROR_NON_FINITE)
    }
}

/// Options of a fit.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Fit {
    pointer: Pointer,
    size: StructSize,
    values: FitValues,
}

#[derive(Clone, Copy, Debug)]
struct FitValues(lenet_fit_options);

impl<'a> Arbitrary<'a> for FitValues {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut options = lenet_fit_options {
            epochs: pick(u, &[1, 1, 1, 2], &[0, 3])?,
            batch_size: pick(u, &[20, 7, 20, 7, 3, 2], &[0, 1, u32::MAX])?,
            schedule: pick(u, &[LENET_SCHEDULE_CONSTANT], &[1, 2, u32::MAX])?,
            ..support::fit_options(1, 1)
        };
        if u.ratio(1, 2)? {
            let odd = [-0.1, 1.1, f64::NAN, f64::INFINITY, 1e300, 1e-300];
            let mut part = |usual: &[f64]| pick(u, usual, &odd);
            options.flip = part(&[0.0, 0.5, 1.0])?;
            options.rotation = part(&[0.0, 10.0])?;
            options.scale = part(&[0.0, 0.2])?;
            options.target_accuracy = part(&[0.0, 0.0, 0.5])?;
            options.class_balance = part(&[0.0, 1.0, 0.3])?;
            options.schedule = pick(u, &[0, 1], &[2])?;
            options.shift = pick(u, &[0, 1, 3], &[15, 16, u32::MAX])?;
            options.keep = pick(u, &[LENET_KEEP_LAST, LENET_KEEP_BEST], &[2, u32::MAX])?;
            options.patience = pick(u, &[0, 0, 1], &[2, u32::MAX])?;
            options.reserved = pick(u, &[0], &[1, u32::MAX])?;
            options.max_seconds = pick(u, &[0.0], &[1e-6, 0.001, -1.0, f64::NAN])?;
        }
        Ok(FitValues(options))
    }
}

/// Whether no fit may have these options, for images of this shorter side.
fn are_wrong(o: &lenet_fit_options, side: u32, validation: bool) -> bool {
    let part = |value: f64| (0.0..=1.0).contains(&value);
    let watches = o.keep == LENET_KEEP_BEST || o.patience > 0 || o.target_accuracy > 0.0;
    (o.epochs == 0 && o.max_seconds == 0.0)
        || o.batch_size == 0
        || o.schedule > LENET_SCHEDULE_ONE_CYCLE
        || o.shift >= side
        || o.keep > LENET_KEEP_BEST
        || o.reserved != 0
        || !(part(o.flip) && part(o.target_accuracy) && part(o.class_balance))
        || !(0.0..=180.0).contains(&o.rotation)
        || !(0.0..1.0).contains(&o.scale)
        || !(o.max_seconds >= 0.0 && o.max_seconds.is_finite())
        || (watches && !validation)
}

/// Whether a fit with these options looks ahead or back.
fn has_course(o: &lenet_fit_options) -> bool {
    let ends = o.patience > 0 || o.target_accuracy > 0.0 || o.max_seconds > 0.0;
    ends || o.schedule != LENET_SCHEDULE_CONSTANT || o.keep != LENET_KEEP_LAST
}

/// A progress function, or none.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Progress {
    None,
    /// It calls back into the library, and cancels after so many events.
    Some {
        cancel_after: u8,
    },
}

/// A learning rate.
#[derive(Clone, Copy, Debug)]
pub struct Rate(f64);

impl<'a> Arbitrary<'a> for Rate {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let odd = [-1.0, f64::NAN, f64::INFINITY, 1e300, f64::MIN_POSITIVE];
        pick(u, &[0.01, 0.001, 0.0, 0.1], &odd).map(Rate)
    }
}

impl Call {
    pub fn run(self, world: &mut World) {
        match self {
            Call::Batch { model, pixels, batch } => {
                let length = batch.n.real() * Sizes::of(world.shadow(model)).pixels;
                let image_place = Buffer::input(&pixels.floats(length));
                let expect = pixels.expect(Expect::default());
                let usual = pixels.is_usual();
                step(
                    world,
                    model,
                    (image_place, usual),
                    batch,
                    expect,
                    |m, i, l, n, loss| unsafe { lenet_train_batch(m, i, l, n, loss) },
                );
            }
            Call::BatchU8 { model, seed, batch } => {
                let length = batch.n.real() * Sizes::of(world.shadow(model)).pixels;
                let image_place = Buffer::input(&bytes(seed, length).collect::<Vec<u8>>());
                let expect = Expect::default();
                step(world, model, (image_place, true), batch, expect, |m, i, l, n, loss| unsafe {
                    lenet_train_batch_u8(m, i, l, n, loss)
                });
            }
            Call::Weighted { model, pixels, weights, batch } => {
                let length = batch.n.real() * Sizes::of(world.shadow(model)).pixels;
                let images = (Buffer::input(&pixels.floats(length)), pixels.is_usual());
                let expect = pixels.expect(Expect::default());
                weighted(world, model, images, weights, batch, expect, lenet_train_batch_weighted);
            }
            Call::WeightedU8 { model, seed, weights, batch } => {
                let length = batch.n.real() * Sizes::of(world.shadow(model)).pixels;
                let images = Buffer::input(&bytes(seed, length).collect::<Vec<u8>>());
                let (images, expect) = ((images, true), Expect::default());
                let function = lenet_train_batch_weighted_u8;
                weighted(world, model, images, weights, batch, expect, function);
            }
            Call::Fit { model, data, validation, options, progress } => {
                fit(world, model, data, validation, options, progress);
            }
            Call::SetLearningRate { model, rate: Rate(rate) } => {
                let (passed, _, expect) = model_argument(world, model);
                let wrong = !rate.is_finite() || rate < 0.0;
                let status = unsafe { lenet_set_learning_rate(passed.pointer, rate) };
                let expect = expect.wrong(wrong, LENET_ERROR_INVALID_ARGUMENT);
                let changed = expect.check("lenet_set_learning_rate", status);
                if changed {
                    let shadow = world.shadow_mut(model).unwrap();
                    shadow.options.learning_rate = rate;
                    let relu = shadow.options.activation == LENET_ACTIVATION_RELU;
                    shadow.tame &= rate <= if relu { 0.01 } else { 1.0 };
                }
                world.settle(model, changed);
            }
        }
    }
}

type WeightedStep<T> = unsafe extern "C" fn(
    *mut lenet_model,
    *const T,
    *const u8,
    *const f32,
    usize,
    *mut f32,
) -> lenet_status;

/// One step whose images have weights.
fn weighted<T>(
    world: &mut World,
    model: Handle,
    images: (Buffer, bool),
    (pointer, weights): (Pointer, Weights),
    batch: Batch,
    expect: Expect,
    function: WeightedStep<T>,
) {
    let mut place = Buffer::input(&weights.make(batch.n.real()));
    let passed = place.pass::<f32>(pointer);
    let expect = weights.expect(expect.pointer(passed));
    step(world, model, images, batch, expect, |model, images, labels, n, loss| unsafe {
        function(model, images, labels, passed.pointer, n, loss)
    });
    place.check_unchanged();
}

/// One step. `image_place` has pixels that are usual or not.
fn step<T>(
    world: &mut World,
    model: Handle,
    (mut image_place, usual): (Buffer, bool),
    batch: Batch,
    expect: Expect,
    function: impl Fn(*mut lenet_model, *const T, *const u8, usize, *mut f32) -> lenet_status,
) {
    let (passed, sizes, _) = model_argument(world, model);
    let labels = batch.labels.1.make(batch.n.real());
    let (mut label_place, mut loss_place) = (Buffer::input(&labels), Buffer::output::<f32>(1));
    let (images, loss) = (image_place.pass::<T>(batch.images), loss_place.pass::<f32>(batch.loss));
    let classes = label_place.pass::<u8>(batch.labels.0);
    let expect = expect
        .pointer(passed)
        .pointer(images)
        .pointer(classes)
        .pointer(loss.or_null())
        .wrong(!batch.n.is_right(), LENET_ERROR_INVALID_ARGUMENT)
        .wrong(!sizes.has_all(&labels), LENET_ERROR_LABEL_OUT_OF_RANGE)
        .possible(!usual || !sizes.tame, LENET_ERROR_DIVERGED);
    let before = world.shadow(model).map_or(0, |shadow| shadow.step);
    let (i, l, n) = (images.pointer, classes.pointer, batch.n.0);
    let status = function(passed.pointer, i, l, n, loss.pointer);
    let changed = expect.check("lenet_train_batch", status);
    image_place.check_unchanged();
    label_place.check_unchanged();
    loss_place.check(changed && !loss.is_null());
    if changed && !loss.is_null() {
        assert!(loss_place.values::<f32>()[0].is_finite());
    }
    if let (true, Some(shadow)) = (changed, world.shadow_mut(model)) {
        shadow.tame &= usual;
    }
    world.settle(model, changed);
    if let Some(shadow) = world.shadow(model) {
        assert_eq!(shadow.step, before + u64::from(changed));
    }
}

/// What a progress function knows.
struct Watcher {
    model: *mut lenet_model,
    parameters: usize,
    events: u64,
    cancel_after: u64,
}

unsafe extern "C-unwind" fn watch(progress: *const lenet_progress, user_data: *mut c_void) -> i32 {
    let (progress, watcher) = unsafe { (&*progress, &mut *user_data.cast::<Watcher>()) };
    assert_eq!(progress.struct_size as usize, size_of::<lenet_progress>());
    assert!((1..=progress.epochs).contains(&progress.epoch));
    assert!((1..=progress.steps).contains(&progress.step));
    assert!((0.0..=1.0).contains(&progress.accuracy));
    let count = unsafe { lenet_parameter_count(watcher.model) };
    assert_eq!(count, watcher.parameters);
    let zeros = vec![0f32; count];
    let busy = unsafe { lenet_set_parameters(watcher.model, zeros.as_ptr(), count) };
    assert_eq!(busy, LENET_ERROR_BUSY, "{}", support::last_error());
    // The one change that is allowed, here to what it is already.
    let model = std::mem::ManuallyDrop::new(support::Model(watcher.model));
    let rate = model.options().learning_rate;
    support::ok(unsafe { lenet_set_learning_rate(watcher.model, rate) });
    let wrong = unsafe { lenet_set_learning_rate(watcher.model, f64::NAN) };
    assert_eq!(wrong, LENET_ERROR_INVALID_ARGUMENT, "{}", support::last_error());
    watcher.events += 1;
    i32::from(watcher.events > watcher.cancel_after)
}

fn fit(
    world: &mut World,
    model: Handle,
    data: Handle,
    validation: Option<Handle>,
    options: Fit,
    progress: Progress,
) {
    let (passed, sizes, mut expect) = model_argument(world, model);
    let train = world.dataset(data);
    let valid = validation.map(|validation| world.dataset(validation).or_null());
    let mut place = options.size.place(&options.values.0);
    let options_pointer = place.pass::<lenet_fit_options>(options.pointer).or_null();
    let defaults = support::fit_options(10, 256);
    let read = match options.pointer {
        Pointer::Null => defaults,
        _ => {
            expect = options.size.expect::<lenet_fit_options>(expect);
            options.size.read(&options.values.0, defaults)
        }
    };
    let sides = world.shadow(model).map(|s| (s.options.height, s.options.width));
    let side = sides.map_or(u32::MAX, |(height, width)| height.min(width));
    let wrong = are_wrong(&read, side, valid.is_some_and(|valid| !valid.is_null()));
    expect =
        expect.pointer(train).structure(options_pointer).wrong(wrong, LENET_ERROR_INVALID_ARGUMENT);
    let used = [Some((data, train)), validation.zip(valid)];
    for (handle, passed) in used.into_iter().flatten() {
        expect = expect.pointer(passed.or_null());
        if let (Some(data), false) = (world.data(handle), passed.is_null()) {
            let other_size = sides.is_some_and(|sides| sides != data.size);
            expect = expect
                .wrong(other_size, LENET_ERROR_INVALID_ARGUMENT)
                .wrong(!sizes.has_all(&data.labels), LENET_ERROR_LABEL_OUT_OF_RANGE);
        }
    }
    let images = world.data(data).map_or(0, |data| data.labels.len() as u64);
    let (before, left) = world.shadow(model).map_or((0, images), |shadow| {
        let (consumed, count) = shadow.consumed;
        (shadow.step, images - if count == images { consumed } else { 0 })
    });
    let steps = |images: u64| images.div_ceil(u64::from(read.batch_size.max(1)));
    let all = steps(left) + steps(images) * u64::from(read.epochs.saturating_sub(1));
    let (function, cancel_after): (lenet_progress_fn, u64) = match progress {
        Progress::None => (None, u64::MAX),
        Progress::Some { cancel_after } => (Some(watch), cancel_after.into()),
    };
    let cancels = cancel_after < all + u64::from(read.epochs);
    let course = has_course(&read);
    let mut watcher =
        Watcher { model: passed.pointer, parameters: sizes.parameters, events: 0, cancel_after };
    let status = unsafe {
        lenet_fit(
            passed.pointer,
            train.pointer,
            valid.map_or(null_mut(), |valid| valid.pointer),
            options_pointer.pointer,
            function,
            (&raw mut watcher).cast(),
        )
    };
    let succeeded = expect
        .wrong(cancels && !course, LENET_ERROR_CANCELLED)
        .possible(course && function.is_some(), LENET_ERROR_CANCELLED)
        .possible(!sizes.tame, LENET_ERROR_DIVERGED)
        .check("lenet_fit", status);
    place.check_unchanged();
    let changed = succeeded || [LENET_ERROR_CANCELLED, LENET_ERROR_DIVERGED].contains(&status);
    world.settle(model, changed);
    if let Some(shadow) = world.shadow(model) {
        // How long one with a course is, and what it keeps, tests/fit.rs knows.
        assert!(!succeeded || course || shadow.step == before + all);
        assert!(read.max_seconds > 0.0 || shadow.step <= before + steps(images) * 3 + all);
    }
}
