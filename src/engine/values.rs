//! Rows of floats where the engine that computes with them keeps them.

use crate::error::{Code, Error, Result};
use crate::plugin::PluginValues;
use candle_core::{Device, Tensor};

/// Rows of one length.
#[derive(Debug)]
pub enum Values {
    /// (rows, length), contiguous.
    Tensor(Tensor),
    Plugin(PluginValues),
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
            Values::Plugin(values) => values.row(i),
        }
    }

    pub fn rows(&self) -> Result<Vec<Vec<f32>>> {
        let count = match self {
            Values::Tensor(tensor) => tensor.dim(0)?,
            Values::Plugin(values) => values.count(),
        };
        (0..count).map(|i| self.row(i)).collect()
    }

    /// For engines that compute with tensors.
    pub fn tensor(&self) -> Result<&Tensor> {
        match self {
            Values::Tensor(tensor) => Ok(tensor),
            Values::Plugin(_) => {
                Err(Error::new(Code::Internal, "values of a plugin are no tensor"))
            }
        }
    }
}
