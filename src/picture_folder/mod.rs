//! A folder of pictures, a folder a class, as the input of a network.
//!
//! Nothing in it is passed over in silence but hidden files: what is no picture, lies where none belongs or cannot be read
//! is an error with its path, for a dataset that lacks some of its images trains too. The images have the order of the
//! names, and so are the same for any number of threads and on every file system.
//!
//! | room | concern |
//! | --- | --- |
//! | `reading` | the pictures, read and prepared by several threads |
//! | `listing` | which files there are, and of which class |

mod listing;
mod reading;

use crate::class_names::ClassNames;
use crate::error::Result;
use crate::prepare::Preparer;
use listing::Listing;
pub use reading::Progress;
use std::path::Path;

/// Images of the preparer's size, and of each its class, by the index of its name.
pub struct Images {
    pub pixels: Vec<u8>,
    pub labels: Vec<u8>,
    pub class_names: ClassNames,
}

/// Reads and prepares all pictures, on `num_threads` threads, this one included; 0: as many as this process may use.
pub fn read(
    folder: &Path,
    preparer: Preparer,
    num_threads: u32,
    progress: Option<Progress>,
) -> Result<Images> {
    let Listing { paths, labels, class_names } = listing::list(folder)?;
    let pixels = reading::read(paths, preparer, num_threads, progress)?;
    Ok(Images { pixels, labels, class_names })
}
