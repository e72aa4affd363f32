//! Parameters and gradients, flat.

use super::train::Batch;
use super::{Pixels, Sizes, model_argument};
use crate::canary::{Buffer, Pointer};
use crate::expect::Expect;
use crate::number::Length;
use crate::world::{Handle, World};
use arbitrary::Arbitrary;
use lenet::ffi::*;

/// A call.
#[derive(Arbitrary, Debug)]
pub enum Call {
    Count { model: Handle },
    Get { model: Handle, parameters: Pointer, length: Length },
    Set { model: Handle, vector: Vector },
    Compute { model: Handle, pixels: Pixels, batch: Batch, gradients: Pointer, length: Length },
    ComputeU8 { model: Handle, seed: u8, batch: Batch, gradients: Pointer, length: Length },
    Apply { model: Handle, vector: Vector },
}

/// A flat vector that is passed.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Vector {
    pointer: Pointer,
    length: Length,
    contents: Contents,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Contents {
    Small(u8),
    Zero,
    Large,
    NotFinite(u16),
}

impl Vector {
    fn make(self, count: usize) -> Vec<f32> {
        let n = self.length.real(count);
        let mut values = match self.contents {
            Contents::Small(seed) => {
                super::bytes(seed, n).map(|b| (f32::from(b) - 127.5) / 2550.0).collect()
            }
            Contents::Large => vec![1e30; n],
            _ => vec![0.0; n],
        };
        if let (Contents::NotFinite(at), true) = (self.contents, n > 0) {
            values[usize::from(at) % n] = f32::NEG_INFINITY;
        }
        values
    }
}

impl Call {
    pub fn run(self, world: &mut World) {
        match self {
            Call::Count { model } => {
                let (passed, sizes, _) = model_argument(world, model);
                let count = unsafe { lenet_parameter_count(passed.pointer) };
                assert_eq!(count, if passed.wrong.is_some() { 0 } else { sizes.parameters });
            }
            Call::Get { model, parameters, length } => get(world, model, parameters, length),
            Call::Set { model, vector } => {
                give(world, model, vector, lenet_set_parameters, "lenet_set_parameters");
            }
            Call::Compute { model, pixels, batch, gradients, length } => {
                let n = batch.n.real() * Sizes::of(world.shadow(model)).pixels;
                let images = (Buffer::input(&pixels.floats(n)), pixels.is_usual());
                let (room, expect) = ((gradients, length), pixels.expect(Expect::default()));
                compute(world, model, images, batch, room, expect, lenet_compute_gradients);
            }
            Call::ComputeU8 { model, seed, batch, gradients, length } => {
                let n = batch.n.real() * Sizes::of(world.shadow(model)).pixels;
                let images = Buffer::input(&super::bytes(seed, n).collect::<Vec<u8>>());
                let (images, room, expect) =
                    ((images, true), (gradients, length), Expect::default());
                compute(world, model, images, batch, room, expect, lenet_compute_gradients_u8);
            }
            Call::Apply { model, vector } => {
                give(world, model, vector, lenet_apply_gradients, "lenet_apply_gradients");
            }
        }
    }
}

/// The errors of an output of `needed` floats.
fn expect_room(expect: Expect, length: Length, needed: usize) -> Expect {
    expect
        .wrong(length.of(needed) < needed, LENET_ERROR_BUFFER_TOO_SMALL)
        .wrong(length.is_huge(), LENET_ERROR_INVALID_ARGUMENT)
}

fn get(world: &mut World, model: Handle, parameters: Pointer, length: Length) {
    let (passed, sizes, expect) = model_argument(world, model);
    let needed = sizes.parameters;
    let mut room = Buffer::output::<f32>(length.real(needed));
    let output = room.pass::<f32>(parameters);
    let expect = expect_room(expect.pointer(output), length, needed);
    let (to, length) = (output.pointer, length.of(needed));
    let status = unsafe { lenet_get_parameters(passed.pointer, to, length) };
    let succeeded = expect.check("lenet_get_parameters", status);
    room.check(succeeded);
    if succeeded {
        assert!(room.values::<f32>()[..needed].iter().all(|value| value.is_finite()));
        room.check_unwritten_from::<f32>(needed);
    }
    world.settle(model, false);
}

