//! The handle: what a model is, who may change it, and what a reader sees meanwhile.
//!
//! All that training changes is one immutable `State`. Readers take the published one and go on
//! with it; whoever holds the turn computes the next and publishes it as a whole. So `const` calls
//! of the C API never wait for training, and a step that fails leaves nothing to undo.

use crate::architecture::Architecture;
use crate::engine::{self, DeviceChoice, Engine, Images, Normalization, Pixels, argmax};
use crate::error::{Code, Error, Result};
use crate::optimizer::Optimizer;
use crate::parameters::Parameters;
use candle_core::Tensor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::ThreadId;

/// What a model is made with; nothing of it changes later but the learning rate in `State`.
#[derive(Clone, Debug)]
pub struct Options {
    pub architecture: Architecture,
    pub device: DeviceChoice,
    pub device_index: i32,
    /// 0: as many as this process may use.
    pub num_threads: u32,
    pub optimizer: Optimizer,
    pub learning_rate: f64,
    pub seed: u64,
    pub normalization: Normalization,
}

impl Options {
    /// Refuses, by field, what no training could use.
    pub fn check(&self) -> Result<()> {
        let std = self.normalization.std;
        let fields = [
            ("learning_rate", self.learning_rate, self.learning_rate >= 0.0, "at least 0"),
            (
                "momentum",
                self.optimizer.momentum,
                (0.0..1.0).contains(&self.optimizer.momentum),
                "at least 0 and below 1",
            ),
            (
                "weight_decay",
                self.optimizer.weight_decay,
                self.optimizer.weight_decay >= 0.0,
                "at least 0",
            ),
            ("input_mean", self.normalization.mean, true, "a float"),
            ("input_std", std, std as f32 > 0.0, "above 0"),
        ];
        for (name, value, in_range, range) in fields {
            if !value.is_finite() || !in_range || !(value as f32).is_finite() {
                return Err(Error::invalid(format!("{name} is {value:?}; it must be {range}")));
            }
        }
        Ok(())
    }
}

/// Where `fit` stands in its data, so that an interrupted epoch can be finished later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    /// Epochs finished since the model was made; numbers the shuffle.
    pub index: u64,
    /// Images of this epoch that have been trained on, and of how many; 0 and 0 between epochs.
    pub consumed: u64,
    pub count: u64,
}

/// Everything that training changes, as of one whole step.
#[derive(Clone, Debug)]
pub struct State {
    pub parameters: Parameters,
    /// The optimizer's running averages, named by `Optimizer::state_names`.
    pub optimizer: Vec<Tensor>,
    pub learning_rate: f64,
    /// Optimizer steps so far.
    pub step: u64,
    pub epoch: Epoch,
}

pub struct Model {
    options: Options,
    engine: Box<dyn Engine>,
    published: RwLock<Arc<State>>,
    turn: Turn,
}

