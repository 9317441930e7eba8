//! `ground eval`: judges a bundle on a set, with the runtime that flies.

mod beside;
mod large;
mod reasoned;
mod show;

use crate::draft;
use crate::engine::EngineArguments;
use crate::records::{self, Header};
use anyhow::{Context, Result, anyhow, bail};
use beside::Beside;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use kestrel_link::{Outcome, Query, Verdict};
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::gate_table::GateTable;
use kestrel_onboard::pipeline::{Answer, Segmenter, SegmenterOptions, union};
use kestrel_perception::{Bitmap, GateThresholds, policy};
use kestrel_training::benchmark;
use kestrel_training::datasets::Split;
use kestrel_training::datasets::folder::Folder;
use kestrel_training::datasets::formats::Format;
use kestrel_training::metrics::published::{Benchmark, as_boxes};
use kestrel_training::metrics::{Kind, NO_DOUBT, Record, Swept, report};
use kestrel_training::sample::{Ask, Sample, Target};
use reasoned::Reasons;
use show::{line, print};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `ground eval`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Folder of the bundle; by default the released one.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// A frozen set by name, or a folder with images/ and annotations.json.
    #[arg(long, default_value = "scenes")]
    set: String,
    /// Instead: a folder of your own in this format, as for `ground data check`.
    #[arg(long, requires = "folder", conflicts_with = "set")]
    format: Option<Format>,
    /// The folder of --format.
    #[arg(long, requires = "format")]
    folder: Option<PathBuf>,
    /// The annotation file in it, where a COCO file has another name than the usual ones.
    #[arg(long, requires = "format")]
    annotations: Option<PathBuf>,
    /// What is judged of it: one of its own splits, train, tune, test or all; test by default.
    #[arg(long, requires = "format")]
    split: Option<String>,
    /// 0 is the frozen set; another seed draws other scenes and questions of the same kind.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Pictures at most.
    #[arg(long)]
    limit: Option<usize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Write one line of JSON per question, for `ground calibrate`.
    #[arg(long, conflicts_with = "salient")]
    records: Option<PathBuf>,
    /// Also compare with these records of another model or engine on the same questions, pair by pair.
    #[arg(long, value_name = "RECORDS")]
    beside: Option<PathBuf>,
    /// Ask so many further questions about each picture for reasons too; the bundle must hold explain.onnx.
    #[arg(long, default_value_t = 0, value_name = "COUNT", hide_default_value = true)]
    reasoned: usize,
    /// Leave out the classical gate, to judge the model alone.
    #[arg(long)]
    without_gate: bool,
    /// Let the gate refuse by the bounds of this gate.json, as the drone that flies by it does.
    #[arg(long, value_name = "FILE", conflicts_with = "without_gate")]
    gate_table: Option<PathBuf>,
    /// Instead of the model's masks, show the largest salient blob: the baseline that reads no words.
    #[arg(long)]
    salient: bool,
    #[command(flatten)]
    large: large::LargeArguments,
    #[command(flatten)]
    engine: EngineArguments,
}

impl Arguments {
    fn gate_table(&self) -> Result<Option<GateTable>> {
        let read = |path: &PathBuf| GateTable::read(path).map_err(|error| anyhow!("{error}\nhint: {}", error.hint()));
        self.gate_table.as_ref().map(read).transpose()
    }

    /// The gate's bounds; `None` admits every picture.
    fn gate(&self, table: Option<&GateTable>) -> Option<GateThresholds> {
        match table {
            Some(table) => Some(table.bounds),
            None => (!self.without_gate).then(GateThresholds::default),
        }
    }
}

/// Mask thresholds among which `ground calibrate` chooses.
const SWEEP: [f32; 8] = [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5];

