//! The inner loops. Images lie in the lanes of a vector, so each loop is the scalar algorithm on
//! vectors and has no remainders; what looks like one multiplication is one for every lane.
//!
//! Most keep 12 sums in registers: of 16 that leaves two for the inputs and one for a weight, and nothing
//! is spilled.

use super::memory::take;
use super::nested;
use crate::architecture::KERNEL;
use pulp::{Simd, bytemuck};
use std::ops::Range;

/// Whether these are the vectors of AVX-512. It has 32 registers, not 16, and its multiply-adds take a
/// weight from where it lies in memory, so that nothing is gained by using it twice. NEON has the
/// registers alone.
pub const fn avx512<S: Simd>() -> bool {
    S::REGISTER_COUNT >= 32 && S::F32_LANES >= 16
}

/// Outputs that one pass accumulates, of two positions or for two tiles.
pub const OUTPUTS: usize = 6;

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

pub(super) use for_group_of;

/// The weights of a convolution with a kernel of one column, (outputs, channels, rows), in the order in
/// which `correlate` reads them: outputs in `groups`, of a group [channel][tap][output].
pub struct Packed<const OUTPUTS: usize, const CHANNELS: usize> {
    weights: Vec<f32>,
}

/// What the kernels multiply by for each column of a convolution's kernel: its rows, or what `nested`
/// makes of them.
const fn taps(nested: bool) -> usize {
    if nested { nested::PRODUCTS } else { KERNEL }
}

/// Calls `each` with every tap of a column.
fn for_each_tap(nested: bool, column: &[f32; KERNEL], each: impl FnMut((usize, f32))) {
    if nested {
        nested::weights(*column).into_iter().enumerate().for_each(each);
    } else {
        column.iter().copied().enumerate().for_each(each);
    }
}

impl<const OUTPUTS: usize, const CHANNELS: usize> Packed<OUTPUTS, CHANNELS> {
    /// Room for the taps of any vectors.
    pub fn zeros() -> Self {
        Packed { weights: vec![0.0; OUTPUTS * CHANNELS * nested::PRODUCTS] }
    }

    /// With one channel the additions would be as many as the multiply-adds that they save.
    const fn nested<S: Simd>() -> bool {
        avx512::<S>() && CHANNELS > 1
    }

    /// Sets the column of every `weight(output, channel)`.
    pub fn fill<S: Simd>(&mut self, weight: impl Fn(usize, usize) -> [f32; KERNEL]) {
        let (mut rest, nested) = (&mut *self.weights, Self::nested::<S>());
        for group in groups(OUTPUTS) {
            for channel in 0..CHANNELS {
                let places = take(&mut rest, taps(nested) * group.len());
                for (a, output) in group.clone().enumerate() {
                    let set = |(tap, weight)| places[tap * group.len() + a] = weight;
                    for_each_tap(nested, &weight(output, channel), set);
                }
            }
        }
    }

    /// Two outputs, one below the other, of which x holds the column of inputs from the one that the
    /// kernel's first row meets: for every output o and b = 0, 1, out[o][b] = the sum over channels c and
    /// rows r of weight(o, c, r) * x[c * channel_stride + r + b].
    #[inline(always)]
    pub fn correlate<S: Simd>(
        &self,
        simd: S,
        x: &[S::f32s],
        channel_stride: usize,
        out: &mut [[S::f32s; 2]; OUTPUTS],
    ) {
        for group in groups(OUTPUTS) {
            let size = CHANNELS * taps(Self::nested::<S>());
            let weights = &self.weights[group.start * size..group.end * size];
            let out = &mut out[group];
            if Self::nested::<S>() {
                use nested::correlate_group as nested_group;
                for_group_of!(out.len(), nested_group::<S>(simd, weights, x, channel_stride, out));
            } else {
                for_group_of!(
                    out.len(),
                    correlate_group::<S>(simd, weights, x, channel_stride, out)
                );
            }
        }
    }
}

