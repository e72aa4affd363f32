//! Sigmoid, tanh and ReLU on vectors, and their slopes as functions of their values.
//!
//! Vector code is written in loops, here and in the other files: a closure would be compiled without
//! the CPU features of the function around it. NaN goes through all of them, so that a step that diverged is seen.

use crate::architecture::Activation;
use pulp::Simd;
use std::f32::consts::LOG2_E;

/// In place.
#[inline(always)]
pub fn activate<S: Simd>(simd: S, activation: Activation, values: &mut [S::f32s]) {
    match activation {
        Activation::Sigmoid => {
            let (fours, rest) = values.as_chunks_mut::<4>();
            for x in fours {
                *x = sigmoids(simd, *x);
            }
            for x in rest {
                [*x] = sigmoids(simd, [*x]);
            }
        }
        Activation::Tanh => {
            for x in values {
                *x = tanh(simd, *x);
            }
        }
        Activation::Relu => {
            for x in values {
                *x = at_least(simd, *x, simd.splat_f32s(0.0));
            }
        }
    }
}

/// The derivative where the activation's value is `y`.
#[inline(always)]
pub fn slope<S: Simd>(simd: S, activation: Activation, y: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    match activation {
        Activation::Sigmoid => simd.negate_mul_add_e_f32s(y, y, y),
        Activation::Tanh => simd.negate_mul_add_e_f32s(y, y, one),
        Activation::Relu => {
            let zero = simd.splat_f32s(0.0);
            simd.select_f32s(simd.less_than_f32s(zero, y), one, zero)
        }
    }
}

/// 1 / (1 + exp(-x)). Off by at most 2e-7, and by (5 + |x|) * 1e-7 of its value; below -43 it stays
/// at 2^-62.
#[inline(always)]
fn sigmoids<S: Simd, const N: usize>(simd: S, x: [S::f32s; N]) -> [S::f32s; N] {
    let one = simd.splat_f32s(1.0);
    let mut power = exp2(simd, -LOG2_E, x);
    for power in &mut power {
        *power = simd.div_f32s(one, simd.add_f32s(one, *power));
    }
    power
}

/// Off by at most 4e-7 of its value: Cephes' polynomial below 0.625, where 1 - 2 / (exp(2x) + 1)
/// would cancel.
#[inline(always)]
fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (one, two) = (simd.splat_f32s(1.0), simd.splat_f32s(2.0));
    let square = simd.mul_f32s(x, x);
    let [polynomial] = horner(
        simd,
        [square],
        [-0.005_704_988_7, 0.020_639_088, -0.053_739_715, 0.133_314_42, -0.333_332_8],
    );
    let small = simd.mul_add_e_f32s(simd.mul_f32s(polynomial, square), x, x);
    let [power] = exp2(simd, 2.0 * LOG2_E, [x]);
    let large = simd.sub_f32s(one, simd.div_f32s(two, simd.add_f32s(power, one)));
    simd.select_f32s(simd.less_than_f32s(square, simd.splat_f32s(0.625 * 0.625)), small, large)
}

/// 2^(a x) as 2^n 2^f, f within 0.5 of 0. Beyond 62 either way, a x is taken for 62 or -62, so that the
/// exponent's bits do not overflow.
#[inline(always)]
fn exp2<S: Simd, const N: usize>(simd: S, a: f32, mut x: [S::f32s; N]) -> [S::f32s; N] {
    let (low, high) = (simd.splat_f32s(-62.0 / a.abs()), simd.splat_f32s(62.0 / a.abs()));
    // 1.5 * 2^23 pushes the fraction out: the low bits of the sum are n.
    let magic = simd.splat_f32s(12_582_912.0);
    let a = simd.splat_f32s(a);
    let mut shifted = x;
    for k in 0..N {
        x[k] = at_most(simd, at_least(simd, x[k], low), high);
        shifted[k] = simd.mul_add_e_f32s(a, x[k], magic);
        x[k] = simd.mul_add_e_f32s(a, x[k], simd.sub_f32s(magic, shifted[k]));
    }
    // The polynomial of degree 5 whose largest relative error, 7.5e-8, is the smallest (Remez).
    let power = horner(
        simd,
        x,
        [1.327_647_2e-3, 9.675_541e-3, 5.550_713_3e-2, 2.402_212e-1, 6.931_469_7e-1, 1.0],
    );
    for k in 0..N {
        // n is added to the exponent; its bits above move out.
        let n = simd.transmute_u32s_f32s(shifted[k]);
        let n = simd.wrapping_dyn_shl_u32s(n, simd.splat_u32s(23));
        let sum = simd.add_u32s(simd.transmute_u32s_f32s(power[k]), n);
        x[k] = simd.transmute_f32s_u32s(sum);
    }
    x
}

