//! A convolution along its rows with fewer multiplications: four neighbouring outputs of a kernel row of
//! five take 8 instead of 20.
//!
//! Winograd's F(4, 5) (Lavin and Gray 2016), from Toom and Cook's points 0, 1, -1, 2, -2, 1/2, -1/2 and
//! infinity: y = A' ((G w) * (B' x)) for outputs y (4), weights w (5) and inputs x (8), where * multiplies
//! element by element. What is summed over channels and rows is summed before A', so the transforms are
//! made once. The same three matrices give the gradients: w' = G' ((A y') * (B' x)) and
//! x' = B ((G w) * (A y')). So the weight and input gradients save as much, and the input gradient needs no
//! border along the row. In single precision the results are a few times less exact than a plain sum, far
//! inside the 1e-5 that the tests ask for; these points are no worse than the six of F(2, 5), as each
//! comes with its inverse.
//!
//! For a finite point p, row p of A is the powers of p, that of G the same divided by the product N of p's
//! differences to the other points, and that of B' the polynomial that is zero at the others. Points come
//! in pairs of two signs, which share their even and their odd terms.

use pulp::Simd;

/// Outputs of a tile, its inputs, and the products between.
pub const OUTPUTS: usize = 4;
pub const INPUTS: usize = 8;
pub const POINTS: usize = 8;
const TAPS: usize = 5;

/// p and 1 / N of the points 1 and 3, 2 and 4, 3 and 5: the odd ones have the opposite sign, and the same N.
const PAIRS: [(f32, f32); 3] = [(1.0, -2.0 / 9.0), (2.0, 1.0 / 90.0), (0.5, 32.0 / 45.0)];

/// G w.
pub fn weights(w: &[f32; TAPS]) -> [f32; POINTS] {
    let mut points = [0.0; POINTS];
    points[0] = -w[0];
    for (i, (p, scale)) in PAIRS.into_iter().enumerate() {
        let even = w[0] + p * p * (w[2] + p * p * w[4]);
        let odd = p * (w[1] + p * p * w[3]);
        points[1 + 2 * i] = scale * (even + odd);
        points[2 + 2 * i] = scale * (even - odd);
    }
    points[7] = w[4];
    points
}

/// G' m: what the gradients of the transformed weights give for the weights.
pub fn weights_gradient(m: &[f32; POINTS]) -> [f32; TAPS] {
    let mut w = [-m[0], 0.0, 0.0, 0.0, m[7]];
    for (i, (p, scale)) in PAIRS.into_iter().enumerate() {
        let (positive, negative) = (scale * m[1 + 2 * i], scale * m[2 + 2 * i]);
        let (sum, difference) = (positive + negative, p * (positive - negative));
        w[0] += sum;
        w[1] += difference;
        w[2] += p * p * sum;
        w[3] += p * p * difference;
        w[4] += p * p * p * p * sum;
    }
    w
}

#[inline(always)]
fn axpy<S: Simd>(simd: S, a: f32, x: S::f32s, y: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(a), x, y)
}

/// B' x.
#[inline(always)]
pub fn inputs<S: Simd>(simd: S, x: [S::f32s; INPUTS]) -> [S::f32s; POINTS] {
    let [x0, x1, x2, x3, x4, x5, x6, x7] = x;
    let even1 = axpy(simd, -4.25, x4, simd.add_f32s(x2, x6));
    let odd1 = axpy(simd, -4.25, x3, simd.add_f32s(x1, x5));
    let even2 = axpy(simd, 0.25, x2, axpy(simd, -1.25, x4, x6));
    let odd2 = axpy(simd, 0.25, x1, axpy(simd, -1.25, x3, x5));
    let even3 = axpy(simd, 4.0, x2, axpy(simd, -5.0, x4, x6));
    let odd3 = axpy(simd, 4.0, x1, axpy(simd, -5.0, x3, x5));
    [
        axpy(simd, 5.25, simd.sub_f32s(x2, x4), simd.sub_f32s(x6, x0)),
        simd.add_f32s(even1, odd1),
        simd.sub_f32s(even1, odd1),
        axpy(simd, 2.0, odd2, even2),
        axpy(simd, -2.0, odd2, even2),
        axpy(simd, 0.5, odd3, even3),
        axpy(simd, -0.5, odd3, even3),
        axpy(simd, 5.25, simd.sub_f32s(x3, x5), simd.sub_f32s(x7, x1)),
    ]
}

