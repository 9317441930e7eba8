//! What providers are told about where engines lie, as the keys and values of ONNX Runtime. Pure.
//!
//! Sources: ONNX Runtime's documentation of the TensorRT and of the NVIDIA TensorRT RTX execution provider.

use std::path::PathBuf;

use super::Precision;

/// Where the engines of one graph lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The folder of the engines.
    pub(crate) folder: PathBuf,
    /// The folder of what was timed: a later build for the same GPU need not time it again.
    pub(crate) timings: PathBuf,
    /// The graph, which the names of its engines begin with.
    pub(crate) graph: &'static str,
    /// In what they compute.
    pub(crate) precision: Precision,
}

/// Options of the TensorRT provider; without a place it builds in memory what it runs, for suites and proofs.
pub(crate) fn tensorrt(place: Option<&Place>) -> Vec<(&'static str, String)> {
    let on = || "1".to_owned();
    let mut options = vec![("trt_fp16_enable", on())];
    if let Some(Place { folder, timings, graph, precision }) = place {
        // Quantised graphs say themselves where they are INT8 (explicit quantisation); without leave they run wider.
        if *precision == Precision::Int8 {
            options.push(("trt_int8_enable", on()));
        }
        options.extend([
            ("trt_engine_cache_enable", on()),
            ("trt_engine_cache_path", folder.display().to_string()),
            ("trt_engine_cache_prefix", (*graph).to_owned()),
            ("trt_timing_cache_enable", on()),
            ("trt_timing_cache_path", timings.display().to_string()),
        ]);
    }
    options
}

/// Options of a plugin provider, each key behind the provider's name: what the `ort` crate takes for devices.
pub(crate) type PluginOptions = Vec<(String, String)>;

/// Options of the TensorRT RTX plugin provider, which keeps what it compiled in a cache of its own.
pub(crate) fn plugin(provider: &str, place: Option<&Place>) -> PluginOptions {
    let Some(Place { folder, graph, .. }) = place else { return Vec::new() };
    let cache = folder.join(graph).display().to_string();
    vec![(format!("{provider}.nv_runtime_cache_path"), cache)]
}
