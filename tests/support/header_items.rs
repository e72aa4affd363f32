//! include/lenet.h, as far as the tests read C.

// Each test crate uses a part of it.
#![allow(dead_code)]

use crate::command::root;
use std::fs;

pub fn header() -> String {
    fs::read_to_string(root().join("include/lenet.h")).unwrap()
}

/// A #define, type, field or function of the header.
pub struct Item {
    /// The comment above it, without stars.
    pub doc: String,
    /// On one line, up to its `;` or `{`, without `struct` before a type's name.
    pub declaration: String,
    /// The struct that a field belongs to.
    pub within: Option<String>,
}

impl Item {
    /// The last word; of functions and macros the one before the parameters or the value.
    pub fn name(&self) -> &str {
        let head = match self.declaration.strip_prefix("#define ") {
            Some(macro_) => macro_.split(' ').next().unwrap(),
            None if self.is_function() => self.declaration.split('(').next().unwrap(),
            // A pointer to a function: `typedef int32_t (*name)(...)`
            None => self.declaration.split(")(").next().unwrap(),
        };
        last_word(head)
    }

    pub fn is_function(&self) -> bool {
        let a_type_or_macro = self.declaration.starts_with(['#', 't']);
        self.within.is_none() && !a_type_or_macro && self.declaration.contains('(')
    }

    /// Of a #define with a number.
    pub fn value(&self) -> Option<i32> {
        self.declaration.strip_prefix("#define ")?.split_once(' ')?.1.parse().ok()
    }

    /// With their types.
    pub fn parameters(&self) -> Vec<&str> {
        let list = self.declaration.split_once('(').unwrap().1.trim_end_matches(')');
        list.split(", ").filter(|parameter| *parameter != "void").collect()
    }
}

/// What a declaration declares.
pub fn last_word(text: &str) -> &str {
    text.rsplit([' ', '*']).next().unwrap()
}

pub fn items() -> Vec<Item> {
    items_of(&header())
}

pub fn items_of(header: &str) -> Vec<Item> {
    let header = header.replace("\\\n", " "); // a #define on two lines
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
