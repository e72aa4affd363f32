//! An optimizer step in one pass over the parameters; `optimizer` defines what it computes.

use crate::engine::fused::threads::{Pool, WorkQueues};
use crate::engine::fused::vectors::memory::take;
use crate::optimizer::{BETA1, BETA2, EPSILON, Rule, Step, flushed};
use pulp::{Simd, WithSimd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Writes parameters and averages, (1 + averages, n), after a step over `next`; says whether all of
/// them are finite. Plain loops, which the compiler makes vectors of.
pub struct FusedStep<'a> {
    pub step: Step,
    pub pool: &'a Pool,
    pub now: &'a [f32],
    pub gradient: &'a [f32],
    pub next: &'a mut [f32],
}

/// Parameters that a thread takes at a time.
pub const PIECE: usize = 4096;

/// Parameters, and averages of an optimizer that keeps so many; no rule keeps more than two.
type Rows<T> = [T; 3];

impl WithSimd for FusedStep<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let FusedStep { step, pool, now, gradient, next } = self;
        let n = gradient.len();
        let (mut now, mut next) = (now.chunks_exact(n), next.chunks_exact_mut(n));
        let now: Rows<_> = std::array::from_fn(|_| now.next().unwrap_or_default());
        let mut next: Rows<_> = std::array::from_fn(|_| next.next().unwrap_or_default());
        let middle = n / 2;
        let now0 = now.map(|row: &[f32]| &row[..middle.min(row.len())]);
        let now1 = now.map(|row| &row[middle.min(row.len())..]);
        let first = next.each_mut().map(|row| take(row, middle.min(row.len())));
        let (gradient0, gradient1) = gradient.split_at(middle);
        let queues = [pieces(now0, gradient0, first), pieces(now1, gradient1, next)];
        let threads = pool.threads_after(n.div_ceil(PIECE));
        let finite = AtomicBool::new(true);
        WorkQueues::new(queues).share(
            simd,
            pool,
            threads,
            #[inline(always)]
            |(now, gradient, next)| {
                if !apply(step, now, gradient, next) {
                    finite.store(false, Ordering::Relaxed);
                }
            },
        );
        finite.into_inner()
    }
}

/// Rows in pieces.
fn pieces<'a>(
    now: Rows<&'a [f32]>,
    gradient: &'a [f32],
    next: Rows<&'a mut [f32]>,
) -> impl Iterator<Item = (Rows<&'a [f32]>, &'a [f32], Rows<&'a mut [f32]>)> {
    let mut now = now.map(|row| row.chunks(PIECE));
    let mut next = next.map(|row| row.chunks_mut(PIECE));
    gradient.chunks(PIECE).map(move |gradient| {
        let now = now.each_mut().map(|row| row.next().unwrap_or_default());
        let next = next.each_mut().map(|row| row.next().unwrap_or_default());
        (now, gradient, next)
    })
}

