//! Every function works on a thread with a stack of 64 KiB, with each kind of vectors that this CPU has; the library's own threads
//! have the stack that it gives them, whatever the host has set.
//!
//! A release build: without optimization the kernels need many times as much.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

#[path = "support/command.rs"]
mod command;
#[path = "support/header_items.rs"]
mod header_items;
mod support;

use lenet::ffi::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::path::Path;
use std::process::Command;
use std::ptr::null_mut;
use support::{Dataset, MadeData, Model, c_path, fit_options, ok};

const KIB: usize = 1024;
/// As docs/security.md says.
const STACK: usize = 64 * KIB;

/// Does this on a thread with so much stack, below which nothing may be touched; bytes that were used.
fn on_a_stack_of(bytes: usize, body: &mut dyn FnMut()) -> usize {
    const UNTOUCHED: u8 = 0xa5;
    const GUARD: usize = 64 * KIB;
    extern "C" fn run(body: *mut c_void) -> *mut c_void {
        unsafe { (*body.cast::<&mut dyn FnMut()>())() };
        null_mut()
    }
    let mut body = body;
    unsafe {
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let guard = libc::mmap(null_mut(), GUARD + bytes, access, kind, -1, 0);
        assert_ne!(guard, libc::MAP_FAILED);
        assert_eq!(libc::mprotect(guard, GUARD, libc::PROT_NONE), 0);
        let stack = guard.byte_add(GUARD);
        libc::memset(stack, UNTOUCHED.into(), bytes);

        let mut attributes = std::mem::zeroed();
        assert_eq!(libc::pthread_attr_init(&mut attributes), 0);
        assert_eq!(libc::pthread_attr_setstack(&mut attributes, stack, bytes), 0);
        let mut thread = 0;
        let argument = (&raw mut body).cast();
        assert_eq!(libc::pthread_create(&mut thread, &attributes, run, argument), 0);
        assert_eq!(libc::pthread_join(thread, null_mut()), 0);
        let touched = std::slice::from_raw_parts(stack.cast::<u8>(), bytes);
        let untouched = touched.iter().take_while(|&&byte| byte == UNTOUCHED).count();
        assert_eq!(libc::munmap(guard, GUARD + bytes), 0);
        bytes - untouched
    }
}

/// What the functions are called with.
struct Things {
    model: Model,
    data: MadeData,
    floats: Vec<f32>,
    dataset: Dataset,
    n: usize,
}

impl Things {
    fn new(options: &lenet_options, n: usize) -> Self {
        let (size, classes) = (options.height as usize, options.classes as usize);
        let data = MadeData::new(n, size, classes);
        let dataset = Dataset::new(&data);
        Things { model: Model::create(options), floats: data.floats(), dataset, data, n }
    }
}

extern "C-unwind" fn go_on(_: *const lenet_progress, _: *mut c_void) -> i32 {
    0
}

type Call<'a> = Box<dyn Fn() + 'a>;

