//! An exception out of a callback, which the header forbids: what is on its way inside the callback is
//! destroyed, and then the process aborts, before anything else can go wrong. What a callback may do:
//! tests/training.rs.

#[path = "support/command.rs"]
mod command;

use command::{command, linked_program, outcome};
use std::os::unix::process::ExitStatusExt;

#[test]
fn an_exception_out_of_a_callback_aborts_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let program =
        linked_program(folder.path(), &["g++", "-std=c++17"], "tests/callbacks/throw.cpp");
    let (output, said) = outcome(&mut command(program.to_str().unwrap()));
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{}: {said}", output.status);
    assert!(said.starts_with("destroyed\n") && !said.contains("came back"), "{said}");
}
