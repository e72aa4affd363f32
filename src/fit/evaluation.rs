//! How well a model does on a dataset.

use crate::batch::Pixels;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::model::{Model, State};
use crate::prediction;

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

/// Metrics of a state of the model, whose dataset has been checked.
pub fn evaluate_state(
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

/// Refuses data that this model cannot take; `name` is the argument's.
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
