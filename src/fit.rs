//! Epochs over a dataset: shuffling, progress, cancellation; and evaluation.

use crate::allocation::reserve;
use crate::batch::{Images, Order, Pixels, Targets};
use crate::dataset::Dataset;
use crate::error::{Code, Error, Result};
use crate::failpoint;
use crate::model::{Epoch, Model, State, StepResult};
use crate::optimizer::MAX_COUNT;
use crate::prediction;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::time::Instant;

#[derive(Clone, Copy, Debug)]
pub struct FitOptions {
    pub epochs: u32,
    pub batch_size: u32,
}

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

/// Mean loss and hits over `count` images.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics {
    pub count: u64,
    pub correct: u64,
    pub loss: f64,
}

impl Metrics {
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.count as f64
    }
}

/// Trains for `options.epochs` epochs of `train` in batches; the last batch of an epoch may be
/// smaller. If the fit before was interrupted in the middle of an epoch over a dataset of the same
/// content, the rest of that epoch is the first one here, so that stopping and going on is the same
/// as never having stopped. `progress`, which is told of every step before the next one begins,
/// returns false to cancel; without it an engine may make many steps at once.
pub fn fit(
    model: &Model,
    train: &Dataset,
    validation: Option<&Dataset>,
    options: FitOptions,
    mut progress: Option<&mut dyn FnMut(&Progress) -> bool>,
) -> Result<()> {
    for (name, value) in [("epochs", options.epochs), ("batch_size", options.batch_size)] {
        if value == 0 {
            return Err(Error::invalid(format!("{name} is 0")));
        }
    }
    check_dataset(model, "train", train)?;
    if let Some(validation) = validation {
        check_dataset(model, "validation", validation)?;
    }
    let mut training = model.train()?;
    let count = train.count() as u64;
    let mut standing = model.state().epoch;
    let same = standing.dataset.is_none_or(|hash| hash == train.hash());
    if standing.count != count || !same {
        standing.consumed = 0;
    }
    let batch_size = options.batch_size as usize;
    let (mut order, mut labels) = (Vec::new(), Vec::new());
    reserve(&mut labels, train.count())?;
    for number in 1..=options.epochs {
        let Epoch { index, consumed, .. } = standing;
        shuffle(&mut order, model.options().seed, index, train.count())?;
        let rest = &order[consumed as usize..];
        labels.clear();
        labels.extend(rest.iter().map(|&i| train.labels()[i as usize]));
        let order = Order { indices: rest, dataset: train.number(), labels: train.labels() };
        let images = model.images(Pixels::Byte(train.images()));
        let images = Images { order: Some(order), ..images };
        let mut step = consumed.div_ceil(batch_size as u64);
        let mut report = Progress {
            event: Event::Step,
            epoch: number,
            epochs: options.epochs,
            step,
            steps: step + rest.len().div_ceil(batch_size) as u64,
            loss: 0.0,
            accuracy: 0.0,
            validation: None,
            images_per_second: 0.0,
        };
        let start = Instant::now();
        let mut seen = Metrics::default();
        let mut done = 0;
        while done < rest.len() {
            // Whoever is told of each step must be told before the next one changes the model.
            let end = if progress.is_some() { done + batch_size } else { rest.len() };
            let range = done..end.min(rest.len());
            let after = |trained: usize| match consumed + (done + trained) as u64 {
                all if all == count => {
                    Epoch { index: (index + 1).min(MAX_COUNT), ..Epoch::default() }
                }
                consumed => Epoch { index, consumed, count, dataset: Some(train.hash()) },
            };
            let mut each = |result: StepResult| {
                let images = (rest.len() as u64 - seen.count).min(batch_size as u64);
                step += 1;
                seen.count += images;
                seen.correct += result.correct as u64;
                seen.loss += f64::from(result.loss) * images as f64;
            };
            let targets = Targets { labels: &labels[range.clone()], weights: None };
            let images = images.part(range);
            done += training.steps_checked(&images, &targets, batch_size, after, &mut each)?;
            failpoint::point();
            report.step = step;
            report.loss = seen.loss / seen.count as f64;
            report.accuracy = seen.accuracy();
            report.images_per_second = seen.count as f64 / start.elapsed().as_secs_f64();
            announce(&report, &mut progress)?;
        }
        standing = model.state().epoch;
        report.event = Event::EpochEnd;
        report.validation = match validation {
            None => None,
            Some(dataset) => Some(evaluate_state(model, &model.state(), dataset, &mut |_, _| {})?),
        };
        announce(&report, &mut progress)?;
    }
    Ok(())
}

fn announce(
    report: &Progress,
    progress: &mut Option<&mut dyn FnMut(&Progress) -> bool>,
) -> Result<()> {
    if progress.as_mut().is_none_or(|progress| progress(report)) {
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

/// The order of epoch `index`: each epoch has its own stream of the seed's generator, so that an
/// order can be made again without knowing what was drawn before. Stream 0 drew the weights.
fn shuffle(order: &mut Vec<u32>, seed: u64, index: u64, count: usize) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index + 1);
    order.clear();
    reserve(order, count)?;
    order.extend(0..count as u32);
    order.shuffle(&mut rng);
    Ok(())
}

/// Metrics of the model's present state; `confusion`, if any, is given (truth, predicted) of each
/// image.
pub fn evaluate(
    model: &Model,
    dataset: &Dataset,
    confusion: &mut dyn FnMut(usize, usize),
) -> Result<Metrics> {
    check_dataset(model, "dataset", dataset)?;
    evaluate_state(model, &model.state(), dataset, confusion)
}

fn evaluate_state(
    model: &Model,
    state: &State,
    dataset: &Dataset,
    confusion: &mut dyn FnMut(usize, usize),
) -> Result<Metrics> {
    const CHUNK: usize = 1024;
    let images = model.images(Pixels::Byte(dataset.images()));
    let mut metrics = Metrics { count: dataset.count() as u64, ..Metrics::default() };
    let temperature = state.calibration.temperature;
    let mut logits = Vec::new();
    for (chunk, labels) in dataset.labels().chunks(CHUNK).enumerate() {
        let start = chunk * CHUNK;
        model.write_rows(state, &images, start..start + labels.len(), &mut logits)?;
        let rows = prediction::rows(&mut logits, labels.len(), model.architecture().classes());
        for (mut rows, &label) in rows.zip(labels) {
            let truth = usize::from(label);
            metrics.loss += rows.loss(truth, temperature);
            let predicted = rows.class(temperature);
            metrics.correct += u64::from(truth == predicted);
            confusion(truth, predicted);
        }
    }
    metrics.loss /= metrics.count as f64;
    Ok(metrics)
}

pub fn check_dataset(model: &Model, name: &str, dataset: &Dataset) -> Result<()> {
    let architecture = model.architecture();
    let (height, width) = (dataset.height() as usize, dataset.width() as usize);
    if (height, width) != (architecture.height(), architecture.width()) {
        return Err(Error::invalid(format!(
            "{name} has images of {height} x {width}; this model takes {} x {}",
            architecture.height(),
            architecture.width()
        )));
    }
    model.check_labels(&format!("{name} labels"), dataset.labels())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_is_its_own_permutation() {
        let shuffled = |seed, index| {
            let mut order = vec![7];
            shuffle(&mut order, seed, index, 1000).unwrap();
            order
        };
        let first = shuffled(3, 0);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..1000));
        assert_eq!(first, shuffled(3, 0));
        assert_ne!(first, shuffled(3, 1));
        assert_ne!(first, shuffled(4, 0));
    }
}
