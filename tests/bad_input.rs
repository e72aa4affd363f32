//! Whatever a caller gets wrong, every function says so: with the right status, a message that names
//! the culprit, outputs as they were and the model as it was.
//!
//! One table has a valid call of every function; rows spoil one argument of it each. Rows for
//! pointers (NULL, misaligned) are made from `include/lenet.h` itself, and a function, parameter or
//! field that the header declares and no row spoils fails a test.

// What each pointer must be is said in lenet.h; here the wrong ones are wrong on purpose.
#![allow(clippy::undocumented_unsafe_blocks)]

#[path = "support/command.rs"]
mod command;
#[path = "support/header_items.rs"]
mod header_items;
mod support;

use header_items::{Item, header, items};
use lenet::ffi::*;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};
use support::*;

const N: usize = 18;
const SIDE: u32 = 16;
const PIXELS: usize = (SIDE * SIDE) as usize;
const CLASSES: usize = 3;
const LAST_PIXEL: usize = N * PIXELS - 1;

/// What output buffers are full of before a call.
const CANARY: u8 = 0xa5;
/// Room for the largest output, a model file, and more than a cache line of canaries around it.
const ARENA: usize = 1 << 19;
/// Bytes behind a struct, for callers whose struct is larger than the library's.
const UNKNOWN: usize = 64;

/// A valid argument for every parameter of every function. A row spoils one.
struct Args {
    model: *mut lenet_model,
    dataset: *mut lenet_dataset,
    validation: *mut lenet_dataset,
    images: Vec<f32>,
    bytes: Vec<u8>,
    labels: Vec<u8>,
    weights: Vec<f32>,
    n: usize,
    classes: u32,
    parameters: Vec<f32>,
    length: usize,
    file: Vec<u8>,
    file_length: usize,
    path: CString,
    labels_path: CString,
    names: Vec<CString>,
    name_length: usize,
    fraction: f64,
    options: lenet_options,
    fit_options: lenet_fit_options,
    picture: lenet_image,
    device: i32,
    preset: i32,
    size: Option<usize>,
    struct_size: Option<u32>,
    unknown_byte: u8,
    index: usize,
    first: usize,
    height: u32,
    width: u32,
    learning_rate: f64,
    max_error: f64,
    confusion_length: usize,
    status: lenet_status,
    /// The parameter that is passed as NULL, or one byte further than it should be.
    null: String,
    misaligned: String,

    fixture: Fixture,
    arena: Vec<u64>,
    /// What the arena must still be after a call that failed.
    arena_before: Vec<u64>,
    arena_used: Cell<usize>,
}

/// What calls work on, made once and copied for each row.
struct Fixture {
    folder: tempfile::TempDir,
    model: Model,
    /// Pixels of 1 are infinite to it, and its steps are 1e30 long: it diverges at once.
    wild: Model,
    /// Prepares pictures as glyphs.
    glyphs: Model,
    data: Dataset,
    other_size: Dataset,
    high_label: Dataset,
}

