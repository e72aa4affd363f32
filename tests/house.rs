//! The rules of the house that no compiler checks: where `unsafe` and C may be, that the library
//! prints nothing, that a file stays one room, that no room imports one above it.

#[path = "house/arrows.rs"]
mod arrows;

mod sources {
    use std::fs;
    use std::path::{Path, PathBuf};

    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }

    /// Each file of src, by its path from there, with its lines of code: (number, text before `//`).
    pub fn code() -> Vec<(String, Vec<(usize, String)>)> {
        let lines = |text: String| {
            let code = text.lines().map(|line| line.split("//").next().unwrap().trim().to_string());
            (1..).zip(code).filter(|(_, line)| !line.is_empty()).collect()
        };
        texts().into_iter().map(|(name, text)| (name, lines(text))).collect()
    }

    /// Each file of src, by its path from there, with its text.
    pub fn texts() -> Vec<(String, String)> {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        walk(&src, &mut files);
        assert!(files.len() > 10, "src is not where it is expected");
        files.sort();
        let name = |path: &Path| path.strip_prefix(&src).unwrap().to_str().unwrap().to_string();
        files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
    }
}

/// The lines of src outside the allowed folders that `forbidden` finds fault with.
fn offences(allowed: &[&str], forbidden: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (file, lines) in sources::code() {
        if !allowed.iter().any(|folder| file.starts_with(folder)) {
            let faults = lines.iter().filter(|(_, line)| forbidden(line));
            found.extend(faults.map(|(number, line)| format!("src/{file}:{number}: {line}")));
        }
    }
    found
}

/// Where C is: the API, the two sides of the plugin with what crosses between them, and the system.
const C: [&str; 6] =
    ["ffi/", "plugin.rs", "plugin_abi.rs", "engine/remote/", "engine/cuda/", "host/"];

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

#[test]
fn unsafe_is_fenced() {
    let own = ["engine/fused/vectors/memory.rs", "engine/fused/threads.rs"];
    let outside = ["fence/float_environment.rs", "engine/cuda/"];
    let allowed = [&C[..], &own, &outside].concat();
    let found = offences(&allowed, |line| has_word(line, "unsafe"));
    assert_eq!(found, [""; 0]);
    let denied = sources::code().iter().any(|(file, lines)| {
        file == "lib.rs" && lines.iter().any(|(_, line)| line == "#![deny(unsafe_code)]")
    });
    assert!(denied, "src/lib.rs no longer denies unsafe_code");
}

#[test]
fn only_these_rooms_know_that_c_exists() {
    // CStr is not among them: a name that is handed out for ever is one where it is stored.
    let c = ["extern \"C", "no_mangle", "c_char", "c_void", "c_int", "CString", "lenet_"];
    let found = offences(&C, |line| c.iter().any(|word| line.contains(word)));
    assert_eq!(found, [""; 0]);
}

#[test]
fn no_room_imports_one_above_it() {
    assert_eq!(arrows::upward(&sources::texts()), [""; 0]);
}

#[test]
fn the_library_prints_nothing() {
    let found = offences(&[], |line| {
        ["println!", "eprintln!", "print!", "eprint!", "dbg!", "stdout()", "stderr()"]
            .iter()
            .any(|word| line.contains(word))
    });
    assert_eq!(found, [""; 0]);
}

/// When a file passes 400 lines of code, look whether it is two rooms. Its tests do not count.
#[test]
fn a_file_is_one_room() {
    const LONGER_FOR_A_REASON: [(&str, &str); 0] = [];
    for (file, lines) in sources::code() {
        let tests = lines.iter().position(|(_, line)| line == "mod tests {");
        let length = tests.unwrap_or(lines.len());
        let excused = LONGER_FOR_A_REASON.iter().any(|(name, _)| *name == file);
        assert!(length <= 400 || excused, "src/{file} has {length} lines of code");
    }
}
