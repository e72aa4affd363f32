//! Memory that may be refused.

use crate::error::{Code, Error, Result};

/// Room for `additional` elements, or OUT_OF_MEMORY where `Vec` would abort.
pub fn reserve<T>(vec: &mut Vec<T>, additional: usize) -> Result<()> {
    vec.try_reserve_exact(additional).map_err(|_| {
        let bytes = additional.saturating_mul(size_of::<T>());
        Error::new(Code::OutOfMemory, format!("cannot allocate {bytes} bytes"))
    })
}