impl Fixture {
    fn new() -> Self {
        let model = Model::create(&small_with_momentum());
        let data = MadeData::new(N, SIDE as usize, CLASSES);
        model.train(&data.images, &data.labels);
        let wild = Model::create(&lenet_options {
            activation: LENET_ACTIVATION_RELU,
            input_std: 1e-39,
            learning_rate: 1e30,
            ..small_with_momentum()
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model"), model.bytes()).unwrap();
        let idx = |name: &str, header: &[u8], data: &[u8]| {
            std::fs::write(folder.path().join(name), [header, data].concat()).unwrap();
        };
        let (bytes, good) = (data.images, data.labels);
        write_own_data(folder.path());
        idx("images", &[0, 0, 8, 3, 0, 0, 0, 18, 0, 0, 0, 16, 0, 0, 0, 16], &bytes);
        idx("labels", &[0, 0, 8, 1, 0, 0, 0, 18], &good);
        let mut high = good.clone();
        high[17] = 3;
        Fixture {
            data: dataset(&bytes, &good, SIDE),
            other_size: dataset(&[0; N * 320], &good, 20),
            high_label: dataset(&bytes, &high, SIDE),
            glyphs: Model::create(&lenet_options {
                preparation: LENET_PREPARE_GLYPH,
                ..small_with_momentum()
            }),
            folder,
            model,
            wild,
        }
    }

    fn duplicate(&self) -> Fixture {
        let again = |old: &Dataset| {
            let ((images, labels), (height, width)) = (old.read(0, N), old.size());
            assert_eq!(height, SIDE);
            dataset(&images, &labels, width)
        };
        let folder = tempfile::tempdir().unwrap();
        for file in ["model", "images", "labels"] {
            std::fs::copy(self.folder.path().join(file), folder.path().join(file)).unwrap();
        }
        write_own_data(folder.path());
        Fixture {
            folder,
            model: self.model.try_clone(),
            wild: self.wild.try_clone(),
            glyphs: self.glyphs.try_clone(),
            data: again(&self.data),
            other_size: again(&self.other_size),
            high_label: again(&self.high_label),
        }
    }

    fn path(&self, name: &str) -> CString {
        c_path(&self.folder.path().join(name))
    }

    fn state(&self) -> [Vec<u8>; 2] {
        [self.model.bytes(), self.wild.bytes()]
    }
}

/// A folder of pictures and a CSV file.
fn write_own_data(folder: &std::path::Path) {
    for class in ["ant", "bee"] {
        let class = folder.join("pictures").join(class);
        std::fs::create_dir_all(&class).unwrap();
        std::fs::write(class.join("1.pgm"), b"P5 2 2 255\n\x01\x02\x03\x04").unwrap();
    }
    let row = ["7"; PIXELS + 1].join(",");
    std::fs::write(folder.join("table"), row).unwrap();
}

fn dataset(images: &[u8], labels: &[u8], width: u32) -> Dataset {
    let mut dataset = null_mut();
    let (i, l, n) = (images.as_ptr(), labels.as_ptr(), labels.len());
    assert_eq!(images.len(), n * (SIDE * width) as usize);
    ok(unsafe { lenet_dataset_from_memory(i, l, n, SIDE, width, &mut dataset) });
    Dataset(dataset)
}

impl Args {
    fn new(fixture: Fixture) -> Self {
        let file = fixture.model.bytes();
        let mut parameters = fixture.model.parameters();
        let length = parameters.len();
        // Room for the row that claims one too many.
        parameters.push(0.0);
        let data = MadeData::new(N, SIDE as usize, CLASSES);
        let arena = vec![u64::from_ne_bytes([CANARY; 8]); ARENA / 8];
        Args {
            model: fixture.model.0,
            dataset: fixture.data.0,
            validation: fixture.data.0,
            images: data.floats(),
            bytes: data.images,
            labels: data.labels,
            weights: (0..N).map(|i| i as f32).collect(),
            n: N,
            classes: 5,
            parameters,
            length,
            file_length: file.len(),
            file,
            path: fixture.path("model"),
            labels_path: fixture.path("labels"),
            names: [c"ant", c"bee", c"cat"].map(Into::into).into(),
            name_length: 3,
            fraction: 0.5,
            options: small_with_momentum(),
            fit_options: fit_options(1, 8),
            // The first image: three bytes a pixel, and rows that do not touch.
            picture: lenet_image {
                struct_size: size_of::<lenet_image>() as u32,
                format: LENET_FORMAT_RGB8,
                height: 20,
                width: 30,
                stride: 96,
                pixels: null(),
            },
            device: LENET_DEVICE_CPU,
            preset: LENET_PRESET_CLASSIC,
            size: None,
            struct_size: None,
            unknown_byte: 0,
            index: 0,
            first: 0,
            height: SIDE,
            width: SIDE,
            learning_rate: 0.5,
            max_error: 0.1,
            confusion_length: CLASSES * CLASSES,
            status: LENET_OK,
            null: String::new(),
            misaligned: String::new(),
            arena_before: arena.clone(),
            arena,
            arena_used: Cell::new(8),
            fixture,
        }
    }

    /// For functions whose path leads to something else than a model, unless a row has spoilt it.
    fn instead_of_model(&mut self, name: &str) {
        if self.path == self.fixture.path("model") {
            self.path = self.fixture.path(name);
        }
    }

    fn use_wild(&mut self) {
        self.model = self.fixture.wild.0;
    }

    /// An argument as the row wants it passed.
    fn pass<T>(&self, name: &str, pointer: *const T) -> *const T {
        if name == self.null {
            null()
        } else if name == self.misaligned {
            pointer.wrapping_byte_add(1)
        } else {
            pointer
        }
    }

    fn pass_mut<T>(&self, name: &str, pointer: *mut T) -> *mut T {
        self.pass(name, pointer).cast_mut()
    }

    /// A place in the arena with canaries behind it.
    fn take(&self, bytes: usize) -> usize {
        let at = self.arena_used.get();
        self.arena_used.set((at + bytes + 64).next_multiple_of(8));
        assert!(self.arena_used.get() < ARENA);
        at
    }

    /// Room for an output.
    fn out<T>(&self, name: &str, count: usize) -> *mut T {
        let bytes = count * size_of::<T>();
        let at = self.take(bytes);
        let arena = self.arena.as_ptr().cast::<u8>().cast_mut();
        self.pass_mut(name, arena.wrapping_add(at).cast())
    }

    /// A struct with a `struct_size` and room behind it; `contents` may be shorter than the struct,
    /// whose rest is then canaries.
    fn sized<T>(&mut self, name: &str, contents: &[u8]) -> *mut T {
        let known = size_of::<T>();
        let mut bytes = vec![CANARY; known];
        bytes[..contents.len()].copy_from_slice(contents);
        bytes.resize(known + UNKNOWN, 0);
        let size = self.struct_size.unwrap_or(known as u32);
        bytes[..4].copy_from_slice(&size.to_ne_bytes());
        if self.unknown_byte != 0 {
            bytes[size as usize - 1] = self.unknown_byte;
        }
        let at = self.take(bytes.len());
        for arena in [&mut self.arena_before, &mut self.arena] {
            let arena = arena.as_mut_ptr().cast::<u8>();
            unsafe { arena.add(at).copy_from(bytes.as_ptr(), bytes.len()) };
        }
        let arena = self.arena.as_mut_ptr().cast::<u8>();
        self.pass_mut(name, arena.wrapping_add(at).cast())
    }

    fn options(&mut self) -> *const lenet_options {
        let options = self.options;
        self.sized("options", bytes_of(&options))
    }

    /// With `bytes` for its pixels, of which there are enough, unless NULL is the row's.
    fn picture(&mut self) -> *const lenet_image {
        let pixels = self.bytes.as_ptr();
        let pixels = if self.null == "image.pixels" { null() } else { pixels };
        let picture = lenet_image { pixels, ..self.picture };
        self.sized("image", bytes_of(&picture))
    }

    fn fit_options(&mut self) -> *const lenet_fit_options {
        let options = self.fit_options;
        self.sized("options", bytes_of(&options))
    }
}

fn bytes_of<T: Copy>(value: &T) -> &[u8] {
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// Frees what a call that succeeded has made.
fn free_made(status: lenet_status, made: *mut *mut lenet_model) -> lenet_status {
    if status == LENET_OK {
        unsafe { lenet_free(*made) };
    }
    status
}

fn free_made_dataset(status: lenet_status, made: *mut *mut lenet_dataset) -> lenet_status {
    if status == LENET_OK {
        unsafe { lenet_dataset_free(*made) };
    }
    status
}

/// The one output that a failure writes.
fn forget_needed(status: lenet_status, needed: *mut usize, expected: usize) -> lenet_status {
    if status == LENET_ERROR_BUFFER_TOO_SMALL {
        unsafe {
            assert_eq!(*needed, expected);
            *needed = usize::from_ne_bytes([CANARY; size_of::<usize>()]);
        }
    }
    status
}

/// The functions that return a count have no status: 0 with a message stands for one.
fn status_of_count(count: usize) -> lenet_status {
    match count {
        0 if last_error().ends_with("is NULL") => LENET_ERROR_NULL_POINTER,
        0 => LENET_ERROR_INVALID_ARGUMENT,
        _ => LENET_OK,
    }
}

unsafe extern "C-unwind" fn go_on(_: *const lenet_progress, _: *mut c_void) -> i32 {
    0
}

type Call = fn(&mut Args) -> lenet_status;

/// How each function is called. The functions without arguments come first.
const CALLS: &[(&str, Call)] = &[
    ("lenet_version", |_| i32::from(lenet_version().is_null())),
    ("lenet_version_number", |_| i32::from(lenet_version_number() == 0)),
    ("lenet_build_info", |_| i32::from(lenet_build_info().is_null())),
    ("lenet_last_error", |_| i32::from(lenet_last_error().is_null())),
    ("lenet_status_name", |a| i32::from(lenet_status_name(a.status).is_null())),
    ("lenet_device_count", |a| unsafe { lenet_device_count(a.device, a.out("count", 1)) }),
    ("lenet_options_init", |a| unsafe {
        let size = a.size.unwrap_or(size_of::<lenet_options>());
        lenet_options_init(a.out::<u8>("options", size.min(5000)).cast(), size, a.preset)
    }),
    ("lenet_create", |a| unsafe {
        let model = a.out("model", 1);
        free_made(lenet_create(a.options(), model), model)
    }),
    ("lenet_clone", |a| unsafe {
        let copy = a.out("copy", 1);
        free_made(lenet_clone(a.pass("model", a.model), copy), copy)
    }),
    ("lenet_clone_with_classes", |a| unsafe {
        let copy = a.out("copy", 1);
        free_made(lenet_clone_with_classes(a.pass("model", a.model), a.classes, copy), copy)
    }),
    ("lenet_free", |_| {
        unsafe { lenet_free(null_mut()) };
        LENET_OK
    }),
    ("lenet_get_options", |a| unsafe {
        let options = a.sized("options", &[]);
        lenet_get_options(a.pass("model", a.model), options)
    }),
    ("lenet_get_layer", |a| unsafe {
        let layer = a.sized("layer", &[]);
        lenet_get_layer(a.pass("model", a.model), a.index, layer)
    }),
    ("lenet_save", |a| unsafe {
        lenet_save(a.pass("model", a.model), a.pass("path", a.path.as_ptr()))
    }),
    ("lenet_load", |a| unsafe {
        let model = a.out("model", 1);
        let options = a.options();
        free_made(lenet_load(a.pass("path", a.path.as_ptr()), options, model), model)
    }),
    ("lenet_save_buffer", |a| unsafe {
        let buffer = a.out("buffer", a.file_length.min(a.file.len()));
        let needed = a.out("needed", 1);
        let status = lenet_save_buffer(a.pass("model", a.model), buffer, a.file_length, needed);
        forget_needed(status, needed, a.file.len())
    }),
    ("lenet_load_buffer", |a| unsafe {
        let model = a.out("model", 1);
        let options = a.options();
        let buffer = a.pass("buffer", a.file.as_ptr());
        free_made(lenet_load_buffer(buffer, a.file_length, options, model), model)
    }),
    ("lenet_dataset_open", |a| unsafe {
        a.instead_of_model("images");
        let dataset = a.out("dataset", 1);
        let images = a.pass("images_path", a.path.as_ptr());
        let labels = a.pass("labels_path", a.labels_path.as_ptr());
        free_made_dataset(lenet_dataset_open(images, labels, dataset), dataset)
    }),
    ("lenet_dataset_from_memory", |a| unsafe {
        let dataset = a.out("dataset", 1);
        let images = a.pass("images", a.bytes.as_ptr());
        let labels = a.pass("labels", a.labels.as_ptr());
        free_made_dataset(
            lenet_dataset_from_memory(images, labels, a.n, a.height, a.width, dataset),
            dataset,
        )
    }),
    ("lenet_dataset_open_folder", |a| unsafe {
        a.instead_of_model("pictures");
        let (dataset, options) = (a.out("dataset", 1), a.options());
        let path = a.pass("path", a.path.as_ptr());
        free_made_dataset(lenet_dataset_open_folder(path, options, dataset), dataset)
    }),
    ("lenet_dataset_open_folder_with", |a| unsafe {
        a.instead_of_model("pictures");
        let (dataset, options) = (a.out("dataset", 1), a.options());
        let path = a.pass("path", a.path.as_ptr());
        let progress: lenet_progress_fn = if a.null == "progress" { None } else { Some(go_on) };
        let user_data = a.out("user_data", 1);
        let status = lenet_dataset_open_folder_with(path, options, progress, user_data, dataset);
        free_made_dataset(status, dataset)
    }),
    ("lenet_dataset_open_csv", |a| unsafe {
        a.instead_of_model("table");
        let dataset = a.out("dataset", 1);
        let path = a.pass("path", a.path.as_ptr());
        free_made_dataset(lenet_dataset_open_csv(path, a.height, a.width, dataset), dataset)
    }),
    ("lenet_dataset_split", |a| unsafe {
        let (first, rest) = (a.out("first", 1), a.out("rest", 1));
        let dataset = a.pass("dataset", a.dataset);
        let status = lenet_dataset_split(dataset, a.fraction, a.n as u64, first, rest);
        free_made_dataset(free_made_dataset(status, first), rest)
    }),
    ("lenet_dataset_class_count", |a| unsafe {
        status_of_count(lenet_dataset_class_count(a.pass("dataset", a.dataset)))
    }),
    ("lenet_dataset_class_counts", |a| unsafe {
        let counts = a.out("counts", 3);
        lenet_dataset_class_counts(a.pass("dataset", a.dataset), counts, a.name_length)
    }),
    ("lenet_dataset_class_name", |a| unsafe {
        let (name, needed) = (a.out("name", a.name_length.min(3)), a.out("needed", 1));
        let dataset = a.pass("dataset", a.dataset);
        let status = lenet_dataset_class_name(dataset, a.index, name, a.name_length, needed);
        forget_needed(status, needed, 1)
    }),
    ("lenet_dataset_statistics", |a| unsafe {
        let (mean, std) = (a.out("mean", 1), a.out("std", 1));
        lenet_dataset_statistics(a.pass("dataset", a.dataset), mean, std)
    }),
    ("lenet_set_class_names", |a| unsafe {
        let names: Vec<_> = a.names.iter().map(|name| name.as_ptr()).collect();
        let model = a.pass_mut("model", a.model);
        lenet_set_class_names(model, a.pass("names", names.as_ptr()), a.name_length)
    }),
    ("lenet_class_name", |a| unsafe {
        let (name, needed) = (a.out("name", a.name_length.min(3)), a.out("needed", 1));
        let model = a.pass("model", a.model);
        let status = lenet_class_name(model, a.index, name, a.name_length, needed);
        forget_needed(status, needed, 1)
    }),
    ("lenet_dataset_free", |_| {
        unsafe { lenet_dataset_free(null_mut()) };
        LENET_OK
    }),
    ("lenet_dataset_count", |a| unsafe {
        status_of_count(lenet_dataset_count(a.pass("dataset", a.dataset)))
    }),
    ("lenet_dataset_size", |a| unsafe {
        lenet_dataset_size(a.pass("dataset", a.dataset), a.out("height", 1), a.out("width", 1))
    }),
    ("lenet_dataset_read", |a| unsafe {
        let (images, labels) = (a.out("images", N * PIXELS), a.out("labels", N));
        lenet_dataset_read(a.pass("dataset", a.dataset), a.first, a.n, images, labels)
    }),
    ("lenet_train_batch", |a| unsafe {
        lenet_train_batch(
            a.pass_mut("model", a.model),
            a.pass("images", a.images.as_ptr()),
            a.pass("labels", a.labels.as_ptr()),
            a.n,
            a.out("loss", 1),
        )
    }),
    ("lenet_train_batch_u8", |a| unsafe {
        lenet_train_batch_u8(
            a.pass_mut("model", a.model),
            a.pass("images", a.bytes.as_ptr()),
            a.pass("labels", a.labels.as_ptr()),
            a.n,
            a.out("loss", 1),
        )
    }),
    ("lenet_train_batch_weighted", |a| unsafe {
        lenet_train_batch_weighted(
            a.pass_mut("model", a.model),
            a.pass("images", a.images.as_ptr()),
            a.pass("labels", a.labels.as_ptr()),
            a.pass("weights", a.weights.as_ptr()),
            a.n,
            a.out("loss", 1),
        )
    }),
    ("lenet_train_batch_weighted_u8", |a| unsafe {
        lenet_train_batch_weighted_u8(
            a.pass_mut("model", a.model),
            a.pass("images", a.bytes.as_ptr()),
            a.pass("labels", a.labels.as_ptr()),
            a.pass("weights", a.weights.as_ptr()),
            a.n,
            a.out("loss", 1),
        )
    }),
    ("lenet_fit", |a| unsafe {
        let options = a.fit_options();
        let progress: lenet_progress_fn = if a.null == "progress" { None } else { Some(go_on) };
        lenet_fit(
            a.pass_mut("model", a.model),
            a.pass("train", a.dataset),
            a.pass("validation", a.validation),
            options,
            progress,
            a.out("user_data", 1),
        )
    }),
    ("lenet_fit_options_init", |a| unsafe {
        let size = a.size.unwrap_or(size_of::<lenet_fit_options>());
        lenet_fit_options_init(a.out::<u8>("options", size.min(5000)).cast(), size, a.preset)
    }),
    ("lenet_set_learning_rate", |a| unsafe {
        lenet_set_learning_rate(a.pass_mut("model", a.model), a.learning_rate)
    }),
    ("lenet_predict", |a| unsafe {
        let images = a.pass("images", a.images.as_ptr());
        let (classes, probabilities) = (a.out("classes", N), a.out("probabilities", N * CLASSES));
        lenet_predict(a.pass("model", a.model), images, a.n, classes, probabilities)
    }),
    ("lenet_predict_u8", |a| unsafe {
        let images = a.pass("images", a.bytes.as_ptr());
        let (classes, probabilities) = (a.out("classes", N), a.out("probabilities", N * CLASSES));
        lenet_predict_u8(a.pass("model", a.model), images, a.n, classes, probabilities)
    }),
    ("lenet_logits", |a| unsafe {
        let images = a.pass("images", a.images.as_ptr());
        lenet_logits(a.pass("model", a.model), images, a.n, a.out("logits", N * CLASSES))
    }),
    ("lenet_logits_u8", |a| unsafe {
        let images = a.pass("images", a.bytes.as_ptr());
        lenet_logits_u8(a.pass("model", a.model), images, a.n, a.out("logits", N * CLASSES))
    }),
    ("lenet_features", |a| unsafe {
        let images = a.pass("images", a.images.as_ptr());
        lenet_features(a.pass("model", a.model), images, a.n, a.out("features", N * 84))
    }),
    ("lenet_features_u8", |a| unsafe {
        let images = a.pass("images", a.bytes.as_ptr());
        lenet_features_u8(a.pass("model", a.model), images, a.n, a.out("features", N * 84))
    }),
    ("lenet_prepare_image", |a| unsafe {
        let image = a.picture();
        let pixels = a.out("pixels", PIXELS);
        lenet_prepare_image(a.pass("model", a.model), image, pixels, a.length.min(PIXELS))
    }),
    ("lenet_predict_image", |a| unsafe {
        let image = a.picture();
        let (classes, probabilities) = (a.out("classes", 1), a.out("probabilities", CLASSES));
        lenet_predict_image(a.pass("model", a.model), image, classes, probabilities)
    }),
    ("lenet_predict_file", |a| unsafe {
        a.instead_of_model("pictures/ant/1.pgm");
        let (classes, probabilities) = (a.out("classes", 1), a.out("probabilities", CLASSES));
        let path = a.pass("path", a.path.as_ptr());
        lenet_predict_file(a.pass("model", a.model), path, classes, probabilities)
    }),
    ("lenet_evaluate", |a| unsafe {
        let metrics = a.sized("metrics", &[]);
        let confusion = a.out("confusion", CLASSES * CLASSES);
        let (model, dataset) = (a.pass("model", a.model), a.pass("dataset", a.dataset));
        lenet_evaluate(model, dataset, metrics, confusion, a.confusion_length)
    }),
    ("lenet_calibrate", |a| unsafe {
        let result = a.sized("result", &[]);
        let validation = a.pass("validation", a.validation);
        lenet_calibrate(a.pass_mut("model", a.model), validation, a.max_error, result)
    }),
    ("lenet_get_calibration", |a| unsafe {
        let calibration = a.sized("calibration", &[]);
        lenet_get_calibration(a.pass("model", a.model), calibration)
    }),
    ("lenet_parameter_count", |a| unsafe {
        status_of_count(lenet_parameter_count(a.pass("model", a.model)))
    }),
    ("lenet_get_parameters", |a| unsafe {
        let parameters = a.out("parameters", a.length.min(a.parameters.len()));
        lenet_get_parameters(a.pass("model", a.model), parameters, a.length)
    }),
    ("lenet_set_parameters", |a| unsafe {
        let parameters = a.pass("parameters", a.parameters.as_ptr());
        lenet_set_parameters(a.pass_mut("model", a.model), parameters, a.length)
    }),
    ("lenet_compute_gradients", |a| unsafe {
        lenet_compute_gradients(
            a.pass("model", a.model),
            a.pass("images", a.images.as_ptr()),
            a.pass("labels", a.labels.as_ptr()),
            a.n,
            a.out("gradients", a.length.min(a.parameters.len())),
            a.length,
            a.out("loss", 1),
        )
    }),
    ("lenet_compute_gradients_u8", |a| unsafe {
        lenet_compute_gradients_u8(
            a.pass("model", a.model),
            a.pass("images", a.bytes.as_ptr()),
            a.pass("labels", a.labels.as_ptr()),
            a.n,
            a.out("gradients", a.length.min(a.parameters.len())),
            a.length,
            a.out("loss", 1),
        )
    }),
    ("lenet_apply_gradients", |a| unsafe {
        let gradients = a.pass("gradients", a.parameters.as_ptr());
        lenet_apply_gradients(a.pass_mut("model", a.model), gradients, a.length)
    }),
];

fn call_of(function: &str) -> Call {
    let known = CALLS.iter().find(|(name, _)| *name == function);
    known.unwrap_or_else(|| panic!("no call of {function} in CALLS")).1
}

/// One way to call a function.
struct Row {
    function: String,
    /// Begins with the parameter, or "parameter.field".
    wrong: String,
    spoil: Box<dyn Fn(&mut Args)>,
    expected: lenet_status,
    words: Vec<String>,
}

#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    fn row(
        &mut self,
        function: &str,
        wrong: &str,
        spoil: impl Fn(&mut Args) + 'static,
        expected: lenet_status,
        words: &[&str],
    ) {
        self.0.push(Row {
            function: function.into(),
            wrong: wrong.into(),
            spoil: Box::new(spoil),
            expected,
            words: words.iter().map(ToString::to_string).collect(),
        });
    }

    /// The same wrong value of a number, `name`, which the message must state.
    fn numbers<T: std::fmt::Debug + Copy + 'static>(
        &mut self,
        function: &str,
        name: &str,
        values: &[T],
        set: fn(&mut Args, T),
        expected: lenet_status,
    ) {
        for &value in values {
            // Fields are named by the field alone.
            let said = name.rsplit('.').next().unwrap();
            self.row(
                function,
                &format!("{name} is {value:?}"),
                move |a| set(a, value),
                expected,
                &[&format!("{said} is {value:?}")],
            );
        }
    }
}

