//! Published peaks of NVIDIA's Jetson Orin modules.
//!
//! Sources: Jetson AGX Orin Series Technical Brief v1.2 (16 SMs at 1.3 GHz: 170 sparse INT8 TOPS of the GPU, 105 of the
//! DLAs, 275 in all; 204.8 GB/s), Jetson Orin NX Series data sheet DS-10712 (8 SMs at 918 MHz; 100 sparse TOPS with the
//! DLAs; 102.4 GB/s), Jetson Orin Nano data sheet and its Super mode, JetPack 6.1 (8 SMs, 625 MHz and 1,020 MHz: 40 and
//! 67 sparse TOPS; 68 and 102 GB/s). An SM of Orin does 4,096 dense INT8 operations a clock on its four tensor cores:
//! 16 × 4,096 × 1.3 GHz is 85 TOPS, half of the 170 that are published for sparse weights; 8 × 4,096 × 625 MHz is 20,
//! half of 40. Half precision runs at half of that.

use clap::ValueEnum;
use serde::Serialize;

/// Dense INT8 operations of one SM in one clock.
const INT8_OPERATIONS: f64 = 4096.0;
/// Multiplications with an addition of one SM's 128 CUDA cores in one clock, two in half precision each.
const CUDA_CORE_MACS: f64 = 256.0;

/// A module and its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceName {
    /// Jetson Orin Nano 8GB in Super mode (25 W).
    OrinNano,
    /// Jetson Orin Nano 8GB as it was sold at first (15 W).
    #[value(name = "orin-nano-15w")]
    OrinNano15w,
    /// Jetson Orin NX 16GB.
    OrinNx,
    /// Jetson AGX Orin 64GB.
    AgxOrin,
}

/// What a module can do at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Device {
    /// The module and its mode.
    pub module: &'static str,
    /// Dense INT8 operations of the GPU's tensor cores, 10¹² a second; a multiplication and its addition are two.
    pub int8_tops: f64,
    /// Dense FP16 operations of the tensor cores, 10¹² a second.
    pub fp16_tflops: f64,
    /// FP16 operations of the CUDA cores, 10¹² a second.
    pub cuda_core_tflops: f64,
    /// Bandwidth of the memory.
    pub gigabytes_per_second: f64,
    /// The published figures that these come from.
    pub published: &'static str,
}

impl DeviceName {
    /// The module's peaks.
    #[must_use]
    pub fn device(self) -> Device {
        let of = |module, multiprocessors: f64, gigahertz: f64, gigabytes_per_second, published| {
            let int8_tops = multiprocessors * INT8_OPERATIONS * gigahertz / 1e3;
            Device {
                module,
                int8_tops,
                fp16_tflops: int8_tops / 2.0,
                cuda_core_tflops: 2.0 * multiprocessors * CUDA_CORE_MACS * gigahertz / 1e3,
                gigabytes_per_second,
                published,
            }
        };
        match self {
            Self::OrinNano => of("Jetson Orin Nano 8GB, Super mode", 8.0, 1.02, 102.0, "67 sparse INT8 TOPS, 102 GB/s"),
            Self::OrinNano15w => of("Jetson Orin Nano 8GB, 15 W", 8.0, 0.625, 68.0, "40 sparse INT8 TOPS, 68 GB/s"),
            Self::OrinNx => {
                of("Jetson Orin NX 16GB", 8.0, 0.918, 102.4, "100 sparse INT8 TOPS of which the GPU has 60, 102.4 GB/s")
            }
            Self::AgxOrin => of(
                "Jetson AGX Orin 64GB",
                16.0,
                1.3,
                204.8,
                "275 sparse INT8 TOPS of which the GPU has 170, 204.8 GB/s",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would break: sparse peaks taken for dense ones, which no graph of ours reaches.
    #[test]
    fn peaks_are_half_of_what_is_published_for_sparse_weights() {
        for (name, sparse_of_the_gpu) in [
            (DeviceName::OrinNano, 67.0),
            (DeviceName::OrinNano15w, 40.0),
            (DeviceName::OrinNx, 60.0),
            (DeviceName::AgxOrin, 170.0),
        ] {
            let device = name.device();
            let off = device.int8_tops * 2.0 / sparse_of_the_gpu - 1.0;
            assert!(off.abs() < 0.03, "{}: {off}", device.module);
            assert!(device.cuda_core_tflops < device.fp16_tflops);
        }
    }
}
