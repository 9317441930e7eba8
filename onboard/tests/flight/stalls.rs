//! An engine that stalls for a while, fails at a frame, or is ten times too slow for its camera.

use std::time::Duration;

use image::RgbImage;
use kestrel_link::Verdict;
use kestrel_onboard::engine::Graph;
use kestrel_onboard::health::watchdog::WatchdogLimits;
use kestrel_onboard::node::{Limits, UpkeepOptions};

use crate::degraded::limits;
use crate::ledger::{Booked, refused, segmented};
use crate::network::{PATIENCE, first};
use crate::red::query;
use crate::sources::until;

/// Long enough for a slow machine to answer well within it.
const DEADLINE: Duration = Duration::from_millis(300);

/// Setup: outcomes are due after a deadline, and the engine counts as silent after two.
/// Fault: the engine stalls for 0.5, 1, 2, 5 and 10 deadlines.
/// Expected: a mask in time, or a refusal for lateness that names both times; then masks again.
/// Invariant: frames in = segmented + refused + counted drops; no mask is later than its deadline.
///
/// Promise: P1, P2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_of_any_length_costs_its_frames_and_nothing_else() {
    let mut flight = Booked::start(Limits { deadline: DEADLINE, ..limits() }, |options| UpkeepOptions {
        watchdog: WatchdogLimits { late: 2 * DEADLINE, hung: PATIENCE },
        ..options
    })
    .await;
    for tenths in [5, 10, 20, 50, 100] {
        let stall = DEADLINE * tenths / 10;
        flight.faults.slow(stall);
        let number = flight.show();
        let reply = flight.outcome(number).await;
        if segmented(&reply) {
            assert!(stall < DEADLINE, "{reply:?}");
        } else {
            assert!(refused(&reply, &Verdict::DeadlineMissed), "{reply:?}");
        }
    }
    flight.comes_back().await;
    flight.settled().await;
    for reply in flight.heard() {
        let is_late = Duration::from_micros(reply.latency_micros) > DEADLINE;
        assert_eq!(is_late, refused(&reply, &Verdict::DeadlineMissed), "{reply:?}");
    }
    flight.stop().await;
}

/// Setup: a flight with a query that stands, and a watchdog that says nothing of the engine. Fault: the engine is silent and
/// stays so. Expected: who is being answered, and who waits, is refused for lateness while the engine is still silent.
/// Invariant: a deadline depends neither on the engine nor on the watchdog; one outcome for every query and frame.
///
/// Promise: P1, P2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_silent_engine() {
    let mut flight = Booked::start(Limits { deadline: DEADLINE, ..limits() }, |options| UpkeepOptions {
        watchdog: WatchdogLimits { late: PATIENCE, hung: PATIENCE },
        ..options
    })
    .await;
    flight.faults.stall(true);
    let number = flight.show();
    let seen = flight.outcome(number).await;
    let waits = flight.ask().await;
    for reply in [&seen, &waits] {
        assert!(refused(reply, &Verdict::DeadlineMissed) && reply.frame == number, "{reply:?}");
    }
    assert_eq!(flight.pair.node.health().readiness, kestrel_link::Readiness::Ready, "the watchdog has said nothing");
    flight.faults.stall(false);
    flight.comes_back().await;
    flight.settled().await;
    flight.stop().await;
}

/// Setup: eight frames, each shown when the one before has its outcome. Fault: the engine fails at the third frame in the
/// vision graph, and at the sixth in the mask graph.
/// Expected: each is refused as a failure of the engine, which is opened anew; frames behind it have masks or are refused too.
/// Invariant: frames in = segmented + refused, and none was dropped.
///
/// Promise: P1, P3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_fails_at_a_frame_costs_that_frame() {
    let mut flight = Booked::start(limits(), |options| options).await;
    for place in 1..=8 {
        let fault = match place {
            3 => Some(Graph::Vision),
            6 => Some(Graph::Mask),
            _ => None,
        };
        if let Some(graph) = fault {
            // The engine of the failure before is there again.
            until("the engine is there", || flight.pair.node.health().readiness == kestrel_link::Readiness::Ready)
                .await;
            flight.faults.fail_in(graph);
        }
        let number = flight.show();
        let reply = flight.outcome(number).await;
        assert!(segmented(&reply) || refused(&reply, &Verdict::EngineDegraded), "{reply:?}");
        assert_eq!(reply.engine, "ort/cpu", "an outcome names the engine that was asked for");
        if fault.is_some() {
            assert!(refused(&reply, &Verdict::EngineDegraded), "frame {place}: {reply:?}");
        }
    }
    flight.comes_back().await;
    flight.settled().await;
    assert_eq!(flight.pair.node.health().frames_dropped, 0);
    assert_eq!(flight.faults.opened(), 3, "at the start and after each failure");
    flight.stop().await;
}

