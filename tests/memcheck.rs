//! valgrind finds no invalid access, no use of what was never written, and nothing that was lost, in the
//! C programs of the tests. In the samples neither: tests/examples.rs.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

#[path = "support/command.rs"]
mod command;
mod support;

use command::{VALGRIND, command, linked_program, release_folder, run};
use std::path::Path;
use support::{Model, c_path, small_with_momentum};

/// Compiles a program and runs it under valgrind in `folder`.
fn check(folder: &Path, source: &str, arguments: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    let program = linked_program(home.path(), &["cc", "-std=c11"], source);
    run(command("valgrind").args(VALGRIND).arg(program).args(arguments).current_dir(folder));
}

#[test]
fn the_tests_programs_are_clean() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = Model::create(&small_with_momentum());
    let saved = c_path(&folder.join("model"));
    support::ok(unsafe { lenet::ffi::lenet_save(model.0, saved.as_ptr()) });
    check(folder, "tests/saving/save.c", &["model", "copy"]);
    check(folder, "tests/leaving/leave.c", &["train"]);
    let library = release_folder().join("liblenet.so");
    check(folder, "tests/unloading/unload.c", &["2", library.to_str().unwrap()]);
}
