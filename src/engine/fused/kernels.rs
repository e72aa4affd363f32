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

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd, bytemuck};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Vectors of noise, and the lanes of each.
    struct Noise(ChaCha8Rng);

    impl Noise {
        fn floats(&mut self, n: usize) -> Vec<f32> {
            (0..n).map(|_| self.0.random_range(-1.0..1.0)).collect()
        }

        fn vectors<S: Simd>(&mut self, n: usize) -> Vec<S::f32s> {
            let floats = self.floats(n * S::F32_LANES);
            bytemuck::cast_slice(&floats).to_vec()
        }
    }

    /// Every lane of `ours[i]` is the sum of the products of the pairs that `terms(i, lane)` lists.
    fn assert_sums<S: Simd>(
        what: &str,
        ours: &[S::f32s],
        terms: impl Fn(usize, usize) -> Vec<(f32, f32)>,
    ) {
        let ours: &[f32] = bytemuck::cast_slice(ours);
        for (at, &ours) in ours.iter().enumerate() {
            let (i, lane) = (at / S::F32_LANES, at % S::F32_LANES);
            let terms = terms(i, lane);
            let naive: f64 = terms.iter().map(|&(a, b)| f64::from(a) * f64::from(b)).sum();
            assert!((f64::from(ours) - naive).abs() < 1e-5, "{what}[{i}] is {ours}, not {naive}");
        }
    }

    fn lane<S: Simd>(values: &[S::f32s], i: usize, lane: usize) -> f32 {
        bytemuck::cast_slice::<_, f32>(values)[i * S::F32_LANES + lane]
    }

    struct Everything;

    impl WithSimd for Everything {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let mut noise = Noise(ChaCha8Rng::seed_from_u64(3));
            for outputs in [1, 2, 3, 4, 5, 6, 7, 11, 13, 16] {
                for width in [2, 4, 6, 14] {
                    for rows in [0..KERNEL, 2..KERNEL, 0..3] {
                        check_correlate::<S, 1>(simd, &mut noise, outputs, width, rows.clone());
                        check_correlate::<S, KERNEL>(simd, &mut noise, outputs, width, rows);
                    }
                }
                for inputs in [1, 5, 6, 7, 16, 23] {
                    check_linear(simd, &mut noise, inputs, outputs);
                }
            }
            for n in [1, 2, 3, 8, 50] {
                for stride in [1, 5] {
                    check_convolution_weights(simd, &mut noise, n, stride);
                }
            }
        }
    }

    #[inline(always)]
    fn check_correlate<S: Simd, const COLUMNS: usize>(
        simd: S,
        noise: &mut Noise,
        outputs: usize,
        width: usize,
        rows: Range<usize>,
    ) {
        let (channels, row_stride) = (2, width + COLUMNS - 1);
        let taps = Taps { channels, channel_stride: KERNEL * row_stride, rows, row_stride };
        let count = channels * KERNEL * COLUMNS;
        let (weights, bias) = (noise.floats(outputs * count), noise.floats(outputs));
        let x = noise.vectors::<S>(channels * taps.channel_stride);
        let mut packed = Packed::new(outputs, count);
        packed.fill(|output, tap| weights[output * count + tap]);
        let mut out = vec![simd.splat_f32s(9.0); outputs * width];
        packed.correlate::<S, COLUMNS>(simd, &taps, &bias, (&x, width), (&mut out, width));
        assert_sums::<S>("correlate", &out, |i, l| {
            let (output, position) = (i / width, i % width);
            let mut terms = vec![(1.0, bias[output])];
            for tap in 0..count {
                let (channel, row, column) =
                    (tap / (KERNEL * COLUMNS), tap / COLUMNS % KERNEL, tap % COLUMNS);
                if taps.rows.contains(&row) {
                    let row = row - taps.rows.start;
                    let at = channel * taps.channel_stride + row * row_stride + column + position;
                    terms.push((weights[output * count + tap], lane::<S>(&x, at, l)));
                }
            }
            terms
        });
    }

    #[inline(always)]
    fn check_linear<S: Simd>(simd: S, noise: &mut Noise, inputs: usize, outputs: usize) {
        let (weights, bias) = (noise.floats(outputs * inputs), noise.floats(outputs));
        let x = noise.vectors::<S>(inputs * POSITIONS);
        let mut out = vec![simd.splat_f32s(9.0); outputs * POSITIONS];
        linear(simd, &weights, &bias, &x, &mut out);
        assert_sums::<S>("linear", &out, |i, l| {
            let (output, tile) = (i / POSITIONS, i % POSITIONS);
            let term = |input| {
                (weights[output * inputs + input], lane::<S>(&x, input * POSITIONS + tile, l))
            };
            std::iter::once((1.0, bias[output])).chain((0..inputs).map(term)).collect()
        });

        let deltas = noise.vectors::<S>(outputs * POSITIONS);
        let mut out = vec![simd.splat_f32s(9.0); inputs * POSITIONS];
        linear_inputs(simd, &weights, &deltas, &mut out);
        assert_sums::<S>("linear_inputs", &out, |i, l| {
            let (input, tile) = (i / POSITIONS, i % POSITIONS);
            let delta = |output| lane::<S>(&deltas, output * POSITIONS + tile, l);
            (0..outputs).map(|output| (weights[output * inputs + input], delta(output))).collect()
        });
    }

    #[inline(always)]
    fn check_convolution_weights<S: Simd>(simd: S, noise: &mut Noise, n: usize, stride: usize) {
        let x = noise.vectors::<S>(n + (KERNEL - 1) * stride);
        let deltas = [noise.vectors::<S>(n), noise.vectors::<S>(n)];
        let before = noise.vectors::<S>(2 * KERNEL);
        let mut sums = before.clone();
        let places = [KERNEL, 0];
        convolution_weights::<S, KERNEL>(
            simd,
            [&deltas[0], &deltas[1]],
            &x,
            stride,
            &mut sums,
            places,
        );
        assert_sums::<S>("convolution_weights", &sums, |i, l| {
            let (output, k) = (1 - i / KERNEL, i % KERNEL);
            let term = |p| (lane::<S>(&deltas[output], p, l), lane::<S>(&x, p + k * stride, l));
            std::iter::once((1.0, lane::<S>(&before, i, l))).chain((0..n).map(term)).collect()
        });
    }

    #[test]
    fn every_kernel_is_its_naive_twin() {
        for arch in [Arch::Scalar, Arch::new()] {
            arch.dispatch(Everything);
        }
    }
}
