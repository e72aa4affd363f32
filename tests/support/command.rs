//! Running compilers, make and samples from the tests: from the repository's root, without the
//! environment that cargo and an outer make add, and with all that was said when one fails.

// Each test crate uses a part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A command that behaves as if it was typed in a fresh shell.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let of_cargo_test =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|p| name.starts_with(p))
                || ["CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "CARGO_MAKEFLAGS", "CARGO"]
                    .contains(&&*name)
                || ["OUT_DIR", "LD_LIBRARY_PATH"].contains(&&*name);
        let of_make = ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"].contains(&&*name);
        let setting =
            ["EPOCHS", "BATCH", "PRESET", "SEED", "LR", "OUT", "DATA_FOLDER", "PROFILE", "DEVICE"]
                .contains(&&*name)
                || ["LENET_DATA", "LENET_LIBRARY", "DESTDIR", "PREFIX", "LIBDIR", "INCLUDEDIR"]
                    .contains(&&*name)
                || ["PICTURES", "PREPARE", "SIZE", "MAX_ERROR", "MAX_SECONDS"].contains(&&*name);
        if of_cargo_test || of_make || setting {
            command.env_remove(&*name);
        }
    }
    command
}

/// A folder with Fashion-MNIST's four files, gzipped.
pub fn fashion_mnist() -> PathBuf {
    run(command("make").args(["-C", "examples", "data"]));
    let places = [
        PathBuf::from("/usr/share/datasets/fashion-mnist"),
        root().join("target/data/fashion-mnist"),
    ];
    places.into_iter().find(|place| place.is_dir()).expect("`make data` brings it")
}

/// The command as one would type it.
fn typed(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// What a command made of itself, whether it succeeded or not.
#[track_caller]
pub fn outcome(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{}: {error}; `make check` brings the tools that it needs", typed(command))
    });
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output, said)
}

/// Runs what must succeed; its standard output.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let (output, said) = outcome(command);
    assert!(output.status.success(), "{}: {}\n{said}", typed(command), output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs what must fail by itself, not by a signal; all that it said.
#[track_caller]
pub fn fails(command: &mut Command) -> String {
    let (output, said) = outcome(command);
    assert!(
        matches!(output.status.code(), Some(1..=125)),
        "{command:?}: {}\n{said}",
        output.status
    );
    said
}

/// What makes valgrind silent where there is nothing to say, and fail otherwise.
pub const VALGRIND: [&str; 5] = [
    "--quiet",
    "--leak-check=full",
    "--errors-for-leak-kinds=definite",
    "--error-exitcode=99",
    "--fair-sched=yes",
];

/// Compiles a program of the tests into `folder`, beside a link with the library's SONAME; where
/// LENET_TEST_LINK is static, with liblenet.a and what lenet.pc lists instead.
pub fn linked_program(folder: &Path, compiler: &[&str], source: &str) -> PathBuf {
    let program = folder.join("program");
    let mut compile = command(compiler[0]);
    compile
        .args(&compiler[1..])
        .args(["-g", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Iinclude", source, "-o"])
        .arg(&program);
    if std::env::var("LENET_TEST_LINK").is_ok_and(|how| how == "static") {
        let pc = std::fs::read_to_string(root().join("lenet.pc.in")).unwrap();
        let private = pc.lines().find_map(|line| line.strip_prefix("Libs.private: ")).unwrap();
        compile.arg(release_folder().join("liblenet.a")).args(private.split(' '));
    } else {
        let library = folder.join("liblenet.so.1");
        std::os::unix::fs::symlink(release_folder().join("liblenet.so"), &library).unwrap();
        compile.arg(library).args(["-Wl,-rpath,$ORIGIN", "-pthread"]);
    }
    run(&mut compile);
    program
}

/// What a C program says, compiled, linked and run.
pub fn output_of(source: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program.c");
    std::fs::write(&path, source).unwrap();
    let program = linked_program(folder.path(), &["cc", "-std=c99"], path.to_str().unwrap());
    run(&mut command(program.to_str().unwrap()))
}

/// target/release, where the library is that `cargo build --release` makes of the present sources.
/// `cargo test` alone leaves an old one there, or none.
pub fn release_folder() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        run(command("make").arg("all"));
    });
    root().join("target/release")
}
