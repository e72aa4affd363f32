//! The gradient of a batch's loss. The batch is cut into slabs: first every chunk goes forward and back and
//! leaves what the gradient is summed from, then every slab sums its own. Two slabs are computed at a time
//! where there are threads for both, so that each thread sums what it has in its own cache; the result is the
//! same, for slabs are added up in their order.

use super::panels::{self, MOST_OUTPUTS, PanelShape, Panels, Partial};
use super::step;
use super::workspace::{Failure, Workspace};
use crate::allocation::reserve;
use crate::architecture::{Architecture, Outputs};
use crate::batch::{Seen, Shares, Targets, argmax, chunks};
use crate::engine::fused::layers::chunk::{Chunk, images_per_chunk, linear_sizes};
use crate::engine::fused::layers::convolution::{PARAMETERS, SUMS, add_all, add_gradient_of_sums};
use crate::engine::fused::layers::geometry::Geometry;
use crate::engine::fused::layers::input::Batch;
use crate::engine::fused::threads::{Pool, WorkQueues, lock, run};
use crate::engine::fused::vectors::memory::take;
use crate::engine::fused::vectors::registers::avx512;
use crate::error::Result;
use pulp::{Simd, WithSimd};
use std::iter::once;
use std::ops::Range;

/// Images of a slab. What their chunks leave takes 0.6 MB for 28x28 images, less than a core's own cache.
const SLAB: usize = 128;

/// The flat gradient of the mean loss into `gradient`; gives the sum of the losses, and the hits.
pub struct LossAndGradient<'a> {
    pub batch: Batch<'a>,
    pub targets: &'a Targets<'a>,
    pub workspace: &'a mut Workspace,
    pub gradient: &'a mut [f32],
}

impl WithSimd for LossAndGradient<'_> {
    type Output = Result<Seen>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Result<Seen> {
        if avx512::<S>() { self.run::<S, 1>(simd) } else { self.run::<S, 2>(simd) }
    }
}

impl LossAndGradient<'_> {
    /// In chunks of `T` tiles.
    #[inline(always)]
    fn run<S: Simd, const T: usize>(self, simd: S) -> Result<Seen> {
        let LossAndGradient { batch, targets, workspace, gradient } = self;
        let Batch { architecture, pool, .. } = batch;
        let (size, n) = (images_per_chunk::<S, T>(), targets.labels.len());
        let shares = targets.shares();
        let geometry = Geometry::new(architecture);
        let shape = PanelShape::new::<S, T>(architecture);
        let threads = pool.threads_for(n.min(2 * SLAB).div_ceil(size));
        let most = n.min(if threads > 1 { 2 * SLAB } else { SLAB });
        workspace.grow_workers(threads, Chunk::<S, T>::floats(&geometry, true, &batch))?;
        let Workspace { workers, slabs, second, .. } = workspace;
        for (slab, images) in slabs.iter_mut().zip(slabs_of(0..most)) {
            while slab.len() < images.len().div_ceil(size) {
                reserve(slab, 1)?;
                slab.push(Partial::zeros(&shape)?);
            }
        }
        second.grow(if most > SLAB { gradient.len() } else { 0 })?;
        let mut total = Seen::default();
        for range in chunks(0..n, most) {
            let [images0, images1] = slabs_of(range.clone());
            let [slab0, slab1] = &mut *slabs;
            let slab0 = &mut slab0[..images0.len().div_ceil(size)];
            let slab1 = &mut slab1[..images1.len().div_ceil(size)];
            let work = |images: &Range<usize>| chunks(images.clone(), size);
            let queue = WorkQueues::new([
                work(&images0).zip(slab0.iter_mut()),
                work(&images1).zip(slab1.iter_mut()),
            ]);
            let failure = Failure::default();
            run(
                simd,
                pool,
                threads,
                #[inline(always)]
                |thread| {
                    let mut worker = lock(&workers[thread]);
                    let (weights, memory) = worker.get::<S>(&batch, true);
                    let mut chunk = Chunk::<S, T>::new(simd, geometry, true, memory);
                    while let Some((range, partial)) = queue.next(thread) {
                        if let Err(error) = chunk.forward(&weights, &batch, range.clone()) {
                            return failure.note(range.start, error);
                        }
                        partial.seen = loss_gradients(&mut chunk, targets.labels, shares, range);
                        chunk.backward(&weights, partial.sums.get_mut());
                        panels::fill(simd, &shape, &chunk, partial.panel.get_mut());
                    }
                },
            );
            drop(queue);
            failure.into_result()?;
            for Partial { seen, .. } in slab0.iter().chain(&*slab1) {
                total.loss += seen.loss;
                total.correct += seen.correct;
            }

            let panels0 = Panels { shape, partials: slab0, images: images0.len() };
            let panels1 = Panels { shape, partials: slab1, images: images1.len() };
            let second = if images1.is_empty() { &mut [] } else { second.get_mut() };
            let work = |panels, gradient, add| {
                pieces(architecture, gradient, threads).map(move |piece| (piece, panels, add))
            };
            let queues = [
                work(&panels0, &mut *gradient, range.start > 0),
                work(&panels1, &mut *second, false),
            ];
            WorkQueues::new(queues).share(
                simd,
                pool,
                threads,
                #[inline(always)]
                |(piece, panels, add)| piece.sum::<S, T>(simd, panels, add),
            );
            if !second.is_empty() {
                add_up(simd, pool, threads, gradient, second);
            }
        }
        Ok(total)
    }
}

