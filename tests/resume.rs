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

/// The optimizers with and without state, with padding and without.
fn optimizers() -> [lenet_options; 4] {
    let sgd = lenet_options { learning_rate: 0.1, ..small(LENET_PRESET_CLASSIC) };
    let modern = small(LENET_PRESET_MODERN);
    let momentum = lenet_options { momentum: 0.9, weight_decay: 0.01, ..sgd };
    [sgd, momentum, modern, lenet_options { padding: 0, ..modern }]
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

/// Files of the same data, opened anew.
fn through_idx_files(data: &MadeData) -> Dataset {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, sizes: &[usize], bytes: &[u8]| {
        let sizes = sizes.iter().flat_map(|&size| (size as u32).to_be_bytes());
        let header: Vec<u8> = sizes.collect();
        let path = folder.path().join(name);
        let rank = (header.len() / 4) as u8;
        std::fs::write(&path, [&[0, 0, 8, rank], &header[..], bytes].concat()).unwrap();
        path
    };
    let n = data.labels.len();
    let images = write("images", &[n, data.size, data.size], &data.images);
    Dataset::open(&images, &write("labels", &[n], &data.labels)).unwrap()
}

#[test]
fn the_rest_of_an_epoch_belongs_to_the_dataset_that_it_was_begun_with() {
    let made = MadeData::new(60, 16, 3);
    let changed = |change: &dyn Fn(&mut MadeData)| {
        let mut made = MadeData::new(60, 16, 3);
        change(&mut made);
        Dataset::new(&made)
    };
    let last_pixel = changed(&|made| *made.images.last_mut().unwrap() ^= 1);
    let last_label = changed(&|made| made.labels[59] = (made.labels[59] + 1) % 3);
    let order = changed(&|made| {
        made.images.rotate_left(256);
        made.labels.rotate_left(1);
    });
    for options in optimizers() {
        let model = Model::create(&options);
        fit_and_cancel(&model, &Dataset::new(&made), 1, 7); // of 8
        let saved = model.bytes();
        for other in [&last_pixel, &last_label, &order] {
            for model in [model.try_clone(), Model::from_bytes(&saved)] {
                assert_eq!(steps_of_a_fit(&model, other), 8);
            }
        }
        // The same content is the same dataset, wherever it comes from.
        let whole = Model::create(&options);
        whole.fit(&Dataset::new(&made), 1, 8);
        for same in [Dataset::new(&made), through_idx_files(&made)] {
            let resumed = Model::from_bytes(&saved);
            assert_eq!(steps_of_a_fit(&resumed, &same), 1);
            assert!(resumed.bytes() == whole.bytes());
        }
    }
}

/// Steps that one epoch makes.
fn steps_of_a_fit(model: &Model, data: &Dataset) -> u32 {
    unsafe extern "C-unwind" fn count(progress: *const lenet_progress, steps: *mut c_void) -> i32 {
        let (progress, steps) = unsafe { (&*progress, &mut *steps.cast::<u32>()) };
        *steps += u32::from(progress.event == LENET_PROGRESS_STEP);
        0
    }
    let (options, mut steps) = (fit_options(1, 8), 0u32);
    let user_data = (&raw mut steps).cast();
    ok(unsafe { lenet_fit(model.0, data.0, null(), &options, Some(count), user_data) });
    steps
}

/// Images of 16 x 32 whose bytes are those of 32 x 16.
#[test]
fn the_same_bytes_in_another_shape_are_another_dataset() {
    let made = MadeData::new(60, 16, 3);
    let shaped = |n: usize, height, width| {
        let mut dataset = std::ptr::null_mut();
        let (images, labels) = (made.images.as_ptr(), made.labels.as_ptr());
        ok(unsafe { lenet_dataset_from_memory(images, labels, n, height, width, &mut dataset) });
        Dataset(dataset)
    };
    let model = Model::create(&lenet_options { width: 32, ..small(LENET_PRESET_MODERN) });
    fit_and_cancel(&model, &shaped(30, 16, 32), 1, 3);
    let text = String::from_utf8_lossy(&model.bytes()).into_owned();
    // A file cannot be of two shapes but by a forger, who changes the shape and not the hash.
    let hash = |text: &str| text.split("epoch_dataset\\\":\\\"").nth(1).unwrap()[..32].to_string();
    let other = Model::create(&lenet_options { height: 32, ..small(LENET_PRESET_MODERN) });
    fit_and_cancel(&other, &shaped(30, 32, 16), 1, 3);
    assert_ne!(hash(&text), hash(&String::from_utf8_lossy(&other.bytes())));
}

/// The hash is in files, so it must not change: the same on every machine, in every version.
#[test]
fn the_hash_in_the_file_stays_what_it_is() {
    let model = Model::create(&small(LENET_PRESET_CLASSIC));
    let data = Dataset::new(&MadeData::new(60, 16, 3));
    fit_and_cancel(&model, &data, 1, 3);
    let bytes = model.bytes();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains(EPOCH_DATASET), "{}", &text[..1500]);
    assert!(text.contains("\\\"format\\\":2"), "1.0 would not call it a later format");
    // Between epochs there is nothing to keep, and 1.0 reads the file.
    model.fit(&data, 1, 8);
    assert!(!String::from_utf8_lossy(&model.bytes()).contains("epoch_dataset"));
    assert!(String::from_utf8_lossy(&model.bytes()).contains("\\\"format\\\":1"));
}

/// XXH3 with 128 bits of height, width, labels and images, as another implementation has it.
const EPOCH_DATASET: &str = "ec4598332417ebf18d09e287ea4bdd6c";

