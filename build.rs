//! Generates `include/lenet.h` from `src/ffi`, compiles the CUDA kernels of the plugin, and gives the shared
//! library its name.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

/// The files of `src/ffi` that declare something, in the header's order.
const SOURCES: [&str; 11] = [
    "types.rs",
    "library.rs",
    "model.rs",
    "names.rs",
    "data.rs",
    "train.rs",
    "files.rs",
    "usage.rs",
    "image.rs",
    "trust.rs",
    "parameters.rs",
];

fn main() {
    println!("cargo:rerun-if-changed=src/ffi");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed=include/lenet.h");
    generate_header();
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        compile_kernels();
    }
    link_arguments();
}

fn generate_header() {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let root = Path::new(&root);
    let mut config =
        cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    config.after_includes = Some(version_macros());
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(root.join("src/ffi").join(source));
    }
    let mut header = Vec::new();
    builder.generate().expect("src/ffi is what cbindgen understands").write(&mut header);

    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("lenet.h"), &header).expect("OUT_DIR is writable");
    // The committed header is refreshed in a checkout; a packaged crate's sources are not ours to
    // write to.
    let committed = root.join("include/lenet.h");
    let stale = fs::read(&committed).ok().is_none_or(|old| old != header);
    if stale && root.join(".git").exists() {
        fs::create_dir_all(root.join("include")).expect("include/ can be made in a checkout");
        fs::write(committed, header).expect("include/lenet.h is writable in a checkout");
    }
}

/// From Cargo.toml, so that header and library cannot disagree.
fn version_macros() -> String {
    let part = |name| env::var(name).expect("cargo sets the version");
    let [major, minor, patch] =
        ["CARGO_PKG_VERSION_MAJOR", "CARGO_PKG_VERSION_MINOR", "CARGO_PKG_VERSION_PATCH"].map(part);
    format!(
        "
#define LENET_VERSION_MAJOR {major}
#define LENET_VERSION_MINOR {minor}
#define LENET_VERSION_PATCH {patch}
/** What lenet_version_number() of the library that goes with this header returns. */
#define LENET_VERSION_NUMBER \\
    (LENET_VERSION_MAJOR * 10000 + LENET_VERSION_MINOR * 100 + LENET_VERSION_PATCH)
/** What lenet_version() of the library that goes with this header returns. */
#define LENET_VERSION \"{major}.{minor}.{patch}\""
    )
}

/// The shapes, activations and poolings of which `cuda/lenet.cu` is compiled, each into a module of its own, so
/// that a model loads one.
const SHAPES: [&str; 4] = ["padded_28", "plain_28", "plain_32", "any"];
const ACTIVATIONS: [&str; 3] = ["sigmoid", "tanh", "relu"];
const POOLINGS: [&str; 2] = ["average", "max"];

/// The sources that are one module each.
const SINGLE: [&str; 2] = ["apply", "sizes"];

/// Compiles `cuda` to PTX, which the driver compiles for its GPU, and lists the modules in `modules.rs`. Compressed,
/// for they are 15 MB of text.
fn compile_kernels() {
    for name in ["CUDA_HOME", "CUDA_COMPUTE_CAP"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rerun-if-changed=cuda");
    let mut modules: Vec<(String, &str, Vec<String>)> =
        SINGLE.iter().map(|name| (name.to_string(), *name, vec![])).collect();
    for shape in SHAPES {
        for activation in ACTIVATIONS {
            for pooling in POOLINGS {
                let macros = [("SHAPE", shape), ("ACTIVATION", activation), ("POOLING", pooling)];
                let macros = macros.map(|(name, value)| format!("-D{name}={value}"));
                let name = format!("{shape}_{activation}_{pooling}");
                modules.push((name, "lenet", macros.into()));
            }
        }
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((name, source, macros)) =
                    modules.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    compile_module(&out.join(name).with_extension("ptx"), source, macros);
                }
            });
        }
    });
    let lines = modules.iter().map(|(name, ..)| {
        format!("    ({name:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.ptx.gz\"))),\n")
    });
    let table = format!(
        "const MODULES: [(&str, &[u8]); {}] = [\n{}];\n",
        modules.len(),
        lines.collect::<String>()
    );
    fs::write(out.join("modules.rs"), table).expect("OUT_DIR is writable");
}

/// The kernels say where a multiplication and an addition are one operation: with `--fmad=true` the same sum could
/// have other bits in another kernel.
fn compile_module(ptx: &Path, source: &str, macros: &[String]) {
    let home = env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin/nvcc"));
    let nvcc = home.unwrap_or_else(|| "nvcc".into());
    let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "80".to_string());
    let mut command = Command::new(&nvcc);
    command.args(["--ptx", "-O3", "-std=c++17", "--fmad=false", "-Werror=all-warnings"]);
    command.arg(format!("-arch=compute_{capability}")).args(macros);
    command.arg("-o").arg(ptx).arg(format!("cuda/{source}.cu"));
    match command.status() {
        Ok(status) => assert!(status.success(), "{command:?}: {status}"),
        Err(error) => panic!("{}: {error}; `make cuda` brings nvcc", nvcc.display()),
    }
    let text = fs::read(ptx).expect("nvcc wrote the PTX");
    let mut compressed = GzEncoder::new(Vec::new(), Compression::best());
    compressed.write_all(&text).expect("memory can be written");
    let compressed = compressed.finish().expect("memory can be written");
    fs::write(ptx.with_extension("ptx.gz"), compressed).expect("OUT_DIR is writable");
}

fn link_arguments() {
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        let major = env::var("CARGO_PKG_VERSION_MAJOR").expect("cargo sets the version");
        let plugin = env::var_os("CARGO_FEATURE_CUDA").is_some();
        let name = if plugin { "lenet_cuda" } else { "lenet" };
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,lib{name}.so.{major}");
        // dlclose() must not unmap the code of destructors that run when a thread ends.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        if plugin {
            // A launcher of a kernel that cuda/nvcc leaves out is missed here, not where the plugin is loaded.
            println!("cargo:rustc-cdylib-link-arg=-Wl,--no-undefined");
        }
    }
}
