//! The promises of include/lenet.h to a C programmer: it compiles everywhere without a warning, says
//! of each function all there is to know, is what the library has, and never changes under a program
//! that was built with version 1 (`header/abi_1.txt` is what such a program relies on).

// Functions without arguments, or with a number.
#![allow(clippy::undocumented_unsafe_blocks)]

#[path = "support/command.rs"]
mod command;

use command::{command, release_folder, root, run};
use lenet::ffi::*;
use std::ffi::CStr;
use std::fmt::Write as _;
use std::fs;
use std::mem::offset_of;

fn header() -> String {
    fs::read_to_string(root().join("include/lenet.h")).unwrap()
}

// ---- the header, read

/// A #define, type, field or function of the header.
struct Item {
    /// The comment above it, without stars.
    doc: String,
    /// On one line, up to its `;` or `{`, without `struct` before a type's name.
    declaration: String,
    /// The struct that a field belongs to.
    within: Option<String>,
}

impl Item {
    /// The last word; of functions and macros the one before the parameters or the value.
    fn name(&self) -> &str {
        let head = match self.declaration.strip_prefix("#define ") {
            Some(macro_) => macro_.split(' ').next().unwrap(),
            None if self.is_function() => self.declaration.split('(').next().unwrap(),
            // A pointer to a function: `typedef int32_t (*name)(...)`
            None => self.declaration.split(")(").next().unwrap(),
        };
        head.rsplit([' ', '*']).next().unwrap()
    }

    fn is_function(&self) -> bool {
        let a_type_or_macro = self.declaration.starts_with(['#', 't']);
        self.within.is_none() && !a_type_or_macro && self.declaration.contains('(')
    }

    /// Of a #define with a number.
    fn value(&self) -> Option<i32> {
        self.declaration.strip_prefix("#define ")?.split_once(' ')?.1.parse().ok()
    }

    fn parameters(&self) -> Vec<&str> {
        let list = self.declaration.split_once('(').unwrap().1.trim_end_matches(')');
        list.split(", ")
            .filter(|parameter| *parameter != "void")
            .map(|parameter| parameter.rsplit([' ', '*']).next().unwrap())
            .collect()
    }
}

fn items() -> Vec<Item> {
    let header = header().replace("\\\n", " "); // a #define on two lines
    let (mut items, mut doc, mut within) = (Vec::new(), String::new(), None);
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let length;
        if rest.starts_with("/*") {
            length = rest.find("*/").expect("the comment's end") + 2;
            let lines = rest[..length].lines().map(|line| line.trim_matches(['/', '*', ' ']));
            doc = lines.collect::<Vec<_>>().join("\n").trim().to_string();
        } else if rest.starts_with("//") {
            length = rest.find('\n').expect("the line's end");
        } else if rest.starts_with('#') {
            length = rest.find('\n').unwrap_or(rest.len());
            let declaration = one_line(&rest[..length]);
            if declaration.starts_with("#define") {
                items.push(Item { doc, declaration, within: None });
            }
            doc = String::new();
        } else {
            let end = rest.find([';', '{', '}']).expect("the declaration's end");
            let declaration = one_line(&rest[..end]);
            length = end + 1;
            let item = Item { doc, declaration, within: within.clone() };
            match &rest[end..length] {
                "{" if item.declaration.starts_with("typedef") => {
                    within = Some(item.name().to_string());
                    items.push(item);
                }
                ";" if within.as_ref() == Some(&item.declaration) => within = None, // `} name;`
                ";" => items.push(item),
                _ => {} // extern "C" { }
            }
            doc = String::new();
        }
        rest = rest[length..].trim_start();
    }
    assert!(items.len() > 100, "only {} items were read", items.len());
    items
}

/// Without line breaks, and without `struct` before a type's name.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().filter(|word| *word != "struct").collect();
    words.join(" ").replace("(struct ", "(")
}

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
            let warnings =
                ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"];
            run(command(compiler)
                .arg(format!("-std={dialect}"))
                .args(warnings)
                .args(["-Iinclude", "tests/header/wrapper.cpp", "-o"])
                .arg(folder.path().join("wrapper"))
                .arg(&library)
                .arg("-Wl,-rpath,$ORIGIN"));
            let wrapper = folder.path().join("wrapper");
            run(command(wrapper.to_str().unwrap()).current_dir(&folder));
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
        assert_eq!(described, function.parameters(), "{name}: @param");
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

// ---- does not change

/// Compiles, links with the shared library and runs.
fn output_of(program: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (source, binary) = (folder.path().join("program.c"), folder.path().join("program"));
    fs::write(&source, program).unwrap();
    let library = release_folder().join("liblenet.so");
    std::os::unix::fs::symlink(&library, folder.path().join("liblenet.so.1")).unwrap();
    run(command("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-Iinclude"])
        .args([&source, &library])
        .arg("-o")
        .args([&binary])
        .arg("-Wl,-rpath,$ORIGIN"));
    run(command(binary.to_str().unwrap()).current_dir(folder.path()))
}

