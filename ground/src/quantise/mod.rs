//! `ground quantise`: a model in half precision becomes a bundle of integers.
//!
//! Source → ranges on a calibration set → scheme, with the layers that a sweep keeps wide → graphs that keep the rules →
//! a bundle whose thresholds are yet to be fitted.

mod costly;
mod frames;
mod record;
mod source;

use crate::draft;
use crate::steps::{self, BEFORE, BUNDLE, CALIBRATION_FILE, STEPS_FILE, Step};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use costly::{look_for_costly, unbearable, widened};
use indicatif::{ProgressBar, ProgressStyle};
use kestrel_calibration::ranges::{Bench, Bounds, Reasons, Shift, observe, parameters};
use kestrel_link::Thresholds;
use kestrel_link::manifest::{EXPLAIN_FILE, GRAPH_FILES, THRESHOLDS_FILE, TOKENIZER_FILE};
use kestrel_models::export::{Graphs, Room, explain_quantised, export_quantised};
use kestrel_models::onnx::read;
use kestrel_models::quantise::{Method, Scheme, Target, check};
use kestrel_training::sft::TOKENIZER;
use record::{Bytes, Record};
use source::Source;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

/// File of a bundle that says how it was quantised.
pub const RECORD_FILE: &str = "quantisation.json";

/// Arguments of `ground quantise`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Folder of a bundle, or `model.safetensors` of a run with its tokenizer beside it.
    model: PathBuf,
    /// The set on which ranges are taken: a tuning set by name, or a folder with images/ and annotations.json. None that tests.
    /// May be given several times, such as for scenes and photographs.
    #[arg(long, value_name = "SET", default_value = "scenes-tune")]
    calibration: Vec<String>,
    /// Another seed than that of the set on which thresholds are tuned draws other scenes.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Frames of each set at most; ranges need 8 of all together.
    #[arg(long, default_value_t = 32)]
    limit: usize,
    /// Folder of the quantised bundle; made if it is not there.
    #[arg(long)]
    out: PathBuf,
    /// How far ranges reach.
    #[arg(long, value_enum, default_value_t = Range::LeastError)]
    range: Range,
    /// The percentile of `percentile` and `least-error`.
    #[arg(long, default_value_t = 99.99)]
    percentile: f64,
    /// Whose integer kernels the graphs are for.
    #[arg(long, value_enum, default_value_t = For::TensorRt)]
    target: For,
    /// Layers that stay in half precision, by name.
    #[arg(long, value_delimiter = ',', value_name = "LAYER")]
    keep: Vec<String>,
    /// Measure parts of the model alone and keep the layers wide that cost too much.
    #[arg(long)]
    sweep: bool,
    /// Frames of the sweep and of the last measurement, at most; the first, of several sets in turn.
    #[arg(long, default_value_t = 8, value_name = "COUNT")]
    sweep_frames: usize,
    /// How far the presence logit may move, in the mean.
    #[arg(long, default_value_t = 0.25, value_name = "LOGITS")]
    presence_bound: f64,
    /// How much of their IoU masks may lose, in the mean.
    #[arg(long, default_value_t = 0.02, value_name = "SHARE")]
    mask_bound: f64,
    /// How large the graphs may become by layers that --sweep keeps wide, as a share of their size in f32.
    #[arg(long, default_value_t = 0.3, value_name = "SHARE")]
    size_bound: f64,
    /// Of a checkpoint, also write explain.onnx; a bundle that holds one keeps it.
    #[arg(long)]
    explain: bool,
    /// Name of the quantised model; by default the source's, of a checkpoint kestrel-s for its sizes and else kestrel.
    #[arg(long)]
    model_name: Option<String>,
    /// Version of the quantised model; by default the source's with `-int8`.
    #[arg(long)]
    model_version: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// How far ranges reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Range {
    /// To the largest magnitude.
    MinMax,
    /// To the percentile of magnitudes.
    Percentile,
    /// To the one of both that errs less, tensor by tensor.
    LeastError,
}

/// Whose integer kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum For {
    /// TensorRT: all codes int8.
    #[value(name = "tensorrt")]
    TensorRt,
    /// ONNX Runtime on a processor: uint8 where nothing is negative, kernels of 7 bits.
    Cpu,
}

impl Arguments {
    fn method(&self) -> Method {
        match self.range {
            Range::MinMax => Method::MinMax,
            Range::Percentile => Method::Percentile(self.percentile),
            Range::LeastError => Method::LeastError(self.percentile),
        }
    }

