//! `ground calibrate`: thresholds of a bundle with what they promise, from evaluation records.

mod gate;
mod ranges;
mod show;

use crate::draft;
use crate::records::{self, Header, Recorded};
use crate::steps::{self, BUNDLE, CALIBRATION_FILE, Step};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use kestrel_calibration::{Batch, Calibrated, Promise, Source, Table, Unit, calibrate, refuse_test, resplits};
use kestrel_link::Thresholds;
use kestrel_link::manifest::{GRAPH_FILES, THRESHOLDS_FILE};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `ground calibrate`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    fit: Fit,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write thresholds that mean nothing yet, so that graphs without any can be evaluated.
    Begin {
        /// Folder of the bundle.
        bundle: PathBuf,
    },
    /// Put the thresholds of a table into the bundle that it was made for.
    Apply {
        /// The table, `calibration.json`.
        table: PathBuf,
        /// Folder of the bundle.
        #[arg(long)]
        bundle: PathBuf,
    },
    /// Bound how often the gate refuses clean frames, by camera.
    Gate(gate::Arguments),
}

/// How thresholds are found.
#[derive(Debug, Args)]
struct Fit {
    /// Records written by `ground eval --records`, on data that neither trained nor will test.
    #[arg(required = true)]
    records: Vec<PathBuf>,
    /// Folder of the bundle that gets the thresholds; the records must be of its graphs. Without it nothing but --out is written.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Records that fit presence and masks, so that every scene of the others bounds the risk; may be given several times.
    /// Without them a third of the scenes fits.
    #[arg(long)]
    fit: Vec<PathBuf>,
    /// Greatest share of questions about absent or unseeable targets that a mask may answer.
    #[arg(long, default_value_t = 0.05)]
    alpha: f64,
    /// Allow each stratum this much, while --alpha bounds their mixture; without it --alpha bounds every one of them.
    #[arg(long, value_name = "ALPHA", conflicts_with = "without_promise")]
    stratum_alpha: Option<f64>,
    /// Greatest probability that the promise is wrong.
    #[arg(long, default_value_t = 0.05)]
    delta: f64,
    /// Count a scene as failed when a mask answers any of its questions, instead of the share of them.
    #[arg(long)]
    worst: bool,
    /// Measure this stratum without promising anything of it: its name or the beginning of it, e.g. `real`; may be given several times.
    #[arg(long, value_name = "STRATUM")]
    leave_out: Vec<String>,
    /// Greatest share of clear present targets that the promise may cost; beyond it nothing is written.
    #[arg(long, default_value_t = 0.05)]
    most_false_refusals: f64,
    /// Seed of the splits.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Also calibrate on half of the scenes and measure on the other half, so many times.
    #[arg(long, default_value_t = 0, value_name = "COUNT", hide_default_value = true)]
    resplits: usize,
    /// Write calibration.json and risk-coverage.svg into this folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Set thresholds by rule and promise nothing: for records too few for any promise.
    #[arg(long, requires = "bundle", conflicts_with_all = ["fit", "out", "resplits", "leave_out", "worst"])]
    without_promise: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `ground calibrate`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.command {
        Some(Command::Begin { bundle }) => begin(bundle),
        Some(Command::Apply { table, bundle }) => apply(table, bundle),
        Some(Command::Gate(gate)) => gate::run(gate),
        None if arguments.fit.without_promise => arguments.fit.by_rule(),
        None => arguments.fit.run(),
    }
}

fn begin(dir: &Path) -> Result<ExitCode> {
    steps::remove(&dir.join(CALIBRATION_FILE))?;
    steps::forget(dir, "calibrate")?;
    put(dir, &draft::uncalibrated(&graphs(dir)?))?;
    println!("{}: thresholds that mean nothing yet; `ground eval --records`, then `ground calibrate`", dir.display());
    Ok(ExitCode::SUCCESS)
}

fn apply(path: &Path, dir: &Path) -> Result<ExitCode> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let table = Table::from_json(&bytes).with_context(|| path.display().to_string())?;
    table.check_model(&graphs(dir)?).with_context(|| format!("{} for {}", path.display(), dir.display()))?;
    let text = table.to_json()?;
    std::fs::write(dir.join(CALIBRATION_FILE), text).with_context(|| format!("writing into {}", dir.display()))?;
    write(dir, &table.thresholds)?;
    // It stands for the calibration that made the table.
    let step = Step::new("calibrate").word("apply").input(path)?.option("--bundle", BUNDLE);
    let step = Step { seed: Some(table.thresholds.seed), ..step };
    steps::note(dir, step.gives(dir, [THRESHOLDS_FILE, CALIBRATION_FILE])?)?;
    kestrel_onboard::bundle::seal(dir, draft::read(dir)?, None)?;
    println!("{}: {}", dir.display(), table.thresholds.data);
    Ok(ExitCode::SUCCESS)
}

