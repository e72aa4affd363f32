//! The gradient in pieces that threads share, each with the same piece of the weights, so that who has summed the
//! last of a piece takes its step at once.

use super::panels::{MOST_OUTPUTS, Panels};
use super::step::{Rows, apply};
use crate::architecture::Architecture;
use crate::engine::fused::layers::chunk::linear_sizes;
use crate::engine::fused::layers::convolution::{PARAMETERS, SUMS, add_all, add_gradient_of_sums};
use crate::engine::fused::threads::MOST_PIECES;
use crate::engine::fused::vectors::memory::take;
use crate::optimizer::Step;
use pulp::Simd;
use std::ops::Range;

/// Neighbouring parameters: their gradient and, for a step, their values before and after it.
#[derive(Default)]
pub struct Span<'a> {
    pub gradient: &'a mut [f32],
    /// Empty, if there is no step.
    pub now: Rows<&'a [f32]>,
    pub next: Rows<&'a mut [f32]>,
}

impl<'a> Span<'a> {
    /// Cuts the first `n` parameters off.
    fn take(&mut self, n: usize) -> Span<'a> {
        let now = self.now.each_mut().map(|row| {
            let (first, rest) = row.split_at(n.min(row.len()));
            *row = rest;
            first
        });
        let next = self.next.each_mut().map(|row| take(row, n.min(row.len())));
        Span { gradient: take(&mut self.gradient, n), now, next }
    }

    #[inline(always)]
    fn step(&mut self, step: Step) -> bool {
        let Span { gradient, now, next } = self;
        apply(step, *now, gradient, next.each_mut().map(|row| &mut **row))
    }
}

pub struct Piece<'a> {
    what: What,
    /// Of a linear layer these are weights and bias.
    spans: [Span<'a>; 2],
}

enum What {
    /// Both convolutions.
    Convolutions,
    /// Some neighbouring outputs of a linear layer.
    Linear { layer: usize, outputs: Range<usize> },
}

/// Outputs of a linear layer that a thread takes at once: the more they are, the less often the panels have to be
/// read. Where there are several threads, half of one's share, so that the last to end is not far behind.
fn outputs_per_piece(outputs: usize, threads: usize) -> usize {
    let parts = if threads == 1 { 1 } else { 2 * threads };
    outputs.div_ceil(parts).next_multiple_of(MOST_OUTPUTS)
}

/// How many pieces there are.
pub fn count(architecture: Architecture, threads: usize) -> usize {
    let layers = linear_sizes(architecture);
    let of_layer =
        |(_, outputs): (usize, usize)| outputs.div_ceil(outputs_per_piece(outputs, threads));
    1 + layers.into_iter().map(of_layer).sum::<usize>()
}

/// All parameters in pieces: those of the linear layers, the largest first, then the convolutions'.
pub fn cut(
    architecture: Architecture,
    mut all: Span<'_>,
    threads: usize,
) -> [Option<Piece<'_>>; MOST_PIECES] {
    let convolutions = [all.take(PARAMETERS), Span::default()];
    let layers = linear_sizes(architecture)
        .map(|(inputs, n)| (inputs, n, all.take(inputs * n), all.take(n)));
    let layers = layers.into_iter().enumerate();
    let linear = layers.flat_map(|(layer, (inputs, n, mut weights, mut bias))| {
        let size = outputs_per_piece(n, threads);
        (0..n).step_by(size).map(move |first| {
            let outputs = first..n.min(first + size);
            let spans = [weights.take(outputs.len() * inputs), bias.take(outputs.len())];
            Piece { what: What::Linear { layer, outputs }, spans }
        })
    });
    let last = Piece { what: What::Convolutions, spans: convolutions };
    let mut pieces = linear.chain([last]).fuse();
    let array = std::array::from_fn(|_| pieces.next());
    debug_assert!(pieces.next().is_none());
    array
}

impl Piece<'_> {
    /// Sets, or if `add` adds to, the gradient.
    #[inline(always)]
    pub fn sum<S: Simd, const T: usize>(&mut self, simd: S, panels: &Panels, add: bool) {
        let [Span { gradient, .. }, Span { gradient: bias, .. }] = &mut self.spans;
        match &self.what {
            What::Convolutions => {
                let mut total = [0.0; SUMS];
                for partial in panels.partials {
                    add_all(&mut total, partial.sums.get());
                }
                if !add {
                    gradient.fill(0.0);
                }
                add_gradient_of_sums(&mut total, gradient);
            }
            What::Linear { layer, outputs } => {
                panels.gradient::<S, T>(simd, *layer, outputs.clone(), add, gradient, bias);
            }
        }
    }

    /// The optimizer's step; says whether all results are finite.
    #[inline(always)]
    pub fn step(&mut self, step: Step) -> bool {
        let [first, second] = &mut self.spans;
        first.step(step) & second.step(step)
    }
}
