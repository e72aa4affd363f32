//! The old file or the new file, never neither: every system call of a save fails in turn, the process
//! is killed at each of them and at random moments, and the file is whole afterwards.
//!
//! strace makes the calls fail, in a C program (saving/save.c) that saves one model over another.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

#[path = "support/command.rs"]
mod command;
mod support;

use command::{command, linked_program, run};
use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use support::{Model, small, small_with_momentum};

/// The program, two files of models and a place to save to.
struct Stage {
    folder: tempfile::TempDir,
    program: PathBuf,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Stage {
    fn new() -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let program = linked_program(folder.path(), &["cc", "-std=c11"], "tests/saving/save.c");
        let made = |name: &str, options| {
            let path = folder.path().join(name);
            support::ok(unsafe {
                lenet::ffi::lenet_save(Model::create(&options).0, support::c_path(&path).as_ptr())
            });
            fs::read(path).unwrap()
        };
        let old = made("old", small(lenet::ffi::LENET_PRESET_CLASSIC));
        let new = made("new", small_with_momentum());
        assert_ne!(old, new);
        fs::create_dir(folder.path().join("saved")).unwrap();
        Stage { folder, program, old, new }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder of the target, which holds nothing else.
    fn target(&self) -> PathBuf {
        self.path("saved/model")
    }

    /// Puts the old model in place, with a mode of its own.
    fn reset(&self) {
        fs::write(self.target(), &self.old).unwrap();
        fs::set_permissions(self.target(), Permissions::from_mode(0o640)).unwrap();
    }

    fn save(&self, before: &[&str]) -> Command {
        let mut words = before.iter().map(|word| word.to_string()).chain([
            self.program.display().to_string(),
            self.path("new").display().to_string(),
            self.target().display().to_string(),
        ]);
        let mut command = command(&words.next().unwrap());
        command.args(words);
        command
    }

    /// The system calls of a run, by name and whole, and which of them are the save's.
    fn trace(&self, inject: &[&str]) -> (Output, Vec<(String, String)>, std::ops::Range<usize>) {
        let log = self.path("trace");
        let mut words = vec![
            "timeout",
            "--signal=KILL",
            "20",
            "strace",
            "-o",
            log.to_str().unwrap(),
            "-e",
            "signal=none",
        ];
        words.extend(inject);
        let output = self.save(&words).output().expect("strace; `make check-tools` brings it");
        let text = fs::read_to_string(&log).unwrap();
        let calls: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with(['+', '-']))
            .filter_map(|line| Some((line.split_once('(')?.0.to_string(), line.to_string())))
            .collect();
        let marks: Vec<usize> = (0..calls.len()).filter(|&i| calls[i].0 == "getppid").collect();
        let start = marks.first().map_or(calls.len(), |&mark| mark + 1);
        let end = marks.get(1).copied().unwrap_or(calls.len());
        (output, calls, start..end)
    }

    /// The save's calls but those for memory: name, and its number among the calls of that name.
    fn calls(&self) -> Vec<(String, usize)> {
        self.calls_on(&[])
    }

    fn calls_on(&self, way: &[&str]) -> Vec<(String, usize)> {
        self.reset();
        let (output, calls, save) = self.trace(way);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut counts = HashMap::new();
        let mut found = Vec::new();
        for (i, (name, _)) in calls.iter().enumerate() {
            let count = counts.entry(name.clone()).or_insert(0);
            *count += 1;
            let memory = ["mmap", "munmap", "mremap", "brk", "madvise"].contains(&&**name);
            if save.contains(&i) && !memory {
                found.push((name.clone(), *count));
            }
        }
        found
    }

    /// Old or new, whole; where a temporary file may be left, its name says whose it is.
    #[track_caller]
    fn assert_whole(&self, what: &str, leftovers: bool) -> bool {
        self.assert_whole_and_count(what, leftovers).0
    }

