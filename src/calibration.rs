//! How far an answer can be trusted: probabilities with a temperature, fitted so that they are neither too sure nor
//! too modest, and the probability from which on answers are right often enough.

use crate::error::{Error, Result};
use crate::prediction::{self, Rows};

/// What was found on validation data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// Logits are divided by it before softmax.
    pub temperature: f64,
    /// The largest probability from which on an answer counts; `NO_ANSWER` if none does.
    pub threshold: f64,
    /// The share of images that are answered, and of those the share that is answered wrongly.
    pub coverage: f64,
    pub error: f64,
    /// Mean -log(probability of the label) with a temperature of 1, and with that found.
    pub loss_before: f64,
    pub loss_after: f64,
}

/// Above any probability.
pub const NO_ANSWER: f64 = 2.0;

/// The temperatures that are tried: at both ends probabilities no longer depend much on the logits.
pub const TEMPERATURES: [f64; 2] = [0.05, 20.0];

impl Default for Calibration {
    /// Not calibrated: nothing has been measured.
    fn default() -> Self {
        let nan = f64::NAN;
        Calibration {
            temperature: 1.0,
            threshold: 0.0,
            coverage: 1.0,
            error: nan,
            loss_before: nan,
            loss_after: nan,
        }
    }
}

impl Calibration {
    pub fn is_calibrated(&self) -> bool {
        !self.loss_after.is_nan()
    }
}

/// Refuses what is no share.
pub fn check_max_error(max_error: f64) -> Result<()> {
    if (0.0..=1.0).contains(&max_error) {
        return Ok(());
    }
    Err(Error::invalid(format!("max_error is {max_error:?}; it must be from 0 to 1")))
}

/// Logits and labels of validation images.
pub struct Answers<'a> {
    /// As `prediction::rows` takes them.
    pub logits: &'a mut [f32],
    pub labels: &'a [u8],
    pub classes: usize,
}

impl Answers<'_> {
    fn rows(&mut self) -> impl Iterator<Item = (Rows<'_>, usize)> {
        let rows = prediction::rows(self.logits, self.labels.len(), self.classes);
        rows.zip(self.labels.iter().map(|&label| usize::from(label)))
    }

    /// Mean -log(probability of the label), nats.
    fn loss(&mut self, temperature: f64) -> f64 {
        let sum: f64 = self.rows().map(|(rows, label)| rows.loss(label, temperature)).sum();
        sum / self.labels.len() as f64
    }

    /// The temperature of the least loss (Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern Neural
    /// Networks", section 4.2), by golden section of its logarithm to one part in 10^4.
    fn temperature(&mut self) -> f64 {
        const SHRINK: f64 = 0.618_033_988_749_894_9; // (sqrt(5) - 1) / 2
        let mut loss = |log: f64| self.loss(log.exp());
        let [mut low, mut high] = TEMPERATURES.map(f64::ln);
        let place = |low: f64, high: f64| low + SHRINK * (high - low);
        let (mut a, mut b) = (place(high, low), place(low, high));
        let (mut at_a, mut at_b) = (loss(a), loss(b));
        while high - low > 1e-4 {
            if at_a <= at_b {
                (high, b, at_b) = (b, a, at_a);
                a = place(high, low);
                at_a = loss(a);
            } else {
                (low, a, at_a) = (a, b, at_b);
                b = place(low, high);
                at_b = loss(b);
            }
        }
        f64::midpoint(low, high).exp()
    }

    /// Of each image the largest probability, and whether it is another class's than the label's. The logits are
    /// used up.
    fn answers(&mut self, temperature: f64) -> Vec<(f32, bool)> {
        let answer = |(mut rows, label): (Rows, usize)| {
            let class = rows.classify(temperature);
            (rows.own[class], class != label)
        };
        self.rows().map(answer).collect()
    }

    /// Temperature by the loss; then the lowest threshold at which at most `max_error` of the answers are wrong.
    pub fn calibrate(mut self, max_error: f64) -> Calibration {
        let (loss_before, temperature) = (self.loss(1.0), self.temperature());
        let loss_after = self.loss(temperature);
        let (temperature, loss_after) = match loss_after < loss_before {
            true => (temperature, loss_after),
            false => (1.0, loss_before),
        };
        let mut calibration = Calibration {
            temperature,
            threshold: NO_ANSWER,
            coverage: 0.0,
            error: 0.0,
            loss_before,
            loss_after,
        };
        let mut answers = self.answers(temperature);
        answers.sort_unstable_by(|(a, _), (b, _)| b.total_cmp(a));
        let mut wrong = 0;
        for (i, &(probability, is_wrong)) in answers.iter().enumerate() {
            wrong += usize::from(is_wrong);
            // Equal probabilities are answered together or not at all.
            let last = answers.get(i + 1).is_none_or(|&(next, _)| next < probability);
            let error = wrong as f64 / (i + 1) as f64;
            if last && error <= max_error {
                calibration.threshold = probability.into();
                calibration.coverage = (i + 1) as f64 / answers.len() as f64;
                calibration.error = error;
            }
        }
        calibration
    }
}
