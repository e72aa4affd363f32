//! What a caller may ask of a fit.

use super::schedule::Schedule;
use crate::architecture::Architecture;
use crate::augment::Augmentation;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use twox_hash::xxhash3_128::Hasher;

#[derive(Clone, Copy, Debug)]
pub struct FitOptions {
    /// 0, only with a limit of time: any number.
    pub epochs: u32,
    pub batch_size: u32,
    pub schedule: Schedule,
    pub augmentation: Augmentation,
    /// How much more the images of rare classes count, from 0 to 1.
    pub class_balance: f64,
    pub keep: Keep,
    /// Epochs without a lower validation loss after which the fit ends; 0: never.
    pub patience: u32,
    /// Validation accuracy at which it ends; 0: never.
    pub target_accuracy: f64,
    /// Seconds after which it ends; 0: never.
    pub max_seconds: f64,
}

/// What a fit leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Last,
    /// The state after the epoch of the lowest validation loss.
    Best,
}

impl FitOptions {
    /// Refuses, by field, what no fit could do.
    pub fn check(&self, architecture: Architecture, validation: bool) -> Result<()> {
        let Augmentation { shift, flip, rotation, scale } = self.augmentation;
        let part = |value: f64| (0.0..=1.0).contains(&value);
        let fields = [
            ("flip", flip, part(flip), "from 0 to 1"),
            ("rotation", rotation, (0.0..=180.0).contains(&rotation), "from 0 to 180"),
            ("scale", scale, (0.0..1.0).contains(&scale), "at least 0 and below 1"),
            ("class_balance", self.class_balance, part(self.class_balance), "from 0 to 1"),
            ("target_accuracy", self.target_accuracy, part(self.target_accuracy), "from 0 to 1"),
            (
                "max_seconds",
                self.max_seconds,
                self.max_seconds >= 0.0 && self.max_seconds.is_finite(),
                "finite and at least 0",
            ),
        ];
        if let Some((name, value, _, range)) = fields.iter().find(|(_, _, good, _)| !good) {
            return Err(Error::invalid(format!("{name} is {value:?}; it must be {range}")));
        }
        let side = architecture.height().min(architecture.width());
        if shift as usize >= side {
            let message = format!("shift is {shift}; it must be below {side}, the image's side");
            return Err(Error::invalid(message));
        }
        if self.epochs == 0 && self.max_seconds == 0.0 {
            return Err(Error::invalid("epochs is 0, and max_seconds too: the fit has no end"));
        }
        if self.batch_size == 0 {
            return Err(Error::invalid("batch_size is 0"));
        }
        let watching = [
            ("keep", self.keep == Keep::Best, "LENET_KEEP_BEST (1)".to_string()),
            ("patience", self.patience > 0, self.patience.to_string()),
            ("target_accuracy", self.target_accuracy > 0.0, self.target_accuracy.to_string()),
        ];
        match watching.iter().find(|(_, asked, _)| *asked && !validation) {
            None => Ok(()),
            Some((name, _, value)) => Err(Error::invalid(format!(
                "{name} is {value}, which needs validation data; validation is NULL"
            ))),
        }
    }

    /// Whether a step depends on more than the model, its data and its epoch: on where the fit began, or will end.
    pub fn has_course(&self) -> bool {
        self.schedule != Schedule::Constant
            || self.keep != Keep::Last
            || self.patience > 0
            || self.target_accuracy > 0.0
            || self.max_seconds > 0.0
    }

    /// A hash of all of it but `epochs`, and of the data. It is kept in files, so it must never change.
    pub fn identity(&self, train: &Dataset, validation: Option<&Dataset>) -> u128 {
        let Augmentation { shift, flip, rotation, scale } = self.augmentation;
        let words = [
            self.batch_size,
            match self.schedule {
                Schedule::Constant => 0,
                Schedule::OneCycle => 1,
            },
            match self.keep {
                Keep::Last => 0,
                Keep::Best => 1,
            },
            self.patience,
            shift,
            validation.is_some().into(),
        ];
        let numbers =
            [flip, rotation, scale, self.max_seconds, self.target_accuracy, self.class_balance];
        let mut hasher = Hasher::new();
        words.iter().for_each(|word| hasher.write(&word.to_le_bytes()));
        // 0 and -0 are the same option.
        numbers.iter().for_each(|number| hasher.write(&(number + 0.0).to_le_bytes()));
        hasher.write(&train.hash().to_le_bytes());
        hasher.write(&validation.map_or(0, Dataset::hash).to_le_bytes());
        hasher.finish_128()
    }
}
