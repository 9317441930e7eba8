//! `ground ask`: a question to a drone, and its answers.

mod explain;
mod watch;

use crate::session::{Link, block_on};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use clap::builder::RangedI64ValueParser;
use explain::Listener;
use kestrel_link::query::{MAX_DEADLINE_MILLIS, MAX_TIME_TO_LIVE_MILLIS};
use kestrel_link::{DroneId, Hint, Outcome, Query, Refusal, Reply, Segment, Track, TrackEvent, Verdict, codec};
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
    /// Keep asking every frame until interrupted; the query is then withdrawn.
    #[arg(long)]
    watch: bool,
    /// Take no answer that needs longer than this; the drone's own deadline holds where it is shorter.
    #[arg(long, value_name = "MILLIS", value_parser = millis(MAX_DEADLINE_MILLIS))]
    deadline_millis: Option<u32>,
    /// Let the drone drop the query after this long; with --watch it is renewed before (60000 by default).
    #[arg(long, value_name = "MILLIS", value_parser = millis(MAX_TIME_TO_LIVE_MILLIS))]
    live_millis: Option<u32>,
    /// Print the reasons for the first answer too, word by word as the drone writes them.
    #[arg(long)]
    explain: bool,
    /// A point on the target: fractions of width and height.
    #[arg(long, value_name = "X,Y", value_parser = numbers::<2>, conflicts_with = "bounding_box")]
    point: Option<[f32; 2]>,
    /// A box around the target, for example a candidate of an ambiguous answer: fractions of width and height.
    #[arg(long = "box", value_name = "X0,Y0,X1,Y1", value_parser = numbers::<4>)]
    bounding_box: Option<[f32; 4]>,
    /// Print one JSON object per answer, and per part of an explanation.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    link: Link,
}

/// Runs `ground ask`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let drone = DroneId::new(&arguments.drone)?;
    let query = Query {
        hint: arguments.hint(),
        frames: u32::from(!arguments.watch),
        explain: arguments.explain,
        deadline_millis: arguments.deadline_millis,
        time_to_live_millis: arguments.live_millis.or(arguments.watch.then_some(watch::LIFE_MILLIS)),
        ..Query::new(format!("ask-{}", std::process::id()), &arguments.query)
    };
    // Checked here, so that a typing mistake needs no drone to be told.
    query.validate()?;
    block_on(async {
        let session = arguments.link.open().await?;
        // Before the question, so that no reason is missed.
        let mut reasons = match arguments.explain {
            true => Some(Listener::start(&session, &drone, &query.id, arguments.json).await?),
            false => None,
        };
        if arguments.watch {
            return watch::watch(&session, &drone, &query, arguments, reasons).await;
        }
        let reply = ask(&session, &drone, &query, arguments.link.timeout()).await?;
        print(&reply, arguments.json)?;
        if let Some(reasons) = &mut reasons {
            reasons.follow_to_end(arguments.link.timeout()).await?;
        }
        Ok(exit(&reply))
    })
}

impl Arguments {
    fn hint(&self) -> Option<Hint> {
        let point = self.point.map(|[x, y]| Hint::Point { x, y });
        point.or(self.bounding_box.map(|[x0, y0, x1, y1]| Hint::Box { x0, y0, x1, y1 }))
    }
}

fn millis(most: u32) -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(most))
}

fn numbers<const N: usize>(text: &str) -> Result<[f32; N], String> {
    let wrong = || format!("expected {N} numbers between 0 and 1 with commas between them");
    let values: Vec<f32> =
        text.split(',').map(|part| part.trim().parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
    values.try_into().map_err(|_| wrong())
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
        candidates(reply).iter().for_each(|line| println!("{line}"));
    }
    Ok(())
}

/// The candidates of an ambiguous query by their numbers, and how each is asked for.
fn candidates(reply: &Reply) -> Vec<String> {
    let Outcome::Refused(Refusal { verdict: Verdict::TargetAmbiguous { candidates }, .. }) = &reply.outcome else {
        return Vec::new();
    };
    let (width, height) = (reply.frame_width.max(1) as f32, reply.frame_height.max(1) as f32);
    let line = |(index, candidate): (usize, &Segment)| {
        let [x, y, across, down] = candidate.bounding_box.map(|pixels| pixels as f32);
        let [x0, y0, x1, y1] = [x / width, y / height, (x + across) / width, (y + down) / height];
        let position = candidate.positions.first().map(|position| format!(", {position}")).unwrap_or_default();
        format!(
            "  {}: {} pixels around {:?}{position}; ask again with --box={x0:.3},{y0:.3},{x1:.3},{y1:.3}",
            index + 1,
            candidate.area_pixels,
            candidate.bounding_box
        )
    };
    candidates.iter().enumerate().map(line).collect()
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
    use kestrel_link::{Mask, Standing};

    fn reply(outcome: Outcome) -> Reply {
        Reply {
            drone: "d".into(),
            query_id: "q".into(),
            query_text: "all cars".into(),
            frame: 40,
            frame_width: 8,
            frame_height: 6,
            capture_unix_nanos: 0,
            capture_doubt: None,
            latency_micros: 0,
            frame_age_micros: None,
            model: "m@1".into(),
            engine: "tract".into(),
            outcome,
            standing: None,
        }
    }

    /// What would break: an operator who is told that it is ambiguous, and cannot say which one is meant.
    #[test]
    fn candidates_have_numbers_and_boxes_to_ask_with() {
        let mask = |left: u32| {
            let mask = Mask::from_fn(8, 4, |x, y| (left..left + 2).contains(&x) && y < 2).unwrap();
            Segment::of(mask, 0.4, 0.8).unwrap()
        };
        let verdict = Verdict::TargetAmbiguous { candidates: vec![mask(0), mask(6)] };
        let refusal = Refusal { verdict, evidence: vec![], advice: "say which".into() };
        let asked = Reply { frame_width: 8, frame_height: 4, ..reply(Outcome::Refused(refusal)) };
        let told = candidates(&asked);
        assert_eq!(told[0], "  1: 4 pixels around [0, 0, 2, 2]; ask again with --box=0.000,0.000,0.250,0.500");
        assert_eq!(told[1], "  2: 4 pixels around [6, 0, 2, 2]; ask again with --box=0.750,0.000,1.000,0.500");
        assert!(candidates(&reply(Outcome::Segmented { masks: vec![mask(0)] })).is_empty());
    }

    /// What would break: a watching operator who cannot tell which of two cars is lost.
    #[test]
    fn a_line_names_every_thing_and_what_becomes_of_it() {
        let mask = Mask::from_fn(8, 6, |x, y| x > 2 && y > 2).unwrap();
        let named = |id, event, age_frames| {
            let track = Some(Track { id, event, age_frames });
            Segment { track, ..Segment::of(mask.clone(), 0.9, 0.8).unwrap() }
        };
        let masks = vec![named(3, TrackEvent::Update, 12), named(5, TrackEvent::New, 0)];
        let mut reply = reply(Outcome::Segmented { masks });
        reply.standing = Some(Standing { verified_frames_ago: Some(7), refused: vec![1], lost: vec![2] });
        let wanted = "  [#3 since 12 frames, #5 new, #1 not seen, #2 lost, words read 7 frames ago]";
        assert!(line(&reply).ends_with(wanted), "{}", line(&reply));
        reply.standing = None;
        assert!(!line(&reply).contains('#'), "{}", line(&reply));
    }
}
