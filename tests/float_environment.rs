//! A host may flush denormals, round elsewhere or trap: the library computes the same bits as ever, on
//! its own threads too, and gives the host's environment back, in callbacks already.
#![cfg(target_arch = "x86_64")]
// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use lenet::ffi::*;
use std::arch::asm;
use std::ffi::c_void;
use support::{Dataset, MadeData, Model, fit_options, ok};

fn mxcsr() -> u32 {
    let mut value = 0u32;
    unsafe { asm!("stmxcsr [{}]", in(reg) &mut value, options(nostack)) };
    value
}

fn set_mxcsr(value: u32) {
    unsafe { asm!("ldmxcsr [{}]", in(reg) &value, options(nostack)) };
}

/// Flush to zero and denormals are zero; rounding up; rounding to zero; every trap armed.
const ENVIRONMENTS: [u32; 4] = [0x1f80 | 0x8040, 0x1f80 | 0x4000, 0x1f80 | 0x6000, 0];

const DEFAULT: u32 = 0x1f80;

unsafe extern "C-unwind" fn on_progress(_: *const lenet_progress, environment: *mut c_void) -> i32 {
    let seen = mxcsr();
    unsafe { *environment.cast::<u32>() = seen };
    0
}

/// Trains and predicts on two threads in an environment; the bits, and what the callback saw.
fn compute(environment: u32) -> (Vec<u32>, u32) {
    let data = MadeData::new(64, 16, 3);
    // Some pixels are denormals.
    let floats: Vec<f32> = data
        .floats()
        .iter()
        .enumerate()
        .map(|(i, &x)| if i % 9 == 0 { 1e-40 } else { x })
        .collect();
    let dataset = Dataset::new(&data);
    let options = lenet_options { num_threads: 2, ..support::small(LENET_PRESET_MODERN) };
    let mut probabilities = vec![0.0; 64 * 3];
    let mut seen = 0u32;
    let mut model = std::ptr::null_mut();
    let (images, labels) = (floats.as_ptr(), data.labels.as_ptr());
    let (fit, out) = (fit_options(2, 16), probabilities.as_mut_ptr());
    let user_data = (&raw mut seen).cast();
    // Nothing of this program's own computes in between.
    set_mxcsr(environment);
    let statuses = unsafe {
        [
            lenet_create(&options, &mut model),
            lenet_train_batch(model, images, labels, 64, std::ptr::null_mut()),
            lenet_fit(model, dataset.0, std::ptr::null(), &fit, Some(on_progress), user_data),
            lenet_predict(model, images, 64, std::ptr::null_mut(), out),
        ]
    };
    let after = mxcsr();
    set_mxcsr(DEFAULT);
    statuses.into_iter().for_each(ok);
    assert_eq!(after, environment, "the environment was not given back");
    let parameters = Model(model).parameters();
    (parameters.iter().chain(&probabilities).map(|x| x.to_bits()).collect(), seen)
}

#[test]
fn the_hosts_floating_point_environment_changes_no_bit() {
    let (expected, seen) = compute(DEFAULT);
    assert_eq!(seen, DEFAULT);
    for environment in ENVIRONMENTS {
        let (bits, seen) = compute(environment);
        assert!(bits == expected, "{environment:#x}: other results");
        assert_eq!(seen, environment, "the callback's environment");
    }
}