/// Every function of the header by its name.
fn calls<'a>(things: &'a Things, folder: &'a Path) -> BTreeMap<&'static str, Call<'a>> {
    let Things { model, data, floats, dataset, n } = things;
    let (model, dataset, n) = (model.0, dataset.0, *n);
    let (images, labels, floats) = (data.images.as_ptr(), data.labels.as_ptr(), floats.as_ptr());
    let (size, count) = (data.size as u32, unsafe { lenet_parameter_count(model) });
    let options = things.model.options();
    let classes = options.classes as usize;
    // One for the outputs of all calls.
    let numbers = RefCell::new(vec![0f32; count.max(n * classes.max(84))]);
    let numbers = move || numbers.borrow_mut().as_mut_ptr();
    let numbers = std::rc::Rc::new(numbers);
    let path = c_path(&folder.join("model"));
    let files = ["images", "labels"].map(|name| c_path(&folder.join(name)));
    ok(unsafe { lenet_save(model, path.as_ptr()) });
    let saved = things.model.bytes();
    let idx = |dimensions: &[u32], bytes: &[u8]| {
        let head = [0, 0, 8, dimensions.len() as u8].into_iter();
        let head = head.chain(dimensions.iter().flat_map(|d| d.to_be_bytes()));
        head.chain(bytes.iter().copied()).collect::<Vec<u8>>()
    };
    std::fs::write(folder.join("images"), idx(&[n as u32, size, size], &data.images)).unwrap();
    std::fs::write(folder.join("labels"), idx(&[n as u32], &data.labels)).unwrap();
    let parameters = things.model.parameters();
    let gradient = vec![0f32; count];
    let weights: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let mut calls = BTreeMap::<&'static str, Call>::new();
    macro_rules! call {
        ($name:ident, $body:expr) => {
            calls.insert(stringify!($name), Box::new($body));
        };
    }
    call!(lenet_version, || assert!(!lenet_version().is_null()));
    call!(lenet_version_number, || assert!(lenet_version_number() >= 10_000));
    call!(lenet_build_info, || assert!(!lenet_build_info().is_null()));
    call!(lenet_status_name, || assert!(!lenet_status_name(7).is_null()));
    call!(lenet_last_error, || assert!(!lenet_last_error().is_null()));
    call!(lenet_device_count, || {
        ok(unsafe { lenet_device_count(LENET_DEVICE_AUTO, &mut 0) });
    });
    call!(lenet_options_init, || _ = support::preset(LENET_PRESET_MODERN));
    call!(lenet_create, move || drop(Model::create(&options)));
    call!(lenet_clone, || drop(things.model.try_clone()));
    call!(lenet_clone_with_classes, move || {
        let mut copy = null_mut();
        ok(unsafe { lenet_clone_with_classes(model, 256, &mut copy) });
        drop(Model(copy));
    });
    call!(lenet_free, || drop(things.model.try_clone()));
    call!(lenet_get_options, || _ = things.model.options());
    call!(lenet_get_layer, move || {
        let struct_size = size_of::<lenet_layer>() as u32;
        let mut layer = lenet_layer { struct_size, ..unsafe { std::mem::zeroed() } };
        ok(unsafe { lenet_get_layer(model, 3, &mut layer) });
    });
    let to = path.clone();
    call!(lenet_save, move || ok(unsafe { lenet_save(model, to.as_ptr()) }));
    call!(lenet_load, move || {
        let mut loaded = null_mut();
        ok(unsafe { lenet_load(path.as_ptr(), &options, &mut loaded) });
        drop(Model(loaded));
    });
    call!(lenet_save_buffer, || _ = things.model.bytes());
    call!(lenet_load_buffer, move || drop(Model::from_bytes(&saved)));
    let [images_path, labels_path] = files;
    call!(lenet_dataset_open, move || {
        let mut opened = null_mut();
        let paths = (images_path.as_ptr(), labels_path.as_ptr());
        ok(unsafe { lenet_dataset_open(paths.0, paths.1, &mut opened) });
        drop(Dataset(opened));
    });
    let files: Vec<_> = std::fs::read_dir(command::root().join("tests/pictures/folder/class"))
        .unwrap()
        .map(|entry| c_path(&entry.unwrap().path()))
        .collect();
    call!(lenet_predict_file, move || {
        for file in &files {
            ok(unsafe { lenet_predict_file(model, file.as_ptr(), null_mut(), null_mut()) });
        }
    });
    let pictures = c_path(&command::root().join("tests/pictures/folder"));
    let open_pictures = move |progress| {
        let mut opened = null_mut();
        let (path, to) = (pictures.as_ptr(), null_mut());
        ok(unsafe { lenet_dataset_open_folder_with(path, &options, progress, to, &mut opened) });
        drop(Dataset(opened));
    };
    let again = open_pictures.clone();
    call!(lenet_dataset_open_folder_with, move || again(Some(go_on as _)));
    call!(lenet_dataset_open_folder, move || open_pictures(None));
    let table = c_path(&folder.join("table"));
    std::fs::write(folder.join("table"), vec!["1"; (size * size) as usize + 1].join(",")).unwrap();
    call!(lenet_dataset_open_csv, move || {
        let mut opened = null_mut();
        ok(unsafe { lenet_dataset_open_csv(table.as_ptr(), size, size, &mut opened) });
        drop(Dataset(opened));
    });
    call!(lenet_dataset_split, move || {
        let (mut first, mut rest) = (null_mut(), null_mut());
        ok(unsafe { lenet_dataset_split(dataset, 0.5, 1, &mut first, &mut rest) });
        drop([Dataset(first), Dataset(rest)]);
    });
    call!(lenet_dataset_class_count, move || {
        assert!(unsafe { lenet_dataset_class_count(dataset) } > 1);
    });
    call!(lenet_dataset_class_counts, move || unsafe {
        let mut counts = vec![0; lenet_dataset_class_count(dataset)];
        ok(lenet_dataset_class_counts(dataset, counts.as_mut_ptr(), counts.len()));
    });
    call!(lenet_dataset_class_name, move || unsafe {
        ok(lenet_dataset_class_name(dataset, 0, null_mut(), 0, &mut 0));
    });
    call!(lenet_dataset_statistics, move || unsafe {
        ok(lenet_dataset_statistics(dataset, &mut 0.0, &mut 0.0));
    });
    let names = vec![c"name".as_ptr(); classes];
    call!(lenet_set_class_names, move || unsafe {
        ok(lenet_set_class_names(model, names.as_ptr(), names.len()));
    });
    call!(lenet_class_name, move || unsafe {
        ok(lenet_class_name(model, 0, null_mut(), 0, &mut 0));
    });
    call!(lenet_dataset_from_memory, || drop(Dataset::new(data)));
    call!(lenet_dataset_free, || drop(Dataset::new(data)));
    call!(lenet_dataset_count, || assert_eq!(things.dataset.count(), things.n));
    call!(lenet_dataset_size, || _ = things.dataset.size());
    call!(lenet_dataset_read, || _ = things.dataset.read(0, 1));
    let loss = null_mut();
    call!(lenet_train_batch, move || {
        ok(unsafe { lenet_train_batch(model, floats, labels, n, loss) });
    });
    call!(lenet_train_batch_u8, move || {
        ok(unsafe { lenet_train_batch_u8(model, images, labels, n, loss) });
    });
    let (weights, weights_u8) = (weights.clone(), weights);
    call!(lenet_train_batch_weighted, move || {
        let weights = weights.as_ptr();
        ok(unsafe { lenet_train_batch_weighted(model, floats, labels, weights, n, loss) });
    });
    call!(lenet_train_batch_weighted_u8, move || {
        let weights = weights_u8.as_ptr();
        ok(unsafe { lenet_train_batch_weighted_u8(model, images, labels, weights, n, loss) });
    });
    call!(lenet_fit_options_init, || {
        let size = size_of::<lenet_fit_options>();
        ok(unsafe { lenet_fit_options_init(&mut fit_options(1, 1), size, LENET_PRESET_MODERN) });
    });
    call!(lenet_fit, move || {
        let (options, progress) = (fit_options(1, 20), Some(go_on as _));
        ok(unsafe { lenet_fit(model, dataset, dataset, &options, progress, null_mut()) });
    });
    call!(lenet_set_learning_rate, move || {
        ok(unsafe { lenet_set_learning_rate(model, options.learning_rate) });
    });
    let out = numbers.clone();
    call!(lenet_predict, move || {
        ok(unsafe { lenet_predict(model, floats, n, null_mut(), out()) });
        ok(unsafe { lenet_predict(model, floats, 1, null_mut(), out()) });
    });
    let out = numbers.clone();
    call!(lenet_predict_u8, move || {
        ok(unsafe { lenet_predict_u8(model, images, n, null_mut(), out()) });
        ok(unsafe { lenet_predict_u8(model, images, 1, null_mut(), out()) });
    });
    let out = numbers.clone();
    call!(lenet_logits, move || ok(unsafe { lenet_logits(model, floats, n, out()) }));
    let out = numbers.clone();
    call!(lenet_logits_u8, move || ok(unsafe { lenet_logits_u8(model, images, n, out()) }));
    let out = numbers.clone();
    call!(lenet_features, move || {
        ok(unsafe { lenet_features(model, floats, n, out()) });
        ok(unsafe { lenet_features(model, floats, 1, out()) });
    });
    let out = numbers.clone();
    call!(lenet_features_u8, move || ok(unsafe { lenet_features_u8(model, images, n, out()) }));
    let picture = move || lenet_image {
        struct_size: size_of::<lenet_image>() as u32,
        format: LENET_FORMAT_GRAY8,
        height: size,
        width: size,
        stride: 0,
        pixels: images,
    };
    let prepared = RefCell::new(vec![0u8; (size * size) as usize]);
    call!(lenet_prepare_image, move || {
        let mut prepared = prepared.borrow_mut();
        let (out, length) = (prepared.as_mut_ptr(), prepared.len());
        ok(unsafe { lenet_prepare_image(model, &picture(), out, length) });
    });
    let out = numbers.clone();
    call!(lenet_predict_image, move || {
        ok(unsafe { lenet_predict_image(model, &picture(), null_mut(), out()) });
    });
    call!(lenet_evaluate, move || {
        let struct_size = size_of::<lenet_metrics>() as u32;
        let mut metrics = lenet_metrics { struct_size, ..unsafe { std::mem::zeroed() } };
        let mut confusion = vec![0; classes * classes];
        let (counts, length) = (confusion.as_mut_ptr(), confusion.len());
        ok(unsafe { lenet_evaluate(model, dataset, &mut metrics, counts, length) });
    });
    call!(lenet_calibrate, move || {
        ok(unsafe { lenet_calibrate(model, dataset, 0.1, null_mut()) });
    });
    call!(lenet_get_calibration, move || {
        let struct_size = size_of::<lenet_calibration>() as u32;
        let mut found = lenet_calibration { struct_size, ..unsafe { std::mem::zeroed() } };
        ok(unsafe { lenet_get_calibration(model, &mut found) });
    });
    call!(lenet_parameter_count, move || assert!(unsafe { lenet_parameter_count(model) } > 0));
    let out = numbers.clone();
    call!(lenet_get_parameters, move || {
        ok(unsafe { lenet_get_parameters(model, out(), count) });
    });
    call!(lenet_set_parameters, move || {
        ok(unsafe { lenet_set_parameters(model, parameters.as_ptr(), count) });
    });
    let out = numbers.clone();
    call!(lenet_compute_gradients, move || {
        ok(unsafe { lenet_compute_gradients(model, floats, labels, n, out(), count, loss) });
    });
    let out = numbers;
    call!(lenet_compute_gradients_u8, move || {
        ok(unsafe { lenet_compute_gradients_u8(model, images, labels, n, out(), count, loss) });
    });
    call!(lenet_apply_gradients, move || {
        ok(unsafe { lenet_apply_gradients(model, gradient.as_ptr(), count) });
    });
    calls
}

