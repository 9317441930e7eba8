//! `ground push`: offers a signed bundle to a drone and serves the chunks that the drone pulls.

use crate::session::{Link, block_on};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use kestrel_link::{ChunkRequest, DroneId, PushOffer, PushPhase, PushState, codec};
use kestrel_onboard::bundle::Bundle;
use std::path::PathBuf;
use std::process::ExitCode;
use zenoh::Session;
use zenoh::query::Query as ZenohQuery;

/// Arguments of `ground push`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Id of the drone.
    drone: String,
    /// Folder of a signed bundle.
    bundle: PathBuf,
    /// Print one JSON object per change of state.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    link: Link,
}

/// Runs `ground push`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let drone = DroneId::new(&arguments.drone)?;
    let bundle = Bundle::open(&arguments.bundle)?;
    // An unsigned bundle fails here, before any drone is looked for.
    let offer = bundle.offer()?;
    let last = block_on(async {
        let session = arguments.link.open().await?;
        push(&session, &drone, &bundle, &offer, arguments.link.timeout(), |state| show(state, arguments.json)).await
    })?;
    Ok(if last.phase == PushPhase::Committed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Offers `bundle` and serves its chunks until the drone says how it ended. `timeout` bounds each silence.
pub async fn push(
    session: &Session,
    drone: &DroneId,
    bundle: &Bundle,
    offer: &PushOffer,
    timeout: std::time::Duration,
    mut progress: impl FnMut(&PushState),
) -> Result<PushState> {
    let failed = |error: zenoh::Error| anyhow!("pushing to {drone}: {error}");
    let chunks = session.declare_queryable(drone.model_chunks()).await.map_err(failed)?;
    let states = session.declare_subscriber(drone.model_state()).await.map_err(failed)?;
    let answers = session
        .get(drone.model_push())
        .payload(codec::encode(offer)?)
        .encoding(zenoh::bytes::Encoding::APPLICATION_CBOR)
        .timeout(timeout)
        .await
        .map_err(failed)?;
    let mut answered = false;
    loop {
        let state = tokio::select! {
            query = chunks.recv_async() => {
                serve(bundle, &query.map_err(failed)?).await?;
                continue;
            }
            answer = answers.recv_async(), if !answered => {
                answered = true;
                let answer = answer.map_err(|_| anyhow!("{drone} did not answer the offer within {timeout:?}"))?;
                match answer.into_result() {
                    Ok(sample) => codec::decode::<PushState>(&sample.payload().to_bytes())?,
                    Err(error) => bail!("{drone} refused the offer: {}", String::from_utf8_lossy(&error.payload().to_bytes())),
                }
            }
            sample = states.recv_async() => codec::decode(&sample.map_err(failed)?.payload().to_bytes())?,
            () = tokio::time::sleep(timeout) => bail!("{drone} has been silent for {timeout:?}; the old model flies on"),
        };
        if state.manifest_hash != bundle.manifest_hash && !state.manifest_hash.is_empty() {
            continue;
        }
        progress(&state);
        if state.phase.is_final() {
            return Ok(state);
        }
    }
}

fn chunk(bundle: &Bundle, query: &ZenohQuery) -> Result<Vec<u8>> {
    let request = ChunkRequest::parse(query.key_expr().as_str(), query.parameters().as_str())?;
    bundle.chunk(&request)?.with_context(|| {
        format!("the bundle has no bytes {} + {} of `{}`", request.offset, request.length, request.path)
    })
}

async fn serve(bundle: &Bundle, query: &ZenohQuery) -> Result<()> {
    let sent = match chunk(bundle, query) {
        Ok(bytes) => query.reply(query.key_expr().clone(), bytes).await,
        Err(error) => query.reply_err(format!("{error:#}")).await,
    };
    sent.map_err(|error| anyhow!("answering a chunk request: {error}"))
}

fn show(state: &PushState, json: bool) {
    if json {
        if let Ok(text) = serde_json::to_string(state) {
            println!("{text}");
        }
        return;
    }
    match &state.phase {
        PushPhase::Downloading { received_bytes, total_bytes } => {
            println!("downloading  {:>3} %", received_bytes * 100 / (*total_bytes).max(1));
        }
        PushPhase::RolledBack { why } => println!("rolled back: {why}\nthe old model flies on"),
        PushPhase::Refused { why } => println!("refused: {why}\nthe old model flies on"),
        phase => println!("{}", format!("{phase:?}").to_lowercase()),
    }
}
