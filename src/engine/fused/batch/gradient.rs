//! The gradient of a batch's loss and, if asked for, the optimizer's step with it. The batch is cut into slabs: first
//! every chunk of a slab goes forward and back and leaves what the gradient is summed from, then the slab is summed,
//! piece by piece. All of it is one job, whose parts `threads::schedule` gives out; the result is the same whoever
//! does what, for slabs are added up in their order.

use super::panels::{self, PanelShape, Panels, Partial};
use super::pieces::{self, Piece, Span};
use super::slabs::Slabs;
use super::step::{rows, rows_mut};
use super::workspace::{Failure, Worker, Workspace};
use crate::architecture::Outputs;
use crate::batch::{Seen, Shares, Targets, argmax};
use crate::engine::fused::layers::chunk::{Chunk, NetworkWeights, images_per_chunk};
use crate::engine::fused::layers::geometry::Geometry;
use crate::engine::fused::layers::input::Batch;
use crate::engine::fused::threads::{MOST_PIECES, Part, Plan, Schedule, lock, run};
use crate::engine::fused::vectors::registers::avx512;
use crate::error::Result;
use crate::optimizer::Step;
use pulp::{Simd, WithSimd};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Images of a slab. What their chunks leave takes 0.6 MB for 28x28 images, less than a core's own cache.
const SLAB: usize = 128;

/// Gives the sum of the losses, and the hits, and whether all results of the step are finite.
pub struct LossAndGradient<'a> {
    pub batch: Batch<'a>,
    pub targets: &'a Targets<'a>,
    pub workspace: &'a mut Workspace,
    pub destination: Destination<'a>,
}

/// Where the gradient of the mean loss goes.
pub enum Destination<'a> {
    /// There, flat.
    Gradient(&'a mut [f32]),
    /// Into a step: parameters and averages, (1 + averages, n), before and after it.
    Step { step: Step, now: &'a [f32], next: &'a mut [f32] },
}

impl WithSimd for LossAndGradient<'_> {
    type Output = Result<(Seen, bool)>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        if avx512::<S>() { self.run::<S, 1>(simd) } else { self.run::<S, 2>(simd) }
    }
}

impl LossAndGradient<'_> {
    /// In chunks of `T` tiles.
    #[inline(always)]
    fn run<S: Simd, const T: usize>(self, simd: S) -> Result<(Seen, bool)> {
        let LossAndGradient { batch, targets, workspace, destination } = self;
        let (architecture, pool) = (batch.architecture, batch.pool);
        let (size, n) = (images_per_chunk::<S, T>(), targets.labels.len());
        let geometry = Geometry::new(architecture);
        let shape = PanelShape::new::<S, T>(architecture);
        let chunks = n.div_ceil(size);
        let threads = pool.threads_for(chunks);
        let pieces = pieces::count(architecture, threads);
        let plan = Plan { threads, chunks, chunks_per_slab: SLAB / size, pieces };
        workspace.grow_workers(threads, Chunk::<S, T>::floats(&geometry, true, &batch))?;
        workspace.slabs.grow(&plan, &shape)?;
        let parameters = architecture.parameter_count();
        if let Destination::Step { .. } = destination {
            workspace.gradient.grow(parameters)?;
        }
        let Workspace { workers, slabs, gradient, .. } = workspace;
        let (step, all) = match destination {
            Destination::Gradient(gradient) => (None, Span { gradient, ..Span::default() }),
            Destination::Step { step, now, next } => {
                let (now, next) = (rows(now, parameters), rows_mut(next, parameters));
                let gradient = &mut gradient.get_mut()[..parameters];
                (Some(step), Span { gradient, now, next })
            }
        };
        let pieces = pieces::cut(architecture, all, threads).map(Mutex::new);
        let schedule = Schedule::new(plan, &slabs.slots, pool.looking());
        let failure = Failure::default();
        let pass = Pass {
            batch,
            labels: targets.labels,
            shares: targets.shares(),
            geometry,
            shape,
            step,
            workers,
            slabs,
            pieces,
            schedule,
            failure,
            finite: AtomicBool::new(true),
        };
        run(
            simd,
            pool,
            threads,
            #[inline(always)]
            |thread| pass.work::<S, T>(simd, thread),
        );
        pass.failure.into_result()?;
        Ok((slabs.seen(chunks), pass.finite.into_inner()))
    }
}

/// What the threads share.
struct Pass<'a> {
    batch: Batch<'a>,
    labels: &'a [u8],
    shares: Option<Shares<'a>>,
    geometry: Geometry,
    shape: PanelShape,
    step: Option<Step>,
    workers: &'a [Mutex<Worker>],
    slabs: &'a Slabs,
    pieces: [Mutex<Option<Piece<'a>>>; MOST_PIECES],
    schedule: Schedule<'a>,
    failure: Failure,
    finite: AtomicBool,
}

