//! What positional rewards and the coherence of places hold for any input.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

const SQUARE: [u32; 2] = [100, 100];

fn extent(size: [u32; 2]) -> Extent {
    Extent::try_from(size).unwrap()
}

/// A box of a tenth of the picture around a centre.
fn at(x: f32, y: f32) -> Edges {
    [x - 0.05, y - 0.05, x + 0.05, y + 0.05]
}

fn score(predicted: Edges, truth: Edges, size: [u32; 2], reach: Reach) -> f64 {
    positional(Some(&predicted), &truth, extent(size), reach).unwrap()
}

fn rollout(edges: Option<Edges>, iou: f64, advantage: f64) -> Rollout {
    Rollout { edges, iou, advantage }
}

#[test]
fn reward_falls_with_the_distance_in_pixels() {
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-5, "{a} is not {b}");
    near(score(at(0.5, 0.5), at(0.5, 0.5), SQUARE, Reach::Diagonal), 1.0);
    // 0.1 of the width is 10 px; the reach is a tenth of 141.4 px.
    near(score(at(0.6, 0.5), at(0.5, 0.5), SQUARE, Reach::Diagonal), (-10.0_f64 / 14.14214).exp());
    // In a picture of 300 × 400 px the same tenth is 30 px to the side and 40 px down, of a diagonal of 500 px.
    near(score(at(0.6, 0.5), at(0.5, 0.5), [300, 400], Reach::Diagonal), (-30.0_f64 / 50.0).exp());
    near(score(at(0.5, 0.6), at(0.5, 0.5), [300, 400], Reach::Diagonal), (-40.0_f64 / 50.0).exp());
    assert_eq!(positional(None, &at(0.5, 0.5), extent(SQUARE), Reach::Diagonal), Ok(0.0));
}

#[test]
fn a_large_thing_may_be_missed_by_more() {
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-5, "{a} is not {b}");
    // 40 × 40 px reach 80 px, 10 × 10 px reach 20 px, and a dot reaches 0.05 of the diagonal.
    near(score(at(0.6, 0.5), [0.3, 0.3, 0.7, 0.7], SQUARE, Reach::SizeAware), (-10.0_f64 / 80.0).exp());
    near(score(at(0.6, 0.5), at(0.5, 0.5), SQUARE, Reach::SizeAware), (-10.0_f64 / 20.0).exp());
    near(score(at(0.6, 0.5), [0.5; 4], SQUARE, Reach::SizeAware), (-10.0_f64 / 7.07107).exp());
}

#[test]
fn position_counts_less_as_training_goes_on() {
    let weights = Weights::default();
    let near_miss = |progress| weights.total(1.0, 0.0, 1.0, progress);
    assert_eq!([0.0, 0.5, 1.0].map(near_miss), [1.0, 0.8, 0.6]);
    assert_eq!([f64::NAN, -3.0, 7.0].map(near_miss), [1.0, 1.0, 0.6]);
    assert_eq!(weights.total(1.0, 1.0, 1.0, 0.0), 2.0);
}

#[test]
fn incoherence_is_the_deviation_of_the_centres() {
    let boxes = [Some(at(0.4, 0.5)), Some(at(0.6, 0.5)), None, Some([f32::NAN; 4])];
    let s = incoherence(&boxes, extent(SQUARE)).unwrap();
    assert!((s - 10.0 / 141.42136).abs() < 1e-6, "{s}");
    assert_eq!(incoherence(&boxes[1..], extent(SQUARE)), None);
    let coherence = Coherence::default();
    assert_eq!((coherence.weight(0.0), coherence.weight(f64::INFINITY)), (1.0, 0.5));
    assert!((coherence.weight(0.05) - (0.5 + 0.5 / std::f64::consts::E)).abs() < 1e-12);
}

#[test]
fn a_group_that_disagrees_moves_the_policy_less() {
    let apart = [rollout(Some(at(0.1, 0.1)), 0.0, -1.0), rollout(Some(at(0.9, 0.9)), 0.8, 1.0)];
    let (advantages, mean) = Coherence::default().scale(&apart, extent(SQUARE));
    assert!(mean < 0.51 && advantages == [-mean, mean], "{advantages:?} {mean}");
    let alone = [rollout(Some(at(0.1, 0.1)), 0.0, 2.0), rollout(None, 0.0, -2.0)];
    assert_eq!(Coherence::default().scale(&alone, extent(SQUARE)), (vec![2.0, -2.0], 1.0));
    assert_eq!(Coherence::default().scale(&[], extent(SQUARE)), (vec![], 0.0));
}

#[test]
fn an_outlier_that_is_right_is_never_damped() {
    let by_rollout = Coherence { scaled: Scaled::Rollout, ..Coherence::default() };
    let crowd = at(0.1, 0.1);
    let group = [
        rollout(Some(crowd), 0.1, 1.0),
        rollout(Some(crowd), 0.1, -1.0),
        rollout(Some(crowd), 0.1, 1.0),
        rollout(Some(at(0.9, 0.9)), 0.8, 1.0),
        rollout(Some(at(0.9, 0.9)), 0.2, 1.0),
        rollout(Some(at(0.9, 0.9)), 0.2, -1.0),
        rollout(None, 0.0, 1.0),
    ];
    let weights = by_rollout.weights(&group[..5], extent(SQUARE));
    assert_eq!(weights[..4], [1.0; 4]);
    assert!(weights[4] < 0.51, "{weights:?}");
    assert_eq!(by_rollout.weights(&group, extent(SQUARE))[5..], [1.0; 2]);
}

