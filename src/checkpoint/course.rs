//! A fit that has not ended: how far it is, and what was best.

use super::hash;
use crate::error::{Code, Error, Result};
use crate::optimizer::MAX_COUNT;
use crate::standing::{Course, Epoch};
use serde::{Deserialize, Serialize};

/// The JSON of it, one name in the metadata.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CourseMetadata {
    /// 32 hexadecimal digits.
    identity: String,
    total: u64,
    epochs: u64,
    judged: u64,
    waited: u64,
    over: bool,
    seconds: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lowest: Option<f64>,
    /// The step of the tensors `best.*`, if they are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    best_step: Option<u64>,
}

/// The tensor of what was best, flat: of the parameters or of an average.
pub fn best_tensor(name: &str) -> String {
    format!("best.{name}")
}

impl CourseMetadata {
    pub fn new(course: &Course) -> Self {
        CourseMetadata {
            identity: hash::to_hex(course.identity),
            total: course.total,
            epochs: course.epochs,
            judged: course.judged,
            waited: course.waited,
            over: course.over,
            seconds: course.seconds,
            lowest: course.lowest,
            best_step: course.kept.as_ref().map(|kept| kept.step),
        }
    }

    pub fn best_step(&self) -> Option<u64> {
        self.best_step
    }

    /// What the file says, without what was kept, if it can be so after these steps and in this epoch.
    pub fn read(&self, step: u64, epoch: Epoch) -> Result<Course> {
        let positive = |x: f64| x.is_finite() && x >= 0.0;
        let possible = self.total <= u32::MAX.into()
            && (self.total == 0 || self.epochs <= self.total)
            && self.epochs <= epoch.index
            && (self.judged == self.epochs || self.judged.checked_add(1) == Some(self.epochs))
            && self.waited <= self.judged
            // In the middle of an epoch all those before have been judged, and the fit goes on.
            && (self.judged == self.epochs || (epoch.consumed == 0 && !self.over))
            && (epoch.consumed == 0 || !self.over)
            && positive(self.seconds)
            && self.lowest.is_none_or(|lowest| positive(lowest) && self.judged > 0)
            && self.best_step.is_none_or(|best| best <= step && self.lowest.is_some())
            && self.epochs <= MAX_COUNT;
        let identity = hash::from_hex(&self.identity).filter(|_| possible);
        let identity = identity.ok_or_else(|| {
            let text = serde_json::to_string(self).unwrap_or_default();
            let message =
                format!("metadata: impossible course {text} after {step} steps, in {epoch:?}");
            Error::new(Code::Corrupt, message)
        })?;
        Ok(Course {
            identity,
            total: self.total,
            epochs: self.epochs,
            judged: self.judged,
            waited: self.waited,
            over: self.over,
            seconds: self.seconds,
            lowest: self.lowest,
            kept: None,
        })
    }
}
