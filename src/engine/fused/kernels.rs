//! The inner loops. Images lie in the lanes of a vector, so each loop is the scalar algorithm on
//! vectors and has no remainders; what looks like one multiplication is one for every lane.
//!
//! `correlate` serves convolutions, their input gradients, and linear layers both ways; the other
//! two are the weight gradients. The block sizes keep at most 15 vectors alive, so that nothing is
//! spilled from 16 registers.

use pulp::{Simd, bytemuck};
use std::ops::Range;

/// Outputs that one pass of `correlate` accumulates, and neighbouring positions of each.
pub const OUTPUTS: usize = 6;
pub const POSITIONS: usize = 2;

/// The inputs that one output is made of: `channels` planes, `rows` rows of each, `columns`
/// neighbours in a row, at these distances.
#[derive(Clone, Copy)]
pub struct Taps {
    pub channels: usize,
    pub channel_stride: usize,
    pub rows: usize,
    pub row_stride: usize,
    pub columns: usize,
}

/// Weights in the order in which `correlate` reads them: outputs in groups of up to `OUTPUTS`, of a
/// group [tap][output].
pub struct Packed {
    groups: Vec<Group>,
}

struct Group {
    first: usize,
    size: usize,
    bias: Vec<f32>,
    weights: Vec<f32>,
}

impl Packed {
    /// `weight(output, tap)`; `bias` is empty for none.
    pub fn new(
        outputs: usize,
        taps: usize,
        bias: &[f32],
        weight: impl Fn(usize, usize) -> f32,
    ) -> Self {
        let count = outputs.div_ceil(OUTPUTS);
        let groups = (0..count).map(|g| {
            // As even as they get: 16 outputs are 5 + 5 + 6, not 6 + 6 + 4.
            let (first, end) = (g * outputs / count, (g + 1) * outputs / count);
            let group = first..end;
            let taps = (0..taps).flat_map(|tap| group.clone().map(move |o| (o, tap)));
            Group {
                first,
                size: group.len(),
                bias: group.clone().map(|o| bias.get(o).copied().unwrap_or(0.0)).collect(),
                weights: taps.map(|(o, tap)| weight(o, tap)).collect(),
            }
        });
        Packed { groups: groups.collect() }
    }

    /// For every output o and position i: out[o * stride + i] = bias[o] + the sum over the taps of
    /// weight(o, tap) * x[place of the tap + i]. `width` is a multiple of `POSITIONS`.
    #[inline(always)]
    pub fn correlate<S: Simd>(
        &self,
        simd: S,
        taps: Taps,
        x: &[S::f32s],
        width: usize,
        out: &mut [S::f32s],
        stride: usize,
    ) {
        for group in &self.groups {
            let out = &mut out[group.first * stride..];
            match group.size {
                6 => group.correlate::<S, 6>(simd, taps, x, width, out, stride),
                5 => group.correlate::<S, 5>(simd, taps, x, width, out, stride),
                4 => group.correlate::<S, 4>(simd, taps, x, width, out, stride),
                3 => group.correlate::<S, 3>(simd, taps, x, width, out, stride),
                2 => group.correlate::<S, 2>(simd, taps, x, width, out, stride),
                _ => group.correlate::<S, 1>(simd, taps, x, width, out, stride),
            }
        }
    }
}

