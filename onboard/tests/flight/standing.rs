//! Queries that stand: words are read once, things keep their names.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use image::{Rgb, RgbImage};
use kestrel_link::{CaptureDoubt, Hint, Outcome, Query, Reply, Track, TrackEvent, Verdict, decode, encode};
use kestrel_onboard::camera::Captured;
use kestrel_onboard::camera::stamps::{Arrival, StampLimits, Stamps};
use kestrel_onboard::engine::{self, Engine, EngineError, Graph, Input, Opener, Tensor};
use kestrel_onboard::node::{Limits, ModelSource};
use kestrel_onboard::pipeline::{Answer, Segmenter, SegmenterOptions, StandingOptions, StandingQuery, union};
use kestrel_onboard::record::Agreement;
use kestrel_perception::{Bitmap, Tiling, TrackOptions};
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::Subscriber;
use zenoh::sample::Sample;

use crate::faulty::{self, Faults};
use crate::network::{PATIENCE, Pair, first};
use crate::push::{as_it_is, push, slots};
use crate::record::{self, gate, replayed, rewritten};
use crate::red::{self, BLUE, RED, picture, query};

/// Time between two frames.
const MILLIS: u64 = 100;

fn options(verify_frames: u32, keep_frames: u32) -> StandingOptions {
    StandingOptions {
        verify_frames,
        track: TrackOptions { keep_frames, keep_millis: 60_000 },
        ..StandingOptions::default()
    }
}

/// One query of a drone, frame after frame.
struct Following {
    segmenter: Segmenter,
    kept: StandingQuery,
    nanos: u64,
}

impl Following {
    fn new(segmenter: SegmenterOptions, query: &Query, options: StandingOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bundle = red::write(folder.path(), "1", None);
        let segmenter = Segmenter::open(&bundle, &red::tract(), segmenter).unwrap();
        Self { segmenter, kept: StandingQuery::new(query, &options), nanos: 1_000_000_000 }
    }

    fn of(text: &str, options: StandingOptions) -> Self {
        Self::new(red::options(Tiling::Never), &Query { frames: 0, ..query("s", text) }, options)
    }

    fn ask(&mut self, shown: &RgbImage) -> Answer {
        self.nanos += MILLIS * 1_000_000;
        self.segmenter.look(shown).unwrap().ask_standing(&mut self.kept, self.nanos).unwrap()
    }
}

/// A red square on its way to the right.
fn square(frame: u32) -> RgbImage {
    picture(512, 512, &[(20 + 12 * frame, 200, 48, RED)])
}

fn nothing() -> RgbImage {
    picture(512, 512, &[])
}

/// The ids of the segments with their events.
fn tracks(answer: &Answer) -> Vec<Track> {
    match &answer.outcome {
        Outcome::Segmented { masks } => masks.iter().filter_map(|mask| mask.track).collect(),
        Outcome::Refused(_) => Vec::new(),
    }
}

fn kept_and_lost(answer: &Answer) -> (Vec<u64>, Vec<u64>) {
    let standing = answer.standing.clone().expect("a query that stands says how");
    (standing.refused, standing.lost)
}

/// What would break: a language model that runs for every frame, which is what a standing query is there to avoid.
#[test]
fn words_are_read_once_for_ten_frames() {
    let mut following = Following::of("red square", options(30, 5));
    for frame in 0..10 {
        let answer = following.ask(&square(frame));
        let runs = if frame == 0 { [1, 1, 1] } else { [1, 0, 1] };
        assert_eq!(answer.timings.runs, runs, "frame {frame}");
        let mask = union(&answer.outcome).unwrap().expect("a mask");
        let x = 20 + 12 * frame;
        let truth = Bitmap::from_fn(512, 512, |u, v| (x..x + 48).contains(&u) && (200..248).contains(&v));
        assert!(mask.iou(&truth).unwrap() > 0.9, "the mask is of frame {frame}");
        let event = if frame == 0 { TrackEvent::New } else { TrackEvent::Update };
        assert_eq!(tracks(&answer), [Track { id: 1, event, age_frames: frame }]);
        assert_eq!(answer.standing.unwrap().verified_frames_ago, Some(frame));
    }
    assert_eq!(following.kept.turn(), 10);
}

