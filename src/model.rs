//! The handle: what a model is, who may change it, and what a reader sees meanwhile.
//!
//! All that training changes is one immutable `State`. Readers take the published one and go on
//! with it; whoever holds the turn computes the next and publishes it as a whole. So `const` calls
//! of the C API never wait for training, and a step that fails leaves nothing to undo.

use crate::allocation::resize;
use crate::architecture::{Architecture, Outputs};
use crate::batch::{Images, Pixels, Targets, chunks, first_not_finite};
use crate::engine::{self, DeviceChoice, Engine};
use crate::error::{Code, Error, Result};
use crate::failpoint;
use crate::free_list::FreeList;
use crate::host::{Lock, Published};
use crate::optimizer::Optimizer;
pub use crate::options::Options;
use crate::parameters::{Weights, with_classes, xavier};
use crate::prediction;
use crate::prepare::{Image, Pictures};
use crate::standing::{Course, Epoch, Kept, Standing};
pub use crate::state::{Beginning, State};
use crate::turn::{Turn, TurnGuard};
use crate::values::Values;
use crate::view::View;
use std::ops::Range;
use std::sync::Arc;

pub struct Model {
    options: Options,
    engine: Box<dyn Engine>,
    published: Published<State>,
    turn: Turn,
    outputs: FreeList<Vec<f32>>,
    scratch: Scratch,
    pictures: Pictures,
}

/// What training writes in.
#[derive(Default)]
pub struct Scratch {
    /// The state before the published one, if no reader has it any more.
    pub spare: Lock<Option<Arc<State>>>,
    pub gradients: FreeList<Values>,
    pub results: FreeList<Vec<StepResult>>,
}

/// What a training step found before it changed the parameters.
#[derive(Clone, Copy, Debug)]
pub struct StepResult {
    pub loss: f32,
    pub correct: usize,
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

    pub fn assemble(options: Options, engine: Box<dyn Engine>, state: State) -> Self {
        Model {
            options,
            engine,
            published: Published::new(Arc::new(state)),
            turn: Turn::default(),
            outputs: FreeList::default(),
            scratch: Scratch::default(),
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

    /// Gives back the state that was published before. For whoever has the turn.
    pub fn publish(&self, state: Arc<State>) -> Arc<State> {
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

    /// Whoever has the turn may change this model; waits while another thread has it.
    pub fn take_turn(&self) -> Result<TurnGuard<'_>> {
        self.turn.take()
    }

    pub fn optimizer(&self) -> Optimizer {
        self.options.optimizer
    }

    pub fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    pub fn scratch(&self) -> &Scratch {
        &self.scratch
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
        self.scratch.gradients.give_back(gradient);
        let loss = seen.loss as f32;
        check_finite_step("the gradient", loss, first_not_finite(&flat).is_none())?;
        Ok(HostGradient { loss, flat })
    }

    /// Values to write a gradient in.
    pub fn take_gradient(&self) -> Result<Values> {
        self.scratch.gradients.take().map_or_else(|| self.upload_zeros(1), Ok)
    }

    pub fn upload_zeros(&self, rows: usize) -> Result<Values> {
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

/// Refuses a step whose loss or any of whose results is not finite.
pub fn check_finite_step(what: &str, loss: f32, results_finite: bool) -> Result<()> {
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
