//! What a model is made with.

use crate::architecture::Architecture;
use crate::batch::Normalization;
use crate::engine::DeviceChoice;
use crate::error::{Error, Result};
use crate::optimizer::Optimizer;
use crate::prepare::{Preparation, Preparer};

/// Nothing of it changes later but the learning rate, which is then in the model's state.
#[derive(Clone, Debug)]
pub struct Options {
    pub architecture: Architecture,
    pub device: DeviceChoice,
    pub device_index: i32,
    /// 0: as many as this process may use.
    pub num_threads: u32,
    pub optimizer: Optimizer,
    pub learning_rate: f64,
    pub seed: u64,
    pub normalization: Normalization,
    /// Whether predictions are the mean over an image and its mirror image.
    pub mirror: bool,
    /// How a picture becomes this network's input.
    pub preparation: Preparation,
}

impl Options {
    /// Refuses, by field, what no training could use.
    pub fn check(&self) -> Result<()> {
        let Normalization { mean, std } = self.normalization;
        let Optimizer { momentum, weight_decay, .. } = self.optimizer;
        let is_float = |value: f64| (value as f32).is_finite();
        let fields = [
            ("learning_rate", self.learning_rate, self.learning_rate >= 0.0, "at least 0"),
            ("momentum", momentum, (0.0..1.0).contains(&momentum), "at least 0 and below 1"),
            ("weight_decay", weight_decay, weight_decay >= 0.0, "at least 0"),
            ("input_mean", mean, is_float(mean), "a float"),
            ("input_std", std, is_float(std) && std as f32 > 0.0, "a float above 0"),
        ];
        for (name, value, in_range, range) in fields {
            if !value.is_finite() || !in_range {
                return Err(Error::invalid(format!("{name} is {value:?}; it must be {range}")));
            }
        }
        Ok(())
    }

    /// What makes pictures this network's input.
    pub fn preparer(&self) -> Preparer {
        let (height, width) = (self.architecture.height(), self.architecture.width());
        Preparer { preparation: self.preparation, height, width }
    }
}
