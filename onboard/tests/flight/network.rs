//! A node on a real network: zenoh over loopback TCP.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use kestrel_link::{
    DroneId, Georeference, Health, Outcome, Query, Readiness, Reply, Unplaced, Verdict, decode, encode,
};
use kestrel_onboard::engine::EngineOptions;
use kestrel_onboard::loopback::free_address;
use kestrel_onboard::node::{
    ExplainOptions, Limits, LinkOptions, ModelSource, Node, NodeConfig, NodeError, UpkeepOptions,
};
use kestrel_onboard::pipeline::SegmenterOptions;
use kestrel_onboard::record::RecordOptions;
use kestrel_perception::Tiling;
use kestrel_perception::geo::{Geodetic, PosesOptions};
use zenoh::Session;
use zenoh::handlers::FifoChannelHandler;
use zenoh::sample::{Sample, SampleKind};

use crate::degraded;
use crate::faulty::{self, Faults};
use crate::red::{self, RED, picture, query};
use crate::sources::until;

/// A hang must fail a test, not the whole run.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A drone that is not on the network yet.
pub(crate) fn config(model: ModelSource, limits: Limits) -> NodeConfig {
    NodeConfig {
        drone: DroneId::new("drone").unwrap(),
        model,
        trial_latency: PATIENCE,
        engine: red::tract(),
        segmenter: red::options(Tiling::Never),
        georeferencer: Some(red::georeferencer()),
        poses: PosesOptions::default(),
        explain: Some(ExplainOptions::default()),
        link: LinkOptions::default(),
        limits,
        record: None,
        upkeep: UpkeepOptions::of(limits.deadline),
    }
}

/// A drone and an operator that sees it.
pub(crate) struct Pair {
    pub(crate) node: Node,
    pub(crate) operator: Session,
    pub(crate) drone: DroneId,
    /// Where the drone listens.
    pub(crate) endpoint: String,
    alive: zenoh::pubsub::Subscriber<FifoChannelHandler<Sample>>,
}

impl Pair {
    pub(crate) async fn start(model: ModelSource, limits: Limits) -> Self {
        Self::fly(config(model, limits)).await
    }

    /// A drone that records its flight.
    pub(crate) async fn recorded(
        model: ModelSource,
        limits: Limits,
        segmenter: SegmenterOptions,
        record: Option<RecordOptions>,
    ) -> Self {
        Self::fly(NodeConfig { segmenter, record, ..config(model, limits) }).await
    }

    /// A drone with an engine and what is done when that fails.
    pub(crate) async fn start_with(
        model: ModelSource,
        limits: Limits,
        engine: EngineOptions,
        upkeep: UpkeepOptions,
    ) -> Self {
        Self::fly(NodeConfig { engine, upkeep, ..config(model, limits) }).await
    }

    /// A drone that is otherwise as `change` makes it.
    pub(crate) async fn start_as(
        model: ModelSource,
        limits: Limits,
        change: impl FnOnce(NodeConfig) -> NodeConfig,
    ) -> Self {
        Self::fly(change(config(model, limits))).await
    }

    /// A drone that is like others but for what is changed.
    pub(crate) async fn with(model: ModelSource, limits: Limits, change: impl FnOnce(&mut NodeConfig)) -> Self {
        let changed = |mut config| {
            change(&mut config);
            config
        };
        Self::start_as(model, limits, changed).await
    }

    async fn fly(config: NodeConfig) -> Self {
        let address = free_address().unwrap();
        let endpoint = format!("tcp/{address}");
        let drone = DroneId::new(&format!("drone-{}", address.port())).unwrap();
        let link = LinkOptions { listen: vec![endpoint.clone()], ..LinkOptions::default() };
        let node = Node::start(NodeConfig { drone: drone.clone(), link, ..config }).await.unwrap();
        let options = LinkOptions { connect: vec![endpoint.clone()], ..LinkOptions::default() };
        let operator = zenoh::open(options.config().unwrap()).await.unwrap();
        let alive = operator.liveliness().declare_subscriber(drone.alive()).history(true).await.unwrap();
        let seen = tokio::time::timeout(PATIENCE, alive.recv_async()).await.unwrap().unwrap();
        assert_eq!(seen.kind(), SampleKind::Put);
        Self { node, operator, drone, endpoint, alive }
    }

