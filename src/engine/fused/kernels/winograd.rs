//! A convolution along its rows with fewer multiplications: four neighbouring outputs of a kernel row of
//! five take 8 instead of 20.
//!
//! Winograd's F(4, 5) (Lavin and Gray 2016), from Toom and Cook's points 0, infinity, 1, -1, 2, -2, 1/2 and
//! -1/2: y = A' ((G w) * (B' x)) for outputs y (4), weights w (5) and inputs x (8), where * multiplies
//! element by element. What is summed over channels and rows is summed before A', so the transforms are
//! made once. The same three matrices give the gradients: w' = G' ((A y') * (B' x)) and
//! x' = B ((G w) * (A y')). So the weight and input gradients save as much, and the input gradient needs no
//! border along the row. In single precision the results are a few times less exact than a plain sum, far
//! inside the 1e-5 that the tests ask for; these points are no worse than six for two outputs, as each comes
//! with its inverse.
//!
//! For a finite point p, row p of A is the powers of p, that of G the same divided by the product N of p's
//! differences to the other points, and that of B' the polynomial that is zero at the others. Points come
//! in pairs of two signs, which share their even and their odd terms.
//!
//! Where two outputs are left at the end of a row, a narrow tile does without the last pair: F(2, 5). It
//! uses the same G, whose N includes the last pair's factor p^2 - 1/4; its B' is multiplied by that factor instead.

use pulp::Simd;

/// Outputs of a tile, its inputs, and the products between.
pub const OUTPUTS: usize = 4;
pub const INPUTS: usize = 8;
pub const POINTS: usize = 8;
const TAPS: usize = 5;

/// The same of a narrow tile; its points are the first ones.
pub const NARROW_OUTPUTS: usize = 2;
pub const NARROW_INPUTS: usize = 6;
pub const NARROW_POINTS: usize = 6;

/// Places of two of the points; zero comes first, and the pairs after infinity.
const INFINITY: usize = 1;
pub const ONE: usize = place(0);

/// p and 1 / N of each pair: its second point is -p and has the same N.
const PAIRS: [(f32, f32); 3] = [(1.0, -2.0 / 9.0), (2.0, 1.0 / 90.0), (0.5, 32.0 / 45.0)];

/// Place of a pair's first point, which its second one follows.
const fn place(pair: usize) -> usize {
    INFINITY + 1 + 2 * pair
}

/// G w.
pub fn weights(w: &[f32; TAPS]) -> [f32; POINTS] {
    let mut points = [0.0; POINTS];
    points[0] = -w[0];
    for (i, (p, scale)) in PAIRS.into_iter().enumerate() {
        let even = w[0] + p * p * (w[2] + p * p * w[4]);
        let odd = p * (w[1] + p * p * w[3]);
        points[place(i)] = scale * (even + odd);
        points[place(i) + 1] = scale * (even - odd);
    }
    points[INFINITY] = w[4];
    points
}

/// G' m: what the gradients of the transformed weights give for the weights.
pub fn weights_gradient(m: &[f32; POINTS]) -> [f32; TAPS] {
    let mut w = [-m[0], 0.0, 0.0, 0.0, m[INFINITY]];
    for (i, (p, scale)) in PAIRS.into_iter().enumerate() {
        let (positive, negative) = (scale * m[place(i)], scale * m[place(i) + 1]);
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
        axpy(simd, 5.25, simd.sub_f32s(x3, x5), simd.sub_f32s(x7, x1)),
        simd.add_f32s(even1, odd1),
        simd.sub_f32s(even1, odd1),
        axpy(simd, 2.0, odd2, even2),
        axpy(simd, -2.0, odd2, even2),
        axpy(simd, 0.5, odd3, even3),
        axpy(simd, -0.5, odd3, even3),
    ]
}

/// B' x of a narrow tile.
#[inline(always)]
pub fn narrow_inputs<S: Simd>(simd: S, x: [S::f32s; NARROW_INPUTS]) -> [S::f32s; NARROW_POINTS] {
    let [x0, x1, x2, x3, x4, x5] = x;
    let zero = simd.splat_f32s(0.0);
    let even1 = axpy(simd, -4.0, x2, x4);
    let odd1 = axpy(simd, -4.0, x1, x3);
    let (even2, odd2) = (simd.sub_f32s(x4, x2), simd.sub_f32s(x3, x1));
    [
        axpy(simd, 1.25, x2, axpy(simd, -0.25, x4, simd.sub_f32s(zero, x0))),
        axpy(simd, 4.0, x1, axpy(simd, -5.0, x3, x5)),
        axpy(simd, 0.75, simd.add_f32s(even1, odd1), zero),
        axpy(simd, 0.75, simd.sub_f32s(even1, odd1), zero),
        axpy(simd, 3.75, axpy(simd, 2.0, odd2, even2), zero),
        axpy(simd, 3.75, axpy(simd, -2.0, odd2, even2), zero),
    ]
}

