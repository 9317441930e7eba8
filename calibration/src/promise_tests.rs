#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use crate::resplit::resplits;
use crate::stratum;
use kestrel_training::metrics::{Kind, Swept};
use kestrel_training::sample::Stratum;
use proptest::prelude::*;
use rand::RngExt;

fn source(set: &str, real: bool) -> Source {
    let (limit, engine) = (Some(400), Some("tract".to_owned()));
    Source { set: set.to_owned(), seed: 1, limit, engine, real, gate: true, gate_table: None, sha256: "a".repeat(64) }
}

fn record(scene: usize, expected: Kind, stratum: Stratum, margin: f32) -> Record {
    let target = if expected == Kind::Mask { 2000 } else { 0 };
    Record {
        set: "scenes-tune".into(),
        scene: format!("scene {scene}"),
        frame: "0".into(),
        text: "the red car".into(),
        stratum,
        expected,
        weak: false,
        target,
        held_out_phrasing: false,
        slipped: false,
        degradation: None,
        given: Kind::Absent,
        predicted: 0,
        intersection: 0,
        presence: 0.5,
        features: [margin, 1.0, 1.0],
        doubt: -4.0,
        sweep: Vec::new(),
    }
}

/// A draw of the logistic distribution: P(X ≤ x) = sigmoid(x).
fn logistic(rng: &mut ChaCha8Rng) -> f32 {
    let u: f64 = rng.random_range(1e-9..1.0 - 1e-9);
    (u / (1.0 - u)).ln() as f32
}

/// Where the margins of absent targets lie; a question is shown below a margin m with probability sigmoid(m − ABSENT).
const ABSENT: f32 = 3.0;

/// Scenes with questions of three kinds that hang together: half of the scenes ask the same thing twice.
fn scenes(count: usize, seed: u64) -> Vec<Batch> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut records = Vec::new();
    for scene in 0..count {
        let shared = logistic(&mut rng);
        for stratum in [Stratum::AbsentCategory, Stratum::AbsentCategory, Stratum::AbsentColour, Stratum::WrongRelation]
        {
            let own = logistic(&mut rng);
            let margin = ABSENT + if scene % 2 == 0 { shared } else { own };
            records.push(record(scene, Kind::Absent, stratum, margin));
        }
        for _ in 0..3 {
            records.push(record(scene, Kind::Mask, Stratum::Colour, logistic(&mut rng) - 4.0));
        }
    }
    vec![(source("scenes-tune", false), records)]
}

/// The same as scenes of another set.
fn apart(mut batches: Vec<Batch>) -> Vec<Batch> {
    batches.iter_mut().flat_map(|batch| &mut batch.1).for_each(|record| record.set = "scenes-fit".into());
    batches
}

/// The risk that a threshold really has.
fn truth(found: &Calibrated) -> f64 {
    let [weight, object, iou, bias] = found.fitted.presence;
    let t = f64::from(found.threshold);
    let margin = ((t / (1.0 - t)).ln() - bias - object - iou) / weight;
    1.0 / (1.0 + (f64::from(ABSENT) - margin).exp())
}

fn asked(alpha: f64, delta: f64) -> Promise {
    Promise { alpha, delta, ..Promise::default() }
}

/// What would break: thresholds that promise more than they keep, on data whose true risk is known.
#[test]
fn the_promise_is_kept_in_all_but_delta_of_simulated_draws() {
    const TRIALS: usize = 80;
    let promise = asked(0.1, 0.1);
    let risks: Vec<f64> =
        (0..TRIALS).map(|trial| truth(&calibrate(&scenes(240, trial as u64), &[], &promise).unwrap())).collect();
    let broken = risks.iter().filter(|risk| **risk > promise.alpha).count() as f64 / TRIALS as f64;
    let slack = 3.0 * (promise.delta * (1.0 - promise.delta) / TRIALS as f64).sqrt();
    assert!(broken <= promise.delta + slack, "broken in {broken}");
    // Not by refusing everything.
    let mean = risks.iter().sum::<f64>() / TRIALS as f64;
    assert!(mean > promise.alpha / 5.0, "mean risk {mean}");
}

#[test]
fn re_splits_keep_what_is_promised_and_say_what_it_costs() {
    let (batches, promise) = (scenes(700, 5), asked(0.1, 0.05));
    let mut told = 0;
    let found = resplits(&batches, &[], &promise, 30, &mut |done| told = done).unwrap();
    assert_eq!((told, found.count, found.promised), (30, 30, 30));
    assert_eq!(found.strata.len(), 4, "three strata and their mixture: {:?}", found.strata.keys());
    for (name, kept) in &found.strata {
        assert!(kept.promised && kept.measured == 30 && kept.within >= 0.8, "{name}: {kept:?}");
        assert!(kept.mean <= promise.alpha && kept.mean <= kept.greatest, "{name}: {kept:?}");
    }
    assert!((0.0..0.2).contains(&found.false_refusals.unwrap()), "{found:?}");
    assert_eq!(found, resplits(&batches, &[], &promise, 30, &mut |_| ()).unwrap(), "a seed repeats them");
}

