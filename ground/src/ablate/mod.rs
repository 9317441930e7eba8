//! `ground ablate`: trains the arms of an experiment from one model, judges all of them alike and writes one table.
//!
//! Every run is a run of `ground grpo`: it has its own folder and goes on where it was stopped.

mod beside;
mod columns;
mod cost;
mod markdown;
mod plan;
mod table;
#[cfg(test)]
mod table_tests;

pub(crate) use beside::{Arm, compared};
pub(crate) use cost::Cost;

use crate::device::Device;
use crate::teller::Teller;
use crate::train::{Folders, interrupted, with_environment};
use anyhow::{Context, Result, bail};
use clap::Args;
use cost::{COST, Kept};
use kestrel_calibration::{Rules, fit_with};
use kestrel_training::grpo::{self, Baker, Options, Progress, Recipe, Start, record};
use kestrel_training::metrics::Record;
use kestrel_training::resident;
use kestrel_training::sft::checkpoint::{MODEL, STATE};
use kestrel_training::sft::recipe::Processor;
use plan::{Cell, Plan, Set};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use table::{Outcome, judged};

/// Arguments of `ground ablate`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The experiment, a TOML file.
    plan: PathBuf,
    /// Folder of the model that all arms begin from (`model.safetensors` and `tokenizer.json`).
    #[arg(long)]
    from: PathBuf,
    #[command(flatten)]
    folders: Folders,
    #[command(flatten)]
    device: Device,
    /// Run only these, with commas between: arms (`cot`) or single runs (`cot-1`). What else is finished stands in the table
    /// beside them.
    #[arg(long, value_name = "RUNS", value_delimiter = ',')]
    only: Vec<String>,
    /// Make the table from the runs that are finished, without training.
    #[arg(long)]
    table_only: bool,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
}

/// Name of the model that all arms begin from, in the table.
const START: &str = "start";

/// Runs `ground ablate`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let plan = Plan::load(&arguments.plan)?;
    with_environment()?;
    let stop = interrupted()?;
    let runs = arguments.folders.runs()?;
    let experiment =
        Experiment { plan: &plan, arguments, runs: &runs, teller: Teller::new(arguments.json), stop: &stop };
    let mut outcomes = vec![experiment.start()?];
    let mut whole = true;
    for (cell, chosen) in plan.chosen(&arguments.only)? {
        match experiment.cell(&cell, chosen && !arguments.table_only)? {
            Some(outcome) => outcomes.push(outcome),
            None => whole = whole && !chosen,
        }
        if stop.load(Ordering::Relaxed) {
            whole = false;
            break;
        }
    }
    experiment.teller.finish();
    let folder = runs.join(&plan.name);
    let mut arms = vec![(START.to_owned(), "The model that all arms begin from.".to_owned())];
    arms.extend(plan.arms.iter().map(|arm| (arm.name.clone(), arm.about.clone())));
    let tables = table::tables(&outcomes, &arms, &plan.reference);
    let (markdown, json) = (markdown::markdown(&tables, &plan.reference), serde_json::to_string_pretty(&tables)?);
    write(&folder.join("table.md"), &markdown)?;
    write(&folder.join("table.json"), &json)?;
    let reports: Vec<serde_json::Value> = outcomes.iter().map(table::whole).collect();
    write(&folder.join("reports.json"), &serde_json::to_string(&reports)?)?;
    println!("{}", if arguments.json { json } else { markdown });
    let state = if whole { "finished" } else { "not finished; the same command goes on" };
    eprintln!("{state}: {}", folder.join("table.md").display());
    Ok(ExitCode::SUCCESS)
}

struct Experiment<'a> {
    plan: &'a Plan,
    arguments: &'a Arguments,
    runs: &'a Path,
    teller: Teller,
    stop: &'a AtomicBool,
}

