//! `ground ask`: a question to a drone, and its answers.

use crate::session::{Link, block_on};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use kestrel_link::{DroneId, Outcome, Query, Reply, Track, TrackEvent, codec};
use std::process::ExitCode;
use zenoh::Session;

/// Exit code when the drone refused: an answer, but no mask.
pub const REFUSED: u8 = 3;

/// Arguments of `ground ask`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Id of the drone.
    drone: String,
    /// Plain words: "the white truck next to the red roof".
    query: String,
    /// Keep asking every frame until interrupted.
    #[arg(long)]
    watch: bool,
    /// Print one JSON object per answer.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    link: Link,
}

/// Runs `ground ask`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let drone = DroneId::new(&arguments.drone)?;
    let query = Query {
        id: format!("ask-{}", std::process::id()),
        text: arguments.query.clone(),
        hint: None,
        frames: u32::from(!arguments.watch),
    };
    // Checked here, so that a typing mistake needs no drone to be told.
    query.validate()?;
    block_on(async {
        let session = arguments.link.open().await?;
        if arguments.watch {
            return watch(&session, &drone, &query, arguments).await;
        }
        let reply = ask(&session, &drone, &query, arguments.link.timeout()).await?;
        print(&reply, arguments.json)?;
        Ok(exit(&reply))
    })
}

/// Asks and waits for the first answer.
pub async fn ask(session: &Session, drone: &DroneId, query: &Query, timeout: std::time::Duration) -> Result<Reply> {
    let replies = session
        .get(drone.query())
        .payload(codec::encode(query)?)
        .encoding(zenoh::bytes::Encoding::APPLICATION_CBOR)
        .timeout(timeout)
        .await
        .map_err(|error| anyhow!("asking {drone}: {error}"))?;
    let answer = replies.recv_async().await.map_err(|_| {
        anyhow!("{drone} did not answer within {timeout:?}\nhint: `ground doctor` lists the drones that are alive")
    })?;
    match answer.into_result() {
        Ok(sample) => codec::decode(&sample.payload().to_bytes()).context("the drone's answer"),
        Err(error) => bail!("{drone} refused the message: {}", String::from_utf8_lossy(&error.payload().to_bytes())),
    }
}

async fn watch(session: &Session, drone: &DroneId, query: &Query, arguments: &Arguments) -> Result<ExitCode> {
    let outcomes = session
        .declare_subscriber(drone.outcome(&query.id)?)
        .await
        .map_err(|error| anyhow!("listening to {drone}: {error}"))?;
    let mut last = exit(&ask(session, drone, query, arguments.link.timeout()).await?);
    loop {
        tokio::select! {
            sample = outcomes.recv_async() => {
                let sample = sample.map_err(|error| anyhow!("the link closed: {error}"))?;
                let reply: Reply = codec::decode(&sample.payload().to_bytes()).context("an outcome")?;
                print(&reply, arguments.json)?;
                last = exit(&reply);
            }
            _ = tokio::signal::ctrl_c() => return Ok(last),
        }
    }
}

fn exit(reply: &Reply) -> ExitCode {
    match reply.outcome {
        Outcome::Segmented { .. } => ExitCode::SUCCESS,
        Outcome::Refused(_) => ExitCode::from(REFUSED),
    }
}

fn print(reply: &Reply, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(reply)?);
    } else {
        println!("{}", line(reply));
    }
    Ok(())
}

/// One line for a person.
pub fn line(reply: &Reply) -> String {
    let latency = reply.latency_micros as f64 / 1e3;
    let answer = match &reply.outcome {
        Outcome::Segmented { masks } => {
            let area: u64 = masks.iter().map(|mask| mask.area_pixels).sum();
            let presence = masks.iter().map(|mask| mask.presence).fold(0.0, f32::max);
            let place = masks.first().map(|mask| mask.bounding_box).unwrap_or_default();
            let position = masks.iter().find_map(|mask| mask.positions.first());
            let position = position.map(|position| format!(", {position}")).unwrap_or_default();
            format!("mask of {area} pixels around {place:?}, presence {presence:.2}{position}")
        }
        Outcome::Refused(refusal) => {
            format!("refused: {} — {}", crate::demo::reason(&refusal.verdict), refusal.advice)
        }
    };
    let doubt = reply.capture_doubt.map(|doubt| format!("; capture time not known: {}", doubt.name()));
    let (doubt, identities) = (doubt.unwrap_or_default(), identities(reply));
    format!("frame {:>4}  {latency:>6.0} ms  “{}”  {answer}{doubt}{identities}", reply.frame, reply.query_text)
}

/// Which things a standing query knows, what this frame is for each, and how old the reading of its words is.
fn identities(reply: &Reply) -> String {
    let Some(standing) = &reply.standing else { return String::new() };
    let masks = match &reply.outcome {
        Outcome::Segmented { masks } => masks.as_slice(),
        Outcome::Refused(_) => &[],
    };
    let shown = masks.iter().filter_map(|mask| mask.track).map(|Track { id, event, age_frames }| match event {
        TrackEvent::New => format!("#{id} new"),
        TrackEvent::Update => format!("#{id} since {age_frames} frames"),
    });
    let hidden = standing.refused.iter().map(|id| format!("#{id} not seen"));
    let lost = standing.lost.iter().map(|id| format!("#{id} lost"));
    let age = standing.verified_frames_ago.filter(|frames| *frames > 0);
    let age = age.map(|frames| format!("words read {frames} frames ago"));
    let told: Vec<String> = shown.chain(hidden).chain(lost).chain(age).collect();
    if told.is_empty() { String::new() } else { format!("  [{}]", told.join(", ")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use kestrel_link::{Mask, Segment, Standing};

    /// What would break: a watching operator who cannot tell which of two cars is lost.
    #[test]
    fn a_line_names_every_thing_and_what_becomes_of_it() {
        let mask = Mask::from_fn(8, 6, |x, y| x > 2 && y > 2).unwrap();
        let named = |id, event, age_frames| {
            let track = Some(Track { id, event, age_frames });
            Segment { track, ..Segment::of(mask.clone(), 0.9, 0.8).unwrap() }
        };
        let masks = vec![named(3, TrackEvent::Update, 12), named(5, TrackEvent::New, 0)];
        let mut reply = Reply {
            drone: "d".into(),
            query_id: "q".into(),
            query_text: "all cars".into(),
            frame: 40,
            frame_width: 8,
            frame_height: 6,
            capture_unix_nanos: 0,
            capture_doubt: None,
            latency_micros: 0,
            model: "m@1".into(),
            engine: "tract".into(),
            outcome: Outcome::Segmented { masks },
            standing: Some(Standing { verified_frames_ago: Some(7), refused: vec![1], lost: vec![2] }),
        };
        let wanted = "  [#3 since 12 frames, #5 new, #1 not seen, #2 lost, words read 7 frames ago]";
        assert!(line(&reply).ends_with(wanted), "{}", line(&reply));
        reply.standing = None;
        assert!(!line(&reply).contains('#'), "{}", line(&reply));
    }
}