    /// The same, and how many temporary files were there.
    #[track_caller]
    fn assert_whole_and_count(&self, what: &str, leftovers: bool) -> (bool, usize) {
        let mut left = 0;
        let file = fs::read(self.target()).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(
            file == self.old || file == self.new,
            "{what}: neither the old file nor the new one"
        );
        for entry in fs::read_dir(self.path("saved")).unwrap() {
            let (path, name) = entry.map(|e| (e.path(), e.file_name())).unwrap();
            if path != self.target() {
                let ours = name.to_str().unwrap().starts_with(".lenet-");
                assert!(ours && leftovers, "{what}: {name:?} was left");
                fs::remove_file(path).unwrap();
                left += 1;
            }
        }
        (file == self.new, left)
    }
}

/// Without /proc no file without a name gets one, and the temporary file has its name all the time.
const NAMED: [&str; 2] = ["-e", "inject=linkat:error=ENOENT"];

#[test]
fn the_file_is_synced_before_it_gets_its_name_and_the_folder_after() {
    let stage = Stage::new();
    stage.reset();
    let (output, calls, save) = stage.trace(&[]);
    assert!(output.status.success());
    let order: Vec<&str> = calls[save]
        .iter()
        .map(|(name, line)| match name.as_str() {
            "openat" if line.contains("O_TMPFILE") => "create",
            "openat" if line.contains("/saved\"") => "open folder",
            other if other.starts_with("rename") => "rename",
            other => other,
        })
        .filter(|name| {
            ["create", "write", "fsync", "linkat", "rename", "open folder"].contains(name)
        })
        .collect();
    let expected = ["open folder", "create", "write", "fsync", "linkat", "rename", "fsync"];
    assert_eq!(order, expected);
    assert!(stage.assert_whole("saved", false));
    let mode = fs::metadata(stage.target()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "the old file's mode");

    // Where there is no old file, no second name is needed.
    fs::remove_file(stage.target()).unwrap();
    let (output, calls, save) = stage.trace(&[]);
    assert!(output.status.success() && stage.assert_whole("new", false));
    let names = calls[save].iter().filter(|(_, line)| line.contains("saved/")).count();
    let links = calls.iter().filter(|(name, line)| name == "linkat" && line.contains("/model\""));
    assert_eq!((names, links.count()), (2, 1), "looked at, then linked: {calls:?}");
}

/// What CIFS, FUSE, FAT and Android say. The disk's own errors are failures.
#[test]
fn a_file_system_that_has_no_modes_or_cannot_sync_is_no_failure() {
    let stage = Stage::new();
    let refused = [
        ("fchmod", &["EPERM", "EACCES", "EOPNOTSUPP", "ENOSYS"][..], &["EIO", "EROFS"][..]),
        ("fsync", &["EINVAL", "EOPNOTSUPP", "ENOSYS"], &["EIO", "ENOSPC", "EDQUOT"]),
    ];
    for way in [&[][..], &NAMED] {
        for (name, allowed, failures) in refused {
            for error in allowed {
                stage.reset();
                let inject = format!("inject={name}:error={error}");
                let (output, calls, _) = stage.trace(&[way, &["-e", &inject]].concat());
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{inject}: {said}");
                let injected = calls.iter().filter(|(_, line)| line.contains("(INJECTED)"));
                assert!(injected.count() > 0, "{inject}: no such call");
                assert!(stage.assert_whole(&inject, false));
            }
            for error in failures {
                stage.reset();
                let inject = format!("inject={name}:error={error}");
                let (output, ..) = stage.trace(&[way, &["-e", &inject]].concat());
                assert_eq!(output.status.code(), Some(1), "{inject}");
                assert!(!stage.assert_whole(&inject, false));
            }
        }
        // A mode that is right is not set.
        stage.reset();
        let umask = fs::metadata(stage.path("new")).unwrap().permissions();
        fs::set_permissions(stage.target(), umask).unwrap();
        let (output, calls, save) = stage.trace(way);
        assert!(output.status.success() && stage.assert_whole("same mode", false));
        assert!(calls[save].iter().all(|(name, _)| !name.contains("chmod")));
    }
}

