//! Every outcome is in the record once, and nothing that was given up goes untold.

use std::sync::Arc;
use std::time::Duration;

use kestrel_link::{Outcome, Query, Reply, Verdict, decode, encode};
use kestrel_onboard::engine::{self, Engine, EngineError, Graph, Input, Opener, Tensor};
use kestrel_onboard::node::{Limits, ModelSource, UpkeepOptions};
use kestrel_onboard::pipeline::StandingOptions;
use kestrel_onboard::record::Agreement;
use kestrel_perception::TrackOptions;
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::Subscriber;
use zenoh::sample::Sample;

use crate::faulty::{self, Faults};
use crate::network::{PATIENCE, Pair, first, folder, verdict};
use crate::record::{held, options, replayed};
use crate::red::{self, RED, picture, query};

/// Setup: a recorded flight with a query before the first frame, one that is answered, and one that waits when the
/// flight ends. Fault: no frame comes for the first, and the engine fails under another.
/// Expected: each outcome is in the record once, and as many as the drone counted.
/// Invariant: outcomes given = outcomes recorded, whoever gave them.
///
/// Promise: P1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_has_as_many_outcomes_as_were_given() {
    let root = tempfile::tempdir().unwrap();
    let bundle = red::write(&root.path().join("bundle"), "1", None);
    let file = root.path().join("flight.mcap");
    let faults = Arc::new(Faults::default());
    let limits = Limits { frame_timeout: Duration::from_millis(200), ..Limits::default() };
    let pair = Pair::with(ModelSource::Folder(bundle.dir.clone()), limits, |config| {
        config.record = options(&file);
        config.engine = faulty::options();
        config.upkeep.opener = faulty::opener(&faults);
    })
    .await;
    let early = pair.ask(&query("early", "red square")).await.unwrap();
    assert_eq!(verdict(&early), &Verdict::DeadlineMissed);
    let shown = |x: u32| picture(320, 240, &[(x, 60, 50, RED)]);
    pair.node.frames().put(shown(100), 1).unwrap();
    let found = pair.ask(&query("found", "red square")).await.unwrap();
    assert!(matches!(found.outcome, Outcome::Segmented { .. }), "{found:?}");
    faults.fail(1);
    pair.node.frames().put(shown(10), 2).unwrap();
    let failed = pair.ask(&query("failed", "red square")).await.unwrap();
    assert_eq!(verdict(&failed), &Verdict::EngineDegraded);
    let waits =
        pair.get(pair.drone.query(), encode(&Query { frames: 2, ..query("waits", "red square") }).unwrap()).await;
    first(&waits).await.unwrap();
    let health = pair.node.health();
    pair.stop().await;

    let survey = held(&file);
    let totals = survey.end.as_ref().unwrap().totals.expect("the flight was recorded to its end");
    assert!(totals.outcomes() >= health.segmented + health.refused);
    assert_eq!((survey.given(), totals.frames), (totals.outcomes(), 2));
    assert_eq!((survey.untold, survey.losses.outcomes, survey.damage.count), (0, 0, 0));
    assert!(survey.refusals >= 3, "early, failed, waiting: {}", survey.refusals);
    let report = replayed(&file, &bundle, Agreement::Loose { least_iou: 0.99 });
    assert_eq!(report.different, 0, "refusals of others are not compared: {:?}", report.first);
}

/// tract, under a name that leaves no room in a message.
struct Wordy {
    inner: Box<dyn Engine>,
    name: String,
}

impl Engine for Wordy {
    fn name(&self) -> &str {
        &self.name
    }

    fn input_shapes(&self, graph: Graph) -> Result<Vec<Vec<usize>>, EngineError> {
        self.inner.input_shapes(graph)
    }

