//! Training for some epochs of a dataset, or for some time.
//!
//! A fit that was interrupted can be gone on with. Without a course of its own (`FitOptions::has_course`) it is its
//! epochs, one after the other, and what is kept in the model is how far the present one is. Otherwise the model also
//! keeps a `Course` until the fit has ended, and the same call goes on with it.
//!
//! | room | concern |
//! | --- | --- |
//! | `options` | what a caller may ask of a fit |
//! | `epoch` | one pass over a dataset: which images, how seen, how much they count |
//! | `progress` | what is told of a fit while it runs, and how it is cancelled |
//! | `evaluation` | how well a model does on a dataset |
//! | `schedule` | how the learning rate changes |
//! | `clock` | the time that a fit may take |

mod clock;
mod epoch;
mod evaluation;
mod options;
mod progress;
mod schedule;

pub use evaluation::{Metrics, check_dataset, evaluate};
pub use options::{FitOptions, Keep};
pub use progress::{Event, Listener, Progress};
pub use schedule::Schedule;

use crate::dataset::Dataset;
use crate::error::Result;
use crate::failpoint;
use crate::model::{Model, StepResult};
use crate::optimizer::MAX_COUNT;
use crate::standing::{Course, Epoch, Kept, Standing};
use crate::training::Training;
use clock::Clock;
use epoch::{Pass, class_weights};
use evaluation::evaluate_state;
use progress::announce;
use schedule::{Rates, Steps};
use std::time::Instant;

/// Trains on `train` in batches; the last batch of an epoch may be smaller. `listener`, which is told of every step
/// before the next one begins, returns false to cancel; without it an engine may make many steps at once.
pub fn fit(
    model: &Model,
    train: &Dataset,
    validation: Option<&Dataset>,
    options: &FitOptions,
    mut listener: Option<&mut Listener>,
) -> Result<()> {
    options.check(model.architecture(), validation.is_some())?;
    check_dataset(model, "train", train)?;
    if let Some(validation) = validation {
        check_dataset(model, "validation", validation)?;
    }
    let mut training = Training::of(model)?;
    training.adopt_class_names(train.class_names())?;
    let (epoch, course) = beginning(&model.state().standing, options, train, validation);
    let clock = Clock::start(options.max_seconds, course.seconds);
    let classes = class_weights(&train.class_counts(), options.class_balance);
    let mut fit =
        Fit { model, training, train, validation, options, classes, clock, epoch, course };
    let mut pass = Pass::default();
    loop {
        if fit.course.judged < fit.course.epochs {
            let report = fit.report_of_an_epoch_before();
            fit.end_epoch(report, &mut listener)?;
        }
        // What is called at the end of an epoch takes time too.
        if fit.course.over || (fit.course.epochs > 0 && fit.clock.is_up()) {
            break;
        }
        let report = fit.train_epoch(&mut pass, &mut listener)?;
        fit.end_epoch(report, &mut listener)?;
    }
    fit.end();
    Ok(())
}

/// Where a fit begins, or goes on.
fn beginning(
    standing: &Standing,
    options: &FitOptions,
    train: &Dataset,
    validation: Option<&Dataset>,
) -> (Epoch, Course) {
    let mut epoch = standing.epoch;
    let known = epoch.dataset.is_none_or(|hash| hash == train.hash());
    let same_data = epoch.count == train.count() as u64 && known;
    let total = u64::from(options.epochs);
    let identity = options.identity(train, validation);
    if options.has_course() {
        let goes_on = |course: &&Course| {
            let left = course.total.saturating_sub(course.epochs);
            course.identity == identity
                && (total == course.total || (total > 0 && total == left))
                && (epoch.consumed == 0 || same_data)
        };
        if let Some(course) = standing.course.as_ref().filter(goes_on) {
            return (epoch, course.clone());
        }
        // A cycle is of whole epochs.
        epoch.consumed = 0;
    } else if !same_data {
        epoch.consumed = 0;
    }
    (epoch, Course { identity, total, ..Course::default() })
}

/// A fit under way.
struct Fit<'a> {
    model: &'a Model,
    training: Training<'a>,
    train: &'a Dataset,
    validation: Option<&'a Dataset>,
    options: &'a FitOptions,
    classes: Option<Vec<f32>>,
    clock: Clock,
    epoch: Epoch,
    course: Course,
}

