//! Structs that say their own size, and the options in them.

use crate::canary::{Buffer, Passed, Pointer};
use crate::expect::Expect;
use crate::number::pick;
use crate::support::preset;
use arbitrary::{Arbitrary, Result, Unstructured};
use lenet::ffi::*;
use std::mem::offset_of;

/// A struct of the API that begins with its size.
pub trait Versioned: Copy {
    /// The sizes below its own that an older caller's may have.
    const ENDS: &'static [usize];

    /// Whether all fields are the same, bit for bit.
    fn same(&self, other: &Self) -> bool;
}

/// The bytes of a number or a pointer.
fn bytes_of<T: Copy>(field: &T) -> &[u8] {
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(field).cast(), size_of::<T>()) }
}

macro_rules! versioned {
    ($type:ident: $($field:ident)*) => {
        impl Versioned for $type {
            const ENDS: &'static [usize] = &[$(offset_of!($type, $field)),*];

            fn same(&self, other: &Self) -> bool {
                self.struct_size == other.struct_size
                    $(&& bytes_of(&self.$field) == bytes_of(&other.$field))*
            }
        }
    };
}

versioned!(lenet_options: device device_index num_threads height width classes activation pooling
    optimizer seed learning_rate momentum weight_decay input_mean input_std preparation mirror padding
    reserved);
versioned!(lenet_fit_options: epochs batch_size schedule shift keep patience reserved flip rotation scale
    max_seconds target_accuracy class_balance);
versioned!(lenet_metrics: reserved count correct loss accuracy);
versioned!(lenet_image: format height width stride pixels);
versioned!(lenet_layer: channels height width parameters name kind);
versioned!(lenet_calibration: reserved temperature threshold coverage error loss_before loss_after);

/// What a struct says its size is.
#[derive(Clone, Copy, Debug)]
pub enum StructSize {
    /// The one of the header.
    Own,
    /// An older one.
    Older(u8),
    /// A newer one, whose later fields are 0.
    Newer(u8),
    /// A newer one that uses a later field.
    Used(u8),
    /// Any.
    Any(u16),
    /// As large as none is.
    Huge,
}

impl<'a> Arbitrary<'a> for StructSize {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u8::arbitrary(u)? {
            0..=229 => StructSize::Own,
            230..=239 => StructSize::Older(u8::arbitrary(u)?),
            240..=245 => StructSize::Newer(u8::arbitrary(u)?),
            246..=249 => StructSize::Used(u8::arbitrary(u)?),
            250..=253 => StructSize::Any(u16::arbitrary(u)?),
            _ => StructSize::Huge,
        })
    }
}

impl StructSize {
    /// The number.
    pub fn of<T: Versioned>(self) -> usize {
        let own = size_of::<T>();
        match self {
            StructSize::Own => own,
            StructSize::Older(i) => T::ENDS[usize::from(i) % T::ENDS.len()],
            StructSize::Newer(by) => own + usize::from(by),
            StructSize::Used(by) => own + 1 + usize::from(by),
            StructSize::Any(size) => usize::from(size),
            StructSize::Huge => u32::MAX as usize,
        }
    }

    /// Whether the library must take a struct that says so: an older one ends where a field begins,
    /// a newer one is not absurdly large.
    pub fn is_right<T: Versioned>(self) -> bool {
        let size = self.of::<T>();
        T::ENDS.contains(&size) || (size_of::<T>()..=4096).contains(&size)
    }

    /// The struct as it lies in memory: as many bytes as it says, but four at least.
    pub fn place<T: Versioned>(self, value: &T) -> Buffer {
        let size = self.of::<T>();
        let own = std::ptr::from_ref(value).cast::<u8>();
        let own = unsafe { std::slice::from_raw_parts(own, size_of::<T>()) };
        let mut bytes = own.to_vec();
        bytes.resize(size.clamp(4, 1 << 16), 0);
        bytes[..4].copy_from_slice(&(size as u32).to_ne_bytes());
        if let StructSize::Used(_) = self {
            *bytes.last_mut().unwrap() = 1;
        }
        Buffer::of_struct(&bytes)
    }

    /// What the library reads: the fields that are there, and `defaults` for the rest.
    pub fn read<T: Versioned>(self, value: &T, defaults: T) -> T {
        let mut read = defaults;
        let known = self.of::<T>().min(size_of::<T>());
        let (from, to) = (std::ptr::from_ref(value).cast::<u8>(), (&raw mut read).cast::<u8>());
        unsafe { to.copy_from_nonoverlapping(from, known) };
        read
    }

    /// The errors that the size makes.
    pub fn expect<T: Versioned>(self, expect: Expect) -> Expect {
        let wrong = !self.is_right::<T>() || matches!(self, StructSize::Used(_));
        expect.wrong(wrong, LENET_ERROR_INVALID_ARGUMENT)
    }
}

/// The values of a `lenet_options`, mostly good ones.
#[derive(Clone, Copy, Debug)]
pub struct Values(pub lenet_options);

