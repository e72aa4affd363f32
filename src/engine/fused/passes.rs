//! A batch through the network: its chunks, and then its linear layers' weight gradients, shared
//! among the model's threads.

use super::chunk::{Chunk, NetworkWeights, images_per_chunk, linear_sizes};
use super::convolution::{ConvolutionWeights, PARAMETERS, SUMS, gradient_of_sums};
use super::geometry::Geometry;
use super::input::Loader;
use super::kernels::avx512;
use super::memory::{Memory, take};
use super::panels::{self, MOST_OUTPUTS, PanelShape, Panels};
use super::single::{self, Single, SingleWeights};
use super::threads::{Pool, next, run};
use crate::architecture::Architecture;
use crate::engine::{Images, Seen, argmax, chunks};
use crate::error::{Error, Result};
use crate::unique::Unique;
use pulp::{Simd, WithSimd};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Images whose panels are kept until the linear layers' weight gradients are summed over them:
/// 1 MB for 28x28 images.
const SLAB: usize = 256;

/// What one call computes in; grows to what is asked of it and is used again.
pub struct Workspace {
    weights: ConvolutionWeights,
    /// What they are of, and whether for training.
    prepared: Option<(Unique, bool)>,
    single_weights: SingleWeights,
    single: Memory,
    /// One for each thread.
    chunks: Vec<Memory>,
    /// For training: of each chunk of a slab its panel, its sums, and what it saw.
    panels: Memory,
    sums: Memory,
    seen: Vec<Seen>,
}

impl Default for Workspace {
    fn default() -> Self {
        Workspace {
            weights: ConvolutionWeights::new(),
            prepared: None,
            single_weights: SingleWeights::default(),
            single: Memory::default(),
            chunks: Vec::new(),
            panels: Memory::default(),
            sums: Memory::default(),
            seen: Vec::new(),
        }
    }
}

impl Workspace {
    /// Brings the weights into the order of the kernels.
    fn prepare<S: Simd>(&mut self, batch: &Batch, training: bool) {
        let wanted = Some((batch.version, training));
        if self.prepared != wanted {
            self.weights.fill::<S>(batch.flat, training);
            self.prepared = wanted;
        }
    }

    /// Memory for the chunks of so many threads.
    fn grow_chunks<S: Simd, const T: usize>(
        &mut self,
        g: &Geometry,
        training: bool,
        threads: usize,
    ) -> Result<()> {
        while self.chunks.len() < threads {
            self.chunks.push(Memory::zeros(Chunk::<S, T>::floats(g, training))?);
        }
        Ok(())
    }

