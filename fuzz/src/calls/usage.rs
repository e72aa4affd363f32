//! Predictions, logits, features, evaluation, calibration.

use super::{Pixels, Sizes, bytes, model_argument};
use crate::canary::{Buffer, Pointer};
use crate::expect::Expect;
use crate::number::{Count, Length};
use crate::options::StructSize;
use crate::world::{Handle, World};
use arbitrary::Arbitrary;
use lenet::ffi::*;

/// A call.
#[derive(Arbitrary, Debug)]
pub enum Call {
    Predict { model: Handle, pixels: Pixels, images: Pointer, n: Count, outputs: [Pointer; 2] },
    PredictU8 { model: Handle, seed: u8, images: Pointer, n: Count, outputs: [Pointer; 2] },
    Outputs { model: Handle, which: Outputs, pixels: Pixels, place: OutputsPlace },
    OutputsU8 { model: Handle, which: Outputs, seed: u8, place: OutputsPlace },
    Evaluate { model: Handle, data: Handle, metrics: (Pointer, StructSize), confusion: Confusion },
    Calibrate { model: Handle, data: Handle, max_error: Share, result: (Pointer, StructSize) },
    GetCalibration { model: Handle, calibration: (Pointer, StructSize) },
}

/// What is asked of the network.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Outputs {
    Logits,
    Features,
}

/// Images, how many, and room for their outputs.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct OutputsPlace {
    images: Pointer,
    n: Count,
    out: Pointer,
}

/// Room for the confusion counts.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Confusion {
    pointer: Pointer,
    length: Length,
}

/// A share, right or not.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Share {
    Percent(u8),
    Any(f64),
}

impl Share {
    fn value(self) -> f64 {
        match self {
            Share::Percent(percent) => f64::from(percent) / 255.0,
            Share::Any(value) => value,
        }
    }
}

impl Call {
    pub fn run(self, world: &mut World) {
        match self {
            Call::Predict { model, pixels, images, n, outputs } => {
                let length = n.real() * Sizes::of(world.shadow(model)).pixels;
                let place = Buffer::input(&pixels.floats(length));
                let expect = pixels.expect(Expect::default());
                let images = (place, images, pixels.is_usual());
                predict(world, model, images, n, outputs, expect, lenet_predict);
            }
            Call::PredictU8 { model, seed, images, n, outputs } => {
                let length = n.real() * Sizes::of(world.shadow(model)).pixels;
                let place = Buffer::input(&bytes(seed, length).collect::<Vec<u8>>());
                let images = (place, images, true);
                predict(world, model, images, n, outputs, Expect::default(), lenet_predict_u8);
            }
            Call::Outputs { model, which, pixels, place } => {
                let length = place.n.real() * Sizes::of(world.shadow(model)).pixels;
                let images = (Buffer::input(&pixels.floats(length)), pixels.is_usual());
                let expect = pixels.expect(Expect::default());
                let function = match which {
                    Outputs::Logits => lenet_logits,
                    Outputs::Features => lenet_features,
                };
                outputs(world, model, which, images, place, expect, function);
            }
            Call::OutputsU8 { model, which, seed, place } => {
                let length = place.n.real() * Sizes::of(world.shadow(model)).pixels;
                let images = Buffer::input(&bytes(seed, length).collect::<Vec<u8>>());
                let function = match which {
                    Outputs::Logits => lenet_logits_u8,
                    Outputs::Features => lenet_features_u8,
                };
                let expect = Expect::default();
                outputs(world, model, which, (images, true), place, expect, function);
            }
            Call::Evaluate { model, data, metrics, confusion } => {
                evaluate(world, model, data, metrics, confusion);
            }
            Call::Calibrate { model, data, max_error, result } => {
                calibrate(world, model, data, max_error.value(), result);
            }
            Call::GetCalibration { model, calibration } => {
                get_calibration(world, model, calibration);
            }
        }
    }
}

type Predict<T> =
    unsafe extern "C" fn(*const lenet_model, *const T, usize, *mut u8, *mut f32) -> lenet_status;

