//! Sequences of up to 32 calls on up to 4 models and 2 datasets, with every argument wrong now and
//! then. A shadow of each handle says what a call must return and what must have changed.
//!
//! What the library cannot check is kept: live handles, and buffers as long as they are said to be
//! unless no buffer can be so long.

mod data;
mod library;
mod model;
mod parameters;
mod train;
mod usage;

use crate::canary::Passed;
use crate::expect::Expect;
use crate::world::{Handle, Shadow, World};
use arbitrary::{Arbitrary, Result, Unstructured};
use lenet::ffi::*;

/// The calls.
#[derive(Debug)]
pub struct Input {
    calls: Vec<Call>,
}

impl<'a> Arbitrary<'a> for Input {
    /// As many calls as there are bytes for; a `Vec`'s own way would end half of them after each.
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut calls = Vec::new();
        while !u.is_empty() && calls.len() < 32 {
            calls.push(Call::arbitrary(u)?);
        }
        Ok(Input { calls })
    }
}

#[derive(Arbitrary, Debug)]
enum Call {
    Library(library::Call),
    Model(model::Call),
    Data(data::Call),
    Train(train::Call),
    Usage(usage::Call),
    Parameters(parameters::Call),
}

impl Input {
    /// Makes the calls, one after the other.
    pub fn run(self) {
        let mut world = World::default();
        model::begin(&mut world);
        data::begin(&mut world);
        for call in self.calls {
            match call {
                Call::Library(call) => call.run(),
                Call::Model(call) => call.run(&mut world),
                Call::Data(call) => call.run(&mut world),
                Call::Train(call) => call.run(&mut world),
                Call::Usage(call) => call.run(&mut world),
                Call::Parameters(call) => call.run(&mut world),
            }
        }
    }
}

/// Pixels of one kind.
#[derive(Clone, Copy, Debug)]
enum Pixels {
    /// From 0 to 1.
    Usual(u8),
    /// So large that no pixel can be, unless the model says so; then sums leave the range of float.
    Large,
    /// One that is not finite.
    NotFinite(u16, bool),
}

impl<'a> Arbitrary<'a> for Pixels {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u8::arbitrary(u)? {
            0..=223 => Pixels::Usual(u8::arbitrary(u)?),
            224..=239 => Pixels::Large,
            _ => Pixels::NotFinite(u16::arbitrary(u)?, bool::arbitrary(u)?),
        })
    }
}

impl Pixels {
    fn floats(self, length: usize) -> Vec<f32> {
        let seed = if let Pixels::Usual(seed) = self { seed } else { 1 };
        let mut pixels: Vec<f32> =
            bytes(seed, length).map(|byte| f32::from(byte) / 255.0).collect();
        match self {
            Pixels::Usual(_) => {}
            Pixels::Large => pixels.fill(3e38),
            Pixels::NotFinite(at, nan) => {
                pixels[usize::from(at) % length] = if nan { f32::NAN } else { f32::INFINITY };
            }
        }
        pixels
    }

    fn is_usual(self) -> bool {
        matches!(self, Pixels::Usual(_))
    }

    fn expect(self, expect: Expect) -> Expect {
        expect
            .wrong(matches!(self, Pixels::NotFinite(..)), LENET_ERROR_NON_FINITE)
            .possible(matches!(self, Pixels::Large), LENET_ERROR_INVALID_ARGUMENT)
    }
}

/// Bytes that differ a little.
fn bytes(seed: u8, length: usize) -> impl Iterator<Item = u8> {
    (0..length).map(move |i| (i as u8).wrapping_mul(seed | 1).wrapping_add((i >> 8) as u8))
}

/// Labels of one kind.
#[derive(Clone, Copy, Debug)]
enum Labels {
    /// Classes that every model has.
    Usual(u8),
    /// One that few models have.
    High(u8, u8),
}

impl<'a> Arbitrary<'a> for Labels {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u8::arbitrary(u)? {
            0..=239 => Labels::Usual(u8::arbitrary(u)?),
            _ => Labels::High(u8::arbitrary(u)?, u8::arbitrary(u)?),
        })
    }
}

impl Labels {
    fn make(self, n: usize) -> Vec<u8> {
        let seed = if let Labels::Usual(seed) = self { seed } else { 3 };
        let mut labels: Vec<u8> = bytes(seed, n).map(|byte| (byte >> 2) & 1).collect();
        if let Labels::High(at, label) = self {
            labels[usize::from(at) % n] = label;
        }
        labels
    }
}

/// The sizes of a model's buffers, for a shadow or where there is no model.
#[derive(Clone, Copy)]
struct Sizes {
    pixels: usize,
    classes: usize,
    parameters: usize,
    tame: bool,
}

impl Sizes {
    fn of(shadow: Option<&Shadow>) -> Sizes {
        let some = |shadow: &Shadow| Sizes {
            pixels: shadow.pixels(),
            classes: shadow.classes(),
            parameters: shadow.parameters(),
            tame: shadow.tame,
        };
        shadow.map_or(Sizes { pixels: 256, classes: 3, parameters: 100, tame: true }, some)
    }

    fn has_all(self, labels: &[u8]) -> bool {
        labels.iter().all(|&label| usize::from(label) < self.classes)
    }
}

/// The model of a call: its pointer, the sizes of its buffers, the errors of the pointer.
fn model_argument(world: &World, model: Handle) -> (Passed<lenet_model>, Sizes, Expect) {
    let passed = world.model(model);
    (passed, Sizes::of(world.shadow(model)), Expect::default().pointer(passed))
}