/// It can be written and entered, but not be opened to be synced; its file system can.
#[test]
fn a_folder_that_cannot_be_read_is_synced_all_the_same() {
    let stage = Stage::new();
    let sets = |mode| fs::set_permissions(stage.path("saved"), Permissions::from_mode(mode));
    fs::set_permissions(stage.folder.path(), Permissions::from_mode(0o755)).unwrap();
    let root = unsafe { libc::geteuid() } == 0;
    let someone: &[&str] = if root { &["setpriv", "--reuid=65534", "--clear-groups"] } else { &[] };
    for way in [&[][..], &NAMED] {
        for error in ["", "EIO", "ENOSYS"] {
            stage.reset();
            fs::set_permissions(stage.target(), Permissions::from_mode(0o644)).unwrap();
            sets(0o333).unwrap();
            let inject = format!("inject=syncfs:error={error}");
            let failing: &[&str] = if error.is_empty() { &[] } else { &["-e", &inject] };
            let (output, calls, save) = stage.trace(&[way, failing, someone].concat());
            sets(0o755).unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(stage.assert_whole("a folder of mode 333", false), "{said}");
            let names: Vec<&str> = calls[save].iter().map(|(name, _)| &**name).collect();
            let place = |start| names.iter().rposition(|name| name.starts_with(start));
            assert!(place("syncfs") > place("rename"), "{names:?}");
            if error == "EIO" {
                assert!(output.status.code() == Some(1) && said.contains("is in place"), "{said}");
            } else {
                assert!(output.status.success(), "{said}");
            }
        }
    }
}

#[test]
fn a_call_that_fails_once_or_for_good_leaves_the_old_file_or_the_new_one() {
    let stage = Stage::new();
    let calls = stage.calls();
    let mut failures = 0;
    const ERRORS: [&str; 9] =
        ["ENOSPC", "EIO", "EINTR", "EROFS", "EMFILE", "EINVAL", "EPERM", "EACCES", "EOPNOTSUPP"];
    for (way, calls) in [(&[][..], &calls), (&NAMED, &stage.calls_on(&NAMED))] {
        for (name, number) in calls {
            let linked = name == "linkat" && !way.is_empty(); // it fails already
            let errors = if way.is_empty() { &ERRORS[..] } else { &ERRORS[..2] };
            for error in errors.iter().filter(|_| !linked) {
                for more in ["", "+"] {
                    if (*error, more) == ("EINTR", "+") {
                        continue; // a call that is interrupted for ever is made again for ever
                    }
                    stage.reset();
                    let inject = format!("inject={name}:error={error}:when={number}{more}");
                    let (output, ..) = stage.trace(&[way, &["-e", &inject]].concat());
                    let said = String::from_utf8_lossy(&output.stderr);
                    let new = stage.assert_whole(&inject, name.starts_with("unlink"));
                    match output.status.code() {
                        Some(0) => assert!(new, "{inject}: said to be saved, and is not"),
                        Some(1) => {
                            failures += 1;
                            // Where no write succeeds any more, nothing can be said either.
                            let mute = name == "write" && more == "+";
                            let named = ["LENET_ERROR_IO", "LENET_ERROR_NOT_FOUND"]
                                .iter()
                                .any(|code| said.contains(code));
                            assert!(mute || named && said.contains("saved"), "{inject}: {said}");
                            assert!(
                                mute || new == said.contains("is in place"),
                                "{inject}: {said}"
                            );
                        }
                        _ => panic!("{inject}: {}: {said}", output.status),
                    }
                }
            }
        }
        println!("{} calls in turn, {failures} saves failed", calls.len());
    }
    assert!(calls.len() >= 6 && failures >= 60, "{calls:?}, {failures} failures");
}

