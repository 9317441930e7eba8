//! `onboard conform`: an engine held against graphs with known answers.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use kestrel_onboard::conformance::{self, Report, Suite};
use kestrel_onboard::engine::{EngineChoice, EngineOptions};

use super::{choice, hinted};

#[derive(Debug, Args)]
pub(super) struct Conform {
    /// Folder of the suite, such as onboard/conformance.
    suite: PathBuf,
    /// ort/cpu, ort/cuda, ort/tensorrt or tract.
    #[arg(long, default_value = "ort/cpu", value_parser = choice)]
    engine: EngineChoice,
    /// Threads within one operation of ONNX Runtime; 0 means one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Never fetch ONNX Runtime from the network.
    #[arg(long)]
    offline: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Conform {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let suite = Suite::open(&self.suite).map_err(|error| hinted(&error, error.hint()))?;
        let progress = !self.json && std::io::stderr().is_terminal();
        let options =
            EngineOptions { threads: self.threads, fetch: !self.offline, progress, ..EngineOptions::of(self.engine) };
        let bar = if progress { ProgressBar::new(suite.cases.len() as u64) } else { ProgressBar::hidden() };
        bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")?);
        let report = conformance::run(&suite, &options, |case| {
            bar.inc(1);
            bar.set_message(case.name.clone());
        })
        .map_err(|error| hinted(&error, error.hint()))?;
        bar.finish_and_clear();
        if self.json {
            println!("{}", serde_json::json!({ "passes": report.passes(), "report": report }));
        } else {
            print(&report);
        }
        Ok(if report.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn print(report: &Report) {
    println!(
        "{}: difference from the reference and tolerance, each as a part of the largest value over 1",
        report.engine
    );
    for verdict in &report.verdicts {
        let mark = if verdict.passes() { "ok     " } else { "APART  " };
        println!(
            "{mark} {:<34} {:>9.1e} of {:.0e}  {}",
            verdict.case, verdict.apart, verdict.tolerance, verdict.output
        );
    }
    for (case, why) in &report.failed {
        println!("FAILED  {case}: {why}");
    }
    for (case, why) in &report.skipped {
        println!("SKIPPED {case}: {why}");
    }
    let apart = report.verdicts.iter().filter(|verdict| !verdict.passes()).count();
    println!(
        "{} cases: {} within tolerance, {apart} apart, {} failed, {} skipped",
        report.verdicts.len() + report.failed.len() + report.skipped.len(),
        report.verdicts.len() - apart,
        report.failed.len(),
        report.skipped.len()
    );
}
