//! Pooling of 2x2 windows, and the way back through pooling and activation at once.

use super::activations::{at_least, slope};
use crate::architecture::{Activation, Pooling};
use pulp::Simd;

/// A 2x2 window in row-major order.
pub type Window<V> = [V; 4];

#[inline(always)]
pub fn pool<S: Simd>(simd: S, pooling: Pooling, [a, b, c, d]: Window<S::f32s>) -> S::f32s {
    match pooling {
        Pooling::Average => {
            let sum = simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d));
            simd.mul_f32s(sum, simd.splat_f32s(0.25))
        }
        Pooling::Max => larger(simd, larger(simd, a, b), larger(simd, c, d)),
    }
}

/// The larger one, and NaN if one of them is.
#[inline(always)]
fn larger<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
    simd.select_f32s(simd.equal_f32s(a, a), at_least(simd, b, a), a)
}

/// The gradient before activation and pooling of each place of a window: what of the pooled value's
/// gradient reaches it, times the activation's slope there.
#[inline(always)]
pub fn unpool<S: Simd>(
    simd: S,
    (activation, pooling): (Activation, Pooling),
    window: Window<S::f32s>,
    gradient: S::f32s,
) -> Window<S::f32s> {
    let mut shares = window;
    match pooling {
        Pooling::Average => {
            let share = simd.mul_f32s(gradient, simd.splat_f32s(0.25));
            for k in 0..4 {
                shares[k] = simd.mul_f32s(share, slope(simd, activation, window[k]));
            }
        }
        Pooling::Max => {
            let max = pool(simd, pooling, window);
            let zero = simd.splat_f32s(0.0);
            // The first maximum takes all; nothing is left for later ones.
            let mut left = simd.mul_f32s(gradient, slope(simd, activation, max));
            for k in 0..3 {
                let is_max = simd.greater_than_or_equal_f32s(window[k], max);
                shares[k] = simd.select_f32s(is_max, left, zero);
                left = simd.select_f32s(is_max, zero, left);
            }
            shares[3] = left;
        }
    }
    shares
}
