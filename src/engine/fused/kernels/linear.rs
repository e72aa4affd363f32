//! The linear layers' kernels. Images lie in the lanes of a vector, so each loop is the scalar algorithm on
//! vectors and has no remainders; what looks like one multiplication is one for every lane.

use crate::engine::fused::vectors::registers::{for_group_of, groups};
use pulp::Simd;

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
pub(super) mod tests {
    use super::*;
    use crate::engine::fused::every_level;
    use pulp::{WithSimd, bytemuck};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Vectors of noise, and the lanes of each.
    pub struct Noise(ChaCha8Rng);

    impl Noise {
        pub fn new(seed: u64) -> Self {
            Noise(ChaCha8Rng::seed_from_u64(seed))
        }

        pub fn floats(&mut self, n: usize) -> Vec<f32> {
            (0..n).map(|_| self.0.random_range(-1.0..1.0)).collect()
        }

        pub fn vectors<S: Simd>(&mut self, n: usize) -> Vec<S::f32s> {
            let floats = self.floats(n * S::F32_LANES);
            bytemuck::cast_slice(&floats).to_vec()
        }
    }

    /// Every lane of `ours[i]` is the sum of the products of the pairs that `terms(i, lane)` lists.
    pub fn assert_sums<S: Simd>(
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

    pub fn lane<S: Simd>(values: &[S::f32s], i: usize, lane: usize) -> f32 {
        bytemuck::cast_slice::<_, f32>(values)[i * S::F32_LANES + lane]
    }

    struct Linear;

    impl WithSimd for Linear {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let mut noise = Noise::new(3);
            for outputs in [1, 2, 3, 4, 5, 6, 7, 11, 13, 16] {
                for inputs in [1, 5, 6, 7, 16, 23] {
                    check_linear::<S, 1>(simd, &mut noise, inputs, outputs);
                    check_linear::<S, 2>(simd, &mut noise, inputs, outputs);
                }
            }
        }
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

    #[test]
    fn linear_layers_are_their_naive_twins() {
        for arch in every_level() {
            arch.dispatch(Linear);
        }
    }
}