/// Predicted classes (n) and softmax probabilities (n, classes).
pub struct Prediction {
    pub classes: Vec<u8>,
    pub probabilities: Vec<f32>,
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
        let (options, engine) = open(options)?;
        let parameters = Parameters::xavier(options.architecture, options.seed, engine.device())?;
        let state = State {
            optimizer: options.optimizer.initial_state(parameters.flat())?,
            parameters,
            learning_rate: options.learning_rate,
            step: 0,
            epoch: Epoch::default(),
        };
        Ok(Model::assemble(options, engine, state))
    }

    /// A model that goes on from what was saved: flat parameters, optimizer state, counters.
    pub fn restore(
        options: Options,
        parameters: &[f32],
        optimizer: Option<Vec<Vec<f32>>>,
        step: u64,
        epoch: Epoch,
    ) -> Result<Self> {
        let (options, engine) = open(options)?;
        let parameters = Parameters::from_slice(options.architecture, parameters, engine.device())?;
        let optimizer = match optimizer {
            None => options.optimizer.initial_state(parameters.flat())?,
            Some(state) => state
                .iter()
                .map(|values| Ok(Tensor::from_slice(values, values.len(), engine.device())?))
                .collect::<Result<_>>()?,
        };
        let learning_rate = options.learning_rate;
        let state = State { parameters, optimizer, learning_rate, step, epoch };
        Ok(Model::assemble(options, engine, state))
    }

    /// A second model in the same state. States are never changed, so the two share it until one
    /// of them trains.
    pub fn try_clone(&self) -> Result<Self> {
        let (options, engine) = open(self.options.clone())?;
        Ok(Model::assemble(options, engine, State::clone(&self.state())))
    }

    fn assemble(options: Options, engine: Box<dyn Engine>, state: State) -> Self {
        let published = RwLock::new(Arc::new(state));
        Model { options, engine, published, turn: Turn::default() }
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
        Arc::clone(&self.published.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, state: State) {
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
    }

    /// Takes the turn to change this model; waits while another thread has it.
    pub fn train(&self) -> Result<Training<'_>> {
        Ok(Training { _turn: self.turn.take()?, model: self })
    }

    pub fn predict(&self, pixels: Pixels) -> Result<Prediction> {
        let classes = self.architecture().classes();
        let mut probabilities = self.logits(pixels)?;
        let mut predicted = Vec::new();
        reserve(&mut predicted, probabilities.len() / classes)?;
        for row in probabilities.chunks_exact_mut(classes) {
            predicted.push(argmax(row) as u8);
            softmax(row);
        }
        Ok(Prediction { classes: predicted, probabilities })
    }

    /// (n, classes), all finite.
    pub fn logits(&self, pixels: Pixels) -> Result<Vec<f32>> {
        let images = self.check_images(pixels)?;
        let mut logits = Vec::new();
        reserve(&mut logits, images.count() * self.architecture().classes())?;
        self.append_logits(&self.state(), &images, 0..images.count(), &mut logits)?;
        Ok(logits)
    }

    /// Appends the logits of `images[range]` in `state`; what is not finite is refused.
    pub fn append_logits(
        &self,
        state: &State,
        images: &Images,
        range: std::ops::Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let start = out.len();
        self.engine.logits(&state.parameters, images, range.clone(), out)?;
        match out[start..].iter().position(|logit| !logit.is_finite()) {
            None => Ok(()),
            Some(at) => Err(Error::new(
                Code::Diverged,
                format!(
                    "the logits of images[{}] are not finite: its pixels or the model's parameters are too large",
                    range.start + at / self.architecture().classes()
                ),
            )),
        }
    }

    pub fn compute_gradients(&self, pixels: Pixels, labels: &[u8]) -> Result<HostGradient> {
        let images = self.check_batch(pixels, labels)?;
        let gradient = self.engine.gradient(&self.state().parameters, &images, labels)?;
        let flat: Vec<f32> = gradient.flat.to_vec1()?;
        check_finite_step("the gradient", gradient.loss, all_finite(&flat))?;
        Ok(HostGradient { loss: gradient.loss, flat })
    }

    fn check_batch<'a>(&self, pixels: Pixels<'a>, labels: &[u8]) -> Result<Images<'a>> {
        let images = self.check_images(pixels)?;
        self.check_labels("labels", labels)?;
        Ok(images)
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

    fn check_images<'a>(&self, pixels: Pixels<'a>) -> Result<Images<'a>> {
        let images = Images { pixels, size: self.architecture().pixels(), order: None };
        if let Pixels::Float(values) = pixels
            && let Some(at) = values.iter().position(|p| !p.is_finite())
        {
            let (image, pixel) = (at / images.size, at % images.size);
            let (row, column) =
                (pixel / self.architecture().width(), pixel % self.architecture().width());
            return Err(Error::new(
                Code::NonFinite,
                format!("images[{image}] is {} at row {row}, column {column}", values[at]),
            ));
        }
        Ok(images)
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
    pub fn step(&mut self, pixels: Pixels, labels: &[u8]) -> Result<StepResult> {
        let images = self.model.check_batch(pixels, labels)?;
        self.step_checked(&images, labels, self.model.state().epoch)
    }

    /// One step on a batch that has been checked, after which `fit` stands at `epoch`.
    pub fn step_checked(
        &mut self,
        images: &Images,
        labels: &[u8],
        epoch: Epoch,
    ) -> Result<StepResult> {
        let state = self.model.state();
        let gradient = self.model.engine.gradient(&state.parameters, images, labels)?;
        let next = self.next_state(&state, &gradient.flat, epoch, gradient.loss)?;
        self.model.publish(next);
        Ok(StepResult { loss: gradient.loss, correct: gradient.correct })
    }

    /// One step with a gradient that the caller brings.
    pub fn apply_gradients(&mut self, gradient: &[f32]) -> Result<()> {
        check_finite("gradients", gradient)?;
        let state = self.model.state();
        let gradient = Tensor::from_slice(gradient, gradient.len(), self.model.engine.device())?;
        self.model.publish(self.next_state(&state, &gradient, state.epoch, 0.0)?);
        Ok(())
    }

    /// Replaces the parameters; optimizer state and counters stay.
    pub fn set_parameters(&mut self, parameters: &[f32]) -> Result<()> {
        check_finite("parameters", parameters)?;
        let device = self.model.engine.device();
        let parameters = Parameters::from_slice(self.model.architecture(), parameters, device)?;
        self.model.publish(State { parameters, ..State::clone(&self.model.state()) });
        Ok(())
    }

    pub fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        Options { learning_rate, ..self.model.options() }.check()?;
        self.model.publish(State { learning_rate, ..State::clone(&self.model.state()) });
        Ok(())
    }

    fn next_state(
        &self,
        state: &State,
        gradient: &Tensor,
        epoch: Epoch,
        loss: f32,
    ) -> Result<State> {
        let step = state.step + 1;
        let (flat, optimizer) = self.model.options.optimizer.step(
            state.parameters.flat(),
            gradient,
            &state.optimizer,
            step,
            state.learning_rate,
        )?;
        let mut finite = true;
        for changed in std::iter::once(&flat).chain(&optimizer) {
            finite = finite && all_finite(&changed.to_vec1()?);
        }
        check_finite_step(&format!("step {step}"), loss, finite)?;
        let parameters = Parameters::new(self.model.architecture(), &flat)?;
        Ok(State { parameters, optimizer, step, epoch, ..state.clone() })
    }
}

