//! Generates `include/lenet.h` from `src/ffi`, and gives the shared library its name.

use std::path::Path;
use std::{env, fs};

/// The files of `src/ffi` that declare something, in the header's order.
const SOURCES: [&str; 7] =
    ["types.rs", "library.rs", "model.rs", "data.rs", "train.rs", "usage.rs", "parameters.rs"];

fn main() {
    println!("cargo:rerun-if-changed=src/ffi");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed=include/lenet.h");
    generate_header();
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
