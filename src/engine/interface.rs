//! What every engine can do, and what engines have in common.

use crate::architecture::Outputs;
use crate::batch::{Images, Seen, Targets};
use crate::error::{Code, Error, Result};
use crate::optimizer::Step;
use crate::parameters::Weights;
use crate::run::{Ran, Run};
use crate::values::Values;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Computes; owns no weights, but says where they are. Labels are below the class count: the model has
/// checked them. Pixels that are not finite an engine refuses itself, when it loads them.
pub trait Engine: Send + Sync {
    /// Takes rows of floats, all of one length, to where this engine computes.
    fn upload(&self, rows: &[&[f32]]) -> Result<Values>;

    /// A copy of any engine's weights for this one.
    fn copy(&self, weights: &Weights) -> Result<Weights> {
        let rows = weights.values().rows()?;
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        Ok(Weights::new(weights.architecture(), self.upload(&rows)?))
    }

    /// The weights of another engine for this one: the same where both compute in one place.
    fn adopt(&self, weights: &Arc<Weights>) -> Result<Arc<Weights>> {
        Ok(Arc::new(self.copy(weights)?))
    }

    /// Writes these outputs of `images[range]`, row by row.
    fn outputs(
        &self,
        weights: &Weights,
        images: &Images,
        range: Range<usize>,
        outputs: Outputs,
        out: &mut [f32],
    ) -> Result<()>;

    /// Writes the gradient of the batch's mean loss, one row, flat like the parameters. Of the weights not all
    /// are 0.
    fn gradient(
        &self,
        weights: &Weights,
        images: &Images,
        targets: &Targets,
        gradient: &Values,
    ) -> Result<Seen>;

    /// Writes the weights after a step; says whether all are finite.
    fn step(
        &self,
        step: Step,
        now: &Weights,
        gradient: &Values,
        next: &mut Weights,
    ) -> Result<bool>;

    /// Computes one or more of the first steps of a run, as many as this engine makes at once, and leaves the
    /// weights after the last completed one in `next`, if there is one. `each` is given what every step saw,
    /// also the one that is not finite. `gradient` may be used to compute in.
    fn train(
        &self,
        run: &Run,
        now: &Weights,
        gradient: &Values,
        next: &mut Weights,
        each: &mut dyn FnMut(Seen),
    ) -> Result<Ran> {
        single_step(self, run, now, gradient, next, each)
    }
}

/// The first step of a run: a gradient, and a step with it.
pub fn single_step(
    engine: &(impl Engine + ?Sized),
    run: &Run,
    now: &Weights,
    gradient: &Values,
    next: &mut Weights,
    each: &mut dyn FnMut(Seen),
) -> Result<Ran> {
    let first = 0..run.batch.min(run.targets.labels.len());
    let (images, targets) = (run.images.part(first.clone()), run.targets.part(first));
    let seen = engine.gradient(now, &images, &targets, gradient)?;
    each(seen);
    let finite = engine.step(run.step(0), now, gradient, next)? && seen.is_finite();
    Ok(Ran { steps: finite.into(), finite })
}

/// Refuses a child of the process that was the first to come here with this `owner`, 0 before; `stayed` says
/// what is there and not here.
pub fn refuse_forked_child(owner: &AtomicU32, stayed: &str) -> Result<()> {
    let process = std::process::id();
    let owner = match owner.compare_exchange(0, process, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => return Ok(()),
        Err(owner) if owner == process => return Ok(()),
        Err(owner) => owner,
    };
    Err(Error::new(Code::Forked, format!("process {process} was forked from {owner}{stayed}")))
}
