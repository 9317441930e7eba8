//! Trains a recipe: `cargo run -p kestrel-training --example sft -- RECIPE [--resume] [--partial] [--trunk FILE] [--data DIR]`.
//!
//! Runs are kept under `$KESTREL_RUNS` (default `~/.cache/kestrel/runs`); data sets are read from `$KESTREL_DATA`.
#![allow(clippy::print_stdout)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kestrel_training::sft::{ENVIRONMENT, Entry, Options, Progress, Recipe, default_runs, train};

// The system's allocator returns large tensors to the kernel after each operation; the page faults cost a third of a step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts this program again with the environment that training on the CPU needs, if it is not there yet.
#[cfg(unix)]
fn with_environment() -> Result<(), Box<dyn std::error::Error>> {
    use std::os::unix::process::CommandExt;
    if ENVIRONMENT.iter().all(|(name, _)| std::env::var_os(name).is_some()) {
        return Ok(());
    }
    let mut again = std::process::Command::new(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1));
    for (name, value) in ENVIRONMENT {
        if std::env::var_os(name).is_none() {
            again.env(name, value);
        }
    }
    Err(again.exec().into())
}

#[cfg(not(unix))]
fn with_environment() -> Result<(), Box<dyn std::error::Error>> {
    Ok(())
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    with_environment()?;
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let runs =
        default_runs(folder("KESTREL_RUNS").as_deref(), folder("XDG_CACHE_HOME").as_deref(), folder("HOME").as_deref());
    let mut options = Options { runs, data: folder("KESTREL_DATA"), ..Options::default() };
    let mut recipe = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().map(PathBuf::from).ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--resume" => options.resume = true,
            "--partial" => options.partial_cache = true,
            "--trunk" => options.trunk = Some(value()?),
            "--data" => options.data = Some(value()?),
            name if !name.starts_with("--") && recipe.is_none() => recipe = Some(PathBuf::from(name)),
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let path = recipe.ok_or("usage: sft RECIPE [--resume] [--partial] [--trunk FILE] [--data DIR]")?;
    let recipe = Recipe::load(Path::new(&path))?;
    let summary = train(&recipe, &options, &|progress| {
        match progress {
            Progress::Cache(done, all) if done % 64 == 0 || done == all => println!("cache {done}/{all}"),
            Progress::Doing(words) => println!("{words}"),
            Progress::Step(entry) => step(entry),
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    println!("{} steps, {}", summary.step, summary.folder.display());
    Ok(())
}

fn step(entry: &Entry) {
    let (v, t) = (&entry.values, &entry.times);
    println!(
        "{} {}/{} loss {:.3} answer {:.3} right {:.2} mask {:.3} iou {:.2} object {:.3} aux {:.3} doubt {:.3} later {:.3} match {:.3} | norm {:.2} rate {:.1e} | {:.1} s; ms a picture: prepare {:.0} vision {:.0} language {:.0} mask {:.0} loss {:.0} backward {:.0} sum {:.0}; optimiser {:.0}",
        entry.phase,
        entry.step,
        entry.steps,
        v.total,
        v.answer,
        v.right,
        v.mask,
        v.overlap,
        v.object,
        v.auxiliary,
        v.doubt,
        v.later,
        v.matching,
        entry.norm,
        entry.rate,
        entry.seconds,
        t.prepare,
        t.vision,
        t.language,
        t.mask,
        t.loss,
        t.backward,
        t.sum,
        entry.optimiser_millis,
    );
    if let Some(e) = &entry.evaluation {
        println!(
            "  tune: specific gIoU {:.3} (n {}), general {:.3}, masks alone {:.3}, pass rate {:.3}, false refusals {:.3}, IL_MCC {:.3}, reasons {:.3}",
            e.specific.value,
            e.specific.n,
            e.general.value,
            e.mask,
            e.pass_rate.value,
            e.false_refusals.value,
            e.il_mcc.value,
            e.reasons.value,
        );
        for (stratum, figure) in &e.strata {
            print!("  {stratum:?} {:.2}", figure.value);
        }
        println!();
    }
}
