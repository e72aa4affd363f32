//! Winograd along the columns as well, nested in that along the rows: two outputs, one below the other, take 7
//! multiplications of each column of a kernel instead of 10.
//!
//! Winograd's F(2, 3) on the first three rows and F(2, 2) on the other two (Lavin and Gray 2016), from the
//! points 0, 1, -1, infinity and 0, 1, infinity. Products that go into the same outputs share a sum, so four
//! sums make two outputs. What is left of the transforms is additions.
//!
//! These micro-kernels make the transforms in registers, again for each group of outputs: a CPU makes them beside its
//! multiply-adds. But a weight serves one product, not two, and twice as many sums must be kept: that pays with
//! AVX-512 (`registers::avx512`). `winograd_gemm` has the kernels for 16 registers.

use crate::architecture::KERNEL;
use crate::engine::fused::vectors::maps::Columns;
use pulp::Simd;

/// Products for two outputs.
pub const PRODUCTS: usize = 7;

/// Inputs of two outputs.
pub const INPUTS: usize = KERNEL + 1;

/// Sums for two outputs, two for both and one for each, and which of them each product goes into.
const SUMS: usize = 4;
pub const SUM_OF: [usize; PRODUCTS] = [0, 0, 1, 2, 2, 3, 3];

/// Products that go into a sum for both: the first ones.
pub const OF_BOTH: usize = 3;

/// Channels whose gradient is computed at once: they keep 21 sums in registers.
pub const CHANNELS_BACK: usize = 3;

/// A kernel's column for its products.
pub fn weights([a, b, c, d, e]: [f32; KERNEL]) -> [f32; PRODUCTS] {
    [0.5 * (a + c + b), d + e, 0.5 * (a + c - b), a, d, c, e]
}

/// What the gradients of those give for the column.
#[inline(always)]
pub fn weights_gradient<S: Simd>(simd: S, w: [S::f32s; PRODUCTS]) -> [S::f32s; KERNEL] {
    let half = simd.splat_f32s(0.5);
    let sum = simd.mul_f32s(half, simd.add_f32s(w[0], w[2]));
    let difference = simd.mul_f32s(half, simd.sub_f32s(w[0], w[2]));
    [
        simd.add_f32s(w[3], sum),
        difference,
        simd.add_f32s(w[5], sum),
        simd.add_f32s(w[4], w[1]),
        simd.add_f32s(w[1], w[6]),
    ]
}

/// The inputs of two outputs, with which x begins, for their products.
#[inline(always)]
pub fn inputs<S: Simd>(simd: S, x: &[S::f32s]) -> [S::f32s; PRODUCTS] {
    let mut column = [simd.splat_f32s(0.0); INPUTS];
    column.copy_from_slice(&x[..INPUTS]);
    let [a, b, c, d, e, f] = column;
    [
        simd.add_f32s(b, c),
        e,
        simd.sub_f32s(c, b),
        simd.sub_f32s(a, c),
        simd.sub_f32s(d, e),
        simd.sub_f32s(d, b),
        simd.sub_f32s(f, e),
    ]
}

/// What the gradients of those give for the inputs.
#[inline(always)]
fn inputs_gradient<S: Simd>(simd: S, x: [S::f32s; PRODUCTS]) -> [S::f32s; INPUTS] {
    [
        x[3],
        simd.sub_f32s(simd.sub_f32s(x[0], x[2]), x[5]),
        simd.sub_f32s(simd.add_f32s(x[0], x[2]), x[3]),
        simd.add_f32s(x[5], x[4]),
        simd.sub_f32s(simd.sub_f32s(x[1], x[6]), x[4]),
        x[6],
    ]
}

/// The gradients of the first two inputs, which are complete: no outputs further down use them. `begun` holds what
/// the outputs above have given for the first four inputs, and then what has been given for the last four, to
/// which the outputs below add.
#[inline(always)]
pub fn reach<S: Simd>(
    simd: S,
    products: [S::f32s; PRODUCTS],
    begun: &mut [S::f32s; KERNEL - 1],
) -> [S::f32s; 2] {
    let mut x = inputs_gradient(simd, products);
    for (x, begun) in x.iter_mut().zip(&*begun) {
        *x = simd.add_f32s(*x, *begun);
    }
    let [first, second, rest @ ..] = x;
    *begun = rest;
    [first, second]
}

/// The two outputs.
#[inline(always)]
fn outputs<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; SUMS]) -> [S::f32s; 2] {
    [simd.add_f32s(simd.add_f32s(a, b), c), simd.add_f32s(simd.sub_f32s(a, b), d)]
}

/// What the outputs' gradients give for the sums.
#[inline(always)]
pub fn outputs_gradient<S: Simd>(simd: S, [y, z]: [S::f32s; 2]) -> [S::f32s; SUMS] {
    [simd.add_f32s(y, z), simd.sub_f32s(y, z), y, z]
}

