//! Epochs over a dataset.
//!
//! | room | concern |
//! | --- | --- |
//! | `epoch` | one pass over a dataset: in what order |
//! | `progress` | what is told of a fit while it runs, and how it is cancelled |
//! | `evaluation` | how well a model does on a dataset |

mod epoch;
mod evaluation;
mod progress;

pub use evaluation::{Metrics, check_dataset, evaluate};
pub use progress::{Event, Listener, Progress};

use crate::allocation::reserve;
use crate::batch::{Images, Order, Pixels, Targets};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::model::{Model, StepResult};
use crate::optimizer::MAX_COUNT;
use crate::standing::Epoch;
use epoch::shuffle;
use evaluation::evaluate_state;
use progress::announce;
use std::time::Instant;

#[derive(Clone, Copy, Debug)]
pub struct FitOptions {
    pub epochs: u32,
    pub batch_size: u32,
}

/// Trains for `options.epochs` epochs of `train` in batches; the last batch of an epoch may be
/// smaller. If the fit before was interrupted in the middle of an epoch over a dataset of the same
/// content, the rest of that epoch is the first one here, so that stopping and going on is the same
/// as never having stopped. `listener`, which is told of every step before the next one begins,
/// returns false to cancel; without it an engine may make many steps at once.
pub fn fit(
    model: &Model,
    train: &Dataset,
    validation: Option<&Dataset>,
    options: FitOptions,
    mut listener: Option<&mut Listener>,
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
    let mut rates = Vec::new();
    reserve(&mut rates, train.count().div_ceil(batch_size))?;
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
            let end = if listener.is_some() { done + batch_size } else { rest.len() };
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
            rates.clear();
            rates.resize(range.len().div_ceil(batch_size), model.state().learning_rate);
            let images = images.part(range);
            done +=
                training.steps_checked(&images, &targets, batch_size, &rates, after, &mut each)?;
            failpoint::point();
            report.step = step;
            report.loss = seen.loss / seen.count as f64;
            report.accuracy = seen.accuracy();
            report.images_per_second = seen.count as f64 / start.elapsed().as_secs_f64();
            announce(&report, &mut listener)?;
        }
        standing = model.state().epoch;
        report.event = Event::EpochEnd;
        report.validation = match validation {
            None => None,
            Some(dataset) => Some(evaluate_state(model, &model.state(), dataset, &mut |_, _| {})?),
        };
        announce(&report, &mut listener)?;
    }
    Ok(())
}
