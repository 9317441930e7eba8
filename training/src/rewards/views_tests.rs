//! What the published rewards do wrong, what ours do instead, and what holds for any input.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::grpo::advantage::{self, advantages};
use crate::losses::sigmoid;
use candle_core::{Device, Tensor};
use proptest::prelude::*;

const SIDE: usize = 32;

/// A square of `side` cells at (4, 4), as probabilities.
fn square(side: usize) -> Vec<f32> {
    (0..SIDE * SIDE)
        .map(|i| if (4..4 + side).contains(&(i % SIDE)) && (4..4 + side).contains(&(i / SIDE)) { 0.9 } else { 0.1 })
        .collect()
}

/// The same square as a target.
fn truth(side: usize) -> Vec<f32> {
    square(side).iter().map(|p| p.round()).collect()
}

fn high<'a>(mask: &'a [f32], target: &'a [f32]) -> Rollout<'a> {
    Rollout { branch: Branch::High, answer: 0, right: 0, mask: Some(mask), target }
}

fn low<'a>(mask: Option<&'a [f32]>) -> Rollout<'a> {
    Rollout { branch: Branch::Low, answer: if mask.is_some() { 0 } else { 4 }, right: 4, mask, target: &[] }
}

fn totals(rollouts: &[Rollout<'_>], settings: &Settings) -> Vec<f32> {
    score(rollouts, settings, 0.0).into_iter().map(|s| s.unwrap().total()).collect()
}

/// Advantages of a group by the published or by our normalisation.
fn of(rollouts: &[Rollout<'_>], settings: &Settings, options: &advantage::Options) -> Vec<Option<f32>> {
    let parts: Vec<_> = score(rollouts, settings, 0.0).into_iter().map(|s| s.map(|s| s.parts)).collect();
    let branches: Vec<Branch> = rollouts.iter().map(|r| settings.judged_as(r.branch, r.target)).collect();
    advantages(&parts, &settings.weights(0.0), &branches, options)
}

#[test]
fn published_consensus_forgets_good_masks_once_refusal_works() {
    // Defect 1: the degraded members, now silent, are half of the mean: a confident mask is outvoted by silence.
    let (mask, target) = (square(12), truth(12));
    let group = [high(&mask, &target), high(&mask, &target), low(None), low(None)];
    let published = score(&group, &Settings::published(), 0.0);
    let ours = score(&group, &Settings::default(), 0.0);
    assert!(published[0].unwrap().parts[1] < 1e-3, "the consensus went empty");
    assert_eq!(ours[0].unwrap().parts[1], 0.5, "the other clear view agrees: the whole β");
}

#[test]
fn published_normalisation_punishes_a_successful_refusal() {
    // Defect 2: +1 lies below R_hi ≈ 2.6, so silence on a degraded view gets a negative advantage.
    let (mask, target) = (square(12), truth(12));
    let wrong = square(11);
    // One degraded member still draws, so that the consensus stands and clear views earn their reward.
    let drawn = low(Some(&mask));
    let group = [high(&mask, &target), high(&wrong, &target), high(&mask, &target), drawn, low(None)];
    let published = of(&group, &Settings::published(), &advantage::Options::published());
    let ours = of(&group, &Settings::default(), &advantage::Options::default());
    assert!(published[4].unwrap() < 0.0, "{published:?}");
    assert!(ours[4].unwrap() > 0.5, "within its branch, silence is what is reinforced: {ours:?}");
    // With poor masks only refusal is reinforced: the way to a policy that is always silent.
    let poor = square(3);
    let elsewhere: Vec<f32> = poor.iter().rev().copied().collect();
    let group = [high(&poor, &target), high(&elsewhere, &target), low(None), low(None)];
    let published = of(&group, &Settings::published(), &advantage::Options::published());
    assert!(published[2].unwrap() > published[0].unwrap(), "{published:?}");
}

#[test]
fn published_view_flag_punishes_a_tiny_vehicle_that_is_clearly_seen() {
    // Defect 3: under 32 pixels of 256² a target counts as a degraded view. One cell of 4,096 is as little.
    let side = 64;
    let mask: Vec<f32> = (0..side * side).map(|i| if i < 1 { 0.9 } else { 0.1 }).collect();
    let target: Vec<f32> = mask.iter().map(|p| p.round()).collect();
    let rollout = [high(&mask, &target), high(&mask, &target)];
    assert!(totals(&rollout, &Settings { tolerated_area: 0.0, ..Settings::published() })[0] < 0.0);
    assert!(totals(&rollout, &Settings::default())[0] > 1.0);
}

#[test]
fn published_normalisation_amplifies_noise() {
    // Defect 6: rollouts that hardly differ get advantages of full size.
    let target = truth(12);
    let (a, b) = (square(12), {
        let mut b = square(12);
        b[0] = 0.9;
        b
    });
    let group = [high(&a, &target), high(&b, &target)];
    let parts: Vec<_> = group.iter().map(|r| score(&[*r], &Settings::default(), 0.0)[0].map(|s| s.parts)).collect();
    let branches = [Branch::High; 2];
    let weights = Settings::default().weights(0.0);
    let published = advantages(&parts, &weights, &branches, &advantage::Options::published());
    assert!(published.iter().all(|a| a.unwrap().abs() > 0.6), "{published:?}");
    let options = advantage::Options { least_deviation: 0.01, ..advantage::Options::default() };
    assert_eq!(advantages(&parts, &weights, &branches, &options), [None, None]);
}

#[test]
fn silence_is_no_pixel_and_the_penalty_grows_with_what_is_drawn() {
    let (one, all) = (square(1), square(28));
    let group = [low(None), low(Some(&one)), low(Some(&all))];
    let ours = totals(&group, &Settings::default());
    assert_eq!(ours[0], 1.25, "silence with its reason");
    assert!(ours[1] < 0.0 && ours[2] < ours[1] && ours[2] >= -1.0, "{ours:?}");
    let published = totals(&group, &Settings { tolerated_area: 2.0 / 1024.0, ..Settings::published() });
    assert_eq!(published, [1.0, 1.0, -2.0], "a small hallucination counts as silence");
}

#[test]
fn a_near_miss_is_worth_more_than_a_far_one_until_training_ends() {
    let at = |from: usize| (0..SIDE * SIDE).map(|i| f32::from(i == from)).collect::<Vec<_>>();
    let (target, near, far) = (at(0), at(1), at(SIDE * SIDE - 1));
    let settings = Settings { consensus: 0.0, position: 0.5, ..Settings::default() };
    let position = |mask: Option<&[f32]>, progress: f32| {
        let rollout = Rollout { branch: Branch::High, answer: 0, right: 0, mask, target: &target };
        score(&[rollout], &settings, progress)[0].unwrap().parts[4]
    };
    assert_eq!(position(Some(&target), 0.0), 0.5);
    assert!(position(Some(&near), 0.0) > position(Some(&far), 0.0));
    assert_eq!(position(None, 0.0), 0.0);
    assert!((position(Some(&near), 0.5) - position(Some(&near), 0.0) / 2.0).abs() < 1e-6);
    assert_eq!(position(Some(&near), 1.0), 0.0);
}

/// What would break: parts normalised for themselves would count by other weights than they were rewarded with.
#[test]
fn the_whole_of_each_part_is_its_weight() {
    let (mask, target, all) = (square(12), truth(12), square(28));
    let settings = Settings { position: 0.4, position_end: 0.2, hallucination: 0.8, ..Settings::default() };
    assert_eq!(settings.weights(0.0), [1.0, 0.5, 1.0, 0.25, 0.4]);
    assert_eq!(Settings::published().weights(0.0), [1.0, 2.0, 2.0, 0.0, 0.0]);
    for progress in [0.0, 1.0] {
        let group = [high(&mask, &target), high(&mask, &target), low(None), low(Some(&all))];
        let scored = score(&group, &settings, progress);
        let most = |k: usize| scored.iter().map(|s| s.unwrap().parts[k].abs()).fold(0.0, f32::max);
        assert_eq!([0, 1, 2, 3, 4].map(most), settings.weights(progress), "after {progress}");
    }
}

#[test]
fn the_wrong_reason_is_still_silence() {
    let right = low(None);
    let wrong = Rollout { answer: 1, ..right };
    let ours = totals(&[right, wrong], &Settings::default());
    assert_eq!(ours, [1.25, 1.0]);
}

#[test]
fn an_unscorable_rollout_is_left_out_and_does_not_vote() {
    let (mask, target) = (square(12), truth(12));
    let broken = vec![f32::NAN; SIDE * SIDE];
    let short = vec![0.9; 7];
    let with = [high(&mask, &target), high(&mask, &target), high(&broken, &target), high(&short, &target)];
    let scored = score(&with, &Settings::default(), 0.0);
    assert_eq!(scored[2], None);
    assert_eq!(scored[3], None);
    assert_eq!(scored[..2], score(&with[..2], &Settings::default(), 0.0)[..]);
    assert!(score(&[], &Settings::default(), 0.0).is_empty());
}

/// What would break: where masks are counted would decide what they are worth.
#[test]
fn masks_that_stay_where_they_were_drawn_score_the_same() {
    use Branch::{High, Low};
    let row = |seed: usize| {
        let z = |i: usize| ((i * 7919 + seed * 573) % 2003) as f32 / 250.0 - 4.0;
        (0..SIDE * SIDE).map(z).collect::<Vec<f32>>()
    };
    let mut logits = [1, 2, 3, 4, 5].map(row);
    logits[2][5] = f32::NAN;
    let drawn = Drawn::new(&[Tensor::from_vec(logits.concat(), (5, SIDE * SIDE), &Device::Cpu).unwrap()]).unwrap();
    let masks = logits.map(|row| row.into_iter().map(sigmoid).collect::<Vec<f32>>());
    let target = truth(12);
    let numbers = [(High, Some(0)), (High, Some(4)), (High, Some(1)), (High, Some(2)), (High, None), (Low, Some(3))];
    let there = numbers.map(|(branch, mask)| {
        let target: &[f32] = if branch == High { &target } else { &[] };
        Rollout { branch, answer: 0, right: 0, mask, target }
    });
    let here = there.map(|rollout| rollout.with(rollout.mask.map(|number: usize| masks[number].as_slice())));
    for settings in [
        Settings::default(),
        Settings::published(),
        Settings { position: 0.5, position_end: 0.5, ..Settings::default() },
    ] {
        let scored = score_drawn(&drawn, &there, &settings, 0.0).unwrap();
        assert_eq!(scored, score(&here, &settings, 0.0));
        assert!(scored[3].is_none() && scored.iter().flatten().count() == 5, "{scored:?}");
        let (first, silent) = (scored[0].unwrap(), scored[4].unwrap());
        assert!(first.parts[0] > 0.0 && first.parts[1] > 0.0 && first.centre.is_some(), "{first:?}");
        assert!(silent.centre.is_none() && silent.iou < 1e-6, "{silent:?}");
    }
}

fn any_mask() -> impl Strategy<Value = Option<Vec<f32>>> {
    proptest::option::of(proptest::collection::vec(0.0..1.0f32, 64))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rewards_are_bounded_and_do_not_depend_on_order(
        masks in proptest::collection::vec((any_mask(), 0..3usize, 0..5usize), 1..7),
        target in proptest::collection::vec(0.0..1.0f32, 64),
    ) {
        let branches = [Branch::High, Branch::Low, Branch::Absent];
        let rollouts: Vec<Rollout<'_>> = masks.iter().map(|(mask, branch, answer)| {
            let branch = branches[*branch];
            let target: &[f32] = if branch == Branch::High { &target } else { &[] };
            Rollout { branch, answer: *answer, right: 4, mask: mask.as_deref(), target }
        }).collect();
        for settings in [Settings::default(), Settings::published()] {
            let scored = score(&rollouts, &settings, 0.5);
            let mut reversed: Vec<Rollout<'_>> = rollouts.clone();
            reversed.reverse();
            let mut back = score(&reversed, &settings, 0.5);
            back.reverse();
            for (a, b) in scored.iter().zip(&back) {
                let (a, b) = (a.unwrap(), b.unwrap());
                prop_assert!((a.total() - b.total()).abs() < 1e-5);
                prop_assert!(a.total() <= 1.0 + settings.consensus + 1e-5);
                prop_assert!(a.total() >= -settings.hallucination);
                prop_assert!((0.0..=1.0).contains(&a.iou) && (0.0..=1.0).contains(&a.area));
            }
        }
    }

    #[test]
    fn more_of_the_target_is_never_worth_less(from in 1..12usize, more in 0..12usize) {
        let target = truth(24);
        let (less, more) = (square(from), square(from + more));
        let reward = |mask: &[f32]| totals(&[high(mask, &target)], &Settings::default())[0];
        prop_assert!(reward(&more) >= reward(&less));
    }
}
