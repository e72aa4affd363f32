//! Rows of floats where the engine that computes with them keeps them.

use crate::error::{Code, Error, Result};
use candle_core::{Device, Tensor};
use std::any::Any;
use std::fmt::Debug;

/// Rows of one length.
#[derive(Debug)]
pub enum Values {
    /// (rows, length), contiguous.
    Tensor(Tensor),
    /// Where only their engine can reach them.
    Elsewhere(Box<dyn Elsewhere>),
}

/// Rows that only one engine knows how to read, which finds its own again as `Any`.
pub trait Elsewhere: Any + Debug + Send + Sync {
    fn count(&self) -> usize;

    fn row(&self, i: usize) -> Result<Vec<f32>>;
}

impl Values {
    /// A copy of rows that are all of one length.
    pub fn on(device: &Device, rows: &[&[f32]]) -> Result<Self> {
        let shape = (rows.len(), rows.first().map_or(0, |row| row.len()));
        Ok(Values::Tensor(Tensor::from_vec(rows.concat(), shape, device)?))
    }

    pub fn row(&self, i: usize) -> Result<Vec<f32>> {
        match self {
            Values::Tensor(tensor) => Ok(tensor.get(i)?.to_vec1()?),
            Values::Elsewhere(values) => values.row(i),
        }
    }

    pub fn rows(&self) -> Result<Vec<Vec<f32>>> {
        let count = match self {
            Values::Tensor(tensor) => tensor.dim(0)?,
            Values::Elsewhere(values) => values.count(),
        };
        (0..count).map(|i| self.row(i)).collect()
    }

    /// For engines that compute with tensors.
    pub fn tensor(&self) -> Result<&Tensor> {
        match self {
            Values::Tensor(tensor) => Ok(tensor),
            Values::Elsewhere(_) => Err(Error::new(Code::Internal, "these values are no tensor")),
        }
    }
}
