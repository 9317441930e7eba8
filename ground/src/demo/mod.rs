//! `ground demo`: a drone and an operator in one process, joined by a real Zenoh session over loopback.

mod page;
mod script;

use crate::engine::{EngineArguments, bundle_folder};
use crate::session::{Link, block_on};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use kestrel_link::{DroneId, Query, Reply, Verdict};
use kestrel_onboard::camera;
use kestrel_onboard::loopback::free_endpoint;
use kestrel_onboard::node::{Limits, LinkOptions, ModelSource, Node, NodeConfig, UpkeepOptions};
use kestrel_onboard::pipeline::SegmenterOptions;
use kestrel_perception::geo::PosesOptions;
use kestrel_perception::overlay::draw_outcome;
use script::{Item, LEAST_PRESENT_SHARE};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest wait for one answer: tract on a slow core needs seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Arguments of `ground demo`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Open no browser.
    #[arg(long)]
    headless: bool,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
    /// Play the pictures of this folder instead of rendered scenes; needs --ask.
    #[arg(long, requires = "ask")]
    frames: Option<PathBuf>,
    /// Ask this of every frame instead of the script; may be given several times.
    #[arg(long)]
    ask: Vec<String>,
    /// Folder of the bundle; by default the released one.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Where the pictures and the page go.
    #[arg(long, default_value = "target/demo")]
    out: PathBuf,
    #[command(flatten)]
    engine: EngineArguments,
}

/// One question and its answer, as the page and the JSON show it.
#[derive(Debug, Clone, Serialize)]
struct Row {
    kind: String,
    text: String,
    frame_file: String,
    overlay_file: String,
    expected: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    iou: Option<f32>,
    /// Whether it came out as scripted; `None` when nobody knows what is right.
    right: Option<bool>,
    reply: Option<Reply>,
}

/// One check over the rows.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    passed: bool,
    right: usize,
    of: usize,
    needed: usize,
}

#[derive(Debug, Serialize)]
struct Summary {
    drone: String,
    model: String,
    engine: String,
    passed: bool,
    checks: Vec<Check>,
    page: PathBuf,
    rows: Vec<Row>,
}