impl Group {
    #[inline(always)]
    fn correlate<S: Simd, const A: usize>(
        &self,
        simd: S,
        taps: Taps,
        x: &[S::f32s],
        width: usize,
        out: &mut [S::f32s],
        stride: usize,
    ) {
        for i in (0..width).step_by(POSITIONS) {
            let mut sums = [[simd.splat_f32s(0.0); POSITIONS]; A];
            for (sum, &bias) in sums.iter_mut().zip(&self.bias) {
                *sum = [simd.splat_f32s(bias); POSITIONS];
            }
            let (weights, _) = self.weights.as_chunks::<A>();
            let mut weights = weights.chunks_exact(taps.columns);
            for channel in 0..taps.channels {
                for row in 0..taps.rows {
                    let start = channel * taps.channel_stride + row * taps.row_stride + i;
                    let x = &x[start..start + taps.columns + POSITIONS - 1];
                    let Some(weights) = weights.next() else { return };
                    for (x, weights) in x.windows(POSITIONS).zip(weights) {
                        for (sum, &weight) in sums.iter_mut().zip(weights) {
                            let weight = simd.splat_f32s(weight);
                            for b in 0..POSITIONS {
                                sum[b] = simd.mul_add_e_f32s(weight, x[b], sum[b]);
                            }
                        }
                    }
                }
            }
            for (a, sum) in sums.iter().enumerate() {
                out[a * stride + i..a * stride + i + POSITIONS].copy_from_slice(sum);
            }
        }
    }
}

/// The gradient of a row of K kernel weights for each of two output channels: for c = 0, 1
/// sums[rows[c] + k] += the sum over a map of height x width of delta_c[y][x] * input[y][x + k].
#[inline(always)]
pub fn convolution_weights<S: Simd, const K: usize>(
    simd: S,
    (deltas, delta_stride): ([&[S::f32s]; 2], usize),
    (input, input_stride): (&[S::f32s], usize),
    (height, width): (usize, usize),
    sums: &mut [S::f32s],
    rows: [usize; 2],
) {
    // In registers meanwhile.
    let mut local = [[simd.splat_f32s(0.0); K]; 2];
    for c in 0..2 {
        local[c].copy_from_slice(&sums[rows[c]..rows[c] + K]);
    }
    for y in 0..height {
        let input = &input[y * input_stride..][..width + K - 1];
        let deltas = deltas.map(|delta| &delta[y * delta_stride..][..width]);
        for ((x, &d0), &d1) in input.windows(K).zip(deltas[0]).zip(deltas[1]) {
            for k in 0..K {
                local[0][k] = simd.mul_add_e_f32s(d0, x[k], local[0][k]);
                local[1][k] = simd.mul_add_e_f32s(d1, x[k], local[1][k]);
            }
        }
    }
    for c in 0..2 {
        sums[rows[c]..rows[c] + K].copy_from_slice(&local[c]);
    }
}

/// The weight gradient of a block of a linear layer's outputs from image-major rows:
/// gradient[o][i] += the sum over the images of delta[n][block.start + o] * x[n][i]. Here the lanes
/// are neighbouring inputs; rows of `x` are padded to whole pairs of vectors.
#[inline(always)]
pub fn linear_weights<S: Simd>(
    simd: S,
    (deltas, outputs): (&[f32], usize),
    block: Range<usize>,
    (x, x_stride): (&[S::f32s], usize),
    inputs: usize,
    gradient: &mut [f32],
) {
    for first in block.clone().step_by(OUTPUTS) {
        let count = OUTPUTS.min(block.end - first);
        for i in (0..x_stride).step_by(POSITIONS) {
            let mut sums = [[simd.splat_f32s(0.0); POSITIONS]; OUTPUTS];
            for (deltas, x) in deltas.chunks_exact(outputs).zip(x.chunks_exact(x_stride)) {
                let (deltas, x) = (&deltas[first..first + count], &x[i..i + POSITIONS]);
                for (a, sum) in sums.iter_mut().enumerate() {
                    // Past the block's end some output is summed again, for nothing.
                    let delta = simd.splat_f32s(deltas[a.min(count - 1)]);
                    for b in 0..POSITIONS {
                        sum[b] = simd.mul_add_e_f32s(delta, x[b], sum[b]);
                    }
                }
            }
            let start = i * S::F32_LANES;
            let length = (POSITIONS * S::F32_LANES).min(inputs.saturating_sub(start));
            for (a, sum) in sums.iter().enumerate().take(count) {
                let sum: &[f32] = bytemuck::cast_slice(sum);
                let row = &mut gradient[(first - block.start + a) * inputs + start..][..length];
                row.iter_mut().zip(sum).for_each(|(g, s)| *g += s);
            }
        }
    }
}
