//! fork() at any moment: whatever other threads of the parent are inside of, every call works in the child, on the
//! parent's models and on new ones, or is LENET_ERROR_FORKED, which only candle's engine and a GPU may say. Nothing
//! waits for a thread that stayed in the parent, and the child sees whole steps.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

#[path = "support/process.rs"]
mod process;
mod support;

use lenet::ffi::*;
use process::Child;
use std::collections::HashMap;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use support::{Dataset, MadeData, Model, c_path, fit_options, small_with_momentum, times};

const IMAGES: usize = 48;
/// Steps from the first parameters until they are set again.
const STEPS: usize = 6;

/// Bits of parameters, and where they stand in `STEPS`.
type Steps = HashMap<Vec<u32>, usize>;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Without momentum a step depends on the parameters alone.
fn options(num_threads: u32) -> lenet_options {
    lenet_options { momentum: 0.0, num_threads, ..small_with_momentum() }
}

fn candle() -> bool {
    std::env::var("LENET_ENGINE").is_ok_and(|engine| engine == "candle")
}

/// True for OK; false for FORKED where that may be; anything else ends the child.
#[track_caller]
fn worked(status: lenet_status) -> bool {
    let may_be = status == LENET_OK || (candle() && status == LENET_ERROR_FORKED);
    assert!(may_be, "{}: {}", support::name(status), support::last_error());
    status == LENET_OK
}

fn train(model: &Model, data: &MadeData) -> bool {
    let (images, labels) = (data.images.as_ptr(), data.labels.as_ptr());
    worked(unsafe { lenet_train_batch_u8(model.0, images, labels, IMAGES, null_mut()) })
}

fn fit(model: &Model, data: &Dataset) -> bool {
    let options = fit_options(1, 20);
    worked(unsafe { lenet_fit(model.0, data.0, data.0, &options, None, null_mut()) })
}

fn evaluate(model: &Model, data: &Dataset) -> bool {
    let mut metrics = lenet_metrics {
        struct_size: size_of::<lenet_metrics>() as u32,
        reserved: 0,
        count: 0,
        correct: 0,
        loss: 0.0,
        accuracy: 0.0,
    };
    worked(unsafe { lenet_evaluate(model.0, data.0, &mut metrics, null_mut(), 0) })
}

fn save(model: &Model, path: &Path) {
    support::ok(unsafe { lenet_save(model.0, c_path(path).as_ptr()) });
}

fn set_parameters(model: &Model, parameters: &[f32]) {
    support::ok(unsafe { lenet_set_parameters(model.0, parameters.as_ptr(), parameters.len()) });
}

/// Probabilities of the first `n` images.
fn predict(model: &Model, data: &MadeData, n: usize) -> Option<Vec<u32>> {
    let mut probabilities = vec![0.0; n * 3];
    let (images, out) = (data.images.as_ptr(), probabilities.as_mut_ptr());
    worked(unsafe { lenet_predict_u8(model.0, images, n, null_mut(), out) })
        .then(|| bits(&probabilities))
}

fn logits(model: &Model, floats: &[f32], n: usize) -> bool {
    let mut logits = vec![0.0; n * 3];
    worked(unsafe { lenet_logits(model.0, floats.as_ptr(), n, logits.as_mut_ptr()) })
}

/// The step that a gradient makes is the step of `train`.
fn step_by_gradient(model: &Model, data: &MadeData) -> bool {
    let (images, labels) = (data.floats(), data.labels.as_ptr());
    let mut gradient = vec![0.0; unsafe { lenet_parameter_count(model.0) }];
    let (out, length) = (gradient.as_mut_ptr(), gradient.len());
    worked(unsafe {
        lenet_compute_gradients(model.0, images.as_ptr(), labels, IMAGES, out, length, null_mut())
    }) && worked(unsafe { lenet_apply_gradients(model.0, out, length) })
}

/// What both processes have.
struct Scene<'a> {
    data: &'a MadeData,
    floats: Vec<f32>,
    dataset: Dataset,
    /// What `trained` goes through, step by step.
    steps: Steps,
    first: Vec<f32>,
    trained: Model,
    fitted: Model,
    folder: &'a Path,
}

