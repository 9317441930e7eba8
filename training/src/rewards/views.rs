//! Rewards of masks and refusals over hybrid views (Aerial-R1).
//!
//! [`Settings::published`] is what the authors' public source computes, [`Settings::default`] is derived: it repairs what
//! the tests of this module show to go wrong there.

use serde::{Deserialize, Serialize};

use super::position::{self, Extent, Reach};

/// What a rollout looks at, and so what is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Branch {
    /// The target can be seen: a mask is right.
    High,
    /// The view is too degraded to tell: silence is right.
    Low,
    /// What is asked for is not there, is not clear or makes no sense: silence is right.
    Absent,
}

/// Whose masks make the consensus that a rollout is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consensus {
    /// Those of the other rollouts that see the target.
    LeaveOneOut,
    /// Those of the whole group, its degraded members and the rollout itself included.
    Everyone,
}

/// Weights and rules of the rewards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// β: weight of the IoU with the consensus beside the IoU with the target.
    pub consensus: f32,
    /// Whose consensus.
    pub consensus_of: Consensus,
    /// Reward of silence where silence is right.
    pub refusal: f32,
    /// Greatest penalty of a mask where silence is right.
    pub hallucination: f32,
    /// Share of the picture from which that penalty is whole; 0 makes it whole at once.
    pub area_reference: f32,
    /// Share of the picture that may be drawn and still counts as silence.
    pub tolerated_area: f32,
    /// Reward of the right reason beside that of silence.
    pub reason: f32,
    /// Whether a target under 32 pixels of a 256-pixel picture is taken for a degraded view.
    pub infer_view: bool,
    /// Weight of the place beside the overlap when training begins (RSGround-R1, derived): see [`position::positional`].
    pub position: f32,
    /// The same when training ends.
    pub position_end: f32,
}

impl Default for Settings {
    /// Derived: β 0.5 over the others that see the target; silence is no pixel at all, as the metric counts it, because 50
    /// pixels would reward a hallucinated small car; a penalty that grows with what is drawn.
    fn default() -> Self {
        Self {
            consensus: 0.5,
            consensus_of: Consensus::LeaveOneOut,
            refusal: 1.0,
            hallucination: 1.0,
            area_reference: 0.01,
            tolerated_area: 0.0,
            reason: 0.25,
            infer_view: false,
            position: 0.0,
            position_end: 0.0,
        }
    }
}

/// The authors' refusal threshold: 50 pixels of 256².
const PUBLISHED_TOLERANCE: f32 = 50.0 / 65_536.0;
/// The authors' sign of a degraded view: a target under 32 pixels of 256².
const PUBLISHED_TINY: f32 = 32.0 / 65_536.0;
/// The authors' smoothing of IoU, in cells.
const SMOOTHING: f32 = 1e-6;

impl Settings {
    /// As in the authors' public source: `R = IoU + 2·IoU(consensus)` on clear views, +1 or −2 on degraded ones.
    pub fn published() -> Self {
        Self {
            consensus: 2.0,
            consensus_of: Consensus::Everyone,
            refusal: 1.0,
            hallucination: 2.0,
            area_reference: 0.0,
            tolerated_area: PUBLISHED_TOLERANCE,
            reason: 0.0,
            infer_view: true,
            ..Self::default()
        }
    }

    /// What each part of a reward is multiplied with when a share `progress` of training is done, in the order of
    /// [`PART_NAMES`]. Silence and its opposite are one part: the larger of the two is its weight.
    pub fn weights(&self, progress: f32) -> [f32; PARTS] {
        let position = self.position + (self.position_end - self.position) * progress.clamp(0.0, 1.0);
        [1.0, self.consensus, self.refusal.max(self.hallucination), self.reason, position]
    }

    /// The branch under which a rollout is judged; `target` is the share of each cell that the target covers.
    pub fn judged_as(&self, branch: Branch, target: &[f32]) -> Branch {
        let area = target.iter().sum::<f32>() / target.len().max(1) as f32;
        if self.infer_view && branch == Branch::High && area < PUBLISHED_TINY { Branch::Low } else { branch }
    }
}

/// One rollout of a group.
#[derive(Debug, Clone, Copy)]
pub struct Rollout<'a> {
    /// What it looks at.
    pub branch: Branch,
    /// Its answer among `[SEG]` (0), absent, ambiguous, not understood, unseeable.
    pub answer: usize,
    /// The right answer.
    pub right: usize,
    /// Probability of every cell, where it answered with a mask.
    pub mask: Option<&'a [f32]>,
    /// Share of every cell that the target covers; empty where nothing should be drawn.
    pub target: &'a [f32],
}

/// How many parts a reward has.
pub const PARTS: usize = 5;
/// Their names: IoU with the target, IoU with the consensus, silence or its opposite, the right reason, the place.
pub const PART_NAMES: [&str; PARTS] = ["iou", "consensus", "refusal", "reason", "position"];

/// The weighted parts of one reward, with what was measured on the way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The parts in the order of [`PART_NAMES`]; their sum is the reward.
    pub parts: [f32; PARTS],
    /// IoU of the mask with the target.
    pub iou: f32,
    /// Share of the picture that is drawn.
    pub area: f32,
}

impl Scored {
    /// The reward.
    pub fn total(&self) -> f32 {
        self.parts.iter().sum()
    }
}

