//! `ground grpo`: a trained model and a recipe in, a reinforced model out.

use crate::device::Device;
use crate::teller::Teller;
use crate::train::{Folders, interrupted, told, with_environment};
use anyhow::Result;
use clap::Args;
use kestrel_training::grpo::{self, Progress, Recipe};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

/// Arguments of `ground grpo`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The recipe, a TOML file; `training/recipes/grpo` has some.
    recipe: PathBuf,
    /// Folder of the model to begin from (`model.safetensors` and `tokenizer.json`).
    #[arg(long, required_unless_present = "resume", conflicts_with = "resume")]
    from: Option<PathBuf>,
    /// Go on from the last checkpoint.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    folders: Folders,
    #[command(flatten)]
    device: Device,
    /// Print one JSON object per step.
    #[arg(long)]
    json: bool,
}

/// Runs `ground grpo`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut recipe = Recipe::load(&arguments.recipe)?;
    recipe.device = arguments.device.or(recipe.device);
    with_environment()?;
    let options = grpo::Options {
        runs: arguments.folders.runs()?,
        data: arguments.folders.data.clone(),
        from: arguments.from.clone(),
        resume: arguments.resume,
    };
    let stop = interrupted()?;
    let teller = Teller::new(arguments.json);
    let summary = grpo::train(&recipe, &options, &|progress| {
        match progress {
            Progress::Episodes(done, all) => teller.samples(done, all),
            Progress::Doing(words) => teller.words(words),
            Progress::Step(entry) => teller.step(entry.step, entry.steps, entry, false),
            _ => {}
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    teller.finish();
    eprintln!("{}", told(&summary));
    Ok(ExitCode::SUCCESS)
}