/// `Packed::correlate` for a group of outputs; weights are [channel][product][output].
#[inline(always)]
pub fn correlate_group<S: Simd, const A: usize>(
    simd: S,
    weights: &[f32],
    x: &[S::f32s],
    channel_stride: usize,
    out: &mut [[S::f32s; 2]],
) {
    let weights = weights.as_chunks::<A>().0.as_chunks::<PRODUCTS>().0;
    let mut sums = [[simd.splat_f32s(0.0); SUMS]; A];
    for (channel, weights) in weights.iter().enumerate() {
        let x = inputs(simd, &x[channel * channel_stride..]);
        for product in 0..PRODUCTS {
            for a in 0..A {
                let (weight, sum) = (weights[product][a], &mut sums[a][SUM_OF[product]]);
                *sum = simd.mul_add_e_f32s(simd.splat_f32s(weight), x[product], *sum);
            }
        }
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        *out = outputs(simd, sums);
    }
}

/// `PackedTransposed::correlate_transposed` for a group of `C` channels; weights are
/// [output][product][channel], `out` the first channel's column.
#[inline(always)]
pub fn correlate_transposed_group<S: Simd, const C: usize>(
    simd: S,
    weights: &[f32],
    (deltas, output_stride): (&[S::f32s], usize),
    rows: usize,
    (out, channel_stride): (&mut [S::f32s], usize),
) {
    let weights = weights.as_chunks::<C>().0.as_chunks::<PRODUCTS>().0;
    // What the outputs so far have given for the inputs that the next outputs use as well.
    let mut begun = [[simd.splat_f32s(0.0); KERNEL - 1]; C];
    for y in (0..rows).step_by(2) {
        let mut sums = [[simd.splat_f32s(0.0); PRODUCTS]; C];
        for (output, weights) in weights.iter().enumerate() {
            let deltas = &deltas[output * output_stride + y..][..2];
            let deltas = outputs_gradient(simd, [deltas[0], deltas[1]]);
            for product in 0..PRODUCTS {
                for c in 0..C {
                    let (weight, sum) = (weights[product][c], &mut sums[c][product]);
                    let delta = deltas[SUM_OF[product]];
                    *sum = simd.mul_add_e_f32s(simd.splat_f32s(weight), delta, *sum);
                }
            }
        }
        for c in 0..C {
            let inputs = reach(simd, sums[c], &mut begun[c]);
            out[c * channel_stride + y..][..2].copy_from_slice(&inputs);
        }
    }
    for (c, begun) in begun.iter().enumerate() {
        out[c * channel_stride + rows..][..begun.len()].copy_from_slice(begun);
    }
}