/// Judges a group of rollouts of one question when a share `progress` of training is done; `None` for one that cannot be
/// scored, which is left out and never counts 0.
pub fn score(rollouts: &[Rollout<'_>], settings: &Settings, progress: f32) -> Vec<Option<Scored>> {
    let counts = count(rollouts, settings);
    let [.., weight] = settings.weights(progress);
    let one = |(rollout, counts): (&Rollout<'_>, Option<Counts>)| {
        let mut scored = judge(rollout, &counts?, settings);
        if weight > 0.0 && settings.judged_as(rollout.branch, rollout.target) == Branch::High {
            scored.parts[4] = weight * place(rollout)?;
        }
        Some(scored)
    };
    rollouts.iter().zip(counts).map(one).collect()
}

/// How near the mask's centre of mass is to the target's, in 0..=1; 0 where nothing is drawn.
fn place(rollout: &Rollout<'_>) -> Option<f32> {
    let truth = position::centre_of_mass(rollout.target, threshold(rollout.target))?;
    let drawn = rollout.mask.and_then(|mask| position::centre_of_mass(mask, 0.5));
    let reward = position::positional(drawn.as_ref(), &truth, Extent::SQUARE, Reach::Diagonal);
    reward.ok().map(|reward| reward as f32)
}

/// Cells of one rollout's mask, of its target, of its consensus, and what they share.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Counts {
    cells: f32,
    drawn: f32,
    target: f32,
    on_target: f32,
    consensus: f32,
    on_consensus: f32,
}

/// One pass over the cells for all rollouts.
fn count(rollouts: &[Rollout<'_>], settings: &Settings) -> Vec<Option<Counts>> {
    // The target's grid decides; where nothing should be drawn, that of the masks.
    let of_targets = rollouts.iter().map(|r| r.target.len()).max().filter(|cells| *cells > 0);
    let of_masks = || rollouts.iter().filter_map(|r| r.mask).map(<[f32]>::len).max().unwrap_or(0);
    let cells = of_targets.unwrap_or_else(of_masks);
    let usable: Vec<bool> = rollouts.iter().map(|r| scorable(r, cells)).collect();
    let everyone = settings.consensus_of == Consensus::Everyone;
    let votes: Vec<bool> = rollouts
        .iter()
        .zip(&usable)
        .map(|(r, usable)| *usable && (everyone || settings.judged_as(r.branch, r.target) == Branch::High))
        .collect();
    let voters = votes.iter().filter(|v| **v).count() as f32;
    let thresholds: Vec<f32> = rollouts.iter().map(|r| threshold(r.target)).collect();
    let mut counts = vec![Counts { cells: cells as f32, ..Counts::default() }; rollouts.len()];
    for cell in 0..cells {
        let sum: f32 = rollouts.iter().zip(&votes).filter(|(_, v)| **v).map(|(r, _)| probability(r, cell)).sum();
        for (i, (rollout, counts)) in rollouts.iter().zip(&mut counts).enumerate() {
            let p = probability(rollout, cell);
            let (others, of) = if everyone || !votes[i] { (sum, voters) } else { (sum - p, voters - 1.0) };
            let agreed = of > 0.0 && others / of > 0.5;
            let drawn = p > 0.5;
            let wanted = rollout.target.get(cell).is_some_and(|t| *t > thresholds[i]);
            counts.drawn += f32::from(drawn);
            counts.target += f32::from(wanted);
            counts.on_target += f32::from(drawn && wanted);
            counts.consensus += f32::from(agreed);
            counts.on_consensus += f32::from(drawn && agreed);
        }
    }
    counts.into_iter().zip(usable).map(|(counts, usable)| usable.then_some(counts)).collect()
}

fn probability(rollout: &Rollout<'_>, cell: usize) -> f32 {
    rollout.mask.and_then(|mask| mask.get(cell)).copied().unwrap_or(0.0)
}

fn scorable(rollout: &Rollout<'_>, cells: usize) -> bool {
    let finite = |values: &[f32]| values.len() == cells && values.iter().all(|v| v.is_finite());
    rollout.mask.is_none_or(finite) && (rollout.target.is_empty() || finite(rollout.target))
}

/// A target too thin to cover half of any cell counts where it covers most.
fn threshold(target: &[f32]) -> f32 {
    let most = target.iter().copied().fold(0.0, f32::max);
    if most > 0.5 { 0.5 } else { most * 0.75 }
}

fn judge(rollout: &Rollout<'_>, counts: &Counts, settings: &Settings) -> Scored {
    let area = counts.drawn / counts.cells.max(1.0);
    let iou = overlap(counts.on_target, counts.drawn + counts.target - counts.on_target, settings);
    let parts = match settings.judged_as(rollout.branch, rollout.target) {
        Branch::High => {
            let union = counts.drawn + counts.consensus - counts.on_consensus;
            [iou, settings.consensus * overlap(counts.on_consensus, union, settings), 0.0, 0.0, 0.0]
        }
        Branch::Low | Branch::Absent => {
            let silent = area <= settings.tolerated_area;
            let share = if settings.area_reference > 0.0 { (area / settings.area_reference).min(1.0) } else { 1.0 };
            let refusal = if silent { settings.refusal } else { -settings.hallucination * share };
            let reason = if silent && rollout.answer == rollout.right { settings.reason } else { 0.0 };
            [0.0, 0.0, refusal, reason, 0.0]
        }
    };
    Scored { parts, iou, area }
}

/// IoU; of nothing with nothing it is 1 with the authors' smoothing, and 0 in ours, where silence about a target that is
/// there earns nothing.
fn overlap(both: f32, either: f32, settings: &Settings) -> f32 {
    match settings.consensus_of {
        Consensus::Everyone => (both + SMOOTHING) / (either + SMOOTHING),
        Consensus::LeaveOneOut => both / either.max(1.0),
    }
}

#[cfg(test)]
#[path = "views_tests.rs"]
mod tests;
