//! The handle: what a model is, who may change it, and what a reader sees meanwhile.
//!
//! All that training changes is one immutable `State`. Readers take the published one and go on
//! with it; whoever holds the turn computes the next and publishes it as a whole. So `const` calls
//! of the C API never wait for training, and a step that fails leaves nothing to undo.

use crate::allocation::resize;
use crate::architecture::{Architecture, Outputs};
use crate::batch::{Images, Pixels, Seen, Targets, check_finite, chunks, first_not_finite};
use crate::calibration::Calibration;
use crate::class_names::ClassNames;
use crate::engine::{self, DeviceChoice, Engine};
use crate::error::{Code, Error, Result};
use crate::failpoint;
use crate::free_list::FreeList;
use crate::host::{Lock, Published};
use crate::optimizer::{MAX_COUNT, Step};
pub use crate::options::Options;
use crate::parameters::{Weights, with_classes, xavier};
use crate::prediction;
use crate::prepare::{Image, Pictures};
use crate::run::Run;
use crate::standing::{Course, Epoch, Kept, Standing};
use crate::turn::{Turn, TurnGuard};
use crate::values::Values;
use crate::view::View;
use std::ops::Range;
use std::sync::Arc;

/// Everything that training changes, as of one whole step.
#[derive(Clone, Debug)]
pub struct State {
    /// The averages are named by `Optimizer::state_names`.
    pub weights: Arc<Weights>,
    pub learning_rate: f64,
    /// Optimizer steps so far.
    pub step: u64,
    pub standing: Standing,
    pub calibration: Calibration,
    /// One for each class, if any was given.
    pub class_names: Option<ClassNames>,
}

/// What a model begins with: parameters alone, or all that a model had when it was saved.
#[derive(Default)]
pub struct Beginning {
    /// Flat.
    pub parameters: Vec<f32>,
    /// Those of `Optimizer::state_names`; None: zeros.
    pub averages: Option<Vec<Vec<f32>>>,
    pub step: u64,
    /// Without what its course has kept.
    pub standing: Standing,
    /// That: its step, and rows like the parameters and averages.
    pub kept: Option<(u64, Vec<Vec<f32>>)>,
    pub calibration: Calibration,
    /// One for each class, if any was given.
    pub class_names: Option<ClassNames>,
}

pub struct Model {
    options: Options,
    engine: Box<dyn Engine>,
    published: Published<State>,
    turn: Turn,
    outputs: FreeList<Vec<f32>>,
    /// What training writes in: the state before the published one, if no reader has it any more,
    /// and a gradient.
    spare: Lock<Option<Arc<State>>>,
    gradients: FreeList<Values>,
    results: FreeList<Vec<StepResult>>,
    pictures: Pictures,
}

/// Loss and gradient in host memory.
pub struct HostGradient {
    pub loss: f32,
    pub flat: Vec<f32>,
}

/// More images than this in one call is taken for a mistake in `n`.
const MAX_IMAGES: usize = i32::MAX as usize;

impl Model {
    pub fn create(options: Options) -> Result<Self> {
        let parameters = xavier(options.architecture, options.seed);
        Model::begin(options, Beginning { parameters, ..Beginning::default() })
    }

    /// A model that goes on from there.
    pub fn begin(options: Options, beginning: Beginning) -> Result<Self> {
        let (options, engine) = open(options)?;
        let Beginning { parameters, averages, step, mut standing, kept, calibration, class_names } =
            beginning;
        let zeros = vec![0.0; parameters.len()];
        let mut rows = vec![parameters.as_slice()];
        match &averages {
            Some(averages) => rows.extend(averages.iter().map(Vec::as_slice)),
            None => rows.extend(options.optimizer.state_names().iter().map(|_| zeros.as_slice())),
        }
        let upload = |rows: &[&[f32]]| -> Result<Arc<Weights>> {
            Ok(Arc::new(Weights::new(options.architecture, engine.upload(rows)?)))
        };
        let weights = upload(&rows)?;
        if let (Some(course), Some((step, rows))) = (&mut standing.course, &kept) {
            let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            course.kept = Some(Kept { step: *step, weights: upload(&rows)? });
        }
        let learning_rate = options.learning_rate;
        let state = State { weights, learning_rate, step, standing, calibration, class_names };
        Ok(Model::assemble(options, engine, state))
    }