fn predict<T>(
    world: &mut World,
    model: Handle,
    (mut place, images, usual): (Buffer, Pointer, bool),
    n: Count,
    outputs: [Pointer; 2],
    expect: Expect,
    function: Predict<T>,
) {
    let (passed, sizes, _) = model_argument(world, model);
    let rows = n.real() * sizes.classes;
    let images = place.pass::<T>(images);
    let (mut class_place, mut row_place) =
        (Buffer::output::<u8>(n.real()), Buffer::output::<f32>(rows));
    let classes = class_place.pass::<u8>(outputs[0]).or_null();
    let probabilities = row_place.pass::<f32>(outputs[1]).or_null();
    let expect = expect
        .pointer(passed)
        .pointer(images)
        .pointer(classes)
        .pointer(probabilities)
        .wrong(!n.is_right(), LENET_ERROR_INVALID_ARGUMENT)
        .possible(!usual || !sizes.tame, LENET_ERROR_DIVERGED);
    let (c, p) = (classes.pointer, probabilities.pointer);
    let status = unsafe { function(passed.pointer, images.pointer, n.0, c, p) };
    let succeeded = expect.check("lenet_predict", status);
    place.check_unchanged();
    class_place.check(succeeded && !c.is_null());
    row_place.check(succeeded && !p.is_null());
    if succeeded && !c.is_null() {
        assert!(sizes.has_all(&class_place.values::<u8>()));
    }
    if succeeded && !p.is_null() {
        for row in row_place.values::<f32>().chunks(sizes.classes) {
            assert!(row.iter().all(|p| (0.0..=1.0).contains(p)), "{row:?}");
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-3, "{row:?}");
        }
    }
    world.settle(model, false);
}

type Write<T> = unsafe extern "C" fn(*const lenet_model, *const T, usize, *mut f32) -> lenet_status;

fn outputs<T>(
    world: &mut World,
    model: Handle,
    which: Outputs,
    (mut place, usual): (Buffer, bool),
    OutputsPlace { images, n, out }: OutputsPlace,
    expect: Expect,
    function: Write<T>,
) {
    let (passed, sizes, _) = model_argument(world, model);
    let width = match which {
        Outputs::Logits => sizes.classes,
        Outputs::Features => 84,
    };
    let mut room = Buffer::output::<f32>(n.real() * width);
    let (images, out) = (place.pass::<T>(images), room.pass::<f32>(out));
    let expect = expect
        .pointer(passed)
        .pointer(images)
        .pointer(out)
        .wrong(!n.is_right(), LENET_ERROR_INVALID_ARGUMENT)
        .possible(!usual || !sizes.tame, LENET_ERROR_DIVERGED);
    let status = unsafe { function(passed.pointer, images.pointer, n.0, out.pointer) };
    let succeeded = expect.check("lenet_logits or lenet_features", status);
    place.check_unchanged();
    room.check(succeeded);
    if succeeded {
        assert!(room.values::<f32>().iter().all(|value| value.is_finite()));
    }
    world.settle(model, false);
}

