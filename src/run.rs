//! Training steps that follow each other: what an engine is asked to do at once, and how far it came.

use crate::batch::{Images, Targets};
use crate::optimizer::{MAX_COUNT, Optimizer, Step};

/// Training steps that follow each other, each on the next batch.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// Of all steps, in the steps' order.
    pub images: Images<'a>,
    /// Of all images. Weights are of a step's mean loss, not of the run's.
    pub targets: Targets<'a>,
    /// Images of a step; the last one may have fewer.
    pub batch: usize,
    pub optimizer: Optimizer,
    /// Of the first step; those after it have the numbers that follow.
    pub number: u64,
    /// One a step, and for no step more.
    pub learning_rates: &'a [f64],
}

impl<'a> Run<'a> {
    /// Step `i` of the run, counted from 0.
    pub fn step(&self, i: usize) -> Step {
        let (optimizer, number) = (self.optimizer, self.number_of(i));
        Step { optimizer, number, learning_rate: self.learning_rates[i] }
    }

    /// The number of step `i`, also of the one after the last.
    pub fn number_of(&self, i: usize) -> u64 {
        (self.number + i as u64).min(MAX_COUNT)
    }

    /// Steps that the run has.
    pub fn steps(&self) -> usize {
        self.targets.labels.len().div_ceil(self.batch)
    }

    /// What is left of it after so many steps.
    pub fn after(&self, steps: usize) -> Run<'a> {
        let count = self.targets.labels.len();
        let rest = (steps * self.batch).min(count)..count;
        Run {
            images: self.images.part(rest.clone()),
            targets: self.targets.part(rest),
            number: self.number_of(steps),
            learning_rates: &self.learning_rates[steps..],
            ..*self
        }
    }
}

/// How far a run came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Steps that were completed.
    pub steps: usize,
    /// Whether the loss and all results of the step after those are finite; true if there was none.
    pub finite: bool,
}
