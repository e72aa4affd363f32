//! The plain engine: `network.rs` on a candle device, gradients by candle's autograd. For
//! devices that the fused engine does not know, and to compare with it.
//!
//! Large batches are cut into chunks so that memory does not grow with the batch. A device may be
//! far away: a dataset that batches are picked from is copied there once, a chunk's loss and logits
//! come back together, and a step says in one number whether it is finite. Candle's CPU operations run
//! on thread pools that candle makes once a process; they do not survive fork(), so a child of a process
//! that used them is refused rather than left hanging.

use super::interface::{self, Engine};
use crate::allocation::resize;
use crate::architecture::{Architecture, Outputs};
use crate::batch::{Images, Normalization, Order, Pixels, Seen, Targets, argmax, chunks};
use crate::error::{Code, Error, Result};
use crate::host::{Lock, signals};
use crate::network;
use crate::optimizer::Step;
use crate::parameters::Weights;
use crate::unique::Unique;
use crate::values::Values;
use crate::view::View;
use candle_core::{DType, Device, Tensor};
use std::ops::Range;
use std::sync::atomic::AtomicU32;

/// Pixels in flight at once, 256 images of 28x28: in training they take 350 bytes each, 70 MB. A GPU has more
/// memory, and nothing to do while a chunk is too small for it.
const CPU_CHUNK: usize = 256 * 28 * 28;
const GPU_CHUNK: usize = 8 * CPU_CHUNK;

pub struct CandleEngine {
    device: Device,
    normalization: Normalization,
    /// The pixels of the dataset that batches were picked from last, (images, pixels) of u8.
    dataset: Lock<Option<(Unique, Tensor)>>,
}

impl CandleEngine {
    pub fn new(device: Device, normalization: Normalization) -> Self {
        CandleEngine { device, normalization, dataset: Lock::default() }
    }

    /// Images of so many pixels that are computed at once.
    fn chunk(&self, size: usize) -> usize {
        let pixels = if self.device.is_cpu() { CPU_CHUNK } else { GPU_CHUNK };
        (pixels / size).max(1)
    }

    /// Images of the batch as the network sees them: (range, 1, height, width).
    fn load(
        &self,
        architecture: Architecture,
        images: &Images,
        range: Range<usize>,
    ) -> Result<Tensor> {
        let n = range.len();
        let images = images.part(range);
        let seen = images.views.map(|views| see(&images, views, architecture)).transpose()?;
        let images = match &seen {
            Some(seen) => {
                Images { pixels: Pixels::Float(seen), order: None, views: None, ..images }
            }
            None => images,
        };
        let pixels = match (images.pixels, images.order) {
            (Pixels::Byte(pixels), Some(order)) => self.pick(pixels, images.size, order)?,
            (Pixels::Byte(pixels), None) => {
                Tensor::from_slice(pixels, (n, images.size), &self.device)?
            }
            (Pixels::Float(pixels), None) => {
                Tensor::from_slice(pixels, (n, images.size), &self.device)?
            }
            (Pixels::Float(_), Some(_)) => {
                return Err(Error::new(Code::Internal, "a dataset has bytes"));
            }
        };
        // Candle divides by a number with a multiplication, which rounds otherwise.
        let divide = |x: Tensor, by: f32| x.broadcast_div(&Tensor::new(by, &self.device)?);
        let pixels = match images.pixels {
            Pixels::Byte(_) => divide(pixels.to_dtype(DType::F32)?, 255.0)?,
            Pixels::Float(_) => pixels,
        };
        let Normalization { mean, std } = self.normalization;
        let pixels = divide((pixels - mean)?, std as f32)?;
        let shape = (n, 1, architecture.height(), architecture.width());
        Ok(pixels.reshape(shape)?)
    }

    /// Images of a dataset whose `pixels` are copied to the device unless they are there.
    fn pick(&self, pixels: &[u8], size: usize, order: Order) -> Result<Tensor> {
        let mut dataset = self.dataset.lock();
        let there = match &*dataset {
            Some((number, there)) if *number == order.dataset => there,
            _ => {
                *dataset = None; // before the next one needs room
                let shape = (pixels.len() / size, size);
                let copy = Tensor::from_slice(pixels, shape, &self.device)?;
                &dataset.insert((order.dataset, copy)).1
            }
        };
        let indices = Tensor::from_slice(order.indices, order.indices.len(), &self.device)?;
        Ok(there.index_select(&indices, 0)?)
    }
}

