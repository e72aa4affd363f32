//! Fashion-MNIST, which `make -C examples data` fetches where it is not installed.

use crate::command;
use crate::support::{Dataset, name};

/// Images (n, 28, 28) and labels of "train", 60,000, or "t10k", 10,000.
pub fn fashion_mnist(part: &str) -> (Vec<u8>, Vec<u8>) {
    let folder = command::fashion_mnist();
    let [images, labels] =
        ["images-idx3", "labels-idx1"].map(|kind| folder.join(format!("{part}-{kind}-ubyte.gz")));
    let dataset =
        Dataset::open(&images, &labels).unwrap_or_else(|status| panic!("{}", name(status)));
    dataset.read(0, dataset.count())
}