/// What a compiled program relies on, one line each: prototypes, values, sizes and offsets.
fn abi() -> String {
    let items = items();
    let mut abi = String::from("functions\n");
    for function in items.iter().filter(|item| item.is_function()) {
        writeln!(abi, "  {}", function.declaration).unwrap();
    }
    abi += "\nconstants\n";
    let version = |item: &&Item| item.name().starts_with("LENET_VERSION");
    for constant in items.iter().filter(|item| item.value().is_some() && !version(item)) {
        writeln!(abi, "  {} {}", constant.name(), constant.value().unwrap()).unwrap();
    }
    abi += "\ntypes\n";
    let is_type = |item: &&Item| item.within.is_none() && item.declaration.starts_with("typedef");
    let has_fields = |name: &str| items.iter().any(|item| item.within.as_deref() == Some(name));
    for item in items.iter().filter(is_type).filter(|item| !has_fields(item.name())) {
        writeln!(abi, "  {}", item.declaration).unwrap();
    }
    abi += "\nstructs with 64-bit pointers: size, offsets\n";
    let mut program = String::from("#include <lenet.h>\n#include <stdio.h>\nint main(void) {\n");
    for item in &items {
        let name = item.name();
        let (text, number) = match &item.within {
            None if has_fields(name) => (format!("  {name}"), format!("sizeof({name})")),
            None => continue,
            Some(of) => (format!("    {}", item.declaration), format!("offsetof({of}, {name})")),
        };
        writeln!(program, "    printf(\"{text} %u\\n\", (unsigned){number});").unwrap();
    }
    abi + &output_of(&(program + "    return 0;\n}\n"))
}

/// Adding to the end of a list is a new minor version: the snapshot gets the new lines. Any other
/// difference breaks programs that exist.
#[test]
#[cfg(target_pointer_width = "64")]
fn the_abi_is_that_of_version_1() {
    let (expected, actual) = (include_str!("header/abi_1.txt"), abi());
    let file = root().join("target/abi.txt");
    fs::write(&file, &actual).unwrap();
    let difference = actual.lines().zip(expected.lines()).find(|(a, b)| a != b);
    assert!(actual == expected, "{difference:?}; compare tests/header/abi_1.txt with {file:?}");
}

/// The same structs as Rust lays them out.
#[test]
fn rust_and_c_agree_on_every_struct() {
    let abi = abi();
    let mut c = abi.split("offsets\n").nth(1).unwrap().lines();
    let last_words = |line: &str| {
        let mut words = line.trim_start().rsplit([' ', '*']);
        let number: usize = words.next().unwrap().parse().unwrap();
        (words.next().unwrap().to_string(), number)
    };
    macro_rules! same {
        ($($type:ident { $($field:ident),* })*) => {
            $(
                assert_eq!(last_words(c.next().unwrap()), (stringify!($type).into(), size_of::<$type>()));
                $(assert_eq!(
                    last_words(c.next().unwrap()),
                    (stringify!($field).into(), offset_of!($type, $field)),
                    "in {}", stringify!($type)
                );)*
            )*
        };
    }
    same! {
        lenet_options { struct_size, device, device_index, num_threads, height, width, classes,
            activation, pooling, optimizer, seed, learning_rate, momentum, weight_decay, input_mean,
            input_std }
        lenet_layer { struct_size, channels, height, width, parameters, name, kind }
        lenet_fit_options { struct_size, epochs, batch_size, schedule }
        lenet_progress { struct_size, epoch, epochs, event, step, steps, loss, accuracy,
            validation_loss, validation_accuracy, images_per_second }
        lenet_metrics { struct_size, reserved, count, correct, loss, accuracy }
    }
    assert_eq!(c.next(), None);
}

/// The library exports the header's functions and nothing else, under the name that programs look
/// for, and stays mapped when it is closed.
#[test]
#[cfg(target_os = "linux")]
fn the_shared_library_has_the_headers_functions_only() {
    let library = release_folder().join("liblenet.so");
    let symbols = run(command("nm").args(["-D", "--defined-only"]).arg(&library));
    let mut exported: Vec<&str> =
        symbols.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    exported.sort();
    let items = items();
    let mut declared: Vec<&str> =
        items.iter().filter(|item| item.is_function()).map(Item::name).collect();
    declared.sort();
    assert_eq!(exported, declared);

    let dynamic = run(command("readelf").args(["-d", "-W"]).arg(&library));
    let name = concat!("Library soname: [liblenet.so.", env!("CARGO_PKG_VERSION_MAJOR"), "]");
    assert!(dynamic.contains(name), "{dynamic}");
    let flags = dynamic.lines().find(|line| line.contains("FLAGS_1")).unwrap_or_default();
    assert!(flags.contains("NODELETE"), "{dynamic}");
}
