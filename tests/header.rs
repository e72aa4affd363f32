//! The promises of include/lenet.h to a C programmer: it compiles everywhere without a warning, says
//! of each function all there is to know, and is what the library has.

// Functions without arguments, or with a number.
#![allow(clippy::undocumented_unsafe_blocks)]

#[path = "support/command.rs"]
mod command;
#[path = "support/header_items.rs"]
mod header_items;

use command::{command, output_of, release_folder, root, run};
use header_items::{header, items, last_word};
use lenet::ffi::*;
use std::ffi::CStr;
use std::fs;

// ---- compiles everywhere

/// Alone in a file it brings what it needs; twice it does no harm.
#[test]
fn the_header_compiles_without_a_warning_in_every_dialect() {
    let folder = tempfile::tempdir().unwrap();
    // A compiler looks for padding when it lays a struct out, at the latest when asked for its size.
    let mut fields_of: Vec<String> = items().into_iter().filter_map(|item| item.within).collect();
    fields_of.dedup();
    let size = |name: &String| format!("typedef char has_size_{name}[sizeof({name})];\n");
    let sizes: String = fields_of.iter().map(size).collect();
    let alone = "#include \"lenet.h\"\n";
    let twice = format!("{alone}{alone}{sizes}");

    for (language, compilers, dialects) in [
        ("c", ["gcc", "clang"], ["c99", "c11", "c17"]),
        ("c++", ["g++", "clang++"], ["c++11", "c++17", "c++20"]),
    ] {
        for (name, text) in [("alone", alone), ("twice", &twice)] {
            let source = folder.path().join(format!("{name}.{language}"));
            fs::write(&source, text).unwrap();
            for compiler in compilers {
                for dialect in dialects {
                    let warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Wundef", "-Wpadded"];
                    run(command(compiler)
                        .arg(format!("-std={dialect}"))
                        .args(warnings)
                        .args(["-Werror", "-Iinclude", "-c", "-o", "/dev/null", "-x", language])
                        .arg(&source));
                }
            }
        }
    }
}

/// lenet.hpp, alone and twice, with all that it wraps called.
#[test]
fn the_cpp_header_compiles_without_a_warning_and_works() {
    let folder = tempfile::tempdir().unwrap();
    let library = release_folder().join("liblenet.so");
    std::os::unix::fs::symlink(&library, folder.path().join("liblenet.so.1")).unwrap();
    for compiler in ["g++", "clang++"] {
        for dialect in ["c++17", "c++20"] {
            let warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion"];
            run(command(compiler)
                .arg(format!("-std={dialect}"))
                .args(warnings)
                .args(["-Wsign-conversion", "-Wold-style-cast", "-Werror", "-Iinclude"])
                .args(["tests/header/wrapper.cpp", "-o"])
                .arg(folder.path().join("wrapper"))
                .arg(&library)
                .arg("-Wl,-rpath,$ORIGIN"));
            let wrapper = folder.path().join("wrapper");
            run(command(wrapper.to_str().unwrap()).current_dir(&folder));

            // Of inline functions a program has those that it calls, so this finds what lenet.hpp lacks.
            let symbols = run(command("nm").args(["-D", "--undefined-only"]).arg(wrapper));
            let called: Vec<&str> = symbols.lines().map(last_word).collect();
            for function in items().iter().filter(|item| item.is_function()) {
                let name = function.name();
                assert!(called.contains(&name), "{name}: wrapper.cpp does not call it");
            }
        }
    }
}

/// build.rs refreshes the header in a checkout, so what is out of date shows as a difference.
#[test]
fn the_committed_header_is_what_src_ffi_says() {
    let generated = fs::read_to_string(concat!(env!("OUT_DIR"), "/lenet.h")).unwrap();
    assert!(header() == generated, "include/lenet.h is not what build.rs made of src/ffi");
    if root().join(".git").exists() {
        // safe.directory: a checkout that another user made, as in a container
        let difference = ["-c", "safe.directory=*", "diff", "--exit-code", "--", "include/lenet.h"];
        run(command("git").args(difference));
    }
}

// ---- says all there is to know

#[test]
fn every_function_is_documented() {
    for function in items().iter().filter(|item| item.is_function()) {
        let (name, doc) = (function.name(), &function.doc);
        let summary = doc.split("\n\n").next().unwrap();
        assert!(summary.len() > 10 && !summary.starts_with('@'), "{name} has no summary: {doc}");
        let described: Vec<&str> = doc
            .lines()
            .filter_map(|line| line.strip_prefix("@param ")?.split(' ').next())
            .collect();
        let declared: Vec<&str> = function.parameters().into_iter().map(last_word).collect();
        assert_eq!(described, declared, "{name}: @param");
        let returns_nothing = function.declaration.starts_with("void ");
        assert_eq!(doc.contains("@return "), !returns_nothing, "{name}: @return");
        // How the text is broken into lines does not matter.
        let text = doc.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("Since 1."), "{name} does not say since when");
        assert!(text.contains("Any thread"), "{name} does not say which threads may call it");
        let by_status = function.declaration.starts_with("lenet_status ");
        let statuses = text.contains("@return LENET_OK") || text.contains("@return As lenet_");
        assert_eq!(statuses, by_status, "{name} does not list its statuses");
    }
}

#[test]
fn every_type_field_and_constant_is_documented() {
    // The guard, and the three parts of the version, which speak for themselves.
    let exempt = ["LENET_H", "LENET_VERSION_MAJOR", "LENET_VERSION_MINOR", "LENET_VERSION_PATCH"];
    for item in items() {
        let name = item.name();
        assert!(!item.doc.is_empty() || exempt.contains(&name), "{name}");
        let is_type = item.declaration.starts_with("typedef");
        assert!(!is_type || item.doc.contains("Since 1."), "{name} does not say since when");
    }
}

#[test]
fn the_library_knows_the_name_of_every_status() {
    let statuses = items()
        .into_iter()
        .filter(|item| item.name() == "LENET_OK" || item.name().starts_with("LENET_ERROR_"));
    let mut next = 0;
    for status in statuses {
        let value = status.value().unwrap();
        assert_eq!(value, next, "{}: statuses are numbered in order", status.name());
        let name = unsafe { CStr::from_ptr(lenet_status_name(value)) };
        assert_eq!(name.to_str().unwrap(), status.name());
        next += 1;
    }
    for unknown in [-1, next, i32::MAX, i32::MIN] {
        let name = unsafe { CStr::from_ptr(lenet_status_name(unknown)) };
        assert_eq!(name, c"LENET_ERROR_UNKNOWN", "{unknown}");
    }
}

#[test]
fn header_and_library_have_the_same_version() {
    let program = r#"
        #include <lenet.h>
        #include <stdio.h>
        int main(void) {
            printf("%s %d %u ", LENET_VERSION, LENET_VERSION_NUMBER, (unsigned)sizeof LENET_VERSION);
            printf("%s %u", lenet_version(), (unsigned)lenet_version_number());
            return 0;
        }"#;
    let [major, minor, patch] = [
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        env!("CARGO_PKG_VERSION_PATCH"),
    ]
    .map(|part| part.parse::<u32>().unwrap());
    let (text, number) = (env!("CARGO_PKG_VERSION"), major * 10_000 + minor * 100 + patch);
    let expected = format!("{text} {number} {} {text} {number}", text.len() + 1);
    assert_eq!(output_of(program), expected);

    assert_eq!(unsafe { CStr::from_ptr(lenet_version()) }.to_str().unwrap(), text);
    assert_eq!(lenet_version_number(), number);
}
