//! Functions about the library itself, and those that fill in presets.

use crate::canary::{Buffer, Pointer};
use crate::expect::Expect;
use crate::options::{StructSize, Versioned};
use crate::support::{self, name};
use arbitrary::{Arbitrary, Result, Unstructured};
use lenet::ffi::*;
use std::ffi::CStr;

/// A call.
#[derive(Arbitrary, Debug)]
pub enum Call {
    Texts { status: i32 },
    Status { status: u8 },
    DeviceCount { device: Constant, count: Pointer },
    OptionsInit { options: Pointer, size: StructSize, preset: Constant },
    FitOptionsInit { options: Pointer, size: StructSize, preset: Constant },
}

/// A constant of the header, or now and then none.
#[derive(Clone, Copy, Debug)]
pub struct Constant(i32);

impl<'a> Arbitrary<'a> for Constant {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Constant(match u8::arbitrary(u)? {
            small @ 0..=223 => i32::from(small % 2),
            small @ 224..=247 => i32::from(small % 4),
            _ => i32::arbitrary(u)?,
        }))
    }
}

impl Call {
    pub fn run(self) {
        match self {
            Call::Texts { status } => texts(status),
            Call::Status { status } => {
                let status = i32::from(status % 32);
                assert_eq!(name(status) == "LENET_ERROR_UNKNOWN", status > LENET_ERROR_INTERNAL);
            }
            Call::DeviceCount { device, count } => {
                let Constant(device) = device;
                let mut buffer = Buffer::output::<u32>(1);
                let count = buffer.pass(count);
                let expect = Expect::default()
                    .pointer(count)
                    .wrong(!(0..=2).contains(&device), LENET_ERROR_INVALID_ARGUMENT);
                let status = unsafe { lenet_device_count(device, count.pointer) };
                let succeeded = expect.check("lenet_device_count", status);
                buffer.check(succeeded);
            }
            Call::OptionsInit { options, size, preset } => {
                init("lenet_options_init", lenet_options_init, options, size, preset);
            }
            Call::FitOptionsInit { options, size, preset } => {
                init("lenet_fit_options_init", lenet_fit_options_init, options, size, preset);
            }
        }
    }
}

fn texts(status: i32) {
    let text = |pointer| unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().len();
    let before = support::last_error();
    assert!(text(lenet_version()) > 0 && text(lenet_build_info()) > 0);
    let version = unsafe { CStr::from_ptr(lenet_version()) }.to_str().unwrap();
    let number =
        version.split('.').fold(0, |number, part| number * 100 + part.parse::<u32>().unwrap());
    assert_eq!(lenet_version_number(), number);
    assert!(name(status).starts_with("LENET_"));
    assert_eq!(support::last_error(), before, "a success has left a message");
}

fn init<T: Versioned>(
    call: &str,
    function: unsafe extern "C" fn(*mut T, usize, i32) -> lenet_status,
    how: Pointer,
    struct_size: StructSize,
    Constant(preset): Constant,
) {
    let size = struct_size.of::<T>();
    let mut buffer = Buffer::output::<u8>(size.min(1 << 16));
    // Not aligned for the struct if `how` says so, which bytes would not notice.
    let options = buffer.pass::<T>(how);
    let expect = Expect::default()
        .structure(options)
        .wrong(!struct_size.is_right::<T>(), LENET_ERROR_INVALID_ARGUMENT)
        .wrong(!(0..=2).contains(&preset), LENET_ERROR_INVALID_ARGUMENT);
    if how == Pointer::Misaligned {
        // Its last byte would lie outside.
        return;
    }
    let succeeded = expect.check(call, unsafe { function(options.pointer, size, preset) });
    buffer.check(succeeded);
    if succeeded {
        let written: Vec<u8> = buffer.values();
        assert_eq!(written[..4], (size as u32).to_ne_bytes());
        assert!(written.iter().skip(size_of::<T>()).all(|&byte| byte == 0));
    }
}
