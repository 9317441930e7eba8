//! What a step of reinforcement puts into its log.

use std::collections::BTreeMap;

use serde::Serialize;

use super::improve::Improved;
use super::reasoned::{self, Written};
use super::recipe::Recipe;
use super::rollout::{Played, Taken};
use super::spoken::{self, Answers};
use crate::curves::Panels;
use crate::rewards::TaskKind;
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
    /// Advantages of all rollouts that have one.
    pub advantages: Advantages,
    /// The same by what rollouts look at.
    pub advantages_by_branch: BTreeMap<Branch, Advantages>,
    /// Mean ω over the groups whose advantages were scaled by how far their masks agree, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coherence: Option<f32>,
    /// Mean entropy of the answers, as a share of the greatest.
    pub entropy: f32,
    /// Share of actions whose ratio was clipped.
    pub clip_fraction: f32,
    /// Mean divergence from the reference.
    pub kl: f32,
    /// Reasoned rollouts, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoned: Option<Reasoned>,
    /// Answers to tasks, where there are any.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<TaskKind, Answers>,
    /// The loss and its terms, summed over updates.
    pub improved: Improved,
}

/// How advantages are spread. Of none, nothing is a number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Advantages {
    /// Root mean square.
    pub rms: f32,
    /// Share of those above 0: rollouts that are made likelier.
    pub positive: f32,
    /// The least.
    pub least: f32,
    /// The greatest.
    pub most: f32,
}

impl Advantages {
    fn of(values: &[f32]) -> Self {
        let n = values.len() as f32;
        Self {
            rms: (values.iter().map(|a| a * a).sum::<f32>() / n).sqrt(),
            positive: values.iter().filter(|a| **a > 0.0).count() as f32 / n,
            // `min` and `max` ignore what is no number.
            least: values.iter().copied().fold(f32::NAN, f32::min),
            most: values.iter().copied().fold(f32::NAN, f32::max),
        }
    }
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
    /// Their advantages, scaled.
    pub advantages: Advantages,
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
            advantages: Advantages::of(&all.iter().filter_map(|w| w.advantage).collect::<Vec<f32>>()),
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
        let advantages = |keep: &dyn Fn(Branch) -> bool| {
            let kept = all.iter().filter(|(p, t)| keep(p.asked[t.asked].branch));
            kept.filter_map(|(_, t)| t.advantage).collect::<Vec<f32>>()
        };
        let by_branch =
            [Branch::High, Branch::Low, Branch::Absent].map(|branch| (branch, advantages(&|b| b == branch)));
        let scaled: Vec<f32> = played.iter().flat_map(|p| p.coherence.iter().copied()).collect();
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
            advantages: Advantages::of(&advantages(&|_| true)),
            advantages_by_branch: by_branch
                .into_iter()
                .filter(|(_, some)| !some.is_empty())
                .map(|(branch, some)| (branch, Advantages::of(&some)))
                .collect(),
            coherence: (!scaled.is_empty()).then(|| mean(&mut scaled.iter().copied())),
            entropy: mean(&mut played.iter().flat_map(|p| p.entropies.iter().copied())) / 5f32.ln(),
            clip_fraction: improved.clipped as f32 / actions,
            kl: improved.kl / actions,
            reasoned: Reasoned::of(played),
            tasks: spoken::measured(played),
            improved: *improved,
        }
    }
}