/// Values that an argument or a field of the options cannot have.
macro_rules! wrong {
    ($table:expr, $function:expr, $expected:expr, $argument:ident: $values:expr) => {
        $table.numbers(
            $function,
            stringify!($argument),
            &$values,
            |args, value| args.$argument = value,
            $expected,
        )
    };
    ($table:expr, $function:expr, $expected:expr, $options:ident.$field:ident: $values:expr) => {
        $table.numbers(
            $function,
            concat!("options.", stringify!($field)),
            &$values,
            |args, value| args.$options.$field = value,
            $expected,
        )
    };
}

const WEIGHTED: [&str; 2] = ["lenet_train_batch_weighted", "lenet_train_batch_weighted_u8"];
const TRAINING: [&str; 6] = [
    "lenet_train_batch",
    "lenet_train_batch_u8",
    "lenet_train_batch_weighted",
    "lenet_train_batch_weighted_u8",
    "lenet_compute_gradients",
    "lenet_compute_gradients_u8",
];
const FLOAT_IMAGES: [&str; 6] = [
    "lenet_train_batch",
    "lenet_train_batch_weighted",
    "lenet_predict",
    "lenet_logits",
    "lenet_features",
    "lenet_compute_gradients",
];
const BYTE_IMAGES: [&str; 6] = [
    "lenet_train_batch_u8",
    "lenet_train_batch_weighted_u8",
    "lenet_predict_u8",
    "lenet_logits_u8",
    "lenet_features_u8",
    "lenet_compute_gradients_u8",
];
const PICTURES: [&str; 2] = ["lenet_prepare_image", "lenet_predict_image"];
const GRADIENTS: [&str; 2] = ["lenet_compute_gradients", "lenet_compute_gradients_u8"];
const OPTIONS_READERS: [&str; 5] = [
    "lenet_create",
    "lenet_load",
    "lenet_load_buffer",
    "lenet_dataset_open_folder",
    "lenet_dataset_open_folder_with",
];
/// Those that make something on the device that the options name.
const DEVICE_OPENERS: [&str; 3] = ["lenet_create", "lenet_load", "lenet_load_buffer"];

