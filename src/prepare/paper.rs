//! The paper under a glyph: how bright it is everywhere, and how much it strays from that.
//!
//! Light falls off smoothly, so paper is a quadratic surface in the two directions, fitted by least trimmed
//! squares: to the half of the samples that fits best, again and again, beginning with the densest half of the
//! grey values. (Rousseeuw and Van Driessen, "Computing LTS regression for large data sets", 2006, call one
//! such turn a C-step.) Whatever is less than half of a picture, ink, a dark border, a shadow, does not bend it.

use super::cells::Cells;

/// Samples in each direction, at most. They are single cells, not means, which would mix paper with ink.
const SAMPLES: usize = 24;

/// 1, x, y, x^2, x y, y^2, where x and y go from -1 to 1.
const TERMS: usize = 6;
const PLANE: usize = 3;

/// In turn of fits: a plane first, which a poor beginning cannot bend.
const TURNS: [usize; 6] = [PLANE, PLANE, PLANE, TERMS, TERMS, TERMS];

/// The 30th percentile of the absolute value of a normal variable with standard deviation 1. A low one,
/// because up to half of the samples are no paper.
const PERCENTILE_30: f64 = 0.385;

pub struct Paper {
    coefficients: [f64; TERMS],
    /// Standard deviation of the paper's grey around the surface.
    pub noise: f64,
}

struct Sample {
    terms: [f64; TERMS],
    gray: f64,
    residual: f64,
}

impl Paper {
    pub fn estimate(cells: &Cells) -> Self {
        let mut samples = samples(cells);
        let half = samples.len().div_ceil(2);
        let mut grays: Vec<f64> = samples.iter().map(|sample| sample.gray).collect();
        grays.sort_unstable_by(f64::total_cmp);
        let [low, high] = densest(&grays, half);
        // Before the first fit, a sample's residual is its distance to that half's middle.
        let middle = f64::midpoint(low, high);
        samples.iter_mut().for_each(|sample| sample.residual = (sample.gray - middle).abs());
        for terms in TURNS {
            let limit = residual_of_rank(&samples, half);
            let coefficients = fit(&samples, terms, |sample| sample.residual <= limit);
            samples.iter_mut().for_each(|sample| sample.update(&coefficients));
        }
        let noise = residual_of_rank(&samples, (3 * samples.len()).div_ceil(10)) / PERCENTILE_30;
        // What is left of the paper too, now that ink can be told from it.
        let limit = (3.0 * noise).max(2.0);
        let coefficients = fit(&samples, TERMS, |sample| sample.residual <= limit);
        Paper { coefficients, noise }
    }

    /// Writes the paper's grey along row `y` of so many, rounded.
    pub fn row(&self, y: usize, height: usize, out: &mut [u8]) {
        let y = place(y, height);
        let [one, x1, y1, x2, xy, y2] = self.coefficients;
        let (constant, slope) = (one + y1 * y + y2 * y * y, x1 + xy * y);
        let gray = |x: f64| constant + (slope + x2 * x) * x;
        // A parabola by differences, in units of 2^-44: two sums a cell, where a product, a limit and a
        // conversion of floating-point numbers take several times as long. The error of 256 cells is 2^-30.
        const BITS: i32 = 44;
        let fixed = |value: f64| (value * f64::powi(2.0, BITS)) as i64;
        let step = 2.0 / out.len() as f64;
        let first = place(0, out.len());
        let mut value = fixed(gray(first) + 0.5);
        let mut difference = fixed((slope + x2 * (2.0 * first + step)) * step);
        let second = fixed(2.0 * x2 * step * step);
        for out in out {
            *out = (value >> BITS).clamp(0, 255) as u8;
            value = value.wrapping_add(difference);
            difference = difference.wrapping_add(second);
        }
    }
}

impl Sample {
    fn update(&mut self, coefficients: &[f64; TERMS]) {
        let paper: f64 = self.terms.iter().zip(coefficients).map(|(t, c)| t * c).sum();
        self.residual = (self.gray - paper).abs();
    }
}

/// The middle of cell `i` of `n`, from -1 to 1.
fn place(i: usize, n: usize) -> f64 {
    (2 * i + 1) as f64 / n as f64 - 1.0
}

fn samples(cells: &Cells) -> Vec<Sample> {
    let [height, width] = cells.size();
    let step = height.max(width).div_ceil(SAMPLES);
    let along = |n: usize| (step.min(n) / 2..n).step_by(step);
    let mut samples = Vec::with_capacity(SAMPLES * SAMPLES);
    for row in along(height) {
        let y = place(row, height);
        for column in along(width) {
            let x = place(column, width);
            let gray = f64::from(cells.gray()[row * width + column]);
            samples.push(Sample { terms: [1.0, x, y, x * x, x * y, y * y], gray, residual: 0.0 });
        }
    }
    samples
}

/// The first of the narrowest intervals that hold `n` of the sorted values.
fn densest(sorted: &[f64], n: usize) -> [f64; 2] {
    let ends = |values: &[f64]| [values[0], values[n - 1]];
    let width = |[low, high]: [f64; 2]| high - low;
    let narrowest = sorted.windows(n).map(ends).min_by(|&a, &b| width(a).total_cmp(&width(b)));
    narrowest.unwrap_or([0.0, 255.0])
}

/// The `rank`-th smallest residual, counted from 1.
fn residual_of_rank(samples: &[Sample], rank: usize) -> f64 {
    let mut residuals: Vec<f64> = samples.iter().map(|sample| sample.residual).collect();
    *residuals.select_nth_unstable_by(rank - 1, f64::total_cmp).1
}

/// Least squares of the first `terms` terms over the samples that are `in`, with a ridge of 1e-4 a sample on all
/// but the constant, for pictures of one row or few samples.
fn fit(samples: &[Sample], terms: usize, is_in: impl Fn(&Sample) -> bool) -> [f64; TERMS] {
    let mut matrix = [[0.0; TERMS]; TERMS];
    let mut right = [0.0; TERMS];
    let mut count = 0.0;
    for sample in samples.iter().filter(|sample| is_in(sample)) {
        count += 1.0;
        let sums = matrix.iter_mut().zip(&mut right).zip(&sample.terms).take(terms);
        for (i, ((row, right), own)) in sums.enumerate() {
            *right += own * sample.gray;
            for (sum, term) in row.iter_mut().zip(&sample.terms[..=i]) {
                *sum += own * term;
            }
        }
    }
    (1..terms).for_each(|i| matrix[i][i] += 1e-4 * count);
    solve(matrix, right, terms)
}

/// Solves the first `n` equations of a symmetric, positive definite matrix, given by its lower half, by
/// Cholesky's decomposition. What is beyond `n` is 0.
fn solve(mut a: [[f64; TERMS]; TERMS], mut b: [f64; TERMS], n: usize) -> [f64; TERMS] {
    for i in 0..n {
        for j in 0..=i {
            let product: f64 = (0..j).map(|k| a[i][k] * a[j][k]).sum();
            let rest = a[i][j] - product;
            a[i][j] = if i == j { rest.sqrt() } else { rest / a[j][j] };
        }
    }
    for i in 0..n {
        let product: f64 = (0..i).map(|k| a[i][k] * b[k]).sum();
        b[i] = (b[i] - product) / a[i][i];
    }
    for i in (0..n).rev() {
        let product: f64 = (i + 1..n).map(|k| a[k][i] * b[k]).sum();
        b[i] = (b[i] - product) / a[i][i];
    }
    b
}