#[inline(always)]
fn correlate_group<S: Simd, const A: usize>(
    simd: S,
    weights: &[f32],
    x: &[S::f32s],
    channel_stride: usize,
    out: &mut [[S::f32s; 2]],
) {
    // [channel][row][output]
    let weights = weights.as_chunks::<A>().0.as_chunks::<KERNEL>().0;
    // The first product begins the sums: of few taps, those to clear them would be a fair part.
    let mut sums = [[simd.splat_f32s(0.0); 2]; A];
    for (sums, &weight) in sums.iter_mut().zip(&weights[0][0]) {
        let weight = simd.splat_f32s(weight);
        *sums = [simd.mul_f32s(weight, x[0]), simd.mul_f32s(weight, x[1])];
    }
    for (channel, weights) in weights.iter().enumerate() {
        let x = &x[channel * channel_stride..][..KERNEL + 1];
        let begun = usize::from(channel == 0);
        for (weights, x) in weights.iter().zip(x.windows(2)).skip(begun) {
            for a in 0..A {
                let weight = simd.splat_f32s(weights[a]);
                for b in 0..2 {
                    sums[a][b] = simd.mul_add_e_f32s(weight, x[b], sums[a][b]);
                }
            }
        }
    }
    out.copy_from_slice(&sums);
}

/// The same weights as the transposed convolution reads them, some channels at a time:
/// [group of channels][output][tap][channel].
pub struct PackedTransposed<const OUTPUTS: usize, const CHANNELS: usize> {
    weights: Vec<f32>,
}

/// Channels whose gradient the plain kernel computes at once: with what two outputs reach of each, they
/// keep 12 sums in registers.
const CHANNELS_BACK: usize = 2;

const fn channels_back<S: Simd>() -> usize {
    if avx512::<S>() { nested::CHANNELS_BACK } else { CHANNELS_BACK }
}

impl<const OUTPUTS: usize, const CHANNELS: usize> PackedTransposed<OUTPUTS, CHANNELS> {
    /// Room for the taps of any vectors.
    pub fn zeros() -> Self {
        const {
            assert!(CHANNELS.is_multiple_of(CHANNELS_BACK));
            assert!(CHANNELS.is_multiple_of(nested::CHANNELS_BACK));
        }
        PackedTransposed { weights: vec![0.0; OUTPUTS * CHANNELS * nested::PRODUCTS] }
    }

    /// Sets the column of every `weight(output, channel)`.
    pub fn fill<S: Simd>(&mut self, weight: impl Fn(usize, usize) -> [f32; KERNEL]) {
        let (mut rest, group) = (&mut *self.weights, channels_back::<S>());
        for first in (0..CHANNELS).step_by(group) {
            for output in 0..OUTPUTS {
                let places = take(&mut rest, taps(avx512::<S>()) * group);
                for c in 0..group {
                    let set = |(tap, weight)| places[tap * group + c] = weight;
                    for_each_tap(avx512::<S>(), &weight(output, first + c), set);
                }
            }
        }
    }

    /// The gradient of a column of inputs from that of its `rows` outputs, an even number: for every
    /// channel c and y below rows + 4, out[c * channel_stride + y] = the sum over outputs o and rows r of
    /// weight(o, c, r) * deltas[o * output_stride + y - r], where that is within the column.
    #[inline(always)]
    pub fn correlate_transposed<S: Simd>(
        &self,
        simd: S,
        deltas: (&[S::f32s], usize),
        rows: usize,
        (out, channel_stride): (&mut [S::f32s], usize),
    ) {
        let group = channels_back::<S>();
        let weights = self.weights.chunks_exact(OUTPUTS * taps(avx512::<S>()) * group);
        for (weights, first) in weights.zip((0..CHANNELS).step_by(group)) {
            let out = (&mut out[first * channel_stride..], channel_stride);
            if avx512::<S>() {
                use nested::correlate_transposed_group as nested_group;
                nested_group::<S, { nested::CHANNELS_BACK }>(simd, weights, deltas, rows, out);
            } else {
                correlate_transposed_group(simd, weights, deltas, rows, out);
            }
        }
    }
}

