//! From picture and words to masks and refusals.

use image::{Rgb, RgbImage};
use kestrel_link::{Outcome, Query, Refusal, Verdict};
use kestrel_onboard::bundle::seal;
use kestrel_onboard::engine::{EngineChoice, EngineError, EngineOptions, Provider};
use kestrel_onboard::pipeline::{SegmentError, Segmenter, SegmenterOptions, union};
use kestrel_perception::{Bitmap, Tiling};

use crate::red::{self, BLUE, RED, picture, query};

fn segmenter(tiling: Tiling) -> Segmenter {
    let folder = tempfile::tempdir().unwrap();
    let bundle = red::write(folder.path(), "1", None);
    Segmenter::open(&bundle, &red::tract(), red::options(tiling)).unwrap()
}

fn ask(segmenter: &mut Segmenter, picture: &RgbImage, text: &str) -> Outcome {
    segmenter.segment(picture, &query("q", text)).unwrap().outcome
}

fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Refused(Refusal { verdict, advice, .. }) => {
            assert!(!advice.is_empty(), "every refusal advises");
            verdict
        }
        Outcome::Segmented { masks } => panic!("expected a refusal, got {masks:?}"),
    }
}

fn square(picture: &RgbImage, x: u32, y: u32, side: u32) -> Bitmap {
    Bitmap::from_fn(picture.width(), picture.height(), |u, v| (x..x + side).contains(&u) && (y..y + side).contains(&v))
}

fn iou(outcome: &Outcome, truth: &Bitmap) -> f32 {
    union(outcome).unwrap().map_or(0.0, |mask| mask.iou(truth).unwrap())
}

#[test]
fn what_is_there_is_found_and_what_is_not_is_absent() {
    let mut segmenter = segmenter(Tiling::Never);
    let shown = picture(512, 512, &[(100, 200, 64, RED)]);
    let outcome = ask(&mut segmenter, &shown, "red square");
    assert!(iou(&outcome, &square(&shown, 100, 200, 64)) > 0.9, "{outcome:?}");
    assert_eq!(verdict(ask(&mut segmenter, &shown, "blue square")), Verdict::TargetAbsent);
    assert_eq!(verdict(ask(&mut segmenter, &shown, "green tree")), Verdict::TargetAbsent);
}

/// Setup: a model that knows its words. Fault: a question with one that is none.
/// Expected: a refusal that names it. Invariant: no mask for a question that was not understood.
///
/// Promise: P12
#[test]
fn a_word_without_sense_is_named() {
    let mut segmenter = segmenter(Tiling::Never);
    let shown = picture(512, 512, &[(100, 200, 64, RED)]);
    let verdict = verdict(ask(&mut segmenter, &shown, &format!("red {}", red::NONSENSE)));
    assert_eq!(verdict, Verdict::QueryNotUnderstood { word: Some(red::NONSENSE.into()) });
}

#[test]
fn a_small_target_of_a_large_frame_is_found_by_its_tile() {
    let shown = picture(1600, 1200, &[(1300, 900, 13, RED)]);
    let refused = verdict(ask(&mut segmenter(Tiling::Never), &shown, "red square"));
    assert!(matches!(refused, Verdict::TargetTooSmall | Verdict::TargetAbsent), "{refused:?}");
    let mut tiled = segmenter(Tiling::Auto);
    let answer = tiled.segment(&shown, &query("q", "red square")).unwrap();
    assert!(iou(&answer.outcome, &square(&shown, 1300, 900, 13)) > 0.5, "{:?}", answer.outcome);
    assert_eq!(answer.timings.runs, [5, 5, 5], "the whole and four tiles");
    // A tile has a left of its own, so it must not be asked for what is left.
    let answer = tiled.segment(&shown, &query("q", "red square on the left")).unwrap();
    assert_eq!(answer.timings.runs, [1, 1, 1]);
}

#[test]
fn tiles_draw_the_mask_again_and_only_where_it_is() {
    let (mut whole, mut tiled) = (segmenter(Tiling::Never), segmenter(Tiling::Auto));
    let (mut coarse, mut fine) = (0.0, 0.0);
    for (x, y) in [(200, 150), (205, 153), (211, 158), (216, 161), (222, 164)] {
        let shown = picture(1600, 1200, &[(x, y, 30, RED)]);
        let truth = square(&shown, x, y, 30);
        coarse += iou(&ask(&mut whole, &shown, "red square"), &truth);
        let answer = tiled.segment(&shown, &query("q", "red square")).unwrap();
        assert_eq!(answer.timings.runs, [2, 2, 2], "the whole and the one tile that holds it");
        fine += iou(&answer.outcome, &truth);
    }
    assert!(fine > coarse + 0.1, "sum over five places: coarse {coarse}, fine {fine}");
}

#[test]
fn two_small_targets_are_ambiguous_and_all_of_them_are_not() {
    let shown = picture(1600, 1200, &[(200, 150, 13, RED), (1300, 900, 13, RED)]);
    let mut segmenter = segmenter(Tiling::Auto);
    match verdict(ask(&mut segmenter, &shown, "red square")) {
        Verdict::TargetAmbiguous { candidates } => assert_eq!(candidates.len(), 2),
        other => panic!("expected candidates, got {other:?}"),
    }
    let outcome = ask(&mut segmenter, &shown, "red squares all");
    let mut truth = square(&shown, 200, 150, 13);
    truth.unite(&square(&shown, 1300, 900, 13)).unwrap();
    assert!(iou(&outcome, &truth) > 0.5, "{outcome:?}");
}