/// Runs `ground demo`. With the script, fails unless the scripted outcomes are right.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let items = items(arguments)?;
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("making {}", arguments.out.display()))?;
    let drone = DroneId::new("kestrel-demo")?;
    let (rows, health) = block_on(fly(arguments, &drone, &items))?;
    let page = arguments.out.join("index.html");
    std::fs::write(&page, page::render(drone.as_str(), &health.engine, &health.model, &rows))
        .with_context(|| format!("writing {}", page.display()))?;
    let checks = checks(&rows);
    let passed = checks.iter().all(|check| check.passed);
    let summary = Summary {
        drone: drone.to_string(),
        model: health.model,
        engine: health.engine,
        passed,
        checks,
        page: page.clone(),
        rows,
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print(&summary);
    }
    if !arguments.headless {
        open(&page);
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn items(arguments: &Arguments) -> Result<Vec<Item>> {
    if arguments.ask.is_empty() {
        return script::scripted();
    }
    let frames = match &arguments.frames {
        Some(folder) => {
            let mut frames = Vec::new();
            for path in camera::pictures(folder)? {
                frames.push(camera::load(&path)?);
            }
            frames
        }
        None => script::frames(),
    };
    Ok(script::asked(&frames, &arguments.ask))
}

/// Starts the drone, joins as an operator, asks everything, stops the drone.
async fn fly(arguments: &Arguments, drone: &DroneId, items: &[Item]) -> Result<(Vec<Row>, kestrel_link::Health)> {
    let endpoint = free_endpoint().context("an endpoint for the drone")?;
    let config = NodeConfig {
        drone: drone.clone(),
        model: ModelSource::Folder(model(arguments)?),
        trial_latency: Duration::from_secs(10),
        engine: arguments.engine.options(arguments.json),
        segmenter: SegmenterOptions::default(),
        georeferencer: None,
        poses: PosesOptions::default(),
        explain: None,
        link: LinkOptions { listen: vec![endpoint.clone()], ..LinkOptions::default() },
        limits: Limits { deadline: ANSWER_TIMEOUT, reuse_frame: ANSWER_TIMEOUT, ..Limits::default() },
        upkeep: UpkeepOptions::of(ANSWER_TIMEOUT),
        record: None,
    };
    let node = Node::start(config).await.context("starting the drone")?;
    let link = Link { connect: vec![endpoint], timeout_seconds: ANSWER_TIMEOUT.as_secs() };
    let session = link.open().await?;
    let bar = if arguments.json { ProgressBar::hidden() } else { ProgressBar::new(items.len() as u64) };
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} questions ({elapsed})")?);
    let mut rows = Vec::with_capacity(items.len());
    let mut frame = 0;
    for (number, item) in items.iter().enumerate() {
        // Several questions about one picture are about one frame: a camera that repeats itself is refused as frozen.
        if number == 0 || items[number - 1].frame != item.frame {
            frame = node.frames().put(item.frame.clone(), unix_nanos()).context("the drone has stopped")?;
        }
        let query = Query::new(format!("demo-{number:02}"), &item.text);
        let reply = crate::ask::ask(&session, drone, &query, ANSWER_TIMEOUT).await?;
        if reply.frame != frame {
            bail!("asked about frame {frame}, answered about {}", reply.frame);
        }
        rows.push(row(&arguments.out, number, item, reply)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let health = node.health();
    session.close().await.map_err(|error| anyhow!("leaving the link: {error}"))?;
    node.stop().await?;
    Ok((rows, health))
}

/// The bundle that flies. Where none is released, an untrained one, said aloud: the way of the data is real, its masks
/// mean nothing.
fn model(arguments: &Arguments) -> Result<PathBuf> {
    if arguments.bundle.is_some() || kestrel_onboard::released::find().is_some() {
        return bundle_folder(arguments.bundle.as_deref());
    }
    let folder = arguments.out.join("untrained");
    eprintln!(
        "no model has been released: an UNTRAINED one answers, and its masks mean nothing\n\
         hint: docs/guides/train.md, then --bundle DIR or KESTREL_BUNDLE"
    );
    crate::export::write_untrained(&folder, false)?;
    Ok(folder)
}

fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn row(out: &Path, number: usize, item: &Item, reply: Reply) -> Result<Row> {
    let frame_file = format!("{number:02}-frame.png");
    let overlay_file = format!("{number:02}-answer.png");
    item.frame.save(out.join(&frame_file)).with_context(|| format!("writing {frame_file}"))?;
    let mut overlay = item.frame.clone();
    draw_outcome(&mut overlay, &reply.outcome)?;
    overlay.save(out.join(&overlay_file)).with_context(|| format!("writing {overlay_file}"))?;
    let judgement = item.judge(Some(&reply.outcome))?;
    Ok(Row {
        kind: item.kind.clone(),
        text: item.text.clone(),
        frame_file,
        overlay_file,
        expected: judgement.as_ref().map_or(String::new(), |j| j.expected.clone()),
        iou: judgement.as_ref().and_then(|j| j.iou),
        right: judgement.map(|j| j.right),
        reply: Some(reply),
    })
}

fn checks(rows: &[Row]) -> Vec<Check> {
    let check = |what: &'static str, of: &dyn Fn(&Row) -> bool, share: f32| {
        let judged: Vec<&Row> = rows.iter().filter(|row| row.right.is_some() && of(row)).collect();
        let right = judged.iter().filter(|row| row.right == Some(true)).count();
        let needed = (judged.len() as f32 * share).ceil() as usize;
        Check { what, passed: right >= needed, right, of: judged.len(), needed }
    };
    vec![
        check("present targets are masked", &|row| row.kind == "present", LEAST_PRESENT_SHARE),
        check("absent targets are refused as absent", &|row| row.kind == "absent", 1.0),
        check("nonsense is refused as not understood", &|row| row.kind == "nonsense", 1.0),
        check("degraded frames are refused by the gate", &|row| row.kind.starts_with("degraded"), 1.0),
    ]
}

fn print(summary: &Summary) {
    println!("{} · {} · {}\n", summary.drone, summary.model, summary.engine);
    for row in &summary.rows {
        let mark = match row.right {
            Some(true) => "✓",
            Some(false) => "✗",
            None => " ",
        };
        let line = row.reply.as_ref().map_or_else(|| "no answer".to_owned(), crate::ask::line);
        println!("{mark} {:<22} {line}", row.kind);
    }
    println!();
    for check in summary.checks.iter().filter(|check| check.of > 0) {
        let word = if check.passed { "passed" } else { "FAILED" };
        println!("{word}  {}: {} of {}, {} needed", check.what, check.right, check.of, check.needed);
    }
    println!("\npage: {}", summary.page.display());
}

/// Shows the page where a browser opener exists; its absence is no failure.
fn open(page: &Path) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let silent = std::process::Stdio::null;
    let started =
        std::process::Command::new(opener).arg(page).stdin(silent()).stdout(silent()).stderr(silent()).spawn();
    if let Err(error) = started {
        tracing::info!("{opener}: {error}");
    }
}

/// A verdict's name on the wire.
pub(crate) fn reason_name(verdict: &Verdict) -> String {
    serde_json::to_value(verdict)
        .ok()
        .and_then(|value| value.get("reason")?.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// A verdict in words.
pub fn reason(verdict: &Verdict) -> String {
    let name = reason_name(verdict).replace('_', " ");
    match verdict {
        Verdict::QueryNotUnderstood { word: Some(word) } => format!("{name} (“{word}”)"),
        Verdict::TargetAmbiguous { candidates } if !candidates.is_empty() => {
            format!("{name} ({} candidates)", candidates.len())
        }
        _ => name,
    }
}