#[test]
fn more_is_asked_for_more() {
    let batches = scenes(600, 2);
    let threshold = |alpha: f64, delta: f64| calibrate(&batches, &[], &asked(alpha, delta)).unwrap().threshold;
    assert!(threshold(0.05, 0.1) > threshold(0.2, 0.1));
    assert!(threshold(0.1, 0.01) > threshold(0.1, 0.4));
    let found = calibrate(&batches, &[], &asked(0.1, 0.1)).unwrap();
    let worst = Promise { unit: Unit::Worst, ..asked(0.1, 0.1) };
    let scene_wise = calibrate(&batches, &[], &worst).unwrap();
    assert!(scene_wise.threshold > found.threshold, "a whole scene fails more often than one of its questions");
    // Costs fall as the risk rises, and the one asked for is among them.
    let costs: Vec<f64> = found.costs.iter().filter_map(|cost| cost.false_refusals).collect();
    assert!(costs.len() >= 4 && costs.windows(2).all(|pair| pair[1] <= pair[0]), "{:?}", found.costs);
    let own = found.costs.iter().find(|cost| cost.alpha == 0.1).unwrap();
    assert_eq!(own.threshold, Some(found.threshold));
    let curve = &found.measured.curve;
    assert!(curve.windows(2).all(|p| p[1].coverage >= p[0].coverage && p[1].risk >= p[0].risk - 1e-12));
}

#[test]
fn what_is_claimed_is_counted_by_scene() {
    let found = calibrate(&scenes(600, 3), &[], &asked(0.1, 0.1)).unwrap();
    let names: Vec<&str> = found.strata.iter().map(|claim| claim.name.as_str()).collect();
    assert_eq!(names, ["scenes: absent attribute", "scenes: absent category", "scenes: wrong relation"]);
    for claim in found.strata.iter().chain([&found.mixture]) {
        assert_eq!(claim.scenes, 400, "a third of the scenes fits: {claim:?}");
        assert!(claim.risk <= claim.upper && claim.upper <= 0.1 && claim.needed <= 400, "{claim:?}");
    }
    assert_eq!(found.strata[1].questions, 800);
    assert!(found.measured.calibration_error_after.unwrap() < found.measured.calibration_error_before.unwrap());
    assert!(found.affordable(&asked(0.1, 0.1)) == (found.measured.clear.unwrap().value <= 0.05));
    let thresholds = found.thresholds(&asked(0.1, 0.1), &"b".repeat(64), "2026-01-01").unwrap();
    assert!(thresholds.data.contains("at most 10.0 %") && thresholds.data.contains("wrong relation"), "{thresholds:?}");
}

#[test]
fn strata_follow_what_was_asked_and_how_the_view_is_spoilt() {
    let absent = record(0, Kind::Absent, Stratum::AbsentColour, 1.0);
    assert_eq!(stratum(&absent, false).as_deref(), Some("scenes: absent attribute"));
    assert_eq!(stratum(&absent, true).as_deref(), Some("real: absent attribute"));
    let hidden = Record { degradation: Some(("rain".into(), 0.8)), ..record(0, Kind::Unseeable, Stratum::Colour, 1.0) };
    assert_eq!(stratum(&hidden, false).as_deref(), Some("scenes: rain"));
    for shown in [Kind::Mask, Kind::Ambiguous, Kind::NotUnderstood] {
        assert_eq!(stratum(&record(0, shown, Stratum::Nonsense, 1.0), false), None);
    }
}

#[test]
fn what_never_reaches_the_threshold_is_not_shown() {
    let judge = Judge {
        presence: Presence { weights: [-1.0, 0.0, 0.0], bias: 0.0 },
        doubt_threshold: 0.9,
        mask_threshold: 0.3,
    };
    let sure = record(0, Kind::Absent, Stratum::AbsentCategory, -3.0);
    assert!(judge.score(&sure) > 0.9);
    let swept = |predicted| vec![Swept { threshold: 0.3, predicted, intersection: 0 }];
    assert!(judge.score(&Record { sweep: swept(8), ..sure.clone() }) > 0.9);
    for silent in [
        Record { sweep: swept(7), ..sure.clone() },
        Record { doubt: 3.0, ..sure.clone() },
        Record { features: [0.0; 3], ..sure.clone() },
        Record { features: [f32::NAN, 0.0, 0.0], ..sure.clone() },
        Record { given: Kind::NotUnderstood, ..sure },
    ] {
        assert_eq!(judge.score(&silent), f32::NEG_INFINITY, "{silent:?}");
    }
}