/// Runs `ground eval`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let open = || anyhow::Ok(Bundle::open(&crate::engine::bundle_folder(arguments.bundle.as_deref())?)?);
    if arguments.large.large {
        return large::run(arguments, &open()?);
    }
    // Read first: what cannot be compared is told before hours of answers.
    let others = arguments.beside.as_deref().map(records::read).transpose()?;
    let subject = Subject::of(arguments)?;
    let bundle = open()?;
    let table = arguments.gate_table()?;
    let mut options = SegmenterOptions {
        gate: arguments.gate(table.as_ref()),
        explain: arguments.reasoned > 0,
        ..SegmenterOptions::default()
    };
    if arguments.records.is_some() {
        options.sweep = SWEEP.to_vec();
    }
    let mut segmenter = Segmenter::open(&bundle, &arguments.engine.options(arguments.json), options)
        .map_err(|error| anyhow!("{error}\nhint: {}", error.hint()))?;
    let mut reasons = match arguments.reasoned {
        0 => None,
        count => Some(Reasons::of(&bundle, count, arguments.seed)?),
    };
    let (name, benchmark) = (subject.name.clone(), subject.benchmark);
    let Judged { records, written, left_out } = judge(arguments, subject, &mut segmenter, reasons.as_mut())?;
    if records.is_empty() {
        bail!("the set `{name}` holds no question, and {left_out} pictures that do not open");
    }
    if let Some(path) = &arguments.records {
        let header = Header {
            gate_table: table.map(|table| table.sha256),
            ..header(arguments, &name, &bundle, segmenter.engine())
        };
        records::write(path, &header, &records)?;
    }
    let compared = others.map(|others| Beside::of(&records, &others, arguments.seed)).transpose()?;
    let report = report(&records, arguments.seed);
    let published = benchmark.map(|benchmark| (benchmark, benchmark.figures(&written, arguments.seed)));
    let reasoned = reasons.map(|reasons| reasons.figures());
    if arguments.json {
        let mut all = serde_json::to_value(&report)?;
        if let Some(reasoned) = &reasoned {
            all["reasoned"] = serde_json::to_value(reasoned)?;
        }
        if let Some(compared) = &compared {
            all["beside"] = serde_json::to_value(compared)?;
        }
        if let Some((benchmark, figures)) = &published {
            all["published"] = serde_json::json!({ "benchmark": benchmark, "figures": figures });
        }
        println!("{all}");
    } else {
        print(&name, segmenter.model(), segmenter.engine(), &report);
        if let Some((benchmark, figures)) = &published {
            println!("\nas {benchmark:?} defines it, on {} questions in the set's own words:", written.len());
            figures.iter().for_each(|(name, figure)| line(name, figure));
        }
        if let Some(reasoned) = &reasoned {
            reasoned::print(reasoned);
        }
        if let Some(compared) = &compared {
            compared.print();
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the records say of themselves.
fn header(arguments: &Arguments, set: &str, bundle: &Bundle, engine: &str) -> Header {
    Header {
        records: records::FORMAT,
        model: bundle.manifest.model(),
        model_hash: bundle.thresholds.model_hash.clone(),
        set: set.to_owned(),
        split: arguments.format.map(|_| arguments.split.clone().unwrap_or_else(|| Split::Test.name().to_owned())),
        seed: arguments.seed,
        limit: arguments.limit,
        // What lies in a folder counts as photographs.
        real: !(benchmark::NAMES.contains(&set) && set.starts_with("scenes")),
        gate: !arguments.without_gate,
        gate_table: None,
        engine: engine.to_owned(),
        date: draft::today(),
    }
}

/// What is judged.
struct Subject {
    name: String,
    samples: benchmark::Samples,
    /// The published definitions that apply to its own words.
    benchmark: Option<Benchmark>,
    /// Whether a picture that does not open is left out instead of ending everything.
    lenient: bool,
}

impl Subject {
    fn of(arguments: &Arguments) -> Result<Self> {
        let data = std::env::var_os("KESTREL_DATA").map(PathBuf::from);
        let (seed, limit) = (arguments.seed, arguments.limit);
        let plain = |samples| Self { name: arguments.set.clone(), samples, benchmark: None, lenient: false };
        if let (Some(format), Some(folder)) = (arguments.format, &arguments.folder) {
            return Self::own(arguments, format, folder);
        }
        if benchmark::NAMES.contains(&arguments.set.as_str()) {
            return Ok(plain(benchmark::set(&arguments.set, seed, limit, data.as_deref())?));
        }
        let folder = Path::new(&arguments.set);
        if !folder.is_dir() {
            bail!(
                "`{}` is neither a folder nor a frozen set\nhint: the sets are {}; --format and --folder name your own",
                arguments.set,
                benchmark::NAMES.join(", ")
            );
        }
        Ok(plain(benchmark::folder(folder, seed, limit)?))
    }

    fn own(arguments: &Arguments, format: Format, folder: &Path) -> Result<Self> {
        if format == Format::Spoken {
            bail!(
                "a set in the format {format} asks for answers in words, and a bundle gives masks\n\
                 hint: `ground score` scores answers in words"
            );
        }
        let set = Folder {
            annotations: arguments.annotations.clone(),
            split: arguments.split.clone(),
            ..Folder::new(format, &std::path::absolute(folder)?)
        };
        let part = set.part(None, Split::Test)?;
        if !arguments.json {
            part.told().iter().for_each(|line| eprintln!("{line}"));
        }
        let name = format!("{format} {}", folder.display());
        let samples = benchmark::from_records(part.records, arguments.seed, arguments.limit);
        Ok(Self { name, samples, benchmark: Benchmark::of(format), lenient: true })
    }
}

/// What came of a set.
#[derive(Default)]
struct Judged {
    records: Vec<Record>,
    /// The records that a benchmark judges, as it compares them.
    written: Vec<Record>,
    left_out: usize,
}

fn judge(
    arguments: &Arguments,
    subject: Subject,
    segmenter: &mut Segmenter,
    mut reasons: Option<&mut Reasons>,
) -> Result<Judged> {
    let bar = if arguments.json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    bar.set_style(ProgressStyle::with_template("{spinner} {pos} pictures, {msg} ({elapsed})")?);
    let mut judged = Judged::default();
    for sample in subject.samples {
        let sample = match sample {
            Err(error) if subject.lenient => {
                bar.suspend(|| eprintln!("left out: {error}"));
                judged.left_out += 1;
                continue;
            }
            sample => sample?,
        };
        let mut look = segmenter.look_still(&sample.picture.image)?;
        for ask in &sample.asks {
            let query = Query { hint: ask.hint, ..Query::new("eval", &ask.text) };
            let mut answer = look.ask(&query).with_context(|| format!("asking “{}”", ask.text))?;
            if arguments.salient {
                crate::salient::replace(&mut answer, &sample.picture.image)?;
            }
            let record = record(&subject.name, &sample, ask, &answer)?;
            if let Some(benchmark) = subject.benchmark.filter(|_| ask.written) {
                judged.written.push(match benchmark.by_boxes() {
                    true => boxed(&record, &sample, ask, &answer)?,
                    false => record.clone(),
                });
            }
            judged.records.push(record);
        }
        if let Some(reasons) = &mut reasons {
            reasons.ask(&mut look, &sample)?;
        }
        bar.inc(1);
        bar.set_message(format!("{} questions", judged.records.len()));
    }
    bar.finish_and_clear();
    Ok(judged)
}

/// The record with the boxes around what was shown and what is right.
fn boxed(record: &Record, sample: &Sample, ask: &Ask, answer: &Answer) -> Result<Record> {
    let shown = union(&answer.outcome)?.and_then(|mask| mask.bounding_box());
    Ok(as_boxes(record, shown, truth(sample, ask)?.0.bounding_box()))
}

/// One question's record: what was right, what came.
pub fn record(set: &str, sample: &Sample, ask: &Ask, answer: &Answer) -> Result<Record> {
    let image = &sample.picture.image;
    let (target, weak) = truth(sample, ask)?;
    let shown = union(&answer.outcome)?.unwrap_or_else(|| Bitmap::new(image.width(), image.height()));
    let overlap = overlap(&shown, &target);
    let swept = answer.whole.iter().flat_map(|whole| SWEEP.iter().zip(&whole.sweep));
    let sweep = swept.map(|(&threshold, mask)| Swept {
        threshold,
        predicted: mask.area(),
        intersection: self::overlap(mask, &target),
    });
    let sweep = sweep.collect();
    let observation = answer.whole.as_ref().map(|whole| &whole.observation);
    let features = observation.map_or([0.0; 3], |o| policy::presence_features(&o.answers, o.object, o.iou));
    let presence = match &answer.outcome {
        Outcome::Segmented { masks } => masks.iter().map(|mask| mask.presence).fold(0.0, f32::max),
        Outcome::Refused(refusal) => {
            refusal.evidence.iter().find(|(name, _)| name == "presence").map_or(0.0, |(_, value)| *value)
        }
    };
    let doubts = observation.map_or(&[][..], |o| &o.doubts);
    Ok(Record {
        set: set.to_owned(),
        scene: sample.picture.origin.scene.clone(),
        frame: sample.picture.origin.frame.clone(),
        text: ask.text.clone(),
        stratum: ask.stratum,
        expected: Kind::from(&ask.target),
        weak,
        target: target.area(),
        held_out_phrasing: ask.held_out_phrasing,
        slipped: ask.slipped,
        degradation: sample.degradation.clone(),
        given: given(&answer.outcome),
        predicted: shown.area(),
        intersection: overlap,
        presence,
        features,
        doubt: doubts.iter().map(|word| word.logit).fold(NO_DOUBT, f32::max),
        sweep,
    })
}

fn overlap(a: &Bitmap, b: &Bitmap) -> u64 {
    a.bits().iter().zip(b.bits()).filter(|(a, b)| **a && **b).count() as u64
}

/// The target's pixels, and whether they are only a weak box.
fn truth(sample: &Sample, ask: &Ask) -> Result<(Bitmap, bool)> {
    let picture = &sample.picture;
    let mut all = Bitmap::new(picture.image.width(), picture.image.height());
    let (which, weak) = match &ask.target {
        Target::Masks(which) => (which.as_slice(), false),
        Target::Boxes(which) => (which.as_slice(), true),
        _ => return Ok((all, false)),
    };
    for &index in which {
        let instance = &picture.instances[index];
        let part = match (&instance.mask, weak) {
            (Some(mask), false) => Bitmap::from_mask(mask)?,
            _ => {
                let [x, y, w, h] = instance.bounding_box;
                Bitmap::from_fn(all.width(), all.height(), |px, py| {
                    let (px, py) = (px as f32 + 0.5, py as f32 + 0.5);
                    px >= x && px < x + w && py >= y && py < y + h
                })
            }
        };
        all.unite(&part)?;
    }
    Ok((all, weak))
}

fn given(outcome: &Outcome) -> Kind {
    match outcome {
        Outcome::Segmented { .. } => Kind::Mask,
        Outcome::Refused(refusal) => match refusal.verdict {
            Verdict::TargetAbsent => Kind::Absent,
            Verdict::TargetAmbiguous { .. } => Kind::Ambiguous,
            Verdict::QueryNotUnderstood { .. } => Kind::NotUnderstood,
            Verdict::TargetUnseeable => Kind::Unseeable,
            _ => Kind::Other,
        },
    }
}