/// Networks that take different ways.
fn networks() -> Vec<(lenet_options, usize)> {
    let classic = support::preset(LENET_PRESET_CLASSIC);
    let modern = lenet_options { input_mean: 0.3, ..support::preset(LENET_PRESET_MODERN) };
    let large = lenet_options { height: 256, width: 256, classes: 256, ..modern };
    let tanh = lenet_options { activation: LENET_ACTIVATION_TANH, momentum: 0.9, ..classic };
    [(classic, 300), (modern, 40), (modern, 5), (large, 9), (tanh, 40)]
        .into_iter()
        .flat_map(|(options, n)| {
            [1, 2].map(|num_threads| (lenet_options { num_threads, ..options }, n))
        })
        .collect()
}

/// In a process of its own: the engine is chosen once, and a stack that does not suffice is the process's end.
#[test]
#[ignore = "for the test below"]
fn in_a_process_of_its_own() {
    let stack = support::times("LENET_TEST_STACK", STACK as u64) as usize;
    let folder = tempfile::tempdir().unwrap();
    let mut most = BTreeMap::<&str, usize>::new();
    for (options, n) in networks() {
        let mut model = null_mut();
        if unsafe { lenet_create(&options, &mut model) } == LENET_ERROR_UNSUPPORTED {
            return; // vectors that this CPU has not
        }
        drop(Model(model));
        let things = Things::new(&options, n);
        for (name, call) in calls(&things, folder.path()) {
            eprintln!("{name}"); // that it was this one, where it was the last one
            let used = on_a_stack_of(stack, &mut || call());
            most.entry(name).and_modify(|most| *most = used.max(*most)).or_insert(used);
        }
    }
    most.iter().for_each(|(name, used)| println!("{used:7} {name}"));
    let functions = header_items::items();
    let functions = functions.iter().filter(|item| item.is_function());
    let missing: Vec<&str> =
        functions.map(|item| item.name()).filter(|name| !most.contains_key(name)).collect();
    assert_eq!(missing, [""; 0], "functions of the header without a call here");
}

#[test]
fn every_function_works_on_a_stack_of_64_kib() {
    for engine in ["fused", "avx2", "portable"] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "in_a_process_of_its_own", "--ignored", "--nocapture"]);
        // What Rust would give its threads if the library left it at that: too little.
        child.env("LENET_ENGINE", engine).env("RUST_MIN_STACK", "1");
        println!("{engine}\n{}", command::run(&mut child));
    }
}

#[test]
fn the_documentation_says_how_much() {
    let text = std::fs::read_to_string(command::root().join("docs/security.md")).unwrap();
    assert!(text.contains(&format!("a stack of {} KiB", STACK / KIB)), "docs/security.md");
}