/// Parameters for which NULL has a meaning.
const MAY_BE_NULL: &[(&str, &str)] = &[
    ("lenet_create", "options"),
    ("lenet_free", "model"),
    ("lenet_load", "options"),
    ("lenet_load_buffer", "options"),
    ("lenet_dataset_free", "dataset"),
    ("lenet_dataset_open_folder", "options"),
    ("lenet_dataset_open_folder_with", "options"),
    ("lenet_dataset_open_folder_with", "progress"),
    ("lenet_dataset_open_folder_with", "user_data"),
    ("lenet_dataset_class_name", "needed"),
    ("lenet_class_name", "needed"),
    ("lenet_train_batch", "loss"),
    ("lenet_train_batch_u8", "loss"),
    ("lenet_train_batch_weighted", "loss"),
    ("lenet_train_batch_weighted_u8", "loss"),
    ("lenet_fit", "validation"),
    ("lenet_fit", "options"),
    ("lenet_fit", "progress"),
    ("lenet_fit", "user_data"),
    ("lenet_predict", "classes"),
    ("lenet_predict", "probabilities"),
    ("lenet_predict_u8", "classes"),
    ("lenet_predict_u8", "probabilities"),
    ("lenet_predict_image", "classes"),
    ("lenet_predict_image", "probabilities"),
    ("lenet_predict_file", "classes"),
    ("lenet_predict_file", "probabilities"),
    ("lenet_evaluate", "confusion"),
    ("lenet_calibrate", "result"),
    ("lenet_compute_gradients", "loss"),
    ("lenet_compute_gradients_u8", "loss"),
];

fn table() -> Table {
    let mut t = Table::default();
    for (function, _) in CALLS {
        t.row(function, "nothing", |_| {}, LENET_OK, &[]);
    }
    pointer_rows(&mut t);
    struct_size_rows(&mut t);
    option_rows(&mut t);
    image_and_label_rows(&mut t);
    picture_rows(&mut t);
    length_rows(&mut t);
    dataset_rows(&mut t);
    name_rows(&mut t);
    path_rows(&mut t);
    for value in [-1, 19, i32::MAX] {
        let wrong = format!("status is {value}");
        t.row("lenet_status_name", &wrong, move |a| a.status = value, LENET_OK, &[]);
    }
    let invalid = LENET_ERROR_INVALID_ARGUMENT;
    wrong!(t, "lenet_device_count", invalid, device: [-1, 3, 99]);
    for device in [LENET_DEVICE_CUDA, LENET_DEVICE_AUTO] {
        t.row("lenet_device_count", "device may lack", move |a| a.device = device, LENET_OK, &[]);
    }
    for function in ["lenet_options_init", "lenet_fit_options_init"] {
        wrong!(t, function, invalid, preset: [-1, 3, 99]);
        t.row(function, "preset is modern", |a| a.preset = LENET_PRESET_MODERN, LENET_OK, &[]);
        t.row(function, "preset is accurate", |a| a.preset = LENET_PRESET_ACCURATE, LENET_OK, &[]);
    }
    wrong!(t, "lenet_get_layer", LENET_ERROR_NOT_FOUND, index: [12, usize::MAX]);
    let rates = [f64::NAN, f64::INFINITY, -1.0];
    wrong!(t, "lenet_set_learning_rate", invalid, learning_rate: rates);
    let shares = [f64::NAN, f64::INFINITY, -0.001, 1.001];
    wrong!(t, "lenet_calibrate", invalid, max_error: shares);
    wrong!(t, "lenet_clone_with_classes", invalid, classes: [0, 1, 257, u32::MAX]);
    for classes in [2, CLASSES as u32, 256] {
        let wrong = format!("classes is {classes}, as it may be");
        t.row("lenet_clone_with_classes", &wrong, move |a| a.classes = classes, LENET_OK, &[]);
    }
    t
}

/// NULL and misalignment, for every pointer in the header.
fn pointer_rows(t: &mut Table) {
    for Function { name: function, parameters, .. } in header_functions() {
        for Parameter { name, kind } in parameters {
            let passed = |as_what: fn(&mut Args) -> &mut String| {
                let name = name.clone();
                move |args: &mut Args| as_what(args).clone_from(&name)
            };
            let wrong = format!("{name} is NULL");
            let null = passed(|args| &mut args.null);
            if MAY_BE_NULL.contains(&(&function, &name)) {
                t.row(&function, &wrong, null, LENET_OK, &[]);
            } else if kind != Kind::Number {
                t.row(&function, &wrong, null, LENET_ERROR_NULL_POINTER, &[&wrong]);
            }
            // A handle to be freed is believed.
            if kind == Kind::AlignedPointer && !function.ends_with("_free") {
                let wrong = format!("{name} is misaligned");
                let misaligned = passed(|args| &mut args.misaligned);
                let words = [&name, "is not aligned"];
                t.row(&function, &wrong, misaligned, LENET_ERROR_INVALID_ARGUMENT, &words);
            }
        }
    }
}

