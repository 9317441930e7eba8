//! `onboard replay`: a recorded flight, flown again.

use std::fs::File;
use std::io::{BufReader, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use indicatif::ProgressBar;
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::engine::{EngineChoice, EngineOptions};
use kestrel_onboard::pipeline::{Segmenter, SegmenterOptions};
use kestrel_onboard::record::{
    Agreement, Damage, Flight, Found, Model, ReadError, Records, Report, Survey, Terms, engine_fits, model_fits,
    processor, replay, survey,
};
use serde_json::{Value, json};

use super::{ModelArguments, choice, hinted};

/// Most threads that are taken from a record: a stranger's may ask for any number.
const MOST_THREADS: usize = 256;

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The record, written by `onboard run --record FILE`.
    file: PathBuf,
    /// Folder of the model bundle that flew [default: the released one].
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// auto, ort/cpu, ort/cuda, ort/tensorrt or tract [default: the one that flew].
    #[arg(long, value_parser = choice)]
    engine: Option<EngineChoice>,
    /// Threads within one operation of ONNX Runtime; 0 means one per core [default: as in flight].
    #[arg(long)]
    threads: Option<usize>,
    /// Never fetch ONNX Runtime from the network.
    #[arg(long)]
    offline: bool,
    /// Compare loosely, so that another model or engine may replay: masks by this least IoU, 0.9 when none is given,
    /// refusals by their reason.
    #[arg(
        long,
        value_name = "IOU",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "0.9",
        value_parser = fraction
    )]
    loose: Option<f32>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn fraction(text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| "expected a number between 0 and 1".to_owned())?;
    // Written so that NaN fails too.
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("expected a number between 0 and 1".into()) }
}

impl Replay {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let held = survey(self.open()?).map_err(|error| hinted(&error, error.hint()))?;
        let agreement = self.loose.map_or(Agreement::Exact, |least_iou| Agreement::Loose { least_iou });
        let engine = self.engine(&held);
        let model = ModelArguments {
            bundle: self.bundle.clone(),
            engine: engine.choice,
            threads: engine.threads,
            offline: self.offline,
        };
        // What cannot agree is said before minutes go into running it.
        let bundle = model.open_bundle()?;
        let flown = model_fits(&held, &bundle, agreement).map_err(|error| hinted(&error, error.hint()))?;
        let Flight { tiling, tiles, gate, standing, georeferencing, .. } = held.flight;
        let georeferencer = georeferencing.map(|with| with.georeferencer()).transpose();
        let georeferencer = georeferencer.map_err(|error| {
            hinted(format!("the record's camera: {error}"), "the record is damaged, or of another version")
        })?;
        let options = SegmenterOptions { tiling, tiles, gate, standing, ..SegmenterOptions::default() };
        let mut segmenter = Segmenter::open(&bundle, &engine, options).map_err(|error| hinted(&error, error.hint()))?;
        engine_fits(flown, segmenter.engine(), agreement).map_err(|error| hinted(&error, error.hint()))?;
        if !self.json {
            introduce(&held, &bundle, &segmenter);
        }
        for warning in warnings(&held, flown) {
            tracing::warn!("{warning}");
        }
        let mut records = Records::open(self.open()?, true).map_err(|error| hinted(&error, error.hint()))?;
        let bar = if engine.progress { ProgressBar::new(held.looks) } else { ProgressBar::hidden() };
        let terms = Terms { agreement, manifest_hash: &bundle.manifest_hash, georeferencer };
        let report = replay(&mut records, &mut segmenter, &terms, |looks| bar.set_position(looks));
        bar.finish_and_clear();
        let report = report.map_err(|error| hinted(&error, error.hint()))?;
        if self.json {
            println!("{}", describe(&report, &held, records.damage(), segmenter.model(), segmenter.engine()));
        } else {
            print(&report, &held, records.damage(), agreement);
        }
        // Where nothing could be looked at again, nothing was found to be alike.
        Ok(if report.different == 0 && report.looks > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn open(&self) -> anyhow::Result<BufReader<File>> {
        let opened = File::open(&self.file);
        let file = opened.map_err(|source| {
            let error = ReadError::Open { path: self.file.clone(), source };
            hinted(&error, error.hint())
        })?;
        Ok(BufReader::new(file))
    }

    /// As in flight, where nothing else is asked for.
    fn engine(&self, held: &Survey) -> EngineOptions {
        EngineOptions {
            choice: self.engine.unwrap_or(held.flight.engine),
            threads: self.threads.unwrap_or(held.flight.threads.min(MOST_THREADS)),
            library: None,
            fetch: !self.offline,
            progress: !self.json && std::io::stderr().is_terminal(),
            ..EngineOptions::default()
        }
    }
}

fn introduce(held: &Survey, bundle: &Bundle, segmenter: &Segmenter) {
    let Survey { flight, looks, outcomes, refusals, .. } = held;
    let others = match refusals {
        0 => String::new(),
        _ => format!(" and {refusals} refusals without a look"),
    };
    println!("{}: {looks} frames looked at, {outcomes} outcomes{others}, runtime {}", flight.drone, flight.runtime);
    for flown in &held.models {
        let Model { name, manifest_hash, thresholds_hash, engine, .. } = &flown.model;
        let [manifest, thresholds] = [manifest_hash, thresholds_hash].map(|hash| short(hash));
        println!("  flew {name} (manifest {manifest}, thresholds {thresholds}) on {engine}: {} frames", flown.looks);
    }
    println!("  now {} (manifest {}) on {}", segmenter.model(), short(&bundle.manifest_hash), segmenter.engine());
}

fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// What makes the last bit of a number another although model and engine are the same.
fn warnings(held: &Survey, flown: Option<&Model>) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut differs = |what: &str, recorded: &str, here: &str| {
        if recorded != here {
            warnings.push(format!("{what}: the flight had {recorded:?}, here is {here:?}; the last bits may differ"));
        }
    };
    differs("runtime", &held.flight.runtime, env!("CARGO_PKG_VERSION"));
    differs("processor", &held.flight.processor, &processor());
    if let Some(Model { engine, library: Some(library), .. }) = flown
        && engine.starts_with("ort")
    {
        differs("library", library, &kestrel_onboard::engine::runtime_version().unwrap_or_default());
    }
    warnings
}