    /// A second model in the same state. States are never changed, so on a CPU the two share it
    /// until one of them trains.
    pub fn try_clone(&self) -> Result<Self> {
        let (options, engine) = open(self.options.clone())?;
        let mut state = State::clone(&self.state());
        state.weights = engine.adopt(&state.weights)?;
        if let Some(Course { kept: Some(kept), .. }) = &mut state.standing.course {
            kept.weights = engine.adopt(&kept.weights)?;
        }
        Ok(Model::assemble(options, engine, state))
    }

    /// A second model whose last layer has so many classes: what both have is the same, optimizer state included, and
    /// what is new is what a new model with so many classes begins with. An interrupted fit is not gone on with,
    /// and the copy is not calibrated: both were for other classes.
    pub fn clone_with_classes(&self, classes: u32) -> Result<Self> {
        let state = self.state();
        let architecture = self.architecture().with_classes(classes)?;
        let (rows, seed) = (state.weights.values().rows()?, self.options.seed);
        let epoch = Epoch { index: state.standing.epoch.index, ..Epoch::default() };
        let mut rows = with_classes(&rows, self.architecture(), architecture, seed);
        let beginning = Beginning {
            parameters: rows.remove(0),
            averages: Some(rows),
            step: state.step,
            standing: Standing { epoch, course: None },
            class_names: state.class_names.as_ref().map(|names| names.resized(classes as usize)),
            ..Beginning::default()
        };
        let learning_rate = state.learning_rate;
        Model::begin(Options { architecture, learning_rate, ..self.options.clone() }, beginning)
    }

    fn assemble(options: Options, engine: Box<dyn Engine>, state: State) -> Self {
        Model {
            options,
            engine,
            published: Published::new(Arc::new(state)),
            turn: Turn::default(),
            outputs: FreeList::default(),
            spare: Lock::default(),
            gradients: FreeList::default(),
            results: FreeList::default(),
            pictures: Pictures::default(),
        }
    }

    /// As given, but for a device choice of AUTO, which is the device it became, and the learning
    /// rate, which is the present one.
    pub fn options(&self) -> Options {
        Options { learning_rate: self.state().learning_rate, ..self.options.clone() }
    }

    pub fn architecture(&self) -> Architecture {
        self.options.architecture
    }

    /// The state of the last whole step.
    pub fn state(&self) -> Arc<State> {
        self.published.get()
    }

    /// Gives back the state that was published before.
    fn publish(&self, state: Arc<State>) -> Arc<State> {
        failpoint::point();
        let previous = self.published.replace(state);
        failpoint::point();
        previous
    }

    /// For the steps to come. Whoever has the turn and is here is in a progress function, between two steps, and the
    /// next one begins with the state that is then published; so it is as if the training had stopped, been given this
    /// rate and gone on.
    pub fn set_learning_rate(&self, learning_rate: f64) -> Result<()> {
        let _turn = if self.turn.is_mine() { None } else { Some(self.turn.take()?) };
        Options { learning_rate, ..self.options.clone() }.check()?;
        self.publish(Arc::new(State { learning_rate, ..State::clone(&self.state()) }));
        Ok(())
    }

