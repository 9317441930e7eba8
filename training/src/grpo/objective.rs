//! The clipped surrogate of GRPO with the options of its repairs, and its gradient, as pure functions.
//!
//! `L = −mean[min(ρA, clip(ρ, 1−ε_low, 1+ε_high)·A)] + β·KL`, `ρ = exp(log π − log π_old)` (PPO, arXiv 1707.06347; the
//! wider upper clip is DAPO's, arXiv 2503.14476), `KL = e^r − r − 1` with `r = log π_ref − log π` (GRPO,
//! arXiv 2402.03300).

use serde::{Deserialize, Serialize};

/// Over what a ratio of probabilities is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ratio {
    /// Each action.
    Action,
    /// The geometric mean over all actions of a rollout (GSPO, arXiv 2507.18071).
    Rollout,
}

/// What is averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// Actions within each rollout, then rollouts (GRPO).
    Rollouts,
    /// All actions of the batch alike (DAPO).
    Actions,
    /// Sums of actions over a constant length (Dr.GRPO, arXiv 2503.20783).
    Constant,
}

/// How the surrogate is made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// How far a ratio may fall below 1 before its gradient is cut.
    pub clip_low: f32,
    /// How far it may rise above 1.
    pub clip_high: f32,
    /// β: weight of the divergence from the reference, the policy that training began with; 0 leaves it out.
    pub kl: f32,
    /// Over what a ratio is taken.
    pub ratio: Ratio,
    /// What is averaged.
    pub average: Average,
    /// The length that [`Average::Constant`] divides by.
    pub constant_length: f32,
    /// Whether rollouts that were cut off are left out (DAPO).
    pub mask_overlong: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clip_low: 0.2,
            clip_high: 0.28,
            kl: 0.0,
            ratio: Ratio::Action,
            average: Average::Actions,
            constant_length: 2.0,
            mask_overlong: true,
        }
    }
}

/// Log-probability of one action, a token or a `[SEG]` state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Action {
    /// Under the policy that is trained.
    pub new: f32,
    /// Under the policy that acted.
    pub old: f32,
    /// Under the reference; only read where the divergence has a weight.
    pub reference: f32,
}

/// The actions of one rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// What it did.
    pub actions: Vec<Action>,
    /// How much better than its group it was.
    pub advantage: f32,
    /// Whether it was cut off at the longest length.
    pub overlong: bool,
}

/// The objective's value, its slopes and what the log tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Surrogate {
    /// The loss.
    pub loss: f32,
    /// Derivative of the loss by each action's log-probability, for each turn.
    pub slopes: Vec<Vec<f32>>,
    /// Actions that count.
    pub actions: usize,
    /// Of these, how many were clipped.
    pub clipped: usize,
    /// Sum over actions of the divergence from the reference.
    pub kl: f32,
}

/// How many units [`surrogate`] averages over: its `units` for a batch that is handled in parts is the sum of theirs.
pub fn units(turns: &[Turn], options: &Options) -> f32 {
    let counted = turns.iter().filter(|t| counts(t, options));
    match options.average {
        Average::Actions => counted.map(|t| t.actions.len() as f32).sum(),
        Average::Rollouts | Average::Constant => counted.count() as f32,
    }
}

fn counts(turn: &Turn, options: &Options) -> bool {
    let masked = turn.overlong && options.mask_overlong;
    !turn.actions.is_empty() && !masked
}

/// The surrogate of some turns of a batch that has `units` units in all (see [`units`]).
pub fn surrogate(turns: &[Turn], options: &Options, units: f32) -> Surrogate {
    let mut sum = Surrogate::default();
    for turn in turns {
        let length = turn.actions.len() as f32;
        let weight = match options.average {
            Average::Actions => 1.0,
            Average::Rollouts => 1.0 / length.max(1.0),
            Average::Constant => 1.0 / options.constant_length.max(1.0),
        } / units.max(1.0);
        let mut slopes = vec![0.0; turn.actions.len()];
        if counts(turn, options) {
            let mean = turn.actions.iter().map(|a| a.new - a.old).sum::<f32>() / length;
            for (action, slope) in turn.actions.iter().zip(&mut slopes) {
                // The mean's derivative by each of its actions is 1/length, which their number makes up for.
                let log_ratio = match options.ratio {
                    Ratio::Action => action.new - action.old,
                    Ratio::Rollout => mean,
                };
                let (loss, gradient, clipped) = clipped(log_ratio, turn.advantage, options);
                sum.loss += weight * loss;
                *slope += weight * gradient;
                sum.clipped += usize::from(clipped);
                sum.actions += 1;
                if options.kl > 0.0 {
                    let r = action.reference - action.new;
                    let kl = r.exp() - r - 1.0;
                    sum.kl += kl;
                    sum.loss += weight * options.kl * kl;
                    *slope += weight * options.kl * (1.0 - r.exp());
                }
            }
        }
        sum.slopes.push(slopes);
    }
    sum
}

