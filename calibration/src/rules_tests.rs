#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use kestrel_training::metrics::Swept;
use kestrel_training::sample::Stratum;
use proptest::prelude::*;

fn record(set: &str, expected: Kind, features: [f32; 3], doubt: f32) -> Record {
    Record {
        set: set.into(),
        scene: "s".into(),
        frame: "f".into(),
        text: "the red car".into(),
        stratum: Stratum::Colour,
        expected,
        weak: false,
        target: if expected == Kind::Mask { 100 } else { 0 },
        held_out_phrasing: false,
        slipped: false,
        degradation: None,
        given: Kind::Mask,
        predicted: 0,
        intersection: 0,
        presence: 0.5,
        features,
        doubt,
        sweep: vec![],
    }
}

/// Present targets have a low none margin, absent ones a high one; `overlap` of them lie on the wrong side.
fn records(n: usize, overlap: usize) -> Vec<Record> {
    let mut all = Vec::new();
    for i in 0..n {
        let turn = if i < overlap { -1.0 } else { 1.0 };
        let jitter = (i % 10) as f32 * 0.1;
        all.push(record("scenes-tune", Kind::Mask, [turn * (-2.0 - jitter), 1.0, jitter], -4.0));
        all.push(record("scenes-tune", Kind::Absent, [turn * (2.0 + jitter), -1.0, jitter], -4.0));
        if i % 4 == 0 {
            all.push(record("scenes-tune", Kind::NotUnderstood, [1.0, 0.5, 0.1], 3.0));
        }
    }
    all
}

#[test]
fn clean_records_give_thresholds_that_the_drone_accepts() {
    let fitted = fit(&records(100, 0)).unwrap();
    assert!(fitted.false_refusals.value <= 0.12 && fitted.passes.value >= 0.9, "{fitted:?}");
    assert!(fitted.passes.low < fitted.passes.value, "a bound, not a promise");
    assert_eq!(fitted.nonsense_found.value, 1.0);
    let thresholds = fitted.thresholds(&"a".repeat(64), 0, "2026-01-01").unwrap();
    assert!(thresholds.data.contains("scenes-tune"));
    assert!(fitted.thresholds("nonsense", 0, "2026-01-01").is_err());
}

#[test]
fn enough_passes_leave_room_for_more_answers() {
    // With no overlap the lowest sufficient threshold refuses nothing present.
    assert_eq!(fit(&records(200, 0)).unwrap().false_refusals.value, 0.0);
    let strict = Rules { enough_passes: 1.0, ..Rules::default() };
    let fitted = fit_with(&records(200, 40), &strict).unwrap();
    assert!(fitted.false_refusals.value <= strict.false_refusals + 1e-9, "the bound comes first: {fitted:?}");
}

#[test]
fn hidden_targets_can_be_kept_from_moving_the_threshold() {
    let mut all = records(100, 10);
    // Degraded views on which presence is low although something is there.
    all.extend((0..100).map(|i| Record {
        degradation: Some(("noise".into(), 0.9)),
        ..record("scenes-degraded", Kind::Mask, [1.5 + (i % 7) as f32 * 0.1, -0.8, 0.1], -4.0)
    }));
    let strict = Rules { enough_passes: 1.0, false_refusals: 0.1, ..Rules::default() };
    let everywhere = fit_with(&all, &strict).unwrap();
    let clear = fit_with(&all, &Rules { clear_views_only: true, ..strict }).unwrap();
    assert_eq!(everywhere.presence, clear.presence);
    assert!(clear.presence_threshold > everywhere.presence_threshold, "{everywhere:?} {clear:?}");
    assert!(clear.passes.value >= everywhere.passes.value && clear.false_refusals.value > 0.1);
}

#[test]
fn too_few_and_forbidden_records_are_refused() {
    assert!(matches!(fit(&records(10, 0)), Err(CalibrationError::TooFew { .. })));
    for set in ["nwpu-test", "nwpu-degraded", "scenes", "desert"] {
        let mut all = records(100, 0);
        all.push(record(set, Kind::Mask, [1.0; 3], -4.0));
        assert!(matches!(fit(&all), Err(CalibrationError::TestSet { .. })), "{set}");
    }
}

#[test]
fn frames_that_reached_no_network_are_left_out() {
    let mut all = records(100, 0);
    let before = fit(&all).unwrap();
    all.extend((0..500).map(|_| record("scenes-tune", Kind::Mask, [0.0; 3], -30.0)));
    assert_eq!(fit(&all).unwrap().presence, before.presence);
}

#[test]
fn the_mask_threshold_follows_the_sweep() {
    let mut all = records(60, 0);
    for record in all.iter_mut().filter(|r| r.expected == Kind::Mask) {
        record.sweep = [(0.3, 200, 100), (0.4, 110, 100), (0.5, 60, 60)]
            .map(|(threshold, predicted, intersection)| Swept { threshold, predicted, intersection })
            .to_vec();
    }
    assert_eq!(fit(&all).unwrap().mask_threshold, 0.4);
    assert_eq!(fit(&records(60, 0)).unwrap().mask_threshold, 0.5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn the_bound_on_false_refusals_holds_on_the_records(overlap in 0usize..100, limit in 0.02f64..0.4) {
        let rules = Rules { false_refusals: limit, ..Rules::default() };
        let fitted = fit_with(&records(100, overlap), &rules).unwrap();
        prop_assert!(fitted.false_refusals.value <= limit + 1e-9, "{fitted:?}");
        prop_assert!((0.0..=1.0).contains(&fitted.presence_threshold));
    }
}
