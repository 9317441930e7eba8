//! `ground`: what the operator and the trainer run. One file a command; this one only reads the command line.

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Candle allocates and frees a buffer for every operation; mimalloc keeps the pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Ask drones, train, evaluate, sign and push the models that they fly.
#[derive(Debug, Parser)]
#[command(name = "ground", version, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a drone and an operator in one process, ask a scripted set of questions, write a page of answers.
    Demo(ground::demo::Arguments),
    /// Ask a drone and print what it answers.
    Ask(ground::ask::Arguments),
    /// Look at a folder of annotated pictures in one of the field's formats.
    Data(ground::data::Arguments),
    /// Train a model by a recipe.
    Train(ground::train::Arguments),
    /// Train a model by a recipe that names a teacher, and judge teacher and student side by side.
    Distil(ground::distil::Arguments),
    /// Reinforce a trained model by a recipe: rollouts, rewards, policy gradient.
    Grpo(ground::grpo::Arguments),
    /// Train the arms of an experiment from one model, judge them alike and write one table.
    Ablate(ground::ablate::Arguments),
    /// Turn a checkpoint into the three ONNX graphs of a bundle.
    Export(ground::export::Arguments),
    /// Judge a bundle on a set, with the runtime that flies.
    Eval(ground::eval::Arguments),
    /// Estimate, from counted work and published peaks, what a bundle could at best take on a Jetson.
    Estimate(ground::estimate::Arguments),
    /// Film scenes and follow things in them: what standing queries save, and whether things keep their names.
    Follow(ground::follow::Arguments),
    /// Score answers in words and boxes against what is right, task by task.
    Score(ground::score::Arguments),
    /// Turn a model in half precision into a bundle of eight-bit integers.
    Quantise(ground::quantise::Arguments),
    /// Set a bundle's thresholds so that they keep a promise about hallucinated masks, from evaluation records.
    Calibrate(ground::calibrate::Arguments),
    /// Finish a bundle: canaries, manifest, signature.
    Bundle(ground::bundle::Arguments),
    /// Run the steps that made a bundle again and compare what comes out, file by file.
    Reproduce(ground::reproduce::Arguments),
    /// Make or show signing keys.
    Keys(ground::keys::Arguments),
    /// Push a signed bundle to a drone.
    Push(ground::push::Arguments),
    /// Publish a drawn scene as the camera of a drone, with poses.
    Simulate(ground::simulate::Arguments),
    /// Say what is there, what is missing and what to do about it.
    Doctor(ground::doctor::Arguments),
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo(a) => ground::demo::run(&a),
        Command::Ask(a) => ground::ask::run(&a),
        Command::Data(a) => ground::data::run(&a),
        Command::Train(a) => ground::train::run(&a),
        Command::Distil(a) => ground::distil::run(&a),
        Command::Grpo(a) => ground::grpo::run(&a),
        Command::Ablate(a) => ground::ablate::run(&a),
        Command::Export(a) => ground::export::run(&a),
        Command::Eval(a) => ground::eval::run(&a),
        Command::Estimate(a) => ground::estimate::run(&a),
        Command::Follow(a) => ground::follow::run(&a),
        Command::Score(a) => ground::score::run(&a),
        Command::Quantise(a) => ground::quantise::run(&a),
        Command::Calibrate(a) => ground::calibrate::run(&a),
        Command::Bundle(a) => ground::bundle::run(&a),
        Command::Reproduce(a) => ground::reproduce::run(&a),
        Command::Keys(a) => ground::keys::run(&a),
        Command::Push(a) => ground::push::run(&a),
        Command::Simulate(a) => ground::simulate::run(&a),
        Command::Doctor(a) => ground::doctor::run(&a),
    }
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn")),
        )
        .with_writer(std::io::stderr)
        .init();
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
