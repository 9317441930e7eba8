//! Rewards of masks and refusals over hybrid views (Aerial-R1).
//!
//! [`Settings::published`] is what the authors' public source computes, [`Settings::default`] is derived: it repairs what
//! the tests of this module show to go wrong there.
//!
//! What masks share is counted by [`overlap`], in memory ([`score`]) or where they were drawn ([`score_drawn`]); who
//! votes, what is right and what a count is worth is decided here alone.

use std::convert::Infallible;

use kestrel_models::candle::overlap::{self, Drawn, Group, Member, Overlap};
use serde::{Deserialize, Serialize};

use super::boxes::Edges;
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

/// One rollout of a group; `M` is its mask, as probabilities or as the number of one that lies elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Rollout<'a, M = &'a [f32]> {
    /// What it looks at.
    pub branch: Branch,
    /// Its answer among `[SEG]` (0), absent, ambiguous, not understood, unseeable.
    pub answer: usize,
    /// The right answer.
    pub right: usize,
    /// Its mask, where it answered with one: the probability of every cell, or its number in [`Drawn`].
    pub mask: Option<M>,
    /// Share of every cell that the target covers; empty where nothing should be drawn.
    pub target: &'a [f32],
}

impl<'a, M> Rollout<'a, M> {
    /// The same with its mask told otherwise.
    fn with<N>(&self, mask: Option<N>) -> Rollout<'a, N> {
        let Self { branch, answer, right, target, .. } = *self;
        Rollout { branch, answer, right, mask, target }
    }
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
    /// Where the mask is, see [`position::centre`]; none where nothing is drawn.
    pub centre: Option<Edges>,
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
    let masks: Vec<&[f32]> = rollouts.iter().map(|r| r.mask.unwrap_or_default()).collect();
    let numbered: Vec<_> = rollouts.iter().enumerate().map(|(i, r)| r.with(r.mask.map(|_| i))).collect();
    let cells = cells(&numbered, masks.iter().map(|mask| mask.len()).max().unwrap_or(0));
    let fits = |number: usize| masks[number].len() == cells;
    let count = |group: &Group| Ok::<_, Infallible>(overlap::count(&masks, group, cells));
    let Ok(scored) = counted(&numbered, cells, fits, count, settings, progress);
    scored
}

