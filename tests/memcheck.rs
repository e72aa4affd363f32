//! valgrind finds no invalid access, no use of what was never written, and nothing that was lost, in the
//! C programs of the tests. In the samples neither: tests/examples.rs.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

#[path = "support/command.rs"]
mod command;
mod support;

use command::{VALGRIND, command, release_folder, run};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use support::{Model, c_path, small_with_momentum};

struct Programs(tempfile::TempDir);

impl Programs {
    fn new() -> Programs {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("liblenet.so.1");
        symlink(release_folder().join("liblenet.so"), library).unwrap();
        Programs(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Compiles a program and runs it under valgrind, here.
    fn check(&self, source: &str, arguments: &[&str]) {
        let program = self.path("program");
        run(command("cc")
            .args(["-g", "-O1", "-Iinclude"])
            .arg(source)
            .args(["-pthread", "-ldl", "-lm", "-o"])
            .arg(&program)
            .arg(self.path("liblenet.so.1"))
            .arg("-Wl,-rpath,$ORIGIN"));
        run(command("valgrind")
            .args(VALGRIND)
            .arg(&program)
            .args(arguments)
            .current_dir(self.0.path()));
    }
}

#[test]
fn the_tests_programs_are_clean() {
    let programs = Programs::new();
    let model = Model::create(&small_with_momentum());
    let saved = c_path(&programs.path("model"));
    support::ok(unsafe { lenet::ffi::lenet_save(model.0, saved.as_ptr()) });
    programs.check("tests/saving/save.c", &["model", "copy"]);
    programs.check("tests/leaving/leave.c", &["train"]);
    let library = release_folder().join("liblenet.so");
    programs.check("tests/unloading/unload.c", &["2", library.to_str().unwrap()]);
}
