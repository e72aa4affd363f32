//! A batch forward through the network, its chunks shared among the model's threads.

use super::workspace::{Failure, Workspace};
use crate::architecture::Outputs;
use crate::batch::chunks;
use crate::engine::fused::layers::chunk::{Chunk, images_per_chunk};
use crate::engine::fused::layers::geometry::Geometry;
use crate::engine::fused::layers::input::Batch;
use crate::engine::fused::layers::single::{self, Single};
use crate::engine::fused::threads::{lock, next, run};
use crate::engine::fused::vectors::registers::avx512;
use crate::error::Result;
use pulp::{Simd, WithSimd};
use std::ops::Range;
use std::sync::Mutex;

/// These outputs of `range` into `out`, row by row.
pub struct Forward<'a> {
    pub batch: Batch<'a>,
    pub range: Range<usize>,
    pub workspace: &'a mut Workspace,
    pub outputs: Outputs,
    pub out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Result<()> {
        if avx512::<S>() { self.run::<S, 1>(simd) } else { self.run::<S, 2>(simd) }
    }
}

impl Forward<'_> {
    /// In chunks of `T` tiles.
    #[inline(always)]
    fn run<S: Simd, const T: usize>(self, simd: S) -> Result<()> {
        let Forward { batch, range, workspace, outputs, out } = self;
        if single::pays::<S>(range.len()) {
            return one_by_one(simd, &batch, range, workspace, outputs, out);
        }
        let (size, length) = (images_per_chunk::<S, T>(), batch.architecture.outputs(outputs));
        let geometry = Geometry::new(batch.architecture);
        let threads = batch.pool.threads_for(range.len().div_ceil(size));
        workspace.grow_workers(threads, Chunk::<S, T>::floats(&geometry, false, &batch))?;
        let workers = &workspace.workers;
        let queue = Mutex::new(chunks(range, size).zip(out.chunks_mut(size * length)));
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
                    for (i, row) in rows.chunks_exact_mut(length).enumerate() {
                        chunk.outputs(i, outputs, row);
                    }
                }
            },
        );
        failure.into_result()
    }
}

#[inline(always)]
fn one_by_one<S: Simd>(
    simd: S,
    batch: &Batch,
    range: Range<usize>,
    workspace: &mut Workspace,
    outputs: Outputs,
    out: &mut [f32],
) -> Result<()> {
    batch.check_pixels(range.clone())?;
    let geometry = Geometry::new(batch.architecture);
    workspace.grow_workers(1, 0)?;
    let Workspace { workers, single_weights, single, .. } = workspace;
    let mut worker = lock(&workers[0]);
    let (weights, _) = worker.get::<S>(batch, false);
    single_weights.prepare::<S>(batch, &weights)?;
    single.grow(Single::<S>::floats(&geometry, batch))?;
    let mut single = Single::new(simd, geometry, single.get_mut());
    for (i, row) in range.zip(out.chunks_exact_mut(batch.architecture.outputs(outputs))) {
        single.outputs(batch, i, &weights, single_weights, outputs, row);
    }
    Ok(())
}
