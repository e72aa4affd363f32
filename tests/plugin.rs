//! A GPU is had through liblenet_cuda.so.1, which need not be there. Here a plugin takes its place whose
//! device is candle's CPU, and everything is as on the CPU; and plugins that are none, are broken or
//! find no GPU, which each is said in words. `make check-cuda` runs those marked for it with the real
//! plugin: without a driver, with one that finds no GPU, and on a GPU where there is one.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

#[path = "support/command.rs"]
mod command;
#[path = "support/process.rs"]
mod process;
mod support;

use command::{VALGRIND, command, fails, linked_program, release_folder, root, run};
use lenet::ffi::*;
use process::{threads, works_in_a_child};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::OnceLock;
use support::{Dataset, MadeData, Model, small, small_with_momentum};

const NAME: &str = "liblenet_cuda.so.1";

// ---- children: this program again, with a plugin where the loader looks

/// Runs one of the ignored tests below; what it prints.
fn child(test: &str, loader_path: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let mut child = command(program.to_str().unwrap());
    run(child
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("LD_LIBRARY_PATH", loader_path))
}

/// The plugin on the CPU.
fn on_cpu() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let build = ["build", "--release", "--locked", "--example", "plugin_on_cpu"];
        run(command("cargo").args(build).env("CARGO_TARGET_DIR", root().join("target")));
    });
    root().join("target/release/examples/libplugin_on_cpu.so")
}

fn folder_with(plugin: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    symlink(plugin, folder.path().join(NAME)).unwrap();
    folder
}

