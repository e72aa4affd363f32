//! The inner loops. Images lie in the lanes of a vector, so each loop is the scalar algorithm on
//! vectors and has no remainders; what looks like one multiplication is one for every lane.
//!
//! Each keeps `OUTPUTS` times `POSITIONS` sums in registers: with 16 registers that leaves two for the
//! inputs and one for a weight, and nothing is spilled.

use crate::architecture::KERNEL;
use pulp::Simd;
use std::ops::Range;

/// Outputs that one pass accumulates, and neighbouring positions of each.
pub const OUTPUTS: usize = 6;
pub const POSITIONS: usize = 2;

/// Outputs in groups of up to `OUTPUTS`, as even as they get: 16 are 5 + 5 + 6, not 6 + 6 + 4.
pub fn groups(outputs: usize) -> impl Iterator<Item = Range<usize>> {
    let count = outputs.div_ceil(OUTPUTS);
    (0..count).map(move |g| g * outputs / count..(g + 1) * outputs / count)
}

/// Calls a kernel that is compiled for each size of a group.
macro_rules! for_group_of {
    ($size:expr, $kernel:ident::<$($parameter:ident),+>($($argument:expr),* $(,)?)) => {
        match $size {
            6 => $kernel::<$($parameter,)+ 6>($($argument),*),
            5 => $kernel::<$($parameter,)+ 5>($($argument),*),
            4 => $kernel::<$($parameter,)+ 4>($($argument),*),
            3 => $kernel::<$($parameter,)+ 3>($($argument),*),
            2 => $kernel::<$($parameter,)+ 2>($($argument),*),
            _ => $kernel::<$($parameter,)+ 1>($($argument),*),
        }
    };
}

/// The inputs of a convolution's output: `channels` planes, of each the kernel's `rows` that meet the
/// map, of each neighbours, at these distances.
#[derive(Clone)]
pub struct Taps {
    pub channels: usize,
    pub channel_stride: usize,
    pub rows: Range<usize>,
    pub row_stride: usize,
}

/// A convolution's weights in the order in which `correlate` reads them: outputs in `groups`, of a
/// group [tap][output].
#[derive(Default)]
pub struct Packed {
    outputs: usize,
    taps: usize,
    weights: Vec<f32>,
}

impl Packed {
    pub fn new(outputs: usize, taps: usize) -> Self {
        Packed { outputs, taps, weights: vec![0.0; outputs * taps] }
    }

    /// Sets every `weight(output, tap)`.
    pub fn fill(&mut self, weight: impl Fn(usize, usize) -> f32) {
        let mut places = self.weights.iter_mut();
        for group in groups(self.outputs) {
            for tap in 0..self.taps {
                for (output, place) in group.clone().zip(&mut places) {
                    *place = weight(output, tap);
                }
            }
        }
    }

    /// For every output o and position i: out[o * stride + i] = bias[o] + the sum over the taps of
    /// weight(o, tap) * x[place of the tap + i], for a kernel of `COLUMNS`. `width` is a multiple of
    /// `POSITIONS`; `bias` may be empty for none.
    #[inline(always)]
    pub fn correlate<S: Simd, const COLUMNS: usize>(
        &self,
        simd: S,
        taps: &Taps,
        bias: &[f32],
        (x, width): (&[S::f32s], usize),
        (out, stride): (&mut [S::f32s], usize),
    ) {
        for group in groups(self.outputs) {
            let weights = &self.weights[group.start * self.taps..group.end * self.taps];
            let bias = if bias.is_empty() { bias } else { &bias[group.clone()] };
            let out = &mut out[group.start * stride..];
            for_group_of!(
                group.len(),
                correlate_group::<S, COLUMNS>(simd, weights, taps, bias, (x, width), (out, stride))
            );
        }
    }
}

#[inline(always)]
fn correlate_group<S: Simd, const COLUMNS: usize, const A: usize>(
    simd: S,
    weights: &[f32],
    taps: &Taps,
    bias: &[f32],
    (x, width): (&[S::f32s], usize),
    (out, stride): (&mut [S::f32s], usize),
) {
    // [channel][row][column][output]
    let weights = weights.as_chunks::<A>().0.as_chunks::<COLUMNS>().0.as_chunks::<KERNEL>().0;
    for i in (0..width).step_by(POSITIONS) {
        let mut sums = [[simd.splat_f32s(0.0); POSITIONS]; A];
        for (sum, &bias) in sums.iter_mut().zip(bias) {
            *sum = [simd.splat_f32s(bias); POSITIONS];
        }
        for (channel, weights) in weights[..taps.channels].iter().enumerate() {
            let mut start = channel * taps.channel_stride + i;
            for weights in &weights[taps.rows.clone()] {
                let x = &x[start..start + COLUMNS + POSITIONS - 1];
                for column in 0..COLUMNS {
                    for a in 0..A {
                        let weight = simd.splat_f32s(weights[column][a]);
                        for b in 0..POSITIONS {
                            sums[a][b] = simd.mul_add_e_f32s(weight, x[column + b], sums[a][b]);
                        }
                    }
                }
                start += taps.row_stride;
            }
        }
        for (a, sum) in sums.iter().enumerate() {
            out[a * stride + i..a * stride + i + POSITIONS].copy_from_slice(sum);
        }
    }
}

