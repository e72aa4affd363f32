//! The update rules, as PyTorch defines them, over the flat parameter vector.
//!
//! A step makes new tensors and leaves the old ones alone, so a step that fails or diverges changes
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

/// PyTorch's defaults for AdamW.
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

impl Optimizer {
    /// The names of the running averages that the rule keeps, PyTorch's own.
    pub fn state_names(&self) -> &'static [&'static str] {
        match self.rule {
            Rule::Sgd if self.momentum == 0.0 => &[],
            Rule::Sgd => &["momentum_buffer"],
            Rule::AdamW => &["exp_avg", "exp_avg_sq"],
        }
    }

    /// The state before the first step, for parameters like `flat`.
    pub fn initial_state(&self, flat: &Tensor) -> Result<Vec<Tensor>> {
        self.state_names().iter().map(|_| flat.detach().zeros_like()).collect()
    }

    /// Step number `step`, counted from 1: the new parameters and state.
    pub fn step(
        &self,
        flat: &Tensor,
        gradient: &Tensor,
        state: &[Tensor],
        step: u64,
        learning_rate: f64,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let flat = flat.detach();
        match self.rule {
            Rule::Sgd => {
                let gradient = match self.weight_decay {
                    0.0 => gradient.clone(),
                    decay => (gradient + (&flat * decay)?)?,
                };
                let velocity = match state {
                    [] => gradient,
                    buffers => ((&buffers[0] * self.momentum)? + gradient)?,
                };
                let next = (&flat - (&velocity * learning_rate)?)?;
                Ok((next, state.iter().map(|_| velocity.clone()).collect()))
            }
            Rule::AdamW => {
                let mean = ((&state[0] * BETA1)? + (gradient * (1.0 - BETA1))?)?;
                let square = ((&state[1] * BETA2)? + (gradient.sqr()? * (1.0 - BETA2))?)?;
                let mean_correction = 1.0 - BETA1.powf(step as f64);
                let square_correction = 1.0 - BETA2.powf(step as f64);
                let root = (square.sqrt()? / square_correction.sqrt())?;
                let direction = (&mean / (root + EPSILON)?)?;
                let decayed = (&flat * (1.0 - learning_rate * self.weight_decay))?;
                let next = (decayed - (direction * (learning_rate / mean_correction))?)?;
                Ok((next, vec![mean, square]))
            }
        }
    }
}
