//! A convolution at one point of `winograd`, where its kernel has one column. Weights are packed into the order in
//! which the micro-kernel reads them, and the micro-kernel is chosen: a plain one for one channel; for more,
//! that of `winograd_columns`, or of `winograd_gemm` on CPUs with 16 registers.

use super::{winograd_columns, winograd_gemm};
use crate::architecture::KERNEL;
use crate::engine::fused::vectors::maps::{Columns, Strides, add_gradients};
use crate::engine::fused::vectors::memory::take;
use crate::engine::fused::vectors::registers::{self, avx512, for_group_of, groups_of};
use pulp::Simd;
use std::ops::Range;

/// The weights of a convolution with a kernel of one column, (outputs, channels, rows), in the order in
/// which `correlate` reads them: outputs in groups, of a group [channel][tap][output]. Taps are the rows, or
/// what `winograd_columns` makes of them.
pub struct Packed<const OUTPUTS: usize, const CHANNELS: usize> {
    weights: Vec<f32>,
}

impl<const OUTPUTS: usize, const CHANNELS: usize> Packed<OUTPUTS, CHANNELS> {
    /// With one channel the additions would be as many as the multiply-adds that they save.
    const WINOGRAD: bool = CHANNELS > 1;
    const TAPS: usize = if Self::WINOGRAD { winograd_columns::PRODUCTS } else { KERNEL };

    pub fn zeros() -> Self {
        const { assert!(!Self::WINOGRAD || OUTPUTS.is_multiple_of(winograd_gemm::OUTPUTS)) }
        Packed { weights: vec![0.0; OUTPUTS * CHANNELS * Self::TAPS] }
    }

    const fn gemm<S: Simd>() -> bool {
        Self::WINOGRAD && !avx512::<S>()
    }

    /// Neighbouring columns that `correlate` takes together, or fewer.
    pub const fn columns<S: Simd>() -> usize {
        if Self::gemm::<S>() { winograd_gemm::COLUMNS } else { 1 }
    }

    fn groups<S: Simd>() -> impl Iterator<Item = Range<usize>> {
        groups_of(
            if Self::gemm::<S>() { winograd_gemm::OUTPUTS } else { registers::OUTPUTS },
            OUTPUTS,
        )
    }

    /// Sets the column of every `weight(output, channel)`.
    pub fn fill<S: Simd>(&mut self, weight: impl Fn(usize, usize) -> [f32; KERNEL]) {
        let mut rest = &mut *self.weights;
        for group in Self::groups::<S>() {
            for channel in 0..CHANNELS {
                let places = take(&mut rest, Self::TAPS * group.len());
                for (a, output) in group.clone().enumerate() {
                    let column = weight(output, channel);
                    let products = winograd_columns::weights(column);
                    let taps: &[f32] = if Self::WINOGRAD { &products } else { &column };
                    for (tap, &weight) in taps.iter().enumerate() {
                        places[tap * group.len() + a] = weight;
                    }
                }
            }
        }
    }

