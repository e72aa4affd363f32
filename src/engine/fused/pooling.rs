//! Pooling of 2x2 windows, and the way back through pooling and activation at once.

use super::activations::slope;
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
        Pooling::Max => first_max(simd, first_max(simd, a, b), first_max(simd, c, d)),
    }
}

/// `a` unless `b` is larger; NaN if one of them is.
#[inline(always)]
fn first_max<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
    let unordered = simd.add_f32s(a, b);
    let b_or_nan = simd.select_f32s(simd.less_than_f32s(a, b), b, unordered);
    simd.select_f32s(simd.greater_than_or_equal_f32s(a, b), a, b_or_nan)
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
    let zero = simd.splat_f32s(0.0);
    let mut shares = [simd.mul_f32s(gradient, simd.splat_f32s(0.25)); 4];
    if pooling == Pooling::Max {
        let max = pool(simd, pooling, window);
        // The first maximum takes all; nothing is left for later ones.
        let mut left = gradient;
        for k in 0..4 {
            let is_max = simd.greater_than_or_equal_f32s(window[k], max);
            shares[k] = simd.select_f32s(is_max, left, zero);
            left = simd.select_f32s(is_max, zero, left);
        }
    }
    for k in 0..4 {
        shares[k] = simd.mul_f32s(shares[k], slope(simd, activation, window[k]));
    }
    shares
}