/// The gradients, their lanes not yet added up, that `correlation::column_weights` adds to its sums.
#[inline(always)]
pub fn column_weights<S: Simd>(
    simd: S,
    deltas: [Columns<S::f32s>; 2],
    (rows, columns): (usize, usize),
    x: Columns<S::f32s>,
) -> [[S::f32s; KERNEL]; 2] {
    let mut sums = [[simd.splat_f32s(0.0); PRODUCTS]; 2];
    for column in 0..columns {
        let first = deltas[0].column(column, rows).as_chunks::<2>().0;
        let second = deltas[1].column(column, rows).as_chunks::<2>().0;
        let x = x.column(column, rows + KERNEL - 1).windows(INPUTS).step_by(2);
        for ((&first, &second), x) in first.iter().zip(second).zip(x) {
            let deltas = [outputs_gradient(simd, first), outputs_gradient(simd, second)];
            let x = inputs(simd, x);
            for product in 0..PRODUCTS {
                for c in 0..2 {
                    let (delta, sum) = (deltas[c][SUM_OF[product]], &mut sums[c][product]);
                    *sum = simd.mul_add_e_f32s(delta, x[product], *sum);
                }
            }
        }
    }
    [weights_gradient(simd, sums[0]), weights_gradient(simd, sums[1])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fused::every_level;
    use pulp::{Scalar, WithSimd, bytemuck};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn noise<const N: usize>(rng: &mut ChaCha8Rng) -> [f32; N] {
        std::array::from_fn(|_| rng.random_range(-1.0..1.0))
    }

    #[track_caller]
    fn assert_near(what: &str, ours: f32, naive: f32) {
        assert!((ours - naive).abs() < 1e-5, "{what} {ours}, not {naive}");
    }

    #[test]
    fn the_products_make_a_correlation_and_its_gradients() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..1000 {
            let (w, x, dy) = (noise(&mut rng), noise::<INPUTS>(&mut rng), noise(&mut rng));
            let (gw, bx, ay) = (weights(w), inputs(Scalar, &x), outputs_gradient(Scalar, dy));
            let mut sums = [0.0; SUMS];
            (0..PRODUCTS).for_each(|p| sums[SUM_OF[p]] += gw[p] * bx[p]);
            for (o, y) in outputs(Scalar, sums).into_iter().enumerate() {
                assert_near("output", y, (0..KERNEL).map(|k| w[k] * x[o + k]).sum());
            }
            let dw = std::array::from_fn(|p| ay[SUM_OF[p]] * bx[p]);
            for (k, dw) in weights_gradient(Scalar, dw).into_iter().enumerate() {
                assert_near("weight gradient", dw, dy[0] * x[k] + dy[1] * x[k + 1]);
            }
            let dx = std::array::from_fn(|p| ay[SUM_OF[p]] * gw[p]);
            for (i, dx) in inputs_gradient(Scalar, dx).into_iter().enumerate() {
                let reaches = (0..2).filter(|&o| (o..o + KERNEL).contains(&i));
                assert_near("input gradient", dx, reaches.map(|o| dy[o] * w[i - o]).sum());
            }
        }
    }

    /// The kernels, also where they do not pay, on maps of `CHANNELS` columns, each beside the plain sums.
    struct Kernels;

    const OUTPUTS: usize = 5;
    const CHANNELS: usize = 3;
    const ROWS: usize = 6;
    const COLUMN: usize = ROWS + KERNEL - 1;

    impl WithSimd for Kernels {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let mut rng = ChaCha8Rng::seed_from_u64(2);
            let mut vectors = |n: usize| -> Vec<S::f32s> {
                let floats = (0..n * S::F32_LANES).map(|_| rng.random_range(-1.0..1.0));
                bytemuck::cast_slice(&floats.collect::<Vec<f32>>()).to_vec()
            };
            let (x, deltas) = (vectors(CHANNELS * COLUMN), vectors(OUTPUTS * ROWS));
            let w: [[[f32; KERNEL]; CHANNELS]; OUTPUTS] =
                std::array::from_fn(|_| std::array::from_fn(|_| noise(&mut rng)));
            let at = |values: &[S::f32s], i: usize, lane: usize| {
                bytemuck::cast_slice::<_, f32>(values)[i * S::F32_LANES + lane]
            };

            let mut packed = Vec::new();
            for channel in 0..CHANNELS {
                let columns = w.map(|of_output| weights(of_output[channel]));
                (0..PRODUCTS).for_each(|p| packed.extend(columns.map(|column| column[p])));
            }
            let mut out = [[simd.splat_f32s(9.0); 2]; OUTPUTS];
            correlate_group::<S, OUTPUTS>(simd, &packed, &x[2..], COLUMN, &mut out);
            for (i, lane) in (0..2 * OUTPUTS).flat_map(|i| (0..S::F32_LANES).map(move |l| (i, l))) {
                let first = 2 + i % 2;
                let taps = (0..CHANNELS).flat_map(|c| (0..KERNEL).map(move |k| (c, k)));
                let naive =
                    taps.map(|(c, k)| w[i / 2][c][k] * at(&x, c * COLUMN + first + k, lane));
                assert_near("correlate", at(out.as_flattened(), i, lane), naive.sum());
            }

            let mut packed = Vec::new();
            for of_output in w {
                let columns = of_output.map(weights);
                (0..PRODUCTS).for_each(|p| packed.extend(columns.map(|column| column[p])));
            }
            let mut out = vec![simd.splat_f32s(9.0); CHANNELS * COLUMN];
            let place = (&mut *out, COLUMN);
            correlate_transposed_group::<S, CHANNELS>(simd, &packed, (&deltas, ROWS), ROWS, place);
            for (i, lane) in (0..out.len()).flat_map(|i| (0..S::F32_LANES).map(move |l| (i, l))) {
                let (channel, y) = (i / COLUMN, i % COLUMN);
                let taps = (0..OUTPUTS).flat_map(|o| (0..KERNEL).map(move |k| (o, k)));
                let inside = taps.filter(|(_, k)| (*k..k + ROWS).contains(&y));
                let naive =
                    inside.map(|(o, k)| w[o][channel][k] * at(&deltas, o * ROWS + y - k, lane));
                assert_near("correlate_transposed", at(&out, i, lane), naive.sum());
            }

            let column = |values, stride| Columns { values, stride };
            let of_outputs = [column(&deltas[..], ROWS), column(&deltas[ROWS..], ROWS)];
            let x_columns = column(&x[..], COLUMN);
            let gradients = column_weights(simd, of_outputs, (ROWS, 2), x_columns);
            for (output, gradient) in gradients.into_iter().enumerate() {
                for (k, lane) in (0..KERNEL).flat_map(|k| (0..S::F32_LANES).map(move |l| (k, l))) {
                    let places = (0..2).flat_map(|c| (0..ROWS).map(move |row| (c, row)));
                    let naive = places.map(|(c, row)| {
                        at(&deltas, (output + c) * ROWS + row, lane)
                            * at(&x, c * COLUMN + row + k, lane)
                    });
                    assert_near("column_weights", at(&gradient, k, lane), naive.sum());
                }
            }
        }
    }

    #[test]
    fn the_kernels_are_the_plain_ones_with_any_vectors() {
        for arch in every_level() {
            arch.dispatch(Kernels);
        }
    }
}