/// A shared library made of this C.
fn folder_with_library(source: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.c");
    fs::write(&path, source).unwrap();
    let library = folder.path().join(NAME);
    run(command("cc")
        .args(["-std=c11", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
        .arg(library)
        .arg(path));
    folder
}

fn on_gpu(options: lenet_options) -> lenet_options {
    lenet_options { device: LENET_DEVICE_CUDA, ..options }
}

fn gpus() -> u32 {
    let mut count = 77;
    support::ok(unsafe { lenet_device_count(LENET_DEVICE_CUDA, &mut count) });
    count
}

// ---- without a GPU

/// Prints the status and message of a model for a GPU. Nothing is left behind, and AUTO is the CPU.
#[test]
#[ignore = "a child of other tests"]
fn asks_and_is_refused() {
    let before = threads();
    let mut model = null_mut();
    let options = on_gpu(small(LENET_PRESET_CLASSIC));
    for _ in 0..2 {
        let status = unsafe { lenet_create(&options, &mut model) };
        println!("{}: {}", support::name(status), support::last_error());
        assert!(model.is_null());
    }
    let options = lenet_options { device: LENET_DEVICE_AUTO, device_index: 3, ..options };
    let model = Model::create(&options);
    let became = model.options();
    assert_eq!((became.device, became.device_index), (LENET_DEVICE_CPU, 0));
    let data = MadeData::new(3, 16, 3);
    model.train(&data.images, &data.labels);
    println!("{} GPUs", gpus());
    assert_eq!(threads(), before);
}

/// What `asks_and_is_refused` says, twice the same.
fn asked(loader_path: &str) -> (String, String) {
    let said = child("asks_and_is_refused", loader_path);
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("LENET_ERROR_")).collect();
    let [first, second] = lines[..] else { panic!("{said}") };
    let (_, first) = first.split_once("LENET_ERROR_").unwrap();
    assert!(second.ends_with(first), "{said}");
    let (status, message) = first.split_once(": ").unwrap();
    (status.to_string(), message.to_string())
}

#[track_caller]
fn assert_unavailable(loader_path: &str, words: &[&str]) {
    let (status, message) = asked(loader_path);
    assert_eq!(status, "DEVICE_UNAVAILABLE", "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

#[test]
fn without_a_plugin_there_is_no_gpu() {
    assert_unavailable("", &[NAME, "No such file"]);
}

#[test]
fn what_is_no_plugin_is_no_gpu() {
    let text = tempfile::tempdir().unwrap();
    fs::write(text.path().join(NAME), "no shared library. ".repeat(100)).unwrap();
    assert_unavailable(text.path().to_str().unwrap(), &[NAME, "invalid ELF header"]);

    let other = folder_with_library("int something_else(void) { return 1; }");
    assert_unavailable(other.path().to_str().unwrap(), &[NAME, "no plugin"]);

    let old = folder_with_library(
        "static const unsigned table[2] = {77, 0};
         const void *lenet_plugin(void) { return table; }",
    );
    assert_unavailable(old.path().to_str().unwrap(), &["version 77", "version 3"]);

    let unresolved =
        folder_with_library("extern int cuInit(int); int f(void) { return cuInit(0); }");
    assert_unavailable(unresolved.path().to_str().unwrap(), &["cuInit"]);
}

/// The table of a plugin, in C, as far as it is asked.
fn plugin_that(device_count: &str, open: &str) -> tempfile::TempDir {
    folder_with_library(&format!(
        r#"#include <stdint.h>
           #include <string.h>
           struct failure {{ uint32_t length; char text[508]; }};
           static int32_t fail(struct failure *failure, int32_t status, const char *text) {{
               failure->length = (uint32_t)strlen(text);
               memcpy(failure->text, text, strlen(text));
               return status;
           }}
           static int32_t device_count(uint32_t *count, struct failure *failure) {{ {device_count} }}
           static int32_t open_(uint32_t index, const void *settings, void **engine,
                                struct failure *failure) {{
               (void)index, (void)settings, (void)engine; {open}
           }}
           static const struct {{
               uint32_t version, reserved;
               int32_t (*device_count)(uint32_t *, struct failure *);
               int32_t (*open_)(uint32_t, const void *, void **, struct failure *);
               void (*rest[8])(void);
           }} table = {{3, 0, device_count, open_, {{0}}}};
           int32_t unused(struct failure *failure) {{ return fail(failure, 0, ""); }}
           const void *lenet_plugin(void) {{ return &table; }}"#
    ))
}

#[test]
fn a_plugin_without_gpus_or_memory_says_so() {
    let none = plugin_that("(void)failure; *count = 0; return 0;", "(void)failure; return 0;");
    assert_unavailable(none.path().to_str().unwrap(), &["sees no GPU"]);

    let failing = r#"(void)count; return fail(failure, 12, "the driver is too old");"#;
    let failing = plugin_that(failing, "(void)failure; return 0;");
    assert_unavailable(failing.path().to_str().unwrap(), &["the driver is too old"]);

    let full = r#"return fail(failure, 14, "the GPU's memory is full");"#;
    let full = plugin_that("(void)failure; *count = 1; return 0;", full);
    let (status, message) = asked(full.path().to_str().unwrap());
    assert_eq!((&*status, &*message), ("OUT_OF_MEMORY", "the GPU's memory is full"));
}

// ---- with one

/// Within 1e-5 of the largest value, and not all zero.
#[track_caller]
fn assert_close(what: &str, there: &[f32], here: &[f32]) {
    let largest = here.iter().fold(0f32, |m, x| m.max(x.abs()));
    assert!(largest > 0.0 && there.len() == here.len(), "{what}");
    for (i, (a, b)) in there.iter().zip(here).enumerate() {
        assert!((a - b).abs() <= 1e-5 * largest, "{what}[{i}] is {a}, not {b} of {largest}");
    }
}

/// Loss and gradient.
fn gradients(model: &Model, data: &MadeData) -> (f32, Vec<f32>) {
    let mut gradients = vec![0.0; model.parameters().len()];
    let (images, n, mut loss) = (data.floats(), data.labels.len(), 0.0);
    let (labels, out, length) = (data.labels.as_ptr(), gradients.as_mut_ptr(), gradients.len());
    support::ok(unsafe {
        lenet_compute_gradients(model.0, images.as_ptr(), labels, n, out, length, &mut loss)
    });
    (loss, gradients)
}

fn apply(model: &Model, gradients: &[f32]) {
    support::ok(unsafe { lenet_apply_gradients(model.0, gradients.as_ptr(), gradients.len()) });
}

#[test]
#[ignore = "a child of other tests; make check-cuda on a GPU"]
fn a_gpu_computes_what_the_cpu_does() {
    let data = MadeData::new(40, 16, 3);
    let presets = [LENET_PRESET_CLASSIC, LENET_PRESET_MODERN];
    let normalized =
        lenet_options { input_mean: 0.3, input_std: 0.4, ..small(LENET_PRESET_CLASSIC) };
    for options in presets.map(small).into_iter().chain([small_with_momentum(), normalized]) {
        let here = Model::create(&options);
        assert!(Model::create(&on_gpu(options)).bytes() == here.bytes());
        for _ in 0..3 {
            // The same model, through a file, on the GPU.
            let there = Model::try_from_bytes(&here.bytes(), &on_gpu(options)).unwrap();
            assert!(there.bytes() == here.bytes());
            assert_eq!(
                (there.options().device, there.options().device_index),
                (LENET_DEVICE_CUDA, 0)
            );

            assert_close(
                "logits",
                &there.logits(&data.floats(), 40),
                &here.logits(&data.floats(), 40),
            );
            assert_eq!(there.predict(&data.images, 40).0, here.predict(&data.images, 40).0);
            let (loss, gradient) = gradients(&here, &data);
            let (its_loss, its_gradient) = gradients(&there, &data);
            assert_close("loss", &[its_loss], &[loss]);
            assert_close("gradient", &its_gradient, &gradient);

            // A training step there is the two calls there, bit for bit.
            let twin = there.try_clone();
            assert_eq!(twin.train(&data.images, &data.labels), its_loss);
            let other = there.try_clone();
            apply(&other, &its_gradient);
            assert!(twin.bytes() == other.bytes());

            apply(&there, &gradient);
            apply(&here, &gradient);
            assert_close("parameters", &there.parameters(), &here.parameters());
        }
    }
}

#[test]
#[ignore = "a child of other tests; make check-cuda on a GPU"]
fn a_gpu_fits_evaluates_and_goes_on() {
    let data = MadeData::new(100, 16, 3);
    let mut turned = MadeData::new(60, 16, 3);
    turned.images.reverse();
    turned.labels.reverse();
    let (dataset, second) = (Dataset::new(&data), Dataset::new(&turned));
    let options = small_with_momentum();
    let (here, there) = (Model::create(&options), Model::create(&on_gpu(options)));
    for model in [&here, &there] {
        model.fit(&dataset, 1, 32);
        model.fit(&second, 1, 32); // other images at the same indices
        model.fit(&dataset, 1, 32);
    }
    assert_close("parameters", &there.parameters(), &here.parameters());

    let metrics = |model: &Model| {
        let struct_size = size_of::<lenet_metrics>() as u32;
        let mut metrics = lenet_metrics {
            struct_size,
            reserved: 0,
            count: 0,
            correct: 0,
            loss: 0.0,
            accuracy: 0.0,
        };
        support::ok(unsafe { lenet_evaluate(model.0, dataset.0, &mut metrics, null_mut(), 0) });
        metrics
    };
    let (ours, its) = (metrics(&here), metrics(&there));
    assert_close("loss", &[its.loss as f32], &[ours.loss as f32]);
    assert_eq!((its.count, its.correct), (ours.count, ours.correct));

    // Saved, loaded on either device, and gone on there, it is the same as never having stopped.
    let again = Model::try_from_bytes(&there.bytes(), &on_gpu(options)).unwrap();
    for model in [&again, &there] {
        model.fit(&dataset, 1, 32);
    }
    assert!(again.bytes() == there.bytes());
    assert!(Model::from_bytes(&there.bytes()).bytes() == there.bytes());
}

#[test]
#[ignore = "a child of other tests; make check-cuda on a GPU"]
fn a_gpus_model_is_safe_from_its_callers() {
    let data = MadeData::new(40, 16, 3);
    let options = on_gpu(small_with_momentum());
    let model = Model::create(&options);

    // Wrong devices.
    let count = gpus();
    for index in [count as i32, i32::MAX] {
        let mut other = null_mut();
        let options = lenet_options { device_index: index, ..options };
        let status = unsafe { lenet_create(&options, &mut other) };
        let words = [&*format!("device_index is {index}"), &*format!("{count} GPUs")];
        support::refused("lenet_create", status, LENET_ERROR_DEVICE_UNAVAILABLE, &words);
    }
    let auto = lenet_options { device: LENET_DEVICE_AUTO, ..options };
    assert_eq!(Model::create(&auto).options().device, LENET_DEVICE_CUDA);
    let auto = lenet_options { device_index: count as i32, ..auto };
    assert_eq!(Model::create(&auto).options().device, LENET_DEVICE_CPU);

    // A step that diverges changes nothing.
    let before = model.bytes();
    let huge = vec![f32::MAX; model.parameters().len()];
    support::ok(unsafe { lenet_set_learning_rate(model.0, 1e30) });
    let status = unsafe { lenet_apply_gradients(model.0, huge.as_ptr(), huge.len()) };
    support::refused("lenet_apply_gradients", status, LENET_ERROR_DIVERGED, &["step 1"]);
    support::ok(unsafe { lenet_set_learning_rate(model.0, options.learning_rate) });
    assert!(model.bytes() == before);

    // Readers see whole steps while another thread trains: there are two, again and again.
    let expected = [model.try_clone(), model.try_clone()];
    expected[1].train(&data.images, &data.labels);
    let steps = expected.each_ref().map(|model| model.parameters());
    let results = expected.each_ref().map(|model| model.predict(&data.images, 40).1);
    let set = |step: &[f32]| {
        support::ok(unsafe { lenet_set_parameters(model.0, step.as_ptr(), step.len()) });
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope
                    .spawn(|| (0..20).all(|_| results.contains(&model.predict(&data.images, 40).1)))
            })
            .collect();
        for _ in 0..20 {
            steps.iter().for_each(|step| set(step));
        }
        assert!(readers.into_iter().all(|reader| reader.join().unwrap()));
    });

    // A child has no GPU: it is told so, may free what it has, and computes on the CPU.
    works_in_a_child(|| {
        let mut needed = 0;
        let (mut class, mut other) = (0, null_mut());
        let refused = unsafe {
            [
                lenet_predict_u8(model.0, data.images.as_ptr(), 1, &mut class, null_mut()),
                lenet_save_buffer(model.0, null_mut(), 0, &mut needed),
                lenet_create(&options, &mut other),
            ]
        };
        unsafe { lenet_free(model.0) };
        let cpu = lenet_options { device: LENET_DEVICE_CPU, num_threads: 1, ..options };
        refused == [LENET_ERROR_FORKED; 3]
            && Model::create(&cpu).train(&data.images, &data.labels).is_finite()
    });
    model.train(&data.images, &data.labels);
}

