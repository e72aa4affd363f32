//! What a program relies on that was built with version 1 (`abi/abi_1.txt`) never changes under it.

#[path = "support/command.rs"]
mod command;
#[path = "support/header_items.rs"]
mod header_items;

use command::{command, linked_program, outcome, output_of, release_folder, root, run};
use header_items::{Item, header, items, items_of};
use lenet::ffi::*;
use std::fmt::Write as _;
use std::fs;
use std::mem::offset_of;
use std::path::{Path, PathBuf};

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
    let (expected, actual) = (include_str!("abi/abi_1.txt"), abi());
    let file = root().join("target/abi.txt");
    fs::write(&file, &actual).unwrap();
    let difference = actual.lines().zip(expected.lines()).find(|(a, b)| a != b);
    assert!(actual == expected, "{difference:?}; compare tests/abi/abi_1.txt with {file:?}");
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
            input_std, preparation, mirror, padding, reserved }
        lenet_layer { struct_size, channels, height, width, parameters, name, kind }
        lenet_fit_options { struct_size, epochs, batch_size, schedule, shift, keep, patience, reserved,
            flip, rotation, scale, max_seconds, target_accuracy, class_balance }
        lenet_progress { struct_size, epoch, epochs, event, step, steps, loss, accuracy,
            validation_loss, validation_accuracy, images_per_second }
        lenet_metrics { struct_size, reserved, count, correct, loss, accuracy }
        lenet_image { struct_size, format, height, width, stride, pixels }
        lenet_calibration { struct_size, reserved, temperature, threshold, coverage, error, loss_before,
            loss_after }
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

/// The header as an older version of the library may have had it: each struct ends one field earlier.
fn older_header() -> String {
    let mut older = header();
    let ends: Vec<usize> = older.match_indices("\n} lenet_").map(|(at, _)| at).collect();
    for &end in ends.iter().rev() {
        let last_field = older[..end].rfind("    /**").unwrap();
        older.replace_range(last_field..end, "");
    }
    assert_eq!(ends.len(), 7, "structs have come or gone");
    older
}

/// The header with the structs of version 1.0: without the fields that came later, which are the last,
/// so that what stands before them is where it was.
fn structs_of_1_0(header: &str) -> String {
    let mut older = header.to_string();
    let mut cut = 0;
    let ends: Vec<usize> = older.match_indices("\n} lenet_").map(|(at, _)| at).collect();
    for &end in ends.iter().rev() {
        let begin = older[..end].rfind("\ntypedef struct lenet_").unwrap();
        let Some(later) = older[begin..end].find("Since 1.1.").map(|at| begin + at) else {
            continue;
        };
        let first_later_field = older[..later].rfind("    /**").unwrap();
        // The struct's own comment, which also says since when, stands before it.
        assert!(first_later_field > begin);
        older.replace_range(first_later_field..end, "");
        cut += 1;
    }
    assert!(cut > 0, "no struct has grown");
    older
}

#[test]
fn a_program_with_smaller_structs_still_runs() {
    // 16 rows: the padding that a program of 1.0 cannot set is 2.
    let expected = "2 classes, conv1 with 16 rows, 10 events, 32 images\n";
    let headers = [
        (header(), "own"),
        (older_header(), "smaller"),
        (structs_of_1_0(&header()), "those of 1.0"),
    ];
    for (header, structs) in headers {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("lenet.h"), &header).unwrap();
        let include = format!("-I{}", folder.path().display());
        let program =
            linked_program(folder.path(), &["cc", "-std=c99", &include], "tests/abi/older.c");
        assert_eq!(run(&mut command(program.to_str().unwrap())), expected, "structs: {structs}");
    }
}

/// A library as a C compiler would make it of the header, with types that abidiff reads. In the real
/// one it would read Rust's.
fn library_of(folder: &Path, header: &str) -> PathBuf {
    fs::write(folder.join("lenet.h"), header).unwrap();
    let mut source = String::from("#include \"lenet.h\"\n");
    for function in items_of(header).iter().filter(|item| item.is_function()) {
        writeln!(source, "{} {{ __builtin_trap(); }}", function.declaration).unwrap();
    }
    let (path, library) = (folder.join("lenet.c"), folder.join("liblenet.so"));
    fs::write(&path, source).unwrap();
    let build = ["-std=c99", "-g", "-shared", "-fPIC", "-Wl,-soname,liblenet.so.1", "-o"];
    run(command("cc").args(build).args([&library, &path]));
    library
}

/// Whether abidiff finds that programs built with version 1.0 (`abi/lenet-1.0.abi`) can use a library
/// with this header, and what it says. A struct that grows is not a change to them: a program says how
/// large its own is.
fn is_compatible(header: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let library = library_of(folder.path(), &structs_of_1_0(header));
    let (output, said) = outcome(
        command("abidiff").args(["--no-added-syms", "tests/abi/lenet-1.0.abi"]).arg(library),
    );
    (output.status.success(), said)
}

/// A new minor version of the ABI gets a dump of its own: that which this leaves in target/.
#[test]
fn abidiff_finds_the_abi_of_version_1() {
    let folder = tempfile::tempdir().unwrap();
    let dump = root().join("target/lenet.abi");
    let terse = ["--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", "--out-file"];
    let library = library_of(folder.path(), &header());
    run(command("abidw").args(terse).args([&dump, &library]));

    let (compatible, said) = is_compatible(&header());
    assert!(compatible, "{said}");
    for (change, from, to) in [
        ("a type", "uint32_t height;", "uint64_t height;"),
        ("a field that is gone", "    int32_t device_index;\n", ""),
        ("a smaller struct", "    double input_std;\n", ""),
        (
            "a new field before the last",
            "    double input_std;\n",
            "    double new;\n    double input_std;\n",
        ),
        (
            "a function that is gone",
            "lenet_status lenet_set_learning_rate(",
            "lenet_status lenet_other(",
        ),
        ("what a callback returns", "int32_t (*lenet_progress_fn)", "void (*lenet_progress_fn)"),
    ] {
        let changed = header().replace(from, to);
        assert_ne!(changed, header());
        let (compatible, said) = is_compatible(&changed);
        assert!(!compatible, "abidiff does not see {change}: {said}");
    }
}