/// `−min(ρA, clip(ρ)A)`, its derivative by `log ρ`, and whether it was clipped.
fn clipped(log_ratio: f32, advantage: f32, options: &Options) -> (f32, f32, bool) {
    let ratio = log_ratio.exp();
    let bound = ratio.clamp(1.0 - options.clip_low, 1.0 + options.clip_high);
    if ratio * advantage <= bound * advantage {
        (-ratio * advantage, -ratio * advantage, false)
    } else {
        (-bound * advantage, 0.0, true)
    }
}

/// Log-probability of `choice` among `logits` at a temperature, and its derivative by every logit.
pub fn categorical(logits: &[f32], choice: usize, temperature: f32) -> (f32, Vec<f32>) {
    let scaled: Vec<f32> = logits.iter().map(|z| z / temperature).collect();
    let top = scaled.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = scaled.iter().map(|z| (z - top).exp()).sum();
    let slope = scaled
        .iter()
        .enumerate()
        .map(|(k, z)| (f32::from(k == choice) - (z - top).exp() / sum) / temperature)
        .collect();
    (scaled.get(choice).map_or(f32::NEG_INFINITY, |z| z - top - sum.ln()), slope)
}

/// Log-density of a sampled state around a mean, up to a constant, and its derivative by the mean:
/// `−mean_i (e'_i − e_i)² / (2s²)`; the mean over dimensions, not their sum, keeps ratios usable (derived).
pub fn gaussian(sample: &[f32], mean: &[f32], deviation: f32) -> (f32, Vec<f32>) {
    let n = sample.len().max(1) as f32;
    let square = deviation * deviation;
    let density = -sample.iter().zip(mean).map(|(s, m)| (s - m).powi(2)).sum::<f32>() / (2.0 * square * n);
    (density, sample.iter().zip(mean).map(|(s, m)| (s - m) / (square * n)).collect())
}

