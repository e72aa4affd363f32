//! The kernels of one network on one GPU, and how many blocks of them the GPU holds at once.

use super::arguments::{GROUP, MOST_GROUPS, Network, Sizes, SizesArguments, THREADS};
use super::gpu::{Gpu, Grid, Mapped};
use crate::architecture::{Activation, Architecture, Pooling};
use crate::error::{Code, Error, Result};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, sys};
use flate2::read::GzDecoder;
use std::io::Read;

// Of each module its name and its PTX, gzipped: `cuda/NAME.cu`, or for `cuda/lenet.cu` SHAPE_ACTIVATION_POOLING.
include!(concat!(env!("OUT_DIR"), "/modules.rs"));

pub struct Kernels {
    pub network: Network,
    train: CudaFunction,
    logits: CudaFunction,
    pub apply: CudaFunction,
    sizes: CudaFunction,
    shared_bytes: u32,
    /// Of 16 blocks, that are resident at once.
    pub train_groups: u32,
    pub logits_groups: u32,
}

impl Kernels {
    /// None: the network needs more shared memory than a block of this GPU may have, or the GPU does not hold 16
    /// blocks at once. Candle's operations compute it then.
    pub fn load(gpu: &Gpu, architecture: Architecture) -> Result<Option<Self>> {
        let network = Network {
            height: architecture.height() as u32,
            width: architecture.width() as u32,
            padding: architecture.padding() as u32,
            classes: architecture.classes() as u32,
        };
        let module = module_name(architecture, network);
        let apply = function(gpu, "apply", &ptx("apply")?, "lenet_apply")?;
        let sizes = function(gpu, "sizes", &ptx("sizes")?, "lenet_sizes")?;
        let text = ptx(&module)?;
        let train = function(gpu, &module, &text, "lenet_train")?;
        let logits = function(gpu, &module, &text, "lenet_logits")?;
        let mut kernels = Kernels {
            network,
            train,
            logits,
            apply,
            sizes,
            shared_bytes: 0,
            train_groups: 0,
            logits_groups: 0,
        };
        let wanted = kernels.sizes(gpu, &mut Mapped::default(), 0, 1)?.shared_bytes;
        let most = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        if wanted > gpu.attribute(most)?.into() {
            return Ok(None);
        }
        kernels.shared_bytes = wanted as u32;
        for kernel in [&kernels.train, &kernels.logits] {
            let dynamic =
                sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            kernel.set_attribute(dynamic, wanted as i32).w()?;
        }
        kernels.train_groups = groups(gpu, &kernels.train, kernels.shared_bytes)?;
        kernels.logits_groups = groups(gpu, &kernels.logits, kernels.shared_bytes)?;
        let fits = kernels.train_groups.min(kernels.logits_groups) > 0;
        Ok(fits.then_some(kernels))
    }

    /// What a launch needs for batches of so many images in so many groups: `cuda/layout.h` says it, on the device.
    pub fn sizes(&self, gpu: &Gpu, mapped: &mut Mapped, batch: u32, groups: u32) -> Result<Sizes> {
        mapped.grow(gpu, size_of::<Sizes>())?;
        let network = self.network;
        let arguments = SizesArguments { network, batch, groups, sizes: mapped.address()? };
        let grid = Grid { blocks: 1, shared_bytes: 0, cooperative: false };
        // SAFETY: one `Sizes` is written where there is room for one.
        unsafe { gpu.launch(&self.sizes, grid, &arguments) }?;
        gpu.wait()?;
        Ok(mapped.elements::<Sizes>(0, 1)?[0])
    }

    /// The kernel for training, and the grid for batches of so many images.
    pub fn train(&self, batch: usize) -> (&CudaFunction, Grid) {
        (&self.train, self.grid(self.train_groups, batch))
    }

    pub fn logits(&self, images: usize) -> (&CudaFunction, Grid) {
        (&self.logits, self.grid(self.logits_groups, images))
    }

    /// No more groups than have images.
    fn grid(&self, groups: u32, images: usize) -> Grid {
        let groups = groups.min(images.div_ceil(GROUP as usize).min(MOST_GROUPS as usize) as u32);
        Grid { blocks: GROUP * groups, shared_bytes: self.shared_bytes, cooperative: true }
    }
}

/// The kernels of their own are for sizes that many use; "any" looks at the network's numbers.
fn module_name(architecture: Architecture, network: Network) -> String {
    let shape = match network {
        Network { height: 28, width: 28, padding: 2, classes: 10 } => "padded_28",
        Network { height: 28, width: 28, padding: 0, classes: 10 } => "plain_28",
        Network { height: 32, width: 32, padding: 0, classes: 10 } => "plain_32",
        _ => "any",
    };
    let activation = match architecture.activation() {
        Activation::Sigmoid => "sigmoid",
        Activation::Tanh => "tanh",
        Activation::Relu => "relu",
    };
    let pooling = match architecture.pooling() {
        Pooling::Average => "average",
        Pooling::Max => "max",
    };
    format!("{shape}_{activation}_{pooling}")
}

fn ptx(module: &str) -> Result<String> {
    let missing = || Error::new(Code::Internal, format!("the plugin has no module {module}"));
    let (_, gzipped) = MODULES.iter().find(|(known, _)| *known == module).ok_or_else(missing)?;
    let mut text = String::new();
    GzDecoder::new(*gzipped).read_to_string(&mut text).map_err(|_| missing())?;
    Ok(text)
}

fn function(gpu: &Gpu, module: &str, ptx: &str, name: &str) -> Result<CudaFunction> {
    Ok(gpu.device.get_or_load_custom_func(name, module, ptx)?.into_cuda_function())
}

fn groups(gpu: &Gpu, kernel: &CudaFunction, shared_bytes: u32) -> Result<u32> {
    let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
    let multiprocessors = gpu.attribute(attribute)?;
    let blocks = kernel
        .occupancy_max_active_blocks_per_multiprocessor(THREADS, shared_bytes as usize, None)
        .w()?;
    Ok((blocks * multiprocessors / GROUP).min(MOST_GROUPS))
}