#[test]
fn what_is_no_place_is_not_scored() {
    let broken = [f32::NAN, 0.0, 1.0, 1.0];
    let whole = [0.0, 0.0, 1.0, 1.0];
    let scored = |predicted, truth| positional(Some(predicted), truth, extent(SQUARE), Reach::SizeAware);
    assert_eq!(scored(&broken, &whole), Err(Unscorable::NotFinite { side: "answer" }));
    assert_eq!(scored(&whole, &broken), Err(Unscorable::NotFinite { side: "truth" }));
    assert!(scored(&[f32::MAX; 4], &[f32::MIN; 4]).unwrap() >= 0.0);
    assert_eq!(Extent::try_from([0, 4]), Err(Unscorable::NoPicture { width: 0, height: 4 }));
}

#[test]
fn a_mask_is_where_its_cells_are() {
    let mut cells = vec![0.0; 16];
    assert_eq!(centre_of_mass(&cells, 0.5), None);
    assert_eq!(centre_of_mass(&[], 0.5), None);
    (cells[5], cells[6], cells[9], cells[10]) = (0.9, 0.9, 0.9, 0.9);
    assert_eq!(centre_of_mass(&cells, 0.5), Some([0.5; 4]));
    cells[15] = 0.4;
    assert_eq!(centre_of_mass(&cells, 0.5), Some([0.5; 4]));
    assert_eq!(centre_of_mass(&cells[..4], -1.0), Some([0.5; 4]));
}

#[test]
fn recipes_name_what_they_want() {
    let coherence: Coherence = toml::from_str("scaled = \"rollout\"\nleast = 0.25").unwrap();
    assert_eq!(coherence, Coherence { scaled: Scaled::Rollout, least: 0.25, tolerance: 0.05 });
    assert!(toml::from_str::<Weights>("positon = 0.5").is_err());
}

fn edges() -> impl Strategy<Value = Edges> {
    (0.0f32..1.0, 0.0f32..1.0).prop_map(|(x, y)| at(x, y))
}

fn any_edges() -> impl Strategy<Value = Option<Edges>> {
    proptest::option::of(proptest::array::uniform4(proptest::num::f32::ANY))
}

proptest! {
    #[test]
    fn moving_away_never_raises(
        truth in edges(), x in -1.0f32..1.0, y in -1.0f32..1.0,
        size in [1u32..5000, 1u32..5000], aware in any::<bool>(),
    ) {
        let reach = if aware { Reach::SizeAware } else { Reach::Diagonal };
        let moved = |by: f32| [truth[0] + by * x, truth[1] + by * y, truth[2] + by * x, truth[3] + by * y];
        let scores = [0.0, 0.25, 0.5, 1.0, 2.0].map(|by| score(moved(by), truth, size, reach));
        prop_assert!((scores[0] - 1.0).abs() < 1e-12);
        prop_assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
        // Rounding of f32 edges moves a centre by a part in a million.
        prop_assert!(scores.windows(2).all(|pair| pair[1] <= pair[0] + 1e-4), "{:?}", scores);
    }

    #[test]
    fn distance_has_no_direction(a in edges(), b in edges(), size in [1u32..5000, 1u32..5000]) {
        let (one, two) = (score(a, b, size, Reach::Diagonal), score(b, a, size, Reach::Diagonal));
        prop_assert!((one - two).abs() < 1e-9);
    }

    #[test]
    fn weights_stay_between_the_least_and_one(
        group in proptest::collection::vec((any_edges(), 0.0f64..1.0, -3.0f64..3.0), 0..9),
        least in 0.0f64..=1.0, by_rollout in any::<bool>(),
    ) {
        let scaled = if by_rollout { Scaled::Rollout } else { Scaled::Group };
        let coherence = Coherence { scaled, least, ..Coherence::default() };
        let group: Vec<Rollout> = group.into_iter().map(|(edges, iou, a)| rollout(edges, iou, a)).collect();
        let weights = coherence.weights(&group, extent([640, 480]));
        prop_assert_eq!(weights.len(), group.len());
        prop_assert!(weights.iter().all(|weight| (least..=1.0).contains(weight)), "{:?}", weights);
        let (advantages, _) = coherence.scale(&group, extent([640, 480]));
        for (scaled, rollout) in advantages.iter().zip(&group) {
            prop_assert!(scaled.abs() <= rollout.advantage.abs());
            prop_assert!(*scaled == 0.0 || scaled.signum() == rollout.advantage.signum());
            prop_assert!(!by_rollout || rollout.iou < RIGHT || *scaled == rollout.advantage);
        }
    }

    #[test]
    fn spreading_a_group_never_makes_it_more_coherent(group in proptest::collection::vec(edges(), 2..9)) {
        let grown = |by: f32| group.iter().map(move |edges| Some(edges.map(|edge| edge * by)));
        let spread = |by: f32| grown(by).collect::<Vec<Option<Edges>>>();
        let s = [0.5, 1.0, 2.0].map(|by| incoherence(&spread(by), extent(SQUARE)).unwrap());
        prop_assert!(s[0] <= s[1] + 1e-6 && s[1] <= s[2] + 1e-6, "{:?}", s);
    }
}