impl<'a> Arbitrary<'a> for Values {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let real = |u: &mut Unstructured<'a>, usual: &[f64]| {
            let odd = [1.0, -0.1, f64::NAN, f64::INFINITY, -f64::INFINITY, 1e300, 1e-300, 1e30];
            pick(u, usual, &odd)
        };
        let odd_side = [0, 12, 15, 18, 257, 260, u32::MAX];
        Ok(Values(lenet_options {
            struct_size: size_of::<lenet_options>() as u32,
            device: pick(u, &[LENET_DEVICE_CPU, LENET_DEVICE_AUTO], &[LENET_DEVICE_CUDA, -1, 3])?,
            device_index: pick(u, &[0], &[1, -1, i32::MIN, i32::MAX])?,
            num_threads: pick(u, &[1, 1, 1, 1, 1, 1, 1, 2], &[0, 3, 1025, u32::MAX])?,
            height: pick(u, &[16, 16, 16, 20], &odd_side)?,
            width: pick(u, &[16, 16, 16, 24], &odd_side)?,
            classes: pick(u, &[3, 2, 5], &[0, 1, 256, 257, u32::MAX])?,
            activation: pick(u, &[0, 1, 2], &[-1, 3])?,
            pooling: pick(u, &[0, 1], &[-1, 2])?,
            optimizer: pick(u, &[0, 1], &[-1, 2])?,
            seed: u64::from(u8::arbitrary(u)?),
            learning_rate: real(u, &[0.01, 0.001, 0.0, 0.1])?,
            momentum: real(u, &[0.0, 0.9, 0.5])?,
            weight_decay: real(u, &[0.0, 0.01])?,
            input_mean: real(u, &[0.0, 0.5])?,
            input_std: real(u, &[1.0, 0.5])?,
            preparation: pick(u, &[0, 1], &[2, -1, i32::MIN])?,
            mirror: pick(u, &[0, 0, 0, 1], &[2, u32::MAX])?,
            padding: pick(u, &[2, 2, 0], &[1, 3, u32::MAX])?,
            reserved: pick(u, &[0], &[1, u32::MAX])?,
        }))
    }
}

/// Options as they are passed, or NULL.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct OptionsArgument {
    pointer: Pointer,
    size: StructSize,
    values: Values,
}

impl OptionsArgument {
    /// The struct in memory.
    pub fn place(&self) -> Buffer {
        self.size.place(&self.values.0)
    }

    /// The pointer to it.
    pub fn pass(&self, buffer: &mut Buffer) -> Passed<lenet_options> {
        buffer.pass(self.pointer).or_null()
    }

    /// The options that the library must read.
    pub fn read(&self) -> lenet_options {
        let classic = preset(LENET_PRESET_CLASSIC);
        match self.pointer {
            Pointer::Null => classic,
            _ => self.size.read(&self.values.0, classic),
        }
    }

    /// The errors of a call that reads them. Loading does not use all fields, and may refuse those
    /// that it does not use or not.
    pub fn expect(&self, expect: Expect, loading: bool) -> Expect {
        let o = self.read();
        let invalid = LENET_ERROR_INVALID_ARGUMENT;
        let is_side = |side: u32| (16..=256).contains(&side) && side.is_multiple_of(4);
        let device = !(0..=2).contains(&o.device) || o.device_index < 0 || o.num_threads > 1024;
        let is_large = |value: f64| value.is_finite() && value.abs() > f64::from(f32::MAX);
        let is_tiny = |value: f64| value > 0.0 && value < f64::from(f32::MIN_POSITIVE);
        let rest = !is_side(o.height)
            || !is_side(o.width)
            || !(2..=256).contains(&o.classes)
            || !(0..=2).contains(&o.activation)
            || !(0..=1).contains(&o.pooling)
            || !(0..=1).contains(&o.optimizer)
            || !o.learning_rate.is_finite()
            || o.learning_rate < 0.0
            || !(0.0..1.0).contains(&o.momentum)
            || !o.weight_decay.is_finite()
            || o.weight_decay < 0.0
            || !o.input_mean.is_finite()
            || !o.input_std.is_finite()
            || o.input_std <= 0.0
            || !(0..=1).contains(&o.preparation)
            || o.mirror > 1
            || ![0, 2].contains(&o.padding)
            || o.reserved != 0;
        let no_float = is_large(o.input_mean) || is_large(o.input_std) || is_tiny(o.input_std);
        let absent =
            o.device == LENET_DEVICE_CUDA || (o.device == LENET_DEVICE_CPU && o.device_index > 0);
        let expect = expect
            .wrong(device, invalid)
            .wrong(rest && !loading, invalid)
            .possible(rest && loading, invalid)
            .possible(no_float, invalid)
            .wrong(absent, LENET_ERROR_DEVICE_UNAVAILABLE);
        if self.pointer == Pointer::Null {
            return expect;
        }
        let misaligned = self.pointer == Pointer::Misaligned;
        self.size.expect::<lenet_options>(expect).possible(misaligned, invalid)
    }
}