#[test]
fn too_few_scenes_promise_nothing_and_say_how_many_are_missing() {
    let error = calibrate(&scenes(60, 1), &[], &asked(0.05, 0.05)).unwrap_err();
    let CalibrationError::TooFewScenes { missing, .. } = &error else { panic!("{error}") };
    // Forty of sixty scenes bound; four bounds share δ.
    assert!(missing.len() == 3 && missing.iter().all(|m| m.got == 40 && m.needed == needed(0.05, 0.0125)), "{error}");
    assert!(error.to_string().contains("scenes: wrong relation: 40 scenes of at least 86, 46 missing"), "{error}");
    // One picture.
    let one = calibrate(&scenes(1, 1), &[], &asked(0.05, 0.05)).unwrap_err();
    assert!(matches!(one, CalibrationError::TooFewScenes { .. }), "{one}");
    // Nothing at all, and nothing left of it.
    assert!(matches!(calibrate(&[], &[], &asked(0.1, 0.1)), Err(CalibrationError::NothingToBound { .. })));
    let left_out = Promise { left_out: vec!["scenes".into()], ..asked(0.1, 0.1) };
    assert!(matches!(calibrate(&scenes(300, 1), &[], &left_out), Err(CalibrationError::NothingToBound { .. })));
}

#[test]
fn what_is_left_out_is_measured_and_not_promised() {
    let mut batches = scenes(600, 7);
    let few =
        (0..9).map(|i| Record { set: "nwpu-tune".into(), ..record(i, Kind::Absent, Stratum::AbsentCategory, 4.0) });
    batches.push((source("nwpu-tune", true), few.collect()));
    let error = calibrate(&batches, &[], &asked(0.1, 0.1)).unwrap_err().to_string();
    assert!(error.contains("real: absent category") && !error.contains("wrong relation"), "{error}");
    let promise = Promise { left_out: vec!["real".into()], ..asked(0.1, 0.1) };
    let found = calibrate(&batches, &[], &promise).unwrap();
    assert_eq!((found.strata.len(), found.reported.len()), (3, 1));
    assert!(found.reported[0].upper > 0.1 && !found.summary(&promise).contains("real"), "{:?}", found.reported);
}

#[test]
fn records_of_their_own_can_fit() {
    let (batches, others) = (scenes(300, 8), apart(scenes(200, 9)));
    let error = calibrate(&batches, &batches, &asked(0.1, 0.1)).unwrap_err();
    assert!(matches!(error, CalibrationError::SharedScene { .. }), "{error}");
    let found = calibrate(&batches, &others, &asked(0.1, 0.1)).unwrap();
    assert_eq!(found.mixture.scenes, 300, "no scene is spent on the fit");
}

#[test]
fn a_model_that_is_sure_of_what_is_not_there_gets_no_threshold() {
    let mut batches = scenes(600, 4);
    for record in batches[0].1.iter_mut().filter(|r| r.stratum == Stratum::WrongRelation) {
        record.features[0] = -40.0;
    }
    let error = calibrate(&batches, &apart(scenes(200, 9)), &asked(0.1, 0.1)).unwrap_err();
    let CalibrationError::NoThreshold { stratum, bound, .. } = &error else { panic!("{error}") };
    assert!(stratum == "scenes: wrong relation" && *bound > 0.9, "{error}");
}

/// What would break: a promise kept by silence that is said to cost nothing.
#[test]
fn a_half_that_stays_silent_refuses_every_clear_target() {
    let mut batches = scenes(600, 4);
    for record in batches[0].1.iter_mut().filter(|r| r.stratum == Stratum::WrongRelation) {
        record.features[0] = -40.0;
    }
    let found = resplits(&batches, &apart(scenes(200, 9)), &asked(0.1, 0.1), 3, &mut |_| ()).unwrap();
    assert_eq!((found.promised, found.false_refusals), (0, Some(1.0)));
}

/// What would break: a cost that nothing measured, taken for none.
#[test]
fn what_no_clear_target_shows_is_not_affordable() {
    let mut batches = scenes(300, 8);
    batches[0].1.retain(|record| record.expected != Kind::Mask);
    let promise = asked(0.1, 0.1);
    let found = calibrate(&batches, &apart(scenes(200, 9)), &promise).unwrap();
    assert!(found.measured.clear.is_none() && !found.affordable(&promise));
}