#[test]
fn a_plugin_with_devices_is_used_as_a_gpu_is() {
    let folder = folder_with(&on_cpu());
    for test in [
        "a_gpu_computes_what_the_cpu_does",
        "a_gpu_fits_evaluates_and_goes_on",
        "a_gpus_model_is_safe_from_its_callers",
    ] {
        child(test, folder.path().to_str().unwrap());
    }
}

/// The plugin beside liblenet comes before what the loader knows.
#[test]
fn the_plugin_is_looked_for_beside_the_library() {
    let folder = tempfile::tempdir().unwrap();
    let program = linked_program(folder.path(), &["cc", "-std=c99"], "tests/plugin/asks.c");
    let burning = r#"return fail(failure, 12, "the GPU is on fire");"#;
    let elsewhere = plugin_that("(void)failure; *count = 7; return 0;", burning);
    // Nothing is left behind on either way.
    let said = || {
        let mut valgrind = command("valgrind");
        valgrind.args(VALGRIND).arg(&program);
        run(valgrind.env("LD_LIBRARY_PATH", elsewhere.path()))
    };
    assert_eq!(said(), "7\nthe GPU is on fire\n");
    symlink(on_cpu(), folder.path().join(NAME)).unwrap();
    assert_eq!(said(), "2\na model\n");
}