#[test]
fn a_frame_is_seen_once_for_all_its_queries() {
    let mut segmenter = segmenter(Tiling::Never);
    let shown = picture(512, 512, &[(10, 10, 64, RED), (300, 300, 64, BLUE)]);
    let mut look = segmenter.look(&shown).unwrap();
    let first = look.ask(&query("1", "red square")).unwrap();
    let second = look.ask(&query("2", "blue square")).unwrap();
    assert_eq!((first.timings.runs, second.timings.runs), ([1, 1, 1], [0, 1, 1]));
    assert!(iou(&first.outcome, &square(&shown, 10, 10, 64)) > 0.9);
    assert!(iou(&second.outcome, &square(&shown, 300, 300, 64)) > 0.9);
}

/// Setup: the gate that every drone has. Fault: the frame is dark. Expected: a refusal with advice.
/// Invariant: no graph runs on a frame that the gate refuses.
///
/// Promise: P4
#[test]
fn a_dark_frame_is_refused_before_any_network_runs() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = red::write(folder.path(), "1", None);
    let mut segmenter = Segmenter::open(&bundle, &red::tract(), SegmenterOptions::default()).unwrap();
    let dark = RgbImage::from_fn(640, 480, |x, y| Rgb([(x * y % 3) as u8; 3]));
    let answer = segmenter.segment(&dark, &query("q", "red square")).unwrap();
    assert_eq!(answer.timings.runs, [0, 0, 0]);
    assert!(answer.whole.is_none());
    verdict(answer.outcome);
}

#[test]
fn malformed_questions_and_frames_are_errors_with_hints() {
    let mut segmenter = segmenter(Tiling::Auto);
    let shown = picture(64, 64, &[]);
    let long = "a".repeat(10_000);
    for text in ["", "   ", "bell \u{7}", long.as_str()] {
        let error = segmenter.segment(&shown, &query("q", text)).unwrap_err();
        assert!(matches!(error, SegmentError::Query(_)), "{error}");
        assert!(!error.hint().is_empty());
    }
    let error = segmenter.segment(&RgbImage::new(0, 5), &query("q", "red")).unwrap_err();
    assert_eq!(error.to_string(), "frame: expected at least 1×1 pixels, got 0×5");
    // Nothing of that is left behind.
    let shown = picture(64, 64, &[(20, 20, 24, RED)]);
    assert!(matches!(ask(&mut segmenter, &shown, "red square"), Outcome::Segmented { .. }));
}

#[test]
fn odd_frames_are_answered() {
    let mut segmenter = segmenter(Tiling::Always);
    for (width, height) in [(1, 1), (1, 700), (2000, 2), (3, 3)] {
        let outcome = ask(&mut segmenter, &picture(width, height, &[]), "red square");
        verdict(outcome);
    }
}

#[test]
fn long_queries_are_cut_and_say_so() {
    let mut segmenter = segmenter(Tiling::Never);
    let text = "blue green tree ".repeat(30);
    let answer = segmenter.segment(&picture(64, 64, &[]), &query("q", text.trim())).unwrap();
    assert!(answer.words_cut > 0);
    let Outcome::Refused(refusal) = answer.outcome else { panic!("expected a refusal") };
    assert!(refusal.evidence.iter().any(|(name, value)| name == "tokens_cut" && *value > 0.0));
}

#[test]
fn a_graph_of_another_shape_than_the_manifest_says_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = red::write(folder.path(), "1", None).manifest;
    manifest.vocabulary = 600;
    let bundle = seal(folder.path(), manifest, None).unwrap();
    let error = Segmenter::open(&bundle, &red::tract(), red::options(Tiling::Never)).err().expect("it must not fly");
    assert!(matches!(&error, SegmentError::Shape { output: "logits", .. }), "{error}");
}

/// Promise: P6
#[test]
fn a_file_that_changed_since_the_bundle_was_opened_is_not_flown() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = red::write(folder.path(), "1", None);
    let path = folder.path().join("mask.onnx");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = Segmenter::open(&bundle, &red::tract(), red::options(Tiling::Never)).err().expect("it must not fly");
    assert!(error.to_string().contains("mask.onnx") && error.to_string().contains("SHA-256"), "{error}");
}

#[test]
fn both_engines_give_the_same_masks() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = red::write(folder.path(), "1", None);
    let options = EngineOptions { fetch: false, ..EngineOptions::of(EngineChoice::Ort(Provider::Cpu)) };
    let mut ort = match Segmenter::open(&bundle, &options, red::options(Tiling::Auto)) {
        Ok(ort) => ort,
        Err(SegmentError::Engine(error @ EngineError::NoLibrary { .. })) => return eprintln!("SKIPPED ort: {error}"),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(ort.engine(), "ort/cpu");
    let mut tract = Segmenter::open(&bundle, &red::tract(), red::options(Tiling::Auto)).unwrap();
    for index in 0..8_u32 {
        let (x, y) = (37 * index + 5, 61 * index + 9);
        let shown = picture(900, 700, &[(x, y, 20 + 5 * index, RED), (600, 30, 40, BLUE)]);
        let asked: [Query; 2] = [query("1", "red square"), query("2", "blue square")];
        for query in asked {
            let one = union(&ort.segment(&shown, &query).unwrap().outcome).unwrap().expect("a mask");
            let two = union(&tract.segment(&shown, &query).unwrap().outcome).unwrap().expect("a mask");
            assert!(one.iou(&two).unwrap() >= 0.99, "frame {index}, {}", query.text);
        }
    }
}
