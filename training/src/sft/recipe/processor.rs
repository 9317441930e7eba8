//! What computes.

use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::sft::{Result, TrainError};

/// What computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Processor {
    /// The CPU.
    #[default]
    Cpu,
    /// The first CUDA device; needs a build with the feature `cuda`.
    Cuda,
    /// The same, its matrix products with inputs rounded to TF32 (10 bits of mantissa); all else stays f32.
    CudaTf32,
}

impl Processor {
    /// Whether it is the one that every machine has.
    pub fn plain(&self) -> bool {
        *self == Self::Cpu
    }

    /// The device itself. How products round holds for the whole process.
    ///
    /// # Errors
    /// When there is none, or this build has no support for it.
    pub fn device(self) -> Result<Device> {
        candle_core::cuda::set_gemm_reduced_precision_f32(self == Self::CudaTf32);
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda | Self::CudaTf32 if cfg!(feature = "cuda") => Ok(Device::new_cuda(0)?),
            Self::Cuda | Self::CudaTf32 => Err(TrainError::Missing {
                what: "CUDA in this build".to_owned(),
                expected: "one made with `-p ground --features cuda`, or `cpu` as the device".to_owned(),
            }),
        }
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What would break: a recipe for a GPU would end in a word of a library that tells nobody what to build.
    #[test]
    fn a_build_without_cuda_says_so() {
        for processor in [Processor::Cuda, Processor::CudaTf32] {
            let error = processor.device().unwrap_err().to_string();
            assert!(error.contains("--features cuda") && error.contains("`cpu`"), "{error}");
        }
        assert!(Processor::Cpu.device().unwrap().is_cpu());
    }
}