#[test]
fn words_are_read_again_every_so_many_frames() {
    let mut following = Following::of("red square", options(4, 5));
    let read: Vec<u32> = (0..10).filter(|&frame| following.ask(&square(frame)).timings.runs[1] > 0).collect();
    assert_eq!(read, [0, 4, 8]);
}

/// What would break: a target that fades, and is drawn on as if it were as surely there as when its words were read.
#[test]
fn a_presence_that_falls_has_the_words_read_once_more() {
    let shown = |colour| picture(512, 512, &[(20, 200, 48, colour)]);
    // Just red enough for a mask: the model is less sure by two hundredths.
    let faded = shown(Rgb([223, 114, 114]));
    for (verify_presence_fall, runs) in [(0.01, [1, 1, 2]), (1.0, [1, 0, 1])] {
        let mut following = Following::of("red square", StandingOptions { verify_presence_fall, ..options(30, 5) });
        for frame in 0..3 {
            assert_eq!(following.ask(&shown(RED)).timings.runs[1], u32::from(frame == 0));
        }
        let answer = following.ask(&faded);
        assert!(matches!(answer.outcome, Outcome::Segmented { .. }));
        assert_eq!(answer.timings.runs, runs, "{verify_presence_fall}");
        for _ in 0..3 {
            assert_eq!(following.ask(&faded).timings.runs, [1, 0, 1], "it stays as it was read");
        }
    }
}

/// A frame costs vision once, and the mask graph once for each query.
#[test]
fn queries_that_stand_share_the_vision_of_a_frame() {
    let mut following = Following::of("red square", options(30, 5));
    let mut other = StandingQuery::new(&Query { frames: 0, ..query("t", "blue square") }, &options(30, 5));
    for frame in 0..3 {
        let shown = picture(512, 512, &[(20 + 12 * frame, 20, 48, RED), (400, 20 + 12 * frame, 48, BLUE)]);
        let mut look = following.segmenter.look(&shown).unwrap();
        let one = look.ask_standing(&mut following.kept, 0).unwrap();
        let two = look.ask_standing(&mut other, 0).unwrap();
        let language = u32::from(frame == 0);
        assert_eq!((one.timings.runs, two.timings.runs), ([1, language, 1], [0, language, 1]));
        let places = [one, two].map(|answer| union(&answer.outcome).unwrap().unwrap().bounding_box().unwrap());
        assert!(places[0][0] < 100 && places[1][0] > 390, "{places:?}");
        assert_eq!(following.kept.turn(), frame + 1);
    }
}

#[test]
fn what_is_gone_is_refused_then_lost_and_what_comes_later_is_new() {
    let mut following = Following::of("red square", options(30, 3));
    for frame in 0..4 {
        following.ask(&square(frame));
    }
    let gone = following.ask(&nothing());
    assert_eq!(gone.timings.runs, [1, 1, 2], "drawn, doubted, and read on this frame");
    let Outcome::Refused(refusal) = &gone.outcome else { panic!("expected a refusal") };
    assert_eq!(refusal.verdict, Verdict::TargetAbsent);
    assert_eq!(kept_and_lost(&gone), (vec![1], vec![]));
    for _ in 0..2 {
        assert_eq!(kept_and_lost(&following.ask(&nothing())), (vec![1], vec![]));
    }
    assert_eq!(kept_and_lost(&following.ask(&nothing())), (vec![], vec![1]));
    assert_eq!(kept_and_lost(&following.ask(&nothing())), (vec![], vec![]), "told once");
    let back = following.ask(&square(4));
    assert_eq!(tracks(&back), [Track { id: 2, event: TrackEvent::New, age_frames: 0 }]);
    assert!(back.standing.unwrap().verified(), "what comes back is verified");
}

#[test]
fn what_is_hidden_for_a_moment_keeps_its_name() {
    let mut following = Following::of("red square", options(30, 5));
    for frame in 0..12 {
        let is_hidden = (5..9).contains(&frame);
        let answer = following.ask(&if is_hidden { nothing() } else { square(frame) });
        if is_hidden {
            assert_eq!(kept_and_lost(&answer), (vec![1], vec![]), "frame {frame}");
        } else {
            assert_eq!(tracks(&answer).iter().map(|track| track.id).collect::<Vec<_>>(), [1], "frame {frame}");
        }
        if frame == 9 {
            assert_eq!(answer.timings.runs[1], 1, "what comes back is verified");
        }
    }
}