impl Engine for CandleEngine {
    fn upload(&self, rows: &[&[f32]]) -> Result<Values> {
        let values = Values::on(&self.device, rows)?;
        self.device.synchronize()?;
        Ok(values)
    }

    fn outputs(
        &self,
        weights: &Weights,
        images: &Images,
        range: Range<usize>,
        outputs: Outputs,
        out: &mut [f32],
    ) -> Result<()> {
        let _signals = begin()?;
        let (architecture, parameters) = (weights.architecture(), weights.parameters()?);
        images.check_pixels(range.clone(), architecture.width(), self.normalization)?;
        let size = self.chunk(images.size);
        let out = out.chunks_mut(size * architecture.outputs(outputs));
        for (chunk, out) in chunks(range, size).zip(out) {
            let images = self.load(architecture, images, chunk)?;
            let rows = network::outputs(&parameters, &images, outputs)?;
            out.copy_from_slice(&rows.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(())
    }

    fn gradient(
        &self,
        weights: &Weights,
        images: &Images,
        targets: &Targets,
        gradient: &Values,
    ) -> Result<Seen> {
        let _signals = begin()?;
        let parameters = weights.parameters()?;
        let (n, shares) = (targets.labels.len(), targets.shares());
        images.check_pixels(0..n, weights.architecture().width(), self.normalization)?;
        let gradient = gradient.tensor()?.get(0)?;
        let mut sum = gradient.zeros_like()?;
        let mut seen = Seen::default();
        for chunk in chunks(0..n, self.chunk(images.size)) {
            let labels = &targets.labels[chunk.clone()];
            let shares = shares.map(|shares| {
                let shares = chunk.clone().map(|i| shares.of(i) as f32);
                Tensor::from_iter(shares, &self.device)
            });
            let classes: Vec<u32> = labels.iter().map(|&label| label.into()).collect();
            let classes = Tensor::from_vec(classes, labels.len(), &self.device)?;
            let images = self.load(weights.architecture(), images, chunk)?;
            let logits = network::logits(&parameters, &images)?;
            // The batch's mean is the mean of the chunks' means, weighted by their sizes.
            let part = (network::loss(&logits, &classes, shares.transpose()?.as_ref())?
                * (labels.len() as f64 / n as f64))?;
            let gradients = part.backward()?;
            let gradient = gradients
                .get(parameters.flat())
                .ok_or_else(|| Error::new(Code::Internal, "the parameters got no gradient"))?;
            sum = (sum + gradient)?;
            let part = Tensor::cat(&[part.reshape(1)?, logits.flatten_all()?], 0)?;
            let part: Vec<f32> = part.to_vec1()?;
            seen.loss += f64::from(part[0]);
            let rows = part[1..].chunks_exact(weights.architecture().classes()).zip(labels);
            seen.correct += rows.filter(|&(row, &label)| argmax(row) == usize::from(label)).count();
        }
        gradient.slice_set(&sum, 0, 0)?;
        self.device.synchronize()?;
        Ok(seen)
    }

    fn step(
        &self,
        step: Step,
        now: &Weights,
        gradient: &Values,
        next: &mut Weights,
    ) -> Result<bool> {
        let _signals = begin()?;
        let result = step.apply(now.values().tensor()?, &gradient.tensor()?.get(0)?)?;
        next.values_mut().tensor()?.slice_set(&result, 0, 0)?;
        // Zero times what is infinite or not a number is not a number.
        let zero: f32 = (result * 0.0)?.sum_all()?.to_scalar()?;
        Ok(zero == 0.0)
    }
}

/// What is seen of images through their views.
fn see(images: &Images, views: &[View], architecture: Architecture) -> Result<Vec<f32>> {
    let size = [architecture.height(), architecture.width()];
    let mut bordered = vec![0.0; View::bordered_size(size)];
    let mut seen = Vec::new();
    resize(&mut seen, images.count() * images.size)?;
    for (i, out) in seen.chunks_exact_mut(images.size).enumerate() {
        images.see(i, &views[i], size, &mut bordered, out);
    }
    Ok(seen)
}

/// Any computation may start one of candle's pools. From the first one on they belong to this process, and
/// their threads begin with the signals blocked that this one has blocked.
fn begin() -> Result<signals::Blocked> {
    static OWNER: AtomicU32 = AtomicU32::new(0);
    let stayed = " after lenet's first computation; candle's threads stayed there";
    interface::refuse_forked_child(&OWNER, stayed)?;
    Ok(signals::block())
}
