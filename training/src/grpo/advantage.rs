//! From a group's rewards to advantages: GRPO (arXiv 2402.03300) and its repairs.

use serde::{Deserialize, Serialize};

use crate::rewards::views::{Branch, PARTS};

/// Added to a deviation before dividing by it.
const EPSILON: f32 = 1e-8;

/// How rewards become advantages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Whether every branch is normalised for itself (derived), or all rollouts of a group together (Aerial-R1).
    pub per_branch: bool,
    /// Whether every part of the reward is normalised for itself before they are added up (GDPO).
    pub per_reward: bool,
    /// Whether advantages are divided by the group's deviation; not so in Dr.GRPO (arXiv 2503.20783).
    pub by_deviation: bool,
    /// Groups of a smaller deviation are left out (dynamic sampling, DAPO, arXiv 2503.14476); 0 keeps all.
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
/// `parts` are the weighted parts of each rollout's reward, `branches` what each looks at.
pub fn advantages(parts: &[Option<[f32; PARTS]>], branches: &[Branch], options: &Options) -> Vec<Option<f32>> {
    let mut advantages = vec![None; parts.len()];
    let mut kinds: Vec<Option<Branch>> =
        if options.per_branch { branches.iter().copied().map(Some).collect() } else { vec![None] };
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let scored = |i: &usize| parts[*i].is_some() && kind.is_none_or(|kind| branches.get(*i) == Some(&kind));
        let members: Vec<usize> = (0..parts.len()).filter(scored).collect();
        let part = |i: usize, k: usize| parts[i].map_or(0.0, |p| p[k]);
        let total = |i: usize| (0..PARTS).map(|k| part(i, k)).sum::<f32>();
        let rewards: Vec<f32> = members.iter().map(|&i| total(i)).collect();
        if members.len() < 2 || deviation(&rewards) < options.least_deviation {
            continue;
        }
        let normalised = if options.per_reward {
            let mut sum = vec![0.0; members.len()];
            for k in 0..PARTS {
                let values: Vec<f32> = members.iter().map(|&i| part(i, k)).collect();
                sum.iter_mut().zip(normalise(&values, options)).for_each(|(s, v)| *s += v);
            }
            sum
        } else {
            normalise(&rewards, options)
        };
        for (&i, advantage) in members.iter().zip(normalised) {
            advantages[i] = Some(advantage);
        }
    }
    advantages
}

fn normalise(values: &[f32], options: &Options) -> Vec<f32> {
    let mean = mean(values);
    let below = if options.by_deviation { deviation(values) + EPSILON } else { 1.0 };
    values.iter().map(|v| (v - mean) / below).collect()
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

/// With Bessel's correction, so that a group of two has advantages of ±0.707, as in the methods' own sources.
fn deviation(values: &[f32]) -> f32 {
    let mean = mean(values);
    let squares: f32 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (squares / values.len().saturating_sub(1).max(1) as f32).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rewards(values: &[f32]) -> Vec<Option<[f32; PARTS]>> {
        values.iter().map(|v| Some([*v, 0.0, 0.0, 0.0, 0.0])).collect()
    }

    #[test]
    fn two_rollouts_get_opposite_advantages_of_fixed_size() {
        let got = advantages(&rewards(&[3.0, 1.0]), &[Branch::High; 2], &Options::default());
        assert!((got[0].unwrap_or(0.0) - 0.707).abs() < 1e-3 && (got[1].unwrap_or(0.0) + 0.707).abs() < 1e-3);
    }

    #[test]
    fn without_the_deviation_small_differences_stay_small() {
        let options = Options { by_deviation: false, ..Options::default() };
        let got = advantages(&rewards(&[0.52, 0.50]), &[Branch::High; 2], &options);
        assert!((got[0].unwrap_or(0.0) - 0.01).abs() < 1e-6);
    }

    #[test]
    fn each_reward_is_normalised_for_itself_when_asked() {
        // A part that varies a thousand times more would otherwise decide alone.
        let parts = [Some([1.0, 0.0, 0.0, 0.0, 0.0]), Some([0.0, 0.001, 0.0, 0.0, 0.0])];
        let branches = [Branch::High; 2];
        let apart = advantages(&parts, &branches, &Options { per_reward: true, ..Options::default() });
        assert!(apart[0].unwrap_or(1.0).abs() < 1e-3, "one advantage each way cancels: {apart:?}");
        assert!(advantages(&parts, &branches, &Options::default())[0].unwrap_or(0.0) > 0.7);
    }

    #[test]
    fn what_cannot_be_scored_has_no_advantage_and_moves_no_mean() {
        let mut with = rewards(&[2.0, 1.0]);
        with.push(None);
        let got = advantages(&with, &[Branch::High; 3], &Options::default());
        assert_eq!(got[2], None);
        assert_eq!(got[..2], advantages(&with[..2], &[Branch::High; 2], &Options::default())[..]);
        assert_eq!(advantages(&with[..1], &[Branch::High], &Options::default()), [None], "alone, nothing is better");
    }

    proptest! {
        #[test]
        fn advantages_sum_to_zero_and_ignore_shift_and_scale(
            values in proptest::collection::vec(-5.0..5.0f32, 2..9), shift in -3.0..3.0f32, scale in 0.5..4.0f32,
        ) {
            let branches = vec![Branch::High; values.len()];
            let got = advantages(&rewards(&values), &branches, &Options::default());
            prop_assume!(got.iter().all(Option::is_some));
            let sum: f32 = got.iter().flatten().sum();
            prop_assert!(sum.abs() < 1e-3);
            let moved: Vec<f32> = values.iter().map(|v| v * scale + shift).collect();
            let other = advantages(&rewards(&moved), &branches, &Options::default());
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
            let got = advantages(&rewards(&mixed), &branches, &Options::default());
            let alone = advantages(&rewards(&high), &branches[..high.len()], &Options::default());
            prop_assert_eq!(&got[..high.len()], &alone[..]);
        }
    }
}