#[test]
fn all_things_of_a_kind_have_names_of_their_own() {
    let mut following = Following::of("red squares all", options(30, 5));
    for frame in 0..4 {
        let shown = picture(512, 512, &[(20 + 12 * frame, 100, 48, RED), (300, 400 - 12 * frame, 56, RED)]);
        let answer = following.ask(&shown);
        let Outcome::Segmented { masks } = &answer.outcome else { panic!("expected masks") };
        let named = |id: u64| masks.iter().find(|mask| mask.track.is_some_and(|track| track.id == id));
        // The largest comes first and is named first.
        let (one, two) = (named(1).unwrap(), named(2).unwrap());
        assert!(one.bounding_box[0] > 280 && two.bounding_box[0] < 100, "frame {frame}");
        assert_eq!(masks.len(), 2);
    }
}

/// Tiles are asked with words, so they are asked when those are read and not in between.
#[test]
fn tiles_are_asked_only_when_words_are_read() {
    let query = Query { frames: 0, ..query("s", "red square") };
    let mut following = Following::new(red::options(Tiling::Auto), &query, options(3, 5));
    for frame in 0..5 {
        let shown = picture(1600, 1200, &[(200 + 4 * frame, 150, 30, RED)]);
        let answer = following.ask(&shown);
        let runs = if frame.is_multiple_of(3) { [2, 2, 2] } else { [1, 0, 1] };
        assert_eq!(answer.timings.runs, runs, "frame {frame}");
        assert_eq!(tracks(&answer)[0].id, 1);
    }
}

/// tract, and every question that its language graph was asked.
struct Listening {
    inner: Box<dyn Engine>,
    asked: Arc<Mutex<Vec<Vec<i64>>>>,
}

impl Engine for Listening {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn input_shapes(&self, graph: Graph) -> Result<Vec<Vec<usize>>, EngineError> {
        self.inner.input_shapes(graph)
    }

