//! Which files there are in a folder of pictures, and of which class.

use crate::class_names::{self, ClassNames};
use crate::error::{Code, Error, Result};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// As many as a label can tell apart.
const MAX_CLASSES: usize = 256;

pub struct Listing {
    pub paths: Vec<PathBuf>,
    pub labels: Vec<u8>,
    pub class_names: ClassNames,
}

/// The classes are the folders in `folder`, their pictures the files in those, both in the order of their names' bytes.
/// A symbolic link is what it leads to.
pub fn list(folder: &Path) -> Result<Listing> {
    let (mut paths, mut labels, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for name in visible(folder)? {
        let path = folder.join(&name);
        if !is_folder(&path)? {
            let hint = if names.is_empty() { ": each class needs a folder of its own" } else { "" };
            return Err(refused(
                &path,
                &format!("is no folder, and beside folders of classes{hint}"),
            ));
        }
        if names.len() == MAX_CLASSES {
            return Err(refused(
                folder,
                &format!("has more than {MAX_CLASSES} folders, one a class"),
            ));
        }
        let label = names.len() as u8;
        names.push(class_name(&path, name)?);
        let before = paths.len();
        for name in visible(&path)? {
            let picture = path.join(name);
            if is_folder(&picture)? {
                return Err(refused(
                    &picture,
                    "is a folder in that of a class, which has pictures only",
                ));
            }
            paths.push(picture);
            labels.push(label);
        }
        if paths.len() == before {
            return Err(refused(&path, "is the folder of a class and has no picture"));
        }
    }
    if names.is_empty() {
        return Err(refused(
            folder,
            "has no folder in it; each class needs one, with its pictures",
        ));
    }
    Ok(Listing { paths, labels, class_names: ClassNames::new(names)? })
}

/// The names in a folder that are not hidden, in the order of their bytes.
fn visible(folder: &Path) -> Result<Vec<OsString>> {
    let failed = |e: std::io::Error| Error::io("read the folder", folder, &e);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        // The two are hidden where Windows made them.
        let hidden =
            name.as_bytes().starts_with(b".") || name == "Thumbs.db" || name == "desktop.ini";
        if !hidden {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn is_folder(path: &Path) -> Result<bool> {
    Ok(fs::metadata(path).map_err(|e| Error::io("read", path, &e))?.is_dir())
}

fn class_name(path: &Path, name: OsString) -> Result<String> {
    let refuse = |why: &str| refused(path, &format!("is the folder of a class, whose name {why}"));
    let name = name.into_string().map_err(|_| refuse("is not UTF-8"))?;
    class_names::check(&name).map_err(|why| refuse(&why))?;
    Ok(name)
}

fn refused(path: &Path, why: &str) -> Error {
    Error::new(Code::Format, format!("{} {why}", path.display()))
}