/// The larger one, and NaN where x is: a vector's maximum gives its second operand, or NaN, if one of
/// the two is NaN; a scalar's gives the other one.
#[inline(always)]
pub fn at_least<S: Simd>(simd: S, x: S::f32s, low: S::f32s) -> S::f32s {
    if S::F32_LANES > 1 {
        return simd.max_f32s(low, x);
    }
    simd.select_f32s(simd.less_than_f32s(x, low), low, x)
}

/// The smaller one, and NaN where x is.
#[inline(always)]
fn at_most<S: Simd>(simd: S, x: S::f32s, high: S::f32s) -> S::f32s {
    if S::F32_LANES > 1 {
        return simd.min_f32s(high, x);
    }
    simd.select_f32s(simd.less_than_f32s(high, x), high, x)
}

/// The polynomial with these coefficients, the highest power first.
#[inline(always)]
fn horner<S: Simd, const N: usize, const TERMS: usize>(
    simd: S,
    x: [S::f32s; N],
    coefficients: [f32; TERMS],
) -> [S::f32s; N] {
    let mut sums = [simd.splat_f32s(coefficients[0]); N];
    for &c in &coefficients[1..] {
        for (sum, &x) in sums.iter_mut().zip(&x) {
            *sum = simd.mul_add_e_f32s(*sum, x, simd.splat_f32s(c));
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fused::every_level;
    use pulp::{WithSimd, bytemuck};

    struct Activate<'a>(Activation, &'a [f32]);

    impl WithSimd for Activate<'_> {
        type Output = Vec<f32>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
            let one = |&x: &f32| {
                let mut x = [simd.splat_f32s(x)];
                activate(simd, self.0, &mut x);
                bytemuck::cast_slice::<_, f32>(&x)[0]
            };
            self.1.iter().map(one).collect()
        }
    }

    #[test]
    fn activations_are_within_a_few_ulp_of_f64() {
        let x: Vec<f32> =
            (-20_000..20_000).map(|i| i as f32 * 0.004_3).chain([1e-6, -1e-9, 0.0]).collect();
        let exact = |activation, x: f64| match activation {
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Tanh => x.tanh(),
            Activation::Relu => x.max(0.0),
        };
        for arch in every_level() {
            for activation in [Activation::Sigmoid, Activation::Tanh, Activation::Relu] {
                for (x, y) in x.iter().zip(arch.dispatch(Activate(activation, &x))) {
                    let expected = exact(activation, f64::from(*x));
                    let error = (f64::from(y) - expected).abs();
                    let far = if activation == Activation::Sigmoid { x.abs() } else { 0.0 };
                    let bound = (5e-7 + 1e-7 * f64::from(far)) * expected.abs() + 3e-19;
                    assert!(error <= bound.min(4e-7), "{activation:?}({x}) = {y}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn infinities_saturate_and_nan_stays() {
        for arch in every_level() {
            let run = |activation| {
                arch.dispatch(Activate(activation, &[f32::NEG_INFINITY, f32::INFINITY, f32::NAN]))
            };
            for (activation, low, high) in [
                (Activation::Sigmoid, 0.0, 1.0),
                (Activation::Tanh, -1.0, 1.0),
                (Activation::Relu, 0.0, f32::INFINITY),
            ] {
                let y = run(activation);
                assert!(
                    (y[0] - low).abs() < 1e-18 && y[1] == high && y[2].is_nan(),
                    "{activation:?} {y:?}"
                );
            }
        }
    }
}