    fn run(&mut self, graph: Graph, inputs: &[Input<'_>], outputs: &mut [Tensor]) -> Result<(), EngineError> {
        if let (Graph::Language, Some(Input::I64(_, ids))) = (graph, inputs.get(1)) {
            self.asked.lock().unwrap().push(ids.to_vec());
        }
        self.inner.run(graph, inputs, outputs)
    }
}

/// What would break: a query that begins with a box, and looks there again when the target is elsewhere.
#[test]
fn a_query_by_hint_looks_where_its_target_was_last() {
    let hint = Some(Hint::Box { x0: 0.0, y0: 0.3, x1: 0.2, y1: 0.6 });
    let query = Query { hint, frames: 0, ..query("s", "red square") };
    let mut following = Following::new(red::options(Tiling::Never), &query, options(2, 5));
    let (folder, asked) = (tempfile::tempdir().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let bundle = red::write(folder.path(), "1", None);
    let listening = Arc::clone(&asked);
    let opener = Opener::new(move |graphs, options| {
        let inner = engine::open(graphs, options)?;
        Ok(Box::new(Listening { inner, asked: Arc::clone(&listening) }) as Box<dyn Engine>)
    });
    following.segmenter = Segmenter::open_with(&bundle, &opener, &red::tract(), red::options(Tiling::Never)).unwrap();
    asked.lock().unwrap().clear();
    for frame in 0..8 {
        let answer = following.ask(&square(4 * frame));
        assert_eq!(tracks(&answer).iter().map(|track| track.id).collect::<Vec<_>>(), [1], "frame {frame}");
    }
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 4);
    assert!(asked.windows(2).all(|pair| pair[0] != pair[1]), "the same words, and another box each time");
}

/// Setup: a query that stands and follows a thing. Fault: the camera freezes. Expected: the gate refuses, and no graph
/// runs. Invariant: things keep their names.
#[test]
fn frames_that_the_gate_refuses_are_told_to_every_thing() {
    let segmenter = SegmenterOptions { gate: Some(gate()), ..red::options(Tiling::Never) };
    let query = Query { frames: 0, ..query("s", "red square") };
    let mut following = Following::new(segmenter, &query, options(30, 5));
    let still = square(0);
    let answers: Vec<Answer> = (0..4).map(|_| following.ask(&still)).collect();
    assert_eq!(tracks(&answers[0])[0].id, 1);
    let frozen = &answers[3];
    assert!(matches!(&frozen.outcome, Outcome::Refused(refusal) if refusal.verdict == Verdict::Frozen));
    assert_eq!(frozen.timings.runs, [0, 0, 0]);
    assert_eq!(kept_and_lost(frozen), (vec![1], vec![]));
    assert_eq!(frozen.standing.as_ref().unwrap().verified_frames_ago, Some(3));
}

/// Setup: a query that stands and follows a thing. Fault: the engine fails on one frame.
/// Expected: the next frame has its mask. Invariant: the query stands as if that frame had never been.
///
/// Promise: P1
#[test]
fn a_frame_on_which_the_engine_failed_changes_nothing() {
    let mut following = Following::of("red square", options(30, 5));
    let (folder, faults) = (tempfile::tempdir().unwrap(), Arc::new(Faults::default()));
    let bundle = red::write(folder.path(), "1", None);
    let opener = faulty::opener(&faults);
    following.segmenter =
        Segmenter::open_with(&bundle, &opener, &faulty::options(), red::options(Tiling::Never)).unwrap();
    following.ask(&square(0));
    faults.fail(1);
    let failed = following.ask(&square(1));
    assert!(failed.failure.is_some() && failed.standing.is_none());
    assert_eq!(following.kept.turn(), 1);
    let answer = following.ask(&square(2));
    assert_eq!(answer.timings.runs, [1, 0, 1]);
    assert_eq!(tracks(&answer), [Track { id: 1, event: TrackEvent::Update, age_frames: 1 }]);
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

fn identity(reply: &Reply) -> (Track, Option<u32>) {
    let Outcome::Segmented { masks } = &reply.outcome else { panic!("expected a mask, got {:?}", reply.outcome) };
    (masks[0].track.expect("a standing query names things"), reply.standing.as_ref().unwrap().verified_frames_ago)
}

/// Setup: a model is pushed while a query stands. Expected: the new one reads the words itself. Invariant: what the old
/// one understood is never drawn by the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_switched_in_reads_the_words_itself() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    red::write(&at("first"), "1", None);
    let limits = Limits { reuse_frame: Duration::from_secs(600), ..Limits::default() };
    let pair = Pair::start(slots(&at("slots"), Some(&at("first"))), limits).await;
    let outcomes = pair.operator.declare_subscriber(pair.drone.outcome("s").unwrap()).await.unwrap();
    let standing = Query { frames: 0, ..query("s", "red square") };
    let answers = pair.get(pair.drone.query(), encode(&standing).unwrap()).await;
    let frames = pair.node.frames();
    frames.put(square(0), 1_000_000_000).unwrap();
    let reply = first(&answers).await.unwrap();
    assert_eq!(identity(&reply), (Track { id: 1, event: TrackEvent::New, age_frames: 0 }, Some(0)));
    frames.put(square(1), 1_100_000_000).unwrap();
    let reply = about(&outcomes, 1).await;
    assert_eq!(identity(&reply), (Track { id: 1, event: TrackEvent::Update, age_frames: 1 }, Some(1)));
    let phase = push(&pair, red::write(&at("second"), "2", Some(&red::key())), as_it_is).await;
    assert_eq!(phase, kestrel_link::PushPhase::Committed);
    let number = frames.put(square(2), 1_200_000_000).unwrap();
    let reply = about(&outcomes, number).await;
    assert_eq!(reply.model, "red@2");
    assert_eq!(identity(&reply), (Track { id: 1, event: TrackEvent::New, age_frames: 0 }, Some(0)));
    pair.stop().await;
}

/// What would break: a query that is asked anew under its old id and goes on with the old one's words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_is_replaced_begins_anew() {
    let root = tempfile::tempdir().unwrap();
    red::write(root.path(), "1", None);
    let source = ModelSource::Folder(root.path().to_owned());
    let limits = Limits { reuse_frame: Duration::ZERO, ..Limits::default() };
    let pair = Pair::start(source, limits).await;
    let frames = pair.node.frames();
    for (text, capture) in
        [("red square", 1_000_000_000), ("red square", 2_000_000_000), ("red squares all", 3_000_000_000)]
    {
        let standing = Query { frames: 0, ..query("s", text) };
        let answers = pair.get(pair.drone.query(), encode(&standing).unwrap()).await;
        // Requests are taken in turn: once this one is refused, the one before it is in.
        let other = pair.get(pair.drone.query(), vec![]).await;
        first(&other).await.unwrap_err();
        frames.put(square(0), capture).unwrap();
        let reply = first(&answers).await.unwrap();
        assert_eq!(identity(&reply), (Track { id: 1, event: TrackEvent::New, age_frames: 0 }, Some(0)), "{text}");
    }
    pair.stop().await;
}

