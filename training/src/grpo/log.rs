//! What a step of reinforcement puts into its log.

use std::collections::BTreeMap;

use serde::Serialize;

use super::improve::Improved;
use super::reasoned::{self, Written};
use super::recipe::Recipe;
use super::rollout::{Played, Taken};
use crate::curves::Curve;
use crate::rewards::views::{Branch, PART_NAMES};

/// What one step did.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Steps done with this one.
    pub step: usize,
    /// Steps of the run.
    pub steps: usize,
    /// Learning rate.
    pub rate: f32,
    /// Norm of the last update's gradient before clipping.
    pub norm: f32,
    /// What was measured.
    pub measured: Measured,
    /// Wall seconds of acting.
    pub play_seconds: f32,
    /// Wall seconds of the step.
    pub seconds: f32,
    /// Of these, in which no worker played or learnt: episodes were read, questions chosen, gradients added up.
    pub waited: f32,
    /// The same as a share of `seconds`.
    pub waiting: f32,
}

/// What was measured in one step. A mean over nothing is not a number, `null` in the log.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Rollouts.
    pub rollouts: usize,
    /// Rollouts that could not be scored and were left out.
    pub unscorable: usize,
    /// Share of scored rollouts whose group told nothing.
    pub silent_groups: f32,
    /// Mean reward, over scored rollouts.
    pub reward: f32,
    /// Means of the reward's parts.
    pub parts: BTreeMap<&'static str, f32>,
    /// Mean IoU with targets that can be seen.
    pub iou: f32,
    /// Share of rollouts without a pixel where the target can be seen: false refusals.
    pub silent_high: f32,
    /// The same where a degraded view hides it.
    pub silent_low: f32,
    /// The same where it is not there.
    pub silent_absent: f32,
    /// Root mean square of advantages.
    pub advantage: f32,
    /// Mean entropy of the answers, as a share of the greatest.
    pub entropy: f32,
    /// Share of actions whose ratio was clipped.
    pub clip_fraction: f32,
    /// Mean divergence from the reference.
    pub kl: f32,
    /// Reasoned rollouts, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoned: Option<Reasoned>,
    /// The loss and its terms, summed over updates.
    pub improved: Improved,
}

/// What was measured of reasoned rollouts: means over all of them.
#[derive(Debug, Clone, Serialize)]
pub struct Reasoned {
    /// Rollouts.
    pub rollouts: usize,
    /// Those that could not be scored and were left out.
    pub unscorable: usize,
    /// Reward.
    pub reward: f32,
    /// Share whose thought can be read as a chain.
    pub format: f32,
    /// IoU of boxes, or how right a refusal is.
    pub iou: f32,
    /// Positional reward.
    pub position: f32,
    /// ω, by which advantages were scaled.
    pub weight: f32,
    /// Share whose thought was cut.
    pub overlong: f32,
    /// Tokens that were chosen.
    pub tokens: f32,
}

impl Reasoned {
    fn of(played: &[Played]) -> Option<Self> {
        let all: Vec<&Written> = played.iter().flat_map(|p| &p.written).collect();
        let mean =
            |value: &dyn Fn(&Written) -> f64| (all.iter().map(|w| value(w)).sum::<f64>() / all.len() as f64) as f32;
        let scored: Vec<reasoned::Scored> = all.iter().filter_map(|w| w.scored).collect();
        let score = |value: &dyn Fn(&reasoned::Scored) -> f64| {
            (scored.iter().map(value).sum::<f64>() / scored.len() as f64) as f32
        };
        (!all.is_empty()).then(|| Self {
            rollouts: all.len(),
            unscorable: all.len() - scored.len(),
            reward: score(&|s| s.reward),
            format: score(&|s| s.format),
            iou: score(&|s| s.iou),
            position: score(&|s| s.position),
            weight: mean(&|w| f64::from(w.weight)),
            overlong: mean(&|w| f64::from(u8::from(w.overlong))),
            tokens: mean(&|w| w.logs.len() as f64),
        })
    }
}

impl Measured {
    /// Of what was played and learnt.
    pub(super) fn of(played: &[Played], improved: &Improved, recipe: &Recipe) -> Self {
        let all: Vec<(&Played, &Taken)> = played.iter().flat_map(|p| p.taken.iter().map(move |t| (p, t))).collect();
        let scored: Vec<_> = all.iter().filter_map(|(p, t)| Some((*p, *t, t.scored?))).collect();
        let mean = |values: &mut dyn Iterator<Item = f32>| {
            let (mut sum, mut n) = (0.0, 0.0);
            values.for_each(|v| (sum, n) = (sum + v, n + 1.0));
            sum / n
        };
        let silent = |branch: Branch| {
            let of = scored.iter().filter(|(p, t, _)| p.asked[t.asked].branch == branch);
            mean(&mut of.map(|(_, _, s)| f32::from(s.area <= recipe.reward.tolerated_area)))
        };
        let seen = scored.iter().filter(|(p, t, _)| p.asked[t.asked].branch == Branch::High);
        let advantages = all.iter().filter_map(|(_, t)| t.advantage);
        let part = |k: usize| mean(&mut scored.iter().map(|(_, _, s)| s.parts[k]));
        let actions = improved.actions.max(1) as f32;
        Self {
            rollouts: all.len(),
            unscorable: all.len() - scored.len(),
            silent_groups: mean(&mut scored.iter().map(|(_, t, _)| f32::from(t.advantage.is_none()))),
            reward: mean(&mut scored.iter().map(|(_, _, s)| s.total())),
            parts: PART_NAMES.iter().enumerate().map(|(k, name)| (*name, part(k))).collect(),
            iou: mean(&mut seen.map(|(_, _, s)| s.iou)),
            silent_high: silent(Branch::High),
            silent_low: silent(Branch::Low),
            silent_absent: silent(Branch::Absent),
            advantage: mean(&mut advantages.map(|a| a * a)).sqrt(),
            entropy: mean(&mut played.iter().flat_map(|p| p.entropies.iter().copied())) / 5f32.ln(),
            clip_fraction: improved.clipped as f32 / actions,
            kl: improved.kl / actions,
            reasoned: Reasoned::of(played),
            improved: *improved,
        }
    }
}

/// What is drawn of a run.
pub(super) const CURVES: &[Curve] = &[
    ("gradient norm", "#444444", &["norm"]),
    ("IoU, seen", "#2ca02c", &["measured", "iou"]),
    ("false refusals", "#d62728", &["measured", "silent_high"]),
    ("silent, hidden", "#1f77b4", &["measured", "silent_low"]),
    ("silent, absent", "#9467bd", &["measured", "silent_absent"]),
    ("answer entropy", "#ff7f0e", &["measured", "entropy"]),
    ("clipped", "#8c564b", &["measured", "clip_fraction"]),
    ("KL", "#7f7f7f", &["measured", "kl"]),
];
