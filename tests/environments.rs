//! The first command of the README builds and runs what it says in the environments that people have: settings of cargo
//! that put its output elsewhere, folders with spaces, no `.git`, parallel make, other compilers and locales.
//!
//! In a copy of the repository, whose cargo is a script that has the library ready and puts it where cargo would.

#[path = "support/command.rs"]
mod command;

use command::{command, outcome, release_folder, root};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// As cargo understands where to build: `--target-dir`, CARGO_TARGET_DIR, CARGO_BUILD_TARGET_DIR (build.target-dir in
/// its configuration), target; and below that CARGO_BUILD_TARGET (build.target) and the profile's folder.
const CARGO: &str = r#"#!/bin/sh
set -eu
folder=${CARGO_TARGET_DIR:-${CARGO_BUILD_TARGET_DIR:-target}}
while [ $# -gt 0 ]; do
    case $1 in
        --profile) profile=$2; shift;;
        --target-dir) folder=$2; shift;;
        --message-format) format=$2; shift;;
    esac
    shift
done
case $profile in dev) profile=debug;; esac
case $folder in /*) ;; *) folder=$PWD/$folder;; esac
folder=$folder${CARGO_BUILD_TARGET:+/$CARGO_BUILD_TARGET}/$profile
mkdir -p "$folder"
cp -f "$LIBRARIES/liblenet.so" "$LIBRARIES/liblenet.a" "$folder"
echo '    Finished' >&2
if [ "${format:-}" = json-render-diagnostics ]; then
    echo '{"reason":"compiler-artifact","filenames":["/elsewhere/liblibc.rlib"],"fresh":true}'
    echo '{"reason":"compiler-artifact","filenames":["'"$folder/liblenet.so"'","'"$folder/liblenet.a"'"],"fresh":true}'
    echo '{"reason":"build-finished","success":true}'
fi
"#;

struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    fn new() -> Copy {
        let copy = Copy { folder: tempfile::tempdir().unwrap() };
        for part in ["Makefile", "Cargo.toml", "include", "examples", "src"] {
            let to = copy.root();
            fs::create_dir_all(&to).unwrap();
            command::run(command("cp").arg("-R").arg(root().join(part)).arg(to));
        }
        let cargo = copy.folder.path().join("cargo");
        fs::write(&cargo, CARGO).unwrap();
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
        copy
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("a folder/with spaces")
    }

    /// make with this in the environment, and the two quickstarts, which are built and run.
    fn make(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Command {
        let mut path = self.folder.path().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        let mut make = command("make");
        for name in ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_BUILD_TARGET"] {
            make.env_remove(name);
        }
        make.current_dir(self.root()).env("PATH", path).env("LIBRARIES", release_folder());
        make.envs(environment.iter().copied()).args(["-C", "examples"]).args(arguments);
        make.args(["run-quickstart", "run-quickstart-cpp"]);
        make
    }
}

#[track_caller]
fn runs(environment: &[(&str, &str)], arguments: &[&str], library: &str) -> Copy {
    let copy = Copy::new();
    let (output, said) = outcome(&mut copy.make(environment, arguments));
    let ran = said.matches("100 of 100 right").count();
    assert!(output.status.success() && ran == 2, "{environment:?}, {arguments:?}: {said}");
    // The programs have the library that was just built, not one of the system.
    let linked = copy.root().join("target/examples/liblenet.so.1");
    assert_eq!(linked.canonicalize().unwrap(), copy.root().join(library).canonicalize().unwrap());
    copy
}

const HERE: &str = "target/release/liblenet.so";

#[test]
fn cargo_may_be_told_to_build_elsewhere() {
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().to_str().unwrap();
    for name in ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"] {
        runs(&[(name, path)], &[], HERE);
    }
    assert!(is_empty(elsewhere.path()));
    let triple = "x86_64-unknown-linux-gnu";
    let below = format!("target/{triple}/release/liblenet.so");
    let copy = runs(&[("CARGO_BUILD_TARGET", triple), ("CARGO_TARGET_DIR", path)], &[], &below);
    // And back again.
    let (output, said) = outcome(&mut copy.make(&[], &[]));
    assert!(output.status.success(), "{said}");
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn the_first_command_runs_in_many_environments() {
    runs(&[], &["-j8"], HERE);
    runs(&[], &["CC=clang", "CXX=clang++", "PROFILE=dev"], "target/debug/liblenet.so");
    runs(
        &[
            ("CDPATH", "/usr:/tmp:.."),
            ("LC_ALL", "tr_TR.UTF-8"),
            ("MAKEFLAGS", "-rR -k"),
            ("CFLAGS", "-O3 -g -fstack-protector-strong -D_FORTIFY_SOURCE=2 -Werror"),
            ("CXXFLAGS", "-O3 -g -Werror"),
            ("LDFLAGS", "-Wl,-z,relro,-z,now -Wl,--as-needed"),
        ],
        &[],
        HERE,
    );
}

/// A folder of another user, who lets everybody read it: what is missing there is said, and nothing is written elsewhere.
#[test]
fn a_folder_that_may_not_be_written_is_named() {
    let copy = Copy::new();
    let target = copy.root().join("target");
    fs::write(&target, "not a folder").unwrap(); // root may write everywhere but here
    let (output, said) = outcome(&mut copy.make(&[], &[]));
    assert!(!output.status.success() && said.contains("target"), "{said}");
    assert_eq!(fs::read(&target).unwrap(), b"not a folder");
}
