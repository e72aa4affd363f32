//! The right to change a model, and the steps that change it.

use crate::batch::{Images, Pixels, Seen, Targets, check_finite};
use crate::calibration::Calibration;
use crate::class_names::ClassNames;
use crate::error::{Code, Error, Result};
use crate::failpoint;
use crate::model::{Model, StepResult, check_finite_step};
use crate::optimizer::Step;
use crate::parameters::Weights;
use crate::run::Run;
use crate::standing::{Kept, Standing};
use crate::state::State;
use crate::turn::TurnGuard;
use std::sync::Arc;

/// The right to change a model: one holder at a time.
pub struct Training<'a> {
    _turn: TurnGuard<'a>,
    model: &'a Model,
}

impl<'a> Training<'a> {
    /// Takes the turn to change this model; waits while another thread has it.
    pub fn of(model: &'a Model) -> Result<Self> {
        Ok(Training { _turn: model.take_turn()?, model })
    }

    /// One step on a batch.
    pub fn step(&mut self, pixels: Pixels, targets: &Targets) -> Result<StepResult> {
        self.model.check_labels("labels", targets.labels)?;
        targets.check_weights()?;
        let images = self.model.images(pixels);
        let State { learning_rate, standing, .. } = State::clone(&self.model.state());
        let (n, rates) = (targets.labels.len(), [learning_rate]);
        let mut result = StepResult { loss: f32::NAN, correct: 0 };
        let each = &mut |step| result = step;
        self.steps_checked(&images, targets, n, &rates, |_| standing.clone(), each)?;
        Ok(result)
    }

    /// The first of the steps on batches of `batch` images, whose targets have been checked, each with its
    /// learning rate: as many steps as the engine makes at once. Gives the number of images that they have
    /// trained on; `standing` tells where `fit` stands after so many, and `each` gets every step's result when
    /// the last one is published.
    pub fn steps_checked(
        &mut self,
        images: &Images,
        targets: &Targets,
        batch: usize,
        learning_rates: &[f64],
        standing: impl Fn(usize) -> Standing,
        each: &mut dyn FnMut(StepResult),
    ) -> Result<usize> {
        let state = self.model.state();
        let gradient = self.model.take_gradient()?;
        let mut next = self.next_state(&state)?;
        let (optimizer, number) = (self.model.optimizer(), state.next_number());
        let run =
            Run { images: *images, targets: *targets, batch, optimizer, number, learning_rates };
        let mut results = self.model.scratch().results.take().unwrap_or_default();
        results.clear();
        let weights = unshared(&mut unshared(&mut next)?.weights)?;
        let mut keep = |seen: Seen| {
            results.push(StepResult { loss: seen.loss as f32, correct: seen.correct });
        };
        let ran = self.model.engine().train(&run, &state.weights, &gradient, weights, &mut keep)?;
        failpoint::point();
        self.model.scratch().gradients.give_back(gradient);
        let trained = targets.labels.len().min(ran.steps * batch);
        if ran.steps > 0 {
            self.publish_next(state, next, run.number_of(ran.steps - 1), standing(trained))?;
        }
        results.iter().take(ran.steps).for_each(|&result| each(result));
        let after = results.get(ran.steps).map_or(0.0, |result| result.loss);
        self.model.scratch().results.give_back(results);
        check_finite_step(&format!("step {}", run.number_of(ran.steps)), after, ran.finite)?;
        Ok(trained)
    }

    /// One step with a gradient that the caller brings.
    pub fn apply_gradients(&mut self, gradient: &[f32]) -> Result<()> {
        check_finite("gradients", gradient)?;
        let state = self.model.state();
        let gradient = self.model.engine().upload(&[gradient])?;
        let mut next = self.next_state(&state)?;
        let weights = unshared(&mut unshared(&mut next)?.weights)?;
        let (optimizer, number) = (self.model.optimizer(), state.next_number());
        let step = Step { optimizer, number, learning_rate: state.learning_rate };
        let finite = self.model.engine().step(step, &state.weights, &gradient, weights)?;
        failpoint::point();
        check_finite_step(&format!("step {number}"), 0.0, finite)?;
        let standing = state.standing.clone();
        self.publish_next(state, next, number, standing)
    }

    /// Replaces the parameters; optimizer state and counters stay.
    pub fn set_parameters(&mut self, parameters: &[f32]) -> Result<()> {
        check_finite("parameters", parameters)?;
        let state = self.model.state();
        let present = state.weights.values().rows()?;
        let mut rows: Vec<&[f32]> = present.iter().map(Vec::as_slice).collect();
        rows[0] = parameters;
        let values = self.model.engine().upload(&rows)?;
        let weights = Arc::new(Weights::new(self.model.architecture(), values));
        self.model.publish(Arc::new(State { weights, ..State::clone(&state) }));
        Ok(())
    }

    /// Says where training stands, and goes back to what was kept, if anything was: parameters, averages and
    /// number of steps.
    pub fn settle(&mut self, standing: Standing, kept: Option<Kept>) {
        let mut state = State { standing, ..State::clone(&self.model.state()) };
        if let Some(Kept { step, weights }) = kept {
            (state.step, state.weights) = (step, weights);
        }
        self.model.publish(Arc::new(state));
    }

