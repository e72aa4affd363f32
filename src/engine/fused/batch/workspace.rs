//! What passes over a batch compute in, kept from call to call.

use super::panels::Partial;
use crate::allocation::reserve;
use crate::engine::fused::layers::chunk::NetworkWeights;
use crate::engine::fused::layers::convolution::ConvolutionWeights;
use crate::engine::fused::layers::input::Batch;
use crate::engine::fused::layers::single::SingleWeights;
use crate::engine::fused::threads::lock;
use crate::engine::fused::vectors::memory::Memory;
use crate::error::{Error, Result};
use crate::unique::Unique;
use pulp::Simd;
use std::sync::{Mutex, PoisonError};

/// What one call computes in; grows to what is asked of it and is used again.
#[derive(Default)]
pub struct Workspace {
    /// Of each thread, by its number.
    pub workers: Vec<Mutex<Worker>>,
    /// For training: of each chunk of two slabs what the gradient is summed from, and the second slab's gradient.
    pub slabs: [Vec<Partial>; 2],
    pub second: Memory,
    pub single_weights: SingleWeights,
    pub single: Memory,
}

/// What one thread computes with. The weights are its own because to bring them into the order of the kernels
/// takes less time than to fetch them from another core.
#[derive(Default)]
pub struct Worker {
    weights: ConvolutionWeights,
    /// The version of the parameters that `weights` was filled from, and whether for training.
    prepared: Option<(Unique, bool)>,
    chunk: Memory,
}

impl Worker {
    /// The network's weights, in order, and memory for a chunk.
    pub fn get<'a, S: Simd>(
        &'a mut self,
        batch: &Batch<'a>,
        training: bool,
    ) -> (NetworkWeights<'a>, &'a mut [S::f32s]) {
        let wanted = Some((batch.version, training));
        if self.prepared != wanted {
            self.weights.fill::<S>(batch.flat, training);
            self.prepared = wanted;
        }
        let weights = NetworkWeights::new(batch.architecture, &self.weights, batch.flat);
        (weights, self.chunk.get_mut())
    }
}

impl Workspace {
    /// So many workers, each with memory for a chunk of so many floats.
    pub fn grow_workers(&mut self, count: usize, floats: usize) -> Result<()> {
        let more = count.saturating_sub(self.workers.len());
        reserve(&mut self.workers, more)?;
        self.workers.extend((0..more).map(|_| Mutex::default()));
        for worker in &self.workers[..count] {
            lock(worker).chunk.grow(floats)?;
        }
        Ok(())
    }
}

/// Why the earliest of the chunks that failed did. Those before it have been begun, so the number of
/// threads makes no difference.
#[derive(Default)]
pub struct Failure(Mutex<Option<(usize, Error)>>);

impl Failure {
    pub fn note(&self, start: usize, error: Error) {
        let mut earliest = lock(&self.0);
        if earliest.as_ref().is_none_or(|(other, _)| start < *other) {
            *earliest = Some((start, error));
        }
    }

    pub fn into_result(self) -> Result<()> {
        let earliest = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        earliest.map_or(Ok(()), |(_, error)| Err(error))
    }
}
