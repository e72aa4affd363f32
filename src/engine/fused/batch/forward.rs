//! A batch forward through the network, its chunks shared among the model's threads.

use super::workspace::{Failure, Workspace};
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
        workspace.grow_workers(threads, Chunk::<S, T>::floats(&geometry, false, &batch))?;
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
    batch.check_pixels(range.clone())?;
    let geometry = Geometry::new(batch.architecture);
    workspace.grow_workers(1, 0)?;
    let Workspace { workers, single_weights, single, .. } = workspace;
    let mut worker = lock(&workers[0]);
    let (weights, _) = worker.get::<S>(batch, false);
    single_weights.prepare::<S>(batch, &weights)?;
    single.grow(Single::<S>::floats(&geometry, batch))?;
    let mut single = Single::new(simd, geometry, single.get_mut());
    for (i, row) in range.zip(out.chunks_exact_mut(batch.architecture.classes())) {
        single.logits(batch, i, &weights, single_weights, row);
    }
    Ok(())
}
