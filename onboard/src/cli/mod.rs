//! The command line of `onboard`.

mod bench;
mod conform;
mod doctor;
mod engines;
mod fly;
mod replay;
mod segment;
mod soak;
mod tiling;

use std::fmt;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::engine::{Accelerator, EngineChoice, EngineOptions};
use kestrel_onboard::released;

/// Answers, in the air, what an operator asks for in plain words: with a mask, or with the reason why not.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fly: answer queries from the network about the camera's frames.
    Run(fly::Run),
    /// Fly a recorded flight again and compare every outcome. Exit code 0: alike; 1: different, or an error; 2: wrong usage.
    Replay(replay::Replay),
    /// Ask about one picture. Exit code 0: a mask; 3: refused; 1: an error; 2: wrong usage.
    Segment(segment::Segment),
    /// Measure the time per frame, split by stage, beside bare runs of the same graphs.
    Bench(bench::Bench),
    /// Fly for a while with faults that a seed names, and check that every frame and every query is accounted for. Exit code
    /// 0: all promises held; 1: one did not, or an error; 2: wrong usage.
    Soak(soak::Soak),
    /// Check what is there: libraries, engines, the model bundle.
    Doctor(doctor::Doctor),
    /// Prepare the engines of TensorRT before the flight, or say what is there.
    #[command(subcommand)]
    Engines(engines::Engines),
    /// Hold an engine against a suite of graphs with known answers. Exit code 0: within every tolerance; 1: not, or an error.
    Conform(conform::Conform),
}

/// Logs go to stderr; `RUST_LOG` chooses what.
pub(crate) fn log(arguments: &Arguments) {
    let default = match &arguments.command {
        Command::Run(_) => "warn,kestrel_onboard=info,onboard=info",
        // What goes wrong there is meant to; the report says what came of it.
        Command::Soak(_) => "error,kestrel_onboard=off",
        _ => "warn",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Run(run) => run.run(),
        Command::Replay(replay) => replay.run(),
        Command::Segment(segment) => segment.run(),
        Command::Bench(bench) => bench.run(),
        Command::Soak(soak) => soak.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Engines(engines) => engines.run(),
        Command::Conform(conform) => conform.run(),
    }
}

/// An error with a line on what to try.
#[derive(Debug)]
struct Hinted {
    text: String,
    hint: String,
    /// What the process ends with.
    code: u8,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Hinted {}

/// Puts a hint beside an error.
fn hinted(error: impl fmt::Display, hint: impl Into<String>) -> anyhow::Error {
    hinted_as(1, error, hint)
}

/// Puts a hint beside an error that the process is to end with `code` for, see [`kestrel_onboard::health::exit`].
fn hinted_as(code: u8, error: impl fmt::Display, hint: impl Into<String>) -> anyhow::Error {
    Hinted { text: error.to_string(), hint: hint.into(), code }.into()
}

/// What the process ends with because of an error.
pub(crate) fn code(error: &anyhow::Error) -> ExitCode {
    error.downcast_ref::<Hinted>().map_or(ExitCode::FAILURE, |hinted| hinted.code.into())
}

/// The hint of an error, if it has one.
pub(crate) fn hint(error: &anyhow::Error) -> Option<&str> {
    error.downcast_ref::<Hinted>().map(|hinted| hinted.hint.as_str())
}

/// Which model and engine to use.
#[derive(Debug, clap::Args)]
struct ModelArguments {
    /// Folder of the model bundle [default: the released one].
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// auto, ort/cpu, ort/cuda, ort/tensorrt or tract. For ort/tensorrt, see `onboard engines`.
    #[arg(long, default_value = "auto", value_parser = choice)]
    engine: EngineChoice,
    /// Threads within one operation of ONNX Runtime; 0 means one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Never fetch ONNX Runtime from the network.
    #[arg(long)]
    offline: bool,
}

fn choice(text: &str) -> Result<EngineChoice, String> {
    text.parse().map_err(|error: kestrel_onboard::engine::EngineError| error.to_string())
}

impl ModelArguments {
    fn open_bundle(&self) -> anyhow::Result<Bundle> {
        let found = self.bundle.clone().or_else(released::find);
        let dir = found.ok_or_else(|| {
            hinted(
                format!("no model bundle: {} is neither here nor in a folder above", released::RELEASED),
                "name one with --bundle DIR or KESTREL_BUNDLE",
            )
        })?;
        Bundle::open(&dir).map_err(|error| hinted(&error, error.hint()))
    }

    fn engine(&self, json: bool) -> EngineOptions {
        EngineOptions {
            choice: self.engine,
            threads: self.threads,
            library: None,
            fetch: !self.offline,
            progress: !json && std::io::stderr().is_terminal(),
            accelerator: Accelerator::default(),
        }
    }
}
