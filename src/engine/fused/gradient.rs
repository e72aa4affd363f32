//! The gradient of a batch's loss. The batch is cut into slabs: first every chunk goes forward and back and
//! leaves what the gradient is summed from, then every slab sums its own. Two slabs are computed at a time
//! where there are threads for both, so that each thread sums what it has in its own cache; the result is the
//! same, for slabs are added up in their order.

use super::chunk::{Chunk, images_per_chunk, linear_sizes};
use super::convolution::{PARAMETERS, SUMS, add_gradient_of_sums};
use super::geometry::Geometry;
use super::kernels::avx512;
use super::memory::{Memory, take};
use super::panels::{self, MOST_OUTPUTS, PanelShape, Panels};
use super::passes::{Batch, Failure, Workspace};
use super::step;
use super::threads::{Halves, Pool, lock, run};
use crate::architecture::Architecture;
use crate::engine::{Seen, argmax, chunks};
use crate::error::Result;
use pulp::{Simd, WithSimd};
use std::iter::once;
use std::ops::Range;

/// Images of a slab. What their chunks leave takes 0.6 MB for 28x28 images, less than a core's own cache.
const SLAB: usize = 128;

/// What the chunks of two slabs leave: panels, sums, and what they saw; and the gradient over the second.
#[derive(Default)]
pub struct SlabMemory {
    panels: Memory,
    sums: Memory,
    seen: Vec<Seen>,
    second: Memory,
}

impl SlabMemory {
    fn grow(&mut self, shape: &PanelShape, chunks: usize, second: usize) -> Result<()> {
        self.panels.grow(chunks * shape.floats())?;
        self.sums.grow(chunks * SUMS)?;
        self.seen.resize(self.seen.len().max(chunks), Seen::default());
        self.second.grow(second)
    }

    /// The slabs of these images, in chunks of `size`. The first one's gradient goes to `gradient`, or
    /// if `add` is added to it.
    fn slabs<'a>(
        &'a mut self,
        images: [Range<usize>; 2],
        size: usize,
        shape: PanelShape,
        gradient: &'a mut [f32],
        add: bool,
    ) -> [Slab<'a>; 2] {
        let counts = images.each_ref().map(|images| images.len().div_ceil(size));
        let (seen, seen1) = self.seen.split_at_mut(counts[0]);
        let (sums, sums1) = self.sums.get_mut().split_at_mut(counts[0] * SUMS);
        let (panels, panels1) = self.panels.get_mut().split_at_mut(counts[0] * shape.floats());
        let [images, images1] = images;
        let second = self.second.get_mut();
        [
            Slab { images, seen, sums, panels, shape, gradient, add },
            Slab {
                images: images1,
                seen: &mut seen1[..counts[1]],
                sums: &mut sums1[..counts[1] * SUMS],
                panels: &mut panels1[..counts[1] * shape.floats()],
                shape,
                gradient: second,
                add: false,
            },
        ]
    }
}

/// The flat gradient of the mean loss into `gradient`; gives the sum of the losses, and the hits.
pub struct LossAndGradient<'a> {
    pub batch: Batch<'a>,
    pub labels: &'a [u8],
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
        let LossAndGradient { batch, labels, workspace, gradient } = self;
        let Batch { architecture, pool, .. } = batch;
        let (size, n) = (images_per_chunk::<S, T>(), labels.len());
        let geometry = Geometry::new(architecture);
        let shape = PanelShape::new::<S, T>(architecture);
        let threads = pool.threads_for(n.min(2 * SLAB).div_ceil(size));
        let most = n.min(if threads > 1 { 2 * SLAB } else { SLAB });
        workspace.grow_workers(threads, Chunk::<S, T>::floats(&geometry, true))?;
        let second = if most > SLAB { gradient.len() } else { 0 };
        workspace.slabs.grow(&shape, most.div_ceil(size), second)?;
        let Workspace { workers, slabs: memory, .. } = workspace;
        let mut total = Seen::default();
        for range in chunks(0..n, most) {
            let middle = range.end.min(range.start + SLAB);
            let images = [range.start..middle, middle..range.end];
            let add = range.start > 0;
            let mut slabs = memory.slabs(images, size, shape, gradient, add);
            let queue = Halves::new(slabs.each_mut().map(|slab| slab.chunks(size)));
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
                    while let Some((range, places)) = queue.next(thread) {
                        if let Err(error) = chunk.forward(&weights, &batch, range.clone()) {
                            return failure.note(range.start, error);
                        }
                        *places.seen = loss_gradients(&mut chunk, &labels[range], n);
                        chunk.backward(&weights, places.sums);
                        panels::fill(simd, &shape, &chunk, places.panel);
                    }
                },
            );
            drop(queue);
            failure.into_result()?;

            let queue =
                Halves::new(slabs.each_mut().map(|slab| slab.pieces(architecture, threads)));
            run(
                simd,
                pool,
                threads,
                #[inline(always)]
                |thread| {
                    while let Some(piece) = queue.next(thread) {
                        piece.sum::<S, T>(simd);
                    }
                },
            );
            drop(queue);

            for seen in slabs.iter().flat_map(|slab| &*slab.seen) {
                total.loss += seen.loss;
                total.correct += seen.correct;
            }
            let [slab0, slab1] = slabs;
            if !slab1.images.is_empty() {
                add_up(simd, pool, threads, slab0.gradient, slab1.gradient);
            }
        }
        Ok(total)
    }
}