/// Setup: a question that is asked once. Fault: the graph that reads its words fails.
/// Expected: it is refused as a failure of the engine; asked again, it is answered.
/// Invariant: one outcome for each question, and the books balance.
///
/// Promise: P1, P3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_while_words_are_read_is_one_refusal() {
    let mut flight = Booked::start(limits(), |options| options).await;
    flight.comes_back().await;
    flight.faults.fail_in(Graph::Language);
    let reply = flight.ask().await;
    assert!(refused(&reply, &Verdict::EngineDegraded), "{reply:?}");
    let answered = async { while !segmented(&flight.ask().await) {} };
    tokio::time::timeout(PATIENCE, answered).await.expect("an answer");
    flight.settled().await;
    flight.stop().await;
}

/// Setup: a camera that gives ten frames in the time that the engine needs for one, thirty times over: 30 Hz into 3 Hz for
/// ten seconds, counted instead of timed. Fault: the engine is too slow.
/// Expected: the engine sees one frame of ten, and the others are counted as dropped.
/// Invariant: frames in = segmented + refused + counted drops; no mask is older than what was shown in two runs of the engine.
///
/// Promise: P1, P2, P5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_too_many_frames_are_dropped_and_no_mask_is_old() {
    const ROUNDS: u64 = 30;
    const FRAMES: u64 = 10;
    let mut flight = Booked::start(limits(), |options| options).await;
    flight.faults.pace(true);
    for round in 1..=ROUNDS {
        for _ in 0..FRAMES {
            flight.show();
        }
        flight.faults.permit();
        until("the engine has seen one more frame", || flight.outcomes() >= round).await;
        let shown = round * FRAMES;
        let newest = || flight.heard().last().map_or(0, |reply| reply.frame);
        until("no mask is old", || shown - newest() <= 2 * FRAMES + 1).await;
    }
    flight.faults.pace(false);
    flight.settled().await;
    let health = flight.pair.node.health();
    assert_eq!(health.frames_in, ROUNDS * FRAMES);
    // One a round, and at most one that was under way and one that waited at the end.
    assert!(flight.outcomes() <= ROUNDS + 2, "{health:?}");
    assert!(flight.heard().iter().all(segmented));
    flight.stop().await;
}

/// Setup: a query that stands. Fault: a camera gives frames without pixels, and frames larger than a mask may be.
/// Expected: they are counted as dropped, and the frames around them are answered.
/// Invariant: frames in = segmented + refused + counted drops.
///
/// Promise: P1, P5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_cannot_be_looked_at_are_counted_as_dropped() {
    let mut flight = Booked::start(limits(), |options| options).await;
    flight.comes_back().await;
    for odd in [RgbImage::new(0, 5), RgbImage::new(kestrel_link::mask::MAX_SIDE + 1, 1)] {
        let dropped = flight.pair.node.health().frames_dropped;
        flight.show_as(odd);
        until("it is counted", || flight.pair.node.health().frames_dropped > dropped).await;
        flight.comes_back().await;
    }
    flight.settled().await;
    flight.stop().await;
}

/// Setup: as many queries stand as the drone takes. Fault: one more is asked, again and again.
/// Expected: each is told that the drone is busy, and those that stand are answered.
/// Invariant: what waits is bounded (queries by `limits.active_queries`, frames by one), and who is turned away is told.
///
/// Promise: P1, P5, P12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_bounded_and_who_is_turned_away_is_told() {
    let mut flight = Booked::start(Limits { active_queries: 1, ..limits() }, |options| options).await;
    for number in 0..20 {
        let asked = kestrel_link::encode(&query(&format!("x{number}"), "red square")).unwrap();
        let error = first(&flight.pair.get(flight.pair.drone.query(), asked).await).await.unwrap_err();
        assert!(error.starts_with("busy: ") && error.contains("hint: "), "{error}");
    }
    flight.comes_back().await;
    flight.settled().await;
    flight.stop().await;
}
