//! Tests of the refusal policy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::bitmap::Bitmap;
use crate::postprocess;
use kestrel_link::Presence;
use proptest::prelude::*;

fn thresholds() -> Thresholds {
    Thresholds {
        model_hash: "0".repeat(64),
        presence: Presence { weights: [-1.0, 0.5, 0.5], bias: 0.0 },
        presence_threshold: 0.6,
        mask_threshold: 0.5,
        doubt_threshold: 0.7,
        min_area_pixels: 16,
        data: String::new(),
        seed: 0,
        date: String::new(),
    }
}

/// The model is sure of a mask.
fn sure() -> Observation {
    let answers = AnswerLogits { seg: 6.0, absent: 0.0, ambiguous: 0.0, not_understood: -2.0, unseeable: 0.0 };
    let doubts = vec![WordDoubt { word: "red".into(), logit: -5.0 }, WordDoubt { word: "car".into(), logit: -6.0 }];
    Observation { answers, object: 3.0, iou: 2.0, doubts, area_pixels: 400.0, candidates: Vec::new() }
}

fn verdict(observation: &Observation) -> Verdict {
    match decide(observation, &thresholds()) {
        Decision::Refuse(refusal) => {
            assert!(!refusal.advice.is_empty() && !refusal.evidence.is_empty());
            refusal.verdict
        }
        Decision::Segment { .. } => panic!("{observation:?} was segmented"),
    }
}

#[test]
fn a_sure_model_is_believed() {
    let Decision::Segment { presence, predicted_iou } = decide(&sure(), &thresholds()) else {
        panic!("a sure model was refused");
    };
    assert!(presence > 0.99 && (predicted_iou - 0.8808).abs() < 1e-3);
}

#[test]
fn presence_is_the_logistic_of_the_contract() {
    let answers = AnswerLogits { seg: 1.0, absent: 0.0, ambiguous: 0.0, not_understood: 0.0, unseeable: 0.0 };
    let silence = 4.0_f32.ln() - 1.0;
    let expected = 1.0 / (1.0 + (silence - 0.5 * 2.0 - 0.5 * 3.0).exp());
    assert!((presence(&answers, 2.0, 3.0, &thresholds()) - expected).abs() < 1e-6);
}

/// Promise: P12
#[test]
fn every_reason_is_reached() {
    let mut nonsense = sure();
    nonsense.doubts[0].logit = 3.0;
    assert_eq!(verdict(&nonsense), Verdict::QueryNotUnderstood { word: Some("red".into()) });
    let mut senseless = sure();
    senseless.answers.not_understood = 9.0;
    assert_eq!(verdict(&senseless), Verdict::QueryNotUnderstood { word: None });
    let mut small = sure();
    small.area_pixels = 15.0;
    assert_eq!(verdict(&small), Verdict::TargetTooSmall);

    let mut absent = sure();
    absent.answers.absent = 12.0;
    assert_eq!(verdict(&absent), Verdict::TargetAbsent);
    let mut unseeable = sure();
    unseeable.answers.unseeable = 12.0;
    assert_eq!(verdict(&unseeable), Verdict::TargetUnseeable);
    let mut ambiguous = sure();
    ambiguous.answers.ambiguous = 12.0;
    let pieces = Bitmap::from_fn(100, 4, |x, _| x % 10 < 5);
    ambiguous.candidates = postprocess::candidates(&pieces, 0.4, 0.5, 1).unwrap();
    ambiguous.candidates.extend(ambiguous.candidates.clone());
    let Verdict::TargetAmbiguous { candidates } = verdict(&ambiguous) else { panic!("not ambiguous") };
    assert_eq!(candidates.len(), 8);

    let mut unsure = sure();
    unsure.answers.seg = 1.2;
    unsure.object = -1.0;
    unsure.iou = 1.0;
    let p = presence(&unsure.answers, unsure.object, unsure.iou, &thresholds());
    assert!((0.3..0.6).contains(&p), "{p}");
    assert_eq!(verdict(&unsure), Verdict::LowConfidence);

    // Neither of the two is said of nothing.
    ambiguous.area_pixels = 0.0;
    assert_eq!(verdict(&ambiguous), Verdict::TargetAbsent);
    unsure.area_pixels = 0.0;
    assert_eq!(verdict(&unsure), Verdict::TargetAbsent);
}

#[test]
fn the_vocabulary_must_hold_the_answers() {
    let ids = AnswerTokens { seg: 2, absent: 3, ambiguous: 4, not_understood: 5, unseeable: 6, answer: 1, pad: 0 };
    let logits: Vec<f32> = (0_u8..7).map(f32::from).collect();
    assert_eq!(AnswerLogits::read(&logits, &ids).unwrap().unseeable, 6.0);
    assert!(AnswerLogits::read(&logits[..6], &ids).is_err());
}

fn numbers() -> impl Strategy<Value = [f32; 9]> {
    let number = prop_oneof![
        20 => -15.0_f32..15.0,
        1 => Just(f32::MAX),
        1 => Just(f32::MIN),
        1 => Just(f32::NAN),
        1 => Just(f32::INFINITY),
        1 => Just(f32::NEG_INFINITY),
    ];
    prop::array::uniform9(number)
}

fn observation([seg, absent, ambiguous, not_understood, unseeable, object, iou, doubt, area]: [f32; 9]) -> Observation {
    Observation {
        answers: AnswerLogits { seg, absent, ambiguous, not_understood, unseeable },
        object,
        iou,
        doubts: vec![WordDoubt { word: "x".into(), logit: doubt }, WordDoubt { word: "y".into(), logit: -1.0 }],
        area_pixels: area * 10.0,
        candidates: Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Promise: P13
    #[test]
    fn broken_numbers_are_never_segmented(values in numbers()) {
        let decision = decide(&observation(values), &thresholds());
        let broken = values.iter().any(|value| !value.is_finite());
        match decision {
            Decision::Segment { presence, predicted_iou } => {
                prop_assert!(!broken);
                prop_assert!((0.6..=1.0).contains(&presence) && (0.0..=1.0).contains(&predicted_iou));
            }
            Decision::Refuse(refusal) => {
                prop_assert!(refusal.evidence.iter().all(|(_, value)| value.is_finite()));
                if broken {
                    prop_assert_eq!(refusal.verdict, Verdict::EngineDegraded);
                }
            }
        }
    }

    /// Better evidence for the target never turns a mask into silence.
    #[test]
    fn more_presence_never_silences(values in prop::array::uniform9(-8.0_f32..8.0), more in 0.0_f32..5.0, which in 0_usize..3) {
        let weaker = observation(values);
        let mut stronger = weaker.clone();
        match which {
            0 => stronger.answers.seg += more,
            1 => stronger.object += more,
            _ => stronger.iou += more,
        }
        let limits = thresholds();
        let of = |o: &Observation| presence(&o.answers, o.object, o.iou, &limits);
        prop_assert!(of(&stronger) >= of(&weaker));
        if matches!(decide(&weaker, &limits), Decision::Segment { .. }) {
            let kept = matches!(decide(&stronger, &limits), Decision::Segment { .. });
            prop_assert!(kept);
        }
    }

    #[test]
    fn a_higher_bar_never_lets_more_through(values in prop::array::uniform9(-8.0_f32..8.0), bar in 0.0_f32..1.0, higher in 0.0_f32..1.0) {
        let (low, high) = (bar.min(higher), bar.max(higher));
        let at = |bar: f32| {
            let mut limits = thresholds();
            limits.presence_threshold = bar;
            matches!(decide(&observation(values), &limits), Decision::Segment { .. })
        };
        prop_assert!(at(low) || !at(high));
    }
}
