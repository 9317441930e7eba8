//! `onboard soak`: a flight with faults, and whether it held.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use kestrel_onboard::soak::{Faults, Length, MemoryJudgement, MemoryReport, Report, SoakOptions, soak};

use super::{ModelArguments, hinted};

/// Steps of the progress bar.
const STEPS: u64 = 1000;

#[derive(Debug, Args)]
pub(super) struct Soak {
    #[command(flatten)]
    model: ModelArguments,
    /// How long to fly, e.g. 1 or 60. Memory is judged from 0.75 minutes on.
    #[arg(long, default_value_t = 1.0, conflicts_with = "frames")]
    minutes: f64,
    /// How many frames to show, in place of --minutes.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    frames: Option<u64>,
    /// Frames per second of the camera.
    #[arg(long, default_value_t = 30.0)]
    frames_per_second: f64,
    /// Make the engine take this much longer for each frame: 330 makes it see about three a second.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=60_000))]
    slower_millis: u64,
    /// An outcome that takes longer is refused as too late; the engine is made to stall for up to ten times as long, in a
    /// short flight for less.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    deadline_millis: u64,
    /// What to ask. By default what the bundle's first canary with a mask is asked; the camera sees its picture, or a drawn
    /// red square where there is no such canary.
    #[arg(long)]
    ask: Option<String>,
    /// Let degraded pictures pass.
    #[arg(long)]
    no_gate: bool,
    /// What goes wrong: every kind of fault, for at most a third of the time, or nothing.
    #[arg(long, value_enum, default_value_t = FaultsChoice::All)]
    faults: FaultsChoice,
    /// The same number makes the same faults in the same order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// By how much memory may grow between the second third of the flight and the last one.
    #[arg(long, value_name = "MEGABYTES", default_value_t = 64)]
    growth_megabytes: u64,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FaultsChoice {
    All,
    None,
}

impl From<FaultsChoice> for Faults {
    fn from(choice: FaultsChoice) -> Self {
        match choice {
            FaultsChoice::All => Self::All,
            FaultsChoice::None => Self::None,
        }
    }
}

impl Soak {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let options = self.options()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("start the asynchronous runtime")?;
        let is_shown = !self.json && std::io::stderr().is_terminal();
        let bar = if is_shown { ProgressBar::new(STEPS) } else { ProgressBar::hidden() };
        bar.set_style(ProgressStyle::with_template("{bar:40} {percent} % {msg} ({elapsed})")?);
        let told = |progress: kestrel_onboard::soak::Progress| {
            bar.set_position((progress.done * STEPS as f64) as u64);
            let megabytes = progress.memory_bytes / 1_000_000;
            bar.set_message(format!("{} frames, {} faults, {megabytes} MB", progress.frames, progress.faults));
        };
        let report = runtime.block_on(soak(&options, told)).map_err(|error| hinted(&error, error.hint()))?;
        bar.finish_and_clear();
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print(&report);
        }
        if report.segmented == 0 {
            let hint = match report.not_ready > 0.5 {
                true => "--minutes for a longer flight: the engine was seldom there",
                false => "--ask for what the camera sees",
            };
            eprintln!("warning: no outcome was a mask, so this says nothing of masks\nhint: {hint}");
        }
        Ok(if report.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn options(&self) -> anyhow::Result<SoakOptions> {
        let hint = "`onboard soak --help` says what can be given";
        for (name, value, most) in
            [("--minutes", self.minutes, 100_000.0), ("--frames-per-second", self.frames_per_second, 1000.0)]
        {
            // Written so that NaN fails too.
            if !(value > 0.0 && value <= most) {
                return Err(hinted(format!("{name}: expected above 0 and at most {most}, got {value}"), hint));
            }
        }
        let time = Duration::try_from_secs_f64(self.minutes * 60.0).map_err(|error| hinted(error, hint))?;
        let bundle = self.model.open_bundle()?;
        let canary = bundle.canaries.iter().find(|canary| canary.expected.is_some());
        let seen = |path: &Path| image::open(path).with_context(|| format!("reading {}", path.display()));
        let picture = canary.map(|canary| seen(&canary.image)).transpose()?.map(|picture| picture.to_rgb8());
        let asked = self.ask.as_deref().or(canary.map(|canary| canary.query.text.as_str()));
        Ok(SoakOptions {
            text: asked.unwrap_or("the red square").to_owned(),
            picture: picture.filter(|picture| picture.width() > 1),
            bundle: bundle.dir,
            engine: self.model.engine(self.json),
            gate: !self.no_gate,
            length: self.frames.map_or(Length::Time(time), Length::Frames),
            frames_per_second: self.frames_per_second,
            slower: Duration::from_millis(self.slower_millis),
            deadline: Duration::from_millis(self.deadline_millis),
            faults: self.faults.into(),
            seed: self.seed,
            most_growth_bytes: self.growth_megabytes.saturating_mul(1_000_000),
        })
    }
}

fn print(report: &Report) {
    let Report { frames, memory, .. } = report;
    println!("{} on {}, seed {}, {:.1} s", report.model, report.engine, report.seed, report.seconds);
    let [under_fault, not_ready] = [report.under_fault, report.not_ready].map(|share| share * 100.0);
    println!("time: {under_fault:.1} % under a fault by plan, {not_ready:.1} % in which the drone was not ready");
    println!(
        "frames: {} published, {} taken, {} replaced, {} lost, {} dropped by the node",
        frames.published, frames.taken, frames.replaced, frames.lost, frames.dropped
    );
    println!("outcomes: {} segmented, {} refused; {} single queries", report.segmented, report.refused, report.queries);
    for (name, count) in &report.heard {
        let share = report.shares.get(name).copied().unwrap_or_default() * 100.0;
        println!("  heard {name:<24} {count:>8} {share:>6.1} %");
    }
    for (name, count) in &report.faults {
        println!("  fault {name:<24} {count:>8}");
    }
    println!("{}", memory_told(memory));
    match &report.broken[..] {
        [] => println!("every promise held"),
        broken => broken.iter().for_each(|what| println!("BROKEN: {what}")),
    }
}

/// What memory says of the flight.
fn memory_told(memory: &MemoryReport) -> String {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let most = megabytes(memory.most_bytes);
    match memory.judgement {
        MemoryJudgement::Held | MemoryJudgement::Grew => format!(
            "memory: {:.1} MB at most in the second third, {:.1} MB in the last; {most:.1} MB while an engine was opened \
             again included",
            megabytes(memory.middle_bytes),
            megabytes(memory.last_bytes)
        ),
        MemoryJudgement::TooShort => {
            format!("memory: {most:.1} MB at most; too short to judge whether it grows: that takes 45 s")
        }
        MemoryJudgement::Unknown => format!(
            "memory: {most:.1} MB at most; not judged: the system says nothing, or the drone was not ready for a third of \
             the time"
        ),
    }
}