type Give = unsafe extern "C" fn(*mut lenet_model, *const f32, usize) -> lenet_status;

/// Sets parameters or applies a gradient.
fn give(world: &mut World, model: Handle, vector: Vector, function: Give, call: &str) {
    let (passed, sizes, expect) = model_argument(world, model);
    let values = vector.make(sizes.parameters);
    let mut place = Buffer::input(&values);
    let pointer = place.pass::<f32>(vector.pointer);
    let length = vector.length.of(sizes.parameters);
    let finite = values.iter().all(|value| value.is_finite());
    let steps = u64::from(call == "lenet_apply_gradients");
    let usual = !matches!(vector.contents, Contents::Large);
    let expect = expect
        .pointer(pointer)
        .wrong(length != sizes.parameters, LENET_ERROR_INVALID_ARGUMENT)
        .wrong(!finite, LENET_ERROR_NON_FINITE)
        .possible(steps > 0 && !(usual && sizes.tame), LENET_ERROR_DIVERGED);
    let before = world.shadow(model).map_or(0, |shadow| shadow.step);
    let status = unsafe { function(passed.pointer, pointer.pointer, length) };
    let changed = expect.check(call, status);
    place.check_unchanged();
    if let (true, Some(shadow)) = (changed, world.shadow_mut(model)) {
        shadow.tame &= usual;
    }
    world.settle(model, changed);
    if let Some(shadow) = world.shadow(model) {
        assert_eq!(shadow.step, before + if changed { steps } else { 0 });
    }
}

type Compute<T> = unsafe extern "C" fn(
    *const lenet_model,
    *const T,
    *const u8,
    usize,
    *mut f32,
    usize,
    *mut f32,
) -> lenet_status;

fn compute<T>(
    world: &mut World,
    model: Handle,
    (mut image_place, usual): (Buffer, bool),
    batch: Batch,
    (gradients, length): (Pointer, Length),
    expect: Expect,
    function: Compute<T>,
) {
    let (passed, sizes, _) = model_argument(world, model);
    let (n, needed) = (batch.n.real(), sizes.parameters);
    let labels = batch.labels.1.make(n);
    let mut label_place = Buffer::input(&labels);
    let (mut room, mut loss_place) =
        (Buffer::output::<f32>(length.real(needed)), Buffer::output::<f32>(1));
    let (images, classes) =
        (image_place.pass::<T>(batch.images), label_place.pass::<u8>(batch.labels.0));
    let (output, loss) = (room.pass::<f32>(gradients), loss_place.pass::<f32>(batch.loss));
    let expect = expect
        .pointer(passed)
        .pointer(images)
        .pointer(classes)
        .pointer(output)
        .pointer(loss.or_null())
        .wrong(!batch.n.is_right(), LENET_ERROR_INVALID_ARGUMENT)
        .wrong(!sizes.has_all(&labels), LENET_ERROR_LABEL_OUT_OF_RANGE)
        .possible(!usual || !sizes.tame, LENET_ERROR_DIVERGED);
    let expect = expect_room(expect, length, needed);
    let status = unsafe {
        function(
            passed.pointer,
            images.pointer,
            classes.pointer,
            batch.n.0,
            output.pointer,
            length.of(needed),
            loss.pointer,
        )
    };
    let succeeded = expect.check("lenet_compute_gradients", status);
    image_place.check_unchanged();
    label_place.check_unchanged();
    room.check(succeeded);
    loss_place.check(succeeded && !loss.is_null());
    if succeeded {
        assert!(room.values::<f32>()[..needed].iter().all(|value| value.is_finite()));
        room.check_unwritten_from::<f32>(needed);
    }
    world.settle(model, false);
}
