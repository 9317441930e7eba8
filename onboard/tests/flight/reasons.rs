//! Answers explained over the link: masks first, their reasons behind them.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use kestrel_link::{
    CutShort, DroneId, ExplanationPart, Outcome, Part, Query, Readiness, ReasonedConclusion, Unexplained, Verdict,
    decode, encode,
};
use kestrel_onboard::engine::{self, Engine, EngineError, Graph, Input, Opener, Tensor};
use kestrel_onboard::node::{ExplainOptions, Limits, ModelSource};
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::Subscriber;
use zenoh::sample::Sample;

use crate::explain::{ENDLESS, FOUND};
use crate::network::{PATIENCE, Pair, first, folder, verdict};
use crate::red::{self, RED, picture, query};

fn limits() -> Limits {
    Limits { deadline: PATIENCE, reuse_frame: PATIENCE, frame_timeout: PATIENCE, ..Limits::default() }
}

fn thinking(next: &[(&str, &str, f32)]) -> (tempfile::TempDir, ModelSource) {
    let folder = tempfile::tempdir().unwrap();
    red::write_thinking(folder.path(), next);
    let source = ModelSource::Folder(folder.path().to_owned());
    (folder, source)
}

/// Patient with a slow machine.
fn patient() -> ExplainOptions {
    ExplainOptions { deadline: PATIENCE, time_to_live: PATIENCE, ..ExplainOptions::default() }
}

fn why_query(id: &str) -> Query {
    Query { explain: true, ..query(id, "red square") }
}

type Parts = Subscriber<FifoChannelHandler<Sample>>;

async fn listen(pair: &Pair, id: &str) -> Parts {
    let drone: &DroneId = &pair.drone;
    pair.operator.declare_subscriber(drone.explanation(id).unwrap()).await.unwrap()
}

/// The parts of one explanation up to its end.
async fn parts(listening: &Parts) -> Vec<ExplanationPart> {
    let mut parts = Vec::new();
    loop {
        let sample = tokio::time::timeout(PATIENCE, listening.recv_async()).await.unwrap().unwrap();
        let part: ExplanationPart = decode(&sample.payload().to_bytes()).unwrap();
        let ends = part.part.ends();
        parts.push(part);
        if ends {
            return parts;
        }
    }
}

