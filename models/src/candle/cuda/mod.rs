//! Kernels of our own for NVIDIA GPUs, where candle's are slow or need several passes.
//!
//! Each is a source of CUDA C++ beside its launcher, compiled at run time (NVRTC) for the device that is there.
//! Launching a kernel is unsafe; this is the one place of the crate where that is allowed.
#![allow(unsafe_code)]

mod depthwise;
mod overlap;

pub(super) use depthwise::Depthwise;
pub(super) use overlap::overlap;

use candle_core::cuda_backend::cudarc::driver::{CudaFunction, CudaView};
use candle_core::cuda_backend::cudarc::nvrtc::compile_ptx;
use candle_core::cuda_backend::{CudaDevice, WrapErr as _};
use candle_core::{CudaStorage, Layout, Result, bail};
use std::sync::OnceLock;

/// Threads of a block.
const THREADS: u32 = 256;

/// Kernels of one source, compiled once a process.
struct Source {
    /// What they are called together.
    name: &'static str,
    text: &'static str,
    ptx: OnceLock<std::result::Result<String, String>>,
}

impl Source {
    const fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, ptx: OnceLock::new() }
    }

    /// One of its kernels.
    fn kernel(&self, device: &CudaDevice, function: &str) -> Result<CudaFunction> {
        let compiled = self.ptx.get_or_init(|| match compile_ptx(self.text) {
            Ok(ptx) => Ok(ptx.to_src()),
            Err(error) => Err(format!("{error:?}")),
        });
        match compiled {
            Ok(ptx) => Ok(device.get_or_load_custom_func(function, self.name, ptx)?.into_cuda_function()),
            Err(error) => bail!("compiling {}: {error}\nhint: is libnvrtc of this CUDA there?", self.name),
        }
    }
}

/// Bytes that are free on a GPU.
pub(super) fn free_memory(device: &CudaDevice) -> Result<u64> {
    let (free, _) = device.cuda_stream().context().mem_get_info().w()?;
    Ok(free as u64)
}

/// A contiguous tensor's numbers.
fn view<'a>(storage: &'a CudaStorage, layout: &Layout) -> Result<CudaView<'a, f32>> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(storage.as_cuda_slice::<f32>()?.slice(from..to)),
        None => bail!("launching a kernel: expected a contiguous tensor, got {layout:?}"),
    }
}
