//! Which room uses which. A folder's first file, lib.rs or mod.rs, says in the table of its comment in what
//! order its rooms stand; a room uses those below it, and in other folders what its own folder may use there.

use std::collections::HashMap;

/// A module, by its names from the crate on.
type Path = Vec<String>;

/// The paths of src that lead from a room to one above it, and the rooms that no table has.
pub fn upward(files: &[(String, String)]) -> Vec<String> {
    let modules: HashMap<Path, &String> = files.iter().map(|(f, _)| (module(f), f)).collect();
    let tables: HashMap<Path, Vec<String>> =
        files.iter().map(|(file, text)| (module(file), table(text))).collect();
    let mut faults = Vec::new();
    for (file, text) in files {
        let from = module(file);
        if let Some((name, folder)) = from.split_last() {
            let table = &tables[folder];
            if (folder.is_empty() || !table.is_empty()) && !table.contains(name) {
                faults.push(format!("src/{file} is not in the table of its folder"));
            }
        }
        for (line, path) in uses(&from, text) {
            let known = (0..=path.len()).rev().find(|n| modules.contains_key(&path[..*n]));
            let to = &path[..known.unwrap_or(0)];
            let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
            let up = match (from.get(shared), to.get(shared)) {
                (None, _) => false,      // itself, or a room that it holds
                (Some(_), None) => true, // the file that holds it
                (Some(from), Some(to)) => {
                    let table = &tables[&path[..shared]];
                    let place = |name| table.iter().position(|room| room == name);
                    !table.is_empty() && place(from) >= place(to)
                }
            };
            if up {
                faults.push(format!("src/{file}:{line}: {}", path.join("::")));
            }
        }
    }
    faults
}

fn module(file: &str) -> Path {
    let path = file.strip_suffix(".rs").unwrap();
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').filter(|name| *name != "lib").map(String::from).collect()
}

/// The rooms that the comment at the head of a file lists, the upper ones first.
fn table(text: &str) -> Vec<String> {
    let head = text.lines().take_while(|line| line.starts_with("//!"));
    let cells = head.filter_map(|line| line.strip_prefix("//! | `")?.split_once('`'));
    cells.map(|(name, _)| name.to_string()).collect()
}

/// The paths in a file that begin with `crate` or `super`, with their lines; not those of its tests, which may
/// look anywhere.
fn uses(from: &[String], text: &str) -> Vec<(usize, Path)> {
    let tokens = tokens(text);
    let word = |i: usize| tokens.get(i).map_or("", |(_, word)| word.as_str());
    let (mut found, mut open, mut inline) = (Vec::new(), Vec::new(), 0);
    let mut i = 0;
    while i < tokens.len() {
        match word(i) {
            "mod" if word(i + 2) == "{" && word(i + 1) == "tests" => i = closing(&tokens, i + 2),
            "mod" if word(i + 2) == "{" => {
                open.push(true);
                inline += 1;
                i += 2;
            }
            "{" => open.push(false),
            "}" => inline -= usize::from(open.pop() == Some(true)),
            "in" if i > 0 && word(i - 1) == "(" => i = skip_visibility(&tokens, i),
            "crate" | "super" if word(i + 1) == "::" => {
                let (line, mut path) = (tokens[i].0, from.to_vec());
                path.extend((0..inline).map(|_| "{inline}".to_string()));
                let before = found.len();
                i = read(&tokens, i, path, &mut found);
                found[before..].iter_mut().for_each(|(at, _)| *at = line);
                found[before..].iter_mut().for_each(|(_, path)| path.retain(|w| w != "{inline}"));
                continue;
            }
            _ => (),
        }
        i += 1;
    }
    found
}

/// Reads a path or a tree of them from token `i` on, within module `path`; gives the place after it.
fn read(
    tokens: &[(usize, String)],
    mut i: usize,
    mut path: Path,
    found: &mut Vec<(usize, Path)>,
) -> usize {
    loop {
        match tokens[i].1.as_str() {
            "crate" => path.clear(),
            "super" => _ = path.pop(),
            "self" => (),
            "{" => {
                let end = closing(tokens, i);
                i += 1;
                while i < end {
                    i = read(tokens, i, path.clone(), found);
                    i += usize::from(i < end && tokens[i].1 == ",");
                }
                return end + 1;
            }
            word => path.push(word.to_string()),
        }
        i += 1;
        if tokens.get(i).is_none_or(|(_, word)| word != "::") {
            found.push((0, path));
            if tokens.get(i).is_some_and(|(_, word)| word == "as") {
                i += 2;
            }
            return i;
        }
        i += 1;
    }
}