    fn bounds(&self) -> Result<Bounds> {
        let bounds = Bounds { presence: self.presence_bound, mask: self.mask_bound };
        if !(self.size_bound > 0.0 && self.size_bound <= 1.0) {
            bail!("--size-bound {}: expected a share above 0, at most 1", self.size_bound);
        }
        match bounds.presence > 0.0 && bounds.mask > 0.0 {
            true => Ok(bounds),
            false => {
                bail!("expected bounds above 0, got --presence-bound {} --mask-bound {}", bounds.presence, bounds.mask)
            }
        }
    }
}

/// Runs `ground quantise`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let (teller, bounds) = (Teller::new(arguments.json), arguments.bounds()?);
    let source = Source::open(&arguments.model, arguments.explain)?;
    if std::path::absolute(&arguments.out)? == std::path::absolute(&source.folder)? {
        bail!("--out {}: expected another folder than the model's own", arguments.out.display());
    }
    if source.checkpoint.is_none() && !source.manifest.files.contains_key(STEPS_FILE) {
        eprintln!(
            "warning: {} has no {STEPS_FILE}, so that `ground reproduce` has nothing to begin with and cannot verify what is \
             made here\n\
             hint: quantise the model.safetensors that it was exported from, or export that again: both note their step",
            source.folder.display()
        );
    }
    let frames = frames::frames(arguments, &source, &teller)?;
    let params = parameters(&source.weights)?;
    teller.begin("frames watched", frames.len());
    let reasons = source.explain.then(|| Reasons::of(&source.tokenizer));
    let mut told = |done| teller.done(done);
    let observer = observe(&params, &source.config, &frames, source.answers.pad, reasons.as_ref(), &mut told)?;
    let target = match arguments.target {
        For::TensorRt => Target::TensorRt,
        For::Cpu => Target::Cpu,
    };
    let mut kept: BTreeSet<String> = arguments.keep.iter().cloned().collect();
    let mut scheme = Scheme::of(&observer, target, arguments.method(), &kept)?;
    let judged = &frames[..frames.len().min(arguments.sweep_frames.max(1))];
    let bench = Bench::new(&params, &source.config, judged, source.answers, source.presence)?;
    let swept = match arguments.sweep {
        true => {
            let bytes = Bytes::of(&source, &export_quantised(&source.config, &source.weights, &scheme)?)?;
            let room = bytes.room(arguments.size_bound);
            Some(look_for_costly(&bench, &scheme, &bounds, &widened(&scheme, &observer), room, &teller)?)
        }
        false => None,
    };
    // Where keeping layers is no way, fine-tuning has to bear the others.
    let missed = swept.as_ref().is_some_and(|swept| swept.left > 1.0);
    if let Some(swept) = &swept {
        kept.extend(swept.kept.iter().cloned());
        scheme = Scheme::of(&observer, target, arguments.method(), &kept)?;
    }
    let shift = bench.measure(&scheme, &scheme.layers.keys().cloned().collect())?;
    teller.finish();
    let graphs = export_quantised(&source.config, &source.weights, &scheme)?;
    let record = Record::new(arguments, &source, &frames, &scheme, swept.clone(), shift, &graphs)?;
    if let Some(swept) = swept.filter(|_| missed) {
        return Err(unbearable(&arguments.out, &record, &swept));
    }
    write(arguments, &source, &scheme, &graphs, &record)?;
    report(arguments, &record, &bounds, &shift)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the bundle. What belongs to the model in half precision, its thresholds and canaries, is left behind.
fn write(arguments: &Arguments, source: &Source, scheme: &Scheme, graphs: &Graphs, record: &Record) -> Result<()> {
    let out = &arguments.out;
    let bytes = [&graphs.vision, &graphs.language, &graphs.mask];
    let mut files: Vec<(&str, &[u8])> = GRAPH_FILES.into_iter().zip(bytes.map(Vec::as_slice)).collect();
    let reasons = match source.explain {
        true => Some(explain_quantised(&source.config, &source.weights, &Room::of(&source.config), scheme)?),
        false => None,
    };
    if let Some(reasons) = &reasons {
        files.push((EXPLAIN_FILE, reasons.as_slice()));
    }
    for (name, graph) in &files {
        if let Some(finding) = check(&read::graph(graph, name)?, scheme.target, &scheme.kept).into_iter().next() {
            bail!("{name}: {finding}\nhint: this is a fault of the exporter, not of the model");
        }
    }
    std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    // Steps that an earlier run noted here are none of this model; the source's own come with the rest.
    steps::remove(&out.join(STEPS_FILE))?;
    source.copy_rest(out)?;
    source::remove(&out.join(EXPLAIN_FILE))?;
    source::remove(&out.join("canary"))?;
    // A table of the graphs that lay there before.
    source::remove(&out.join(CALIBRATION_FILE))?;
    for (name, graph) in &files {
        std::fs::write(out.join(name), graph).with_context(|| format!("writing {}", out.join(name).display()))?;
    }
    source.tokenizer.save(&out.join(TOKENIZER_FILE))?;
    std::fs::write(out.join(RECORD_FILE), serde_json::to_string_pretty(record)? + "\n")?;
    let thresholds = draft::uncalibrated(&Thresholds::hash_graphs(&graphs.vision, &graphs.language, &graphs.mask));
    std::fs::write(out.join(THRESHOLDS_FILE), serde_json::to_string_pretty(&thresholds)? + "\n")?;
    let mut manifest = source.manifest.clone();
    if let Some(name) = &arguments.model_name {
        manifest.name.clone_from(name);
    }
    manifest.version = arguments.model_version.clone().unwrap_or_else(|| format!("{}-int8", manifest.version));
    manifest.created = draft::today();
    manifest.provenance.extend(record.provenance(&files, scheme)?);
    let made = files.iter().map(|(name, _)| *name).chain([TOKENIZER_FILE, RECORD_FILE, THRESHOLDS_FILE]);
    // What the wide model was given after its export holds for it alone.
    for name in ["calibrate", "bundle"] {
        steps::forget(out, name)?;
    }
    steps::note(out, step(arguments, source)?.gives(out, made)?)?;
    kestrel_onboard::bundle::seal(out, manifest, None)?;
    Ok(())
}

