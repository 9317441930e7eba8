//! `quantisation.json`: how a bundle was quantised, for people and machines.

use anyhow::Result;
use kestrel_calibration::ranges::{Prepared, Shift, Sweep, thoughts};
use kestrel_models::export::{Graphs, export};
use kestrel_models::onnx::read;
use kestrel_models::quantise::{Method, Scheme};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

use super::Arguments;
use super::source::Source;

/// Longest entry of the manifest's provenance; the whole list is in the record.
const LONGEST: usize = 3000;

/// What was done, on what, and what came of it.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    /// Form of this file.
    format: u32,
    /// The command.
    step: &'static str,
    /// Version of the program.
    program: &'static str,
    /// The model that was quantised, by name and version.
    source: String,
    calibration: Calibration,
    method: Method,
    bytes: Bytes,
    /// How far the answers moved on the frames of the sweep, by fake quantisation.
    shift: Shift,
    #[serde(skip_serializing_if = "Option::is_none")]
    sweep: Option<Sweep>,
    scheme: Scheme,
}

#[derive(Debug, Serialize)]
struct Calibration {
    sets: Vec<String>,
    seed: u64,
    frames: usize,
    questions: usize,
    /// Of these, answered with reasons too, where the graph that decodes goes with the model.
    thoughts: usize,
}

/// Sizes of the three graphs together.
#[derive(Debug, Serialize)]
pub(super) struct Bytes {
    /// With every parameter in four bytes.
    single: u64,
    /// With every parameter in two bytes, as `ground export` writes them.
    half: u64,
    quantised: u64,
    /// Of `single`.
    share: f64,
}

impl Bytes {
    pub(super) fn of(source: &Source, graphs: &Graphs) -> Result<Self> {
        let bytes = |graphs: &Graphs| (graphs.vision.len() + graphs.language.len() + graphs.mask.len()) as u64;
        let half = bytes(&export(&source.config, &source.weights)?);
        let (single, quantised) = (half + 2 * source.weights.parameters() as u64, bytes(graphs));
        Ok(Self { single, half, quantised, share: quantised as f64 / single.max(1) as f64 })
    }

    /// How many bytes larger the graphs may become within this share.
    pub(super) fn room(&self, share: f64) -> u64 {
        ((self.single as f64 * share) as u64).saturating_sub(self.quantised)
    }
}

impl Record {
    pub(super) fn new(
        arguments: &Arguments,
        source: &Source,
        frames: &[Prepared],
        scheme: &Scheme,
        sweep: Option<Sweep>,
        shift: Shift,
        graphs: &Graphs,
    ) -> Result<Self> {
        Ok(Self {
            format: 1,
            step: "quantise",
            program: env!("CARGO_PKG_VERSION"),
            source: source.manifest.model(),
            calibration: Calibration {
                sets: arguments.calibration.clone(),
                seed: arguments.seed,
                frames: frames.len(),
                questions: frames.iter().map(|frame| frame.questions.len()).sum(),
                thoughts: if source.explain { thoughts(frames) } else { 0 },
            },
            method: arguments.method(),
            bytes: Bytes::of(source, graphs)?,
            shift,
            sweep,
            scheme: scheme.clone(),
        })
    }

    /// What the manifest says of it: the precision of each graph, with the layers that stay wide.
    pub(super) fn provenance(&self, files: &[(&str, &[u8])], scheme: &Scheme) -> Result<BTreeMap<String, String>> {
        let mut entries = BTreeMap::new();
        for (name, bytes) in files {
            let graph = read::graph(bytes, name)?;
            let layers: BTreeSet<&str> = graph
                .node
                .iter()
                .filter(|node| matches!(node.op_type.as_str(), "Conv" | "MatMul"))
                .map(|node| node.name.split('#').next().unwrap_or_default())
                .collect();
            let rounded = layers.iter().filter(|layer| scheme.layers.contains_key(**layer)).count();
            let wide: Vec<&str> = layers.into_iter().filter(|layer| scheme.kept.contains(*layer)).collect();
            let wide = if wide.is_empty() { "none".to_owned() } else { wide.join(" ") };
            let wide: String = wide.chars().take(LONGEST).collect();
            entries.insert(format!("precision.{name}"), format!("int8 in {rounded} layers; kept f16: {wide}"));
        }
        let Calibration { sets, seed, frames, thoughts, .. } = &self.calibration;
        entries.insert("quantised_from".to_owned(), self.source.clone());
        let ranges = format!("{}, seed {seed}, {frames} frames, {thoughts} answers with reasons", sets.join(" and "));
        entries.insert("quantisation_ranges".to_owned(), ranges);
        Ok(entries)
    }

    pub(super) fn print(&self) {
        let Bytes { single, half, quantised, share } = &self.bytes;
        println!("{} layers rounded for {:?}", self.scheme.layers.len(), self.scheme.target);
        println!("kept wide: {}", if self.scheme.kept.is_empty() { "none".to_owned() } else { self.kept() });
        println!("{quantised} bytes of graphs, {:.1} % of {single} in f32 ({half} in f16)", share * 100.0);
        let Shift { presence, presence_bias, presence_most, mask, questions } = &self.shift;
        println!("on {questions} questions, against the model in half precision:");
        println!(
            "  presence logit moves by {presence:.3} in the mean ({presence_bias:+.3} signed), {presence_most:.3} at most"
        );
        println!("  masks keep an IoU of {:.3}", 1.0 - mask);
    }

    fn kept(&self) -> String {
        self.scheme.kept.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}