/// Sums and differences of the points of each pair.
#[inline(always)]
fn sums_and_differences<S: Simd>(simd: S, m: [S::f32s; POINTS]) -> ([S::f32s; 3], [S::f32s; 3]) {
    let [_, _, a, b, c, d, e, f] = m;
    let sums = [simd.add_f32s(a, b), simd.add_f32s(c, d), simd.add_f32s(e, f)];
    let differences = [simd.sub_f32s(a, b), simd.sub_f32s(c, d), simd.sub_f32s(e, f)];
    (sums, differences)
}

/// B m: what each of the products' gradients gives for the inputs.
#[inline(always)]
pub fn inputs_gradient<S: Simd>(simd: S, m: [S::f32s; POINTS]) -> [S::f32s; INPUTS] {
    let ([sum1, sum2, sum3], [difference1, difference2, difference3]) =
        sums_and_differences(simd, m);
    let (first, last) = (m[0], m[INFINITY]);
    let zero = simd.splat_f32s(0.0);
    let even4 = axpy(simd, -1.25, sum2, axpy(simd, -5.0, sum3, zero));
    let both = simd.add_f32s(difference2, difference3);
    let odd1 = axpy(simd, 2.0, difference3, simd.sub_f32s(difference1, last));
    let odd5 = axpy(simd, 2.0, difference2, axpy(simd, 0.5, difference3, difference1));
    [
        simd.sub_f32s(zero, first),
        axpy(simd, 0.5, difference2, odd1),
        axpy(simd, 0.25, sum2, axpy(simd, 4.0, sum3, axpy(simd, 5.25, first, sum1))),
        axpy(simd, 5.25, last, axpy(simd, -4.25, difference1, axpy(simd, -2.5, both, zero))),
        axpy(simd, -5.25, first, axpy(simd, -4.25, sum1, even4)),
        axpy(simd, -5.25, last, odd5),
        simd.add_f32s(simd.add_f32s(first, sum1), simd.add_f32s(sum2, sum3)),
        last,
    ]
}

/// B m of a narrow tile, which leaves its last pair out.
#[inline(always)]
pub fn narrow_inputs_gradient<S: Simd>(simd: S, m: [S::f32s; POINTS]) -> [S::f32s; NARROW_INPUTS] {
    let ([sum1, sum2, _], [difference1, difference2, _]) = sums_and_differences(simd, m);
    let (first, last) = (m[0], m[INFINITY]);
    let zero = simd.splat_f32s(0.0);
    let (even, odd) = (axpy(simd, 3.75, sum2, zero), axpy(simd, 7.5, difference2, zero));
    [
        simd.sub_f32s(zero, first),
        axpy(simd, 4.0, last, axpy(simd, -3.0, difference1, simd.sub_f32s(zero, odd))),
        axpy(simd, 1.25, first, axpy(simd, -3.0, sum1, simd.sub_f32s(zero, even))),
        axpy(simd, -5.0, last, axpy(simd, 0.75, difference1, odd)),
        axpy(simd, -0.25, first, axpy(simd, 0.75, sum1, even)),
        last,
    ]
}

/// A' m, and a bias. A narrow tile has zeros for its last pair, and only the first two outputs.
#[inline(always)]
pub fn biased_outputs<S: Simd>(
    simd: S,
    mut m: [S::f32s; POINTS],
    bias: S::f32s,
    narrow: bool,
) -> [S::f32s; OUTPUTS] {
    m[ONE] = simd.add_f32s(m[ONE], bias); // the powers of 1 are all 1
    let ([sum1, sum2, sum3], [difference1, difference2, difference3]) =
        sums_and_differences(simd, m);
    let odd1 = axpy(simd, 2.0, difference2, axpy(simd, 0.5, difference3, difference1));
    let odd3 = axpy(simd, 8.0, difference2, axpy(simd, 0.125, difference3, difference1));
    [
        simd.add_f32s(simd.add_f32s(m[0], sum1), simd.add_f32s(sum2, sum3)),
        if narrow { simd.add_f32s(odd1, m[INFINITY]) } else { odd1 },
        axpy(simd, 4.0, sum2, axpy(simd, 0.25, sum3, sum1)),
        simd.add_f32s(odd3, m[INFINITY]),
    ]
}