#[inline(always)]
fn correlate_transposed_group<S: Simd>(
    simd: S,
    weights: &[f32],
    (deltas, output_stride): (&[S::f32s], usize),
    rows: usize,
    (out, channel_stride): (&mut [S::f32s], usize),
) {
    const C: usize = CHANNELS_BACK;
    let weights = weights.as_chunks::<C>().0.as_chunks::<KERNEL>().0;
    // What two outputs, one below the other, reach; the inputs above are done.
    let mut sums = [[simd.splat_f32s(0.0); KERNEL + 1]; C];
    for y in (0..rows).step_by(2) {
        for (output, weights) in weights.iter().enumerate() {
            let deltas = &deltas[output * output_stride + y..][..2];
            for row in 0..KERNEL {
                for c in 0..C {
                    let weight = simd.splat_f32s(weights[row][c]);
                    for b in 0..2 {
                        let sum = &mut sums[c][row + b];
                        *sum = simd.mul_add_e_f32s(weight, deltas[b], *sum);
                    }
                }
            }
        }
        for (c, sums) in sums.iter_mut().enumerate() {
            let [first, second, rest @ ..] = *sums;
            let at = c * channel_stride + y;
            out[at..at + 2].copy_from_slice(&[first, second]);
            *sums = [simd.splat_f32s(0.0); KERNEL + 1];
            sums[..KERNEL - 1].copy_from_slice(&rest);
        }
    }
    for (c, sums) in sums.iter().enumerate() {
        let at = c * channel_stride + rows;
        out[at..at + KERNEL - 1].copy_from_slice(&sums[..KERNEL - 1]);
    }
}

/// Columns of rows that are neighbours in memory, one column `stride` behind the other.
#[derive(Clone, Copy)]
pub struct Columns<'a, V> {
    pub values: &'a [V],
    pub stride: usize,
}

impl<'a, V> Columns<'a, V> {
    #[inline(always)]
    pub fn column(&self, column: usize, rows: usize) -> &'a [V] {
        &self.values[column * self.stride..][..rows]
    }
}

/// The gradient of a kernel's column for each of two output channels: for c = 0, 1
/// sums[places[c] + k] += the sum over columns, rows and lanes of deltas[c][row] * x[row + k]. The number of
/// rows is even.
#[inline(always)]
pub fn convolution_weights<S: Simd>(
    simd: S,
    deltas: [Columns<S::f32s>; 2],
    size: (usize, usize),
    x: Columns<S::f32s>,
    sums: &mut [f32],
    places: [usize; 2],
) {
    let gradients = if avx512::<S>() {
        nested::convolution_weights(simd, deltas, size, x)
    } else {
        plain_convolution_weights(simd, deltas, size, x)
    };
    let mut lanes = [simd.splat_f32s(0.0); (2 * KERNEL).next_multiple_of(4)];
    lanes[..2 * KERNEL].copy_from_slice(gradients.as_flattened());
    let mut added = [0.0; (2 * KERNEL).next_multiple_of(4)];
    for (added, &lanes) in added.as_chunks_mut().0.iter_mut().zip(lanes.as_chunks().0) {
        *added = add_lanes(simd, lanes);
    }
    for (place, gradient) in places.into_iter().zip(added.as_chunks::<KERNEL>().0) {
        let sums = &mut sums[place..][..KERNEL];
        sums.iter_mut().zip(gradient).for_each(|(sum, gradient)| *sum += gradient);
    }
}