impl<'a> Scene<'a> {
    fn new(num_threads: u32, data: &'a MadeData, folder: &'a Path) -> Self {
        let trained = Model::create(&options(num_threads));
        let (first, mut steps) = (trained.parameters(), Steps::new());
        let rehearsal = trained.try_clone();
        for step in 0..=STEPS {
            steps.insert(bits(&rehearsal.parameters()), step);
            train(&rehearsal, data);
        }
        assert_eq!(steps.len(), STEPS + 1);
        let fitted = trained.try_clone();
        let dataset = Dataset::new(data);
        Scene { data, floats: data.floats(), dataset, steps, first, trained, fitted, folder }
    }

    /// What the parent's threads do, each for ever.
    fn activities(&self) -> Vec<Box<dyn Fn() + Send + Sync + '_>> {
        let models = [&self.trained, &self.fitted];
        let path = self.folder.join("parent");
        vec![
            Box::new(|| {
                for _ in 0..STEPS {
                    train(&self.trained, self.data);
                }
                set_parameters(&self.trained, &self.first);
            }),
            Box::new(|| _ = fit(&self.fitted, &self.dataset)),
            Box::new(move || models.iter().for_each(|m| _ = evaluate(m, &self.dataset))),
            Box::new(move || models.iter().for_each(|m| save(m, &path))),
            Box::new(move || {
                for model in models {
                    predict(model, self.data, 1);
                    predict(model, self.data, IMAGES);
                    logits(model, &self.floats, 9);
                }
            }),
            Box::new(|| {
                let copy = Model::from_bytes(&self.fitted.bytes());
                train(&copy.try_clone(), self.data);
                drop(Dataset::new(self.data));
                step_by_gradient(&copy, self.data);
            }),
            Box::new(|| {
                let rate = self.fitted.options().learning_rate;
                support::ok(unsafe { lenet_set_learning_rate(self.fitted.0, rate) });
            }),
        ]
    }

    /// Every function that takes a model, in the child; frees the parent's models.
    fn use_everything(self) {
        let step = |model: &Model| self.steps.get(&bits(&model.parameters())).copied();
        let begun = step(&self.trained).expect("the parameters are those of no step");

        let loaded = Model::from_bytes(&self.trained.bytes());
        for n in [1, 9, IMAGES] {
            let ours = predict(&self.trained, self.data, n);
            assert_eq!(ours, predict(&loaded, self.data, n));
            assert_eq!(ours.is_some(), logits(&self.trained, &self.floats, n));
        }
        for (number, model) in [&self.trained, &self.fitted].into_iter().enumerate() {
            let path = self.folder.join(format!("child-{number}"));
            save(model, &path);
            let file = Model::load(&path, null());
            assert_eq!(file.bytes(), model.bytes());
            evaluate(model, &self.dataset);
            let copy = model.try_clone();
            assert_eq!(fit(&copy, &self.dataset), fit(&file, &self.dataset));
            assert_eq!(copy.bytes(), file.bytes(), "a copy learns something else");
            support::ok(unsafe { lenet_set_learning_rate(model.0, model.options().learning_rate) });
        }
        if begun < STEPS {
            if train(&self.trained, self.data) {
                assert_eq!(step(&self.trained), Some(begun + 1));
            }
            set_parameters(&self.trained, &loaded.parameters());
            if step_by_gradient(&self.trained, self.data) {
                assert_eq!(step(&self.trained), Some(begun + 1));
            }
        }
        set_parameters(&self.trained, &self.first);
        assert_eq!(step(&self.trained), Some(0));
        fit(&self.fitted, &self.dataset);
        let mut count = 0;
        support::ok(unsafe { lenet_device_count(LENET_DEVICE_AUTO, &mut count) });
    }
}

