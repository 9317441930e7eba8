#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::bundle::fixture;
use image::RgbImage;

const SECOND: Duration = Duration::from_secs(1);

fn query(id: &str) -> Query {
    Query { explain: true, ..Query::new(id, "the car") }
}

fn frame() -> Arc<Frame> {
    let (image, admitted, capture_unix_nanos) = (RgbImage::new(4, 3), Instant::now(), 5);
    let steady_nanos = capture_unix_nanos;
    Arc::new(Frame { number: 7, image, capture_unix_nanos, doubt: None, steady_nanos, pose: None, admitted })
}

/// A meeting place for a bundle that can explain, as its manifest says.
fn explaining() -> Explaining {
    let folder = tempfile::tempdir().unwrap();
    let mut bundle = fixture::bundle(folder.path(), "1");
    let file = bundle.manifest.files["mask.onnx"].clone();
    bundle.manifest.files.insert(EXPLAIN_FILE.to_owned(), file);
    let explaining = Explaining::new(Some(ExplainOptions::default()), &bundle);
    assert!(matches!(explaining.next(), Some(Task::Load(_))));
    explaining
}

fn taken(explaining: &Explaining) -> Order {
    match explaining.next() {
        Some(Task::Explain(order)) => order,
        _ => panic!("expected an order"),
    }
}

fn first(number: u64) -> ExplanationPart {
    ExplanationPart {
        drone: "d".into(),
        query_id: "a".into(),
        explanation: number,
        sequence: 0,
        frame: 7,
        frame_width: 4,
        frame_height: 3,
        model: String::new(),
        engine: String::new(),
        part: Part::Piece { text: String::new() },
    }
}

/// What would break: memory, and patience, when everybody asks for reasons at once.
#[test]
fn there_is_one_explanation_at_a_time_and_none_waits_behind_it() {
    let (explaining, frame, now) = (explaining(), frame(), Instant::now());
    assert_eq!(explaining.order(&query("a"), &frame, now), Ok(()));
    assert_eq!(explaining.order(&query("b"), &frame, now), Err((1, Unexplained::Busy)), "one waits to be begun");
    let order = taken(&explaining);
    assert_eq!((order.number, order.query.id.as_str()), (0, "a"));
    assert_eq!(explaining.order(&query("c"), &frame, now), Err((2, Unexplained::Busy)), "one is being written");
    explaining.begin(first(0), now + SECOND);
    assert!(explaining.late(now + SECOND).is_some());
    assert_eq!(explaining.order(&query("d"), &frame, now), Err((3, Unexplained::Busy)), "its engine is still at work");
    // Nothing waits, so that this comes back only when it is stopped.
    explaining.stop(Duration::ZERO);
    assert!(explaining.next().is_none());
    assert_eq!(explaining.order(&query("e"), &frame, now), Err((4, Unexplained::Stopping)));
}

#[test]
fn an_explanation_has_exactly_one_end() {
    let (explaining, frame, now) = (explaining(), frame(), Instant::now());
    explaining.order(&query("a"), &frame, now).unwrap();
    let order = taken(&explaining);
    explaining.begin(first(order.number), now + SECOND);
    let pieces = ["see", " a car"].map(|text| explaining.piece(text.to_owned()).unwrap());
    assert_eq!(pieces.map(|piece| piece.sequence), [0, 1]);
    assert!(explaining.late(now + SECOND / 2).is_none());
    let Some(Late::Open(end)) = explaining.late(now + SECOND) else { panic!("expected an end") };
    assert_eq!((end.sequence, end.part), (2, refusal(Unexplained::EngineDegraded)));
    assert!(explaining.piece("so".into()).is_none(), "an engine that answers after all says nothing more");
    assert!(explaining.end(refusal(Unexplained::Busy)).is_none());
    assert!(explaining.late(now + 9 * SECOND).is_none());
}

/// What would break: an operator who waits for the end of an explanation whose drone has stopped while its engine hung, or
/// while it was still being loaded.
#[test]
fn a_thread_that_is_left_behind_leaves_no_explanation_without_an_end() {
    let (explaining, frame, now) = (explaining(), frame(), Instant::now());
    explaining.order(&query("a"), &frame, now).unwrap();
    let order = taken(&explaining);
    explaining.begin(first(order.number), now + SECOND);
    explaining.piece("see".into()).unwrap();
    explaining.stop(Duration::ZERO);
    let (order, end) = explaining.abandon();
    let end = end.unwrap();
    assert_eq!((order.is_none(), end.sequence, end.part), (true, 1, refusal(Unexplained::Stopping)));
    assert!(explaining.end(refusal(Unexplained::Busy)).is_none(), "it has its end");

    let loading = self::explaining();
    loading.order(&query("b"), &frame, now).unwrap();
    loading.stop(Duration::ZERO);
    let (order, end) = loading.abandon();
    assert_eq!((order.unwrap().query.id.as_str(), end.is_none()), ("b", true));
    assert!(loading.left().is_none());
}

#[test]
fn who_waits_for_an_engine_that_does_not_load_is_told() {
    let (explaining, frame, now) = (explaining(), frame(), Instant::now());
    explaining.order(&query("a"), &frame, now).unwrap();
    assert!(explaining.late(now + SECOND).is_none());
    assert!(matches!(explaining.late(now + 8 * SECOND), Some(Late::Order(_))));
    assert_eq!(explaining.order(&query("b"), &frame, now), Ok(()), "there is room again");
}

#[test]
fn what_cannot_be_explained_is_refused_for_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = fixture::bundle(folder.path(), "1");
    let refused = |explaining: &Explaining| explaining.order(&query("a"), &frame(), Instant::now()).unwrap_err().1;
    assert_eq!(refused(&Explaining::new(None, &bundle)), Unexplained::Off);
    assert_eq!(refused(&Explaining::new(Some(ExplainOptions::default()), &bundle)), Unexplained::NoGraph);
    let orphaned = explaining();
    orphaned.order(&query("a"), &frame(), Instant::now()).unwrap();
    assert_eq!(orphaned.left().unwrap().query.id, "a", "what is left is given back");
    orphaned.ended();
    assert_eq!(refused(&orphaned), Unexplained::EngineDegraded, "its thread is no more");
}
