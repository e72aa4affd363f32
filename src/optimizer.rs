//! The update rules, as PyTorch defines them, over the flat parameter vector.
//!
//! A step reads one set of weights and writes another, so a step that fails or diverges changes
//! nothing. Candle's own optimizers do not serve: its SGD has no momentum, and AdamW's state cannot
//! be read back and saved.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// By the names that they have in model files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// `torch.optim.SGD`, dampening 0, no Nesterov.
    Sgd,
    /// `torch.optim.AdamW` with its default betas and epsilon (Loshchilov and Hutter 2019).
    AdamW,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimizer {
    pub rule: Rule,
    /// Of SGD; 0 keeps no state.
    pub momentum: f64,
    pub weight_decay: f64,
}

/// Where steps and epochs stop being counted: nobody trains that long, but a forged file may begin
/// there. Other programs read the numbers as signed.
pub const MAX_COUNT: u64 = i64::MAX as u64;

/// One step of an optimizer: its number, counted from 1, and the learning rate.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub optimizer: Optimizer,
    pub number: u64,
    pub learning_rate: f64,
}

/// PyTorch's defaults for AdamW.
pub const BETA1: f64 = 0.9;
pub const BETA2: f64 = 0.999;
pub const EPSILON: f64 = 1e-8;

impl Optimizer {
    /// The names of the running averages that the rule keeps, PyTorch's own.
    pub fn state_names(&self) -> &'static [&'static str] {
        match self.rule {
            Rule::Sgd if self.momentum == 0.0 => &[],
            Rule::Sgd => &["momentum_buffer"],
            Rule::AdamW => &["exp_avg", "exp_avg_sq"],
        }
    }
}

impl Step {
    /// What the averages are divided by because they began at zero.
    pub fn bias_corrections(&self) -> (f64, f64) {
        let power = |beta: f64| 1.0 - beta.powf(self.number as f64);
        (power(BETA1), power(BETA2))
    }

    /// From `now`, (1 + averages, n), and the gradient (n) to the same after the step, in candle's
    /// operations: for any device, and the definition for others.
    pub fn apply(&self, now: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let Optimizer { rule, momentum, weight_decay } = self.optimizer;
        let flat = now.get(0)?;
        let average = |i: usize| now.get(1 + i);
        match rule {
            Rule::Sgd => {
                let gradient = match weight_decay {
                    0.0 => gradient.clone(),
                    decay => (gradient + (&flat * decay)?)?,
                };
                if momentum == 0.0 {
                    return (flat - (gradient * self.learning_rate)?)?.unsqueeze(0);
                }
                let velocity = flush(&((average(0)? * momentum)? + gradient)?)?;
                let next = (flat - (&velocity * self.learning_rate)?)?;
                Tensor::stack(&[next, velocity], 0)
            }
            Rule::AdamW => {
                let mean = flush(&((average(0)? * BETA1)? + (gradient * (1.0 - BETA1))?)?)?;
                let square = ((average(1)? * BETA2)? + (gradient.sqr()? * (1.0 - BETA2))?)?;
                let square = flush(&square)?;
                let (mean_correction, square_correction) = self.bias_corrections();
                let root = (square.sqrt()? / square_correction.sqrt())?;
                let direction = (&mean / (root + EPSILON)?)?;
                let decayed = (flat * (1.0 - self.learning_rate * weight_decay))?;
                let step = (direction * (self.learning_rate / mean_correction))?;
                Tensor::stack(&[(decayed - step)?, mean, square], 0)
            }
        }
    }
}

/// A running average as the rules keep it: zero where it is below the smallest normal number. Averages of
/// gradients that have become zero would halve their way into the subnormal numbers and stay there, and
/// some CPUs take a hundred times as long for those.
#[inline(always)]
pub fn flushed(average: f32) -> f32 {
    if average.abs() < f32::MIN_POSITIVE { 0.0 } else { average }
}

/// `flushed` for each element.
fn flush(averages: &Tensor) -> Result<Tensor> {
    let subnormal = averages.abs()?.lt(f32::MIN_POSITIVE)?;
    subnormal.where_cond(&averages.zeros_like()?, averages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_subnormal_average_becomes_zero_and_nothing_else_changes() {
        let tiny = f32::MIN_POSITIVE;
        let kept = [tiny, -tiny, 1.0, -3e30, 0.0, f32::INFINITY];
        let gone = [tiny * 0.5, -tiny * 0.99, f32::from_bits(1)];
        let all: Vec<f32> = kept.into_iter().chain(gone).collect();
        let expected: Vec<f32> = kept.into_iter().chain(gone.map(|_| 0.0)).collect();
        assert_eq!(all.iter().map(|&x| flushed(x)).collect::<Vec<f32>>(), expected);
        let tensor = Tensor::new(&*all, &Device::Cpu).unwrap();
        assert_eq!(flush(&tensor).unwrap().to_vec1::<f32>().unwrap(), expected);
        assert!(flushed(f32::NAN).is_nan());
    }
}