    /// And what the chunks of a slab leave.
    fn grow_slab(&mut self, shape: &PanelShape, chunks: usize) -> Result<()> {
        self.panels.grow(chunks * shape.floats())?;
        self.sums.grow(chunks * SUMS)?;
        self.seen.resize(self.seen.len().max(chunks), Seen::default());
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
        workspace.prepare::<S>(&batch, false);
        if single::pays::<S>(range.len()) {
            return logits_one_by_one(simd, &batch, range, workspace, out);
        }
        let (size, classes) = (images_per_chunk::<S, T>(), batch.architecture.classes());
        let geometry = Geometry::new(batch.architecture);
        let threads = batch.pool.threads_for(range.len().div_ceil(size));
        workspace.grow_chunks::<S, T>(&geometry, false, threads)?;
        let weights = NetworkWeights::new(batch.architecture, &workspace.weights, batch.flat);
        let memories = Mutex::new(workspace.chunks.iter_mut());
        let queue = Mutex::new(chunks(range, size).zip(out.chunks_mut(size * classes)));
        let failure = Failure::default();
        run(
            simd,
            batch.pool,
            threads,
            #[inline(always)]
            || {
                let Some(memory) = next(&memories) else { return };
                let mut chunk = Chunk::<S, T>::new(simd, geometry, false, memory.get_mut());
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
    let Workspace { weights, single_weights, single, .. } = workspace;
    let weights = NetworkWeights::new(batch.architecture, weights, batch.flat);
    single_weights.prepare::<S>(batch, &weights)?;
    single.grow(Single::<S>::floats(&geometry))?;
    let mut single = Single::new(simd, geometry, single.get_mut());
    for (i, row) in range.zip(out.chunks_exact_mut(batch.architecture.classes())) {
        single.logits(batch, i, &weights, single_weights, row);
    }
    Ok(())
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
        let (size, architecture) = (images_per_chunk::<S, T>(), batch.architecture);
        let geometry = Geometry::new(architecture);
        let shape = PanelShape::new::<S, T>(architecture);
        let most = labels.len().min(SLAB).div_ceil(size);
        workspace.grow_chunks::<S, T>(&geometry, true, batch.pool.threads_for(most))?;
        workspace.grow_slab(&shape, most)?;
        workspace.prepare::<S>(&batch, true);
        let Workspace { weights, chunks: memories, panels, sums, seen, .. } = workspace;
        let weights = NetworkWeights::new(architecture, weights, batch.flat);
        let (convolutions, linear) = gradient.split_at_mut(PARAMETERS);
        let mut total = Seen::default();
        let mut total_sums = [0.0; SUMS];
        for range in chunks(0..labels.len(), SLAB) {
            let count = range.len().div_ceil(size);
            let threads = batch.pool.threads_for(count);
            let seen = &mut seen[..count];
            let sums = &mut sums.get_mut()[..count * SUMS];
            let panels = &mut panels.get_mut()[..count * shape.floats()];

            let memories = Mutex::new(memories.iter_mut());
            let notes = seen.iter_mut().zip(sums.chunks_exact_mut(SUMS));
            let notes = notes.zip(panels.chunks_exact_mut(shape.floats()));
            let queue = Mutex::new(chunks(range.clone(), size).zip(notes));
            let failure = Failure::default();
            run(
                simd,
                batch.pool,
                threads,
                #[inline(always)]
                || {
                    let Some(memory) = next(&memories) else { return };
                    let mut chunk = Chunk::<S, T>::new(simd, geometry, true, memory.get_mut());
                    while let Some((range, ((seen, sums), panel))) = next(&queue) {
                        if let Err(error) = chunk.forward(&weights, &batch, range.clone()) {
                            return failure.note(range.start, error);
                        }
                        *seen = loss_gradients(&mut chunk, &labels[range], labels.len());
                        chunk.backward(&weights, sums);
                        panels::fill(simd, &shape, &chunk, panel);
                    }
                },
            );
            failure.into_result()?;

            for (seen, sums) in seen.iter().zip(sums.chunks_exact(SUMS)) {
                total.loss += seen.loss;
                total.correct += seen.correct;
                total_sums.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
            }
            let add = range.start > 0;
            let panels = Panels { shape, panels, images: range.len() };
            let queue = Mutex::new(pieces(architecture, linear, threads));
            run(
                simd,
                batch.pool,
                threads,
                #[inline(always)]
                || {
                    while let Some(piece) = next(&queue) {
                        let outputs = piece.first..piece.first + piece.bias.len();
                        panels.gradient::<S, T>(
                            simd,
                            piece.layer,
                            outputs,
                            add,
                            piece.weights,
                            piece.bias,
                        );
                    }
                },
            );
        }
        gradient_of_sums(&mut total_sums, convolutions);
        Ok(total)
    }
}

/// Why the earliest of the chunks that failed did. Those before it have been begun, so the number of
/// threads makes no difference.
#[derive(Default)]
struct Failure(Mutex<Option<(usize, Error)>>);

impl Failure {
    fn note(&self, start: usize, error: Error) {
        let mut earliest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if earliest.as_ref().is_none_or(|(other, _)| start < *other) {
            *earliest = Some((start, error));
        }
    }

    fn into_result(self) -> Result<()> {
        let earliest = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        earliest.map_or(Ok(()), |(_, error)| Err(error))
    }
}

/// Some neighbouring outputs of a linear layer: their places in the gradient.
struct Piece<'a> {
    layer: usize,
    first: usize,
    weights: &'a mut [f32],
    bias: &'a mut [f32],
}

/// The linear layers' part of the gradient, each cut into a piece for each thread: the larger the
/// pieces, the less often the panels have to be read.
fn pieces(
    architecture: Architecture,
    mut rest: &mut [f32],
    threads: usize,
) -> impl Iterator<Item = Piece<'_>> {
    let layers = linear_sizes(architecture).map(|(inputs, outputs)| {
        (inputs, take(&mut rest, inputs * outputs), take(&mut rest, outputs))
    });
    layers.into_iter().enumerate().flat_map(move |(layer, (inputs, weights, bias))| {
        let size = bias.len().div_ceil(threads).next_multiple_of(MOST_OUTPUTS);
        let parts = weights.chunks_mut(size * inputs).zip(bias.chunks_mut(size));
        let piece = move |(i, (weights, bias))| Piece { layer, first: i * size, weights, bias };
        parts.enumerate().map(piece)
    })
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
