//! `onboard run` beside a Python program that does the same with the libraries of its world, in one run:
//! latency, throughput, processor time and memory as ratios.
//!
//! ```text
//! cargo bench -p kestrel-onboard --bench peer -- --python "$PWD/venv/bin/python"
//! ```

mod figures;
mod party;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Parser;
use image::RgbImage;
use image::imageops::FilterType;
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::camera;
use kestrel_onboard::pipeline::union;
use kestrel_onboard::released;

use figures::{Agreement, Compared, Round, compare};
use party::{Party, free_endpoint, library_of};

#[derive(Debug, Parser)]
struct Arguments {
    /// A Python with the packages of onboard/benches/peer/requirements.txt.
    #[arg(long, env = "PEER_PYTHON")]
    python: Option<PathBuf>,
    /// Folder of the model bundle [default: the released one].
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// A picture, or a folder of pictures [default: the bundle's canary frames].
    #[arg(long)]
    frames: Option<PathBuf>,
    /// Side in pixels to which every picture is brought.
    #[arg(long, default_value_t = 1080, value_parser = clap::value_parser!(u32).range(16..=4096))]
    side: u32,
    /// What is asked about every frame.
    #[arg(long, default_value = "where is the white truck")]
    query: String,
    /// Rounds that each program does, in turn.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Frames of each half of a round.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Threads within one operation of ONNX Runtime; 0 means one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// What `cargo bench` adds.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Some(python) = &arguments.python else {
        bail!(
            "no Python\nhint: name one with --python or PEER_PYTHON; onboard/benches/peer/README.md says how to make it"
        );
    };
    let Some(folder) = arguments.bundle.clone().or_else(released::find) else {
        bail!("no model bundle\nhint: name one with --bundle");
    };
    let bundle = Bundle::open(&folder)?;
    let frames = frames(arguments, &bundle)?;
    let work = tempfile::tempdir().context("making a folder for the configuration")?;
    let ours = start_ours(arguments, &bundle, &library_of(python)?, work.path(), &frames[0])?;
    let peer = start_peer(arguments, &bundle, python, &frames[0])?;
    let agreement = agree(&ours, &peer, &frames)?;
    if let Some(fault) = agreement.fault() {
        if arguments.json {
            println!("{}", serde_json::json!({ "void": fault, "agreement": agreement }));
        }
        bail!("the comparison is void: {fault}");
    }
    let [ours_rounds, peer_rounds] = in_turn(arguments, &ours, &peer, &frames)?;
    let compared = compare(&ours_rounds, &peer_rounds, [ours.most_bytes()?, peer.most_bytes()?]);
    let all_better = compared.iter().all(|figure| figure.ratio[1] > 1.0);
    if arguments.json {
        let side = arguments.side;
        let report = serde_json::json!({
            "model": bundle.manifest.model(), "side_pixels": side, "rounds": arguments.rounds, "count": arguments.count,
            "agreement": agreement, "compared": compared, "all_better": all_better,
        });
        println!("{report}");
    } else {
        print(arguments, &bundle, &agreement, &compared);
    }
    Ok(if all_better { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn frames(arguments: &Arguments, bundle: &Bundle) -> anyhow::Result<Vec<RgbImage>> {
    let paths = match &arguments.frames {
        Some(path) => camera::pictures(path)?,
        None => bundle.canaries.iter().map(|canary| canary.image.clone()).collect(),
    };
    let side = arguments.side;
    let load = |path: &PathBuf| -> anyhow::Result<RgbImage> {
        Ok(image::imageops::resize(&camera::load(path)?, side, side, FilterType::Triangle))
    };
    let frames: Vec<RgbImage> = paths.iter().map(load).collect::<Result<_, _>>()?;
    if frames.is_empty() {
        bail!("no frames: the bundle has no canaries\nhint: name pictures with --frames");
    }
    Ok(frames)
}

/// `onboard run` as it flies, but for what the other program has not: tiles and the gate are switched off, and the words
/// are read on every frame.
fn start_ours(
    arguments: &Arguments,
    bundle: &Bundle,
    library: &str,
    work: &Path,
    frame: &RgbImage,
) -> anyhow::Result<Party> {
    let endpoint = free_endpoint()?;
    let folder = std::fs::canonicalize(&bundle.dir).context("the bundle's folder")?;
    let config = work.join("onboard.toml");
    let text = format!(
        "drone = \"ours\"\n[model]\nbundle = {folder:?}\n[engine]\nname = \"ort/cpu\"\nthreads = {}\nlibrary = {library:?}\n\
         [camera]\nsource = \"zenoh:\"\nframes_per_second = 1000.0\nstall_millis = 3600000\n\
         [perception]\ntiling = \"never\"\ngate = false\n[link]\nlisten = [{:?}]\n\
         [limits]\ndeadline_millis = 60000\nframe_timeout_millis = 3600000\n[standing]\nverify_frames = 1\n\
         [thermal]\nthrottle = false\n",
        arguments.threads, endpoint.0
    );
    std::fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_onboard"));
    command.arg("run").arg("--config").arg(&config).env("RUST_LOG", "error");
    Party::start("ours", command, &endpoint, &arguments.query, frame)
}

fn start_peer(arguments: &Arguments, bundle: &Bundle, python: &Path, frame: &RgbImage) -> anyhow::Result<Party> {
    let endpoint = free_endpoint()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peer/peer.py");
    let mut command = Command::new(python);
    command.arg(script).arg("--bundle").arg(&bundle.dir).args(["--drone", "peer", "--listen", &endpoint.0]);
    command.args(["--threads", &arguments.threads.to_string()]);
    Party::start("peer", command, &endpoint, &arguments.query, frame)
}

/// Whether both answer alike about every frame.
fn agree(ours: &Party, peer: &Party, frames: &[RgbImage]) -> anyhow::Result<Agreement> {
    let mut agreement = Agreement { frames: frames.len(), ..Agreement::default() };
    for frame in frames {
        let [one, two] = [ours.one(frame)?.0, peer.one(frame)?.0].map(|reply| union(&reply.outcome));
        match (one?, two?) {
            (Some(one), Some(two)) => agreement.overlaps.push(f64::from(one.iou(&two)?)),
            (None, None) => {}
            _ => agreement.disagreed += 1,
        }
    }
    Ok(agreement)
}

/// All rounds, in turn; who begins changes, so that what drifts weighs on both.
fn in_turn(arguments: &Arguments, ours: &Party, peer: &Party, frames: &[RgbImage]) -> anyhow::Result<[Vec<Round>; 2]> {
    let mut rounds = [Vec::new(), Vec::new()];
    for round in 0..arguments.rounds {
        for turn in [round % 2, 1 - round % 2] {
            let party = if turn == 0 { ours } else { peer };
            let figures = party.round(frames, arguments.count as usize)?;
            eprintln!(
                "round {} of {}, {}: {:.0} ms, {:.1} frames a second",
                round + 1,
                arguments.rounds,
                party.name,
                figures::percentile(&figures.latency_millis, 0.5),
                figures.frames_per_second
            );
            rounds[turn as usize].push(figures);
        }
    }
    Ok(rounds)
}

fn print(arguments: &Arguments, bundle: &Bundle, agreement: &Agreement, compared: &[Compared]) {
    println!(
        "{} on frames of {}×{} pixels, {} rounds of 2 × {} frames each, in turn",
        bundle.manifest.model(),
        arguments.side,
        arguments.side,
        arguments.rounds,
        arguments.count
    );
    println!("both answer alike: mean IoU {:.4} of {} masks", agreement.mean(), agreement.overlaps.len());
    println!("{:<30} {:>9} {:>9}   ours is better by (least … most of the rounds)", "", "onboard", "peer.py");
    for Compared { what, ours, peer, ratio: [least, middle, most] } in compared {
        println!("{what:<30} {ours:>9.1} {peer:>9.1}   {middle:.2} ({least:.2} … {most:.2})");
    }
}