impl Pass<'_> {
    /// What thread `thread` does, part by part.
    #[inline(always)]
    fn work<S: Simd, const T: usize>(&self, simd: S, thread: usize) {
        let schedule = &self.schedule;
        let _abandon = AbandonOnPanic(schedule);
        let (mut home, mut part) = (None, schedule.next(thread, None));
        if part.is_none() {
            return; // it came too late, so the weights need not be prepared
        }
        let mut worker = lock(&self.workers[thread]);
        let (weights, memory) = worker.get::<S>(&self.batch, true);
        let mut chunk = Chunk::<S, T>::new(simd, self.geometry, true, memory);
        while let Some(now) = part {
            match now {
                Part::Chunk { slab, chunk: number } => {
                    home = Some(slab);
                    let place = (thread, slab, number);
                    if let Err(error) = self.chunk(simd, place, &weights, &mut chunk) {
                        self.failure.note(0, error);
                        return schedule.abandon();
                    }
                    schedule.chunk_done(slab);
                }
                Part::Piece { slab, piece, first, last } => {
                    self.piece::<S, T>(simd, slab, piece, !first);
                    if last {
                        self.take_step(piece);
                    }
                    let slot = schedule.slot(slab);
                    schedule.piece_done(slab, piece, || self.slabs.release(slot));
                }
            }
            part = schedule.next(thread, home);
        }
    }

    /// Chunk `number` of a slab, forward and back. An error is one of ours: that its images are refused is noted.
    #[inline(always)]
    fn chunk<S: Simd, const T: usize>(
        &self,
        simd: S,
        (thread, slab, number): (usize, usize, usize),
        weights: &NetworkWeights,
        chunk: &mut Chunk<S, T>,
    ) -> Result<()> {
        let (size, n) = (images_per_chunk::<S, T>(), self.labels.len());
        let first = slab * SLAB + number * size;
        let range = first..n.min(first + size);
        let mut partial = Partial { owner: thread, ..self.slabs.take(thread)? };
        let mut seen = Seen::default();
        // Those before one that failed may fail too, and theirs is the error then.
        if !self.failure.before(first) {
            match chunk.forward(weights, &self.batch, range.clone()) {
                Ok(()) => {
                    seen = loss_gradients(chunk, self.labels, self.shares, range);
                    chunk.backward(weights, partial.sums.get_mut());
                    panels::fill(simd, &self.shape, chunk, partial.panel.get_mut());
                }
                Err(error) => self.failure.note(first, error),
            }
        }
        self.slabs.put(self.schedule.slot(slab), number, first / size, seen, partial);
        Ok(())
    }

    /// A slab's sum for a piece of the gradient.
    #[inline(always)]
    fn piece<S: Simd, const T: usize>(&self, simd: S, slab: usize, piece: usize, add: bool) {
        let mut piece = lock(&self.pieces[piece]);
        if let Some(piece) = piece.as_mut().filter(|_| !self.failure.any()) {
            let partials = &*self.slabs.partials(self.schedule.slot(slab));
            let images = SLAB.min(self.labels.len() - slab * SLAB);
            let panels = Panels { shape: self.shape, partials, images };
            piece.sum::<S, T>(simd, &panels, add);
        }
    }

    /// The optimizer's step, if there is one, for a piece whose gradient is whole.
    #[inline(always)]
    fn take_step(&self, piece: usize) {
        let mut piece = lock(&self.pieces[piece]);
        if let (Some(step), Some(piece)) = (self.step, piece.as_mut())
            && !piece.step(step)
        {
            self.finite.store(false, Ordering::Relaxed);
        }
    }
}

/// Lets the other threads go when this one panics, and so ends its part never.
struct AbandonOnPanic<'a>(&'a Schedule<'a>);

impl Drop for AbandonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abandon();
        }
    }
}

/// Sets the gradients of the chunk's logits, those of the images `range` of the batch; gives the sum of the losses,
/// each times its share.
#[inline(always)]
fn loss_gradients<S: Simd, const T: usize>(
    chunk: &mut Chunk<S, T>,
    labels: &[u8],
    shares: Option<Shares>,
    range: Range<usize>,
) -> Seen {
    let mut row = [0.0; 256];
    let row = &mut row[..chunk.classes()];
    let mut seen = Seen::default();
    for i in 0..images_per_chunk::<S, T>() {
        let image = range.start + i;
        if range.contains(&image) {
            let (label, share) =
                (usize::from(labels[image]), shares.map_or(1.0, |shares| shares.of(image)));
            chunk.outputs(i, Outputs::Logits, row);
            seen.correct += usize::from(argmax(row) == label);
            seen.loss += share * cross_entropy_gradient(row, label, share, labels.len());
        } else {
            row.fill(0.0); // a lane that is left over contributes nothing
        }
        chunk.set_logits_gradient(i, row);
    }
    seen
}

/// Replaces logits by the gradient of the batch's loss, (softmax - one-hot) * share / n, and returns this
/// image's own loss.
fn cross_entropy_gradient(logits: &mut [f32], label: usize, share: f64, n: usize) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let of_label = f64::from(logits[label]) - f64::from(largest);
    let mut sum = 0.0;
    for x in &mut *logits {
        *x = (*x - largest).exp();
        sum += *x;
    }
    let share = share as f32;
    let scale = share / (sum * n as f32);
    logits.iter_mut().for_each(|x| *x *= scale);
    logits[label] -= share / n as f32;
    f64::from(sum).ln() - of_label
}
