//! What explanations cost the masks: the latency of a standing query while nothing is explained, and while the drone
//! explains one answer after the other, turn by turn in one run.
//!
//! ```text
//! cargo run --release -p kestrel-onboard --example explain_load -- BUNDLE PICTURE --engine ort/cpu
//! ```
//!
//! The bundle must hold `explain.onnx`. In both halves somebody else asks as often; only the wish for reasons differs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use kestrel_link::{DroneId, ExplanationPart, Part, Query, Reply, decode, encode};
use kestrel_onboard::camera;
use kestrel_onboard::engine::{EngineChoice, EngineError, EngineOptions};
use kestrel_onboard::loopback::free_endpoint;
use kestrel_onboard::node::{ExplainOptions, Limits, LinkOptions, ModelSource, Node, NodeConfig, UpkeepOptions};
use kestrel_onboard::pipeline::SegmenterOptions;
use kestrel_perception::Tiling;
use kestrel_perception::geo::PosesOptions;
use zenoh::Session;

#[derive(Parser)]
struct Arguments {
    /// Folder of the bundle.
    bundle: PathBuf,
    /// The picture that is looked at again and again.
    picture: PathBuf,
    /// What is followed, and asked about.
    #[arg(long, default_value = "the white truck")]
    query: String,
    /// ort/cpu, ort/cuda, ort/tensorrt or tract.
    #[arg(long, default_value = "ort/cpu", value_parser = choice)]
    engine: EngineChoice,
    /// Frames a turn; there are four turns.
    #[arg(long, default_value_t = 100)]
    frames: u32,
    /// Frames per second.
    #[arg(long, default_value_t = 10.0)]
    frames_per_second: f64,
    /// Frames between two questions of the other asker.
    #[arg(long, default_value_t = 10)]
    ask_every: u32,
}

fn choice(text: &str) -> Result<EngineChoice, String> {
    text.parse().map_err(|error: EngineError| error.to_string())
}

/// What was measured with explanations or without.
#[derive(Default)]
struct Half {
    latencies_micros: Vec<u64>,
    explained: u64,
    refused: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let picture = camera::load(&arguments.picture).context("the picture")?;
    let (node, drone, session) = start(&arguments).await?;
    let follow = query("follow", &arguments.query, 0);
    let outcomes =
        session.declare_subscriber(drone.outcome("follow")?).await.map_err(|error| anyhow!("subscribe: {error}"))?;
    let reasons =
        session.declare_subscriber(drone.explanation("why")?).await.map_err(|error| anyhow!("subscribe: {error}"))?;
    let frames = node.frames();
    let _standing = ask(&session, &drone, &follow).await?;
    let mut halves = [Half::default(), Half::default()];
    let pause = Duration::try_from_secs_f64(1.0 / arguments.frames_per_second).context("--frames-per-second")?;
    for turn in 0..4 {
        let half = &mut halves[turn % 2];
        for index in 0..arguments.frames {
            let due = Instant::now() + pause;
            let number = frames.put(picture.clone(), camera::unix_nanos()).context("the drone has stopped")?;
            let other = match index % arguments.ask_every.max(1) {
                0 => Some(
                    ask(&session, &drone, &Query { explain: turn % 2 == 1, ..query("why", &arguments.query, 1) })
                        .await?,
                ),
                _ => None,
            };
            loop {
                let sample = outcomes.recv_async().await.map_err(|error| anyhow!("the link is gone: {error}"))?;
                let reply: Reply = decode(&sample.payload().to_bytes())?;
                if reply.frame == number {
                    half.latencies_micros.push(reply.latency_micros);
                    break;
                }
            }
            if let Some(other) = other {
                // Whether it is answered does not count here; that it is does.
                let _ = other.recv_async().await;
            }
            while let Some(sample) = reasons.try_recv().map_err(|error| anyhow!("the link is gone: {error}"))? {
                let part: ExplanationPart = decode(&sample.payload().to_bytes())?;
                half.explained += u64::from(matches!(part.part, Part::Complete { .. }));
                half.refused += u64::from(matches!(part.part, Part::Refused { .. }));
            }
            tokio::time::sleep_until(due.into()).await;
        }
    }
    report(&mut halves)?;
    session.close().await.map_err(|error| anyhow!("leave the network: {error}"))?;
    Ok(node.stop().await?)
}

/// A drone and an operator's session.
async fn start(arguments: &Arguments) -> anyhow::Result<(Node, DroneId, Session)> {
    let endpoint = free_endpoint()?;
    let drone = DroneId::new("explain-load")?;
    // What is followed stands for as long as this runs.
    let limits = Limits { deadline: Duration::from_secs(60), standing: Duration::MAX, ..Limits::default() };
    let node = Node::start(NodeConfig {
        drone: drone.clone(),
        model: ModelSource::Folder(arguments.bundle.clone()),
        trial_latency: limits.deadline,
        engine: EngineOptions::of(arguments.engine),
        // One picture again and again is what the gate calls frozen.
        segmenter: SegmenterOptions { tiling: Tiling::Never, gate: None, ..SegmenterOptions::default() },
        georeferencer: None,
        poses: PosesOptions::default(),
        explain: Some(ExplainOptions::default()),
        link: LinkOptions { listen: vec![endpoint.clone()], ..LinkOptions::default() },
        limits,
        record: None,
        upkeep: UpkeepOptions::of(limits.deadline),
    })
    .await?;
    let options = LinkOptions { connect: vec![endpoint], ..LinkOptions::default() };
    let session = zenoh::open(options.config()?).await.map_err(|error| anyhow!("join the network: {error}"))?;
    Ok((node, drone, session))
}

fn query(id: &str, text: &str, frames: u32) -> Query {
    Query { frames, ..Query::new(id, text) }
}

type Replies = zenoh::handlers::FifoChannelHandler<zenoh::query::Reply>;

async fn ask(session: &Session, drone: &DroneId, query: &Query) -> anyhow::Result<Replies> {
    let asked = session.get(drone.query()).payload(encode(query)?).timeout(Duration::from_secs(60)).await;
    asked.map_err(|error| anyhow!("ask: {error}"))
}

/// Prints both halves as one JSON object.
fn report(halves: &mut [Half; 2]) -> anyhow::Result<()> {
    let [alone, explaining] = halves;
    if explaining.explained == 0 {
        bail!("nothing was explained: does the bundle hold explain.onnx?");
    }
    let (alone, explaining) = (summary(alone), summary(explaining));
    let ratio = |name: &str| explaining[name].as_f64().zip(alone[name].as_f64()).map(|(one, two)| one / two);
    let ratios = serde_json::json!({ "p50": ratio("p50_millis"), "p95": ratio("p95_millis") });
    println!("{}", serde_json::json!({ "alone": alone, "explaining": explaining, "ratios": ratios }));
    Ok(())
}

fn summary(half: &mut Half) -> serde_json::Value {
    let all = &mut half.latencies_micros;
    all.sort_unstable();
    let at = |share: f64| all.get(((all.len() as f64 - 1.0) * share) as usize).map(|micros| *micros as f64 / 1e3);
    serde_json::json!({
        "frames": all.len(),
        "p50_millis": at(0.5),
        "p95_millis": at(0.95),
        "most_millis": at(1.0),
        "explained": half.explained,
        "refused": half.refused,
    })
}
