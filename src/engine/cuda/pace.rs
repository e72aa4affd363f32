//! How many steps a launch may make.

use std::time::Duration;

/// The longest that a launch should take: displays and other processes share the GPU.
const LONGEST_LAUNCH: Duration = Duration::from_millis(20);

/// How long a step takes, so that no launch takes much longer than LONGEST_LAUNCH.
#[derive(Default)]
pub struct Pace(Option<(usize, Duration)>);

impl Pace {
    /// Steps on batches of so many images for one launch.
    pub fn steps(&self, batch: usize, groups: u32) -> usize {
        let step = match self.0 {
            Some((known, step)) if known == batch => step,
            // Some 30 us a round of all groups on a large GPU; a small one will not take four times as long.
            _ => Duration::from_micros(120) * batch.div_ceil(16 * groups as usize) as u32,
        };
        (LONGEST_LAUNCH.as_nanos() / step.as_nanos().max(1)).clamp(1, 1 << 16) as usize
    }

    pub fn note(&mut self, batch: usize, step: Duration) {
        self.0 = Some((batch, step));
    }
}