fn forks_while_others_work(num_threads: u32, forks: u64) {
    let data = MadeData::new(IMAGES, 16, 3);
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::new(num_threads, &data, folder.path());
    let end = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for activity in scene.activities() {
            let (end, done) = (&end, &done);
            scope.spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    activity();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let result = catch_unwind(AssertUnwindSafe(|| {
            for number in 0..forks {
                // Other moments each time; the threads go on meanwhile.
                std::thread::sleep(Duration::from_micros(number * 7919 % 5003));
                let child = Child::fork(|| {
                    // The child's copy: its handles are its own.
                    unsafe { std::ptr::read(&scene) }.use_everything();
                });
                child.succeeds(&format!("fork {number}, {num_threads} threads"));
            }
        }));
        end.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| resume_unwind(panic));
    });
    assert!(done.into_inner() > forks, "the parent's threads hardly worked");
}

/// The first call of a process sets things up, which a fork may cut off.
fn forks_during_the_first_call(forks: u64) {
    for number in 0..forks {
        let fresh = Child::fork(|| {
            let first = std::thread::spawn(|| {
                let model = Model::create(&options(2));
                let mut count = 0;
                unsafe { lenet_device_count(LENET_DEVICE_CUDA, &mut count) };
                predict(&model, &MadeData::new(1, 16, 3), 1);
            });
            (0..number * 37 % 3001).for_each(|_| std::hint::spin_loop());
            let child = Child::fork(|| {
                let data = MadeData::new(IMAGES, 16, 3);
                let model = Model::create(&options(2));
                let mut count = 0;
                support::ok(unsafe { lenet_device_count(LENET_DEVICE_AUTO, &mut count) });
                assert!(!support::last_error().contains("internal"));
                predict(&model, &data, IMAGES);
                train(&model, &data);
            });
            child.succeeds("of a process in its first call");
            first.join().unwrap();
        });
        fresh.succeeds(&format!("first call, fork {number}"));
    }
}

/// A callback that forks: the child goes on with the fit, inside of which it is.
fn a_child_goes_on_with_the_fit_whose_callback_forked() {
    struct Forking<'a> {
        model: &'a Model,
        data: &'a MadeData,
        child: Option<Option<Child>>,
    }
    extern "C-unwind" fn progress(_: *const lenet_progress, user_data: *mut c_void) -> i32 {
        let forking = unsafe { &mut *user_data.cast::<Forking>() };
        if forking.child.is_none() {
            forking.child = Some(Child::fork_here());
            let (images, labels) = (forking.data.images.as_ptr(), forking.data.labels.as_ptr());
            let again = || unsafe {
                lenet_train_batch_u8(forking.model.0, images, labels, IMAGES, null_mut())
            };
            assert_eq!(support::name(again()), "LENET_ERROR_BUSY");
            if forking.is_child() && !candle() {
                // Another thread of the child waits for its turn like in any process.
                let model = forking.model.0 as usize;
                std::thread::spawn(move || unsafe {
                    lenet_set_learning_rate(model as *mut lenet_model, 0.25)
                });
                std::thread::sleep(Duration::from_millis(20));
                assert_eq!(forking.model.options().learning_rate, 0.1);
            }
        }
        0
    }
    impl Forking<'_> {
        fn is_child(&self) -> bool {
            matches!(self.child, Some(None))
        }
    }
    for num_threads in [1, 2] {
        let data = MadeData::new(IMAGES, 16, 3);
        let (model, dataset) = (Model::create(&options(num_threads)), Dataset::new(&data));
        let mut forking = Forking { model: &model, data: &data, child: None };
        let expected = model.try_clone();
        if !candle() {
            expected.fit(&dataset, 1, 20);
        }
        let user_data = (&raw mut forking).cast();
        let options = fit_options(1, 20);
        let status =
            unsafe { lenet_fit(model.0, dataset.0, null(), &options, Some(progress), user_data) };
        if forking.is_child() {
            process::end_child(|| {
                if worked(status) {
                    assert_eq!(model.parameters(), expected.parameters());
                }
            });
        }
        support::ok(status);
        forking.child.flatten().unwrap().succeeds("forked by a callback");
    }
}

/// One test: each part needs the threads of the others gone, and the first one a process that has never called.
#[test]
fn a_child_never_waits_for_a_thread_of_its_parent() {
    let forks = times("LENET_TEST_FORKS", 40);
    forks_during_the_first_call(forks);
    for num_threads in [1, 2] {
        forks_while_others_work(num_threads, forks);
    }
    a_child_goes_on_with_the_fit_whose_callback_forked();
}
