//! From a group's rewards to advantages: GRPO (arXiv 2402.03300) and its repairs.

use serde::{Deserialize, Serialize};

use crate::rewards::views::Branch;

/// Added to a deviation before dividing by it.
const EPSILON: f64 = 1e-8;

/// How rewards become advantages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Whether every branch is normalised for itself (derived), or all rollouts of a group together (Aerial-R1).
    pub per_branch: bool,
    /// Whether every part of the reward is normalised for itself before the weighted sum (GDPO, arXiv 2601.05242).
    pub per_reward: bool,
    /// Whether advantages are divided by the group's deviation; not so in Dr.GRPO (arXiv 2503.20783).
    pub by_deviation: bool,
    /// Groups of a smaller deviation are left out (dynamic sampling, DAPO, arXiv 2503.14476); 0 keeps all. Where parts are
    /// normalised for themselves, so are those of a smaller deviation before their weight.
    pub least_deviation: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self { per_branch: true, per_reward: false, by_deviation: true, least_deviation: 1e-3 }
    }
}

impl Options {
    /// As in Aerial-R1's public source: one normalisation over both branches, however little they differ.
    pub fn published() -> Self {
        Self { per_branch: false, per_reward: false, by_deviation: true, least_deviation: 0.0 }
    }
}

/// Advantages of one group; `None` where there is none: the rollout could not be scored, or its group tells nothing.
///
/// `parts` are the parts of each rollout's reward, multiplied with their `weights`; `branches` are what each looks at. A
/// group's advantages are `(r − mean)/(std + 1e-8)` of the sums; with `per_reward` they are `Σ w_k·(r_k − mean)/(std + 1e-8)`
/// of the parts before their weight, without GDPO's last normalisation over the batch.
pub fn advantages<const N: usize>(
    parts: &[Option<[f32; N]>],
    weights: &[f32; N],
    branches: &[Branch],
    options: &Options,
) -> Vec<Option<f32>> {
    let mut advantages = vec![None; parts.len()];
    let mut kinds: Vec<Option<Branch>> =
        if options.per_branch { branches.iter().copied().map(Some).collect() } else { vec![None] };
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let of_kind = |i: usize| kind.is_none_or(|kind| branches.get(i) == Some(&kind));
        let scored = parts.iter().enumerate().filter(|(i, _)| of_kind(*i));
        let (members, group): (Vec<usize>, Vec<[f32; N]>) =
            scored.filter_map(|(i, parts)| Some((i, (*parts)?))).unzip();
        let found = if options.per_reward { apart(&group, weights, options) } else { together(&group, options) };
        for (i, advantage) in members.into_iter().zip(found.into_iter().flatten()) {
            advantages[i] = Some(advantage);
        }
    }
    advantages
}

/// The sums of the parts, normalised.
fn together<const N: usize>(group: &[[f32; N]], options: &Options) -> Option<Vec<f32>> {
    let rewards: Vec<f32> = group.iter().map(|parts| parts.iter().sum()).collect();
    normalise(&rewards, options)
}

/// The weighted sum of the normalised parts. A weight inside a deviation would cancel: it is taken out before and put back
/// after. A part that tells nothing adds nothing.
fn apart<const N: usize>(group: &[[f32; N]], weights: &[f32; N], options: &Options) -> Option<Vec<f32>> {
    let mut sum: Option<Vec<f32>> = None;
    for (k, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
        let values: Vec<f32> = group.iter().map(|parts| parts[k] / weight).collect();
        let Some(part) = normalise(&values, options) else { continue };
        let sum = sum.get_or_insert_with(|| vec![0.0; group.len()]);
        sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += weight * value);
    }
    sum
}

/// `None` where a single value, or too little difference, tells nothing.
fn normalise(values: &[f32], options: &Options) -> Option<Vec<f32>> {
    let (mean, deviation) = (mean(values), deviation(values));
    if values.len() < 2 || deviation < f64::from(options.least_deviation) {
        return None;
    }
    let below = if options.by_deviation { deviation + EPSILON } else { 1.0 };
    Some(values.iter().map(|v| ((f64::from(*v) - mean) / below) as f32).collect())
}

/// In double precision: a mean of equal numbers that is off by a rounding error would make advantages of it.
fn mean(values: &[f32]) -> f64 {
    values.iter().copied().map(f64::from).sum::<f64>() / values.len().max(1) as f64
}

