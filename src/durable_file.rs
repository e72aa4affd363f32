//! Reading regular files, and writing one so that its path holds the whole old contents or the whole
//! new ones, whatever happens: a temporary file in the same folder, written and synced, then renamed
//! over the path, and the folder synced so that the new name survives a power cut as well.

use crate::error::{Code, Error, Result};
use crate::failpoint;
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Opens the regular file at `path`; a FIFO or a device, which might never end, is refused.
pub fn open(path: &Path) -> Result<File> {
    let failed = |e: std::io::Error| Error::io("read", path, &e);
    // Looked at before it is opened, because opening a FIFO waits for a writer.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        let message = format!("cannot read {}: not a regular file", path.display());
        return Err(Error::new(Code::Io, message));
    }
    File::open(path).map_err(failed)
}

/// The contents of the regular file at `path`.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let mut contents = Vec::new();
    open(path)?.read_to_end(&mut contents).map_err(|e| Error::io("read", path, &e))?;
    Ok(contents)
}

/// Replaces the regular file at `path`, keeping its mode, or makes one with the mode that the
/// umask leaves. Anything else at `path`, a symbolic link included, is refused.
pub fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    let old = match fs::symlink_metadata(path) {
        Ok(old) if old.is_file() => Some(old),
        Ok(_) => {
            let message = format!("cannot replace {}: not a regular file", path.display());
            return Err(Error::new(Code::Io, message));
        }
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(Error::io("look at", path, &e)),
    };
    // A bare file name has the empty path for a parent.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new()
        .prefix(".lenet-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(|e| Error::io("make a temporary file in", folder, &e))?;
    let failed = |e: std::io::Error| Error::io("write", path, &e);
    failpoint::point();
    temporary.write_all(contents).map_err(failed)?;
    failpoint::point();
    if let Some(old) = old {
        temporary.as_file().set_permissions(old.permissions()).map_err(failed)?;
    }
    temporary.as_file().sync_all().map_err(failed)?;
    temporary.persist(path).map_err(|e| Error::io("replace", path, &e.error))?;
    failpoint::point();
    let folder_handle = File::open(folder).map_err(|e| Error::io("open", folder, &e))?;
    folder_handle.sync_all().map_err(|e| Error::io("sync", folder, &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_new_file_gets_the_umasks_mode_and_an_old_one_keeps_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (path, plain) = (folder.path().join("model"), folder.path().join("plain"));
        fs::write(&plain, b"").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        replace(&path, b"old").unwrap();
        assert_eq!(mode(&path), mode(&plain));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(mode(&path) & 0o777, 0o640);
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()).len(), 2, "a temporary file was left");
    }

    #[test]
    fn only_regular_files_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, b"kept").unwrap();
        symlink(&target, &link).unwrap();
        for path in [link.as_path(), folder.path(), Path::new("/dev/null")] {
            assert_eq!(replace(path, b"x").unwrap_err().code, Code::Io);
        }
        assert_eq!(fs::read(&target).unwrap(), b"kept");
        let missing = folder.path().join("missing/model");
        assert_eq!(replace(&missing, b"x").unwrap_err().code, Code::NotFound);
        assert_eq!(names(folder.path()).len(), 2, "a temporary file was left");
    }
}