/// The place of the last word of `pub(in ...)`, which uses nothing.
fn skip_visibility(tokens: &[(usize, String)], i: usize) -> usize {
    tokens[i..].iter().position(|(_, word)| word == ")").map_or(tokens.len(), |n| i + n)
}

/// The place of the brace that closes the one at `open`.
fn closing(tokens: &[(usize, String)], open: usize) -> usize {
    let mut depth = 0;
    let end = tokens[open..].iter().position(|(_, word)| {
        depth += i32::from(word == "{") - i32::from(word == "}");
        depth == 0
    });
    end.map_or(tokens.len(), |n| open + n)
}

/// Words, `::` and other characters, with their lines; no comments, strings or characters.
fn tokens(text: &str) -> Vec<(usize, String)> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    let (mut line, mut string) = (1, false);
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match c {
            '\\' if string => line += usize::from(chars.next() == Some('\n')),
            '"' => string = !string,
            _ if string || c.is_whitespace() => (),
            '/' if chars.peek() == Some(&'/') => while chars.next_if(|c| *c != '\n').is_some() {},
            '\'' => {
                // A character, or the name of a lifetime.
                let mut ahead = chars.clone();
                let first = ahead.next();
                if first == Some('\\') || ahead.next() == Some('\'') {
                    let escaped = first == Some('\\');
                    chars.next();
                    (0..usize::from(escaped)).for_each(|_| _ = chars.next());
                    while chars.next().is_some_and(|c| c != '\'') {}
                }
            }
            ':' if chars.next_if_eq(&':').is_some() => tokens.push((line, "::".to_string())),
            _ if c.is_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    word.push(c);
                }
                tokens.push((line, word));
            }
            _ => tokens.push((line, c.to_string())),
        }
    }
    tokens
}

#[test]
fn a_planted_arrow_is_found() {
    let lib = "//! | `top` | a |\n//! | `folder` | b |\n//! | `low` | c |\nmod top;\n";
    let holder = "//! | `upper` | a |\n//! | `lower` | b |\nuse upper::X;\nuse crate::low::Y;\n";
    let planted = |file: &str, text: &str| {
        let mut files = vec![("lib.rs", lib), ("top.rs", ""), ("low.rs", "")];
        files.extend([("folder/mod.rs", holder), ("folder/upper.rs", ""), ("folder/lower.rs", "")]);
        files.retain(|(name, _)| *name != file);
        files.push((file, text));
        let owned = |(name, text): &(&str, &str)| (name.to_string(), text.to_string());
        upward(&files.iter().map(owned).collect::<Vec<_>>())
    };
    for (file, text) in [
        (
            "top.rs",
            "use crate::low::Y;\nuse crate::{folder::upper, low};\nfn f() { super::low::g() }",
        ),
        ("folder/upper.rs", "use super::lower::{self, Z};\nuse super::super::low;\n"),
        ("folder/upper.rs", "mod inner {\n use super::own;\n use super::super::lower;\n}\n"),
        ("folder/lower.rs", "pub(in crate::folder) fn f() {}\n"),
        ("folder/lower.rs", "// use crate::top;\nconst S: &str = \"crate::top::{\";\n"),
        ("low.rs", "#[cfg(test)]\nmod tests {\n use crate::top::T;\n}\n"),
    ] {
        assert_eq!(planted(file, text), [""; 0], "{text}");
    }
    for (file, text, line) in [
        ("low.rs", "use crate::top::T;", 1),
        ("low.rs", "use crate::{\n    low::own,\n    folder::{lower::{A as B, C}},\n};", 1),
        ("low.rs", "fn f() {}\nfn g() { if x == '{' { crate::folder::upper::h::<u8>() } }", 2),
        ("low.rs", "use super::folder;", 1),
        ("low.rs", "mod tests {}\nmod inner {\n use super::super::top;\n}", 3),
        ("low.rs", "fn f<'a>(x: &'a str) -> crate::top::T { \"\\\"{\" }", 1),
        ("low.rs", "use crate::Reexported;", 1),
        ("folder/lower.rs", "use super::upper;", 1),
        ("folder/lower.rs", "use crate::folder::upper;", 1),
        ("folder/lower.rs", "use super::X;", 1),
        ("folder/upper.rs", "use crate::top;", 1),
        ("folder/mod.rs", "//! | `upper` | a |\n//! | `lower` | b |\nuse super::top;", 3),
    ] {
        let faults = planted(file, text);
        assert!(!faults.is_empty(), "{text}");
        let at = format!("src/{file}:{line}: ");
        assert!(faults.iter().all(|fault| fault.starts_with(&at)), "{faults:?}");
    }
    let unknown = planted("folder/new.rs", "");
    assert_eq!(unknown, ["src/folder/new.rs is not in the table of its folder"]);
}