/// Why there is no explanation.
fn refused(parts: &[ExplanationPart]) -> Unexplained {
    match &parts.last().unwrap().part {
        Part::Refused { why, advice } => {
            assert!(!advice.is_empty(), "every refusal advises");
            *why
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Setup: a model that thinks. Expected: the mask as ever, then the thought piece by piece, then what it comes to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_comes_first_and_its_reasons_behind_it() {
    let (_folder, source) = thinking(&FOUND);
    let pair = Pair::with(source, limits(), |config| config.explain = Some(patient())).await;
    let listening = listen(&pair, "a").await;
    pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 1).unwrap();
    let reply = pair.ask(&why_query("a")).await.unwrap();
    assert!(matches!(reply.outcome, Outcome::Segmented { .. }));
    let told = parts(&listening).await;
    assert!(told.iter().zip(0..).all(|(part, number)| part.sequence == number), "{told:?}");
    for part in &told {
        assert_eq!((part.query_id.as_str(), part.explanation, part.frame), ("a", 0, reply.frame));
        assert_eq!((part.frame_width, part.frame_height, part.model.as_str()), (320, 240, "red@1"));
    }
    let shown: String = told
        .iter()
        .filter_map(|part| match &part.part {
            Part::Piece { text } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(shown, " red [1]");
    let Part::Complete { conclusion, reasons } = &told.last().unwrap().part else { panic!("{told:?}") };
    assert_eq!(reasons.statements, ["red [1]"]);
    let ReasonedConclusion::Targets { boxes } = conclusion else { panic!("{conclusion:?}") };
    assert_eq!((boxes.len(), &reasons.candidates), (1, boxes), "it thinks of what it answers with");
    assert_eq!(reasons.tokens, 15);
    // Who wants no reasons gets none.
    let silent = listen(&pair, "b").await;
    pair.ask(&query("b", "red square")).await.unwrap();
    pair.ask(&why_query("a")).await.unwrap();
    let again = parts(&listening).await;
    assert_eq!(again[0].explanation, 1, "asked anew, explained anew");
    assert!(silent.try_recv().unwrap().is_none());
    pair.stop().await;
}

/// Setup: a drone that is asked for reasons. Fault: its model cannot give any, or it is not to give any.
/// Expected: it says which. Invariant: masks come as ever.
///
/// Promise: P12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_explained_is_answered_all_the_same() {
    let (_folder, source) = folder();
    let pair = Pair::with(source, limits(), |_| {}).await;
    let listening = listen(&pair, "a").await;
    pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 1).unwrap();
    let reply = pair.ask(&why_query("a")).await.unwrap();
    assert!(matches!(reply.outcome, Outcome::Segmented { .. }));
    assert_eq!(refused(&parts(&listening).await), Unexplained::NoGraph);
    pair.stop().await;

    let (_folder, source) = thinking(&FOUND);
    let pair = Pair::with(source, limits(), |config| config.explain = None).await;
    let listening = listen(&pair, "a").await;
    pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 1).unwrap();
    assert!(matches!(pair.ask(&why_query("a")).await.unwrap().outcome, Outcome::Segmented { .. }));
    assert_eq!(refused(&parts(&listening).await), Unexplained::Off);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_frame_there_is_nothing_to_explain() {
    let (_folder, source) = thinking(&FOUND);
    let limits = Limits { frame_timeout: Duration::from_millis(50), ..limits() };
    let pair = Pair::with(source, limits, |config| config.explain = Some(patient())).await;
    let listening = listen(&pair, "a").await;
    assert_eq!(verdict(&pair.ask(&why_query("a")).await.unwrap()), &Verdict::DeadlineMissed);
    let told = parts(&listening).await;
    assert_eq!((refused(&told), told.len()), (Unexplained::NoFrame, 1));
    pair.stop().await;
}

/// Setup: a query that waits for a frame. Fault: its id is asked anew. Expected: who asked first is told, and its explanation
/// has an end. Invariant: no question stays without a word.
///
/// Promise: P1, P12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_replaced_is_told() {
    let (_folder, source) = thinking(&FOUND);
    let pair = Pair::with(source, limits(), |config| config.explain = Some(patient())).await;
    let listening = listen(&pair, "a").await;
    let replaced = pair.get(pair.drone.query(), encode(&why_query("a")).unwrap()).await;
    let anew = pair.get(pair.drone.query(), encode(&query("a", "red square")).unwrap()).await;
    let error = first(&replaced).await.unwrap_err();
    assert!(error.starts_with("replaced: ") && error.contains("hint: "), "{error}");
    let told = parts(&listening).await;
    assert_eq!((refused(&told), told.len()), (Unexplained::NoFrame, 1));
    pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 1).unwrap();
    assert!(matches!(first(&anew).await.unwrap().outcome, Outcome::Segmented { .. }));
    pair.stop().await;
}

/// Setup: a thought that is longer than its deadline. Expected: it is cut short and says what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_explanation_that_takes_too_long_is_cut_short() {
    let (_folder, source) = thinking(&ENDLESS);
    let short = ExplainOptions { deadline: Duration::from_nanos(1), ..patient() };
    let pair = Pair::with(source, limits(), |config| config.explain = Some(short)).await;
    let listening = listen(&pair, "a").await;
    pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 1).unwrap();
    pair.ask(&why_query("a")).await.unwrap();
    let told = parts(&listening).await;
    match &told.last().unwrap().part {
        Part::CutShort { why, reasons } => {
            assert_eq!((*why, reasons.tokens), (CutShort::Deadline, 1), "after its first token");
        }
        // A machine that is too slow for that: the watch over explanations ends one that says nothing beyond its deadline.
        other => assert!(matches!(other, Part::Refused { why: Unexplained::EngineDegraded, .. }), "{other:?}"),
    }
    pair.stop().await;
}