impl Fit {
    fn promise(&self) -> Promise {
        Promise {
            alpha: self.alpha,
            stratum_alpha: self.stratum_alpha,
            delta: self.delta,
            unit: if self.worst { Unit::Worst } else { Unit::Mean },
            left_out: self.leave_out.clone(),
            most_false_refusals: self.most_false_refusals,
            seed: self.seed,
        }
    }

    fn run(&self) -> Result<ExitCode> {
        let promise = self.promise();
        promise.validate()?;
        let (records, fitting) = (read(&self.records)?, read(&self.fit)?);
        let (model, hash) = self.model(records.iter().chain(&fitting))?;
        if let Some(dir) = &self.bundle {
            ranges::apart(dir, &records)?;
        }
        let (batches, fitting) = (batches(records), batches(fitting));
        let found = calibrate(&batches, &fitting, &promise)?;
        let affordable = found.affordable(&promise);
        // Halves may be too small for what the whole holds: that costs the re-splits and not the promise.
        let (again, unsplit) = match self.resplits {
            0 => (None, None),
            count => match self.resplit(&batches, &fitting, &promise, count) {
                Ok(again) => (Some(again), None),
                Err(error) => (None, Some(error)),
            },
        };
        if !affordable {
            self.tell_unaffordable(&found, &promise, again.as_ref())?;
            if let Some(error) = unsplit {
                eprintln!("error: {error:#}");
            }
            return Ok(ExitCode::FAILURE);
        }
        let mut table = Table::of(&found, &promise, (&batches, &fitting), (&model, &hash), &draft::today())?;
        table.resplits = again;
        if let Some(out) = &self.out {
            show::write(out, &table)?;
        }
        if let Some(dir) = &self.bundle {
            self.finish(dir, &table)?;
        }
        if self.json {
            println!("{}", serde_json::to_string(&table)?)
        } else {
            show::print(&table)
        }
        match unsplit {
            None => Ok(ExitCode::SUCCESS),
            Some(error) => Err(error.context("the promise stands, but no re-splits show how it is kept")),
        }
    }

    /// The one model that made all records, and the bundle's where there is one.
    fn model<'a>(&self, mut records: impl Iterator<Item = &'a Recorded>) -> Result<(String, String)> {
        let first = records.next().context("no records")?;
        let (model, hash) = (&first.header.model, &first.header.model_hash);
        if let Some(other) = records.find(|other| other.header.model_hash != *hash) {
            bail!(
                "{}: expected records of the model that made {} ({hash}), got those of {} ({})\n\
                 hint: evaluate one model on all sets",
                other.path.display(),
                first.path.display(),
                other.header.model,
                other.header.model_hash
            );
        }
        if let Some(dir) = &self.bundle {
            let graphs = graphs(dir)?;
            if graphs != *hash {
                bail!(
                    "{}: expected records of the graphs in {} ({graphs}), got those of {model} ({hash})\n\
                     hint: `ground eval --bundle {1} --records …`",
                    first.path.display(),
                    dir.display()
                );
            }
        }
        Ok((model.clone(), hash.clone()))
    }

    fn resplit(
        &self,
        batches: &[Batch],
        fitting: &[Batch],
        promise: &Promise,
        count: usize,
    ) -> Result<kestrel_calibration::Resplits> {
        let bar = if self.json { ProgressBar::hidden() } else { ProgressBar::new(count as u64) };
        bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} re-splits ({elapsed})")?);
        let found = resplits(batches, fitting, promise, count, &mut |done| bar.set_position(done as u64));
        bar.finish_and_clear();
        found.context("re-splits halve the scenes, and of a half")
    }

    /// Says what the promise would cost and what others would; writes nothing but the curve.
    fn tell_unaffordable(
        &self,
        found: &Calibrated,
        promise: &Promise,
        again: Option<&kestrel_calibration::Resplits>,
    ) -> Result<()> {
        if let Some(out) = &self.out {
            show::write_curve(out, &found.measured)?;
        }
        if self.json {
            let told = serde_json::json!({
                "promised": false,
                "alpha": promise.alpha,
                "stratum_alpha": promise.stratum_alpha,
                "most_false_refusals": promise.most_false_refusals,
                "mixture": found.mixture,
                "strata": found.strata,
                "reported": found.reported,
                "measured": found.measured,
                "costs": found.costs,
                "resplits": again,
            });
            println!("{told}");
        } else {
            show::print_found(found, promise);
            if let Some(again) = again {
                show::print_resplits(again, (promise.alpha, promise.stratum_alpha));
            }
        }
        match found.measured.clear {
            Some(share) => eprintln!(
                "error: a risk of {} would refuse {:.1} % of clear present targets, {:.1} % are allowed; nothing is written\n\
                 hint: the costs of other risks are above; --alpha asks for one of them (on records that did not choose it), \
                 --most-false-refusals allows more",
                promise.alpha,
                100.0 * share.value,
                100.0 * promise.most_false_refusals
            ),
            None => eprintln!(
                "error: no clear present target is among the records that bound the risk, so nothing says what the promise \
                 costs; nothing is written\n\
                 hint: evaluate a set with undegraded targets from a square of 32 pixels too"
            ),
        }
        Ok(())
    }

    /// Thresholds, table and step into the bundle.
    fn finish(&self, dir: &Path, table: &Table) -> Result<()> {
        let path = dir.join(CALIBRATION_FILE);
        std::fs::write(&path, table.to_json()?).with_context(|| format!("writing {}", path.display()))?;
        write(dir, &table.thresholds)?;
        let mut step = self.step()?.option("--alpha", self.alpha).option("--delta", self.delta);
        step = step.option("--most-false-refusals", self.most_false_refusals).option("--seed", self.seed);
        if let Some(alpha) = self.stratum_alpha {
            step = step.option("--stratum-alpha", alpha);
        }
        step = step.flag("--worst", self.worst);
        for stratum in &self.leave_out {
            step = step.option("--leave-out", stratum);
        }
        // Without those that failed the command makes the same again.
        if table.resplits.is_some() {
            step = step.option("--resplits", self.resplits);
        }
        for path in &self.fit {
            step = step.word("--fit").input(path)?;
        }
        let step = Step { seed: Some(self.seed), ..step };
        steps::note(dir, step.gives(dir, [THRESHOLDS_FILE, CALIBRATION_FILE])?)?;
        kestrel_onboard::bundle::seal(dir, draft::read(dir)?, None)?;
        Ok(())
    }

    fn step(&self) -> Result<Step> {
        let step = Step::new("calibrate").option("--bundle", BUNDLE);
        self.records.iter().try_fold(step, |step, path| step.input(path))
    }

    /// Thresholds by rule, see [`kestrel_calibration::rules`].
    fn by_rule(&self) -> Result<ExitCode> {
        let dir = self.bundle.as_deref().context("--without-promise needs --bundle")?;
        let records = read(&self.records)?;
        let (_, hash) = self.model(records.iter())?;
        for recorded in &records {
            recorded.records.iter().try_for_each(|record| refuse_test(&record.set, recorded.header.seed))?;
        }
        let records: Vec<_> = records.into_iter().flat_map(|recorded| recorded.records).collect();
        let mut thresholds = kestrel_calibration::fit(&records)?.thresholds(&hash, self.seed, &draft::today())?;
        thresholds.data = format!("by rule, nothing promised; {}", thresholds.data);
        steps::remove(&dir.join(CALIBRATION_FILE))?;
        write(dir, &thresholds)?;
        let step = Step { seed: Some(self.seed), ..self.step()?.option("--seed", self.seed).word("--without-promise") };
        steps::note(dir, step.gives(dir, [THRESHOLDS_FILE])?)?;
        kestrel_onboard::bundle::seal(dir, draft::read(dir)?, None)?;
        let text =
            if self.json { serde_json::to_string(&thresholds)? } else { serde_json::to_string_pretty(&thresholds)? };
        println!("{text}");
        Ok(ExitCode::SUCCESS)
    }
}