#[inline(always)]
fn plain_convolution_weights<S: Simd>(
    simd: S,
    deltas: [Columns<S::f32s>; 2],
    (rows, columns): (usize, usize),
    x: Columns<S::f32s>,
) -> [[S::f32s; KERNEL]; 2] {
    let mut sums = [[simd.splat_f32s(0.0); KERNEL]; 2];
    for column in 0..columns {
        let first = deltas[0].column(column, rows);
        let second = deltas[1].column(column, rows);
        let x = x.column(column, rows + KERNEL - 1);
        for ((&first, &second), x) in first.iter().zip(second).zip(x.windows(KERNEL)) {
            for k in 0..KERNEL {
                sums[0][k] = simd.mul_add_e_f32s(first, x[k], sums[0][k]);
                sums[1][k] = simd.mul_add_e_f32s(second, x[k], sums[1][k]);
            }
        }
    }
    sums
}

/// The sum of each vector's lanes.
#[inline(always)]
fn add_lanes<S: Simd>(simd: S, vectors: [S::f32s; 4]) -> [f32; 4] {
    let mut sums = [0.0; 4];
    if S::F32_LANES < 4 {
        for (sum, vector) in sums.iter_mut().zip(vectors) {
            *sum = simd.reduce_sum_f32s(vector);
        }
        return sums;
    }
    // Every four lanes are now one of each vector.
    let [a, b, c, d] = simd.deinterleave_shfl_f32s(vectors);
    let lanes = [simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d))];
    for four in bytemuck::cast_slice::<_, f32>(&lanes).as_chunks::<4>().0 {
        sums.iter_mut().zip(four).for_each(|(sum, lane)| *sum += lane);
    }
    sums
}

/// A linear layer: out[o] = bias[o] + the sum over i of weights[o * inputs + i] * x[i], for the
/// `T` tiles that lie side by side in x (inputs, T) and out (outputs, T).
#[inline(always)]
pub fn linear<S: Simd, const T: usize>(
    simd: S,
    weights: &[f32],
    bias: &[f32],
    x: &[S::f32s],
    out: &mut [S::f32s],
) {
    let inputs = x.len() / T;
    for group in groups(bias.len()) {
        let weights = &weights[group.start * inputs..group.end * inputs];
        let out = &mut out[group.start * T..group.end * T];
        let bias = &bias[group];
        for_group_of!(bias.len(), linear_group::<S, T>(simd, weights, bias, x, out));
    }
}

#[inline(always)]
fn linear_group<S: Simd, const T: usize, const A: usize>(
    simd: S,
    weights: &[f32],
    bias: &[f32],
    x: &[S::f32s],
    out: &mut [S::f32s],
) {
    let (x, _) = x.as_chunks::<T>();
    let (out, _) = out.as_chunks_mut::<T>();
    let mut rows = [&weights[..x.len()]; A];
    for (a, row) in rows.iter_mut().enumerate() {
        *row = &weights[a * x.len()..][..x.len()];
    }
    let mut sums = [[simd.splat_f32s(0.0); T]; A];
    for (sum, &bias) in sums.iter_mut().zip(bias) {
        *sum = [simd.splat_f32s(bias); T];
    }
    for i in 0..x.len() {
        for a in 0..A {
            let weight = simd.splat_f32s(rows[a][i]);
            for b in 0..T {
                sums[a][b] = simd.mul_add_e_f32s(weight, x[i][b], sums[a][b]);
            }
        }
    }
    out.copy_from_slice(&sums);
}

/// The gradient of a linear layer's inputs: out[i] = the sum over o of weights[o * inputs + i] *
/// deltas[o], laid out as in `linear`.
#[inline(always)]
pub fn linear_inputs<S: Simd, const T: usize>(
    simd: S,
    weights: &[f32],
    deltas: &[S::f32s],
    out: &mut [S::f32s],
) {
    let inputs = out.len() / T;
    for group in groups(inputs) {
        let out = &mut out[group.start * T..group.end * T];
        for_group_of!(
            group.len(),
            linear_inputs_group::<S, T>(simd, weights, inputs, group.start, deltas, out)
        );
    }
}

