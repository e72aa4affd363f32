//! What a model is as of one step, and what it begins with.

use crate::calibration::Calibration;
use crate::class_names::ClassNames;
use crate::optimizer::MAX_COUNT;
use crate::parameters::Weights;
use crate::standing::Standing;
use std::sync::Arc;

/// Everything that training changes, as of one whole step.
#[derive(Clone, Debug)]
pub struct State {
    /// The averages are named by `Optimizer::state_names`.
    pub weights: Arc<Weights>,
    pub learning_rate: f64,
    /// Optimizer steps so far.
    pub step: u64,
    pub standing: Standing,
    pub calibration: Calibration,
    /// One for each class, if any was given.
    pub class_names: Option<ClassNames>,
}

/// What a model begins with: parameters alone, or all that a model had when it was saved.
#[derive(Default)]
pub struct Beginning {
    /// Flat.
    pub parameters: Vec<f32>,
    /// Those of `Optimizer::state_names`; None: zeros.
    pub averages: Option<Vec<Vec<f32>>>,
    pub step: u64,
    /// Without what its course has kept.
    pub standing: Standing,
    /// That: its step, and rows like the parameters and averages.
    pub kept: Option<(u64, Vec<Vec<f32>>)>,
    pub calibration: Calibration,
    /// One for each class, if any was given.
    pub class_names: Option<ClassNames>,
}

impl State {
    /// The number of the step after this state.
    pub fn next_number(&self) -> u64 {
        self.step.saturating_add(1).min(MAX_COUNT)
    }
}