/// The command as a bundle remembers it.
fn step(arguments: &Arguments, source: &Source) -> Result<Step> {
    let Arguments { seed, limit, percentile, sweep_frames, .. } = arguments;
    let step = Step::new("quantise");
    let step = match &source.checkpoint {
        Some(checkpoint) => step.input(checkpoint)?.beside(&checkpoint.with_file_name(TOKENIZER))?,
        None => step.word(BEFORE),
    };
    let named = |value: Option<clap::builder::PossibleValue>| value.map_or(String::new(), |v| v.get_name().to_owned());
    let step = step.option("--out", BUNDLE);
    let step = arguments.calibration.iter().fold(step, |step, set| step.option("--calibration", set));
    let mut step = step
        .option("--seed", seed)
        .option("--limit", limit)
        .option("--range", named(arguments.range.to_possible_value()))
        .option("--percentile", percentile)
        .option("--target", named(arguments.target.to_possible_value()))
        .option("--sweep-frames", sweep_frames)
        .option("--presence-bound", arguments.presence_bound)
        .option("--mask-bound", arguments.mask_bound)
        .option("--size-bound", arguments.size_bound)
        .flag("--sweep", arguments.sweep)
        .flag("--explain", arguments.explain);
    if !arguments.keep.is_empty() {
        step = step.option("--keep", arguments.keep.join(","));
    }
    if let Some(name) = &arguments.model_name {
        step = step.option("--model-name", name);
    }
    if let Some(version) = &arguments.model_version {
        step = step.option("--model-version", version);
    }
    Ok(Step { seed: Some(*seed), ..step })
}

fn report(arguments: &Arguments, record: &Record, bounds: &Bounds, shift: &Shift) -> Result<()> {
    if arguments.json {
        println!("{}", serde_json::to_string(record)?);
        return Ok(());
    }
    record.print();
    if bounds.used(shift) > 1.0 {
        eprintln!(
            "warning: rounding uses up {:.0} % of the bound\n\
             hint: --sweep finds the layers that cost; training/recipes/kestrel-s-qat.toml teaches weights to bear it",
            bounds.used(shift) * 100.0
        );
    }
    let out = arguments.out.display();
    println!(
        "\n{out}: thresholds of the model in half precision do not hold here; go on with\n  \
         ground eval --bundle {out} --set scenes-tune --seed 1 --limit 1000 --records tune.jsonl\n  \
         ground calibrate --bundle {out} tune.jsonl\n  \
         ground bundle {out}"
    );
    Ok(())
}

/// A bar on a terminal, lines elsewhere, nothing under --json.
struct Teller {
    bar: ProgressBar,
    json: bool,
}

impl Teller {
    fn new(json: bool) -> Self {
        let bar = if json { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({eta} left)") {
            bar.set_style(style);
        }
        Self { bar, json }
    }

    fn begin(&self, what: &str, count: usize) {
        self.bar.reset();
        self.bar.set_length(count as u64);
        self.bar.set_message(what.to_owned());
    }

    fn done(&self, count: usize) {
        if self.bar.length().is_some_and(|length| length < count as u64) {
            self.bar.set_length(count as u64);
        }
        self.bar.set_position(count as u64);
    }

    fn words(&self, words: &str) {
        if !self.json {
            self.bar.suspend(|| eprintln!("{words}"));
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