    fn run(&mut self, graph: Graph, inputs: &[Input<'_>], outputs: &mut [Tensor]) -> Result<(), EngineError> {
        self.inner.run(graph, inputs, outputs)
    }
}

/// Fault: an outcome cannot be encoded. Expected: who asked is refused in its place, and that is counted and recorded once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_is_refused_and_counted_once() {
    let root = tempfile::tempdir().unwrap();
    let bundle = red::write(&root.path().join("bundle"), "1", None);
    let file = root.path().join("flight.mcap");
    let opener = Opener::new(|graphs, options| {
        let (inner, name) = (engine::open(graphs, options)?, "long ".repeat(20_000));
        Ok(Box::new(Wordy { inner, name }) as Box<dyn Engine>)
    });
    let limits = Limits { reuse_frame: PATIENCE, ..Limits::default() };
    let pair = Pair::with(ModelSource::Folder(bundle.dir.clone()), limits, |config| {
        config.record = options(&file);
        config.upkeep.opener = opener;
    })
    .await;
    pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 1).unwrap();
    let reply = pair.ask(&query("a", "red square")).await.unwrap();
    assert_eq!(verdict(&reply), &Verdict::EngineDegraded);
    let Outcome::Refused(refusal) = &reply.outcome else { panic!("{reply:?}") };
    assert_eq!(refusal.evidence, [("outcomes_not_sent".to_owned(), 1.0)]);
    assert_eq!((reply.frame, reply.frame_width), (0, 320));
    let health = pair.node.health();
    assert_eq!((health.segmented, health.refused), (0, 1));
    pair.stop().await;
    let survey = held(&file);
    let totals = survey.end.as_ref().unwrap().totals.unwrap();
    assert_eq!((survey.outcomes, survey.refusals, survey.instead), (1, 1, 1));
    assert_eq!((survey.given(), totals.outcomes(), totals.frames_dropped), (1, 1, 0));
}

/// The reply about a frame, from those that are published.
async fn about(outcomes: &Subscriber<FifoChannelHandler<Sample>>, frame: u64) -> Reply {
    loop {
        let sample = tokio::time::timeout(PATIENCE, outcomes.recv_async()).await.unwrap().unwrap();
        let reply: Reply = decode(&sample.payload().to_bytes()).unwrap();
        if reply.frame == frame {
            return reply;
        }
    }
}

/// Setup: a thing that is followed and given up at once when it is gone. Fault: the engine is silent on the very frame on
/// which it is gone, so that its answer is told to nobody. Expected: the next answer tells that it is lost.
/// Invariant: each lost id is told once.
///
/// Promise: P1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_while_the_engine_is_silent_is_told_with_the_next_answer() {
    let (_folder, source) = folder();
    let faults = Arc::new(Faults::default());
    // Long enough for a slow machine to answer well within it.
    let deadline = Duration::from_secs(2);
    let limits = Limits { deadline, reuse_frame: PATIENCE, frame_timeout: PATIENCE, ..Limits::default() };
    let pair = Pair::with(source, limits, |config| {
        config.engine = faulty::options();
        config.upkeep = UpkeepOptions { opener: faulty::opener(&faults), ..UpkeepOptions::of(PATIENCE) };
        let track = TrackOptions { keep_frames: 0, keep_millis: 60_000 };
        config.segmenter.standing = StandingOptions { track, ..StandingOptions::default() };
    })
    .await;
    let outcomes = pair.operator.declare_subscriber(pair.drone.outcome("s").unwrap()).await.unwrap();
    let frames = pair.node.frames();
    frames.put(picture(320, 240, &[(100, 60, 50, RED)]), 1_000_000_000).unwrap();
    let standing = Query { frames: 0, ..query("s", "red square") };
    let answers = pair.get(pair.drone.query(), encode(&standing).unwrap()).await;
    assert!(matches!(first(&answers).await.unwrap().outcome, Outcome::Segmented { .. }));
    faults.stall(true);
    let gone = frames.put(picture(320, 240, &[]), 1_100_000_000).unwrap();
    let late = about(&outcomes, gone).await;
    assert_eq!((verdict(&late), &late.standing), (&Verdict::DeadlineMissed, &None));
    faults.stall(false);
    let next = frames.put(picture(320, 240, &[(0, 0, 8, RED)]), 1_200_000_000).unwrap();
    assert_eq!(about(&outcomes, next).await.standing.unwrap().lost, [1]);
    let last = frames.put(picture(320, 240, &[]), 1_300_000_000).unwrap();
    assert!(!about(&outcomes, last).await.standing.unwrap().lost.contains(&1), "told once");
    pair.stop().await;
}