#[test]
fn the_library_itself_needs_nothing_of_cuda() {
    let needed = run(command("readelf").arg("-d").arg(release_folder().join("liblenet.so")));
    let needed: Vec<&str> = needed.lines().filter(|line| line.contains("(NEEDED)")).collect();
    assert!(!needed.is_empty());
    for line in needed {
        let system =
            ["[libc.so", "[libm.so", "[libgcc_s.so", "[libpthread.so", "[libdl.so", "[ld-linux"];
        assert!(system.iter().any(|library| line.contains(library)), "{line}");
    }
}

// ---- the real plugin: make check-cuda says where it and its libraries are

fn cuda_plugin() -> (String, String) {
    let path = |name| std::env::var(name).unwrap_or_else(|_| panic!("make check-cuda sets {name}"));
    (path("LENET_TEST_CUDA_PLUGIN"), path("LENET_TEST_CUDA_LIBRARIES"))
}

#[test]
#[ignore = "make check-cuda"]
fn the_cuda_plugin_without_a_driver_or_a_gpu_says_so() {
    let (plugin, libraries) = cuda_plugin();
    let plugin = folder_with(Path::new(&plugin));
    let path = format!("{}:{libraries}", plugin.path().display());
    if !Path::new("/dev/nvidiactl").exists() {
        assert_unavailable(&path, &["libcuda.so.1"]);
    }
    // A driver that says CUDA_ERROR_NO_DEVICE to everything.
    assert_unavailable(&format!("{path}:{libraries}/stubs"), &["CUDA_ERROR_NO_DEVICE"]);
}

