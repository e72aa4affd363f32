//! A process may end in the middle of training, and may be refused threads.

#[path = "support/command.rs"]
mod command;

use command::{command, linked_program, outcome, run};
use std::path::PathBuf;

fn program(folder: &tempfile::TempDir) -> PathBuf {
    linked_program(folder.path(), &["cc", "-std=c11"], "tests/leaving/leave.c")
}

#[test]
fn exit_while_another_thread_trains_ends_the_process_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let program = program(&folder);
    for round in 0..50 {
        let microseconds = (round * 7919 % 5003).to_string();
        let mut timeout = command("timeout");
        timeout.args(["--signal=KILL", "10"]).arg(&program).args(["exit", &microseconds]);
        let (output, said) = outcome(&mut timeout);
        assert!(output.status.success(), "round {round}: {}: {said}", output.status);
    }
}

#[test]
fn where_threads_are_refused_the_callers_does_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let program = program(&folder);
    let expected = run(command(program.to_str().unwrap()).arg("train"));
    // From the first or the second one on.
    for when in ["1+", "2+"] {
        let inject = format!("inject=?clone3,?clone:error=EAGAIN:when={when}");
        let mut strace = command("strace");
        strace.args(["-f", "-o", "/dev/null", "-e", &inject]).arg(&program).arg("train");
        assert_eq!(run(&mut strace), expected, "{inject}: another result");
    }
}
