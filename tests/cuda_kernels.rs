//! The kernels for GPUs, computed by a CPU. tests/cuda_on_cpu has the machine that they run on, in whose orders of
//! threads nothing may change, with AddressSanitizer or a detector of races watching.

#[path = "support/command.rs"]
mod command;

use command::{command, outcome, root, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What is looked for while a program runs: a compiler cannot look for both.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Look {
    /// Accesses out of bounds, undefined behaviour.
    Sanitizers,
    /// Accesses that nothing puts in an order.
    Races,
}

const ORDERS: [[&str; 2]; 4] =
    [["forward", "0"], ["reverse", "0"], ["random", "1"], ["random", "2"]];

/// Programs that are compiled from one folder of sources.
struct Workshop {
    folder: TempDir,
}

impl Workshop {
    /// With the machine in it.
    fn new() -> Workshop {
        let workshop = Workshop { folder: tempfile::tempdir().unwrap() };
        workshop.bring("tests/cuda_on_cpu", |_, text| text);
        workshop
    }

    /// Copies the files of a folder, over those of the same name.
    fn bring(&self, from: &str, change: impl Fn(&str, String) -> String) {
        for entry in fs::read_dir(root().join(from)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let text = fs::read_to_string(&path).unwrap();
            fs::write(self.folder.path().join(name), change(name, text)).unwrap();
        }
    }

    fn object(&self, source: &str, look: Look, flags: &[&str]) -> PathBuf {
        let object = self.folder.path().join(format!("{source}.{look:?}.o"));
        let mut compile = command("g++");
        compile
            .args(["-std=c++17", "-g", "-march=native", "-ffp-contract=off"])
            .args(["-fstack-clash-protection", "-Wall", "-Wextra", "-Werror"])
            .arg("-Wno-unknown-pragmas") // `#pragma unroll` is nvcc's
            .args(flags)
            .arg("-c")
            .arg(self.folder.path().join(source))
            .arg("-o")
            .arg(&object);
        run(&mut compile);
        object
    }

    fn program(&self, driver: &str, look: Look) -> PathBuf {
        let mut link = command("g++");
        link.arg(self.object("tensor_core.cpp", look, &["-O3"]));
        match look {
            Look::Sanitizers => {
                let watched = ["-O2", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
                for source in ["fiber.cpp", "machine.cpp", driver] {
                    link.arg(self.object(source, look, &watched));
                }
                link.args(&watched[1..]);
            }
            Look::Races => {
                let plain = ["-O2", "-DDETECT_RACES", "-fno-pie"];
                for source in ["fiber.cpp", "machine.cpp", "races.cpp"] {
                    link.arg(self.object(source, look, &plain));
                }
                // For the calls at each access. What they call is in races.cpp.
                let watched = ["-O2", "-DDETECT_RACES", "-fno-pie", "-fsanitize=thread"];
                link.arg(self.object(driver, look, &watched)).arg("-no-pie");
            }
        }
        let program = self.folder.path().join(format!("{driver}.{look:?}"));
        run(link.arg("-o").arg(&program));
        program
    }

    /// Both programs of a driver.
    fn programs(&self, driver: &str) -> [(Look, PathBuf); 2] {
        std::thread::scope(|scope| {
            let looks = [Look::Sanitizers, Look::Races];
            let builds = looks.map(|look| scope.spawn(move || (look, self.program(driver, look))));
            builds.map(|build| build.join().unwrap())
        })
    }
}

/// A program of a workshop. What a wrong kernel leaves lying about is not looked at.
fn made(program: &Path) -> Command {
    let mut command = command(program.to_str().unwrap());
    command.env("ASAN_OPTIONS", "detect_leaks=0");
    command
}

const RIGHT: [&str; 7] = [
    "block_barriers",
    "shuffle_reduction",
    "warp_barriers",
    "grid_barriers",
    "asynchronous_copies",
    "products",
    "as_an_h200",
];

/// Kernels with a fault, what finds it, in whatever order threads run, and words of what is said.
const WRONG: [(&str, &[Look], &[&str]); 12] = {
    use Look::{Races, Sanitizers};
    [
        ("no_barrier", &[Races], &["race", "write by thread", "read by thread", "self_test.cpp"]),
        ("a_race_that_the_order_hides", &[Races], &["race", "of block 0", "of block 1"]),
        ("relaxed_instead_of_acquire", &[Races], &["race", "read by thread 0 of block 1"]),
        ("copy_that_is_not_waited_for", &[Races], &["asynchronous copy", "not waited for"]),
        ("copy_without_a_barrier", &[Races], &["race", "self_test.cpp"]),
        (
            "barrier_in_a_branch",
            &[Sanitizers, Races],
            &["in the block barrier at", "others of its"],
        ),
        ("barrier_after_a_return", &[Sanitizers, Races], &["has returned", "block barrier at"]),
        ("half_a_warp", &[Sanitizers, Races], &["has returned", "its warp", "self_test.cpp"]),
        (
            "waiting_for_ever",
            &[Sanitizers, Races],
            &["for ever", "thread 0 of block 0 waits for another value", "with 62 others"],
        ),
        ("beyond_shared_memory", &[Sanitizers], &["heap-buffer-overflow", "self_test.cpp"]),
        ("misaligned_copy", &[Sanitizers, Races], &["copies 16 bytes that are not aligned"]),
        ("misaligned_vector", &[Sanitizers], &["misaligned address", "self_test.cpp"]),
    ]
};

#[test]
fn the_machine_computes_what_is_right_and_finds_what_is_wrong() {
    let workshop = Workshop::new();
    let programs = workshop.programs("self_test.cpp");
    for (look, program) in &programs {
        for order in ORDERS {
            for test in RIGHT {
                run(made(program).arg(test).args(order));
            }
            for (test, finders, words) in WRONG {
                if finders.contains(look) {
                    let (output, said) = outcome(made(program).arg(test).args(order));
                    assert!(
                        !output.status.success(),
                        "{test}, {look:?}, {order:?}: nothing was found"
                    );
                    for word in words {
                        assert!(
                            said.contains(word),
                            "{test}, {look:?}, {order:?}: {word:?}: {said}"
                        );
                    }
                }
            }
        }
    }
    // A copy that is late is seen without a detector, too, and a stack that ends.
    let (_, sanitized) = &programs[0];
    command::fails(made(sanitized).args(["copy_that_is_not_waited_for", "forward"]));
    let said = command::fails(made(sanitized).args(["too_deep", "forward"]));
    assert!(said.contains("stack-overflow"), "{said}");
}
