//! A model's temperature and threshold, found on a dataset that it was not trained on.

use crate::batch::Pixels;
use crate::calibration::{Answers, Calibration, check_max_error};
use crate::dataset::Dataset;
use crate::error::Result;
use crate::fit::check_dataset;
use crate::model::Model;
use crate::training::Training;

/// Measures with the turn taken, so that no step comes between what is measured and what it is for; sets what it
/// found, and gives it.
pub fn calibrate(model: &Model, validation: &Dataset, max_error: f64) -> Result<Calibration> {
    check_max_error(max_error)?;
    check_dataset(model, "validation", validation)?;
    let mut training = Training::of(model)?;
    let classes = model.architecture().classes();
    let images = model.images(Pixels::Byte(validation.images()));
    let mut logits = Vec::new();
    model.write_rows(&model.state(), &images, 0..validation.count(), &mut logits)?;
    let answers = Answers { logits: &mut logits, labels: validation.labels(), classes };
    let calibration = answers.calibrate(max_error);
    training.set_calibration(calibration);
    Ok(calibration)
}
