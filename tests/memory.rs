//! Memory: a model and what it trains in stay within 16 MB, and once they have begun, predicting
//! allocates nothing and training nothing but a few words: candle 0.11 makes a list of a tensor's axes
//! for each operation in place, to see whether its elements overlap.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use lenet::ffi::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{MadeData, Model, ok, preset};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
static MOST_BYTES: AtomicUsize = AtomicUsize::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        let bytes = BYTES.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST_BYTES.fetch_max(bytes, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BATCH: usize = 256;

struct Caller<'a> {
    model: &'a Model,
    data: &'a MadeData,
    floats: Vec<f32>,
    classes: Vec<u8>,
    probabilities: Vec<f32>,
}

impl Caller<'_> {
    fn train(&mut self) {
        let (images, labels) = (self.floats.as_ptr(), self.data.labels.as_ptr());
        ok(unsafe { lenet_train_batch(self.model.0, images, labels, BATCH, null_mut()) });
        let images = self.data.images.as_ptr();
        ok(unsafe { lenet_train_batch_u8(self.model.0, images, labels, BATCH, null_mut()) });
    }

    fn predict(&mut self) {
        let (classes, probabilities) = (self.classes.as_mut_ptr(), self.probabilities.as_mut_ptr());
        for n in [BATCH, 1, 7] {
            let (floats, bytes) = (self.floats.as_ptr(), self.data.images.as_ptr());
            ok(unsafe { lenet_predict(self.model.0, floats, n, classes, probabilities) });
            ok(unsafe { lenet_predict_u8(self.model.0, bytes, n, classes, probabilities) });
        }
    }
}

/// One test, because all threads of a process share an allocator.
#[test]
fn training_stays_small_and_does_not_allocate_once_it_has_begun() {
    let data = MadeData::new(BATCH, 28, 10);
    for (name, num_threads, padding) in [
        (LENET_PRESET_CLASSIC, 1, 2),
        (LENET_PRESET_CLASSIC, 2, 2),
        (LENET_PRESET_MODERN, 2, 2),
        (LENET_PRESET_MODERN, 2, 0),
    ] {
        let floats = data.floats();
        let (classes, probabilities) = (vec![0; BATCH], vec![0.0; BATCH * 10]);
        let before = BYTES.load(Ordering::Relaxed);
        MOST_BYTES.store(before, Ordering::Relaxed);
        let model = Model::create(&lenet_options { num_threads, padding, ..preset(name) });
        let mut caller = Caller { model: &model, data: &data, floats, classes, probabilities };
        // Until every buffer that steps take in turn is there.
        for _ in 0..3 {
            caller.train();
            caller.predict();
        }
        let taken = MOST_BYTES.load(Ordering::Relaxed) - before;
        assert!(taken <= 16 << 20, "{taken} bytes with {num_threads} threads");

        let count = || (ALLOCATIONS.load(Ordering::Relaxed), ALLOCATED.load(Ordering::Relaxed));
        let start = count();
        (0..20).for_each(|_| caller.predict());
        assert_eq!(count(), start, "predicting with {num_threads} threads allocates");
        (0..20).for_each(|_| caller.train());
        let (allocations, bytes) = (count().0 - start.0, count().1 - start.1);
        let steps = 2 * 20;
        assert!(
            allocations <= 3 * steps && bytes <= 256 * steps,
            "{allocations} allocations, {bytes} bytes in {steps} steps with {num_threads} threads"
        );
        drop(model);
        println!("preset {name}, padding {padding}, {num_threads} threads: {taken} bytes at most");
    }

    // For as long as one likes.
    let data = MadeData::new(4, 16, 3);
    let model = Model::create(&support::small(LENET_PRESET_MODERN));
    let steps = support::times("LENET_TEST_STEPS", 100_000);
    let train = |steps: u64| {
        for _ in 0..steps {
            model.train(&data.images, &data.labels);
        }
    };
    train(1000);
    let (bytes, pages) = (BYTES.load(Ordering::Relaxed), resident_pages());
    train(steps);
    assert_eq!(BYTES.load(Ordering::Relaxed), bytes);
    let more = resident_pages() - pages;
    assert!(more < 64, "{more} pages more after {steps} steps");
}

fn resident_pages() -> i64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse().unwrap()
}
