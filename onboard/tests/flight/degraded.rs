//! An engine that fails, stays broken, stalls, hangs or panics under a flying node.

use std::sync::Arc;
use std::time::Duration;

use kestrel_link::{Health, Outcome, Query, Readiness, Reply, Verdict, decode, encode};
use kestrel_onboard::engine::EngineChoice;
use kestrel_onboard::health::recovery::RecoveryLimits;
use kestrel_onboard::health::watchdog::WatchdogLimits;
use kestrel_onboard::node::{Fault, Limits, UpkeepOptions};
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::Subscriber;
use zenoh::sample::Sample;

use crate::faulty::{self, Faults};
use crate::ledger::segmented;
use crate::network::{PATIENCE, Pair, first, folder, verdict};
use crate::red::{RED, picture, query};

const MILLI: Duration = Duration::from_millis(1);

/// Quick to open again, never giving up, patient with a slow machine.
pub(crate) fn upkeep(faults: &Arc<Faults>) -> UpkeepOptions {
    UpkeepOptions {
        opener: faulty::opener(faults),
        recovery: RecoveryLimits {
            first_pause: 10 * MILLI,
            longest_pause: 40 * MILLI,
            good_answers: 2,
            fallback_after: 2,
            give_up_after: 0,
        },
        watchdog: WatchdogLimits { late: PATIENCE, hung: PATIENCE },
        ..UpkeepOptions::of(PATIENCE)
    }
}

/// The last frame answers for as long as a test runs.
pub(crate) fn limits() -> Limits {
    Limits { deadline: PATIENCE, reuse_frame: PATIENCE, frame_timeout: PATIENCE, ..Limits::default() }
}

struct Flight {
    pair: Pair,
    faults: Arc<Faults>,
    health: Subscriber<FifoChannelHandler<Sample>>,
    asked: u32,
    _folder: tempfile::TempDir,
}

impl Flight {
    async fn start(limits: Limits, options: impl FnOnce(UpkeepOptions) -> UpkeepOptions) -> Self {
        let (folder, source) = folder();
        let faults = Arc::new(Faults::default());
        let pair = Pair::start_with(source, limits, faulty::options(), options(upkeep(&faults))).await;
        let health = pair.operator.declare_subscriber(pair.drone.health()).await.unwrap();
        pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 1).unwrap();
        Self { pair, faults, health, asked: 0, _folder: folder }
    }

    /// Asks a question of its own each time; every one has exactly one answer.
    async fn ask(&mut self) -> Reply {
        self.asked += 1;
        self.pair.ask(&query(&format!("q{}", self.asked), "red square")).await.unwrap()
    }

    /// Asks until the answer is as wanted.
    async fn ask_until(&mut self, wanted: impl Fn(&Reply) -> bool) -> Reply {
        let asking = async {
            loop {
                let reply = self.ask().await;
                if wanted(&reply) {
                    return reply;
                }
                let degraded =
                    matches!(&reply.outcome, Outcome::Segmented { .. }) || *verdict(&reply) == Verdict::EngineDegraded;
                assert!(degraded, "{reply:?}");
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap()
    }

    /// Waits until the drone says of itself what is wanted.
    async fn said(&self, wanted: impl Fn(&Health) -> bool) -> Health {
        let listening = async {
            loop {
                let sample = self.health.recv_async().await.unwrap();
                let health: Health = decode(&sample.payload().to_bytes()).unwrap();
                if wanted(&health) {
                    return health;
                }
            }
        };
        tokio::time::timeout(PATIENCE, listening).await.unwrap()
    }

    async fn fault(&self) -> Fault {
        tokio::time::timeout(PATIENCE, self.pair.node.fault()).await.unwrap()
    }
}

/// The next outcome that is not about a frame before this one: the outcome of that may be older than the subscription.
async fn next(outcomes: &Subscriber<FifoChannelHandler<Sample>>, frame: u64) -> Reply {
    loop {
        let sample = tokio::time::timeout(PATIENCE, outcomes.recv_async()).await.unwrap().unwrap();
        let reply: Reply = decode(&sample.payload().to_bytes()).unwrap();
        if reply.frame >= frame {
            return reply;
        }
    }
}

/// Why a drone is not ready; empty when it is.
fn why(health: &Health) -> &str {
    match &health.readiness {
        Readiness::NotReady { why } => why,
        _ => "",
    }
}

/// Setup: two standing questions about the same frame. Fault: the engine fails in one run.
/// Expected: both are refused once for this frame; the engine is opened anew and answers again.
/// Invariant: every question has one outcome for each frame.
///
/// Promise: P1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failure_refuses_one_frame_and_the_engine_comes_back() {
    let mut flight = Flight::start(limits(), |options| options).await;
    let reply = flight.ask().await;
    assert!(segmented(&reply) && reply.engine == "ort/cpu", "{reply:?}");
    assert_eq!(flight.faults.opened(), 1);

    let standing = |id: &str| Query { frames: 0, ..query(id, "red square") };
    let mut answers = Vec::new();
    for id in ["s1", "s2"] {
        let one = flight.pair.get(flight.pair.drone.query(), encode(&standing(id)).unwrap()).await;
        assert!(segmented(&first(&one).await.unwrap()));
        answers.push(flight.pair.operator.declare_subscriber(flight.pair.drone.outcome(id).unwrap()).await.unwrap());
    }
    // Subscriptions are on their way to the drone: a reply to a question asked behind them says that they are there.
    flight.ask().await;
    flight.faults.fail(1);
    let number = flight.pair.node.frames().put(picture(320, 240, &[(10, 60, 50, RED)]), 2).unwrap();
    for outcomes in &answers {
        let reply = next(outcomes, number).await;
        assert_eq!((reply.frame, verdict(&reply)), (number, &Verdict::EngineDegraded));
    }
    let reply = flight.ask_until(segmented).await;
    assert_eq!(reply.engine, "ort/cpu");
    assert_eq!(flight.faults.opened(), 2);
    for outcomes in &answers {
        assert!(outcomes.try_recv().unwrap().is_none(), "one outcome for this frame, and there was no other");
    }
    let health = flight.pair.node.health();
    assert_eq!((health.readiness, health.degraded), (Readiness::Ready, Vec::new()));
    flight.pair.stop().await;
}