/// Deviation of each dimension of a sampled state: `σ·‖e‖/√d`.
pub fn deviation(state: &[f32], sigma: f32) -> f32 {
    let norm = state.iter().map(|e| e * e).sum::<f32>().sqrt();
    (sigma * norm / (state.len().max(1) as f32).sqrt()).max(1e-6)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::losses::check;
    use proptest::prelude::*;

    fn turn(news: &[f32], advantage: f32) -> Turn {
        let action = |new: &f32| Action { new: *new, old: -1.0, reference: -0.8 };
        Turn { actions: news.iter().map(action).collect(), advantage, overlong: false }
    }

    fn value(news: &[f32], advantage: f32, options: &Options) -> Surrogate {
        let turns = [turn(news, advantage)];
        surrogate(&turns, options, units(&turns, options))
    }

    #[test]
    fn slopes_are_the_derivative_of_the_loss() {
        let news = [-1.05, -0.9, -1.12];
        for ratio in [Ratio::Action, Ratio::Rollout] {
            for average in [Average::Rollouts, Average::Actions, Average::Constant] {
                for advantage in [1.3, -0.7] {
                    let options = Options { ratio, average, kl: 0.1, ..Options::default() };
                    let got = value(&news, advantage, &options);
                    check::differences(&news, &got.slopes[0], |x| value(x, advantage, &options).loss);
                }
            }
        }
    }

    #[test]
    fn a_ratio_beyond_its_bound_moves_nothing_on_the_good_side_only() {
        let options = Options::default();
        // exp(0.3) = 1.35 > 1.28: better rollouts are not pushed further.
        let up = value(&[-0.7], 1.0, &options);
        assert_eq!((up.clipped, up.slopes[0][0]), (1, 0.0));
        // A worse rollout that became likelier is still pushed down.
        assert!(value(&[-0.7], -1.0, &options).slopes[0][0] > 0.0);
        // The bounds are not symmetric: 1.25 passes, 1/1.3 does not.
        assert_eq!(value(&[-1.0 + 1.25f32.ln()], 1.0, &options).clipped, 0);
        assert_eq!(value(&[-1.0 - 1.3f32.ln()], -1.0, &options).clipped, 1);
    }

    #[test]
    fn long_rollouts_weigh_by_their_rule() {
        let turns = [turn(&[-1.0], 1.0), turn(&[-1.0; 4], 1.0)];
        let weight = |average| {
            let options = Options { average, constant_length: 4.0, ..Options::default() };
            let got = surrogate(&turns, &options, units(&turns, &options));
            (got.slopes[0].iter().sum::<f32>(), got.slopes[1].iter().sum::<f32>())
        };
        assert_eq!(weight(Average::Rollouts), (-0.5, -0.5));
        assert_eq!(weight(Average::Actions), (-0.2, -0.8));
        assert_eq!(weight(Average::Constant), (-0.125, -0.5));
    }

    #[test]
    fn a_rollout_that_was_cut_off_is_left_out() {
        let mut cut = turn(&[-1.0; 3], 1.0);
        cut.overlong = true;
        let turns = [turn(&[-1.0], 1.0), cut];
        let options = Options::default();
        assert_eq!(units(&turns, &options), 1.0);
        let got = surrogate(&turns, &options, 1.0);
        assert_eq!(got.slopes[1], [0.0; 3]);
        assert_eq!(units(&turns, &Options { mask_overlong: false, ..options }), 4.0);
    }

    #[test]
    fn densities_have_the_right_slopes() {
        let logits = [0.3, -1.0, 2.0, 0.1];
        let (_, slope) = categorical(&logits, 2, 0.7);
        check::differences(&logits, &slope, |x| categorical(x, 2, 0.7).0);
        let (mean, sample) = ([0.5, -0.2, 1.0], [0.6, -0.1, 0.8]);
        let (_, slope) = gaussian(&sample, &mean, 0.4);
        check::differences(&mean, &slope, |x| gaussian(&sample, x, 0.4).0);
        assert!((deviation(&[3.0, 4.0, 0.0, 0.0], 0.1) - 0.25).abs() < 1e-6);
    }

    /// What would break: the arm `published` would explore by other noise than the source's, which adds `ε·0.1·‖e‖` to each
    /// dimension; by the unit of recipes, a share of the whole length, that is 0.1·√d.
    #[test]
    fn published_noise_is_per_dimension() {
        let shares = |width: usize, sigma: f32| {
            let state: Vec<f32> = (0..width).map(|i| (i % 7) as f32 - 2.5).collect();
            let length = state.iter().map(|e| e * e).sum::<f32>().sqrt();
            let each = deviation(&state, sigma);
            (each / length, each * (width as f32).sqrt() / length)
        };
        for width in [128, 256] {
            let (each, _) = shares(width, 0.1 * (width as f32).sqrt());
            assert!((each - 0.1).abs() < 1e-5, "{width}: {each}");
        }
        // At the source's 256 dimensions the noise is longer than the state.
        assert!((shares(256, 1.6).1 - 1.6).abs() < 1e-4);
        let plan: toml::Table = include_str!("../../recipes/ablation.toml").parse().unwrap();
        let published = plan["arms"].as_array().unwrap().iter().find(|arm| arm["name"].as_str() == Some("published"));
        let sigma = published.unwrap()["change"]["policy"]["latent_deviation"].as_float().unwrap();
        // kestrel-s has states of 128 dimensions.
        assert!((shares(128, sigma as f32).0 - 0.1).abs() < 1e-3, "{sigma}");
    }

    proptest! {
        #[test]
        fn probabilities_sum_to_one_and_the_divergence_is_never_negative(
            logits in proptest::collection::vec(-30.0..30.0f32, 1..6), temperature in 0.2..3.0f32,
            new in -3.0..0.0f32, reference in -3.0..0.0f32,
        ) {
            let sum: f32 = (0..logits.len()).map(|k| categorical(&logits, k, temperature).0.exp()).sum();
            prop_assert!((sum - 1.0).abs() < 1e-3);
            let turns = [Turn { actions: vec![Action { new, old: new, reference }], advantage: 0.0, overlong: false }];
            let got = surrogate(&turns, &Options { kl: 1.0, ..Options::default() }, 1.0);
            prop_assert!(got.kl >= -1e-6);
        }
    }
}