/// What 1.0 wrote does not tell the dataset; its number of images must do.
#[test]
fn a_file_without_the_hash_goes_on_with_as_many_images() {
    let model = Model::create(&small(LENET_PRESET_MODERN));
    let data = Dataset::new(&MadeData::new(60, 16, 3));
    fit_and_cancel(&model, &data, 1, 7);
    let without = edit_header(&model.bytes(), |header| {
        let at = header.find(",\\\"epoch_dataset").unwrap();
        let end = at + header[at..].find('}').unwrap();
        header.replace_range(at..end, "");
    });
    assert_eq!(steps_of_a_fit(&Model::from_bytes(&without), &data), 1);
    let whole = Model::create(&small(LENET_PRESET_MODERN));
    whole.fit(&data, 1, 8);
    let resumed = Model::from_bytes(&without);
    resumed.fit(&data, 1, 8);
    assert!(resumed.bytes() == whole.bytes());
}

#[test]
fn a_hash_that_none_could_be_is_refused() {
    let model = Model::create(&small(LENET_PRESET_CLASSIC));
    fit_and_cancel(&model, &Dataset::new(&MadeData::new(60, 16, 3)), 1, 3);
    let bytes = model.bytes();
    let forged = |forge: &dyn Fn(&mut String)| {
        let bytes = edit_header(&bytes, forge);
        let status = Model::try_from_bytes(&bytes, null()).err().unwrap_or(LENET_OK);
        support::refused("load", status, LENET_ERROR_CORRUPT, &["metadata", "epoch_dataset"]);
    };
    let at = |header: &str| header.find("epoch_dataset\\\":\\\"").unwrap() + 18;
    forged(&|header| header.replace_range(at(header)..at(header) + 1, "G"));
    forged(&|header| header.replace_range(at(header)..at(header) + 1, "+"));
    forged(&|header| header.replace_range(at(header)..at(header) + 1, "A"));
    forged(&|header| header.replace_range(at(header)..at(header) + 1, ""));
    forged(&|header| header.insert(at(header), '0'));
    // Between epochs there is no dataset.
    forged(&|header| *header = header.replace("epoch_consumed\\\":24", "epoch_consumed\\\":0"));
}

/// The file with its header's text changed.
fn edit_header(bytes: &[u8], edit: impl Fn(&mut String)) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    edit(&mut header);
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[8 + length..]].concat()
}

#[test]
fn the_number_of_threads_changes_nothing_and_the_seed_does() {
    let data = Dataset::new(&MadeData::new(60, 16, 3));
    for padding in [2, 0] {
        let trained = |num_threads, seed| {
            let preset = small(LENET_PRESET_MODERN);
            let model = Model::create(&lenet_options { num_threads, seed, padding, ..preset });
            model.fit(&data, 2, 8);
            model.bytes()
        };
        let one = trained(1, 5);
        assert!(one == trained(1, 5));
        assert!(one == trained(2, 5));
        assert!(one != trained(1, 6));
    }
}

/// A schedule that a progress function makes is the one that whoever stops after each step would make, over the end
/// of epochs and for any number of threads.
#[test]
fn a_rate_set_from_inside_is_one_set_where_the_fit_stood() {
    /// The rate after so many events, steps and ends of epochs alike.
    fn rate(events: u32) -> f64 {
        0.1 / f64::from(1 + events * events % 7)
    }
    struct Schedule {
        model: *mut lenet_model,
        events: u32,
        cancel_at: u32,
    }
    unsafe extern "C-unwind" fn follow(_: *const lenet_progress, data: *mut c_void) -> i32 {
        let schedule = unsafe { &mut *data.cast::<Schedule>() };
        schedule.events += 1;
        ok(unsafe { lenet_set_learning_rate(schedule.model, rate(schedule.events)) });
        i32::from(schedule.events == schedule.cancel_at)
    }
    let made = MadeData::new(60, 16, 3);
    let data = Dataset::new(&made);
    for options in optimizers() {
        let fit = |model: &Model, epochs: u32, events: u32, cancel_at: u32| {
            let mut schedule = Schedule { model: model.0, events, cancel_at };
            let (fit, to) = (fit_options(epochs, 8), (&raw mut schedule).cast());
            unsafe { lenet_fit(model.0, data.0, data.0, &fit, Some(follow), to) }
        };
        // 8 steps and an end, three times.
        let whole = [1, 2].map(|num_threads| {
            let model = Model::create(&lenet_options { num_threads, ..options });
            ok(fit(&model, 3, 0, 0));
            assert_eq!(model.options().learning_rate, rate(27));
            model.bytes()
        });
        assert!(whole[0] == whole[1], "threads");

        // Stopped, saved and loaded after every event, the rate set from outside.
        let mut model = Model::create(&options);
        for events in 1..=27 {
            let step_left = events % 9 != 0;
            if step_left {
                fit_and_cancel(&model, &data, 1, 1);
            }
            ok(unsafe { lenet_set_learning_rate(model.0, rate(events)) });
            model = Model::from_bytes(&model.bytes());
        }
        assert!(model.bytes() == whole[0], "stopped after each step");

        // Stopped from inside at any place, and gone on with.
        for cancel_at in [1, 5, 8, 9, 10, 20] {
            let model = Model::create(&options);
            assert_eq!(fit(&model, 3, 0, cancel_at), LENET_ERROR_CANCELLED);
            let model = Model::from_bytes(&model.bytes());
            let (ended, between) = (cancel_at / 9, cancel_at % 9 == 8);
            // A step that ends an epoch is told before its end is.
            let events = cancel_at + u32::from(between);
            if between {
                ok(unsafe { lenet_set_learning_rate(model.0, rate(events)) });
            }
            ok(fit(&model, 3 - ended - u32::from(between), events, 0));
            assert!(model.bytes() == whole[0], "cancelled at {cancel_at}");
        }
    }
}