/// The same of masks that stay on the device where they were drawn: a GPU counts them there.
///
/// # Errors
/// When a rollout's mask does not exist or the device fails.
pub fn score_drawn(
    drawn: &Drawn,
    rollouts: &[Rollout<'_, usize>],
    settings: &Settings,
    progress: f32,
) -> kestrel_models::error::Result<Vec<Option<Scored>>> {
    let cells = cells(rollouts, drawn.cells());
    counted(rollouts, cells, |_| drawn.cells() == cells, |group| drawn.count(group, cells), settings, progress)
}

/// The target's grid decides; where nothing should be drawn, that of the masks.
fn cells(rollouts: &[Rollout<'_, usize>], of_masks: usize) -> usize {
    rollouts.iter().map(|r| r.target.len()).max().filter(|cells| *cells > 0).unwrap_or(of_masks)
}

/// Counts what can be scored, and judges it.
fn counted<E>(
    rollouts: &[Rollout<'_, usize>],
    cells: usize,
    fits: impl Fn(usize) -> bool,
    count: impl Fn(&Group) -> Result<Vec<Overlap>, E>,
    settings: &Settings,
    progress: f32,
) -> Result<Vec<Option<Scored>>, E> {
    let known = |target: &[f32]| target.is_empty() || target.len() == cells && target.iter().all(|t| t.is_finite());
    let mut usable: Vec<bool> = rollouts.iter().map(|r| r.mask.is_none_or(&fits) && known(r.target)).collect();
    let mut counts = count(&group(rollouts, &usable, settings))?;
    if counts.iter().any(|counts| counts.broken > 0) {
        // Only now it is known which masks hold what is no number; those must not have voted.
        usable.iter_mut().zip(&counts).for_each(|(usable, counts)| *usable &= counts.broken == 0);
        counts = count(&group(rollouts, &usable, settings))?;
    }
    let [.., weight] = settings.weights(progress);
    let one = |(rollout, (counts, usable)): (&Rollout<'_, usize>, (&Overlap, bool))| {
        let mut scored = usable.then(|| judge(rollout, counts, cells, settings))?;
        if weight > 0.0 && settings.judged_as(rollout.branch, rollout.target) == Branch::High {
            scored.parts[4] = weight * place(rollout.target, scored.centre.as_ref())?;
        }
        Some(scored)
    };
    Ok(rollouts.iter().zip(counts.iter().zip(usable)).map(one).collect())
}

/// Who votes and what each should have drawn; what is not usable has neither mask nor vote.
fn group(rollouts: &[Rollout<'_, usize>], usable: &[bool], settings: &Settings) -> Group {
    let everyone = settings.consensus_of == Consensus::Everyone;
    let mut targets: Vec<&[f32]> = Vec::new();
    let mut members = Vec::with_capacity(rollouts.len());
    for (rollout, usable) in rollouts.iter().zip(usable) {
        if !usable {
            members.push(Member::default());
            continue;
        }
        let votes = everyone || settings.judged_as(rollout.branch, rollout.target) == Branch::High;
        // Rollouts of one question have one target, which is told once.
        let target = (!rollout.target.is_empty()).then(|| {
            targets.iter().position(|known| std::ptr::eq(*known, rollout.target)).unwrap_or_else(|| {
                targets.push(rollout.target);
                targets.len() - 1
            })
        });
        members.push(Member { mask: rollout.mask, target, votes });
    }
    let drawn = |target: &&[f32]| {
        let threshold = threshold(target);
        target.iter().map(|share| *share > threshold).collect::<Vec<bool>>()
    };
    Group { members, targets: targets.iter().map(drawn).collect(), leave_one_out: !everyone }
}

/// How near the mask's centre of mass is to the target's, in 0..=1; 0 where nothing is drawn.
fn place(target: &[f32], drawn: Option<&Edges>) -> Option<f32> {
    let truth = position::centre_of_mass(target, threshold(target))?;
    let reward = position::positional(drawn, &truth, Extent::SQUARE, Reach::Diagonal);
    reward.ok().map(|reward| reward as f32)
}

/// A target too thin to cover half of any cell counts where it covers most.
fn threshold(target: &[f32]) -> f32 {
    let most = target.iter().copied().fold(0.0, f32::max);
    if most > 0.5 { 0.5 } else { most * 0.75 }
}

fn judge(rollout: &Rollout<'_, usize>, counts: &Overlap, cells: usize, settings: &Settings) -> Scored {
    let [drawn, target, on_target] = [counts.drawn, counts.target, counts.on_target].map(|cells| cells as f32);
    let [consensus, on_consensus] = [counts.consensus, counts.on_consensus].map(|cells| cells as f32);
    let area = drawn / cells.max(1) as f32;
    let iou = intersection_over_union(on_target, drawn + target - on_target, settings);
    let parts = match settings.judged_as(rollout.branch, rollout.target) {
        Branch::High => {
            let agreement = intersection_over_union(on_consensus, drawn + consensus - on_consensus, settings);
            [iou, settings.consensus * agreement, 0.0, 0.0, 0.0]
        }
        Branch::Low | Branch::Absent => {
            let silent = area <= settings.tolerated_area;
            let share = if settings.area_reference > 0.0 { (area / settings.area_reference).min(1.0) } else { 1.0 };
            let refusal = if silent { settings.refusal } else { -settings.hallucination * share };
            let reason = if silent && rollout.answer == rollout.right { settings.reason } else { 0.0 };
            [0.0, 0.0, refusal, reason, 0.0]
        }
    };
    let centre = position::centre([counts.columns, counts.rows], counts.drawn, cells);
    Scored { parts, iou, area, centre }
}

/// IoU; of nothing with nothing it is 1 with the authors' smoothing, and 0 in ours, where silence about a target that is
/// there earns nothing.
fn intersection_over_union(both: f32, either: f32, settings: &Settings) -> f32 {
    match settings.consensus_of {
        Consensus::Everyone => (both + SMOOTHING) / (either + SMOOTHING),
        Consensus::LeaveOneOut => both / either.max(1.0),
    }
}

#[cfg(test)]
#[path = "views_tests.rs"]
mod tests;
