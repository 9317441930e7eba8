//! What a step's log says of answers to tasks.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::rollout::Played;
use super::Spoken;
use crate::rewards::TaskKind;

/// What was measured of the answers to one task. A mean over nothing is not a number, `null` in the log.
#[derive(Debug, Clone, Serialize)]
pub struct Answers {
    /// Rollouts.
    pub rollouts: usize,
    /// Share that could not be scored and was left out.
    pub unscorable: f32,
    /// Mean reward of the others, in 0..=1.
    pub reward: f32,
    /// Share of these whose group told nothing.
    pub silent_groups: f32,
    /// Mean length in tokens, without the end.
    pub tokens: f32,
    /// Share that only the limit ended.
    pub overlong: f32,
}

/// Of every task that was asked for about these pictures.
pub(in super::super) fn measured(played: &[Played]) -> BTreeMap<TaskKind, Answers> {
    let mut kinds: BTreeMap<TaskKind, Vec<&Spoken>> = BTreeMap::new();
    for spoken in played.iter().flat_map(|played| &played.spoken) {
        kinds.entry(spoken.kind).or_default().push(spoken);
    }
    kinds.into_iter().map(|(kind, of)| (kind, Answers::of(&of))).collect()
}

impl Answers {
    fn of(all: &[&Spoken]) -> Self {
        let share = |holds: &dyn Fn(&Spoken) -> bool, of: &[&Spoken]| {
            of.iter().filter(|spoken| holds(spoken)).count() as f32 / of.len() as f32
        };
        let scored: Vec<&Spoken> = all.iter().copied().filter(|spoken| spoken.reward.is_some()).collect();
        let reward: f64 = scored.iter().filter_map(|spoken| spoken.reward).sum();
        Self {
            rollouts: all.len(),
            unscorable: share(&|spoken| spoken.reward.is_none(), all),
            reward: (reward / scored.len() as f64) as f32,
            silent_groups: share(&|spoken| spoken.advantage.is_none(), &scored),
            tokens: all.iter().map(|spoken| spoken.tokens() as f32).sum::<f32>() / all.len() as f32,
            overlong: share(&|spoken| spoken.overlong, all),
        }
    }
}