    /// Takes the turn to change this model; waits while another thread has it.
    pub fn train(&self) -> Result<Training<'_>> {
        Ok(Training { _turn: self.turn.take()?, model: self })
    }

    /// Gives `each` the index, class and probabilities of every image, when nothing can fail any more.
    pub fn predict(&self, pixels: Pixels, mut each: impl FnMut(usize, u8, &[f32])) -> Result<()> {
        let (state, images) = (self.state(), self.images(pixels));
        let n = images.count();
        let mut logits = self.outputs.take().unwrap_or_default();
        self.write_rows(&state, &images, 0..n, &mut logits)?;
        failpoint::point();
        let rows = prediction::rows(&mut logits, n, self.architecture().classes());
        for (i, mut rows) in rows.enumerate() {
            let class = rows.classify(state.calibration.temperature) as u8;
            each(i, class, rows.own);
        }
        self.outputs.give_back(logits);
        Ok(())
    }

    /// Gives `then` the bytes that the network sees of a picture.
    pub fn with_prepared(
        &self,
        image: &Image,
        then: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<()> {
        self.pictures.prepare(self.options.preparer(), image, then)
    }

    /// Gives `then` these outputs of each image, all finite.
    pub fn with_outputs(
        &self,
        pixels: Pixels,
        outputs: Outputs,
        then: impl FnOnce(&[f32]),
    ) -> Result<()> {
        let images = self.images(pixels);
        let mut out = self.outputs.take().unwrap_or_default();
        resize(&mut out, images.count() * self.architecture().outputs(outputs))?;
        self.write_outputs(&self.state(), &images, 0, outputs, &mut out)?;
        failpoint::point();
        then(&out);
        self.outputs.give_back(out);
        Ok(())
    }

    /// Writes the logits of `images[range]` in `state`, for `prediction::rows`: of the images, and of a mirrored
    /// model those of all mirror images after them.
    pub fn write_rows(
        &self,
        state: &State,
        images: &Images,
        range: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        static MIRRORED: [View; 1024] = [View::MIRRORED; 1024];
        let (first, images) = (range.start, images.part(range));
        let classes = self.architecture().classes();
        let length = images.count() * classes;
        resize(out, if self.options.mirror { 2 * length } else { length })?;
        let (own, mirrored) = out.split_at_mut(length);
        self.write_outputs(state, &images, first, Outputs::Logits, own)?;
        let parts = chunks(0..images.count(), MIRRORED.len());
        for (part, out) in parts.zip(mirrored.chunks_mut(MIRRORED.len() * classes)) {
            let views = Some(&MIRRORED[..part.len()]);
            let first = first + part.start;
            let images = Images { views, ..images.part(part) };
            self.write_outputs(state, &images, first, Outputs::Logits, out)?;
        }
        Ok(())
    }

    /// Writes these outputs of images in `state`; what is not finite is refused, by the images' number counted from
    /// `first`.
    fn write_outputs(
        &self,
        state: &State,
        images: &Images,
        first: usize,
        outputs: Outputs,
        out: &mut [f32],
    ) -> Result<()> {
        self.engine.outputs(&state.weights, images, 0..images.count(), outputs, out)?;
        let Some(at) = first_not_finite(out) else { return Ok(()) };
        let (what, image) = (outputs.name(), first + at / self.architecture().outputs(outputs));
        Err(Error::new(
            Code::Diverged,
            format!(
                "the {what} of images[{image}] are not finite: its pixels or the model's parameters are too large"
            ),
        ))
    }

    pub fn compute_gradients(&self, pixels: Pixels, labels: &[u8]) -> Result<HostGradient> {
        self.check_labels("labels", labels)?;
        let images = self.images(pixels);
        let gradient = self.take_gradient()?;
        let targets = Targets { labels, weights: None };
        let seen = self.engine.gradient(&self.state().weights, &images, &targets, &gradient)?;
        failpoint::point();
        let flat = gradient.row(0)?;
        self.gradients.give_back(gradient);
        let loss = seen.loss as f32;
        check_finite_step("the gradient", loss, first_not_finite(&flat).is_none())?;
        Ok(HostGradient { loss, flat })
    }

    fn take_gradient(&self) -> Result<Values> {
        self.gradients.take().map_or_else(|| self.upload_zeros(1), Ok)
    }

    fn upload_zeros(&self, rows: usize) -> Result<Values> {
        let zeros = vec![0.0; self.architecture().parameter_count()];
        self.engine.upload(&vec![zeros.as_slice(); rows])
    }

    /// Images of this model's size, all of them as they lie.
    pub fn images<'a>(&self, pixels: Pixels<'a>) -> Images<'a> {
        Images { pixels, size: self.architecture().pixels(), order: None, views: None }
    }

    pub fn check_labels(&self, name: &str, labels: &[u8]) -> Result<()> {
        let classes = self.architecture().classes();
        match labels.iter().position(|&label| usize::from(label) >= classes) {
            None => Ok(()),
            Some(i) => Err(Error::new(
                Code::LabelOutOfRange,
                format!("{name}[{i}] is {}; this model has {classes} classes", labels[i]),
            )),
        }
    }
}

/// Elements of `n` images: the length that a caller's buffer must have.
pub fn image_elements(architecture: Architecture, n: usize) -> Result<usize> {
    if n == 0 || n > MAX_IMAGES {
        return Err(Error::invalid(format!("n is {n}; it must be from 1 to {MAX_IMAGES}")));
    }
    Ok(n * architecture.pixels())
}

/// The right to change a model: one holder at a time.
pub struct Training<'a> {
    _turn: TurnGuard<'a>,
    model: &'a Model,
}

/// What a training step found before it changed the parameters.
#[derive(Clone, Copy, Debug)]
pub struct StepResult {
    pub loss: f32,
    pub correct: usize,
}

