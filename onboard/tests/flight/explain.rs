//! Answers with reasons, by a graph in which each token follows from the one before it.

use image::{Rgb, RgbImage};
use kestrel_link::Verdict;
use kestrel_onboard::engine::EngineError;
use kestrel_onboard::pipeline::{Concluded, Explanation, SegmentError, Segmenter, SegmenterOptions};
use kestrel_perception::{Bitmap, Limits, Tiling};

use crate::red::{self, RED, picture, query};

/// Thinks of something red in a box, and answers with the same box.
pub(crate) const FOUND: [(&str, &str, f32); 9] = [
    ("<think>", "red", 9.0),
    ("red", "<box>", 9.0),
    ("<box>", "<loc_16>", 9.0),
    ("<loc_16>", "<loc_32>", 9.0),
    ("<loc_32>", "<loc_48>", 9.0),
    ("<loc_48>", "<loc_56>", 9.0),
    ("<loc_56>", "</think>", 9.0),
    ("<answer>", "<box>", 9.0),
    ("[SEG]", "</answer>", 9.0),
];

/// Never ends a thought by itself.
pub(crate) const ENDLESS: [(&str, &str, f32); 3] =
    [("<think>", "red", 9.0), ("red", "red", 9.0), ("<answer>", "<none:absent>", 9.0)];

fn thinking(next: &[(&str, &str, f32)], options: SegmenterOptions) -> Segmenter {
    let folder = tempfile::tempdir().unwrap();
    let bundle = red::write_thinking(folder.path(), next);
    Segmenter::open(&bundle, &red::tract(), SegmenterOptions { explain: true, ..options }).unwrap()
}

fn ungated(next: &[(&str, &str, f32)]) -> Segmenter {
    thinking(next, red::options(Tiling::Never))
}

fn explain(segmenter: &mut Segmenter, limits: Limits) -> Explanation {
    let shown = picture(64, 64, &[(20, 20, 24, RED)]);
    let mut look = segmenter.look(&shown).unwrap();
    look.explain(&query("q", "red square"), limits, &mut |_, _| true).unwrap()
}