/// The sizes that a caller may state for its structs.
fn struct_size_rows(t: &mut Table) {
    sized_struct::<lenet_options>(
        t,
        "lenet_options",
        &OPTIONS_READERS,
        "options",
        &[4, 40, 80, 88, 96],
    );
    sized_struct::<lenet_options>(
        t,
        "lenet_options",
        &["lenet_get_options"],
        "options",
        &[4, 48, 88],
    );
    sized_struct::<lenet_fit_options>(
        t,
        "lenet_fit_options",
        &["lenet_fit"],
        "options",
        &[4, 12, 16, 28, 32, 72],
    );
    sized_struct::<lenet_layer>(t, "lenet_layer", &["lenet_get_layer"], "layer", &[4, 16, 32]);
    sized_struct::<lenet_metrics>(t, "lenet_metrics", &["lenet_evaluate"], "metrics", &[4, 8, 32]);
    for (function, parameter) in
        [("lenet_calibrate", "result"), ("lenet_get_calibration", "calibration")]
    {
        let ends = [4, 16, 48];
        sized_struct::<lenet_calibration>(t, "lenet_calibration", &[function], parameter, &ends);
    }
    for (function, name, full) in [
        ("lenet_options_init", "lenet_options", size_of::<lenet_options>()),
        ("lenet_fit_options_init", "lenet_fit_options", size_of::<lenet_fit_options>()),
    ] {
        for size in [0, 3, 6, full - 1, 4097, u32::MAX as usize, usize::MAX] {
            let words = [&*format!("struct_size of {name} is {size}")];
            let spoil = move |a: &mut Args| a.size = Some(size);
            let wrong = format!("size is {size}");
            t.row(function, &wrong, spoil, LENET_ERROR_INVALID_ARGUMENT, &words);
        }
        for size in [4, 8, 12, full + 8, 4096] {
            let wrong = format!("size is {size}, as a struct may be");
            t.row(function, &wrong, move |a| a.size = Some(size), LENET_OK, &[]);
        }
    }
}

/// A caller's struct may end after any field that this library knows, as the older ones do.
fn sized_struct<T>(t: &mut Table, name: &str, functions: &[&str], parameter: &str, ends: &[u32]) {
    let full = size_of::<T>() as u32;
    let invalid = LENET_ERROR_INVALID_ARGUMENT;
    for function in functions {
        for size in [0, 1, 3, 6, 10, full - 1, full - 6, 4097, u32::MAX] {
            let wrong = format!("{parameter}.struct_size is {size}");
            let words = [&format!("struct_size of {name} is {size}"), &*full.to_string()];
            t.row(function, &wrong, move |a| a.struct_size = Some(size), invalid, &words);
        }
        for &size in ends.iter().chain(&[full + 8]) {
            let wrong = format!("{parameter}.struct_size is {size}, the rest missing or zero");
            t.row(function, &wrong, move |a| a.struct_size = Some(size), LENET_OK, &[]);
        }
        let later = move |a: &mut Args| {
            a.struct_size = Some(full + 8);
            a.unknown_byte = 1;
        };
        let words = [parameter, &format!("byte {}", full + 7)];
        t.row(function, &format!("{parameter} has a later field"), later, invalid, &words);
    }
}

/// Every field of the two option structs.
fn option_rows(t: &mut Table) {
    let (invalid, unavailable) = (LENET_ERROR_INVALID_ARGUMENT, LENET_ERROR_DEVICE_UNAVAILABLE);
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    for function in OPTIONS_READERS {
        wrong!(t, function, invalid, options.device: [-1, 99]);
        let cuda = |a: &mut Args| a.options.device = LENET_DEVICE_CUDA;
        let opens = DEVICE_OPENERS.contains(&function);
        let (status, words) =
            if opens { (unavailable, &["LENET_DEVICE_CUDA"][..]) } else { (LENET_OK, &[][..]) };
        t.row(function, "options.device is CUDA", cuda, status, words);
        let auto = |a: &mut Args| a.options.device = LENET_DEVICE_AUTO;
        t.row(function, "options.device is AUTO", auto, LENET_OK, &[]);
        wrong!(t, function, invalid, options.device_index: [-1, i32::MIN]);
        if opens {
            wrong!(t, function, unavailable, options.device_index: [1]);
        }
        wrong!(t, function, invalid, options.num_threads: [1025, u32::MAX]);
        wrong!(t, function, invalid, options.height: [0, 12, 15, 18, 257, 260, u32::MAX]);
        wrong!(t, function, invalid, options.width: [0, 12, 15, 18, 257, 260, u32::MAX]);
        wrong!(t, function, invalid, options.classes: [0, 1, 257, u32::MAX]);
        wrong!(t, function, invalid, options.activation: [-1, 99]);
        wrong!(t, function, invalid, options.pooling: [-1, 99]);
        wrong!(t, function, invalid, options.optimizer: [-1, 99]);
        t.row(function, "options.seed is anything", |a| a.options.seed = u64::MAX, LENET_OK, &[]);
        wrong!(t, function, invalid, options.learning_rate: [nan, inf, -1.0]);
        wrong!(t, function, invalid, options.momentum: [1.0, -0.1, nan, inf]);
        wrong!(t, function, invalid, options.weight_decay: [-1.0, nan, inf]);
        wrong!(t, function, invalid, options.input_mean: [nan, inf, -inf, 1e300]);
        wrong!(t, function, invalid, options.input_std: [0.0, -1.0, nan, inf, 1e-300, 1e300]);
        wrong!(t, function, invalid, options.preparation: [2, -1]);
        wrong!(t, function, invalid, options.mirror: [2, u32::MAX]);
        wrong!(t, function, invalid, options.padding: [1, 3, u32::MAX]);
        wrong!(t, function, invalid, options.reserved: [1, u32::MAX]);
    }
    wrong!(t, "lenet_fit", invalid, fit_options.epochs: [0]);
    wrong!(t, "lenet_fit", invalid, fit_options.batch_size: [0]);
    wrong!(t, "lenet_fit", invalid, fit_options.schedule: [2, 99, u32::MAX]);
    wrong!(t, "lenet_fit", invalid, fit_options.shift: [16, u32::MAX]);
    wrong!(t, "lenet_fit", invalid, fit_options.keep: [2, u32::MAX]);
    wrong!(t, "lenet_fit", invalid, fit_options.reserved: [1, u32::MAX]);
    wrong!(t, "lenet_fit", invalid, fit_options.flip: [1.1, -0.1, nan, inf]);
    wrong!(t, "lenet_fit", invalid, fit_options.rotation: [180.1, -1.0, nan, inf]);
    wrong!(t, "lenet_fit", invalid, fit_options.scale: [1.0, -0.1, nan, inf]);
    wrong!(t, "lenet_fit", invalid, fit_options.max_seconds: [-1.0, nan, inf]);
    wrong!(t, "lenet_fit", invalid, fit_options.target_accuracy: [1.1, -0.1, nan, inf]);
    wrong!(t, "lenet_fit", invalid, fit_options.class_balance: [1.1, -0.1, nan, inf]);
    type Set = fn(&mut lenet_fit_options);
    let needs: [(&str, &str, Set); 3] = [
        ("keep", "LENET_KEEP_BEST", |o| o.keep = LENET_KEEP_BEST),
        ("patience", "3", |o| o.patience = 3),
        ("target_accuracy", "0.9", |o| o.target_accuracy = 0.9),
    ];
    for (name, value, set) in needs {
        let without = move |a: &mut Args| {
            set(&mut a.fit_options);
            a.validation = null_mut();
        };
        let wrong = format!("options.{name} is {value} without validation");
        t.row("lenet_fit", &wrong, without, invalid, &[name, value, "validation is NULL"]);
        let wrong = format!("options.{name} is {value} with validation");
        let with = move |a: &mut Args| set(&mut a.fit_options);
        t.row("lenet_fit", &wrong, with, LENET_OK, &[]);
    }
    let timed = |a: &mut Args| (a.fit_options.epochs, a.fit_options.max_seconds) = (0, 1e-9);
    t.row("lenet_fit", "options.max_seconds, and no epochs", timed, LENET_OK, &[]);
    let largest = |a: &mut Args| a.fit_options.batch_size = u32::MAX;
    t.row("lenet_fit", "options.batch_size is more than there is", largest, LENET_OK, &[]);
}

/// `n`, pixels and labels, wherever they are passed.
fn image_and_label_rows(t: &mut Table) {
    let invalid = LENET_ERROR_INVALID_ARGUMENT;
    for function in FLOAT_IMAGES.iter().chain(&BYTE_IMAGES) {
        wrong!(t, function, invalid, n: [0, 1 << 40, usize::MAX]);
    }
    for function in FLOAT_IMAGES {
        for pixel in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            t.row(
                function,
                &format!("images is {pixel} at the last pixel"),
                move |a| a.images[LAST_PIXEL] = pixel,
                LENET_ERROR_NON_FINITE,
                &["images[17]", &pixel.to_string(), "row 15", "column 15"],
            );
        }
        for pixel in [100.01, -255.0, f32::MAX] {
            t.row(
                function,
                &format!("images is {pixel} at the last pixel"),
                move |a| a.images[LAST_PIXEL] = pixel,
                LENET_ERROR_INVALID_ARGUMENT,
                &["images[17]", &pixel.to_string(), "row 15", "column 15", "100", "divide", "255"],
            );
        }
        let huge = |a: &mut Args| {
            a.use_wild();
            a.images.fill(99.0);
        };
        t.row(function, "images has huge pixels", huge, LENET_ERROR_DIVERGED, &["not finite"]);
    }
    for function in BYTE_IMAGES {
        let huge = |a: &mut Args| {
            a.use_wild();
            a.bytes.fill(255);
        };
        t.row(function, "images has huge pixels", huge, LENET_ERROR_DIVERGED, &["not finite"]);
    }
    for function in TRAINING {
        for label in [3, 255] {
            t.row(
                function,
                &format!("labels has {label}"),
                move |a| a.labels[17] = label,
                LENET_ERROR_LABEL_OUT_OF_RANGE,
                &[&format!("labels[17] is {label}; this model has 3 classes")],
            );
        }
    }
    for function in WEIGHTED {
        for weight in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let wrong = format!("weights has {weight}");
            let words = [&*format!("weights[17] is {weight}")];
            let spoil = move |a: &mut Args| a.weights[17] = weight;
            t.row(function, &wrong, spoil, LENET_ERROR_NON_FINITE, &words);
        }
        for weight in [-1.0, -1e-40] {
            let wrong = format!("weights has {weight}");
            let words = [&*format!("weights[17] is {weight}"), "at least 0"];
            t.row(function, &wrong, move |a| a.weights[17] = weight, invalid, &words);
        }
        let words = ["all weights are 0"];
        for zero in [0.0, -0.0] {
            let wrong = format!("weights are all {zero}");
            t.row(function, &wrong, move |a| a.weights.fill(zero), invalid, &words);
        }
        for weight in [f32::MAX, 1e-45] {
            let wrong = format!("weights has {weight}, as it may");
            t.row(function, &wrong, move |a| a.weights[17] = weight, LENET_OK, &[]);
        }
    }
}

