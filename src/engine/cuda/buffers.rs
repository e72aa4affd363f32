//! What launches compute in and what passes between host and device. All of it is kept from call to call, and grows.

use super::arguments::{self, Address, NULL, Rates, Report, StepResult};
use super::gpu::{Gpu, Mapped};
use super::kernels::Kernels;
use super::pace::Pace;
use crate::batch::{Images, Normalization, Order, Pixels, Seen};
use crate::error::{Code, Error, Result};
use crate::unique::Unique;
use candle_core::Tensor;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use std::ops::Range;

/// Memory for a kernel's workspace, which must begin with zeros: its barriers lie there.
#[derive(Default)]
struct Workspace {
    memory: Option<CudaSlice<f32>>,
    /// It is large enough for batches of so many images.
    batch: usize,
}

pub struct Buffers {
    normalization: Normalization,
    train: Workspace,
    logits: Workspace,
    /// Rates, labels and indices or pixels of a launch, from the host.
    inputs: Mapped,
    /// The same on the device, for runs of many steps, whose every block reads them in every step.
    inputs_there: Option<CudaSlice<u8>>,
    results: Mapped,
    logits_out: Mapped,
    /// Two sets of weights that a run alternates between, each row long enough that the next one is aligned.
    pair: Option<Pair>,
    /// The dataset that batches were picked from last: its pixels, its labels.
    dataset: Option<(Unique, CudaSlice<u8>, CudaSlice<u8>)>,
    launch: u32,
    pub pace: Pace,
}

/// Where a launch for training finds what it reads.
#[derive(Clone, Copy)]
pub struct Inputs {
    pub images: arguments::Images,
    pub labels: Address,
    pub rates: Address,
}

/// The report lies before the results, in a cache line of its own.
const REPORT_BYTES: usize = 128;

impl Buffers {
    pub fn new(normalization: Normalization) -> Self {
        Buffers {
            normalization,
            train: Workspace::default(),
            logits: Workspace::default(),
            inputs: Mapped::default(),
            inputs_there: None,
            results: Mapped::default(),
            logits_out: Mapped::default(),
            pair: None,
            dataset: None,
            launch: 0,
            pace: Pace::default(),
        }
    }

    /// Workspaces are made anew, with zeros, before the next launch.
    pub fn forget_workspaces(&mut self) {
        (self.train, self.logits) = (Workspace::default(), Workspace::default());
    }

    /// A number that the launch before did not have, and not 0.
    pub fn next_launch(&mut self) -> u32 {
        self.launch = self.launch.checked_add(1).unwrap_or(1);
        self.launch
    }

    pub fn train_workspace(
        &mut self,
        gpu: &Gpu,
        kernels: &Kernels,
        batch: usize,
    ) -> Result<Address> {
        if self.train.memory.is_none() || self.train.batch < batch {
            self.train = Workspace::default(); // before the next one needs room
            let (batch32, groups) = (batch as u32, kernels.train_groups);
            let sizes = kernels.sizes(gpu, &mut self.results, batch32, groups)?;
            let memory = gpu.device.alloc_zeros(sizes.train_floats as usize)?;
            self.train = Workspace { memory: Some(memory), batch };
        }
        self.train.address(gpu)
    }

    pub fn logits_workspace(&mut self, gpu: &Gpu, kernels: &Kernels) -> Result<Address> {
        if self.logits.memory.is_none() {
            let sizes = kernels.sizes(gpu, &mut self.results, 0, kernels.logits_groups)?;
            let memory = gpu.device.alloc_zeros(sizes.logits_floats as usize)?;
            self.logits = Workspace { memory: Some(memory), batch: 0 };
        }
        self.logits.address(gpu)
    }

