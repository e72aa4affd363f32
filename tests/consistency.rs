//! One handle, many threads: eight predict, one trains, one saves. Every prediction and every file is,
//! bit for bit, that of one published step, and no thread sees an earlier step after a later one.
//!
//! Training repeats bit for bit, so what each step predicts and saves is computed first.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use lenet::ffi::*;
use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{MadeData, Model, times};

const STEPS: usize = 300;
const PREDICTING: usize = 8;

/// The bits of what the model says of the first `n` images.
fn predict(model: &Model, data: &MadeData, n: usize) -> Vec<u32> {
    let pixels = data.size * data.size;
    model.predict(&data.images[..n * pixels], n).1.iter().map(|p| p.to_bits()).collect()
}

/// The step that a result belongs to.
type Steps<T> = HashMap<T, usize>;

/// Sees that steps come in their order.
struct Watch<'a, T> {
    steps: &'a Steps<T>,
    last: usize,
    seen: usize,
}

impl<'a, T: Eq + std::hash::Hash> Watch<'a, T> {
    fn new(steps: &'a Steps<T>) -> Self {
        Watch { steps, last: 0, seen: 0 }
    }

    fn see(&mut self, what: &str, result: &T) {
        let Some(&step) = self.steps.get(result) else {
            panic!("{what} after step {} belongs to no step", self.last)
        };
        assert!(step >= self.last, "{what} of step {step} after one of step {}", self.last);
        self.seen += usize::from(step > self.last);
        self.last = step;
    }
}

#[test]
fn every_result_is_of_one_published_step() {
    // One image, which is computed by itself; a vector's worth; more than a chunk.
    const SIZES: [usize; 3] = [1, 7, 40];
    let data = MadeData::new(64, 16, 3);
    let options = lenet_options { num_threads: 2, ..support::small_with_momentum() };
    let original = Model::create(&options);

    let rehearsal = original.try_clone();
    let mut predictions = SIZES.map(|_| Steps::new());
    let mut files = Steps::new();
    for step in 0..=STEPS {
        for (steps, n) in predictions.iter_mut().zip(SIZES) {
            steps.entry(predict(&rehearsal, &data, n)).or_insert(step);
        }
        files.entry(rehearsal.bytes()).or_insert(step);
        rehearsal.train(&data.images, &data.labels);
    }
    assert!(predictions.iter().all(|steps| steps.len() > STEPS / 2), "steps look alike");
    assert_eq!(files.len(), STEPS + 1);

    let (mut rounds, changes) = (0, AtomicUsize::new(0));
    let end = Instant::now() + Duration::from_secs(times("LENET_TEST_SECONDS", 30));
    while Instant::now() < end {
        let model = original.try_clone();
        let trained = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..PREDICTING {
                let (model, data, trained, changes) = (&model, &data, &trained, &changes);
                let which = thread % SIZES.len();
                let mut watch = Watch::new(&predictions[which]);
                scope.spawn(move || {
                    while !trained.load(Ordering::Relaxed) {
                        watch.see("a prediction", &predict(model, data, SIZES[which]));
                    }
                    changes.fetch_add(watch.seen, Ordering::Relaxed);
                });
            }
            scope.spawn(|| {
                let mut watch = Watch::new(&files);
                while !trained.load(Ordering::Relaxed) {
                    watch.see("a file", &model.bytes());
                }
            });
            for _ in 0..STEPS {
                model.train(&data.images, &data.labels);
            }
            trained.store(true, Ordering::Relaxed);
        });
        rounds += 1;
    }
    let changes = changes.into_inner();
    println!("{rounds} rounds of {STEPS} steps; {changes} times a thread saw a later step");
    assert!(changes > rounds * PREDICTING, "the threads hardly saw training");
}

/// What no caller may do, for `make races`: ThreadSanitizer must see that both write.
#[test]
#[ignore = "a race on purpose"]
fn two_threads_write_one_buffer() {
    struct Shared(*mut u8);
    unsafe impl Sync for Shared {}
    let data = MadeData::new(40, 16, 3);
    let model = Model::create(&support::small_with_momentum());
    let mut classes = vec![0; 40];
    let shared = Shared(classes.as_mut_ptr());
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let (model, to) = (&model, &shared);
                // At once, and often: the model's locks may put single writes one after the other.
                start.wait();
                for _ in 0..1000 {
                    support::ok(unsafe {
                        let images = data.images.as_ptr();
                        lenet_predict_u8(model.0, images, 40, to.0, std::ptr::null_mut())
                    });
                }
            });
        }
    });
}