/// Setup: no fallback is allowed. Fault: the engine breaks down for good.
/// Expected: refusals, health that is not ready and says why, and after three failures the end with code 72.
/// Invariant: no other engine answers.
///
/// Promise: P3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_fallback_a_broken_engine_is_given_up() {
    let mut flight = Flight::start(limits(), |mut options| {
        options.recovery.give_up_after = 3;
        options
    })
    .await;
    assert!(segmented(&flight.ask().await));
    flight.faults.break_down(true);
    // What the engine has seen of a frame is kept: only a new one must be seen anew.
    flight.pair.node.frames().put(picture(320, 240, &[(10, 60, 50, RED)]), 2).unwrap();
    assert_eq!(verdict(&flight.ask().await), &Verdict::EngineDegraded);
    let health = flight.said(|health| why(health).contains("told to fail")).await;
    assert!(health.degraded.is_empty(), "{health:?}");
    let fault = flight.fault().await;
    assert!(matches!(&fault, Fault::EngineLost { why } if why.contains("told to fail")), "{fault}");
    assert_eq!(fault.exit_code(), 72);
    assert_eq!(flight.faults.opened(), 3, "at the start and after the first two failures");
    let reply = flight.ask().await;
    let Outcome::Refused(refusal) = &reply.outcome else { panic!("{reply:?}") };
    assert_eq!(refusal.evidence, [("engine_failures".to_owned(), 3.0)]);
    assert!(!flight.pair.node.vitals().is_alive(), "a service manager gets no more signs of life");
    flight.pair.stop().await;
}

/// Setup: tract is allowed to fly in place of the engine. Fault: the engine breaks down, and is repaired later.
/// Expected: after two failures tract answers, named as the fallback in outcomes and health; then the engine comes back.
/// Invariant: an outcome names the engine that it is of.
///
/// Promise: P3, P12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowed_fallback_flies_and_is_announced_until_the_engine_is_back() {
    let mut flight =
        Flight::start(limits(), |options| UpkeepOptions { fallback: Some(EngineChoice::Tract), ..options }).await;
    assert_eq!(flight.ask().await.engine, "ort/cpu");
    flight.faults.break_down(true);
    flight.pair.node.frames().put(picture(320, 240, &[(10, 60, 50, RED)]), 2).unwrap();
    let reply = flight.ask_until(segmented).await;
    assert_eq!(reply.engine, "tract (fallback of ort/cpu)");
    let health = flight.said(|health| health.engine.starts_with("tract")).await;
    assert_eq!(health.readiness, Readiness::Ready);
    assert!(health.degraded[0].starts_with("tract flies instead of ort/cpu: "), "{health:?}");

    flight.faults.break_down(false);
    let reply = flight.ask_until(|reply| reply.engine == "ort/cpu").await;
    assert!(segmented(&reply), "{reply:?}");
    let health = flight.said(|health| health.engine == "ort/cpu").await;
    assert_eq!((health.readiness, health.degraded), (Readiness::Ready, Vec::new()));
    flight.pair.stop().await;
}