/// Fault: the graph that explains gives numbers that are none. Expected: that is said, again and again, and masks come as
/// ever. Invariant: the engine that flies is not blamed for it (no refusal, no other engine).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_fails_to_explain_does_not_disturb_the_flight() {
    let (_folder, source) = thinking(&[("<think>", "red", 9.0), ("red", "<pad>", f32::NAN)]);
    let pair = Pair::with(source, limits(), |config| config.explain = Some(patient())).await;
    let listening = listen(&pair, "a").await;
    pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 1).unwrap();
    for _ in 0..2 {
        let reply = pair.ask(&why_query("a")).await.unwrap();
        assert!(matches!(reply.outcome, Outcome::Segmented { .. }), "{reply:?}");
        assert_eq!(refused(&parts(&listening).await), Unexplained::EngineDegraded);
    }
    let health = pair.node.health();
    assert_eq!((health.readiness, health.degraded, health.refused), (Readiness::Ready, Vec::new(), 0));
    pair.stop().await;
}

/// Holds runs of the graph that explains while it is told to.
#[derive(Default)]
struct Hold {
    held: Mutex<bool>,
    changed: Condvar,
}

impl Hold {
    fn set(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.changed.notify_all();
    }
}

struct Holding {
    inner: Box<dyn Engine>,
    hold: Arc<Hold>,
}

impl Engine for Holding {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn input_shapes(&self, graph: Graph) -> Result<Vec<Vec<usize>>, EngineError> {
        self.inner.input_shapes(graph)
    }

    fn run(&mut self, graph: Graph, inputs: &[Input<'_>], outputs: &mut [Tensor]) -> Result<(), EngineError> {
        if graph == Graph::Explain {
            let held = self.hold.held.lock().unwrap();
            drop(self.hold.changed.wait_while(held, |held| *held).unwrap());
        }
        self.inner.run(graph, inputs, outputs)
    }
}

/// Setup: an explanation that does not go on. Fault: others are asked for meanwhile. Expected: masks come, a further
/// explanation is refused as busy, and the first ends when it can. Invariant: each has exactly one end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masks_do_not_wait_for_reasons_and_there_is_one_explanation_at_a_time() {
    let (_folder, source) = thinking(&FOUND);
    let hold = Arc::new(Hold::default());
    let holding = Arc::clone(&hold);
    let opener = Opener::new(move |graphs, options| {
        let inner = engine::open(graphs, options)?;
        Ok(Box::new(Holding { inner, hold: Arc::clone(&holding) }) as Box<dyn Engine>)
    });
    let pair = Pair::with(source, limits(), |config| {
        config.explain = Some(patient());
        config.upkeep.opener = opener;
    })
    .await;
    let (first, second) = (listen(&pair, "a").await, listen(&pair, "b").await);
    pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 1).unwrap();
    // Its graphs are loaded once one explanation has come.
    pair.ask(&why_query("a")).await.unwrap();
    assert!(matches!(parts(&first).await.last().unwrap().part, Part::Complete { .. }));
    hold.set(true);
    for id in ["a", "b", "c"] {
        let asked = Query { explain: id != "c", ..query(id, "red square") };
        let reply = pair.ask(&asked).await.unwrap();
        assert!(matches!(reply.outcome, Outcome::Segmented { .. }), "{id}: {reply:?}");
    }
    let busy = parts(&second).await;
    assert_eq!((refused(&busy), busy.len()), (Unexplained::Busy, 1));
    hold.set(false);
    assert!(matches!(parts(&first).await.last().unwrap().part, Part::Complete { .. }));
    assert!(first.try_recv().unwrap().is_none() && second.try_recv().unwrap().is_none());
    pair.stop().await;
}
