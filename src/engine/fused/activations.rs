//! Sigmoid, tanh and ReLU on vectors, and their slopes as functions of their values.
//!
//! Vector code is written in loops, here and in the other files: a closure would be compiled without
//! the CPU features of the function around it. NaN goes through all of them, so that a step that diverged is seen.

use crate::architecture::Activation;
use pulp::Simd;

/// In place.
#[inline(always)]
pub fn activate<S: Simd>(simd: S, activation: Activation, values: &mut [S::f32s]) {
    match activation {
        Activation::Sigmoid => {
            for x in values {
                *x = sigmoid(simd, *x);
            }
        }
        Activation::Tanh => {
            for x in values {
                *x = tanh(simd, *x);
            }
        }
        Activation::Relu => {
            for x in values {
                *x = relu(simd, *x);
            }
        }
    }
}

/// The derivative where the activation's value is `y`.
#[inline(always)]
pub fn slope<S: Simd>(simd: S, activation: Activation, y: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    match activation {
        Activation::Sigmoid => simd.mul_f32s(y, simd.sub_f32s(one, y)),
        Activation::Tanh => simd.sub_f32s(one, simd.mul_f32s(y, y)),
        Activation::Relu => {
            let zero = simd.splat_f32s(0.0);
            simd.select_f32s(simd.less_than_f32s(zero, y), one, zero)
        }
    }
}

#[inline(always)]
fn relu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(simd.less_than_f32s(x, zero), zero, x)
}

#[inline(always)]
fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let negative = simd.sub_f32s(simd.splat_f32s(0.0), x);
    simd.div_f32s(one, simd.add_f32s(one, exp(simd, negative)))
}

/// Cephes' tanhf: a polynomial below 0.625, where 1 - 2 / (exp(2x) + 1) would cancel.
#[inline(always)]
fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let square = simd.mul_f32s(x, x);
    let polynomial = horner(
        simd,
        square,
        [-0.005_704_988_7, 0.020_639_088, -0.053_739_715, 0.133_314_42, -0.333_332_8],
    );
    let small = simd.mul_add_e_f32s(simd.mul_f32s(polynomial, square), x, x);
    let denominator = simd.add_f32s(exp(simd, simd.add_f32s(x, x)), simd.splat_f32s(1.0));
    let large =
        simd.sub_f32s(simd.splat_f32s(1.0), simd.div_f32s(simd.splat_f32s(2.0), denominator));
    simd.select_f32s(simd.less_than_f32s(square, simd.splat_f32s(0.625 * 0.625)), small, large)
}

/// Cephes' expf, about 2 ulp: exp(x) = 2^n exp(r) with |r| <= ln(2) / 2. The argument is clamped to
/// where the result is a normal number.
#[inline(always)]
fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (low, high) = (simd.splat_f32s(-87.3), simd.splat_f32s(88.3));
    let x = simd.select_f32s(simd.less_than_f32s(x, low), low, x);
    let x = simd.select_f32s(simd.less_than_f32s(high, x), high, x);
    // 1.5 * 2^23 pushes the fraction out: the low bits of the sum are those of the rounded number.
    let magic = simd.splat_f32s(12_582_912.0);
    let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), magic);
    let n = simd.sub_f32s(shifted, magic);
    // ln(2) in two parts, the first of few bits, so that the subtraction is exact.
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-0.693_359_4), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(2.121_944_4e-4), r);
    let polynomial = horner(
        simd,
        r,
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5],
    );
    let fraction = simd.mul_add_e_f32s(
        simd.mul_f32s(polynomial, r),
        r,
        simd.add_f32s(r, simd.splat_f32s(1.0)),
    );
    let exponent = simd.add_u32s(
        simd.transmute_u32s_f32s(shifted),
        simd.splat_u32s(127u32.wrapping_sub(0x4b40_0000)),
    );
    let power = simd.wrapping_dyn_shl_u32s(exponent, simd.splat_u32s(23));
    simd.mul_f32s(fraction, simd.transmute_f32s_u32s(power))
}

/// The polynomial with these coefficients, the highest power first.
#[inline(always)]
fn horner<S: Simd, const N: usize>(simd: S, x: S::f32s, coefficients: [f32; N]) -> S::f32s {
    let mut sum = simd.splat_f32s(coefficients[0]);
    for &c in &coefficients[1..] {
        sum = simd.mul_add_e_f32s(sum, x, simd.splat_f32s(c));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd, bytemuck};

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
        for arch in [Arch::new(), Arch::Scalar] {
            for activation in [Activation::Sigmoid, Activation::Tanh, Activation::Relu] {
                for (x, y) in x.iter().zip(arch.dispatch(Activate(activation, &x))) {
                    let expected = exact(activation, f64::from(*x));
                    let error = (f64::from(y) - expected).abs();
                    assert!(
                        error <= 4e-7 * expected.abs() + 2e-38,
                        "{activation:?}({x}) = {y}, not {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn infinities_saturate_and_nan_stays() {
        for arch in [Arch::new(), Arch::Scalar] {
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
                    (y[0] - low).abs() < 1e-37 && y[1] == high && y[2].is_nan(),
                    "{activation:?} {y:?}"
                );
            }
        }
    }
}
