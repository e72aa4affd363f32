//! The plain engine: `network.rs` on a candle device, gradients by candle's autograd. For
//! devices that the fused engine does not know, and to compare with it.
//!
//! Large batches are cut into chunks so that memory does not grow with the batch. Candle's CPU
//! operations run on thread pools that candle makes once a process; they do not survive fork(), so
//! a child of a process that used them is refused rather than left hanging.

use super::{Engine, Images, Normalization, Pixels, Seen, argmax, chunks};
use crate::architecture::Architecture;
use crate::error::{Code, Error, Result};
use crate::network;
use crate::optimizer::Step;
use crate::parameters::Weights;
use candle_core::{Device, Tensor};
use std::ops::Range;
use std::sync::OnceLock;

/// Images in flight at once: about 70 MB of activations for 28x28 in training.
const CHUNK: usize = 256;

pub struct CandleEngine {
    device: Device,
    normalization: Normalization,
}

impl CandleEngine {
    pub fn new(device: Device, normalization: Normalization) -> Self {
        CandleEngine { device, normalization }
    }

    /// Images of the batch as the network sees them: (range, 1, height, width).
    fn load(
        &self,
        architecture: Architecture,
        images: &Images,
        range: Range<usize>,
    ) -> Result<Tensor> {
        let mut pixels = Vec::with_capacity(range.len() * images.size);
        for i in range.clone() {
            match images.image(i) {
                Pixels::Float(image) => pixels.extend_from_slice(image),
                Pixels::Byte(image) => pixels.extend(image.iter().map(|&p| f32::from(p) / 255.0)),
            }
        }
        pixels.iter_mut().for_each(|pixel| *pixel = self.normalization.of(*pixel));
        let shape = (range.len(), 1, architecture.height(), architecture.width());
        Ok(Tensor::from_vec(pixels, shape, &self.device)?)
    }
}

impl Engine for CandleEngine {
    fn device(&self) -> &Device {
        &self.device
    }

    fn logits(
        &self,
        weights: &Weights,
        images: &Images,
        range: Range<usize>,
        out: &mut [f32],
    ) -> Result<()> {
        refuse_forked_child()?;
        let (architecture, parameters) = (weights.architecture(), weights.parameters()?);
        let out = out.chunks_mut(CHUNK * architecture.classes());
        for (chunk, out) in chunks(range, CHUNK).zip(out) {
            let images = self.load(architecture, images, chunk)?;
            let logits = network::logits(&parameters, &images)?;
            out.copy_from_slice(&logits.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(())
    }

    fn gradient(
        &self,
        weights: &Weights,
        images: &Images,
        labels: &[u8],
        gradient: &Tensor,
    ) -> Result<Seen> {
        refuse_forked_child()?;
        let parameters = weights.parameters()?;
        let n = labels.len();
        let mut sum = gradient.zeros_like()?;
        let mut seen = Seen::default();
        for chunk in chunks(0..n, CHUNK) {
            let labels = &labels[chunk.clone()];
            let classes: Vec<u32> = labels.iter().map(|&label| label.into()).collect();
            let classes = Tensor::from_vec(classes, labels.len(), &self.device)?;
            let images = self.load(weights.architecture(), images, chunk)?;
            let logits = network::logits(&parameters, &images)?;
            // The batch's mean is the mean of the chunks' means, weighted by their sizes.
            let part = (network::loss(&logits, &classes)? * (labels.len() as f64 / n as f64))?;
            let gradients = part.backward()?;
            let gradient = gradients
                .get(parameters.flat())
                .ok_or_else(|| Error::new(Code::Internal, "the parameters got no gradient"))?;
            sum = (sum + gradient)?;
            seen.loss += f64::from(part.to_scalar::<f32>()?);
            let rows: Vec<Vec<f32>> = logits.to_vec2()?;
            let hits = rows.iter().zip(labels);
            seen.correct += hits.filter(|&(row, &label)| argmax(row) == usize::from(label)).count();
        }
        gradient.slice_set(&sum, 0, 0)?;
        Ok(seen)
    }

    fn step(
        &self,
        step: Step,
        now: &Weights,
        gradient: &Tensor,
        next: &mut Weights,
    ) -> Result<bool> {
        refuse_forked_child()?;
        let result = step.apply(now.values(), gradient)?;
        next.values().slice_set(&result, 0, 0)?;
        let values: Vec<f32> = result.flatten_all()?.to_vec1()?;
        Ok(values.iter().all(|value| value.is_finite()))
    }
}

/// The first computation may start candle's pools; from then on they belong to that process.
fn refuse_forked_child() -> Result<()> {
    static OWNER: OnceLock<u32> = OnceLock::new();
    let process = std::process::id();
    let owner = *OWNER.get_or_init(|| process);
    if owner == process {
        return Ok(());
    }
    Err(Error::new(
        Code::Forked,
        format!(
            "process {process} was forked from {owner} after lenet's first computation; candle's threads stayed there"
        ),
    ))
}