    /// The answers to one payload on the query key.
    pub(crate) async fn get(&self, key: String, payload: Vec<u8>) -> FifoChannelHandler<zenoh::query::Reply> {
        self.operator.get(key).payload(payload).timeout(PATIENCE).await.unwrap()
    }

    pub(crate) async fn ask(&self, query: &Query) -> Result<Reply, String> {
        let answers = self.get(self.drone.query(), encode(query).unwrap()).await;
        first(&answers).await
    }

    pub(crate) async fn stop(self) {
        self.node.stop().await.unwrap();
        let gone = tokio::time::timeout(PATIENCE, self.alive.recv_async()).await.unwrap().unwrap();
        assert_eq!(gone.kind(), SampleKind::Delete, "a drone that left is seen to be gone");
        self.operator.close().await.unwrap();
    }
}

pub(crate) async fn first(answers: &FifoChannelHandler<zenoh::query::Reply>) -> Result<Reply, String> {
    first_reply(answers).await.map(|bytes| decode(&bytes).unwrap())
}

/// The bytes of the first answer, or what its error says.
pub(crate) async fn first_reply(answers: &FifoChannelHandler<zenoh::query::Reply>) -> Result<Vec<u8>, String> {
    let reply = tokio::time::timeout(PATIENCE, answers.recv_async()).await.unwrap().expect("an answer");
    match reply.into_result() {
        Ok(sample) => Ok(sample.payload().to_bytes().into_owned()),
        Err(error) => Err(String::from_utf8_lossy(&error.payload().to_bytes()).into_owned()),
    }
}

pub(crate) fn folder() -> (tempfile::TempDir, ModelSource) {
    let folder = tempfile::tempdir().unwrap();
    red::write(folder.path(), "1", None);
    let source = ModelSource::Folder(folder.path().to_owned());
    (folder, source)
}

pub(crate) fn verdict(reply: &Reply) -> &Verdict {
    match &reply.outcome {
        Outcome::Refused(refusal) => &refusal.verdict,
        Outcome::Segmented { .. } => panic!("expected a refusal"),
    }
}

/// Setup: a drone with one frame. Fault: what the second question asks for is not there. Expected: a mask for the first,
/// with the frame it is of; a refusal for the second. Invariant: one outcome for each, counted.
///
/// Promise: P1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_over_the_network_a_drone_answers_with_masks_and_refusals() {
    let (_folder, source) = folder();
    let limits = Limits { reuse_frame: PATIENCE, ..Limits::default() };
    let pair = Pair::start(source, limits).await;
    let shown = picture(320, 240, &[(100, 60, 50, RED)]);
    pair.node.frames().put(shown, 77).unwrap();
    let reply = pair.ask(&query("a", "red square")).await.unwrap();
    let Outcome::Segmented { masks } = &reply.outcome else { panic!("expected a mask, got {:?}", reply.outcome) };
    let truth =
        kestrel_link::Mask::from_fn(320, 240, |x, y| (100..150).contains(&x) && (60..110).contains(&y)).unwrap();
    assert!(masks[0].mask.iou(&truth).unwrap() > 0.9);
    // Nobody said where this picture was taken.
    assert_eq!(masks[0].positions, [Georeference::Unplaced { why: Unplaced::PoseUnknown }]);
    assert_eq!((reply.frame, reply.frame_width, reply.frame_height), (0, 320, 240));
    assert_eq!((reply.capture_unix_nanos, reply.model.as_str(), reply.engine.as_str()), (77, "red@1", "tract"));
    let reply = pair.ask(&query("b", "blue square")).await.unwrap();
    assert_eq!(verdict(&reply), &Verdict::TargetAbsent);
    let health = pair.node.health();
    assert_eq!((health.segmented, health.refused, health.frames_in), (1, 1, 1));
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mask_is_placed_where_the_pose_is_known() {
    let (_folder, source) = folder();
    let pair = Pair::start(source, Limits::default()).await;
    let shown = picture(320, 240, &[(100, 60, 50, RED)]);
    pair.node.frames().put_posed(shown, 1, Some(red::pose())).unwrap();
    let reply = pair.ask(&query("a", "red square")).await.unwrap();
    let Outcome::Segmented { masks } = &reply.outcome else { panic!("expected a mask, got {:?}", reply.outcome) };
    let [Georeference::Placed(place)] = &masks[0].positions[..] else { panic!("{:?}", masks[0].positions) };
    let camera = Geodetic { latitude_degrees: 56.2, longitude_degrees: 10.19, height_metres: 0.0 };
    let square =
        Geodetic { latitude_degrees: place.latitude_degrees, longitude_degrees: place.longitude_degrees, ..camera };
    let [north, east, _] = camera.offset_to(&square);
    // Its middle is 35 pixels left of and above the picture's, and a pixel is 0.1 m.
    assert!((north - 3.5).abs() < 1.0 && (east + 3.5).abs() < 1.0, "{north} {east}");
    assert!(place.radius_metres > 1.0 && place.radius_metres < 5.0);
    pair.stop().await;
}

