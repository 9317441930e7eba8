//! `ground estimate`: what a bundle could at best take on a Jetson, by a roofline. An estimate, never a measurement.

mod devices;
mod roofline;

use crate::engine::bundle_folder;
use anyhow::{Context, Result};
use clap::Args;
use kestrel_link::manifest::{EXPLAIN_FILE, GRAPH_FILES};
use kestrel_models::onnx::count::count;
use kestrel_onboard::bundle::Bundle;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

pub use devices::{Device, DeviceName};
pub use roofline::{Bounds, GraphEstimate, Precision, estimate};

/// What every figure rests on.
pub const ASSUMPTIONS: [&str; 7] = [
    "an estimate from counted work and published peaks; nothing was measured on the device",
    "peaks are dense: half of what is published for sparse weights; the GPU alone, without DLA; the module's highest clocks",
    "dense convolutions and products run at the tensor cores' peak, grouped convolutions at the CUDA cores' in half precision",
    "element-wise operators, casts and reshapes are fused with their neighbours and free; constants are folded",
    "at best: every parameter, input and output crosses the memory once, and all else stays on the chip",
    "by layer: each layer reads its inputs and parameters from memory and writes its outputs there, one after the other",
    "no time for launches, copies, preprocessing, post-processing and the words' tokens; no throttling by heat or power",
];

/// Arguments of `ground estimate`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Folder of the bundle [default: the released one].
    bundle: Option<PathBuf>,
    /// The module.
    #[arg(long, value_enum)]
    device: DeviceName,
    /// Precision of the layers: as the graphs say (INT8 where they are quantised, FP16 elsewhere), or one for all that have parameters.
    #[arg(long, value_enum, default_value_t = Precision::Auto)]
    precision: Precision,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    kind: &'static str,
    model: String,
    device: Device,
    precision: Precision,
    assumptions: [&'static str; 7],
    graphs: Vec<GraphEstimate>,
    /// A question about one view: vision, language and mask.
    question_millis: Bounds,
    /// A further frame of a query that stands: vision and mask.
    further_frame_millis: Bounds,
}

/// Runs `ground estimate`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let bundle = Bundle::open(&bundle_folder(arguments.bundle.as_deref())?)?;
    let device = arguments.device.device();
    let mut graphs = Vec::new();
    for file in GRAPH_FILES.iter().chain([&EXPLAIN_FILE]).filter(|file| bundle.manifest.files.contains_key(**file)) {
        let path = bundle.path(file);
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let counted = count(&bytes).with_context(|| format!("counting {}", path.display()))?;
        graphs.push(estimate(file.trim_end_matches(".onnx"), &counted, &device, arguments.precision));
    }
    let sum = |names: &[&str]| -> Bounds {
        graphs.iter().filter(|graph| names.contains(&graph.graph.as_str())).map(|graph| graph.millis).sum()
    };
    let report = Report {
        kind: "estimate",
        model: bundle.manifest.model(),
        question_millis: sum(&["vision", "language", "mask"]),
        further_frame_millis: sum(&["vision", "mask"]),
        device,
        precision: arguments.precision,
        assumptions: ASSUMPTIONS,
        graphs,
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(report: &Report) {
    let Device { module, int8_tops, fp16_tflops, gigabytes_per_second, published, .. } = &report.device;
    println!("ESTIMATE for {} on {module}, not a measurement", report.model);
    println!(
        "dense peaks: {int8_tops:.1} INT8 TOPS, {fp16_tflops:.1} FP16 TFLOPS, {gigabytes_per_second} GB/s ({published})"
    );
    println!(
        "{:<10} {:>9} {:>9} {:>7} {:>9} {:>8} {:>9} {:>9}",
        "graph", "dense", "grouped", "INT8", "weights", "traffic", "at best", "by layer"
    );
    println!("{:<10} {:>9} {:>9} {:>7} {:>9} {:>8} {:>9} {:>9}", "", "M MACs", "M MACs", "%", "MB", "MB", "ms", "ms");
    for graph in &report.graphs {
        println!(
            "{:<10} {:>9.1} {:>9.1} {:>7.0} {:>9.2} {:>8.2} {:>9.3} {:>9.3}",
            graph.graph,
            graph.dense_macs as f64 / 1e6,
            graph.grouped_macs as f64 / 1e6,
            graph.int8_share * 100.0,
            graph.weight_bytes as f64 / 1e6,
            graph.traffic_bytes as f64 / 1e6,
            graph.millis.at_best,
            graph.millis.by_layer
        );
    }
    for (what, bounds) in [
        ("a question about one view (vision, language, mask)", report.question_millis),
        ("a further frame of a standing query (vision, mask)", report.further_frame_millis),
    ] {
        println!("{what}: {:.3} ms at best, {:.3} ms by layer", bounds.at_best, bounds.by_layer);
    }
    println!("a run of explain decodes one token, or reads a few rows of the picture and the question");
    println!("assumptions:");
    for assumption in report.assumptions {
        println!("- {assumption}");
    }
}