impl Experiment<'_> {
    /// The model that all arms begin from, judged as they are.
    fn start(&self) -> Result<Outcome> {
        let folder = self.runs.join(&self.plan.name);
        self.claim(&folder, None)?;
        let records = self.judge(&folder, &self.arguments.from)?;
        let cost = Kept::read(&folder.join(COST))?.cost(0.0, None);
        Ok(Outcome { arm: START.to_owned(), seed: 0, cost, records })
    }

    /// Judges one run, which is trained where it `may` be; `None` while it is not finished.
    fn cell(&self, cell: &Cell, may: bool) -> Result<Option<Outcome>> {
        let recipe = &cell.recipe;
        let folder = self.runs.join(&recipe.name);
        if !may && !folder.join(TEST).is_file() {
            return Ok(None);
        }
        self.claim(&folder, Some(recipe))?;
        if !folder.join(TEST).is_file() {
            self.teller.words(&format!("run {}", recipe.name));
            resident::forget_peak();
            let options = Options {
                runs: self.runs.to_path_buf(),
                data: self.arguments.folders.data.clone(),
                from: Some(self.arguments.from.clone()),
                resume: folder.join(STATE).is_file(),
            };
            // What the folder remembers is the plan's recipe: what computes makes no other run of it.
            let recipe = Recipe { device: self.arguments.device.or(recipe.device), ..recipe.clone() };
            let summary = grpo::train(&recipe, &options, &|progress| {
                match progress {
                    Progress::Episodes(done, all) => self.teller.samples(done, all),
                    Progress::Doing(words) => self.teller.words(words),
                    Progress::Step(entry) if !self.arguments.json => {
                        self.teller.step(entry.step, entry.steps, entry, false);
                    }
                    _ => {}
                }
                if self.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            Kept::change(&folder.join(COST), |kept| kept.held(resident::peak_mebibytes()))?;
            if !summary.finished {
                return Ok(None);
            }
        }
        let records = self.judge(&folder, &folder)?;
        let seconds = seconds(&folder.join("log.jsonl"))?;
        let cost = Kept::read(&folder.join(COST))?.cost(seconds, Some(recipe.workers));
        Ok(Some(Outcome { arm: cell.arm.clone(), seed: recipe.seed, cost, records }))
    }

    /// Makes a folder this experiment's own: what a changed plan, recipe or model has left there is not taken for its own.
    fn claim(&self, folder: &Path, recipe: Option<&Recipe>) -> Result<()> {
        let (from, sets) = (self.arguments.from.join(MODEL), [&self.plan.tune, &self.plan.test]);
        let bytes = std::fs::read(&from).with_context(|| format!("reading {}", from.display()))?;
        let mut hasher = kestrel_link::Hasher::default();
        hasher.update(&bytes);
        let is = serde_json::json!({ "from": hasher.finish(), "recipe": recipe, "sets": sets }).to_string();
        let path = folder.join(CLAIM);
        match std::fs::read_to_string(&path) {
            Ok(was) if was == is => Ok(()),
            Ok(_) => bail!(
                "{}: expected a run of this recipe, model and sets, got one of others\n\
                 hint: remove the folder, or give the experiment another name",
                folder.display()
            ),
            Err(_) => {
                std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
                write(&path, &is)
            }
        }
    }

    /// Records of a model on the test sets with thresholds fitted on the tuning sets; kept in `folder`. All models are judged
    /// on one device.
    fn judge(&self, folder: &Path, model: &Path) -> Result<Vec<Record>> {
        // Records that are kept need no device, which may not be here.
        let kept = [TUNE, TEST].iter().all(|name| folder.join(name).is_file());
        let processor = if kept { Processor::Cpu } else { self.arguments.device.or(self.plan.device()?) };
        let start = grpo::load_to(model, MODEL, &processor.device()?)?;
        let tune = self.records(&folder.join(TUNE), &start, &self.plan.tune)?;
        let test = self.records(&folder.join(TEST), &start, &self.plan.test)?;
        let rules = Rules {
            false_refusals: self.plan.false_refusals,
            clear_views_only: self.plan.clear_views_only,
            // As silent as the rule on false refusals allows: arms are compared at the same rate.
            enough_passes: 1.0,
            least_records: self.plan.least_records,
            ..Rules::default()
        };
        let fitted = fit_with(&tune, &rules).with_context(|| format!("thresholds of {}", folder.display()))?;
        Ok(test.iter().map(|record| judged(record, &fitted)).collect())
    }

    fn records(&self, path: &Path, start: &Start, sets: &[Set]) -> Result<Vec<Record>> {
        if path.is_file() {
            let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            return crate::records::lines(path, &text, 1);
        }
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let tell = |done: usize, all: usize| self.teller.samples(done, all);
        let baker = Baker {
            params: &start.params,
            config: &start.config,
            runs: self.runs,
            data: self.arguments.folders.data.as_deref(),
            workers,
            progress: &tell,
        };
        let (mut records, mut judging) = (Vec::new(), 0.0);
        for Set { set, seed, pictures } in sets {
            let episodes = baker.set(set, *seed, *pictures)?;
            let Start { params, config, tokenizer } = start;
            // Pictures are seen by whoever asks first, and by no arm after it.
            let clock = Instant::now();
            records.extend(record::records(params, config, tokenizer, set, &episodes, workers)?);
            judging += clock.elapsed().as_secs_f64();
        }
        let mut text = String::new();
        for record in &records {
            text.push_str(&serde_json::to_string(record)?);
            text.push('\n');
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        Kept::change(&path.with_file_name(COST), |kept| kept.judged(&file, judging))?;
        write(path, &text)?;
        Ok(records)
    }
}

/// What a run's folder belongs to.
const CLAIM: &str = "experiment.json";
/// Records of the tuning sets, in a run's folder.
const TUNE: &str = "tune.jsonl";
/// Records of the test sets.
const TEST: &str = "test.jsonl";

/// Written beside and renamed, so that a killed experiment finds the whole file or none.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("partial");
    std::fs::write(&beside, text).with_context(|| format!("writing {}", beside.display()))?;
    std::fs::rename(&beside, path).with_context(|| format!("renaming {}", beside.display()))
}

/// Wall seconds of all steps of a log.
pub(crate) fn seconds(log: &Path) -> Result<f64> {
    let text = std::fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
    let of = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["seconds"].as_f64();
    Ok(text.lines().filter_map(of).sum())
}