/// Pictures, field by field, and one without ink.
fn picture_rows(t: &mut Table) {
    let invalid = LENET_ERROR_INVALID_ARGUMENT;
    let name = "lenet_image";
    // Without its first fields a picture has no pixel.
    for function in PICTURES {
        let full = size_of::<lenet_image>() as u32;
        for size in [0, 1, 3, 6, 10, full - 1, 4097, u32::MAX] {
            let wrong = format!("image.struct_size is {size}");
            let words = [&format!("struct_size of {name} is {size}"), &*full.to_string()];
            t.row(function, &wrong, move |a| a.struct_size = Some(size), invalid, &words);
        }
        for (size, word) in [(4, "height is 0"), (8, "height is 0"), (12, "width is 0")] {
            let wrong = format!("image.struct_size is {size}, without a size");
            t.row(function, &wrong, move |a| a.struct_size = Some(size), invalid, &[word]);
        }
        let spoil =
            |a: &mut Args| a.struct_size = Some(std::mem::offset_of!(lenet_image, pixels) as u32);
        let words = ["image: pixels is NULL"];
        t.row(function, "image ends before its pixels", spoil, LENET_ERROR_NULL_POINTER, &words);
        let later = move |a: &mut Args| {
            a.struct_size = Some(full + 8);
            a.unknown_byte = 1;
        };
        t.row(function, "image has a later field", later, invalid, &["image", "byte"]);
        let spoil = |a: &mut Args| a.null = "image.pixels".into();
        t.row(function, "image.pixels is NULL", spoil, LENET_ERROR_NULL_POINTER, &words);
        for format in [-1, 5, i32::MIN] {
            let words = [&*format!("image: format is {format}"), "LENET_FORMAT_GRAY8 (0)"];
            let wrong = format!("image.format is {format}");
            t.row(function, &wrong, move |a| a.picture.format = format, invalid, &words);
        }
        for side in [0, 65537, u32::MAX] {
            let words = [&*format!("image: height is {side}"), "from 1 to 65536"];
            let wrong = format!("image.height is {side}");
            t.row(function, &wrong, move |a| a.picture.height = side, invalid, &words);
            let words = [&*format!("image: width is {side}"), "from 1 to 65536"];
            let wrong = format!("image.width is {side}");
            t.row(function, &wrong, move |a| a.picture.width = side, invalid, &words);
        }
        for stride in [1, 89] {
            let words = [&*format!("image: stride is {stride}"), "30 pixels has 90 bytes"];
            let wrong = format!("image.stride is {stride}");
            t.row(function, &wrong, move |a| a.picture.stride = stride, invalid, &words);
        }
        for stride in [usize::MAX, usize::MAX / 19] {
            let words = [&*stride.to_string()];
            let wrong = format!("image.stride is {stride}, which overflows");
            t.row(function, &wrong, move |a| a.picture.stride = stride, invalid, &words[..0]);
        }
        for (stride, height, width) in [(0, 1, 1), (90, 20, 30), (0, 1, 1000), (0, 300, 1)] {
            let fits = move |a: &mut Args| {
                a.picture = lenet_image { stride, height, width, ..a.picture };
            };
            t.row(function, &format!("image is {height} x {width}"), fits, LENET_OK, &[]);
        }
        let blank = |a: &mut Args| {
            a.model = a.fixture.glyphs.0;
            a.bytes.fill(200);
        };
        let words = ["no ink was found"];
        t.row(function, "image is blank paper", blank, LENET_ERROR_NOT_FOUND, &words);
    }
    for length in [0, PIXELS - 1] {
        let words = [&format!("pixels has room for {length}"), "256 are needed"];
        let small = LENET_ERROR_BUFFER_TOO_SMALL;
        let spoil = move |a: &mut Args| a.length = length;
        t.row("lenet_prepare_image", "length is too small", spoil, small, &words);
    }
    let huge = |a: &mut Args| {
        a.use_wild();
        a.bytes.fill(255);
    };
    t.row(
        "lenet_predict_image",
        "image is too bright",
        huge,
        LENET_ERROR_DIVERGED,
        &["not finite"],
    );
}

/// Vectors of parameters and gradients, buffers, the confusion matrix.
fn length_rows(t: &mut Table) {
    let (invalid, small) = (LENET_ERROR_INVALID_ARGUMENT, LENET_ERROR_BUFFER_TOO_SMALL);
    // 156 + 2,416 of the convolutions, 120 * 64 + 120, 84 * 120 + 84, 3 * 84 + 3.
    const COUNT: usize = 20_791;
    let outputs = GRADIENTS.map(|function| (function, "gradients"));
    for (function, name) in outputs.into_iter().chain([("lenet_get_parameters", "parameters")]) {
        for length in [COUNT - 1, 0] {
            let words = [&format!("{name} has room for {length}"), "20791"];
            t.row(function, "length is too small", move |a| a.length = length, small, &words);
        }
        let words = [name, &usize::MAX.to_string()];
        t.row(function, "length is too large", |a| a.length = usize::MAX, invalid, &words);
    }
    for (function, name) in
        [("lenet_set_parameters", "parameters"), ("lenet_apply_gradients", "gradients")]
    {
        for length in [0, 1, COUNT - 1, COUNT + 1] {
            let words = [&format!("length of {name} is {length}"), "20791"];
            t.row(function, "length is wrong", move |a| a.length = length, invalid, &words);
        }
        let words = [name, &usize::MAX.to_string()];
        t.row(function, "length is too large", |a| a.length = usize::MAX, invalid, &words);
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            t.row(
                function,
                &format!("{name} has {value}"),
                move |a| a.parameters[COUNT - 1] = value,
                LENET_ERROR_NON_FINITE,
                &[&format!("{name}[20790] is {value}")],
            );
        }
    }
    let huge = |a: &mut Args| {
        a.use_wild();
        a.parameters.fill(f32::MAX);
    };
    let diverged = LENET_ERROR_DIVERGED;
    t.row("lenet_apply_gradients", "gradients is too large", huge, diverged, &["not finite"]);

    for length in [0, 8] {
        let words = [&*format!("confusion has room for {length}; 9 are needed")];
        let spoil = move |a: &mut Args| a.confusion_length = length;
        t.row("lenet_evaluate", "confusion_length is too small", spoil, small, &words);
    }
    let words = ["confusion", &usize::MAX.to_string()];
    let endless = |a: &mut Args| a.confusion_length = usize::MAX;
    t.row("lenet_evaluate", "confusion_length is too large", endless, invalid, &words);
    let unused = |a: &mut Args| {
        a.null = "confusion".into();
        a.confusion_length = 0;
    };
    t.row("lenet_evaluate", "confusion_length is not used", unused, LENET_OK, &[]);

    let one_less = |a: &mut Args| a.file_length -= 1;
    let words = ["buffer has room for", "are needed"];
    t.row("lenet_save_buffer", "capacity is one too small", one_less, small, &words);
    t.row("lenet_save_buffer", "capacity is 0", |a| a.file_length = 0, small, &words);
    let endless = |a: &mut Args| a.file_length = usize::MAX;
    t.row("lenet_save_buffer", "capacity is too large", endless, invalid, &["buffer"]);
    let ask = |a: &mut Args| {
        a.null = "buffer".into();
        a.file_length = 0;
    };
    t.row("lenet_save_buffer", "buffer is NULL to ask for the size", ask, LENET_OK, &[]);
    let cut = LENET_ERROR_CORRUPT;
    t.row("lenet_load_buffer", "length is one too small", one_less, cut, &["buffer"]);
    let nothing = |a: &mut Args| a.file_length = 0;
    let words = ["buffer", "not a safetensors file"];
    t.row("lenet_load_buffer", "length is 0", nothing, LENET_ERROR_FORMAT, &words);
    t.row("lenet_load_buffer", "length is too large", endless, invalid, &["buffer"]);
}

