//! A GPU as candle has it, and memory that the host and it both use.

use super::arguments::Address;
use crate::error::{Code, Error, Result};
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, DevicePtr, DeviceRepr, LaunchConfig, PinnedHostSlice,
    PushKernelArg, sys,
};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{CudaStorage, Device, Layout};
use std::slice;
use std::sync::Arc;

/// Candle's device, and its stream: what is launched on it runs in order.
pub struct Gpu {
    pub device: CudaDevice,
    pub stream: Arc<CudaStream>,
}

impl Gpu {
    pub fn of(device: &Device) -> Result<Self> {
        let device = device.as_cuda_device()?.clone();
        Ok(Gpu { stream: device.cuda_stream(), device })
    }

    pub fn attribute(&self, name: sys::CUdevice_attribute) -> Result<u32> {
        Ok(self.stream.context().attribute(name).w()?.max(0) as u32)
    }

    /// Launches a kernel that takes one struct.
    ///
    /// # Safety
    /// The kernel takes such a struct, and every address in it is of memory as large as the kernel reads and
    /// writes, which nothing else writes until the stream has been waited for.
    pub unsafe fn launch<A: DeviceRepr>(
        &self,
        kernel: &CudaFunction,
        grid: Grid,
        arguments: &A,
    ) -> Result<()> {
        let config = LaunchConfig {
            grid_dim: (grid.blocks, 1, 1),
            block_dim: (super::arguments::THREADS, 1, 1),
            shared_mem_bytes: grid.shared_bytes,
        };
        let mut launch = self.stream.launch_builder(kernel);
        launch.arg(arguments);
        // SAFETY: as above.
        let launched = unsafe {
            if grid.cooperative { launch.launch_cooperative(config) } else { launch.launch(config) }
        };
        launched.w()?;
        Ok(())
    }

    /// Waits until everything that was launched is done.
    pub fn wait(&self) -> Result<()> {
        Ok(self.stream.synchronize().w()?)
    }

    /// Where memory of the device lies.
    pub fn address<T>(&self, memory: &CudaSlice<T>) -> Address {
        memory.device_ptr(&self.stream).0
    }

    /// Where the elements of a contiguous tensor of floats lie.
    pub fn floats(&self, storage: &CudaStorage, layout: &Layout) -> candle_core::Result<Address> {
        match layout.contiguous_offsets() {
            Some((start, _)) => {
                let floats = storage.as_cuda_slice::<f32>()?;
                Ok(self.address(floats) + (start * size_of::<f32>()) as Address)
            }
            None => candle_core::bail!("weights and gradients are contiguous"),
        }
    }
}

/// Of a launch.
#[derive(Clone, Copy)]
pub struct Grid {
    pub blocks: u32,
    pub shared_bytes: u32,
    /// Blocks wait for each other: all of them must be resident at once, which only a cooperative launch promises.
    pub cooperative: bool,
}

/// Memory of the host at an address that the device uses as well.
#[derive(Default)]
pub struct Mapped(Option<(PinnedHostSlice<u8>, Address)>);

impl Mapped {
    /// At least so many bytes. What was there is lost.
    pub fn grow(&mut self, gpu: &Gpu, bytes: usize) -> Result<()> {
        if self.0.as_ref().is_none_or(|(memory, _)| memory.len() < bytes) {
            self.0 = None;
            let (bytes, flags) = (bytes.next_power_of_two(), sys::CU_MEMHOSTALLOC_DEVICEMAP);
            // SAFETY: bytes are written before they are read, here or on the device.
            let memory = unsafe { gpu.stream.context().alloc_pinned_with_flags(bytes, flags) };
            let memory = memory.w()?;
            // Kept, because to ask for it asks the driver.
            let address = memory.as_ptr().w()? as Address;
            self.0 = Some((memory, address));
        }
        Ok(())
    }

    /// Where it lies: a 64-bit system has one address for both sides.
    pub fn address(&self) -> Result<Address> {
        self.0.as_ref().map(|(_, address)| *address).ok_or_else(none)
    }

    /// `count` elements from byte `offset` on.
    pub fn elements<T: Copy>(&mut self, offset: usize, count: usize) -> Result<&mut [T]> {
        let (memory, start) = self.0.as_ref().ok_or_else(none)?;
        let end = offset.checked_add(count.saturating_mul(size_of::<T>()));
        let fits =
            end.is_some_and(|end| end <= memory.len()) && offset.is_multiple_of(align_of::<T>());
        if !fits {
            return Err(Error::new(Code::Internal, "mapped memory is too small"));
        }
        let start = *start as *mut u8;
        // SAFETY: inside this memory, aligned, borrowed with it; plain numbers, for which any bits are right.
        Ok(unsafe { slice::from_raw_parts_mut(start.add(offset).cast(), count) })
    }
}

fn none() -> Error {
    Error::new(Code::Internal, "mapped memory was not allocated")
}