impl Fit<'_> {
    /// Trains what is left of the present epoch, or as much as there is time for, at least a step.
    fn train_epoch(
        &mut self,
        pass: &mut Pass,
        listener: &mut Option<&mut Listener>,
    ) -> Result<Progress> {
        let Epoch { index, consumed, .. } = self.epoch;
        let (seed, options) = (self.model.options().seed, self.options);
        let classes = self.classes.as_deref();
        pass.draw(self.train, seed, self.epoch, &options.augmentation, classes)?;
        let (images, targets) = (pass.images(self.model, self.train), pass.targets());
        let (batch, count) = (options.batch_size as usize, self.train.count() as u64);
        let before = consumed.div_ceil(batch as u64);
        let steps = pass.count().div_ceil(batch);
        let mut report = self.report(Event::Step, self.course.epochs + 1);
        report.step = before;
        report.steps = before + steps as u64;
        let mut rates = Rates::new(self.course_steps(before), steps)?;
        let next = Epoch { index: (index + 1).min(MAX_COUNT), ..Epoch::default() };
        let start = Instant::now();
        let mut seen = Metrics::default();
        let mut done = 0;
        while done < pass.count() && (done == 0 || !self.clock.is_up()) {
            let (step, run_start) = (done.div_ceil(batch), Instant::now());
            // Whoever is told of each step must be told before the next one changes the model.
            let ahead = if listener.is_some() { 1 } else { self.clock.steps_ahead(steps - step) };
            let peak = self.model.state().learning_rate;
            let rates = rates.of(step, ahead, peak, options.schedule, &self.clock);
            let range = done..pass.count().min(done + ahead * batch);
            let (course, clock) = (&self.course, &self.clock);
            let after = |trained: usize| match consumed + (done + trained) as u64 {
                all if all == count => standing(options, clock, next, course, course.epochs + 1),
                consumed => {
                    let epoch = Epoch { index, consumed, count, dataset: Some(self.train.hash()) };
                    standing(options, clock, epoch, course, course.epochs)
                }
            };
            let mut each = |result: StepResult| {
                let images = (pass.count() as u64 - seen.count).min(batch as u64);
                report.step += 1;
                seen.count += images;
                seen.correct += result.correct as u64;
                seen.loss += f64::from(result.loss) * images as f64;
            };
            let (images, targets) = (images.part(range.clone()), targets.part(range));
            let trained =
                self.training.steps_checked(&images, &targets, batch, rates, after, &mut each)?;
            failpoint::point();
            done += trained;
            let evaluation = self.evaluation_in_steps();
            self.clock.note_steps(trained.div_ceil(batch), run_start.elapsed(), evaluation);
            report.loss = seen.loss / seen.count as f64;
            report.accuracy = seen.accuracy();
            report.images_per_second = seen.count as f64 / start.elapsed().as_secs_f64();
            announce(&report, listener)?;
        }
        self.epoch = next;
        self.course.epochs += 1;
        if done < pass.count() {
            self.publish_standing();
        }
        Ok(report)
    }

    /// Judges the epoch that was trained last, and tells of it.
    fn end_epoch(
        &mut self,
        mut report: Progress,
        listener: &mut Option<&mut Listener>,
    ) -> Result<()> {
        let state = self.model.state();
        let (course, options) = (&mut self.course, self.options);
        course.judged = course.epochs;
        course.over = course.total > 0 && course.epochs >= course.total;
        if let Some(dataset) = self.validation {
            let start = Instant::now();
            let metrics = evaluate_state(self.model, &state, dataset, &mut |_, _| {})?;
            self.clock.note_evaluation(start.elapsed());
            let better = course.lowest.is_none_or(|lowest| metrics.loss < lowest);
            course.waited = if better { 0 } else { course.waited + 1 };
            if better {
                course.lowest = Some(metrics.loss);
            }
            let target = options.target_accuracy;
            let reached = target > 0.0 && metrics.accuracy() >= target;
            if options.keep == Keep::Best && (better || reached) {
                course.kept = Some(Kept { step: state.step, weights: state.weights.clone() });
            }
            let patience = u64::from(options.patience);
            course.over |= reached || (patience > 0 && course.waited >= patience);
            report.validation = Some(metrics);
        }
        course.over |= self.clock.is_up();
        self.publish_standing();
        report.event = Event::EpochEnd;
        announce(&report, listener)
    }

    /// Leaves the model with what is to be kept, and nothing to go on with.
    fn end(mut self) {
        let kept = self.course.kept.take();
        if self.options.has_course() {
            self.training.settle(Standing { epoch: self.epoch, course: None }, kept);
        }
    }

    fn publish_standing(&mut self) {
        if self.options.has_course() {
            let Fit { options, clock, epoch, course, .. } = &*self;
            let standing = standing(options, clock, *epoch, course, course.epochs);
            self.training.settle(standing, None);
        }
    }

    fn report(&self, event: Event, epoch: u64) -> Progress {
        Progress {
            event,
            epoch: u32::try_from(epoch).unwrap_or(u32::MAX),
            epochs: self.course.total as u32,
            step: 0,
            steps: 0,
            loss: f64::NAN,
            accuracy: f64::NAN,
            validation: None,
            images_per_second: 0.0,
        }
    }

    /// Of an epoch whose steps were made by an earlier call.
    fn report_of_an_epoch_before(&self) -> Progress {
        let steps = self.steps_of_an_epoch();
        Progress { step: steps, steps, ..self.report(Event::EpochEnd, self.course.epochs) }
    }

    fn steps_of_an_epoch(&self) -> u64 {
        (self.train.count() as u64).div_ceil(self.options.batch_size.into())
    }

    /// Steps before the first one of this call in this epoch, and of the whole fit, if it has an end.
    fn course_steps(&self, before: u64) -> Steps {
        let of_epochs = |epochs: u64| epochs as f64 * self.steps_of_an_epoch() as f64;
        let total =
            if self.course.total > 0 { of_epochs(self.course.total) } else { f64::INFINITY };
        Steps { before: of_epochs(self.course.epochs) + before as f64, total }
    }

    /// How many steps an evaluation takes as long as, before it was measured: without going back an image takes less
    /// than half the time.
    fn evaluation_in_steps(&self) -> f64 {
        let images = self.validation.map_or(0, Dataset::count);
        images as f64 / self.options.batch_size.min(self.train.count() as u32) as f64 / 2.0
    }
}

/// Where a fit stands when so many of its epochs have been trained.
fn standing(
    options: &FitOptions,
    clock: &Clock,
    epoch: Epoch,
    course: &Course,
    epochs: u64,
) -> Standing {
    let course = || Course { epochs, seconds: clock.seconds(), ..course.clone() };
    Standing { epoch, course: options.has_course().then(course) }
}
