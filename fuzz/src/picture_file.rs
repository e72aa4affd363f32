//! Picture files: any bytes, which begin as the kept inputs do, small files of every kind.
//!
//! What must hold: a documented status; what opens is one image of the size that was asked for, and the same when it is
//! opened again. That memory stays with what is there is for `-rss_limit_mb` and `-malloc_limit_mb` to see.

use crate::expect::Expect;
use crate::support::{self, Dataset};
use crate::unnamed::Unnamed;
use lenet::ffi::*;
use std::ffi::CString;
use std::os::unix::fs::symlink;
use std::ptr::null_mut;
use tempfile::TempDir;

/// A folder with a class whose only picture is a link to a file in memory.
struct Place {
    file: std::cell::RefCell<Unnamed>,
    path: CString,
    _folder: TempDir,
    options: lenet_options,
}

thread_local! {
    static PLACE: Place = {
        let folder = tempfile::tempdir().unwrap();
        let file = Unnamed::new();
        std::fs::create_dir(folder.path().join("class")).unwrap();
        symlink(file.path(), folder.path().join("class/picture")).unwrap();
        let path = support::c_path(folder.path());
        let options = lenet_options { num_threads: 1, ..support::small(LENET_PRESET_MODERN) };
        Place { file: file.into(), path, _folder: folder, options }
    };
}

/// Opens a folder with this picture and checks what comes of it.
pub fn run(bytes: &[u8]) {
    PLACE.with(|place| {
        place.file.borrow_mut().write(bytes);
        if let Some(dataset) = open(place) {
            assert_eq!((dataset.count(), dataset.size()), (1, (16, 16)));
            let again = open(place).expect("it opened before");
            assert!(again.read(0, 1) == dataset.read(0, 1));
        }
    });
}

fn open(place: &Place) -> Option<Dataset> {
    let mut dataset = null_mut();
    let (path, options) = (place.path.as_ptr(), &place.options);
    let status = unsafe { lenet_dataset_open_folder(path, options, &mut dataset) };
    let errors = [LENET_ERROR_FORMAT, LENET_ERROR_CORRUPT];
    let expect = errors.iter().fold(Expect::default(), |e, &status| e.possible(true, status));
    if expect.check("lenet_dataset_open_folder", status) {
        return Some(Dataset(dataset));
    }
    assert!(dataset.is_null(), "a refused open has written its output");
    None
}
