//! Rows of floats where the engine that computes with them keeps them.

use crate::error::Result;
use candle_core::{Device, Tensor};

/// (rows, length), contiguous.
#[derive(Debug)]
pub struct Values(Tensor);

impl Values {
    /// A copy of rows that are all of one length.
    pub fn on(device: &Device, rows: &[&[f32]]) -> Result<Self> {
        let shape = (rows.len(), rows.first().map_or(0, |row| row.len()));
        Ok(Values(Tensor::from_vec(rows.concat(), shape, device)?))
    }

    pub fn row(&self, i: usize) -> Result<Vec<f32>> {
        Ok(self.0.get(i)?.to_vec1()?)
    }

    pub fn rows(&self) -> Result<Vec<Vec<f32>>> {
        Ok(self.0.to_vec2()?)
    }

    pub fn tensor(&self) -> &Tensor {
        &self.0
    }
}