    /// Brings what a launch for training reads: images and labels as they lie, or indices into a dataset that is
    /// copied to the device unless it is there; and rates, one a step.
    pub fn bring(
        &mut self,
        gpu: &Gpu,
        images: &Images,
        labels: &[u8],
        rates: &[Rates],
    ) -> Result<Inputs> {
        let n = images.count();
        let rates_bytes = size_of_val(rates);
        let labels_at = (rates_bytes + image_bytes(images)).next_multiple_of(16);
        self.inputs.grow(gpu, labels_at + n)?;
        self.inputs.elements(0, rates.len())?.copy_from_slice(rates);
        copy_images(&mut self.inputs, rates_bytes, images)?;
        let mut start = self.inputs.address()?;
        let mut inputs = Inputs {
            images: self.as_they_lie(images, start + rates_bytes as Address),
            labels: start + labels_at as Address,
            rates: start,
        };
        match (images.order, images.pixels) {
            (None, _) => self.inputs.elements(labels_at, n)?.copy_from_slice(labels),
            (Some(order), Pixels::Byte(pixels)) => {
                if rates.len() > 1 {
                    start = self.copy_inputs_there(gpu, labels_at)?;
                    inputs.rates = start;
                }
                let (pixels, labels) = self.dataset(gpu, pixels, order)?;
                (inputs.images.pixels, inputs.labels) = (pixels, labels);
                inputs.images.indices = start + rates_bytes as Address;
            }
            (Some(_), Pixels::Float(_)) => {
                return Err(Error::new(Code::Internal, "a dataset has bytes"));
            }
        }
        Ok(inputs)
    }

    /// The first bytes of the inputs, on the device.
    fn copy_inputs_there(&mut self, gpu: &Gpu, bytes: usize) -> Result<Address> {
        if self.inputs_there.as_ref().is_none_or(|there| there.len() < bytes) {
            self.inputs_there = None;
            self.inputs_there = Some(gpu.device.alloc_zeros(bytes.next_power_of_two())?);
        }
        let there = self.inputs_there.as_mut().ok_or_else(missing)?;
        let from = self.inputs.elements::<u8>(0, bytes)?;
        gpu.stream.memcpy_htod(&*from, &mut there.slice_mut(..bytes)).w()?;
        Ok(gpu.address(there))
    }

    /// Pixels and labels of a dataset, which are copied to the device unless they are there.
    fn dataset(&mut self, gpu: &Gpu, pixels: &[u8], order: Order) -> Result<(Address, Address)> {
        if self.dataset.as_ref().is_none_or(|(number, ..)| *number != order.dataset) {
            self.dataset = None; // before the next one needs room
            let pixels = gpu.stream.clone_htod(pixels).w()?;
            let labels = gpu.stream.clone_htod(order.labels).w()?;
            self.dataset = Some((order.dataset, pixels, labels));
        }
        let (_, pixels, labels) = self.dataset.as_ref().ok_or_else(missing)?;
        Ok((gpu.address(pixels), gpu.address(labels)))
    }

    /// Room for all images of a prediction. Parts of it are brought by `bring_images`.
    pub fn reserve_images(&mut self, gpu: &Gpu, images: &Images) -> Result<()> {
        self.inputs.grow(gpu, image_bytes(images))
    }

    /// Copies the images of this range, as they lie, to their place among all.
    pub fn bring_images(
        &mut self,
        images: &Images,
        range: Range<usize>,
    ) -> Result<arguments::Images> {
        if images.order.is_some() {
            return Err(Error::new(Code::Internal, "predictions are of images as they lie"));
        }
        let before = image_bytes(&images.part(0..range.start));
        let part = images.part(range);
        copy_images(&mut self.inputs, before, &part)?;
        Ok(self.as_they_lie(&part, self.inputs.address()? + before as Address))
    }

    /// Images whose pixels are here.
    fn as_they_lie(&self, images: &Images, pixels: Address) -> arguments::Images {
        let Normalization { mean, std } = self.normalization;
        arguments::Images {
            pixels,
            indices: NULL,
            floats: matches!(images.pixels, Pixels::Float(_)).into(),
            count: images.count() as u32,
            mean: mean as f32,
            std: std as f32,
        }
    }