/// Setup: answers are due after one second, silence is late after two. Fault: the engine stalls for three deadlines.
/// Expected: who is being answered and who waits are refused for lateness, health is not ready, then ready again.
/// Invariant: nobody gets a second outcome when the engine answers after all.
///
/// Promise: P1, P2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_is_told_and_passes() {
    let deadline = 1000 * MILLI;
    let mut flight = Flight::start(Limits { deadline, ..limits() }, |options| UpkeepOptions {
        watchdog: WatchdogLimits { late: 2 * deadline, hung: PATIENCE },
        ..options
    })
    .await;
    flight.ask().await;
    let second = flight.pair.operator.declare_subscriber(flight.pair.drone.outcome("slow").unwrap()).await.unwrap();
    flight.ask().await;
    flight.faults.stall(true);
    let slow = flight.pair.get(flight.pair.drone.query(), encode(&query("slow", "red square")).unwrap()).await;
    let waits = flight.pair.get(flight.pair.drone.query(), encode(&query("waits", "red square")).unwrap()).await;
    assert_eq!(verdict(&first(&slow).await.unwrap()), &Verdict::DeadlineMissed);
    assert_eq!(verdict(&first(&waits).await.unwrap()), &Verdict::DeadlineMissed);
    let silent_for = |health: &Health| {
        let seconds = why(health).strip_prefix("the engine has not answered for ")?.strip_suffix(" s")?;
        seconds.parse::<f64>().ok()
    };
    flight.said(|health| silent_for(health).is_some_and(|seconds| seconds >= 3.0)).await;
    flight.faults.stall(false);
    flight.said(|health| health.readiness == Readiness::Ready).await;
    let again = flight.ask().await;
    assert!(segmented(&again) || *verdict(&again) == Verdict::DeadlineMissed, "{again:?}");
    assert!(second.try_recv().unwrap().is_some(), "the late refusal");
    assert!(second.try_recv().unwrap().is_none(), "and nothing behind it");
    flight.pair.stop().await;
}

/// Setup: an engine that is silent for half a second counts as hung. Fault: it stalls and never answers.
/// Expected: who asked is refused, and the node says that it hangs, with code 71; the process is to end with it.
/// Invariant: a hung engine gives no signs of life to a service manager.
///
/// Promise: P2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_hangs_ends_the_flight() {
    let mut flight = Flight::start(Limits { deadline: 250 * MILLI, ..limits() }, |options| UpkeepOptions {
        watchdog: WatchdogLimits { late: 250 * MILLI, hung: 500 * MILLI },
        ..options
    })
    .await;
    flight.faults.stall(true);
    let reply = flight.ask().await;
    assert_eq!(verdict(&reply), &Verdict::DeadlineMissed);
    let fault = flight.fault().await;
    assert!(matches!(fault, Fault::EngineHung { silent } if silent >= 500 * MILLI), "{fault}");
    assert_eq!(fault.exit_code(), 71);
    assert!(!flight.pair.node.vitals().is_alive());
    // The process of a drone ends here; that of the test goes on, and its thread must too.
    flight.faults.stall(false);
    flight.pair.stop().await;
}

/// Setup: a flying node. Fault: the perception thread panics.
/// Expected: the node says so, with code 70, and who was being answered is refused when it stops.
/// Invariant: a panic takes down one thread and no answer.
///
/// Promise: P1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_the_flight_and_leaves_nobody_waiting() {
    let flight = Flight::start(limits(), |options| options).await;
    flight.faults.panic();
    let answers = flight.pair.get(flight.pair.drone.query(), encode(&query("p", "red square")).unwrap()).await;
    let fault = flight.fault().await;
    assert_eq!(fault, Fault::Panicked { thread: "perception" });
    assert_eq!(fault.exit_code(), 70);
    flight.pair.stop().await;
    assert_eq!(verdict(&first(&answers).await.unwrap()), &Verdict::DeadlineMissed);
}
