//! What a model does to the process that it lives in: with num_threads 1 it makes no thread, neither
//! its own nor one of candle's; with more, they are made when there is work for them, use no CPU while
//! there is none, and are joined when the model is freed. In a child after fork() it computes alone.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

#[path = "support/process.rs"]
mod process;
mod support;

use lenet::ffi::*;
use process::{threads, works_in_a_child};
use support::{Dataset, MadeData, Model, small};

fn use_everything(model: &Model, data: &MadeData) -> Vec<f32> {
    model.fit(&Dataset::new(data), 1, 32);
    let n = data.labels.len();
    let mut gradients = vec![0.0; model.parameters().len()];
    let (images, out, length) = (data.floats(), gradients.as_mut_ptr(), gradients.len());
    let (images, labels) = (images.as_ptr(), data.labels.as_ptr());
    support::ok(unsafe {
        lenet_compute_gradients(model.0, images, labels, n, out, length, std::ptr::null_mut())
    });
    support::ok(unsafe { lenet_apply_gradients(model.0, out, length) });
    model.predict(&data.images, n).1
}

/// CPU time of the whole process in milliseconds.
fn cpu_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) }, 0);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// One test, because the harness runs several on threads of its own.
#[test]
fn threads_belong_to_the_model_and_a_forked_child_computes_the_same() {
    let data = MadeData::new(256, 16, 3);
    let before = threads();
    for (preset, num_threads) in [(LENET_PRESET_CLASSIC, 1), (LENET_PRESET_MODERN, 3)] {
        let options = lenet_options { num_threads, ..small(preset) };
        let model = Model::create(&options);
        let few = 4; // images that are not worth another thread
        model.train(&data.images[..few * 256], &data.labels[..few]);
        assert_eq!(threads(), before);
        use_everything(&model, &data);
        assert_eq!(threads(), before + num_threads as usize - 1);

        let copy = model.try_clone();
        let expected = use_everything(&model, &data);
        let start = cpu_time();
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(cpu_time() - start <= 20, "{} ms while idle", cpu_time() - start);

        for _ in 0..support::times("LENET_TEST_FORKS", 25) {
            use_everything(&model, &data);
            works_in_a_child(|| {
                let same = use_everything(&copy.try_clone(), &data) == expected;
                use_everything(&model, &data); // whose threads are the parent's
                unsafe { lenet_free(model.0) };
                same
            });
        }
        drop(copy);
        drop(model);
        assert_eq!(threads(), before);
    }
}
