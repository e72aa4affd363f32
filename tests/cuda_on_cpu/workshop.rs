//! Compiles drivers with the kernels and the machine that they run on, and runs them.

use crate::command::{command, root, run};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is looked for while a program runs: a compiler cannot look for both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Look {
    /// Accesses out of bounds, undefined behaviour.
    Sanitizers,
    /// Accesses that nothing puts in an order.
    Races,
}

/// A source that is compiled with definitions of its own, and whether its accesses are looked at.
#[derive(Clone)]
pub struct Source {
    pub name: String,
    pub definitions: Vec<String>,
    pub watched: bool,
}

impl Source {
    pub fn new(name: &str, watched: bool) -> Source {
        Source { name: name.into(), definitions: Vec::new(), watched }
    }
}

/// A folder of sources, with the machine among them.
pub struct Workshop {
    folder: PathBuf,
}

impl Workshop {
    /// In a folder of this name, which stays until the next time.
    pub fn new(name: &str) -> Workshop {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda_on_cpu").join(name);
        fs::remove_dir_all(&folder).ok();
        fs::create_dir_all(&folder).unwrap();
        Workshop { folder }.with("tests/cuda_on_cpu", |_, text| text)
    }

    /// Copies the C++ sources of a folder that are not here yet: of two files of one name the first
    /// folder's is taken.
    pub fn with(self, from: &str, mut change: impl FnMut(&str, String) -> String) -> Workshop {
        let mut paths: Vec<_> =
            fs::read_dir(root().join(from)).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap().to_str().unwrap();
            let copy = self.folder.join(name);
            let is_source = [".h", ".cuh", ".cu", ".cpp"].iter().any(|kind| name.ends_with(kind));
            if is_source && !copy.exists() {
                fs::write(copy, change(name, fs::read_to_string(&path).unwrap())).unwrap();
            }
        }
        self
    }

    fn compile(&self, object: &Path, source: &Source, look: Look) {
        let mut compile = command("g++");
        compile
            .args(["-x", "c++", "-std=c++17", "-g1", "-march=native", "-ffp-contract=off"])
            .args(["-fstack-clash-protection", "-Wall", "-Wextra", "-Werror"])
            .arg("-Wno-unknown-pragmas"); // `#pragma unroll` is nvcc's
        match (look, source.watched) {
            (Look::Sanitizers, true) => {
                compile.args(["-O1", SANITIZERS, "-fno-sanitize-recover=all"])
            }
            (Look::Sanitizers, false) => compile.arg("-O3"),
            // For the calls at each access. What they call is in races.cpp.
            (Look::Races, true) => compile.args(["-O1", "-fsanitize=thread"]),
            (Look::Races, false) => compile.arg("-O3"),
        };
        if look == Look::Races {
            compile.args(["-DDETECT_RACES", "-fno-pie"]);
        }
        compile.args(source.definitions.iter().map(|definition| format!("-D{definition}")));
        run(compile.arg("-c").arg(self.folder.join(&source.name)).arg("-o").arg(object));
    }

    /// A program of these sources and the machine's.
    pub fn program(&self, name: &str, sources: &[Source], look: Look) -> PathBuf {
        let mut all = sources.to_vec();
        all.push(Source::new("machine.cpp", false));
        all.push(Source::new("tensor_core.cpp", false));
        all.push(Source::new("fiber.cpp", look == Look::Sanitizers)); // it tells them of stacks
        if look == Look::Races {
            all.push(Source::new("races.cpp", false));
        }
        let program = self.folder.join(format!("{name}.{look:?}"));
        let object = |i: usize| program.with_extension(format!("{look:?}.{i}.o"));
        in_parallel(all.len(), |i| self.compile(&object(i), &all[i], look));
        let mut link = command("g++");
        link.args((0..all.len()).map(object)).arg("-o").arg(&program);
        run(link.arg(if look == Look::Sanitizers { SANITIZERS } else { "-no-pie" }));
        program
    }
}

const SANITIZERS: &str = "-fsanitize=address,undefined";

/// A program of a workshop. What a wrong kernel leaves lying about is not looked at.
pub fn made(program: &Path) -> Command {
    let mut command = command(program.to_str().unwrap());
    command.env("ASAN_OPTIONS", "detect_leaks=0");
    command
}

/// What comes of a command that reads `input`.
pub fn fed(command: &mut Command, input: &[u8]) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A program that found a fault reads no further.
        scope.spawn(move || stdin.write_all(input).ok());
        child.wait_with_output().unwrap()
    })
}

/// Calls with 0, 1, ... n - 1, on as many threads as there are cores.
pub fn in_parallel(n: usize, call: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().unwrap().get().min(n);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= n {
                        break;
                    }
                    call(i);
                }
            });
        }
    });
}
