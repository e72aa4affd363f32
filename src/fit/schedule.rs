//! How the learning rate changes in the course of a fit.

use super::clock::Clock;
use crate::allocation::reserve;
use crate::error::Result;
use std::f64::consts::PI;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// The same throughout.
    Constant,
    /// Up in a straight line for a quarter of the fit, then down along a cosine (Smith and Topin, "Super-convergence",
    /// 2019).
    OneCycle,
}

/// Of a cycle, until the peak.
const RISE: f64 = 0.25;

impl Schedule {
    /// By what the model's learning rate is multiplied when this part of the fit, from 0 to 1, is over.
    pub fn factor(self, over: f64) -> f64 {
        let over = over.min(1.0);
        match self {
            Schedule::Constant => 1.0,
            Schedule::OneCycle if over < RISE => over / RISE,
            Schedule::OneCycle => (1.0 + (PI * (over - RISE) / (1.0 - RISE)).cos()) / 2.0,
        }
    }
}

/// Steps of a fit.
#[derive(Clone, Copy)]
pub struct Steps {
    /// Before the epoch's first one.
    pub before: f64,
    /// Infinite if nobody knows.
    pub total: f64,
}

/// Learning rates of the steps of an epoch.
pub struct Rates {
    fit: Steps,
    steps: usize,
    /// What they were computed for, from which step on.
    peak: f64,
    first: usize,
    rates: Vec<f64>,
}

impl Rates {
    pub fn new(fit: Steps, steps: usize) -> Result<Self> {
        let mut rates = Vec::new();
        reserve(&mut rates, steps)?;
        Ok(Rates { fit, steps, peak: f64::NAN, first: 0, rates })
    }

    /// Those of the `ahead` steps from `step` on.
    pub fn of(
        &mut self,
        step: usize,
        ahead: usize,
        peak: f64,
        schedule: Schedule,
        clock: &Clock,
    ) -> &[f64] {
        let Steps { before, total } = self.fit;
        let rate = |i: usize| {
            let over = (before + i as f64 + 0.5) / total;
            peak * schedule.factor(over.max(clock.over(i - step)))
        };
        if clock.has_limit() {
            self.rates.clear();
            self.rates.extend((step..step + ahead).map(rate));
            return &self.rates;
        }
        // The caller may have set another one between two steps.
        if peak != self.peak {
            self.rates.clear();
            self.rates.extend((step..self.steps).map(rate));
            (self.peak, self.first) = (peak, step);
        }
        &self.rates[step - self.first..][..ahead]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_begins_and_ends_at_zero_and_has_its_peak_after_a_quarter() {
        let factor = |over| Schedule::OneCycle.factor(over);
        let expected =
            [(0.0, 0.0), (0.125, 0.5), (0.25, 1.0), (0.625, 0.5), (1.0, 0.0), (1.1, 0.0)];
        for (over, expected) in expected {
            assert!((factor(over) - expected).abs() < 1e-15, "{over}: {}", factor(over));
        }
        assert!(
            (0..=1000).map(|i| factor(f64::from(i) / 1000.0)).all(|f| (0.0..=1.0).contains(&f))
        );
        assert_eq!(Schedule::Constant.factor(0.7), 1.0);
    }
}