#[inline(always)]
fn linear_inputs_group<S: Simd, const T: usize, const A: usize>(
    simd: S,
    weights: &[f32],
    inputs: usize,
    first: usize,
    deltas: &[S::f32s],
    out: &mut [S::f32s],
) {
    let (deltas, _) = deltas.as_chunks::<T>();
    let (out, _) = out.as_chunks_mut::<T>();
    let mut sums = [[simd.splat_f32s(0.0); T]; A];
    for (delta, row) in deltas.iter().zip(weights.chunks_exact(inputs)) {
        for (sum, &weight) in sums.iter_mut().zip(&row[first..first + A]) {
            let weight = simd.splat_f32s(weight);
            for b in 0..T {
                sum[b] = simd.mul_add_e_f32s(weight, delta[b], sum[b]);
            }
        }
    }
    out.copy_from_slice(&sums);
}

#[cfg(test)]
mod tests {
    use super::super::every_level;
    use super::*;
    use pulp::{WithSimd, bytemuck};
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

    fn column(weights: &[f32], i: usize) -> [f32; KERNEL] {
        weights.as_chunks().0[i]
    }

    struct Everything;

    impl WithSimd for Everything {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let mut noise = Noise(ChaCha8Rng::seed_from_u64(3));
            check_correlate::<S, 1, 1>(simd, &mut noise);
            check_correlate::<S, 6, 1>(simd, &mut noise);
            check_correlate::<S, 16, 6>(simd, &mut noise);
            check_correlate::<S, 9, 2>(simd, &mut noise);
            for rows in [2, 4, 10] {
                check_correlate_transposed::<S, 16, 6>(simd, &mut noise, rows);
                check_correlate_transposed::<S, 1, 6>(simd, &mut noise, rows);
            }
            for outputs in [1, 2, 3, 4, 5, 6, 7, 11, 13, 16] {
                for inputs in [1, 5, 6, 7, 16, 23] {
                    check_linear::<S, 1>(simd, &mut noise, inputs, outputs);
                    check_linear::<S, 2>(simd, &mut noise, inputs, outputs);
                }
            }
            for rows in [2, 4, 10] {
                for columns in [1, 2, 5] {
                    check_convolution_weights(simd, &mut noise, rows, columns);
                }
            }
        }
    }

    #[inline(always)]
    fn check_correlate<S: Simd, const OUTPUTS: usize, const CHANNELS: usize>(
        simd: S,
        noise: &mut Noise,
    ) {
        let channel_stride = KERNEL + 2;
        let count = CHANNELS * KERNEL;
        let weights = noise.floats(OUTPUTS * count);
        let x = noise.vectors::<S>(CHANNELS * channel_stride);
        let mut packed = Packed::<OUTPUTS, CHANNELS>::zeros();
        packed.fill::<S>(|output, channel| column(&weights, output * CHANNELS + channel));
        let mut out = [[simd.splat_f32s(9.0); 2]; OUTPUTS];
        packed.correlate(simd, &x, channel_stride, &mut out);
        assert_sums::<S>("correlate", out.as_flattened(), |i, l| {
            let (output, below) = (i / 2, i % 2);
            let mut terms = Vec::new();
            for channel in 0..CHANNELS {
                for row in 0..KERNEL {
                    let at = channel * channel_stride + row + below;
                    let weight = weights[output * count + channel * KERNEL + row];
                    terms.push((weight, lane::<S>(&x, at, l)));
                }
            }
            terms
        });
    }

    #[inline(always)]
    fn check_correlate_transposed<S: Simd, const OUTPUTS: usize, const CHANNELS: usize>(
        simd: S,
        noise: &mut Noise,
        rows: usize,
    ) {
        let (stride, inputs) = (rows + 3, rows + KERNEL - 1);
        let weights = noise.floats(OUTPUTS * CHANNELS * KERNEL);
        let at = |output, channel, row| (output * CHANNELS + channel) * KERNEL + row;
        let deltas = noise.vectors::<S>(OUTPUTS * stride);
        let mut packed = PackedTransposed::<OUTPUTS, CHANNELS>::zeros();
        packed.fill::<S>(|output, channel| column(&weights, output * CHANNELS + channel));
        let mut out = vec![simd.splat_f32s(9.0); CHANNELS * inputs];
        packed.correlate_transposed(simd, (&deltas, stride), rows, (&mut out, inputs));
        assert_sums::<S>("correlate_transposed", &out, |i, l| {
            let (channel, y) = (i / inputs, i % inputs);
            let mut terms = Vec::new();
            for output in 0..OUTPUTS {
                for row in (0..KERNEL).filter(|row| (*row..*row + rows).contains(&y)) {
                    let delta = lane::<S>(&deltas, output * stride + y - row, l);
                    terms.push((weights[at(output, channel, row)], delta));
                }
            }
            terms
        });
    }

    #[inline(always)]
    fn check_linear<S: Simd, const T: usize>(
        simd: S,
        noise: &mut Noise,
        inputs: usize,
        outputs: usize,
    ) {
        let (weights, bias) = (noise.floats(outputs * inputs), noise.floats(outputs));
        let x = noise.vectors::<S>(inputs * T);
        let mut out = vec![simd.splat_f32s(9.0); outputs * T];
        linear::<S, T>(simd, &weights, &bias, &x, &mut out);
        assert_sums::<S>("linear", &out, |i, l| {
            let (output, tile) = (i / T, i % T);
            let term =
                |input| (weights[output * inputs + input], lane::<S>(&x, input * T + tile, l));
            std::iter::once((1.0, bias[output])).chain((0..inputs).map(term)).collect()
        });

        let deltas = noise.vectors::<S>(outputs * T);
        let mut out = vec![simd.splat_f32s(9.0); inputs * T];
        linear_inputs::<S, T>(simd, &weights, &deltas, &mut out);
        assert_sums::<S>("linear_inputs", &out, |i, l| {
            let (input, tile) = (i / T, i % T);
            let delta = |output| lane::<S>(&deltas, output * T + tile, l);
            (0..outputs).map(|output| (weights[output * inputs + input], delta(output))).collect()
        });
    }

    #[inline(always)]
    fn check_convolution_weights<S: Simd>(simd: S, noise: &mut Noise, rows: usize, columns: usize) {
        let (stride, x_stride) = (rows + 1, rows + KERNEL);
        let x = noise.vectors::<S>(columns * x_stride);
        let deltas = [0; 2].map(|_| noise.vectors::<S>(columns * stride));
        let before = noise.floats(2 * KERNEL);
        let mut sums = before.clone();
        let of = |c: usize| Columns { values: &deltas[c], stride };
        let columns_of_x = Columns { values: &x, stride: x_stride };
        let (size, places) = ((rows, columns), [KERNEL, 0]);
        convolution_weights(simd, [of(0), of(1)], size, columns_of_x, &mut sums, places);
        for (i, ours) in sums.into_iter().enumerate() {
            let (output, k) = (1 - i / KERNEL, i % KERNEL);
            let mut naive = f64::from(before[i]);
            for (column, row) in (0..columns).flat_map(|c| (0..rows).map(move |r| (c, r))) {
                for l in 0..S::F32_LANES {
                    let delta = lane::<S>(&deltas[output], column * stride + row, l);
                    let x = lane::<S>(&x, column * x_stride + row + k, l);
                    naive += f64::from(delta) * f64::from(x);
                }
            }
            let error = (f64::from(ours) - naive).abs();
            assert!(error < 1e-4, "convolution_weights[{i}] is {ours}, not {naive}");
        }
    }

    #[test]
    fn every_kernel_is_its_naive_twin() {
        for arch in every_level() {
            arch.dispatch(Everything);
        }
    }
}
