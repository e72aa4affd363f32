//! Memory that may be refused.

use crate::error::{Code, Error, Result};

/// Room for `additional` elements, or OUT_OF_MEMORY where `Vec` would abort.
pub fn reserve<T>(vec: &mut Vec<T>, additional: usize) -> Result<()> {
    vec.try_reserve_exact(additional).map_err(|_| {
        let bytes = additional.saturating_mul(size_of::<T>());
        Error::new(Code::OutOfMemory, format!("cannot allocate {bytes} bytes"))
    })
}

/// As many floats as `length`; new ones are 0.
pub fn resize(values: &mut Vec<f32>, length: usize) -> Result<()> {
    let more = length.saturating_sub(values.len());
    reserve(values, more)?;
    values.resize(length, 0.0);
    Ok(())
}
