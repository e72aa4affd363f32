//! The plain engine: `network.rs` on a candle device, gradients by candle's autograd. For
//! devices that the fused engine does not know, and to compare with it.
//!
//! Large batches are cut into chunks so that memory does not grow with the batch. Candle's CPU
//! operations run on thread pools that candle makes once a process; they do not survive fork(), so
//! a child of a process that used them is refused rather than left hanging.

use super::{Engine, Gradient, Images, Normalization, argmax, chunks};
use crate::error::{Code, Error, Result};
use crate::network;
use crate::parameters::Parameters;
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
        parameters: &Parameters,
        images: &Images,
        range: Range<usize>,
    ) -> Result<Tensor> {
        let architecture = parameters.architecture();
        let mut pixels = Vec::with_capacity(range.len() * images.size);
        for i in range.clone() {
            images.append(i, &mut pixels);
        }
        self.normalization.apply(&mut pixels);
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
        parameters: &Parameters,
        images: &Images,
        range: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        refuse_forked_child()?;
        for chunk in chunks(range, CHUNK) {
            let images = self.load(parameters, images, chunk)?;
            let logits = network::logits(parameters, &images)?;
            out.extend(logits.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(())
    }

    fn gradient(
        &self,
        parameters: &Parameters,
        images: &Images,
        labels: &[u8],
    ) -> Result<Gradient> {
        refuse_forked_child()?;
        let n = labels.len();
        let mut sum: Option<Tensor> = None;
        let mut loss = 0f32;
        let mut correct = 0;
        for chunk in chunks(0..n, CHUNK) {
            let labels = &labels[chunk.clone()];
            let classes: Vec<u32> = labels.iter().map(|&label| label.into()).collect();
            let classes = Tensor::from_vec(classes, labels.len(), &self.device)?;
            let images = self.load(parameters, images, chunk)?;
            let logits = network::logits(parameters, &images)?;
            // The batch's mean is the mean of the chunks' means, weighted by their sizes.
            let part = (network::loss(&logits, &classes)? * (labels.len() as f64 / n as f64))?;
            let gradients = part.backward()?;
            let gradient = gradients
                .get(parameters.flat())
                .ok_or_else(|| Error::new(Code::Internal, "the parameters got no gradient"))?;
            sum = Some(match sum {
                None => gradient.clone(),
                Some(sum) => (sum + gradient)?,
            });
            loss += part.to_scalar::<f32>()?;
            let rows: Vec<Vec<f32>> = logits.to_vec2()?;
            let hits = rows.iter().zip(labels);
            correct += hits.filter(|&(row, &label)| argmax(row) == usize::from(label)).count();
        }
        let flat = sum.ok_or_else(|| Error::new(Code::Internal, "an empty batch"))?;
        Ok(Gradient { loss, correct, flat })
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