    pub fn set_calibration(&mut self, calibration: Calibration) {
        self.model.publish(Arc::new(State { calibration, ..State::clone(&self.model.state()) }));
    }

    pub fn set_class_names(&mut self, class_names: Option<ClassNames>) -> Result<()> {
        let classes = self.model.architecture().classes();
        if let Some(length) = class_names.as_ref().map(|names| names.all().len())
            && length != classes
        {
            let message = format!("length is {length}; this model has {classes} classes");
            return Err(Error::invalid(message));
        }
        self.model.publish(Arc::new(State { class_names, ..State::clone(&self.model.state()) }));
        Ok(())
    }

    /// Takes over a dataset's names if the model has none and as many classes.
    pub fn adopt_class_names(&mut self, names: Option<&ClassNames>) -> Result<()> {
        let fitting =
            names.filter(|names| names.all().len() == self.model.architecture().classes());
        match fitting {
            Some(names) if self.model.state().class_names.is_none() => {
                self.set_class_names(Some(names.clone()))
            }
            _ => Ok(()),
        }
    }

    /// The state that a step may write. It is one that nobody can see any more, so that training
    /// allocates nothing.
    fn next_state(&self, state: &State) -> Result<Arc<State>> {
        match self.model.scratch().spare.lock().take() {
            Some(spare) if is_unshared(&spare) => Ok(spare),
            _ => {
                let rows = 1 + self.model.optimizer().state_names().len();
                let values = self.model.upload_zeros(rows)?;
                let weights = Arc::new(Weights::new(self.model.architecture(), values));
                Ok(Arc::new(State { weights, ..State::clone(state) }))
            }
        }
    }

    /// Publishes what steps up to `number` have written over `next`, after `state`.
    fn publish_next(
        &self,
        state: Arc<State>,
        mut next: Arc<State>,
        number: u64,
        standing: Standing,
    ) -> Result<()> {
        let following = unshared(&mut next)?;
        let weights = Arc::clone(&following.weights);
        *following = State { weights, step: number, standing, ..State::clone(&state) };
        drop(state);
        let previous = self.model.publish(next);
        *self.model.scratch().spare.lock() = Some(previous);
        Ok(())
    }
}

fn unshared<T>(arc: &mut Arc<T>) -> Result<&mut T> {
    Arc::get_mut(arc)
        .ok_or_else(|| Error::new(Code::Internal, "a state that is being written is shared"))
}

fn is_unshared(state: &Arc<State>) -> bool {
    Arc::strong_count(state) == 1 && Arc::strong_count(&state.weights) == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::{Activation, Architecture, Outputs, Pooling};
    use crate::batch::{Normalization, Seen};
    use crate::engine::{DeviceChoice, Engine};
    use crate::model::Options;
    use crate::optimizer::{Optimizer, Rule};
    use crate::values::Values;
    use candle_core::Device;
    use std::ops::Range;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Logits of zero, and a defect in training.
    struct BrokenEngine;

    impl Engine for BrokenEngine {
        fn upload(&self, rows: &[&[f32]]) -> Result<Values> {
            Values::on(&Device::Cpu, rows)
        }

        fn outputs(
            &self,
            _: &Weights,
            _: &Images,
            _: Range<usize>,
            _: Outputs,
            out: &mut [f32],
        ) -> Result<()> {
            out.fill(0.0);
            Ok(())
        }

        fn gradient(&self, _: &Weights, _: &Images, _: &Targets, _: &Values) -> Result<Seen> {
            panic!("a defect");
        }

        fn step(&self, _: Step, _: &Weights, _: &Values, _: &mut Weights) -> Result<bool> {
            Ok(true)
        }
    }

    fn options() -> Options {
        Options {
            architecture: Architecture::new(16, 16, 2, Activation::Relu, Pooling::Max).unwrap(),
            device: DeviceChoice::Cpu,
            device_index: 0,
            num_threads: 1,
            optimizer: Optimizer { rule: Rule::Sgd, momentum: 0.0, weight_decay: 0.0 },
            learning_rate: 0.1,
            seed: 1,
            normalization: Normalization { mean: 0.0, std: 1.0 },
            mirror: false,
            preparation: crate::prepare::Preparation::default(),
        }
    }

    #[test]
    fn after_a_panic_in_training_the_last_good_step_can_still_be_used() {
        let good = Model::create(options()).unwrap();
        let state = State::clone(&good.state());
        let model = Model::assemble(options(), Box::new(BrokenEngine), state);
        let image = [0u8; 256];
        let targets = Targets { labels: &[1], weights: None };
        let step = || Training::of(&model)?.step(Pixels::Byte(&image), &targets);
        assert!(catch_unwind(AssertUnwindSafe(step)).is_err());
        assert_eq!(step().unwrap_err().code, Code::Internal);
        let each = |_, _, row: &[f32]| assert_eq!(row, [0.5, 0.5]);
        model.predict(Pixels::Byte(&image), each).unwrap();
        let saved = crate::checkpoint::save(&model).unwrap();
        assert!(saved == crate::checkpoint::save(&good).unwrap());
    }
}
