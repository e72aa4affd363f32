//! What is told of a fit while it runs, and how it is cancelled.

use super::evaluation::Metrics;
use crate::error::{Code, Error, Result};

/// Is told of a fit's progress; returns false to cancel.
pub type Listener<'a> = dyn FnMut(&Progress) -> bool + 'a;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Step,
    EpochEnd,
}

/// Where training stands. Loss and accuracy are means over the images of this epoch so far, each
/// seen before the step that it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub event: Event,
    /// Counted from 1.
    pub epoch: u32,
    pub epochs: u32,
    /// Steps done of this epoch, and steps that it has.
    pub step: u64,
    pub steps: u64,
    pub loss: f64,
    pub accuracy: f64,
    /// At the end of an epoch, if there is validation data.
    pub validation: Option<Metrics>,
    pub images_per_second: f64,
}

/// Tells the listener, if there is one.
pub fn announce(report: &Progress, listener: &mut Option<&mut Listener>) -> Result<()> {
    if listener.as_mut().is_none_or(|listener| listener(report)) {
        return Ok(());
    }
    Err(Error::new(
        Code::Cancelled,
        format!(
            "the progress function cancelled epoch {} after step {} of {}",
            report.epoch, report.step, report.steps
        ),
    ))
}