/// What the record lacks, line by line.
fn lacking(report: &Report, held: &Survey, damage: &Damage) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |count: u64, what: &str| {
        if count > 0 {
            lines.push(format!("{count} {what}"));
        }
    };
    say(report.missing_looks, "frames were looked at and are not in the record");
    say(held.losses.outcomes, "outcomes were given and are not in the record");
    say(report.damaged_looks, "frames are damaged in the record");
    say(
        report.foreign_looks,
        "frames were looked at by another model or on another engine: replay them with its --bundle, or with --loose",
    );
    say(
        report.unasked_outcomes,
        "outcomes were not compared, because their frames, or earlier answers to the same query, are not in the record",
    );
    say(
        report.regrouped_outcomes,
        "outcomes that differ may do so for want of another: the engine sees several tiles in one run, and saw others together \
         than in flight, because an answer before them about the same frame is not in the record",
    );
    if let Some(gone) = unaccounted(held) {
        lines.push(gone);
    }
    if held.end.is_none() {
        lines.push("the recording was cut off before the flight ended".into());
    }
    if let Some(first) = &damage.first {
        lines.push(format!("{} times the record cannot be read, first at {first}", damage.count));
    }
    lines
}

/// Whether the drone counted other outcomes than the record has, beyond those that it says it lost.
fn unaccounted(held: &Survey) -> Option<String> {
    let totals = held.end.as_ref()?.totals?;
    let (counted, known) = (totals.outcomes(), held.given().saturating_add(held.losses.outcomes));
    (counted != known).then(|| format!("the drone gave {counted} outcomes, and the record accounts for {known}"))
}

fn print(report: &Report, held: &Survey, damage: &Damage, agreement: Agreement) {
    for line in lacking(report, held, damage) {
        println!("missing: {line}");
    }
    let alike = match agreement {
        Agreement::Exact => "identical".to_owned(),
        Agreement::Loose { least_iou } => format!("alike at an IoU of {least_iou}"),
    };
    let Report { looks, outcomes, different, .. } = report;
    if *looks == 0 {
        println!("replayed nothing: no frame of the record can be looked at again by this model on this engine");
    } else if let Some(found) = &report.first {
        println!("first difference: {}", located(found));
        println!("replayed {looks} frames and {outcomes} outcomes: {different} differ");
    } else {
        println!("replayed {looks} frames and {outcomes} outcomes: {alike}");
    }
}

fn located(found: &Found) -> String {
    let Found { frame, query, difference } = found;
    match query {
        Some((id, text)) => format!("frame {frame}, query {id} ({text:?}), {difference}"),
        None => format!("frame {frame}, {difference}"),
    }
}

fn describe(report: &Report, held: &Survey, damage: &Damage, model: &str, engine: &str) -> Value {
    let first = report.first.as_ref().map(|found| {
        let Found { frame, query, difference } = found;
        json!({
            "frame": frame,
            "query": query.as_ref().map(|(id, _)| id),
            "field": difference.field,
            "expected": difference.expected,
            "got": difference.got,
            "iou": difference.mask.map(|mask| mask.iou),
            "pixels": difference.mask.map(|mask| mask.pixels),
        })
    });
    json!({
        "drone": held.flight.drone,
        "model": model,
        "engine": engine,
        "frames": report.looks,
        "outcomes": report.outcomes,
        "different": report.different,
        "first_difference": first,
        "missing_frames": report.missing_looks,
        "missing_outcomes": held.losses.outcomes,
        "refusals": held.refusals,
        "given_outcomes": held.end.as_ref().and_then(|end| end.totals).map(|totals| totals.outcomes()),
        "damaged_frames": report.damaged_looks,
        "foreign_frames": report.foreign_looks,
        "unasked_outcomes": report.unasked_outcomes,
        "regrouped_outcomes": report.regrouped_outcomes,
        "cut_off": held.end.is_none(),
        "damage": damage.count,
        "first_damage": damage.first,
    })
}