/// One element of A y. A narrow tile has zeros for its last two outputs, and no last pair.
#[inline(always)]
pub fn outputs_gradient<S: Simd>(
    simd: S,
    point: usize,
    y: [S::f32s; OUTPUTS],
    narrow: bool,
) -> S::f32s {
    match point {
        0 => y[0],
        INFINITY if narrow => y[NARROW_OUTPUTS - 1],
        INFINITY => y[OUTPUTS - 1],
        _ => {
            let pair = (point - ONE) / 2;
            let (p, _) = PAIRS[pair];
            let (even, odd) = (axpy(simd, p * p, y[2], y[0]), axpy(simd, p * p, y[3], y[1]));
            axpy(simd, if point == place(pair) { p } else { -p }, odd, even)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::Scalar;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// What the transforms make of one tile of `OUTPUTS` outputs and `INPUTS` inputs.
    struct Tile<const OUTPUTS: usize, const INPUTS: usize> {
        narrow: bool,
        inputs: fn([f32; INPUTS]) -> [f32; POINTS],
        inputs_gradient: fn([f32; POINTS]) -> [f32; INPUTS],
    }

    impl<const OUTPUTS: usize, const INPUTS: usize> Tile<OUTPUTS, INPUTS> {
        /// Outputs and both gradients, each against the sums that define it.
        fn check(&self) {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            for _ in 0..1000 {
                let w: [f32; TAPS] = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
                let x: [f32; INPUTS] = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
                let dy: [f32; OUTPUTS] = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
                let wide = |values: &[f32], i: usize| f64::from(values[i]);

                let (gw, bx) = (weights(&w), (self.inputs)(x));
                let m = std::array::from_fn(|p| gw[p] * bx[p]);
                let y = biased_outputs(Scalar, m, 0.5, self.narrow);
                for (o, &y) in y[..OUTPUTS].iter().enumerate() {
                    let naive = (0..TAPS).map(|k| wide(&w, k) * wide(&x, o + k)).sum::<f64>();
                    assert_near("output", y, 0.5 + naive);
                }

                let mut padded = [0.0; super::OUTPUTS];
                padded[..OUTPUTS].copy_from_slice(&dy);
                let points = if self.narrow { NARROW_POINTS } else { POINTS };
                let mut ay = [0.0; POINTS];
                for (p, ay) in ay[..points].iter_mut().enumerate() {
                    *ay = outputs_gradient(Scalar, p, padded, self.narrow);
                }
                let dw = weights_gradient(&std::array::from_fn(|p| ay[p] * bx[p]));
                for (k, &dw) in dw.iter().enumerate() {
                    let naive = (0..OUTPUTS).map(|o| wide(&dy, o) * wide(&x, o + k)).sum();
                    assert_near("weight gradient", dw, naive);
                }

                let dx = (self.inputs_gradient)(std::array::from_fn(|p| gw[p] * ay[p]));
                for (i, &dx) in dx.iter().enumerate() {
                    let reaches = (0..OUTPUTS).filter(|&o| (o..o + TAPS).contains(&i));
                    let naive = reaches.map(|o| wide(&dy, o) * wide(&w, i - o)).sum();
                    assert_near("input gradient", dx, naive);
                }
            }
        }
    }

    #[track_caller]
    fn assert_near(what: &str, ours: f32, naive: f64) {
        assert!((f64::from(ours) - naive).abs() < 2e-5, "{what} {ours}, not {naive}");
    }

    #[test]
    fn a_tile_is_the_plain_correlation() {
        Tile::<OUTPUTS, INPUTS> {
            narrow: false,
            inputs: |x| inputs(Scalar, x),
            inputs_gradient: |m| inputs_gradient(Scalar, m),
        }
        .check();
    }

    #[test]
    fn a_narrow_tile_is_the_plain_correlation() {
        Tile::<NARROW_OUTPUTS, NARROW_INPUTS> {
            narrow: true,
            inputs: |x| {
                let mut points = [0.0; POINTS];
                points[..NARROW_POINTS].copy_from_slice(&narrow_inputs(Scalar, x));
                points
            },
            inputs_gradient: |m| narrow_inputs_gradient(Scalar, m),
        }
        .check();
    }
}
