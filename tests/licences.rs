//! The library may be linked into any program: every crate that goes into it, or into building it,
//! has a licence that allows that.

#[path = "support/command.rs"]
mod command;

use command::{command, run};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const ALLOWED: [&str; 10] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Copyleft by file, which asks something only of those who change and pass on the crate itself;
/// so only for what does not end up in the library.
const ALLOWED_TO_BUILD_WITH: [(&str, &str); 1] = [("cbindgen", "MPL-2.0")];

/// Whether an SPDX expression grants a licence that `allowed` accepts. Old crates write `/` for `OR`.
fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let result = any_of(&words, &mut at, allowed);
    assert_eq!(at, words.len(), "{expression:?} is no SPDX expression");
    result
}

fn any_of(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut result = all_of(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        result |= all_of(words, at, allowed);
    }
    result
}

fn all_of(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut result = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        result &= one(words, at, allowed);
    }
    result
}

fn one(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let first = *words.get(*at).expect("a licence");
    *at += 1;
    if first == "(" {
        let result = any_of(words, at, allowed);
        assert_eq!(words.get(*at), Some(&")"), "a bracket is not closed");
        *at += 1;
        result
    } else if words.get(*at) == Some(&"WITH") {
        *at += 2;
        allowed(&format!("{first} WITH {}", words[*at - 1]))
    } else {
        allowed(first)
    }
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let mit = |licence: &str| licence == "MIT";
    for yes in ["MIT", "MIT/GPL-3.0", "GPL-3.0 OR MIT", "MIT AND (MIT OR X)", "X AND Y OR MIT"] {
        assert!(satisfied(yes, &mit), "{yes}");
    }
    for no in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR X) AND Y", "MIT WITH exception", "MIT-0"] {
        assert!(!satisfied(no, &mit), "{no}");
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

#[test]
fn every_dependency_may_be_passed_on() {
    let compiler = run(command("rustc").arg("-vV"));
    let host = compiler.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let metadata = run(command("cargo").args([
        "metadata",
        "--locked",
        "--features",
        "cuda",
        "--format-version",
        "1",
        "--filter-platform",
        host,
    ]));
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let packages: BTreeMap<&str, &Value> =
        list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), package)).collect();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), node)).collect();

    // From this crate along normal and build dependencies; those of tests only are not passed on.
    let mut reached = BTreeSet::new();
    let mut waiting = vec![text(&metadata["resolve"]["root"])];
    while let Some(id) = waiting.pop() {
        if reached.insert(id) {
            let is_test = |kind: &Value| kind["kind"] == "dev";
            let uses = list(&nodes[id]["deps"]).iter();
            let passed_on = uses.filter(|used| !list(&used["dep_kinds"]).iter().all(is_test));
            waiting.extend(passed_on.map(|used| text(&used["pkg"])));
        }
    }
    assert!(reached.len() > 50, "only {} crates: the walk is broken", reached.len());

    let refused: Vec<String> = reached
        .iter()
        .map(|id| packages[id])
        .filter(|package| {
            let name = text(&package["name"]);
            let allowed = |licence: &str| {
                ALLOWED.contains(&licence) || ALLOWED_TO_BUILD_WITH.contains(&(name, licence))
            };
            let licence = text(&package["license"]);
            licence.is_empty() || !satisfied(licence, &allowed)
        })
        .map(|package| format!("{}: {}", text(&package["name"]), package["license"]))
        .collect();
    assert_eq!(refused, [""; 0]);
}