#[test]
fn killed_at_any_call_or_moment_it_leaves_the_old_file_or_the_new_one() {
    let stage = Stage::new();
    let calls = stage.calls();
    let (mut old, mut new) = (0, 0);
    for (name, number) in &calls {
        stage.reset();
        let inject = format!("inject={name}:signal=SIGKILL:when={number}");
        let (output, ..) = stage.trace(&["-e", &inject]);
        assert_ne!(output.status.code(), Some(0), "{inject}: not killed");
        // Between these two the new file has a name of its own.
        let leftovers = name.starts_with("linkat") || name.starts_with("rename");
        *(if stage.assert_whole(&inject, leftovers) { &mut new } else { &mut old }) += 1;
    }
    assert!(old > 0 && new > 0, "{old} old and {new} new files");
    for (name, number) in &stage.calls_on(&NAMED) {
        stage.reset();
        let inject = format!("inject={name}:signal=SIGKILL:when={number}");
        let (output, ..) = stage.trace(&[&NAMED[..], &["-e", &inject]].concat());
        assert_ne!(output.status.code(), Some(0), "{inject}: not killed");
        stage.assert_whole(&inject, true);
    }

    let kills = support::times("LENET_TEST_KILLS", 200);
    stage.reset();
    let (mut seen, mut left) = ([0, 0], 0);
    for kill in 0..kills {
        let mut command = stage.save(&[]);
        let mut child = command.arg(stage.path("old")).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0; 7];
        child.stdout.take().unwrap().read_exact(&mut line).unwrap();
        std::thread::sleep(Duration::from_micros(kill * 7919 % 10_007));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        let (new, more) = stage.assert_whole_and_count(&format!("kill {kill}"), true);
        seen[usize::from(new)] += 1;
        left += more;
    }
    println!("{} kills at calls, {kills} at random: {seen:?} old and new", calls.len());
    println!("{left} temporary files were left");
    assert!(left as u64 <= kills.div_ceil(20), "{left} temporary files were left by {kills} kills");
    assert!(seen.iter().all(|&count| count > kills as usize / 20), "{seen:?}");
}

#[test]
fn a_full_disk_and_a_folder_of_someone_else_keep_the_old_file() {
    let stage = Stage::new();
    // Smaller than a model.
    let script = "mount -t tmpfs -o size=16k tmpfs saved && head -c 1000 old > saved/model && \
        { ./program new saved/model; test $? = 1; } && head -c 1000 old | cmp - saved/model && \
        test \"$(ls -A saved)\" = model";
    let mut shell = command("unshare");
    let output = shell
        .args(["--mount", "--map-root-user", "sh", "-c", script])
        .current_dir(stage.folder.path())
        .output()
        .expect("unshare");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("No space left"), "{said}");

    stage.reset();
    fs::set_permissions(stage.folder.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(stage.path("saved"), Permissions::from_mode(0o555)).unwrap();
    // Root may write anywhere; someone else may not.
    let root = unsafe { libc::geteuid() } == 0;
    let someone: &[&str] = if root { &["setpriv", "--reuid=65534", "--clear-groups"] } else { &[] };
    let output = stage.save(someone).output().expect("setpriv");
    fs::set_permissions(stage.path("saved"), Permissions::from_mode(0o755)).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("Permission denied"), "{said}");
    assert!(!stage.assert_whole("another user's folder", false));
}

#[test]
fn what_is_not_a_regular_file_is_refused_and_stays() {
    let stage = Stage::new();
    let elsewhere = stage.path("elsewhere");
    fs::write(&elsewhere, &stage.old).unwrap();
    let fifo = |path: &Path| run(command("mkfifo").arg(path));
    for kind in ["link", "dangling link", "FIFO", "folder", "device"] {
        let _ = fs::remove_file(stage.target());
        match kind {
            "link" => symlink(&elsewhere, stage.target()).unwrap(),
            "dangling link" => symlink("nowhere", stage.target()).unwrap(),
            "FIFO" => drop(fifo(&stage.target())),
            "folder" => fs::create_dir(stage.target()).unwrap(),
            _ => fs::remove_dir(stage.target()).unwrap(),
        }
        let target = if kind == "device" { Path::new("/dev/full") } else { &stage.target() };
        let mut command = command(stage.program.to_str().unwrap());
        let output = command.arg(stage.path("new")).arg(target).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{kind}: {said}");
        assert!(said.contains("not a regular file"), "{kind}: {said}");
    }
    assert_eq!(fs::read(&elsewhere).unwrap(), stage.old);
    assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device());
}