/// Some neighbouring images of a batch, what each of their chunks leaves, and where their gradient goes.
struct Slab<'a> {
    images: Range<usize>,
    seen: &'a mut [Seen],
    sums: &'a mut [f32],
    panels: &'a mut [f32],
    shape: PanelShape,
    gradient: &'a mut [f32],
    /// Whether it is added to what is there.
    add: bool,
}

/// Places for what a chunk leaves.
struct Places<'a> {
    seen: &'a mut Seen,
    sums: &'a mut [f32],
    panel: &'a mut [f32],
}

impl Slab<'_> {
    /// Its chunks of `size` images.
    fn chunks(&mut self, size: usize) -> impl Iterator<Item = (Range<usize>, Places<'_>)> {
        let panels = self.panels.chunks_exact_mut(self.shape.floats());
        let places = self.seen.iter_mut().zip(self.sums.chunks_exact_mut(SUMS)).zip(panels);
        let places = places.map(|((seen, sums), panel)| Places { seen, sums, panel });
        chunks(self.images.clone(), size).zip(places)
    }

    /// Its gradient in pieces, each linear layer in one for each thread: the larger they are, the less often
    /// the panels have to be read.
    fn pieces(
        &mut self,
        architecture: Architecture,
        threads: usize,
    ) -> impl Iterator<Item = Piece<'_>> {
        let Slab { ref images, ref sums, ref panels, shape, ref mut gradient, add, .. } = *self;
        let panels = Panels { shape, panels, images: images.len() };
        let slabs = (!images.is_empty()).then_some(&mut **gradient);
        slabs.into_iter().flat_map(move |mut rest| {
            let gradient = take(&mut rest, PARAMETERS);
            let convolutions = Part::Convolutions { sums, gradient };
            let layers = linear_sizes(architecture).map(|(inputs, outputs)| {
                (inputs, take(&mut rest, inputs * outputs), take(&mut rest, outputs))
            });
            let layers = layers.into_iter().enumerate();
            let linear = layers.flat_map(move |(layer, (inputs, weights, bias))| {
                let size = bias.len().div_ceil(threads).next_multiple_of(MOST_OUTPUTS);
                let parts = weights.chunks_mut(size * inputs).zip(bias.chunks_mut(size));
                parts.enumerate().map(move |(i, (weights, bias))| {
                    let outputs = i * size..i * size + bias.len();
                    Part::Linear { panels, layer, outputs, weights, bias }
                })
            });
            linear.chain(once(convolutions)).map(move |part| Piece { part, add })
        })
    }
}

/// A piece of a slab's gradient.
struct Piece<'a> {
    part: Part<'a>,
    add: bool,
}

enum Part<'a> {
    /// Both convolutions, from the sums of every chunk.
    Convolutions { sums: &'a [f32], gradient: &'a mut [f32] },
    /// Some neighbouring outputs of a linear layer.
    Linear {
        panels: Panels<'a>,
        layer: usize,
        outputs: Range<usize>,
        weights: &'a mut [f32],
        bias: &'a mut [f32],
    },
}

impl Piece<'_> {
    /// Sums it over the slab's images.
    #[inline(always)]
    fn sum<S: Simd, const T: usize>(self, simd: S) {
        let add = self.add;
        match self.part {
            Part::Convolutions { sums, gradient } => {
                let mut total = [0.0; SUMS];
                for sums in sums.chunks_exact(SUMS) {
                    total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
                }
                if !add {
                    gradient.fill(0.0);
                }
                add_gradient_of_sums(&mut total, gradient);
            }
            Part::Linear { panels, layer, outputs, weights, bias } => {
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
    let halves = [(first, &second[..middle]), (later, &second[middle..])];
    let queue = Halves::new(
        halves.map(|(first, second)| first.chunks_mut(step::PIECE).zip(second.chunks(step::PIECE))),
    );
    run(
        simd,
        pool,
        threads,
        #[inline(always)]
        |thread| {
            while let Some((first, second)) = queue.next(thread) {
                first.iter_mut().zip(second).for_each(|(first, second)| *first += second);
            }
        },
    );
}

/// Sets the gradients of the chunk's logits, of a batch of `n` images; gives the sum of the losses.
#[inline(always)]
fn loss_gradients<S: Simd, const T: usize>(
    chunk: &mut Chunk<S, T>,
    labels: &[u8],
    n: usize,
) -> Seen {
    let mut row = [0.0; 256];
    let row = &mut row[..chunk.classes()];
    let mut seen = Seen::default();
    for i in 0..images_per_chunk::<S, T>() {
        match labels.get(i) {
            Some(&label) => {
                let label = usize::from(label);
                chunk.logits(i, row);
                seen.correct += usize::from(argmax(row) == label);
                seen.loss += cross_entropy_gradient(row, label, n);
            }
            None => row.fill(0.0), // a lane that is left over contributes nothing
        }
        chunk.set_logits_gradient(i, row);
    }
    seen
}

/// Replaces logits by the gradient of the loss, (softmax - one-hot) / n, and returns this image's
/// loss.
fn cross_entropy_gradient(logits: &mut [f32], label: usize, n: usize) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let of_label = f64::from(logits[label]) - f64::from(largest);
    let mut sum = 0.0;
    for x in &mut *logits {
        *x = (*x - largest).exp();
        sum += *x;
    }
    let scale = 1.0 / (sum * n as f32);
    logits.iter_mut().for_each(|x| *x *= scale);
    logits[label] -= 1.0 / n as f32;
    f64::from(sum).ln() - of_label
}