/// The gradient of K kernel weights for each of two output channels: for c = 0, 1
/// sums[places[c] + k] += the sum over the positions p of deltas[c][p] * x[p + k * tap_stride].
#[inline(always)]
pub fn convolution_weights<S: Simd, const K: usize>(
    simd: S,
    deltas: [&[S::f32s]; 2],
    x: &[S::f32s],
    tap_stride: usize,
    sums: &mut [S::f32s],
    places: [usize; 2],
) {
    let n = deltas[0].len();
    let (first, second) = (deltas[0], &deltas[1][..n]);
    let mut taps = [&x[..n]; K];
    for (k, tap) in taps.iter_mut().enumerate() {
        *tap = &x[k * tap_stride..][..n];
    }
    // In registers meanwhile.
    let mut local = [[simd.splat_f32s(0.0); K]; 2];
    for c in 0..2 {
        local[c].copy_from_slice(&sums[places[c]..places[c] + K]);
    }
    for p in 0..n {
        for k in 0..K {
            local[0][k] = simd.mul_add_e_f32s(first[p], taps[k][p], local[0][k]);
            local[1][k] = simd.mul_add_e_f32s(second[p], taps[k][p], local[1][k]);
        }
    }
    for c in 0..2 {
        sums[places[c]..places[c] + K].copy_from_slice(&local[c]);
    }
}

/// A linear layer: out[o] = bias[o] + the sum over i of weights[o * inputs + i] * x[i], for the
/// `POSITIONS` tiles that lie side by side in x (inputs, 2) and out (outputs, 2).
#[inline(always)]
pub fn linear<S: Simd>(simd: S, weights: &[f32], bias: &[f32], x: &[S::f32s], out: &mut [S::f32s]) {
    let inputs = x.len() / POSITIONS;
    for group in groups(bias.len()) {
        let weights = &weights[group.start * inputs..group.end * inputs];
        let out = &mut out[group.start * POSITIONS..group.end * POSITIONS];
        let bias = &bias[group];
        for_group_of!(bias.len(), linear_group::<S>(simd, weights, bias, x, out));
    }
}

#[inline(always)]
fn linear_group<S: Simd, const A: usize>(
    simd: S,
    weights: &[f32],
    bias: &[f32],
    x: &[S::f32s],
    out: &mut [S::f32s],
) {
    let (x, _) = x.as_chunks::<POSITIONS>();
    let (out, _) = out.as_chunks_mut::<POSITIONS>();
    let mut rows = [&weights[..x.len()]; A];
    for (a, row) in rows.iter_mut().enumerate() {
        *row = &weights[a * x.len()..][..x.len()];
    }
    let mut sums = [[simd.splat_f32s(0.0); POSITIONS]; A];
    for (sum, &bias) in sums.iter_mut().zip(bias) {
        *sum = [simd.splat_f32s(bias); POSITIONS];
    }
    for i in 0..x.len() {
        for a in 0..A {
            let weight = simd.splat_f32s(rows[a][i]);
            for b in 0..POSITIONS {
                sums[a][b] = simd.mul_add_e_f32s(weight, x[i][b], sums[a][b]);
            }
        }
    }
    out.copy_from_slice(&sums);
}

/// The gradient of a linear layer's inputs: out[i] = the sum over o of weights[o * inputs + i] *
/// deltas[o], laid out as in `linear`.
#[inline(always)]
pub fn linear_inputs<S: Simd>(simd: S, weights: &[f32], deltas: &[S::f32s], out: &mut [S::f32s]) {
    let inputs = out.len() / POSITIONS;
    for group in groups(inputs) {
        let out = &mut out[group.start * POSITIONS..group.end * POSITIONS];
        for_group_of!(
            group.len(),
            linear_inputs_group::<S>(simd, weights, inputs, group.start, deltas, out)
        );
    }
}

#[inline(always)]
fn linear_inputs_group<S: Simd, const A: usize>(
    simd: S,
    weights: &[f32],
    inputs: usize,
    first: usize,
    deltas: &[S::f32s],
    out: &mut [S::f32s],
) {
    let (deltas, _) = deltas.as_chunks::<POSITIONS>();
    let (out, _) = out.as_chunks_mut::<POSITIONS>();
    let mut sums = [[simd.splat_f32s(0.0); POSITIONS]; A];
    for (delta, row) in deltas.iter().zip(weights.chunks_exact(inputs)) {
        for (sum, &weight) in sums.iter_mut().zip(&row[first..first + A]) {
            let weight = simd.splat_f32s(weight);
            for b in 0..POSITIONS {
                sum[b] = simd.mul_add_e_f32s(weight, delta[b], sum[b]);
            }
        }
    }
    out.copy_from_slice(&sums);
}