fn evaluate(
    world: &mut World,
    model: Handle,
    data: Handle,
    (metrics, size): (Pointer, StructSize),
    confusion: Confusion,
) {
    let (passed, sizes, expect) = model_argument(world, model);
    let dataset = world.dataset(data);
    let empty = lenet_metrics {
        struct_size: 0,
        reserved: 0,
        count: 0,
        correct: 0,
        loss: 0.0,
        accuracy: 0.0,
    };
    let mut place = size.place(&empty);
    let metrics_pointer = place.pass::<lenet_metrics>(metrics);
    let needed = sizes.classes * sizes.classes;
    let length = confusion.length;
    let mut room = Buffer::output::<u64>(length.real(needed));
    let counts = room.pass::<u64>(confusion.pointer).or_null();
    let sides = world.shadow(model).map(|s| (s.options.height, s.options.width));
    let data = world.data(data);
    let other_size = data.zip(sides).is_some_and(|(data, sides)| sides != data.size);
    let high_label = data.is_some_and(|data| !sizes.has_all(&data.labels));
    let given = !counts.is_null();
    let expect = size
        .expect::<lenet_metrics>(expect.structure(metrics_pointer))
        .pointer(dataset)
        .pointer(counts)
        .wrong(other_size, LENET_ERROR_INVALID_ARGUMENT)
        .wrong(high_label, LENET_ERROR_LABEL_OUT_OF_RANGE)
        .wrong(given && length.of(needed) < needed, LENET_ERROR_BUFFER_TOO_SMALL)
        .wrong(given && length.is_huge(), LENET_ERROR_INVALID_ARGUMENT)
        .possible(!sizes.tame, LENET_ERROR_DIVERGED);
    if metrics == Pointer::Misaligned {
        return;
    }
    let status = unsafe {
        lenet_evaluate(
            passed.pointer,
            dataset.pointer,
            metrics_pointer.pointer,
            counts.pointer,
            length.of(needed),
        )
    };
    let succeeded = expect.check("lenet_evaluate", status);
    room.check(succeeded && given);
    place.check(succeeded);
    if let (true, Some(data)) = (succeeded, data) {
        let n = data.labels.len() as u64;
        if matches!(size, StructSize::Own) {
            let metrics = place.values::<lenet_metrics>()[0];
            assert!(metrics.count == n && metrics.correct <= n && metrics.loss >= 0.0);
        }
        if given {
            assert_eq!(room.values::<u64>()[..needed].iter().sum::<u64>(), n);
            room.check_unwritten_from::<u64>(needed);
        }
    }
    world.settle(model, false);
}

const NO_CALIBRATION: lenet_calibration = lenet_calibration {
    struct_size: 0,
    reserved: 0,
    temperature: 0.0,
    threshold: 0.0,
    coverage: 0.0,
    error: 0.0,
    loss_before: 0.0,
    loss_after: 0.0,
};

fn calibrate(
    world: &mut World,
    model: Handle,
    data: Handle,
    max_error: f64,
    (result, size): (Pointer, StructSize),
) {
    let (passed, sizes, expect) = model_argument(world, model);
    let dataset = world.dataset(data);
    let mut place = size.place(&NO_CALIBRATION);
    let result = place.pass::<lenet_calibration>(result).or_null();
    let given = !result.pointer.is_null();
    let sides = world.shadow(model).map(|s| (s.options.height, s.options.width));
    let data = world.data(data);
    let other_size = data.zip(sides).is_some_and(|(data, sides)| sides != data.size);
    let high_label = data.is_some_and(|data| !sizes.has_all(&data.labels));
    let expect = expect
        .pointer(dataset)
        .wrong(!(0.0..=1.0).contains(&max_error), LENET_ERROR_INVALID_ARGUMENT)
        .wrong(other_size, LENET_ERROR_INVALID_ARGUMENT)
        .wrong(high_label, LENET_ERROR_LABEL_OUT_OF_RANGE)
        .possible(!sizes.tame, LENET_ERROR_DIVERGED);
    if result.wrong.is_some() && given {
        return;
    }
    let expect = if given { size.expect::<lenet_calibration>(expect) } else { expect };
    let status =
        unsafe { lenet_calibrate(passed.pointer, dataset.pointer, max_error, result.pointer) };
    let succeeded = expect.check("lenet_calibrate", status);
    place.check(succeeded && given);
    if succeeded && given && matches!(size, StructSize::Own) {
        let found = place.values::<lenet_calibration>()[0];
        assert!((0.05..=20.0).contains(&found.temperature), "{found:?}");
        assert!(found.error <= max_error && found.loss_after <= found.loss_before, "{found:?}");
    }
    world.settle(model, succeeded);
}

fn get_calibration(world: &mut World, model: Handle, (output, size): (Pointer, StructSize)) {
    let (passed, _, expect) = model_argument(world, model);
    let mut place = size.place(&NO_CALIBRATION);
    let pointer = place.pass(output);
    let expect = size.expect::<lenet_calibration>(expect.structure(pointer));
    if output == Pointer::Misaligned {
        return;
    }
    let status = unsafe { lenet_get_calibration(passed.pointer, pointer.pointer) };
    place.check(expect.check("lenet_get_calibration", status));
    world.settle(model, false);
}