/// Images of one slab, or of two.
fn slabs_of(images: Range<usize>) -> [Range<usize>; 2] {
    let middle = images.end.min(images.start + SLAB);
    [images.start..middle, middle..images.end]
}

/// A piece of the gradient.
enum Piece<'a> {
    /// Of both convolutions.
    Convolutions(&'a mut [f32]),
    /// Of some neighbouring outputs of a linear layer.
    Linear { layer: usize, outputs: Range<usize>, weights: &'a mut [f32], bias: &'a mut [f32] },
}

/// The gradient, if there is any, in pieces, each linear layer in one for each thread: the larger they are,
/// the less often the panels have to be read.
fn pieces(
    architecture: Architecture,
    gradient: &mut [f32],
    threads: usize,
) -> impl Iterator<Item = Piece<'_>> {
    let gradient = (!gradient.is_empty()).then_some(gradient);
    gradient.into_iter().flat_map(move |mut rest| {
        let convolutions = Piece::Convolutions(take(&mut rest, PARAMETERS));
        let layers = linear_sizes(architecture).map(|(inputs, outputs)| {
            (inputs, take(&mut rest, inputs * outputs), take(&mut rest, outputs))
        });
        let layers = layers.into_iter().enumerate();
        let linear = layers.flat_map(move |(layer, (inputs, weights, bias))| {
            let size = bias.len().div_ceil(threads).next_multiple_of(MOST_OUTPUTS);
            let parts = weights.chunks_mut(size * inputs).zip(bias.chunks_mut(size));
            parts.enumerate().map(move |(i, (weights, bias))| {
                let outputs = i * size..i * size + bias.len();
                Piece::Linear { layer, outputs, weights, bias }
            })
        });
        linear.chain(once(convolutions))
    })
}

impl Piece<'_> {
    /// Sets, or if `add` adds to, this piece.
    #[inline(always)]
    fn sum<S: Simd, const T: usize>(self, simd: S, panels: &Panels, add: bool) {
        match self {
            Piece::Convolutions(gradient) => {
                let mut total = [0.0; SUMS];
                for partial in panels.partials {
                    add_all(&mut total, partial.sums.get());
                }
                if !add {
                    gradient.fill(0.0);
                }
                add_gradient_of_sums(&mut total, gradient);
            }
            Piece::Linear { layer, outputs, weights, bias } => {
                panels.gradient::<S, T>(simd, layer, outputs, add, weights, bias);
            }
        }
    }
}

/// Adds a second slab's gradient to the first one's, each thread the part that it updates.
#[inline(always)]
fn add_up<S: Simd>(simd: S, pool: &Pool, threads: usize, first: &mut [f32], second: &[f32]) {
    let middle = first.len() / 2;
    let (first, later) = first.split_at_mut(middle);
    let queues = [(first, &second[..middle]), (later, &second[middle..])];
    let pieces =
        queues.map(|(first, second)| first.chunks_mut(step::PIECE).zip(second.chunks(step::PIECE)));
    WorkQueues::new(pieces).share(
        simd,
        pool,
        threads,
        #[inline(always)]
        |(first, second)| add_all(first, second),
    );
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
