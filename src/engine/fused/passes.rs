//! A batch forward through the network, its chunks shared among the model's threads, and what passes compute
//! in; `gradient` goes back.

use super::chunk::{Chunk, NetworkWeights, images_per_chunk};
use super::convolution::ConvolutionWeights;
use super::geometry::Geometry;
use super::input::Loader;
use super::kernels::avx512;
use super::memory::Memory;
use super::panels::Summand;
use super::single::{self, Single, SingleWeights};
use super::threads::{Pool, lock, next, run};
use crate::allocation::reserve;
use crate::architecture::Architecture;
use crate::batch::{Images, chunks};
use crate::error::{Error, Result};
use crate::unique::Unique;
use pulp::{Simd, WithSimd};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// What one call computes in; grows to what is asked of it and is used again.
#[derive(Default)]
pub struct Workspace {
    /// Of each thread, by its number.
    pub workers: Vec<Mutex<Worker>>,
    /// For training: of each chunk of two slabs what the gradient is summed from, and the second slab's gradient.
    pub slabs: [Vec<Summand>; 2],
    pub second: Memory,
    single_weights: SingleWeights,
    single: Memory,
}

/// What one thread computes with. The weights are its own because to bring them into the order of the kernels
/// takes less time than to fetch them from another core.
#[derive(Default)]
pub struct Worker {
    weights: ConvolutionWeights,
    /// What they are of, and whether for training.
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

/// What all passes need to know.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    pub architecture: Architecture,
    /// All parameters, flat.
    pub flat: &'a [f32],
    pub version: Unique,
    pub images: &'a Images<'a>,
    pub loader: &'a Loader,
    pub pool: &'a Pool,
}

/// The logits of `range`, (range, classes), into `out`.
pub struct Logits<'a> {
    pub batch: Batch<'a>,
    pub range: Range<usize>,
    pub workspace: &'a mut Workspace,
    pub out: &'a mut [f32],
}

impl WithSimd for Logits<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Result<()> {
        if avx512::<S>() { self.run::<S, 1>(simd) } else { self.run::<S, 2>(simd) }
    }
}

impl Logits<'_> {
    /// In chunks of `T` tiles.
    #[inline(always)]
    fn run<S: Simd, const T: usize>(self, simd: S) -> Result<()> {
        let Logits { batch, range, workspace, out } = self;
        if single::pays::<S>(range.len()) {
            return logits_one_by_one(simd, &batch, range, workspace, out);
        }
        let (size, classes) = (images_per_chunk::<S, T>(), batch.architecture.classes());
        let geometry = Geometry::new(batch.architecture);
        let threads = batch.pool.threads_for(range.len().div_ceil(size));
        workspace.grow_workers(threads, Chunk::<S, T>::floats(&geometry, false))?;
        let workers = &workspace.workers;
        let queue = Mutex::new(chunks(range, size).zip(out.chunks_mut(size * classes)));
        let failure = Failure::default();
        run(
            simd,
            batch.pool,
            threads,
            #[inline(always)]
            |thread| {
                let mut worker = lock(&workers[thread]);
                let (weights, memory) = worker.get::<S>(&batch, false);
                let mut chunk = Chunk::<S, T>::new(simd, geometry, false, memory);
                while let Some((range, rows)) = next(&queue) {
                    let start = range.start;
                    if let Err(error) = chunk.forward(&weights, &batch, range) {
                        return failure.note(start, error);
                    }
                    for (i, row) in rows.chunks_exact_mut(classes).enumerate() {
                        chunk.logits(i, row);
                    }
                }
            },
        );
        failure.into_result()
    }
}

#[inline(always)]
fn logits_one_by_one<S: Simd>(
    simd: S,
    batch: &Batch,
    range: Range<usize>,
    workspace: &mut Workspace,
    out: &mut [f32],
) -> Result<()> {
    batch.images.check_finite(range.clone(), batch.architecture.width())?;
    let geometry = Geometry::new(batch.architecture);
    workspace.grow_workers(1, 0)?;
    let Workspace { workers, single_weights, single, .. } = workspace;
    let mut worker = lock(&workers[0]);
    let (weights, _) = worker.get::<S>(batch, false);
    single_weights.prepare::<S>(batch, &weights)?;
    single.grow(Single::<S>::floats(&geometry))?;
    let mut single = Single::new(simd, geometry, single.get_mut());
    for (i, row) in range.zip(out.chunks_exact_mut(batch.architecture.classes())) {
        single.logits(batch, i, &weights, single_weights, row);
    }
    Ok(())
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