/// Setup: a query that stands. Fault: none. Expected: four frames, each answered before the next is shown, have four
/// masks. Invariant: each outcome is about its own frame; none comes twice, none is left out.
///
/// Promise: P1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standing_query_gets_exactly_one_outcome_per_frame() {
    let (_folder, source) = folder();
    let pair = Pair::start(source, Limits::default()).await;
    let outcomes = pair.operator.declare_subscriber(pair.drone.outcome("s").unwrap()).await.unwrap();
    let frames = pair.node.frames();
    let standing = Query { frames: 0, ..query("s", "red square") };
    let answers = pair.get(pair.drone.query(), encode(&standing).unwrap()).await;
    frames.put(picture(320, 240, &[(0, 60, 50, RED)]), 0).unwrap();
    // The subscription may be younger than the first outcome, so that one is awaited as the answer.
    assert_eq!(first(&answers).await.unwrap().frame, 0);
    let mut last = 0;
    for number in 1..4_u32 {
        frames.put(picture(320, 240, &[(number * 60, 60, 50, RED)]), 0).unwrap();
        loop {
            let sample = tokio::time::timeout(PATIENCE, outcomes.recv_async()).await.unwrap().unwrap();
            let reply: Reply = decode(&sample.payload().to_bytes()).unwrap();
            if reply.frame == 0 {
                continue;
            }
            assert_eq!(reply.frame, last + 1, "no outcome twice, none left out");
            last = reply.frame;
            let Outcome::Segmented { masks } = reply.outcome else { panic!("expected a mask") };
            assert!(masks[0].bounding_box[0].abs_diff(number * 60) <= 2, "the mask is of this frame");
            break;
        }
    }
    pair.stop().await;
}

/// Setup: a drone. Fault: bytes that are no query, cut ones, ones with more behind them.
/// Expected: each is answered with an error that says what to try. Invariant: a good question behind them is answered.
///
/// Promise: P13
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_bytes_are_answered_with_an_error_and_harm_nothing() {
    let (_folder, source) = folder();
    let pair = Pair::start(source, Limits { reuse_frame: PATIENCE, ..Limits::default() }).await;
    let good = encode(&query("a", "red square")).unwrap();
    let mut trailing = good.clone();
    trailing.push(0);
    for payload in [vec![], vec![0xff; 100], vec![0x9b; 9], good[..good.len() - 3].to_vec(), trailing, vec![0; 8000]] {
        let answers = pair.get(pair.drone.query(), payload).await;
        let error = first(&answers).await.unwrap_err();
        assert!(error.contains("hint: "), "{error}");
    }
    pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 0).unwrap();
    assert!(matches!(pair.ask(&query("a", "red square")).await.unwrap().outcome, Outcome::Segmented { .. }));
    pair.stop().await;
}

