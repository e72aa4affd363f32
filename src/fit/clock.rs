//! The time that a fit may take.

use std::time::{Duration, Instant};

/// The longest that an engine is left alone with steps whose rates were foretold.
const LONGEST_RUN: f64 = 0.02;
/// What a new measurement counts beside those before it.
const SHARE: f64 = 0.3;

pub struct Clock {
    start: Instant,
    /// Seconds of the same fit before this call.
    before: f64,
    /// Seconds of the whole fit.
    limit: Option<f64>,
    /// Seconds of a step, as measured so far.
    step: f64,
    /// Seconds of the evaluation that the fit ends with: measured, or foretold.
    evaluation: f64,
    evaluated: bool,
}

impl Clock {
    /// `max_seconds` 0: no limit.
    pub fn start(max_seconds: f64, before: f64) -> Self {
        let limit = (max_seconds > 0.0).then_some(max_seconds);
        let (start, evaluated) = (Instant::now(), false);
        Clock { start, before, limit, step: 0.0, evaluation: 0.0, evaluated }
    }

    pub fn has_limit(&self) -> bool {
        self.limit.is_some()
    }

    /// Seconds that the fit has taken so far; 0 if nobody counts them.
    pub fn seconds(&self) -> f64 {
        self.limit.map_or(0.0, |_| self.before + self.start.elapsed().as_secs_f64())
    }

    /// Whether another step would end further from the limit than none.
    pub fn is_up(&self) -> bool {
        self.limit.is_some_and(|limit| self.seconds() + self.step / 2.0 >= limit - self.evaluation)
    }

    /// Which part of the time for training will be over in the middle of the step that comes after `steps`
    /// others; 0 without a limit.
    pub fn over(&self, steps: usize) -> f64 {
        self.limit.map_or(0.0, |limit| {
            let middle = self.seconds() + (steps as f64 + 0.5) * self.step;
            (middle / (limit - self.evaluation).max(f64::MIN_POSITIVE)).min(1.0)
        })
    }

    /// Steps to make before the clock is looked at again, of at most `steps`.
    pub fn steps_ahead(&self, steps: usize) -> usize {
        let Some(limit) = self.limit else { return steps };
        let left = (limit - self.evaluation - self.seconds()).clamp(0.0, LONGEST_RUN);
        let ahead = if self.step > 0.0 { (left / self.step).round() as usize } else { 1 };
        ahead.clamp(1, steps)
    }

    /// So many steps took so long, and an evaluation would be as long as so many more of them.
    pub fn note_steps(&mut self, steps: usize, took: Duration, evaluation: f64) {
        let step = took.as_secs_f64() / steps as f64;
        let known = if self.step > 0.0 { self.step } else { step };
        self.step = (1.0 - SHARE) * known + SHARE * step;
        if !self.evaluated {
            self.evaluation = evaluation * self.step;
        }
    }

    pub fn note_evaluation(&mut self, took: Duration) {
        (self.evaluation, self.evaluated) = (took.as_secs_f64(), true);
    }
}
