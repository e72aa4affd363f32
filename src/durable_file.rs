//! Reading regular files, and writing one so that its path holds the whole old contents or the whole
//! new ones, whatever happens: another file in the same folder, written and synced, takes the path
//! over, and the folder is synced so that the new name survives a power cut as well.
//!
//! On Linux the other file has no name until it is whole (`O_TMPFILE`), so a process that is killed
//! leaves nothing behind; but a file that replaces one has a temporary name between two system calls
//! (`linkat`, `rename`). Where there is no `O_TMPFILE` (FAT, network file systems) or no /proc, the
//! other file has its temporary name all the time.

use crate::error::{Code, Error, Result};
use crate::failpoint;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::NamedTempFile;

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
        Ok(old) if old.is_file() => Some(old.permissions()),
        Ok(_) => {
            let message = format!("cannot replace {}: not a regular file", path.display());
            return Err(Error::new(Code::Io, message));
        }
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(Error::io("look at", path, &e)),
    };
    let folder = Folder::open_parent(path)?;
    let file = match write_unnamed(&folder, path, contents, old.as_ref())? {
        Some(file) => file,
        None => write_named(&folder, path, contents, old.as_ref())?,
    };
    failpoint::point();
    folder.sync(&file).map_err(|e| {
        let mut error = Error::io("sync", folder.path, &e);
        error.message =
            format!("the new {} is in place, but a power cut may undo it: {error}", path.display());
        error
    })
}

/// Writes a file that has no name before it is whole and synced, so that a process that is killed
/// leaves nothing; it gets the name `path` at once if that is free. If not, no system call gives a
/// file a name that another one has, and there is a second name between two system calls.
/// None where the system does not offer this.
fn write_unnamed(
    folder: &Folder,
    path: &Path,
    contents: &[u8],
    mode: Option<&Permissions>,
) -> Result<Option<File>> {
    // Whatever stands in the way here, the way with a name works or tells why it does not.
    let Ok(mut file) = unnamed::create(folder.path) else { return Ok(None) };
    fill(&mut file, contents, mode).map_err(|e| Error::io("write", path, &e))?;
    if mode.is_none() && unnamed::link(&file, path).is_ok() {
        return Ok(Some(file));
    }
    match temporary_name().make_in(folder.path, |name| unnamed::link(&file, name)) {
        Ok(named) => persist(named, path).map(|()| Some(file)),
        Err(_) => Ok(None),
    }
}

/// Writes a file that has a name of its own until it gets `path`.
fn write_named(
    folder: &Folder,
    path: &Path,
    contents: &[u8],
    mode: Option<&Permissions>,
) -> Result<File> {
    let mut temporary = temporary_name()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder.path)
        .map_err(|e| Error::io("make a temporary file in", folder.path, &e))?;
    fill(temporary.as_file_mut(), contents, mode).map_err(|e| Error::io("write", path, &e))?;
    persist(temporary, path)
}

fn temporary_name() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".lenet-");
    builder
}

fn persist<F>(temporary: NamedTempFile<F>, path: &Path) -> Result<F> {
    temporary.persist(path).map_err(|e| Error::io("replace", path, &e.error))
}

/// Contents and mode, on the disk.
fn fill(file: &mut File, contents: &[u8], mode: Option<&Permissions>) -> io::Result<()> {
    failpoint::point();
    file.write_all(contents)?;
    failpoint::point();
    let bits = |permissions: &Permissions| permissions.mode() & 0o7777;
    if let Some(mode) = mode
        && bits(mode) != bits(&file.metadata()?.permissions())
    {
        // FAT, CIFS and Android's shared storage give every file the mode of the mount.
        let refused = |e: &io::Error| e.kind() == ErrorKind::PermissionDenied || is_unsupported(e);
        file.set_permissions(mode.clone())
            .or_else(|e| if refused(&e) { Ok(()) } else { Err(e) })?;
    }
    sync(file)
}

/// Where the file system cannot sync, it is the best that can be had there.
fn sync(file: &File) -> io::Result<()> {
    file.sync_all().or_else(|e| if is_unsupported(&e) { Ok(()) } else { Err(e) })
}

/// EINVAL, EOPNOTSUPP, ENOTSUP or ENOSYS: not a failure, but something that there is not.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
        || error.raw_os_error() == Some(libc::ENOTSUP)
}

/// The folder of a file. It is opened before anything is written, so that one that cannot be opened
/// is no failure when the new file is already in place.
struct Folder<'a> {
    path: &'a Path,
    /// None if this process may write in the folder but not read it.
    handle: Option<File>,
}

impl Folder<'_> {
    fn open_parent(path: &Path) -> Result<Folder<'_>> {
        // A bare file name has the empty path for a parent.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let path = parent.unwrap_or(Path::new("."));
        let handle = match File::open(path) {
            Ok(handle) => Some(handle),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => None,
            Err(e) => return Err(Error::io("open", path, &e)),
        };
        Ok(Folder { path, handle })
    }

    /// Makes the name of `file`, which is in this folder, survive a power cut.
    fn sync(&self, file: &File) -> io::Result<()> {
        match &self.handle {
            Some(handle) => sync(handle),
            None => sync_file_system(file),
        }
    }
}

/// Syncs all of the file system that `file` is on.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn sync_file_system(file: &File) -> io::Result<()> {
    let result = rustix::fs::syncfs(file).map_err(io::Error::from);
    result.or_else(|e| if is_unsupported(&e) { Ok(()) } else { Err(e) })
}

/// Elsewhere no call does that and says when it is done.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn sync_file_system(_: &File) -> io::Result<()> {
    Ok(())
}

/// Files without a name, and how they get one.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod unnamed {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    pub fn create(folder: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(folder)
    }

    /// By way of /proc, because an empty path needs a capability (before Linux 6.10).
    pub fn link(file: &File, name: &Path) -> io::Result<()> {
        let own = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(linkat(CWD, own, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod unnamed {
    use std::fs::File;
    use std::io::{Error, ErrorKind, Result};
    use std::path::Path;

    pub fn create(_: &Path) -> Result<File> {
        Err(Error::from(ErrorKind::Unsupported))
    }

    pub fn link(_: &File, _: &Path) -> Result<()> {
        Err(Error::from(ErrorKind::Unsupported))
    }
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
