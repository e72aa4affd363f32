//! Fashion-MNIST, which `make -C examples data` fetches where it is not installed.

use crate::support::{Dataset, name};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Images (n, 28, 28) and labels of "train", 60,000, or "t10k", 10,000.
pub fn fashion_mnist(part: &str) -> (Vec<u8>, Vec<u8>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = Command::new("make").args(["-C", "examples", "data"]).current_dir(root).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let places = [
        PathBuf::from("/usr/share/datasets/fashion-mnist"),
        root.join("target/data/fashion-mnist"),
    ];
    let folder = places.iter().find(|place| place.is_dir()).expect("`make data` brings it");
    let [images, labels] =
        ["images-idx3", "labels-idx1"].map(|kind| folder.join(format!("{part}-{kind}-ubyte.gz")));
    let dataset =
        Dataset::open(&images, &labels).unwrap_or_else(|status| panic!("{}", name(status)));
    dataset.read(0, dataset.count())
}