fn dataset_rows(t: &mut Table) {
    let invalid = LENET_ERROR_INVALID_ARGUMENT;
    let function = "lenet_dataset_from_memory";
    wrong!(t, function, invalid, n: [0, 1 << 40, usize::MAX]);
    wrong!(t, function, invalid, height: [0]);
    wrong!(t, function, invalid, width: [0]);
    let overflow = |a: &mut Args| {
        (a.n, a.height, a.width) = (u32::MAX as usize, u32::MAX, u32::MAX);
    };
    t.row(function, "n, height and width overflow", overflow, invalid, &["4294967295"]);

    let function = "lenet_dataset_read";
    wrong!(t, function, invalid, n: [0, N + 1, usize::MAX]);
    wrong!(t, function, invalid, first: [1, N, usize::MAX]);

    type Set = fn(&mut Args, *mut lenet_dataset);
    let readers: [(&str, &str, Set); 4] = [
        ("lenet_fit", "train", |a, data| a.dataset = data),
        ("lenet_fit", "validation", |a, data| a.validation = data),
        ("lenet_evaluate", "dataset", |a, data| a.dataset = data),
        ("lenet_calibrate", "validation", |a, data| a.validation = data),
    ];
    for (function, name, set) in readers {
        let other_size = move |a: &mut Args| set(a, a.fixture.other_size.0);
        let high_label = move |a: &mut Args| set(a, a.fixture.high_label.0);
        let wrong = format!("{name} has images of another size");
        t.row(function, &wrong, other_size, invalid, &[name, "16 x 20", "16 x 16"]);
        let wrong = format!("{name} has a label out of range");
        let words = [&format!("{name} labels[17] is 3"), "3 classes"];
        t.row(function, &wrong, high_label, LENET_ERROR_LABEL_OUT_OF_RANGE, &words);
    }
    for (function, name) in
        [("lenet_fit", "train"), ("lenet_evaluate", "dataset"), ("lenet_calibrate", "validation")]
    {
        let wrong = format!("{name} is huge to this model");
        t.row(function, &wrong, Args::use_wild, LENET_ERROR_DIVERGED, &["not finite"]);
    }
}

/// What is split, counted and named.
fn name_rows(t: &mut Table) {
    let (invalid, small) = (LENET_ERROR_INVALID_ARGUMENT, LENET_ERROR_BUFFER_TOO_SMALL);
    let function = "lenet_dataset_split";
    wrong!(t, function, invalid, fraction: [0.0, 1.0, -0.5, 1.5, f64::NAN, f64::INFINITY]);
    t.row(function, "seed is anything", |a| a.n = usize::MAX, LENET_OK, &[]);

    let function = "lenet_dataset_open_csv";
    wrong!(t, function, invalid, height: [0]);
    wrong!(t, function, invalid, width: [0]);
    let overflow = |a: &mut Args| (a.height, a.width) = (u32::MAX, u32::MAX);
    t.row(function, "height and width overflow", overflow, invalid, &["4294967295"]);
    let wider = |a: &mut Args| a.width += 1;
    let words = ["line 1 has 257 columns, not 273"];
    t.row(function, "width is that of other images", wider, LENET_ERROR_FORMAT, &words);

    for (function, what) in [("lenet_dataset_class_name", "dataset"), ("lenet_class_name", "model")]
    {
        for index in [3, usize::MAX] {
            let words = [&*format!("index is {index}; the {what} has 3 classes")];
            let spoil = move |a: &mut Args| a.index = index;
            t.row(function, "index is too large", spoil, LENET_ERROR_NOT_FOUND, &words);
        }
        let words = ["name has room for 0; 1 are needed"];
        t.row(function, "capacity is 0", |a| a.name_length = 0, small, &words);
        let endless = |a: &mut Args| a.name_length = usize::MAX;
        t.row(function, "capacity is too large", endless, invalid, &["name"]);
        let ask = |a: &mut Args| {
            a.null = "name".into();
            a.name_length = 0;
        };
        t.row(function, "name is NULL to ask for the size", ask, LENET_OK, &[]);
    }
    for length in [0, 2, 4, usize::MAX] {
        let spoil = move |a: &mut Args| a.name_length = length;
        let wrong = format!("length is {length}");
        let words = ["counts", &length.to_string()];
        t.row("lenet_dataset_class_counts", &wrong, spoil, invalid, &words);
        let words = ["names", &length.to_string()];
        t.row("lenet_set_class_names", &wrong, spoil, invalid, &words);
    }
    let forget = |a: &mut Args| {
        a.null = "names".into();
        a.name_length = 0;
    };
    t.row("lenet_set_class_names", "names is NULL to take them away", forget, LENET_OK, &[]);
    for (name, words) in [
        (b"\xff".to_vec(), "names[1] is not UTF-8"),
        (vec![b'x'; 256], "names[1] has 256 bytes"),
        (b"a\tb".to_vec(), "names[1] has the control character U+0009"),
    ] {
        let spoil = move |a: &mut Args| a.names[1] = CString::new(name.clone()).unwrap();
        t.row("lenet_set_class_names", "names has a bad one", spoil, invalid, &[words]);
    }
}

fn path_rows(t: &mut Table) {
    type Set = fn(&mut Args, CString);
    let paths: [(&str, &str, Set); 8] = [
        ("lenet_predict_file", "path", |a, path| a.path = path),
        ("lenet_dataset_open_folder", "path", |a, path| a.path = path),
        ("lenet_dataset_open_folder_with", "path", |a, path| a.path = path),
        ("lenet_dataset_open_csv", "path", |a, path| a.path = path),
        ("lenet_save", "path", |a, path| a.path = path),
        ("lenet_load", "path", |a, path| a.path = path),
        ("lenet_dataset_open", "images_path", |a, path| a.path = path),
        ("lenet_dataset_open", "labels_path", |a, path| a.labels_path = path),
    ];
    for (function, name, set) in paths {
        let wrong = |what: &str| format!("{name} {what}");
        let invalid = LENET_ERROR_INVALID_ARGUMENT;
        let empty = move |a: &mut Args| set(a, CString::default());
        t.row(function, &wrong("is empty"), empty, invalid, &[&format!("{name} is empty")]);
        let latin1 = move |a: &mut Args| set(a, CString::new(b"/tmp/\xff").unwrap());
        let words = [&format!("{name} is not UTF-8 at byte 5")];
        t.row(function, &wrong("is not UTF-8"), latin1, invalid, &words.map(|w| w.as_str()));
        let missing = move |a: &mut Args| set(a, a.fixture.path("missing/file"));
        let not_found = LENET_ERROR_NOT_FOUND;
        t.row(function, &wrong("has no such folder"), missing, not_found, &["missing"]);
        if !function.contains("_folder") {
            let folder = move |a: &mut Args| set(a, c_path(a.fixture.folder.path()));
            t.row(function, &wrong("is a folder"), folder, LENET_ERROR_IO, &["/"]);
        }
    }
}

#[test]
fn every_wrong_call_is_refused_and_changes_nothing() {
    let master = Fixture::new();
    let mut failures = Vec::new();
    for row in table().0 {
        let what = format!("{}: {}", row.function, row.wrong);
        if let Err(why) = check_row(&row, Args::new(master.duplicate())) {
            failures.push(format!("{what}: {why}"));
        }
    }
    assert!(failures.is_empty(), "{} rows:\n{}", failures.len(), failures.join("\n"));
}

/// That failures leave the canaries alone would say little if successes did so too.
#[test]
fn a_valid_call_writes_its_outputs() {
    let master = Fixture::new();
    for function in header_functions() {
        let mut args = Args::new(master.duplicate());
        ok(call_of(&function.name)(&mut args));
        let written = args.arena != args.arena_before;
        assert_eq!(written, function.text.contains("[out]"), "{}", function.name);
    }
}

fn check_row(row: &Row, mut args: Args) -> Result<(), String> {
    let before = args.fixture.state();
    (row.spoil)(&mut args);
    // A message of an earlier row would look like one of this row.
    unsafe { lenet_device_count(12345, null_mut()) };
    let marker = last_error();
    assert!(marker.contains("12345"));

    let status = call_of(&row.function)(&mut args);

    let message = last_error();
    if status != row.expected {
        return Err(format!("{}, not {}: {message}", name(status), name(row.expected)));
    }
    if status == LENET_OK {
        return if message == marker { Ok(()) } else { Err(format!("success said {message}")) };
    }
    if let Some(word) = row.words.iter().find(|word| !message.contains(*word)) {
        return Err(format!("{word:?} is not in {message:?}"));
    }
    if message == marker {
        return Err("no message".into());
    }
    if args.arena != args.arena_before {
        return Err("an output was written".into());
    }
    if args.fixture.state() != before {
        return Err("the model changed".into());
    }
    Ok(())
}