impl Training<'_> {
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
    /// learning rate: as many steps as the engine makes at once. Gives the number of images that they have trained on; `standing` tells where
    /// `fit` stands after so many, and `each` gets every step's result when the last one is published.
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
        let (optimizer, number) = (self.model.options.optimizer, number_after(&state));
        let run =
            Run { images: *images, targets: *targets, batch, optimizer, number, learning_rates };
        let mut results = self.model.results.take().unwrap_or_default();
        results.clear();
        let weights = unshared(&mut unshared(&mut next)?.weights)?;
        let mut keep = |seen: Seen| {
            results.push(StepResult { loss: seen.loss as f32, correct: seen.correct });
        };
        let ran = self.model.engine.train(&run, &state.weights, &gradient, weights, &mut keep)?;
        failpoint::point();
        self.model.gradients.give_back(gradient);
        let trained = targets.labels.len().min(ran.steps * batch);
        if ran.steps > 0 {
            self.publish_next(state, next, run.number_of(ran.steps - 1), standing(trained))?;
        }
        results.iter().take(ran.steps).for_each(|&result| each(result));
        let after = results.get(ran.steps).map_or(0.0, |result| result.loss);
        self.model.results.give_back(results);
        check_finite_step(&format!("step {}", run.number_of(ran.steps)), after, ran.finite)?;
        Ok(trained)
    }

    /// One step with a gradient that the caller brings.
    pub fn apply_gradients(&mut self, gradient: &[f32]) -> Result<()> {
        check_finite("gradients", gradient)?;
        let state = self.model.state();
        let gradient = self.model.engine.upload(&[gradient])?;
        let mut next = self.next_state(&state)?;
        let weights = unshared(&mut unshared(&mut next)?.weights)?;
        let (optimizer, number) = (self.model.options.optimizer, number_after(&state));
        let step = Step { optimizer, number, learning_rate: state.learning_rate };
        let finite = self.model.engine.step(step, &state.weights, &gradient, weights)?;
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
        let values = self.model.engine.upload(&rows)?;
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
        match self.model.spare.lock().take() {
            Some(spare) if is_unshared(&spare) => Ok(spare),
            _ => {
                let rows = 1 + self.model.options.optimizer.state_names().len();
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
        *self.model.spare.lock() = Some(previous);
        Ok(())
    }
}

/// The number of the step after this state.
fn number_after(state: &State) -> u64 {
    state.step.saturating_add(1).min(MAX_COUNT)
}

fn unshared<T>(arc: &mut Arc<T>) -> Result<&mut T> {
    Arc::get_mut(arc)
        .ok_or_else(|| Error::new(Code::Internal, "a state that is being written is shared"))
}

fn is_unshared(state: &Arc<State>) -> bool {
    Arc::strong_count(state) == 1 && Arc::strong_count(&state.weights) == 1
}

/// Refuses a step whose loss or any of whose results is not finite.
fn check_finite_step(what: &str, loss: f32, results_finite: bool) -> Result<()> {
    if loss.is_finite() && results_finite {
        return Ok(());
    }
    Err(Error::new(
        Code::Diverged,
        format!(
            "{what} is not finite (loss {loss}): the learning rate or the data is too large; the model keeps its last good step"
        ),
    ))
}

fn open(options: Options) -> Result<(Options, Box<dyn Engine>)> {
    let (engine, device) = engine::open(
        options.device,
        options.device_index,
        options.num_threads,
        options.architecture,
        options.normalization,
    )?;
    // AUTO's index chooses among GPUs; the CPU that it may become is the only one.
    let device_index = if device == DeviceChoice::Cpu { 0 } else { options.device_index };
    Ok((Options { device, device_index, ..options }, engine))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::{Activation, Pooling};
    use crate::batch::{Normalization, Seen};
    use crate::optimizer::{Optimizer, Rule};
    use candle_core::Device;
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
        let step = || model.train()?.step(Pixels::Byte(&image), &targets);
        assert!(catch_unwind(AssertUnwindSafe(step)).is_err());
        assert_eq!(step().unwrap_err().code, Code::Internal);
        let each = |_, _, row: &[f32]| assert_eq!(row, [0.5, 0.5]);
        model.predict(Pixels::Byte(&image), each).unwrap();
        let saved = crate::checkpoint::save(&model).unwrap();
        assert!(saved == crate::checkpoint::save(&good).unwrap());
    }
}
