//! Stopping is free: a model that was saved, loaded and trained on is, to the last byte, the one
//! that was never stopped, between batches and in the middle of an epoch. And training repeats
//! itself: same seed, same data, same bytes, for any number of threads.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use lenet::ffi::*;
use std::ffi::c_void;
use std::ptr::null;
use support::{Dataset, MadeData, Model, fit_options, ok, small};

/// The optimizers with and without state.
fn optimizers() -> [lenet_options; 3] {
    let sgd = lenet_options { learning_rate: 0.1, ..small(LENET_PRESET_CLASSIC) };
    [sgd, lenet_options { momentum: 0.9, weight_decay: 0.01, ..sgd }, small(LENET_PRESET_MODERN)]
}

fn train_batches(model: &Model, data: &MadeData, batches: std::ops::Range<usize>) {
    let (n, pixels) = (8, data.size * data.size);
    for batch in batches {
        let images = &data.images[batch * n * pixels..(batch + 1) * n * pixels];
        model.train(images, &data.labels[batch * n..(batch + 1) * n]);
    }
}

/// Fits until `steps` steps are done.
fn fit_and_cancel(model: &Model, data: &Dataset, epochs: u32, mut steps: u32) {
    unsafe extern "C-unwind" fn count_down(_: *const lenet_progress, left: *mut c_void) -> i32 {
        let left = unsafe { &mut *left.cast::<u32>() };
        *left -= 1;
        i32::from(*left == 0)
    }
    let options = fit_options(epochs, 8);
    let left = (&raw mut steps).cast();
    let status = unsafe { lenet_fit(model.0, data.0, null(), &options, Some(count_down), left) };
    assert_eq!(status, LENET_ERROR_CANCELLED);
}

#[test]
fn between_batches() {
    let data = MadeData::new(64, 16, 3);
    for options in optimizers() {
        let whole = Model::create(&options);
        train_batches(&whole, &data, 0..8);

        let before = Model::create(&options);
        train_batches(&before, &data, 0..3);
        let after = Model::from_bytes(&before.bytes());
        assert!(after.bytes() == before.bytes());
        train_batches(&after, &data, 3..8);
        assert!(after.bytes() == whole.bytes());
    }
}

#[test]
fn through_a_file_with_a_changed_learning_rate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let c_path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    let data = MadeData::new(64, 16, 3);
    let whole = Model::create(&small(LENET_PRESET_MODERN));
    train_batches(&whole, &data, 0..2);
    // A rate whose decimal digits must survive the file.
    ok(unsafe { lenet_set_learning_rate(whole.0, 0.1 / 3.0) });
    ok(unsafe { lenet_save(whole.0, c_path.as_ptr()) });
    let loaded = Model::load(&path, null());
    assert_eq!(loaded.options().learning_rate, 0.1 / 3.0);
    train_batches(&whole, &data, 2..4);
    train_batches(&loaded, &data, 2..4);
    assert!(loaded.bytes() == whole.bytes());
}

#[test]
fn in_the_middle_of_an_epoch() {
    let data = Dataset::new(&MadeData::new(60, 16, 3)); // 8 steps an epoch, the last with 4 images
    for options in optimizers() {
        let whole = Model::create(&options);
        whole.fit(&data, 3, 8);

        // Epoch 2 is interrupted after 3 steps; its end callback of epoch 1 counts as well.
        let before = Model::create(&options);
        fit_and_cancel(&before, &data, 3, 8 + 1 + 3);
        let after = Model::from_bytes(&before.bytes());
        after.fit(&data, 2, 8);
        assert!(after.bytes() == whole.bytes());
        // The same without the file.
        before.fit(&data, 2, 8);
        assert!(before.bytes() == whole.bytes());
    }
}

#[test]
fn saved_from_the_callback() {
    struct Saved {
        model: *const lenet_model,
        at: u32,
        bytes: Vec<u8>,
    }
    unsafe extern "C-unwind" fn save(_: *const lenet_progress, saved: *mut c_void) -> i32 {
        let saved = unsafe { &mut *saved.cast::<Saved>() };
        saved.at -= 1;
        if saved.at == 0 {
            let mut needed = 0;
            saved.bytes.resize(1 << 20, 0);
            let (buffer, capacity) = (saved.bytes.as_mut_ptr(), saved.bytes.len());
            ok(unsafe { lenet_save_buffer(saved.model, buffer, capacity, &mut needed) });
            saved.bytes.truncate(needed);
        }
        0
    }
    let data = Dataset::new(&MadeData::new(60, 16, 3));
    let whole = Model::create(&small(LENET_PRESET_MODERN));
    let mut saved = Saved { model: whole.0, at: 5, bytes: Vec::new() };
    let options = fit_options(2, 8);
    let user_data = (&raw mut saved).cast();
    ok(unsafe { lenet_fit(whole.0, data.0, null(), &options, Some(save), user_data) });
    let resumed = Model::from_bytes(&saved.bytes);
    resumed.fit(&data, 2, 8);
    assert!(resumed.bytes() == whole.bytes());
}

#[test]
fn two_fits_are_one_fit() {
    let data = Dataset::new(&MadeData::new(40, 16, 3));
    let (once, twice) =
        (Model::create(&small(LENET_PRESET_MODERN)), Model::create(&small(LENET_PRESET_MODERN)));
    once.fit(&data, 2, 8);
    twice.fit(&data, 1, 8);
    assert!(once.bytes() != twice.bytes());
    twice.fit(&data, 1, 8);
    assert!(once.bytes() == twice.bytes());
}

#[test]
fn an_interrupted_epoch_over_other_data_is_given_up() {
    let (data, other) =
        (Dataset::new(&MadeData::new(60, 16, 3)), Dataset::new(&MadeData::new(33, 16, 3)));
    let model = Model::create(&small(LENET_PRESET_MODERN));
    fit_and_cancel(&model, &data, 1, 3);
    let fresh = model.try_clone();
    model.fit(&other, 1, 8);
    fresh.fit(&other, 1, 8);
    assert!(model.bytes() == fresh.bytes());
}

#[test]
fn the_number_of_threads_changes_nothing_and_the_seed_does() {
    let data = Dataset::new(&MadeData::new(60, 16, 3));
    let trained = |num_threads, seed| {
        let options = lenet_options { num_threads, seed, ..small(LENET_PRESET_MODERN) };
        let model = Model::create(&options);
        model.fit(&data, 2, 8);
        model.bytes()
    };
    let one = trained(1, 5);
    assert!(one == trained(1, 5));
    assert!(one == trained(2, 5));
    assert!(one != trained(1, 6));
}