/// Setup: a drone that takes two queries, which stand. Fault: a third is asked.
/// Expected: it is told that the drone is busy, and both others are answered. Invariant: what waits is bounded.
///
/// Promise: P5, P12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_query_too_many_is_told_so() {
    let (_folder, source) = folder();
    let pair = Pair::start(source, Limits { active_queries: 2, ..Limits::default() }).await;
    let mut waiting = Vec::new();
    for id in ["1", "2"] {
        let standing = Query { frames: 0, ..query(id, "red square") };
        waiting.push(pair.get(pair.drone.query(), encode(&standing).unwrap()).await);
    }
    let error = pair.ask(&query("3", "red square")).await.unwrap_err();
    assert!(error.starts_with("busy: 2 queries are active"), "{error}");
    pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 0).unwrap();
    for answers in &waiting {
        assert!(matches!(first(answers).await.unwrap().outcome, Outcome::Segmented { .. }));
    }
    pair.stop().await;
}

/// Setup: a drone without a frame, and one whose deadline is nothing. Fault: no frame comes; every answer is late.
/// Expected: both questions are refused for lateness. Invariant: no mask comes behind its deadline, and nobody waits for
/// ever.
///
/// Promise: P1, P2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_of_the_camera_and_lateness_are_refusals() {
    let (_folder, source) = folder();
    let limits = Limits { frame_timeout: Duration::from_millis(50), ..Limits::default() };
    let pair = Pair::start(source.clone(), limits).await;
    let reply = pair.ask(&query("a", "red square")).await.unwrap();
    assert_eq!(verdict(&reply), &Verdict::DeadlineMissed);
    pair.stop().await;
    let pair =
        Pair::start(source, Limits { deadline: Duration::ZERO, reuse_frame: PATIENCE, ..Limits::default() }).await;
    pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 0).unwrap();
    let reply = pair.ask(&query("a", "red square")).await.unwrap();
    assert_eq!(verdict(&reply), &Verdict::DeadlineMissed);
    pair.stop().await;
}

/// Setup: a drone that says how it is, and a query that waits for a frame. Fault: the drone is stopped.
/// Expected: who waits is refused for lateness. Invariant: a drone that leaves owes nobody an outcome.
///
/// Promise: P1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_published_and_who_waits_at_the_end_is_answered() {
    let (_folder, source) = folder();
    let pair = Pair::start(source, Limits::default()).await;
    let health = pair.operator.declare_subscriber(pair.drone.health()).await.unwrap();
    let sample = tokio::time::timeout(PATIENCE, health.recv_async()).await.unwrap().unwrap();
    let said: Health = decode(&sample.payload().to_bytes()).unwrap();
    assert_eq!((said.readiness, said.model.as_str(), said.engine.as_str()), (Readiness::Ready, "red@1", "tract"));
    let answers = pair.get(pair.drone.query(), encode(&query("left", "red square")).unwrap()).await;
    // The node takes requests in turn: once this one is refused, the one before it is in.
    let other = pair.get(pair.drone.query(), vec![]).await;
    first(&other).await.unwrap_err();
    pair.stop().await;
    assert_eq!(verdict(&first(&answers).await.unwrap()), &Verdict::DeadlineMissed);
}

/// Setup: a drone that is to start. Fault: something cannot be had when the model is open already.
/// Expected: the start fails, and its engine is let go.
/// Invariant: a program that tries again does not gather the threads and the memory of every try before.
///
/// Promise: P5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_leaves_no_thread_behind() {
    let (_folder, source) = folder();
    let faults = Arc::new(Faults::default());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = Some(taken.local_addr().unwrap());
    let upkeep = UpkeepOptions { metrics, ..degraded::upkeep(&faults) };
    let plan = NodeConfig { engine: faulty::options(), upkeep, ..config(source, Limits::default()) };
    let error = Node::start(plan).await.err().expect("the address is taken");
    assert!(matches!(error, NodeError::Metrics { .. }), "{error}");
    until("every thread has let go of its engine", || Arc::strong_count(&faults) == 1).await;
}
