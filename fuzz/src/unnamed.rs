//! Files for a library that wants paths.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A file in memory that has a path while it is open, and that nobody has to remove.
pub struct Unnamed {
    file: File,
    path: PathBuf,
}

impl Unnamed {
    /// An empty one.
    pub fn new() -> Unnamed {
        let file = tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile()).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Unnamed { file, path }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces what is in it.
    pub fn write(&mut self, bytes: &[u8]) {
        self.file.set_len(0).unwrap();
        self.file.rewind().unwrap();
        self.file.write_all(bytes).unwrap();
    }
}