#[test]
fn every_function_and_parameter_of_the_header_has_a_row() {
    let declared: BTreeSet<String> = header_functions().into_iter().map(|f| f.name).collect();
    let called: BTreeSet<String> = CALLS.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(declared, called, "CALLS is not the header");

    let rows = table().0;
    let has_row = |function: &str, argument: &str| {
        rows.iter().any(|row| {
            let after = row.wrong.strip_prefix(argument);
            row.function == function && after.is_some_and(|rest| rest.starts_with([' ', ',']))
        })
    };
    let mut missing = Vec::new();
    for function in header_functions() {
        for parameter in &function.parameters {
            if !has_row(&function.name, &parameter.name) {
                missing.push(format!("{} {}", function.name, parameter.name));
            }
        }
    }
    for (function, name) in [("lenet_create", "lenet_options"), ("lenet_fit", "lenet_fit_options")]
    {
        for field in header_fields(name) {
            if !has_row(function, &format!("options.{field}")) {
                missing.push(format!("{function} options.{field}"));
            }
        }
    }
    assert!(missing.is_empty(), "without a row: {missing:#?}");
}

/// The header promises which statuses each function returns.
#[test]
fn every_status_of_a_row_is_documented() {
    let functions = header_functions();
    let text_of = |name: &str| &functions.iter().find(|f| f.name == name).unwrap().text;
    let mut missing = BTreeSet::new();
    for row in table().0 {
        // That pointers are aligned is C's own rule.
        if row.wrong.ends_with("misaligned") || row.expected == LENET_OK {
            continue;
        }
        let mut text = text_of(&row.function).clone();
        if let Some((_, rest)) = text.split_once("@return As ") {
            let other = rest.split_once("()").unwrap().0.to_string();
            text += text_of(&other);
        }
        let counts = row.function.ends_with("_count") && text.contains("lenet_last_error()");
        if !text.contains(name(row.expected)) && !counts {
            missing.insert(format!("{}: {}", row.function, name(row.expected)));
        }
    }
    assert!(missing.is_empty(), "not in lenet.h: {missing:#?}");
}

#[test]
fn a_step_that_diverges_leaves_the_last_good_one() {
    let model = Model::create(&lenet_options {
        activation: LENET_ACTIVATION_RELU,
        learning_rate: 1e30,
        ..small_with_momentum()
    });
    let data = MadeData::new(N, SIDE as usize, CLASSES);
    for _ in 0..10 {
        let before = model.bytes();
        let (images, labels) = (data.images.as_ptr(), data.labels.as_ptr());
        match unsafe { lenet_train_batch_u8(model.0, images, labels, N, null_mut()) } {
            LENET_OK => assert_ne!(model.bytes(), before),
            status => {
                refused("step", status, LENET_ERROR_DIVERGED, &["step", "last good step"]);
                assert!(model.bytes() == before, "a failed step changed the model");
                assert!(model.parameters().iter().all(|p| p.is_finite()));
                return;
            }
        }
    }
    panic!("ten steps of 1e30 did not diverge");
}

#[test]
fn no_activation_or_pooling_hides_an_overflow() {
    let huge = [99.0; PIXELS];
    for activation in [LENET_ACTIVATION_SIGMOID, LENET_ACTIVATION_TANH, LENET_ACTIVATION_RELU] {
        for pooling in [LENET_POOLING_AVG, LENET_POOLING_MAX] {
            let options =
                lenet_options { activation, pooling, input_std: 1e-37, ..small_with_momentum() };
            let model = Model::create(&options);
            let mut class = 99;
            let status =
                unsafe { lenet_predict(model.0, huge.as_ptr(), 1, &mut class, null_mut()) };
            let what = format!("activation {activation}, pooling {pooling}");
            refused(&what, status, LENET_ERROR_DIVERGED, &["images[0]", "not finite"]);
            assert_eq!(class, 99);
        }
    }
}

#[test]
fn a_model_goes_on_after_each_failure() {
    let (model, twin) =
        (Model::create(&small_with_momentum()), Model::create(&small_with_momentum()));
    let data = MadeData::new(N, SIDE as usize, CLASSES);
    twin.train(&data.images, &data.labels);
    let bad = [f32::NAN; N * PIXELS];
    let labels = data.labels.as_ptr();
    let status = unsafe { lenet_train_batch(model.0, bad.as_ptr(), labels, N, null_mut()) };
    refused("train_batch", status, LENET_ERROR_NON_FINITE, &["images[0] is NaN", "row 0"]);
    model.train(&data.images, &data.labels);
    assert!(model.bytes() == twin.bytes());
}

#[test]
fn auto_becomes_the_cpu() {
    for device_index in [0, 1] {
        let model = Model::create(&lenet_options {
            device: LENET_DEVICE_AUTO,
            device_index,
            ..small_with_momentum()
        });
        // "The options that would make such a model".
        let options = model.options();
        assert_eq!((options.device, options.device_index), (LENET_DEVICE_CPU, 0));
        let again = Model::create(&options).try_clone();
        assert!(model.try_clone().bytes() == again.bytes());
    }
}

#[test]
fn an_older_structs_missing_fields_have_the_presets_values() {
    let mut options = lenet_options { learning_rate: 77.0, momentum: 7.0, ..small_with_momentum() };
    options.struct_size = std::mem::offset_of!(lenet_options, learning_rate) as u32;
    let model = Model::create(&options);
    let made = model.options();
    assert_eq!((made.height, made.seed), (16, 5));
    assert_eq!((made.learning_rate, made.momentum, made.input_std), (0.9, 0.0, 1.0));

    // A struct of 1.0 ends before the padding, also in the middle of what came with it.
    for end in [
        std::mem::offset_of!(lenet_options, preparation),
        std::mem::offset_of!(lenet_options, mirror),
        std::mem::offset_of!(lenet_options, padding),
        std::mem::offset_of!(lenet_options, reserved),
    ] {
        let mut older = lenet_options { padding: 0, ..small_with_momentum() };
        older.struct_size = end as u32;
        let told = end == std::mem::offset_of!(lenet_options, reserved);
        let made = Model::create(&older).options();
        assert_eq!(made.padding, if told { 0 } else { 2 }, "struct_size {end}");
    }

    let mut older = lenet_options { momentum: 42.0, ..small_with_momentum() };
    older.struct_size = std::mem::offset_of!(lenet_options, momentum) as u32;
    ok(unsafe { lenet_get_options(model.0, &mut older) });
    assert_eq!((older.learning_rate, older.momentum), (0.9, 42.0), "written past the struct");

    let mut older = lenet_options { momentum: 42.0, ..small_with_momentum() };
    let size = std::mem::offset_of!(lenet_options, momentum);
    ok(unsafe { lenet_options_init(&mut older, size, LENET_PRESET_MODERN) });
    assert_eq!((older.struct_size, older.learning_rate), (size as u32, 0.001));
    assert_eq!(older.momentum, 42.0, "written past the struct");
}

// The header, as far as this test reads C.

struct Function {
    name: String,
    parameters: Vec<Parameter>,
    /// Its documentation.
    text: String,
}

struct Parameter {
    name: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Number,
    /// To bytes, text or a struct that says its own size, which may lie anywhere.
    Pointer,
    AlignedPointer,
}

fn header_functions() -> Vec<Function> {
    let functions = items().into_iter().filter(Item::is_function);
    let function = |item: Item| Function {
        name: item.name().into(),
        parameters: item.parameters().into_iter().map(parameter).collect(),
        text: item.doc,
    };
    let functions: Vec<Function> = functions.map(function).collect();
    let declarations = header().lines().filter(|line| line.ends_with(");")).count();
    // The progress function's type is the one that is no function.
    assert_eq!(functions.len(), declarations - 1, "a declaration that this test cannot read");
    functions
}

fn parameter(text: &str) -> Parameter {
    let (kind, name) = text.rsplit_once([' ', '*']).unwrap();
    let stars = text.matches('*').count();
    let anywhere = [
        "char",
        "uint8_t",
        "void",
        "_options",
        "lenet_layer",
        "lenet_metrics",
        "lenet_image",
        "lenet_calibration",
    ];
    let kind = match stars {
        0 if kind != "lenet_progress_fn" => Kind::Number,
        0 => Kind::Pointer,
        1 if anywhere.iter().any(|&t| kind.contains(t)) => Kind::Pointer,
        _ => Kind::AlignedPointer,
    };
    Parameter { name: name.into(), kind }
}

fn header_fields(name: &str) -> Vec<String> {
    let fields = items().into_iter().filter(|item| item.within.as_deref() == Some(name));
    let names: Vec<String> = fields.map(|item| item.name().into()).collect();
    assert!(!names.is_empty(), "no struct {name} in the header");
    names
}
