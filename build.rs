//! Generates `include/lenet.h` from `src/ffi`, compiles the CUDA kernels of the plugin, and gives the shared
//! library its name.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The files of `src/ffi` that declare something, in the header's order.
const SOURCES: [&str; 7] =
    ["types.rs", "library.rs", "model.rs", "data.rs", "train.rs", "usage.rs", "parameters.rs"];

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

/// Each `cuda/NAME.cu` to `NAME.ptx` in OUT_DIR, for the GPUs that candle's kernels are compiled for. The headers
/// beside them are read by nvcc alone.
fn compile_kernels() {
    for name in ["CUDA_HOME", "CUDA_COMPUTE_CAP", "NVCC"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rerun-if-changed=cuda");
    let home = env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin/nvcc"));
    let nvcc = env::var_os("NVCC").map(PathBuf::from).or(home).unwrap_or_else(|| "nvcc".into());
    let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "80".to_string());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for entry in fs::read_dir("cuda").into_iter().flatten() {
        let source = entry.expect("cuda/ can be read").path();
        if source.extension().is_none_or(|extension| extension != "cu") {
            continue;
        }
        let ptx = out.join(source.with_extension("ptx").file_name().expect("a file has a name"));
        let mut command = Command::new(&nvcc);
        command.args(["--ptx", "-O3", "-std=c++17", "-Werror=all-warnings"]);
        command.arg(format!("-arch=compute_{capability}")).arg("-o").arg(ptx).arg(&source);
        match command.status() {
            Ok(status) => assert!(status.success(), "{command:?}: {status}"),
            Err(error) => panic!("{}: {error}; `make cuda` brings nvcc", nvcc.display()),
        }
    }
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