    /// Two outputs, one below the other, of some neighbouring columns. x begins with the input that the kernel's
    /// first row meets for the upper output. For every column i, output o and b = 0, 1, out[i][o][b] = the sum
    /// over channels c and rows r of weight(o, c, r) * x[c * strides.channel + i * strides.column + r + b].
    #[inline(always)]
    pub fn correlate<S: Simd>(
        &self,
        simd: S,
        (x, strides): (&[S::f32s], Strides),
        panel: &mut [S::f32s],
        out: &mut [[[S::f32s; 2]; OUTPUTS]],
    ) {
        let weights = &*self.weights;
        if Self::gemm::<S>() {
            use winograd_gemm::correlate as gemm;
            let x = (x, strides);
            return match out.len() {
                3 => gemm::<S, OUTPUTS, CHANNELS, 3>(simd, weights, x, panel, out),
                2 => gemm::<S, OUTPUTS, CHANNELS, 2>(simd, weights, x, panel, out),
                1 => gemm::<S, OUTPUTS, CHANNELS, 1>(simd, weights, x, panel, out),
                _ => (),
            };
        }
        for (i, out) in out.iter_mut().enumerate() {
            let (x, stride) = (&x[i * strides.column..], strides.channel);
            for group in Self::groups::<S>() {
                let size = CHANNELS * Self::TAPS;
                let weights = &weights[group.start * size..group.end * size];
                let out = &mut out[group];
                if Self::WINOGRAD {
                    use winograd_columns::correlate_group as winograd_group;
                    for_group_of!(out.len(), winograd_group::<S>(simd, weights, x, stride, out));
                } else {
                    for_group_of!(out.len(), correlate_group::<S>(simd, weights, x, stride, out));
                }
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
/// [group of channels][output][product][channel].
pub struct PackedTransposed<const OUTPUTS: usize, const CHANNELS: usize> {
    weights: Vec<f32>,
}

impl<const OUTPUTS: usize, const CHANNELS: usize> PackedTransposed<OUTPUTS, CHANNELS> {
    pub fn zeros() -> Self {
        const { assert!(CHANNELS.is_multiple_of(winograd_columns::CHANNELS_BACK)) }
        PackedTransposed { weights: vec![0.0; OUTPUTS * CHANNELS * winograd_columns::PRODUCTS] }
    }

    const fn group<S: Simd>() -> usize {
        if avx512::<S>() { winograd_columns::CHANNELS_BACK } else { CHANNELS }
    }

    /// Sets the column of every `weight(output, channel)`.
    pub fn fill<S: Simd>(&mut self, weight: impl Fn(usize, usize) -> [f32; KERNEL]) {
        let (mut rest, group) = (&mut *self.weights, Self::group::<S>());
        for first in (0..CHANNELS).step_by(group) {
            for output in 0..OUTPUTS {
                let places = take(&mut rest, winograd_columns::PRODUCTS * group);
                for c in 0..group {
                    let products = winograd_columns::weights(weight(output, first + c));
                    for (product, weight) in products.into_iter().enumerate() {
                        places[product * group + c] = weight;
                    }
                }
            }
        }
    }

    /// The gradient of some columns of inputs from that of their outputs, (deltas, output_stride), whose columns
    /// lie side by side, of size (rows, columns) with an even number of rows: for every column i, channel c
    /// and y below rows + 4, out[c * strides.channel + i * strides.column + y] = the sum over outputs o and
    /// rows r of weight(o, c, r) * deltas[o * output_stride + i * rows + y - r], where that is within the column.
    #[inline(always)]
    pub fn correlate_transposed<S: Simd>(
        &self,
        simd: S,
        deltas: (&[S::f32s], usize),
        size: (usize, usize),
        panel: &mut [S::f32s],
        out: (&mut [S::f32s], Strides),
    ) {
        const C: usize = winograd_columns::CHANNELS_BACK;
        if !avx512::<S>() {
            use winograd_gemm::correlate_transposed as gemm;
            return gemm::<S, CHANNELS>(simd, &self.weights, deltas, size, panel, out);
        }
        let ((deltas, output_stride), (rows, columns), (out, strides)) = (deltas, size, out);
        let weights = self.weights.chunks_exact(OUTPUTS * winograd_columns::PRODUCTS * C);
        for (weights, first) in weights.zip((0..CHANNELS).step_by(C)) {
            for column in 0..columns {
                let deltas = (&deltas[column * rows..], output_stride);
                let out = &mut out[first * strides.channel + column * strides.column..];
                let out = (out, strides.channel);
                winograd_columns::correlate_transposed_group::<S, C>(
                    simd, weights, deltas, rows, out,
                );
            }
        }
    }
}

/// The gradient of a kernel's column for each of two output channels: for c = 0, 1
/// sums[places[c] + k] += the sum over columns, rows and lanes of deltas[c][row] * x[row + k]. The number of
/// rows is even.
#[inline(always)]
pub fn column_weights<S: Simd>(
    simd: S,
    deltas: [Columns<S::f32s>; 2],
    size: (usize, usize),
    x: Columns<S::f32s>,
    sums: &mut [f32],
    places: [usize; 2],
) {
    let gradients = if avx512::<S>() {
        winograd_columns::column_weights(simd, deltas, size, x)
    } else {
        plain_column_weights(simd, deltas, size, x)
    };
    add_gradients(simd, gradients, sums, places);
}

/// The gradient of the columns that all outputs, an even number, have for `C` channels, from (deltas,
/// output_stride), of size (rows, columns) with an even number of rows: of output o and channel c,
/// sums[(o * C + c) * KERNEL + k] += the sum over columns i, rows r and lanes of deltas[o * output_stride +
/// i * rows + r] * x[c * strides.channel + i * strides.column + r + k].
#[inline(always)]
pub fn convolution_weights<S: Simd, const C: usize>(
    simd: S,
    deltas: (&[S::f32s], usize),
    size: (usize, usize),
    x: (&[S::f32s], Strides),
    panel: &mut [S::f32s],
    sums: &mut [f32],
) {
    if !avx512::<S>() {
        return winograd_gemm::convolution_weights::<S, C>(simd, deltas, size, x, panel, sums);
    }
    let ((deltas, output_stride), (rows, _), (x, strides)) = (deltas, size, x);
    let deltas = deltas.chunks_exact(2 * output_stride);
    for (deltas, sums) in deltas.zip(sums.chunks_exact_mut(2 * C * KERNEL)) {
        let (first, second) = deltas.split_at(output_stride);
        let deltas = [first, second].map(|values| Columns { values, stride: rows });
        for channel in 0..C {
            let x = Columns { values: &x[channel * strides.channel..], stride: strides.column };
            let places = [channel * KERNEL, (C + channel) * KERNEL];
            column_weights(simd, deltas, size, x, sums, places);
        }
    }
}

#[inline(always)]
fn plain_column_weights<S: Simd>(
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

#[cfg(test)]
mod tests {
    use super::super::linear::tests::{Noise, assert_sums, lane};
    use super::*;
    use crate::engine::fused::every_level;
    use pulp::WithSimd;

    fn column(weights: &[f32], i: usize) -> [f32; KERNEL] {
        weights.as_chunks().0[i]
    }

    struct Everything;

    impl WithSimd for Everything {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let mut noise = Noise::new(3);
            check_correlate::<S, 1, 1>(simd, &mut noise);
            check_correlate::<S, 6, 1>(simd, &mut noise);
            check_correlate::<S, 16, 6>(simd, &mut noise);
            check_correlate::<S, 10, 2>(simd, &mut noise);
            for size in [(2, 1), (4, 3), (10, 2), (10, 3)] {
                check_correlate_transposed::<S, 16, 6>(simd, &mut noise, size);
                check_correlate_transposed::<S, 1, 6>(simd, &mut noise, size);
                check_convolution_weights::<S, 6>(simd, &mut noise, size);
            }
            for rows in [2, 4, 10] {
                for columns in [1, 2, 5] {
                    check_column_weights(simd, &mut noise, rows, columns);
                }
            }
        }
    }

    #[inline(always)]
    fn check_correlate<S: Simd, const OUTPUTS: usize, const CHANNELS: usize>(
        simd: S,
        noise: &mut Noise,
    ) {
        let column_stride = KERNEL + 2;
        for columns in 1..=Packed::<OUTPUTS, CHANNELS>::columns::<S>() {
            let (count, channel_stride) = (CHANNELS * KERNEL, columns * column_stride + 1);
            let weights = noise.floats(OUTPUTS * count);
            let x = noise.vectors::<S>(CHANNELS * channel_stride);
            let mut packed = Packed::<OUTPUTS, CHANNELS>::zeros();
            packed.fill::<S>(|output, channel| column(&weights, output * CHANNELS + channel));
            let mut panel = noise.vectors::<S>(winograd_gemm::vectors(CHANNELS, 0));
            let mut out = vec![[[simd.splat_f32s(9.0); 2]; OUTPUTS]; columns];
            let strides = Strides { channel: channel_stride, column: column_stride };
            packed.correlate(simd, (&x, strides), &mut panel, &mut out);
            assert_sums::<S>("correlate", out.as_flattened().as_flattened(), |i, l| {
                let (column, output, below) = (i / 2 / OUTPUTS, i / 2 % OUTPUTS, i % 2);
                let mut terms = Vec::new();
                for channel in 0..CHANNELS {
                    for row in 0..KERNEL {
                        let at = channel * channel_stride + column * column_stride + row + below;
                        let weight = weights[output * count + channel * KERNEL + row];
                        terms.push((weight, lane::<S>(&x, at, l)));
                    }
                }
                terms
            });
        }
    }

    #[inline(always)]
    fn check_correlate_transposed<S: Simd, const OUTPUTS: usize, const CHANNELS: usize>(
        simd: S,
        noise: &mut Noise,
        (rows, columns): (usize, usize),
    ) {
        let (stride, inputs) = (rows * columns + 2, rows + KERNEL - 1);
        let weights = noise.floats(OUTPUTS * CHANNELS * KERNEL);
        let at = |output, channel, row| (output * CHANNELS + channel) * KERNEL + row;
        let deltas = noise.vectors::<S>(OUTPUTS * stride);
        let mut packed = PackedTransposed::<OUTPUTS, CHANNELS>::zeros();
        packed.fill::<S>(|output, channel| column(&weights, output * CHANNELS + channel));
        let mut panel = noise.vectors::<S>(winograd_gemm::vectors(CHANNELS, rows * columns / 2));
        let mut out = vec![simd.splat_f32s(9.0); CHANNELS * columns * inputs];
        let place = (&mut *out, Strides { channel: columns * inputs, column: inputs });
        packed.correlate_transposed(simd, (&deltas, stride), (rows, columns), &mut panel, place);
        assert_sums::<S>("correlate_transposed", &out, |i, l| {
            let (channel, column, y) = (i / inputs / columns, i / inputs % columns, i % inputs);
            let mut terms = Vec::new();
            for output in 0..OUTPUTS {
                for row in (0..KERNEL).filter(|row| (*row..*row + rows).contains(&y)) {
                    let delta = lane::<S>(&deltas, output * stride + column * rows + y - row, l);
                    terms.push((weights[at(output, channel, row)], delta));
                }
            }
            terms
        });
    }

    #[inline(always)]
    fn check_column_weights<S: Simd>(simd: S, noise: &mut Noise, rows: usize, columns: usize) {
        let (stride, x_stride) = (rows + 1, rows + KERNEL);
        let x = noise.vectors::<S>(columns * x_stride);
        let deltas = [0; 2].map(|_| noise.vectors::<S>(columns * stride));
        let before = noise.floats(2 * KERNEL);
        let mut sums = before.clone();
        let of = |c: usize| Columns { values: &deltas[c], stride };
        let columns_of_x = Columns { values: &x, stride: x_stride };
        let (size, places) = ((rows, columns), [KERNEL, 0]);
        column_weights(simd, [of(0), of(1)], size, columns_of_x, &mut sums, places);
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
            assert!(error < 1e-4, "column_weights[{i}] is {ours}, not {naive}");
        }
    }

    #[inline(always)]
    fn check_convolution_weights<S: Simd, const C: usize>(
        simd: S,
        noise: &mut Noise,
        (rows, columns): (usize, usize),
    ) {
        const OUTPUTS: usize = 4;
        let (stride, column) = (rows * columns + 2, rows + KERNEL);
        let (deltas, x) =
            (noise.vectors::<S>(OUTPUTS * stride), noise.vectors::<S>(C * columns * column));
        let mut panel = noise.vectors::<S>(winograd_gemm::vectors(C, rows * columns / 2));
        let before = noise.floats(OUTPUTS * C * KERNEL);
        let mut sums = before.clone();
        let x_of = (&*x, Strides { channel: columns * column, column });
        let (size, deltas_of) = ((rows, columns), (&*deltas, stride));
        convolution_weights::<S, C>(simd, deltas_of, size, x_of, &mut panel, &mut sums);
        for (i, ours) in sums.into_iter().enumerate() {
            let (output, channel, k) = (i / KERNEL / C, i / KERNEL % C, i % KERNEL);
            let mut naive = f64::from(before[i]);
            for (c, row) in (0..columns).flat_map(|c| (0..rows).map(move |r| (c, r))) {
                for l in 0..S::F32_LANES {
                    let delta = lane::<S>(&deltas, output * stride + c * rows + row, l);
                    let x = lane::<S>(&x, (channel * columns + c) * column + row + k, l);
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