/// With Bessel's correction, so that a group of two has advantages of ±0.707, as in the methods' own sources.
fn deviation(values: &[f32]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum();
    (squares / values.len().saturating_sub(1).max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TWO: [Branch; 2] = [Branch::High; 2];
    const APART: Options = Options { per_branch: true, per_reward: true, by_deviation: true, least_deviation: 1e-3 };

    fn rewards(values: &[f32]) -> Vec<Option<[f32; 1]>> {
        values.iter().map(|v| Some([*v])).collect()
    }

    /// Advantages of rewards of a single part.
    fn single(parts: &[Option<[f32; 1]>], branches: &[Branch], options: &Options) -> Vec<Option<f32>> {
        advantages(parts, &[1.0], branches, options)
    }

    fn near(got: Option<f32>, wanted: f32) -> bool {
        got.is_some_and(|got| (got - wanted).abs() < 1e-3)
    }

    #[test]
    fn two_rollouts_get_opposite_advantages_of_fixed_size() {
        let got = single(&rewards(&[3.0, 1.0]), &TWO, &Options::default());
        assert!(
            near(got[0], std::f32::consts::FRAC_1_SQRT_2) && near(got[1], -std::f32::consts::FRAC_1_SQRT_2),
            "{got:?}"
        );
    }

    #[test]
    fn without_the_deviation_small_differences_stay_small() {
        let options = Options { by_deviation: false, ..Options::default() };
        let got = single(&rewards(&[0.52, 0.50]), &TWO, &options);
        assert!((got[0].unwrap_or(0.0) - 0.01).abs() < 1e-6);
    }

    /// What would break: dividing by the deviation of a weighted part cancels its weight, and every part counts alike.
    #[test]
    fn each_reward_is_normalised_for_itself_and_counts_by_its_weight() {
        let weights = [1.0, 0.1];
        let of = |group: [[f32; 2]; 2], options: &Options| advantages(&group.map(Some), &weights, &TWO, options);
        let first = of([[1.0, 0.0], [0.0, 0.0]], &APART);
        let second = of([[0.0, 0.1], [0.0, 0.0]], &APART);
        assert!(
            near(first[0], std::f32::consts::FRAC_1_SQRT_2) && near(second[0], 0.07071),
            "ten to one: {first:?} {second:?}"
        );
        // One rollout is better by each of them.
        let both = of([[1.0, 0.0], [0.0, 0.1]], &APART);
        assert!(near(both[0], 0.6364) && near(both[1], -0.6364), "{both:?}");
        // How far a part varies does not matter; in a sum, that decides alone.
        assert!(near(of([[0.01, 0.0], [0.0, 0.1]], &APART)[0], 0.6364));
        assert!(near(of([[0.01, 0.0], [0.0, 0.1]], &Options::default())[0], -std::f32::consts::FRAC_1_SQRT_2));
        // Without the deviation both ways are the same.
        let plain = Options { by_deviation: false, ..APART };
        let summed = Options { per_reward: false, ..plain };
        let group = [[0.7, 0.02], [0.1, 0.1]];
        assert!(near(of(group, &plain)[0], of(group, &summed)[0].unwrap_or(f32::NAN)));
    }

    #[test]
    fn a_part_that_tells_nothing_adds_nothing_and_a_group_of_such_parts_is_left_out() {
        let third = 0.1f32 + 0.2f32;
        let group = [[third, 1.0, 5.0], [third, 0.0, -5.0], [third, 0.0, 5.0]].map(Some);
        let got = advantages(&group, &[1.0, 0.5, 0.0], &[Branch::High; 3], &APART);
        // Two thirds over the deviation of (1, 0, 0), which is 0.577, half of it; a weight of 0 is no part.
        assert!(near(got[0], 0.5774) && near(got[1], -0.2887) && got[1] == got[2], "{got:?}");
        let same = advantages(&group, &[1.0, 0.0, 0.0], &[Branch::High; 3], &APART);
        assert_eq!(same, [None; 3]);
        // Nothing is left out where nothing should be, and then equal parts are exactly the mean.
        let all = Options { least_deviation: 0.0, ..APART };
        assert_eq!(advantages(&group, &[1.0, 0.0, 0.0], &[Branch::High; 3], &all), [Some(0.0); 3]);
        // What differs in its parts alone tells something, which a sum would hide.
        let parts = [[0.1, 0.0], [0.0, 0.1]].map(Some);
        assert_eq!(advantages(&parts, &[1.0, 0.1], &TWO, &Options::default()), [None; 2]);
        assert!(near(advantages(&parts, &[1.0, 0.1], &TWO, &APART)[0], 0.6364));
    }

    #[test]
    fn what_cannot_be_scored_has_no_advantage_and_moves_no_mean() {
        let mut with = rewards(&[2.0, 1.0]);
        with.push(None);
        for options in [Options::default(), APART] {
            let got = single(&with, &[Branch::High; 3], &options);
            assert_eq!(got[2], None);
            assert_eq!(got[..2], single(&with[..2], &TWO, &options)[..]);
            assert_eq!(single(&with[..1], &[Branch::High], &options), [None], "alone, nothing is better");
        }
    }

    proptest! {
        #[test]
        fn advantages_sum_to_zero_and_ignore_shift_and_scale(
            values in proptest::collection::vec(-5.0..5.0f32, 2..9), shift in -3.0..3.0f32, scale in 0.5..4.0f32,
        ) {
            let branches = vec![Branch::High; values.len()];
            let got = single(&rewards(&values), &branches, &Options::default());
            prop_assume!(got.iter().all(Option::is_some));
            let sum: f32 = got.iter().flatten().sum();
            prop_assert!(sum.abs() < 1e-3);
            let moved: Vec<f32> = values.iter().map(|v| v * scale + shift).collect();
            let other = single(&rewards(&moved), &branches, &Options::default());
            for (a, b) in got.iter().flatten().zip(other.iter().flatten()) {
                prop_assert!((a - b).abs() < 2e-2, "{a} {b}");
            }
            // The better rollout never has the lower advantage.
            for i in 0..values.len() {
                for j in 0..values.len() {
                    prop_assert!(values[i] <= values[j] || got[i] >= got[j]);
                }
            }
        }

        #[test]
        fn branches_do_not_touch_each_other(
            high in proptest::collection::vec(-5.0..5.0f32, 2..5), low in proptest::collection::vec(-5.0..5.0f32, 2..5),
        ) {
            let mixed: Vec<f32> = high.iter().chain(&low).copied().collect();
            let branches: Vec<Branch> =
                high.iter().map(|_| Branch::High).chain(low.iter().map(|_| Branch::Low)).collect();
            let got = single(&rewards(&mixed), &branches, &Options::default());
            let alone = single(&rewards(&high), &branches[..high.len()], &Options::default());
            prop_assert_eq!(&got[..high.len()], &alone[..]);
        }
    }
}