/// One row after the other. The parameters come last: other threads have read them, so a store there waits until their
/// cores let go of the cache line, and later stores wait behind it.
#[inline(always)]
fn apply(step: Step, now: Rows<&[f32]>, gradient: &[f32], next: Rows<&mut [f32]>) -> bool {
    let rate = step.learning_rate as f32;
    let decay = step.optimizer.weight_decay as f32;
    let ([flat, now1, now2], [next, next1, next2]) = (now, next);
    let mut finite = true;
    match step.optimizer.rule {
        Rule::Sgd if now1.is_empty() => {
            for ((next, &w), &g) in next.iter_mut().zip(flat).zip(gradient) {
                *next = w - (g + w * decay) * rate;
                finite &= next.is_finite();
            }
        }
        Rule::Sgd => {
            let momentum = step.optimizer.momentum as f32;
            for ((next_v, v), (&w, &g)) in next1.iter_mut().zip(now1).zip(flat.iter().zip(gradient))
            {
                *next_v = flushed(v * momentum + (g + w * decay));
                finite &= next_v.is_finite();
            }
            for ((next, &w), &v) in next.iter_mut().zip(flat).zip(&*next1) {
                *next = w - v * rate;
                finite &= next.is_finite();
            }
        }
        Rule::AdamW => {
            let (mean_correction, square_correction) = step.bias_corrections();
            let keep = (1.0 - step.learning_rate * step.optimizer.weight_decay) as f32;
            let rate = (step.learning_rate / mean_correction) as f32;
            let scale = (1.0 / square_correction.sqrt()) as f32;
            let (beta1, beta2, epsilon) = (BETA1 as f32, BETA2 as f32, EPSILON as f32);
            let (share1, share2) = ((1.0 - BETA1) as f32, (1.0 - BETA2) as f32);
            for ((next_m, m), &g) in next1.iter_mut().zip(now1).zip(gradient) {
                *next_m = flushed(m * beta1 + g * share1);
                finite &= next_m.is_finite();
            }
            for ((next_s, s), &g) in next2.iter_mut().zip(now2).zip(gradient) {
                *next_s = flushed(s * beta2 + g * g * share2);
                finite &= next_s.is_finite();
            }
            for ((next, &w), (m, s)) in next.iter_mut().zip(flat).zip(next1.iter().zip(&*next2)) {
                *next = w * keep - m / (s.sqrt() * scale + epsilon) * rate;
                finite &= next.is_finite();
            }
        }
    }
    finite
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fused::every_level;
    use crate::optimizer::Optimizer;
    use candle_core::{Device, Tensor};
    use pulp::Arch;

    #[test]
    fn it_is_what_candles_operations_give() {
        let wave = |n: usize, f: f32| (0..n).map(|i| (i as f32 * f).sin()).collect::<Vec<f32>>();
        for (rule, momentum, weight_decay) in [
            (Rule::Sgd, 0.0, 0.0),
            (Rule::Sgd, 0.0, 0.01),
            (Rule::Sgd, 0.9, 0.001),
            (Rule::AdamW, 0.0, 0.01),
        ] {
            let optimizer = Optimizer { rule, momentum, weight_decay };
            let rows = 1 + optimizer.state_names().len();
            for n in [1, 7, 8, 1003, 2 * PIECE + 3] {
                for number in [1, 2, 1000] {
                    // Every third average so small that the step makes it subnormal.
                    let mut now = wave(rows * n, 0.37);
                    now.iter_mut().skip(n).step_by(3).for_each(|average| *average *= 1.1e-38);
                    now.iter_mut().skip(2 * n).for_each(|square| *square = square.abs());
                    let mut gradient = wave(n, 0.11);
                    gradient.iter_mut().step_by(3).for_each(|gradient| *gradient *= 1e-39);
                    let rule = Step { optimizer, number, learning_rate: 0.02 };
                    let tensor = Tensor::from_slice(&now, (rows, n), &Device::Cpu).unwrap();
                    let oracle = Tensor::from_slice(&gradient, n, &Device::Cpu).unwrap();
                    let oracle = rule.apply(&tensor, &oracle).unwrap();
                    let oracle: Vec<f32> = oracle.flatten_all().unwrap().to_vec1().unwrap();
                    for arch in every_level() {
                        let mut next = vec![0.0; rows * n];
                        let next = &mut next;
                        let (now, gradient) = (&*now, &*gradient);
                        let pool = &Pool::new(2);
                        pool.run(2, &|_| ());
                        let ours = FusedStep { step: rule, pool, now, gradient, next };
                        assert!(arch.dispatch(ours));
                        for (ours, oracle) in next.iter().zip(&oracle) {
                            let error = (ours - oracle).abs();
                            assert!(error <= 4e-7, "{rule:?}: {ours}, not {oracle}");
                        }
                        for (ours, oracle) in next.iter().zip(&oracle).skip(n) {
                            assert!(!ours.is_subnormal() && !oracle.is_subnormal(), "{rule:?}");
                        }
                    }
                    let mut broken = gradient;
                    broken[n / 2] = f32::INFINITY;
                    let (gradient, pool) = (&*broken, &Pool::new(2));
                    let next = &mut vec![0.0; rows * n];
                    let ours = FusedStep { step: rule, pool, now: &now, gradient, next };
                    assert!(!Arch::new().dispatch(ours));
                }
            }
        }
    }
}