/// What is drawn of a run.
pub(super) const CURVES: Panels = Panels {
    shares: &[
        ("gradient norm", "#444444", &["norm"]),
        ("IoU, seen", "#2ca02c", &["measured", "iou"]),
        ("false refusals", "#d62728", &["measured", "silent_high"]),
        ("silent, hidden", "#1f77b4", &["measured", "silent_low"]),
        ("silent, absent", "#9467bd", &["measured", "silent_absent"]),
        ("answer entropy", "#ff7f0e", &["measured", "entropy"]),
        ("clipped", "#8c564b", &["measured", "clip_fraction"]),
        ("without a lesson", "#7f7f7f", &["measured", "silent_groups"]),
        ("better than their group", "#bcbd22", &["measured", "advantages", "positive"]),
        ("ω of masks", "#17becf", &["measured", "coherence"]),
        ("reasoned: form", "#e377c2", &["measured", "reasoned", "format"]),
        ("reasoned: IoU", "#006d2c", &["measured", "reasoned", "iou"]),
        ("reasoned: ω", "#003f5c", &["measured", "reasoned", "weight"]),
    ],
    values: &[
        ("reward", "#444444", &["measured", "reward"]),
        ("reward: IoU", "#2ca02c", &["measured", "parts", "iou"]),
        ("reward: consensus", "#98df8a", &["measured", "parts", "consensus"]),
        ("reward: refusal", "#1f77b4", &["measured", "parts", "refusal"]),
        ("reward: reason", "#9467bd", &["measured", "parts", "reason"]),
        ("reward: position", "#ff7f0e", &["measured", "parts", "position"]),
        ("advantage, RMS", "#d62728", &["measured", "advantages", "rms"]),
        ("KL", "#7f7f7f", &["measured", "kl"]),
        ("reasoned: reward", "#e377c2", &["measured", "reasoned", "reward"]),
        ("reasoned: position", "#8c564b", &["measured", "reasoned", "position"]),
        ("reasoned: advantage, RMS", "#bcbd22", &["measured", "reasoned", "advantages", "rms"]),
    ],
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::curves::Log;

    /// A step in which everything was measured.
    fn entry() -> Entry {
        let advantages = Advantages::of(&[0.7, -0.7]);
        let (format, iou, position, weight) = (1.0, 0.5, 0.5, 0.9);
        let reasoned = Reasoned {
            rollouts: 4,
            unscorable: 0,
            reward: 1.25,
            format,
            iou,
            position,
            advantages,
            weight,
            overlong: 0.0,
            tokens: 9.0,
        };
        let measured = Measured {
            rollouts: 8,
            unscorable: 1,
            silent_groups: 0.25,
            reward: -0.5,
            parts: PART_NAMES.iter().map(|name| (*name, 0.1)).collect(),
            iou,
            silent_high: 0.1,
            silent_low: 0.2,
            silent_absent: 0.3,
            advantages,
            advantages_by_branch: BTreeMap::from([(Branch::Low, advantages)]),
            coherence: Some(0.8),
            entropy: 0.4,
            clip_fraction: 0.0,
            kl: 3.0,
            reasoned: Some(reasoned),
            tasks: BTreeMap::new(),
            improved: Improved::default(),
        };
        let (waited, waiting) = (0.1, 0.05);
        Entry { step: 1, steps: 2, rate: 1e-5, norm: 0.3, measured, play_seconds: 1.0, seconds: 2.0, waited, waiting }
    }

    /// What would break: a curve of a name that the log does not know is drawn as an empty one.
    #[test]
    fn every_curve_finds_its_number_in_the_log_and_its_name_in_the_picture() {
        let value = serde_json::to_value(entry()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path(), 0, CURVES).unwrap();
        log.push(&entry()).unwrap();
        log.plot().unwrap();
        let svg = std::fs::read_to_string(folder.path().join("curves.svg")).unwrap();
        for (name, _, keys) in CURVES.shares.iter().chain(CURVES.values) {
            let at = keys.iter().fold(&value, |value, key| &value[*key]);
            assert!(at.is_number(), "{name}: {keys:?} of {value}");
            assert!(svg.contains(&format!(">{name}</text>")), "{name}");
        }
        assert!(value["measured"]["advantages_by_branch"]["low"]["most"].is_number(), "{value}");
    }

    #[test]
    fn advantages_of_nothing_are_no_numbers() {
        let none = Advantages::of(&[]);
        assert!([none.rms, none.positive, none.least, none.most].iter().all(|value| value.is_nan()), "{none:?}");
    }
}