/// All that a model does on a device, whatever comes out of it.
#[test]
#[ignore = "a child of another test"]
fn does_everything_on_an_idle_gpu() {
    let data = MadeData::new(7, 16, 3);
    let dataset = Dataset::new(&data);
    let classic = on_gpu(small(LENET_PRESET_CLASSIC));
    let activations = [LENET_ACTIVATION_SIGMOID, LENET_ACTIVATION_TANH, LENET_ACTIVATION_RELU];
    for activation in activations {
        for pooling in [LENET_POOLING_AVG, LENET_POOLING_MAX] {
            for optimizer in [LENET_OPTIMIZER_SGD, LENET_OPTIMIZER_ADAMW] {
                let momentum = if optimizer == LENET_OPTIMIZER_SGD { 0.9 } else { 0.0 };
                for (momentum, weight_decay) in [(0.0, 0.0), (momentum, 0.01)] {
                    let network = lenet_options { activation, pooling, ..classic };
                    let rule = lenet_options { optimizer, momentum, weight_decay, ..network };
                    let model = Model::create(&lenet_options { input_std: 0.5, ..rule });
                    model.train(&data.images, &data.labels);
                    apply(&model, &gradients(&model, &data).1);
                    model.fit(&dataset, 1, 4);
                    model.predict(&data.images, 7);
                    model.logits(&data.floats(), 7);
                    assert!(model.try_clone().bytes() == model.bytes());
                }
            }
        }
    }
    println!("done");
}

/// The plugin leaves out most of candle's kernels (cuda/nvcc), but none that a model asks for. One that is missing is
/// an error, no crash.
#[test]
#[ignore = "make check-cuda"]
fn the_cuda_plugin_has_every_kernel() {
    let (plugin, libraries) = cuda_plugin();
    let folder = tempfile::tempdir().unwrap();
    let idle = folder.path().join("idle_gpu.so");
    let options = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"];
    run(command("cc").args(options).arg(&idle).arg(root().join("tests/plugin/idle_gpu.c")));
    let everything = |plugin: &[u8]| {
        fs::write(folder.path().join(NAME), plugin).unwrap();
        let mut child = command(std::env::current_exe().unwrap().to_str().unwrap());
        child.args(["--exact", "does_everything_on_an_idle_gpu", "--ignored", "--nocapture"]);
        let path = format!("{}:{libraries}:{libraries}/stubs", folder.path().display());
        child.env("LD_LIBRARY_PATH", path).env("LD_PRELOAD", &idle).env("LENET_ENGINE", "candle");
        child
    };
    let mut plugin = fs::read(plugin).unwrap();
    assert!(run(&mut everything(&plugin)).contains("done"));

    let entry = b".entry badd_f32(";
    let places: Vec<usize> =
        (0..plugin.len() - entry.len()).filter(|&at| plugin[at..].starts_with(entry)).collect();
    assert!(!places.is_empty());
    for at in places {
        plugin[at + entry.len() - 2] = b'3'; // badd_f33
    }
    let said = fails(&mut everything(&plugin));
    assert!(said.contains("no kernel badd_f32") && said.contains("named symbol"), "{said}");
}
