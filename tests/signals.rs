//! The host's signals are not taken by threads of the library, and a thread of the host has the same signals blocked
//! after a call as before.

#[path = "support/command.rs"]
mod command;

use command::{command, linked_program, run};

#[test]
fn the_hosts_signals_are_the_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let program = linked_program(folder.path(), &["cc", "-std=c11"], "tests/signals/signals.c");
    let program = program.to_str().unwrap();
    for engine in ["fused", "candle"] {
        let mut host = command(program);
        assert_eq!(run(host.env("LENET_ENGINE", engine)), "well\n", "{engine}");
    }
    let refuse = "inject=?clone3:error=EAGAIN"; // by which threads are made, and no fork
    let mut strace = command("strace");
    strace.args(["-o", "/dev/null", "-e", refuse, program, "refused"]);
    assert_eq!(run(&mut strace), "well\n");
}
