//! The library can be loaded, used and unloaded by a thread that ends, again and again, and memory stays
//! flat; two copies of it live side by side.

#[path = "support/command.rs"]
mod command;

use command::{command, release_folder, run};
use std::fs;
use std::path::PathBuf;

fn program(folder: &tempfile::TempDir) -> PathBuf {
    let program = folder.path().join("unload");
    run(command("cc")
        .args(["-std=c11", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Iinclude"])
        .args(["tests/unloading/unload.c", "-pthread", "-ldl", "-o"])
        .arg(&program));
    program
}

#[test]
fn loading_and_unloading_keeps_memory_flat() {
    let folder = tempfile::tempdir().unwrap();
    let loops = std::env::var("LENET_TEST_LOOPS").unwrap_or_else(|_| "1000".into());
    let mut unload = command(program(&folder).to_str().unwrap());
    let said = run(unload.arg(&loops).arg(release_folder().join("liblenet.so")));
    let pages: Vec<i64> = said.lines().map(|line| line.parse().unwrap()).collect();
    println!("{pages:?} resident pages after a tenth of {loops} loops and at the end");
    let [before, after] = pages[..] else { panic!("{said}") };
    assert!(after - before < 256, "{} KiB more", (after - before) * 4);
}

#[test]
fn two_copies_do_not_meet() {
    let folder = tempfile::tempdir().unwrap();
    let (library, copy) = (release_folder().join("liblenet.so"), folder.path().join("copy.so"));
    fs::copy(&library, &copy).unwrap();
    run(command(program(&folder).to_str().unwrap()).arg("both").arg(library).arg(copy));
}
