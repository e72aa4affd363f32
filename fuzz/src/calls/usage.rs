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
    PrepareImage { model: Handle, picture: Picture, pixels: Pointer, length: Length },
    PredictImage { model: Handle, picture: Picture, outputs: [Pointer; 2] },
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

/// A picture, and what is wrong with it.
#[derive(Arbitrary, Debug)]
pub struct Picture {
    passed: (Pointer, StructSize),
    format: u8,
    height: u8,
    width: u8,
    /// In place of the height, now and then.
    side: Option<(u8, u32)>,
    /// Bytes behind each row, or any stride.
    padding: u8,
    stride: Option<(u8, usize)>,
    pixels: Pointer,
    contents: Vec<u8>,
    seed: u8,
}

impl Picture {
    /// The struct without its pixels, and the bytes that it needs; none where it is wrong.
    fn fields(&self) -> (lenet_image, Option<usize>) {
        let format = match self.format {
            0..=249 => i32::from(self.format % 5),
            other => i32::from(other) - 252,
        };
        let usual_height = u32::from(self.height) + 1;
        let height = self.side.filter(|(n, _)| *n < 16).map_or(usual_height, |(_, side)| side);
        let width = u32::from(self.width) + 1;
        let bytes = [1, 3, 3, 4, 4].get(format as usize).copied();
        let row = bytes.map(|bytes| bytes * width as usize);
        let usual = match self.padding {
            0..=127 => 0,
            more => row.unwrap_or(0) + usize::from(more) - 128,
        };
        let stride = self.stride.filter(|(n, _)| *n < 16).map_or(usual, |(_, stride)| stride);
        let image =
            lenet_image { struct_size: 0, format, height, width, stride, pixels: std::ptr::null() };
        let length = row.filter(|_| (1..=65536).contains(&height)).and_then(|row| {
            let step = if stride == 0 { row } else { stride };
            let before = (height as usize - 1).checked_mul(step)?;
            before.checked_add(row).filter(|&n| step >= row && isize::try_from(n).is_ok())
        });
        (image, length)
    }

    /// The picture in memory, what of it must make a call fail.
    fn place(&self, expect: Expect) -> Option<(Buffer, Buffer, Expect)> {
        let (fields, length) = self.fields();
        let (_, size) = self.passed;
        // Of an older struct the library sees less than is here.
        let whole = size.of::<lenet_image>() >= size_of::<lenet_image>();
        // A picture that is right may be too large to be made here.
        if length.is_some_and(|length| length > 1 << 22) {
            return None;
        }
        let count = length.unwrap_or(0).max(1);
        let made = bytes(self.seed, count).enumerate();
        let contents: Vec<u8> =
            made.map(|(i, byte)| self.contents.get(i).copied().unwrap_or(byte)).collect();
        let mut pixels = Buffer::input(&contents);
        let its_pixels = pixels.pass::<u8>(self.pixels);
        let place = size.place(&lenet_image { pixels: its_pixels.pointer, ..fields });
        let expect = size
            .expect::<lenet_image>(expect)
            .wrong(length.is_none() && whole, LENET_ERROR_INVALID_ARGUMENT)
            .wrong(its_pixels.is_null() && whole, LENET_ERROR_NULL_POINTER)
            .possible(!whole, LENET_ERROR_INVALID_ARGUMENT)
            .possible(!whole, LENET_ERROR_NULL_POINTER)
            .possible(true, LENET_ERROR_NOT_FOUND);
        Some((place, pixels, expect))
    }
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
            Call::PrepareImage { model, picture, pixels, length } => {
                prepare_image(world, model, &picture, pixels, length);
            }
            Call::PredictImage { model, picture, outputs } => {
                predict_image(world, model, &picture, outputs);
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

fn prepare_image(
    world: &mut World,
    model: Handle,
    picture: &Picture,
    output: Pointer,
    length: Length,
) {
    let (passed, sizes, expect) = model_argument(world, model);
    let Some((mut place, contents, expect)) = picture.place(expect) else { return };
    let image = place.pass::<lenet_image>(picture.passed.0);
    let mut room = Buffer::output::<u8>(length.real(sizes.pixels));
    let output = room.pass::<u8>(output);
    let length = length.of(sizes.pixels);
    let expect = expect
        .structure(image)
        .pointer(output)
        .wrong(length < sizes.pixels, LENET_ERROR_BUFFER_TOO_SMALL)
        .wrong(isize::try_from(length).is_err(), LENET_ERROR_INVALID_ARGUMENT);
    let status =
        unsafe { lenet_prepare_image(passed.pointer, image.pointer, output.pointer, length) };
    let succeeded = expect.check("lenet_prepare_image", status);
    place.check_unchanged();
    contents.check_unchanged();
    room.check(succeeded);
    if succeeded {
        room.check_unwritten_from::<u8>(sizes.pixels);
    }
    world.settle(model, false);
}

fn predict_image(world: &mut World, model: Handle, picture: &Picture, outputs: [Pointer; 2]) {
    let (passed, sizes, expect) = model_argument(world, model);
    let Some((mut place, contents, expect)) = picture.place(expect) else { return };
    let image = place.pass::<lenet_image>(picture.passed.0);
    let (mut class_place, mut row_place) =
        (Buffer::output::<u8>(1), Buffer::output::<f32>(sizes.classes));
    let classes = class_place.pass::<u8>(outputs[0]).or_null();
    let probabilities = row_place.pass::<f32>(outputs[1]).or_null();
    let expect = expect
        .structure(image)
        .pointer(classes)
        .pointer(probabilities)
        .possible(!sizes.tame, LENET_ERROR_DIVERGED);
    let (c, p) = (classes.pointer, probabilities.pointer);
    let status = unsafe { lenet_predict_image(passed.pointer, image.pointer, c, p) };
    let succeeded = expect.check("lenet_predict_image", status);
    place.check_unchanged();
    contents.check_unchanged();
    class_place.check(succeeded && !c.is_null());
    row_place.check(succeeded && !p.is_null());
    if succeeded && !c.is_null() {
        assert!(sizes.has_all(&class_place.values::<u8>()));
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