    /// Where a launch writes so many logits.
    pub fn logits(&mut self, gpu: &Gpu, count: usize) -> Result<Address> {
        self.logits_out.grow(gpu, count * size_of::<f32>())?;
        self.logits_out.address()
    }

    pub fn read_logits(&mut self, out: &mut [f32]) -> Result<()> {
        out.copy_from_slice(self.logits_out.elements(0, out.len())?);
        Ok(())
    }

    /// Where a launch writes what so many steps saw, and its report, which says one finished step until a kernel
    /// says otherwise.
    pub fn results(&mut self, gpu: &Gpu, steps: usize) -> Result<(Address, Address)> {
        self.results.grow(gpu, REPORT_BYTES + steps * size_of::<StepResult>())?;
        let fresh = Report { steps: 1, reason: arguments::FINISHED };
        self.results.elements(0, 1)?.copy_from_slice(&[fresh]);
        let report = self.results.address()?;
        Ok((report + REPORT_BYTES as Address, report))
    }

    pub fn report(&mut self) -> Result<Report> {
        Ok(self.results.elements::<Report>(0, 1)?[0])
    }

    /// What step `i` of the last launch saw.
    pub fn seen(&mut self, i: usize) -> Result<Seen> {
        let results = self.results.elements::<StepResult>(REPORT_BYTES, i + 1)?;
        Ok(Seen { loss: results[i].loss, correct: results[i].correct as usize })
    }

    /// Two sets like `now`.
    pub fn pair(&mut self, now: &Tensor) -> Result<Pair> {
        if self.pair.is_none() {
            let stride = now.elem_count().next_multiple_of(ALIGNED_FLOATS);
            let sets = Tensor::zeros((2, stride), now.dtype(), now.device())?;
            self.pair = Some(Pair { sets, shape: now.dims2()? });
        }
        self.pair.clone().ok_or_else(missing)
    }
}

/// The kernels move 16 bytes at a time.
const ALIGNED_FLOATS: usize = 4;

/// Two sets of weights in one tensor.
#[derive(Clone)]
pub struct Pair {
    pub sets: Tensor,
    shape: (usize, usize),
}

impl Pair {
    /// From the first set to the second.
    pub fn stride_bytes(&self) -> Address {
        (self.sets.elem_count() / 2 * size_of::<f32>()) as Address
    }

    /// Set 0 or 1, (rows, parameters).
    pub fn set(&self, i: usize) -> Result<Tensor> {
        let (rows, length) = self.shape;
        Ok(self.sets.get(i)?.narrow(0, 0, rows * length)?.reshape(self.shape)?)
    }
}

impl Workspace {
    fn address(&self, gpu: &Gpu) -> Result<Address> {
        self.memory.as_ref().map(|memory| gpu.address(memory)).ok_or_else(missing)
    }
}

/// What of images is brought: indices, or pixels.
fn image_bytes(images: &Images) -> usize {
    match (images.order, images.pixels) {
        (Some(order), _) => size_of_val(order.indices),
        (None, Pixels::Float(pixels)) => size_of_val(pixels),
        (None, Pixels::Byte(pixels)) => size_of_val(pixels),
    }
}

fn copy_images(to: &mut Mapped, offset: usize, images: &Images) -> Result<()> {
    match (images.order, images.pixels) {
        (Some(order), _) => copy(to, offset, order.indices),
        (None, Pixels::Float(pixels)) => copy(to, offset, pixels),
        (None, Pixels::Byte(pixels)) => copy(to, offset, pixels),
    }
}

fn copy<T: Copy>(to: &mut Mapped, offset: usize, from: &[T]) -> Result<()> {
    to.elements(offset, from.len())?.copy_from_slice(from);
    Ok(())
}

fn missing() -> Error {
    Error::new(Code::Internal, "a buffer was not made")
}
