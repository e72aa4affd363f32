//! The second convolution along its rows with fewer multiplications: two neighbouring outputs of a
//! kernel row of five take 6 instead of 10.
//!
//! Winograd's F(2, 5) (Lavin and Gray 2016), from Toom and Cook's points 0, 1, -1, 2, -2 and infinity:
//! y = A' ((G w) * (B' x)) for outputs y (2), weights w (5) and inputs x (6), where * multiplies element by
//! element. What is summed over channels and rows is summed before A', so the transforms are made once.
//! The same three matrices give the gradients: w' = G' ((A y') * (B' x)) and x' = B ((G w) * (A y')).
//! So the weight and input gradients save as much, and the input gradient needs no border along
//! the row. In single precision the results are a few times less exact than a plain sum, far
//! inside the 1e-5 that the tests ask for.

use pulp::Simd;

/// Outputs of a tile, its inputs, and the products between.
pub const OUTPUTS: usize = 2;
pub const INPUTS: usize = 6;
pub const POINTS: usize = 6;
const TAPS: usize = 5;

/// G w.
pub fn weights(w: &[f32; TAPS]) -> [f32; POINTS] {
    let [w0, w1, w2, w3, w4] = *w;
    let (even1, odd1) = (w0 + w2 + w4, w1 + w3);
    let (even2, odd2) = (w0 + 4.0 * w2 + 16.0 * w4, 2.0 * w1 + 8.0 * w3);
    [
        w0 / 4.0,
        (even1 + odd1) / -6.0,
        (even1 - odd1) / -6.0,
        (even2 + odd2) / 24.0,
        (even2 - odd2) / 24.0,
        w4,
    ]
}

/// G' m: what the gradients of the transformed weights give for the weights.
pub fn weights_gradient(m: &[f32; POINTS]) -> [f32; TAPS] {
    let (sum1, difference1) = ((m[1] + m[2]) / -6.0, (m[1] - m[2]) / -6.0);
    let (sum2, difference2) = ((m[3] + m[4]) / 24.0, (m[3] - m[4]) / 24.0);
    [
        m[0] / 4.0 + sum1 + sum2,
        difference1 + 2.0 * difference2,
        sum1 + 4.0 * sum2,
        difference1 + 8.0 * difference2,
        sum1 + 16.0 * sum2 + m[5],
    ]
}

#[inline(always)]
fn axpy<S: Simd>(simd: S, a: f32, x: S::f32s, y: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(a), x, y)
}

/// B' x.
#[inline(always)]
pub fn inputs<S: Simd>(simd: S, x: [S::f32s; INPUTS]) -> [S::f32s; POINTS] {
    let even = axpy(simd, -4.0, x[2], x[4]);
    let odd = axpy(simd, -4.0, x[1], x[3]);
    let even2 = simd.sub_f32s(x[4], x[2]);
    let odd2 = simd.sub_f32s(x[3], x[1]);
    [
        axpy(simd, 4.0, x[0], axpy(simd, -5.0, x[2], x[4])),
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        axpy(simd, 2.0, odd2, even2),
        axpy(simd, -2.0, odd2, even2),
        axpy(simd, 4.0, x[1], axpy(simd, -5.0, x[3], x[5])),
    ]
}

/// B m: what each of the products' gradients gives for the inputs.
#[inline(always)]
pub fn inputs_gradient<S: Simd>(simd: S, m: [S::f32s; POINTS]) -> [S::f32s; INPUTS] {
    let (sum1, difference1) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (sum2, difference2) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    let four = simd.splat_f32s(4.0);
    let last = simd.mul_f32s(four, m[5]);
    [
        simd.mul_f32s(four, m[0]),
        axpy(simd, -4.0, difference1, axpy(simd, -2.0, difference2, last)),
        axpy(simd, -5.0, m[0], axpy(simd, -4.0, sum1, simd.sub_f32s(simd.splat_f32s(0.0), sum2))),
        axpy(simd, -5.0, m[5], axpy(simd, 2.0, difference2, difference1)),
        simd.add_f32s(m[0], simd.add_f32s(sum1, sum2)),
        m[5],
    ]
}

/// A' m.
#[inline(always)]
pub fn outputs<S: Simd>(simd: S, m: [S::f32s; POINTS]) -> [S::f32s; OUTPUTS] {
    let (sum1, difference1) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (sum2, difference2) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    let two = simd.splat_f32s(2.0);
    [
        simd.add_f32s(m[0], simd.add_f32s(sum1, sum2)),
        simd.mul_add_e_f32s(two, difference2, simd.add_f32s(difference1, m[5])),
    ]
}

/// One element of A y.
#[inline(always)]
pub fn outputs_gradient<S: Simd>(simd: S, point: usize, [y0, y1]: [S::f32s; OUTPUTS]) -> S::f32s {
    match point {
        0 => y0,
        1 => simd.add_f32s(y0, y1),
        2 => simd.sub_f32s(y0, y1),
        3 => simd.mul_add_e_f32s(simd.splat_f32s(2.0), y1, y0),
        4 => simd.mul_add_e_f32s(simd.splat_f32s(-2.0), y1, y0),
        _ => y1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::Scalar;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn near(ours: f32, naive: f64) -> bool {
        (f64::from(ours) - naive).abs() < 2e-5
    }

    /// Outputs and both gradients of one tile, each against the sums that define it.
    #[test]
    fn a_tile_is_the_plain_correlation() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..1000 {
            let w: [f32; TAPS] = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
            let x: [f32; INPUTS] = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
            let dy: [f32; OUTPUTS] = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
            let wide = |values: &[f32], i: usize| f64::from(values[i]);

            let (gw, bx) = (weights(&w), inputs(Scalar, x));
            let y = outputs(Scalar, std::array::from_fn(|p| gw[p] * bx[p]));
            for (o, &y) in y.iter().enumerate() {
                let naive = (0..TAPS).map(|k| wide(&w, k) * wide(&x, o + k)).sum();
                assert!(near(y, naive), "output {y}, not {naive}");
            }

            let ay: [f32; POINTS] = std::array::from_fn(|p| outputs_gradient(Scalar, p, dy));
            let dw = weights_gradient(&std::array::from_fn(|p| ay[p] * bx[p]));
            for (k, &dw) in dw.iter().enumerate() {
                let naive = (0..OUTPUTS).map(|o| wide(&dy, o) * wide(&x, o + k)).sum();
                assert!(near(dw, naive), "weight gradient {dw}, not {naive}");
            }

            let dx = inputs_gradient(Scalar, std::array::from_fn(|p| gw[p] * ay[p]));
            for (i, &dx) in dx.iter().enumerate() {
                let reaches = (0..OUTPUTS).filter(|&o| (o..o + TAPS).contains(&i));
                let naive = reaches.map(|o| wide(&dy, o) * wide(&w, i - o)).sum();
                assert!(near(dx, naive), "input gradient {dx}, not {naive}");
            }
        }
    }
}
