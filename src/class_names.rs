//! What classes are called: one name for each, by which a person knows it.

use crate::error::{Error, Result};
use std::sync::Arc;

/// Bytes that a name may have, as many as a folder's.
const MAX_LENGTH: usize = 255;

/// A name for each class, "" for one that has none; never changed and so shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassNames(Arc<[String]>);

impl ClassNames {
    /// Refuses, by index, a name that could not be shown or kept.
    pub fn new(names: Vec<String>) -> Result<Self> {
        for (i, name) in names.iter().enumerate() {
            check(name).map_err(|why| Error::invalid(format!("names[{i}] {why}")))?;
        }
        Ok(ClassNames(names.into()))
    }

    /// The names of the classes that both have; "" for others.
    pub fn resized(&self, classes: usize) -> Self {
        let mut names = self.0.to_vec();
        names.resize(classes, String::new());
        ClassNames(names.into())
    }

    pub fn all(&self) -> &[String] {
        &self.0
    }
}

/// Why this can be no class's name.
pub fn check(name: &str) -> Result<(), String> {
    if name.len() > MAX_LENGTH {
        return Err(format!("has {} bytes; a name has at most {MAX_LENGTH}", name.len()));
    }
    match name.chars().find(|c| c.is_control()) {
        None => Ok(()),
        Some(c) => Err(format!("has the control character U+{:04X}", u32::from(c))),
    }
}