/// Sums and differences of the points of each pair.
#[inline(always)]
fn sums_and_differences<S: Simd>(simd: S, m: [S::f32s; POINTS]) -> ([S::f32s; 3], [S::f32s; 3]) {
    let sums = [simd.add_f32s(m[1], m[2]), simd.add_f32s(m[3], m[4]), simd.add_f32s(m[5], m[6])];
    let differences =
        [simd.sub_f32s(m[1], m[2]), simd.sub_f32s(m[3], m[4]), simd.sub_f32s(m[5], m[6])];
    (sums, differences)
}

/// B m: what each of the products' gradients gives for the inputs.
#[inline(always)]
pub fn inputs_gradient<S: Simd>(simd: S, m: [S::f32s; POINTS]) -> [S::f32s; INPUTS] {
    let ([sum1, sum2, sum3], [difference1, difference2, difference3]) =
        sums_and_differences(simd, m);
    let (first, last) = (m[0], m[7]);
    let zero = simd.splat_f32s(0.0);
    let even4 = axpy(simd, -1.25, sum2, axpy(simd, -5.0, sum3, zero));
    let both = simd.add_f32s(difference2, difference3);
    [
        simd.sub_f32s(zero, first),
        axpy(
            simd,
            0.5,
            difference2,
            axpy(simd, 2.0, difference3, simd.sub_f32s(difference1, last)),
        ),
        axpy(simd, 0.25, sum2, axpy(simd, 4.0, sum3, axpy(simd, 5.25, first, sum1))),
        axpy(simd, 5.25, last, axpy(simd, -4.25, difference1, axpy(simd, -2.5, both, zero))),
        axpy(simd, -5.25, first, axpy(simd, -4.25, sum1, even4)),
        axpy(
            simd,
            -5.25,
            last,
            axpy(simd, 2.0, difference2, axpy(simd, 0.5, difference3, difference1)),
        ),
        simd.add_f32s(simd.add_f32s(first, sum1), simd.add_f32s(sum2, sum3)),
        last,
    ]
}

/// A' m, and a bias.
#[inline(always)]
pub fn biased_outputs<S: Simd>(
    simd: S,
    mut m: [S::f32s; POINTS],
    bias: S::f32s,
) -> [S::f32s; OUTPUTS] {
    m[1] = simd.add_f32s(m[1], bias); // the powers of its point, 1, are all 1
    outputs(simd, m)
}

/// A' m.
#[inline(always)]
fn outputs<S: Simd>(simd: S, m: [S::f32s; POINTS]) -> [S::f32s; OUTPUTS] {
    let ([sum1, sum2, sum3], [difference1, difference2, difference3]) =
        sums_and_differences(simd, m);
    [
        simd.add_f32s(simd.add_f32s(m[0], sum1), simd.add_f32s(sum2, sum3)),
        axpy(simd, 2.0, difference2, axpy(simd, 0.5, difference3, difference1)),
        axpy(simd, 4.0, sum2, axpy(simd, 0.25, sum3, sum1)),
        axpy(
            simd,
            8.0,
            difference2,
            axpy(simd, 0.125, difference3, simd.add_f32s(difference1, m[7])),
        ),
    ]
}

/// One element of A y.
#[inline(always)]
pub fn outputs_gradient<S: Simd>(simd: S, point: usize, y: [S::f32s; OUTPUTS]) -> S::f32s {
    if point == 0 || point == POINTS - 1 {
        return if point == 0 { y[0] } else { y[OUTPUTS - 1] };
    }
    let (p, _) = PAIRS[(point - 1) / 2];
    let (even, odd) = (axpy(simd, p * p, y[2], y[0]), axpy(simd, p * p, y[3], y[1]));
    axpy(simd, if point % 2 == 1 { p } else { -p }, odd, even)
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