fn verdict(explanation: &Explanation) -> &Verdict {
    match &explanation.conclusion {
        Concluded::Refused(refusal) => {
            assert!(!refusal.advice.is_empty(), "every refusal advises");
            &refusal.verdict
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_thought_is_told_as_it_is_written_and_boxes_are_those_of_the_frame() {
    let shown = picture(640, 320, &[(300, 100, 64, RED)]);
    let mut segmenter = ungated(&FOUND);
    let mut look = segmenter.look(&shown).unwrap();
    let (mut heard, mut ids) = (String::new(), Vec::new());
    let mut listen = |id: u32, text: &str| {
        ids.push(id);
        heard.push_str(text);
        true
    };
    let explanation = look.explain(&query("q", "red square"), Limits::default(), &mut listen).unwrap();
    let Concluded::Boxes(boxes) = &explanation.conclusion else { panic!("{explanation:?}") };
    // The frame is half as high as wide, so that a quarter of the view above it and another below are grey.
    let expected: [f32; 4] = [16.5 / 64.0, (32.5 / 64.0 - 0.25) * 2.0, 48.5 / 64.0, 1.0];
    assert_eq!(boxes.len(), 1);
    assert!(boxes[0].iter().zip(expected).all(|(got, edge)| (got - edge).abs() < 1e-5), "{boxes:?}");

    let written = explanation.written.unwrap();
    assert_eq!(written.thought, " red<box><loc_16><loc_32><loc_48><loc_56>");
    assert!(heard.starts_with(&written.thought) && heard.ends_with("[SEG]</answer>"), "{heard}");
    assert_eq!((written.ids.len(), &written.ids), (15, &ids));
    // The `[SEG]` shows what the box is around.
    let red = Bitmap::from_fn(640, 320, |x, y| (300..364).contains(&x) && (100..164).contains(&y));
    assert_eq!(explanation.masks.len(), 1);
    assert!(explanation.masks[0].iou(&red).unwrap() > 0.5);
    // Picture and vision are shared with the fast path.
    assert_eq!(explanation.timings.runs, [1, 0, 1]);
    assert_eq!(look.ask(&query("q", "red square")).unwrap().timings.runs, [0, 1, 1]);
}

#[test]
fn a_refusal_has_its_reason() {
    let reasons = [
        ("<none:absent>", Verdict::TargetAbsent),
        ("<none:ambiguous>", Verdict::TargetAmbiguous { candidates: vec![] }),
        ("<none:not_understood>", Verdict::QueryNotUnderstood { word: None }),
        ("<none:unseeable>", Verdict::TargetUnseeable),
    ];
    for (token, expected) in reasons {
        let mut segmenter = ungated(&[("<think>", "</think>", 9.0), ("<answer>", token, 9.0)]);
        let explanation = explain(&mut segmenter, Limits::default());
        assert_eq!(verdict(&explanation), &expected);
        assert_eq!(explanation.written.unwrap().thought, "");
    }
}

/// What would break: an answer that is cut in the middle, or that never ends.
#[test]
fn limits_end_a_thought_and_leave_the_answer_whole() {
    let mut segmenter = ungated(&ENDLESS);
    let tight = Limits { thought: 50, targets: 1, tokens: 12 };
    for (limits, thought) in [(Limits::roomy(5, 1), 5), (tight, 3), (Limits::roomy(0, 1), 0)] {
        let explanation = explain(&mut segmenter, limits);
        assert_eq!(verdict(&explanation), &Verdict::TargetAbsent);
        assert_eq!(explanation.written.unwrap().thought, " red".repeat(thought));
    }
    // The room of the graph is a limit too.
    let explanation = explain(&mut segmenter, Limits::roomy(10_000, 1));
    assert_eq!(verdict(&explanation), &Verdict::TargetAbsent);
    let tokens = explanation.written.unwrap().ids.len();
    assert!((red::ROOM..red::ROOM + 48).contains(&tokens), "{tokens}");
}

#[test]
fn who_listens_may_stop_it() {
    let mut segmenter = ungated(&ENDLESS);
    let shown = picture(64, 64, &[]);
    let mut look = segmenter.look(&shown).unwrap();
    let mut count = 0;
    let mut third = |_: u32, _: &str| {
        count += 1;
        count < 3
    };
    let stopped = look.explain(&query("q", "red square"), Limits::default(), &mut third).unwrap();
    assert_eq!(stopped.conclusion, Concluded::Stopped);
    assert_eq!(stopped.written.unwrap().thought, " red red red");
    let whole = look.explain(&query("q", "red square"), Limits::default(), &mut |_, _| true).unwrap();
    assert_eq!(verdict(&whole), &Verdict::TargetAbsent, "and nothing of it stays");
}

/// Setup: a model that thinks. Fault: the frame is dark. Expected: the gate's refusal, and no word of a thought.
/// Invariant: no graph runs on a frame that the gate refuses.
///
/// Promise: P4
#[test]
fn the_gate_refuses_before_any_reason() {
    let mut segmenter = thinking(&FOUND, SegmenterOptions::default());
    let dark = RgbImage::from_fn(640, 480, |x, y| Rgb([(x * y % 3) as u8; 3]));
    let mut look = segmenter.look_still(&dark).unwrap();
    let mut silent = |_: u32, text: &str| -> bool { panic!("nothing should be said, got {text:?}") };
    let explanation = look.explain(&query("q", "red square"), Limits::default(), &mut silent).unwrap();
    verdict(&explanation);
    assert!(explanation.written.is_none());
    assert_eq!(explanation.timings.runs, [0, 0, 0]);
}

#[test]
fn numbers_that_are_none_are_a_refusal_and_no_guess() {
    let mut segmenter = ungated(&[("<think>", "red", 9.0), ("red", "<pad>", f32::NAN)]);
    let explanation = explain(&mut segmenter, Limits::default());
    assert_eq!(verdict(&explanation), &Verdict::EngineDegraded);
    assert!(explanation.written.is_none());
}

#[test]
fn a_bundle_without_the_graph_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = red::write(folder.path(), "1", None);
    let wanted = SegmenterOptions { explain: true, ..red::options(Tiling::Never) };
    let error = Segmenter::open(&bundle, &red::tract(), wanted).err().expect("it has no reasons");
    assert!(matches!(error, SegmentError::NoReasons { .. }), "{error}");
    assert!(error.to_string().contains("explain.onnx") && error.hint().contains("ground export"), "{error}");

    let mut segmenter = Segmenter::open(&bundle, &red::tract(), red::options(Tiling::Never)).unwrap();
    let shown = picture(64, 64, &[]);
    let mut look = segmenter.look(&shown).unwrap();
    let error = look.explain(&query("q", "red square"), Limits::default(), &mut |_, _| true).unwrap_err();
    assert!(matches!(error, SegmentError::Engine(EngineError::Missing { .. })), "{error}");
    assert!(error.hint().contains("--explain"));
}