#[test]
fn sets_that_test_set_no_threshold() {
    for (set, seed, fine) in [
        ("scenes-test", 1, false),
        ("scenes", 1, false),
        ("nwpu-test", 1, false),
        ("nwpu-degraded", 1, false),
        ("desert", 1, false),
        ("scenes-degraded", 0, false),
        ("scenes-degraded", 40, false),
        ("scenes-degraded", 1, true),
        ("scenes-tune", 0, true),
    ] {
        let mut batches = scenes(600, 4);
        batches[0].0.seed = seed;
        batches[0].1.iter_mut().for_each(|record| record.set = set.into());
        let found = calibrate(&batches, &[], &asked(0.2, 0.2));
        assert_eq!(!matches!(found, Err(CalibrationError::TestSet { .. })), fine, "{set} {seed}");
    }
}

/// What would break: a stratum that is allowed more loosens the mixture too, or binds all the same.
#[test]
fn strata_may_be_allowed_more_than_their_mixture() {
    let promise = |stratum_alpha| Promise { stratum_alpha, ..asked(0.05, 0.1) };
    // One scene in ten also asks what the model is often sure of: rare in the mixture, a stratum that binds by itself.
    let mut batches = scenes(1500, 6);
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for scene in (0..1500).step_by(10) {
        let mut hard = record(scene, Kind::Absent, Stratum::AbsentCategory, ABSENT - 2.5 + logistic(&mut rng));
        hard.degradation = Some(("jpeg".into(), 0.5));
        batches[0].1.push(hard);
    }
    let found = |stratum_alpha| calibrate(&batches, &[], &promise(stratum_alpha)).unwrap();
    let (one, two) = (found(None), found(Some(0.3)));
    assert!(two.threshold < one.threshold, "{} {}", two.threshold, one.threshold);
    assert!(two.mixture.upper <= 0.05 && two.strata.iter().all(|claim| claim.upper <= 0.3), "{:?}", two.strata);
    assert!(two.strata.iter().any(|claim| claim.upper > 0.05), "{:?}", two.strata);
    assert!(two.mixture.needed > two.strata[0].needed);
    assert_eq!(found(Some(0.05)).threshold, one.threshold);
    let said = two.summary(&promise(Some(0.3)));
    assert!(said.contains("at most 5.0 %") && said.ends_with("at most 30.0 % in each of them"), "{said}");

    let again = resplits(&batches, &[], &promise(Some(0.3)), 10, &mut |_| ()).unwrap();
    let hard = again.strata["scenes: jpeg"];
    assert!(hard.mean > 0.05 && hard.within >= 0.8 && again.strata["mixture"].greatest < hard.greatest, "{again:?}");

    let below = calibrate(&batches, &[], &promise(Some(0.01))).unwrap_err();
    assert!(matches!(below, CalibrationError::StratumBelowMixture { .. }), "{below}");
    // The mixture wants scenes of its own when its strata are content with few.
    let few = calibrate(&scenes(30, 1), &[], &promise(Some(0.6))).unwrap_err();
    let CalibrationError::TooFewScenes { alpha, missing, .. } = &few else { panic!("{few}") };
    assert_eq!((*alpha, missing.len(), missing[0].stratum.as_str()), (0.05, 1, "mixture"));
}

#[test]
fn numbers_out_of_range_are_named() {
    for (promise, word) in [
        (asked(0.0, 0.1), "alpha"),
        (asked(1.0, 0.1), "alpha"),
        (asked(0.1, f64::NAN), "delta"),
        (Promise { stratum_alpha: Some(1.0), ..asked(0.1, 0.1) }, "stratum alpha"),
        (Promise { most_false_refusals: -0.1, ..asked(0.1, 0.1) }, "false refusals"),
    ] {
        let error = calibrate(&scenes(10, 1), &[], &promise).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("between 0 and 1"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// The order of records changes nothing but the last digits of the fit.
    #[test]
    fn the_order_of_records_does_not_matter(seed in 0u64..1000) {
        let batches = scenes(200, seed);
        let mut shuffled = batches.clone();
        shuffled[0].1.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let (a, b) = (calibrate(&batches, &[], &asked(0.2, 0.2)), calibrate(&shuffled, &[], &asked(0.2, 0.2)));
        let (a, b) = (a.unwrap(), b.unwrap());
        prop_assert!((a.threshold - b.threshold).abs() < 0.006, "{} {}", a.threshold, b.threshold);
        prop_assert_eq!(a.mixture.scenes, b.mixture.scenes);
    }
}