fn read(paths: &[PathBuf]) -> Result<Vec<Recorded>> {
    paths.iter().map(|path| tuning(records::read(path)?)).collect()
}

/// Refuses records of a part of somebody's own pictures that is for training or for the test.
fn tuning(recorded: Recorded) -> Result<Recorded> {
    match recorded.header.split.as_deref() {
        Some(split @ ("train" | "test")) => bail!(
            "{}: expected records of pictures that neither train nor test the model, got those of the split `{split}` of `{}`\n\
             hint: `ground eval --split tune --records …`",
            recorded.path.display(),
            recorded.header.set
        ),
        _ => Ok(recorded),
    }
}

fn batches(recorded: Vec<Recorded>) -> Vec<Batch> {
    let batch = |Recorded { header, sha256, records, .. }: Recorded| {
        let Header { set, seed, limit, real, gate, gate_table, engine, .. } = header;
        (Source { set, seed, limit, engine: Some(engine), real, gate, gate_table, sha256 }, records)
    };
    recorded.into_iter().map(batch).collect()
}

/// Hash of a bundle's three graphs.
fn graphs(dir: &Path) -> Result<String> {
    let read =
        |name: &str| std::fs::read(dir.join(name)).with_context(|| format!("reading {}", dir.join(name).display()));
    Ok(Thresholds::hash_graphs(&read(GRAPH_FILES[0])?, &read(GRAPH_FILES[1])?, &read(GRAPH_FILES[2])?))
}

fn write(dir: &Path, thresholds: &Thresholds) -> Result<()> {
    let path = dir.join(THRESHOLDS_FILE);
    std::fs::write(&path, serde_json::to_string_pretty(thresholds)? + "\n")
        .with_context(|| format!("writing {}", path.display()))
}

/// Writes thresholds into a bundle, of which no step is noted, and seals it.
fn put(dir: &Path, thresholds: &Thresholds) -> Result<()> {
    let manifest = draft::read(dir)?;
    write(dir, thresholds)?;
    kestrel_onboard::bundle::seal(dir, manifest, None)?;
    Ok(())
}