/// Setup: a thing that is followed. Fault: the camera's clock is set forward by an hour, and back.
/// Expected: the thing keeps its name, and a replay gives it that name again. Invariant: no capture time that is doubted says
/// how long a thing was not seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thing_keeps_its_name_though_the_cameras_clock_is_set() {
    const START: u64 = 1_790_000_000_000_000_000;
    const HOUR: u64 = 3_600_000_000_000;
    let root = tempfile::tempdir().unwrap();
    let bundle = red::write(&root.path().join("bundle"), "1", None);
    let [file, other] = ["flight.mcap", "other.mcap"].map(|name| root.path().join(name));
    let limits = Limits { reuse_frame: Duration::ZERO, ..Limits::default() };
    let source = ModelSource::Folder(bundle.dir.clone());
    let pair = Pair::recorded(source, limits, red::options(Tiling::Never), record::options(&file)).await;
    let outcomes = pair.operator.declare_subscriber(pair.drone.outcome("s").unwrap()).await.unwrap();
    let standing = Query { frames: 0, ..query("s", "red square") };
    let answers = pair.get(pair.drone.query(), encode(&standing).unwrap()).await;
    // Requests are taken in turn: once this one is refused, the one before it is in.
    first(&pair.get(pair.drone.query(), vec![]).await).await.unwrap_err();

    let (start, mut stamps) = (Instant::now(), Stamps::new(StampLimits::default()));
    let faults = [
        (0, None),
        (HOUR, Some(CaptureDoubt::Jumped)),
        (HOUR, Some(CaptureDoubt::Ahead)),
        (0, Some(CaptureDoubt::Backwards)),
        (0, Some(CaptureDoubt::Unsettled)),
    ];
    for (frame, (ahead, doubt)) in (0..).zip(faults) {
        let nanos = u64::from(frame) * MILLIS * 1_000_000;
        let capture_unix_nanos = START + nanos + ahead;
        let judgement = stamps.judge(Arrival {
            stamp_unix_nanos: capture_unix_nanos,
            fingerprint: u64::from(frame),
            now: start + Duration::from_nanos(nanos),
            wall_unix_nanos: START + nanos,
        });
        let captured = Captured { image: square(frame), capture_unix_nanos, pose: None };
        let number = pair.node.frames().put_judged(captured, &judgement).unwrap();
        let reply = if frame == 0 { first(&answers).await.unwrap() } else { about(&outcomes, number).await };
        assert_eq!((reply.frame, reply.capture_doubt), (number, doubt));
        let event = if frame == 0 { TrackEvent::New } else { TrackEvent::Update };
        assert_eq!(identity(&reply).0, Track { id: 1, event, age_frames: frame });
    }
    pair.stop().await;

    let report = replayed(&file, &bundle, Agreement::Exact);
    assert_eq!((report.looks, report.outcomes, report.different), (5, 5, 0), "{:?}", report.first);
    rewritten(&file, &other, |topic, message| {
        if topic == "/looks" {
            message["steady"] = message["timestamp"].clone();
        }
        true
    });
    assert!(replayed(&other, &bundle, Agreement::Exact).different > 0, "by its stamps the thing is lost");
}