fn all_finite(values: &[f32]) -> bool {
    values.iter().all(|x| x.is_finite())
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

/// Refuses values that are not finite, by index.
pub fn check_finite(name: &str, values: &[f32]) -> Result<()> {
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(i) => Err(Error::new(Code::NonFinite, format!("{name}[{i}] is {}", values[i]))),
    }
}

/// In place; the largest logit is subtracted first, so nothing overflows.
fn softmax(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in &mut *row {
        *x = (*x - largest).exp();
        sum += *x;
    }
    row.iter_mut().for_each(|x| *x /= sum);
}

/// Room for `additional` elements, or OUT_OF_MEMORY where `Vec` would abort.
pub fn reserve<T>(vec: &mut Vec<T>, additional: usize) -> Result<()> {
    vec.try_reserve_exact(additional).map_err(|_| {
        let bytes = additional.saturating_mul(size_of::<T>());
        Error::new(Code::OutOfMemory, format!("cannot allocate {bytes} bytes"))
    })
}

fn open(options: Options) -> Result<(Options, Box<dyn Engine>)> {
    let (engine, device) = engine::open(
        options.device,
        options.device_index,
        options.num_threads,
        options.normalization,
    )?;
    // AUTO's index chooses among GPUs; the CPU that it may become is the only one.
    let device_index = if device == DeviceChoice::Cpu { 0 } else { options.device_index };
    Ok((Options { device, device_index, ..options }, engine))
}

/// Lets one thread at a time change a model. A thread that already has the turn, because it is
/// inside a progress callback, gets BUSY instead of a deadlock.
#[derive(Default)]
struct Turn {
    lock: Mutex<()>,
    holder: Mutex<Option<ThreadId>>,
}

struct TurnGuard<'a> {
    turn: &'a Turn,
    _lock: MutexGuard<'a, ()>,
}

impl Turn {
    fn take(&self) -> Result<TurnGuard<'_>> {
        let me = Some(std::thread::current().id());
        if self.holder() == me {
            return Err(Error::new(
                Code::Busy,
                "this thread is inside a call that is changing the model",
            ));
        }
        let lock = self.lock.lock().map_err(|_| {
            Error::new(
                Code::Internal,
                "an earlier internal failure interrupted training of this model; its last good step can still be used and saved",
            )
        })?;
        self.set_holder(me);
        Ok(TurnGuard { turn: self, _lock: lock })
    }

    fn holder(&self) -> Option<ThreadId> {
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_holder(&self, holder: Option<ThreadId>) {
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = holder;
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        self.turn.set_holder(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::{Activation, Pooling};
    use crate::optimizer::Rule;
    use candle_core::Device;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Logits of zero, and a defect in training.
    struct BrokenEngine;

    impl Engine for BrokenEngine {
        fn device(&self) -> &Device {
            &Device::Cpu
        }

        fn logits(
            &self,
            parameters: &Parameters,
            _: &Images,
            range: std::ops::Range<usize>,
            out: &mut Vec<f32>,
        ) -> Result<()> {
            let classes = parameters.architecture().classes();
            out.resize(out.len() + range.len() * classes, 0.0);
            Ok(())
        }

        fn gradient(&self, _: &Parameters, _: &Images, _: &[u8]) -> Result<engine::Gradient> {
            panic!("a defect");
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
        }
    }

    #[test]
    fn after_a_panic_in_training_the_last_good_step_can_still_be_used() {
        let good = Model::create(options()).unwrap();
        let state = State::clone(&good.state());
        let model = Model::assemble(options(), Box::new(BrokenEngine), state);
        let image = [0u8; 256];
        let step = || model.train()?.step(Pixels::Byte(&image), &[1]);
        assert!(catch_unwind(AssertUnwindSafe(step)).is_err());
        assert_eq!(step().unwrap_err().code, Code::Internal);
        assert_eq!(model.predict(Pixels::Byte(&image)).unwrap().probabilities, [0.5, 0.5]);
        let saved = crate::checkpoint::save(&model).unwrap();
        assert!(saved == crate::checkpoint::save(&good).unwrap());
    }

    #[test]
    fn softmax_of_large_logits_is_finite() {
        let mut row = [1e30, -1e30, 1e30];
        softmax(&mut row);
        assert_eq!(row, [0.5, 0.0, 0.5]);
    }
}
