//! Where training stands: what a fit needs to know to go on after it was stopped.

use crate::parameters::Weights;
use std::sync::Arc;

/// As of one whole step.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    pub epoch: Epoch,
    /// Of a fit that looks ahead or back and has not ended; None for others.
    pub course: Option<Course>,
}

/// Where `fit` stands in its data, so that an interrupted epoch can be finished later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    /// Epochs finished since the model was made; numbers the shuffle.
    pub index: u64,
    /// Images of this epoch that have been trained on, and of how many; 0 and 0 between epochs.
    pub consumed: u64,
    pub count: u64,
    /// The hash of the dataset that this epoch was begun with. None between epochs, and in the
    /// middle of one in a file of version 1.0.
    pub dataset: Option<u128>,
}

/// How far a fit is: what follows from its options, its data and these is the rest of it.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// A hash of its options and data, which are those of the call that goes on with it.
    pub identity: u128,
    /// Epochs that it has at most; 0: any number.
    pub total: u64,
    /// Epochs that have been trained.
    pub epochs: u64,
    /// Those of which the end has been dealt with: all, or all but the last one.
    pub judged: u64,
    /// Epochs in a row without a lower validation loss than before.
    pub waited: u64,
    /// Whether nothing is left of it to train.
    pub over: bool,
    /// Seconds spent on it, if it has a limit of them.
    pub seconds: f64,
    /// The lowest validation loss.
    pub lowest: Option<f64>,
    /// What it ends with, if that is not its last step.
    pub kept: Option<Kept>,
}

/// A state to come back to.
#[derive(Clone, Debug)]
pub struct Kept {
    pub step: u64,
    pub weights: Arc<Weights>,
}
