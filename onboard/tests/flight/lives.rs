//! Each query has its own deadline and its own life, and a mask says how old it is.

use std::time::Instant;

use kestrel_link::{Outcome, Query, Reply, Track, TrackEvent, Verdict, decode, encode};
use kestrel_onboard::node::Limits;
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::Subscriber;
use zenoh::sample::Sample;

use crate::degraded::limits;
use crate::ledger::{Booked, refused, segmented};
use crate::network::{PATIENCE, Pair, first, folder};
use crate::red::{RED, picture, query};

/// A number that a refusal names.
fn evidence(reply: &Reply, name: &str) -> Option<f32> {
    let Outcome::Refused(refusal) = &reply.outcome else { return None };
    refusal.evidence.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
}

/// Waits for the last outcome about a query, which says that its life is over.
async fn last(outcomes: &Subscriber<FifoChannelHandler<Sample>>) -> Reply {
    loop {
        let sample = tokio::time::timeout(PATIENCE, outcomes.recv_async()).await.unwrap().unwrap();
        let reply: Reply = decode(&sample.payload().to_bytes()).unwrap();
        if evidence(&reply, "time_to_live_millis").is_some() {
            return reply;
        }
    }
}

/// Setup: two queries about one frame, due after 100 ms and after a minute. Fault: the engine stalls until the first of them is
/// refused; then queries are asked without end and forgotten. Expected: only the hasty one is late, the other has its mask; and
/// once the lives of those forgotten are over, the drone takes another one. Invariant: one outcome for every query and frame,
/// and one last for each whose life is over.
///
/// Promise: P1, P2, P5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_query_is_late_by_its_own_deadline_and_ends_with_its_own_life() {
    let mut flight = Booked::start(Limits { active_queries: 3, ..limits() }, |options| options).await;
    flight.comes_back().await;
    flight.faults.stall(true);
    let patient = Query { deadline_millis: Some(60_000), ..query("patient", "red square") };
    let answers = flight.pair.get(flight.pair.drone.query(), encode(&patient).unwrap()).await;
    let hasty = Query { deadline_millis: Some(100), ..query("hasty", "red square") };
    let hasty = flight.pair.ask(&hasty).await.unwrap();
    assert!(refused(&hasty, &Verdict::DeadlineMissed), "{hasty:?}");
    assert_eq!(evidence(&hasty, "deadline_millis"), Some(100.0));
    assert!(answers.try_recv().unwrap().is_none(), "who has time has no outcome yet");
    flight.faults.stall(false);
    let patient = first(&answers).await.unwrap();
    assert!(segmented(&patient) && patient.frame == hasty.frame, "{patient:?}");
    flight.enter(2);

    let mut forgotten = Vec::new();
    for id in ["forgotten-1", "forgotten-2"] {
        let outcomes = flight.pair.operator.declare_subscriber(flight.pair.drone.outcome(id).unwrap()).await.unwrap();
        let asked = Query { frames: 0, time_to_live_millis: Some(1000), ..query(id, "red square") };
        // On a slow machine the first outcome may be the last.
        let reply = flight.pair.ask(&asked).await.unwrap();
        flight.enter(1 + u64::from(evidence(&reply, "time_to_live_millis").is_none()));
        forgotten.push(outcomes);
    }
    let further = async {
        loop {
            match flight.pair.ask(&query("further", "red square")).await {
                Ok(reply) => return reply,
                Err(why) => assert!(why.starts_with("busy: "), "{why}"),
            }
        }
    };
    let further = tokio::time::timeout(PATIENCE, further).await.expect("there is room again");
    assert!(segmented(&further), "{further:?}");
    flight.enter(1);
    for outcomes in &forgotten {
        let reply = last(outcomes).await;
        assert!(refused(&reply, &Verdict::DeadlineMissed), "{reply:?}");
        assert_eq!((evidence(&reply, "time_to_live_millis"), reply.frame_width), (Some(1000.0), 0), "about no frame");
    }
    flight.settled().await;
    flight.stop().await;
}

/// Setup: a query that stands takes the only place. Fault: its operator renews it, and then has seen enough. Expected: renewed,
/// it goes on with the same thing under the same id; withdrawn, it says so, answers no further frame and leaves its place.
/// Invariant: one outcome for every query and frame.
///
/// Promise: P1, P5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_stands_is_renewed_and_withdrawn_over_the_link() {
    let (_folder, source) = folder();
    let pair = Pair::start(source, Limits { active_queries: 1, ..limits() }).await;
    let frames = pair.node.frames();
    let shown = |left: u32| picture(320, 240, &[(left, 60, 50, RED)]);
    let track = |reply: &Reply| match &reply.outcome {
        Outcome::Segmented { masks } => masks[0].track,
        Outcome::Refused(_) => None,
    };
    frames.put(shown(100), 1_000_000_000).unwrap();
    let standing = Query { frames: 0, ..query("s", "red square") };
    let reply = pair.ask(&standing).await.unwrap();
    assert_eq!(track(&reply), Some(Track { id: 1, event: TrackEvent::New, age_frames: 0 }));
    assert!(pair.ask(&query("other", "red square")).await.unwrap_err().starts_with("busy: "));

    let renewal = Query { time_to_live_millis: Some(600_000), ..standing.clone() };
    let renewed = pair.get(pair.drone.query(), encode(&renewal).unwrap()).await;
    // Requests are taken in turn: once this one is refused, the one before it is in.
    first(&pair.get(pair.drone.query(), vec![]).await).await.unwrap_err();
    frames.put(shown(104), 1_100_000_000).unwrap();
    let reply = first(&renewed).await.unwrap();
    assert_eq!(track(&reply), Some(Track { id: 1, event: TrackEvent::Update, age_frames: 1 }), "{reply:?}");

    let gone = pair.ask(&standing.withdrawal()).await.unwrap();
    assert!(refused(&gone, &Verdict::DeadlineMissed), "{gone:?}");
    assert_eq!(evidence(&gone, "time_to_live_millis"), Some(0.0));
    for (id, capture) in [("next", 1_200_000_000), ("last", 1_300_000_000)] {
        frames.put(shown(108), capture).unwrap();
        assert!(segmented(&pair.ask(&query(id, "red square")).await.unwrap()));
    }
    let health = pair.node.health();
    assert_eq!((health.segmented, health.refused), (4, 1), "nothing more was said of what was withdrawn");
    pair.stop().await;
}

/// What would break: whoever acts on a mask that is younger than it says, because the frame was there before the query.
///
/// Promise: P2, P14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mask_is_as_old_as_its_frame_and_not_as_its_query() {
    let (_folder, source) = folder();
    let pair = Pair::start(source, limits()).await;
    pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 1).unwrap();
    let admitted_by = Instant::now();
    let early = pair.ask(&query("early", "red square")).await.unwrap();
    let before = admitted_by.elapsed().as_micros() as u64;
    let late = pair.ask(&query("late", "red square")).await.unwrap();
    for reply in [&early, &late] {
        assert!(segmented(reply) && reply.frame == 0, "{reply:?}");
        assert!(reply.frame_age_micros.unwrap() >= reply.latency_micros, "{reply:?}");
    }
    assert!(late.age_micros() >= late.latency_micros + before, "{late:?}");
    pair.stop().await;
}
