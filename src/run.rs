//! Training steps that follow each other: what an engine is asked to do at once, and how far it came.

use crate::batch::{Images, Targets};
use crate::optimizer::{MAX_COUNT, Step};

/// Training steps that follow each other, each on the next batch.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// Of all steps, in the steps' order.
    pub images: Images<'a>,
    /// Of all images. Weights are of a step's mean loss, not of the run's.
    pub targets: Targets<'a>,
    /// Images of a step; the last one may have fewer.
    pub batch: usize,
    /// Those after it have its optimizer and learning rate, and the numbers that follow.
    pub first: Step,
}

impl Run<'_> {
    /// Step `i` of the run, counted from 0.
    pub fn step(&self, i: usize) -> Step {
        Step { number: (self.first.number + i as u64).min(MAX_COUNT), ..self.first }
    }

    /// Steps that the run has.
    pub fn steps(&self) -> usize {
        self.targets.labels.len().div_ceil(self.batch)
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
