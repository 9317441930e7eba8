//! An autonomy consumer: follows one target by its masks, and says what it would tell a pilot.
//!
//! It perceives and advises; it never commands a vehicle. A mask that is too old, a refusal and silence all mean: stop.
//! It asks for outcomes that are in time for that only, renews its query while it runs, and withdraws it when it ends.
//!
//! ```text
//! cargo run -p kestrel-onboard --example follow -- kestrel-1 "the white truck" --connect tcp/127.0.0.1:7447
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::Parser;
use kestrel_link::{DroneId, Outcome, Query, Reply, decode, encode};
use kestrel_onboard::node::LinkOptions;
use tokio::task::JoinHandle;
use zenoh::bytes::Encoding;

/// Share of the frame's side within which a target counts as centred.
const CENTRED: f64 = 0.1;

/// How long the query stands without being renewed: a consumer that is gone leaves nothing behind for longer.
const LIFE: Duration = Duration::from_secs(30);
/// How long to wait for a word on the withdrawal.
const FAREWELL: Duration = Duration::from_secs(2);

#[derive(Parser)]
struct Arguments {
    /// The drone's id.
    drone: DroneId,
    /// What to follow, in plain words.
    query: String,
    /// Zenoh endpoint of the drone or a router.
    #[arg(long, default_value = "tcp/127.0.0.1:7447")]
    connect: String,
    /// Oldest mask that is still acted on, from the frame's admission on the drone.
    #[arg(long, default_value_t = 1500)]
    max_age_millis: u32,
    /// Stop after this many outcomes; 0 goes on until interrupted.
    #[arg(long, default_value_t = 0)]
    outcomes: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let options = LinkOptions { connect: vec![arguments.connect.clone()], ..LinkOptions::default() };
    let session = zenoh::open(options.config()?).await.map_err(|error| anyhow!("join the network: {error}"))?;
    let id = format!("follow-{}", std::process::id());
    let subscriber = session
        .declare_subscriber(arguments.drone.outcome(&id)?)
        .await
        .map_err(|error| anyhow!("subscribe: {error}"))?;
    let query = Query {
        frames: 0,
        deadline_millis: Some(arguments.max_age_millis),
        time_to_live_millis: Some(LIFE.as_millis() as u32),
        ..Query::new(id, &arguments.query)
    };
    query.validate().context("the query")?;
    // At once, and again before its life is over.
    let mut renewals = tokio::time::interval(LIFE / 3);
    let max_age = Duration::from_millis(arguments.max_age_millis.into());
    let mut valid_until = Instant::now() + max_age;
    let mut following = true;
    let mut seen = 0;
    while arguments.outcomes == 0 || seen < arguments.outcomes {
        tokio::select! {
            _ = renewals.tick() => drop(ask(&session, &arguments.drone, &query).await?),
            sample = subscriber.recv_async() => {
                let sample = sample.map_err(|error| anyhow!("the link is gone: {error}"))?;
                let reply: Reply = match decode(&sample.payload().to_bytes()) {
                    Ok(reply) => reply,
                    Err(error) => {
                        println!("STOP: an outcome that cannot be read: {error}");
                        continue;
                    }
                };
                seen += 1;
                // Not its latency: the frame may have been there before the query.
                let age = Duration::from_micros(reply.age_micros());
                (following, valid_until) = (advise(&reply, age, max_age), Instant::now() + max_age.saturating_sub(age));
            }
            () = tokio::time::sleep_until(valid_until.into()), if following => {
                println!("STOP: no fresh mask for {} ms", arguments.max_age_millis);
                following = false;
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    // So that the drone answers nobody; if this is lost, it ends by itself.
    let _ = tokio::time::timeout(FAREWELL, ask(&session, &arguments.drone, &query.withdrawal()).await?).await;
    session.close().await.map_err(|error| anyhow!("leave the network: {error}"))
}

/// Asks, renews or withdraws; the task that is given ends with the drone's word on it.
///
/// Outcomes also come on the subscription; what only comes here is a query that is not taken.
async fn ask(session: &zenoh::Session, drone: &DroneId, query: &Query) -> anyhow::Result<JoinHandle<()>> {
    let asked = session
        .get(drone.query())
        .payload(encode(query)?)
        .encoding(Encoding::APPLICATION_CBOR)
        .await
        .map_err(|error| anyhow!("ask: {error}"))?;
    Ok(tokio::spawn(async move {
        while let Ok(reply) = asked.recv_async().await {
            if let Err(error) = reply.into_result() {
                let why = String::from_utf8_lossy(&error.payload().to_bytes()).into_owned();
                eprintln!("the drone does not take the query: {why}");
            }
        }
    }))
}

/// Says what a pilot would be told; true while there is something to follow.
fn advise(reply: &Reply, age: Duration, max_age: Duration) -> bool {
    if age >= max_age {
        println!("STOP: frame {}: the outcome is {} ms old", reply.frame, age.as_millis());
        return false;
    }
    match &reply.outcome {
        Outcome::Refused(refusal) => {
            println!("STOP: frame {}: {}", reply.frame, refusal.advice);
            false
        }
        Outcome::Segmented { masks } => {
            let Some(best) = masks.iter().max_by(|one, two| one.presence.total_cmp(&two.presence)) else {
                return false;
            };
            let [x, y, width, height] = best.bounding_box.map(f64::from);
            let across = (x + width / 2.0) / f64::from(reply.frame_width.max(1)) - 0.5;
            let along = (y + height / 2.0) / f64::from(reply.frame_height.max(1)) - 0.5;
            let name = best.track.map(|track| format!(" #{}", track.id)).unwrap_or_default();
            println!(
                "frame {}: target{name} {}, {}; presence {:.2}, {} ms old",
                reply.frame,
                side(across, "left", "right"),
                side(along, "ahead", "behind"),
                best.presence,
                age.as_millis()
            );
            true
        }
    }
}

/// Where along one axis, as a person would say it.
fn side(offset: f64, before: &str, after: &str) -> String {
    match offset {
        offset if offset < -CENTRED => format!("{:.0} % {before}", -offset * 100.0),
        offset if offset > CENTRED => format!("{:.0} % {after}", offset * 100.0),
        _ => "centred".to_owned(),
    }
}
