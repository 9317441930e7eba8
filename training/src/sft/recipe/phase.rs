//! A stretch of a run, and the learning rate along it.

use std::collections::BTreeMap;

use kestrel_perception::Limits;
use serde::{Deserialize, Serialize};

use crate::datasets::folder::Folder;
use crate::datasets::formats::Format;
use crate::reasoning::LISTED;
use crate::rewards::TaskKind;
use crate::sample::Stratum;
use crate::tasks::{SPOKEN, TAUGHT, missing};

/// Requests of one task about a picture that a phase may teach.
const MOST: f32 = 8.0;
/// Beginnings of the names of the vision graph's parameters.
pub(crate) const VISION: [&str; 4] = ["trunk.", "neck.", "projector.", "proposals."];

/// A stretch of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its name in the log.
    pub name: String,
    /// Side of the input in pixels.
    pub image: usize,
    /// Optimiser steps.
    pub steps: usize,
    /// Pictures a step.
    pub batch: usize,
    /// Requests without a picture that are read beside each picture.
    #[serde(default)]
    pub texts: usize,
    /// Pictures whose things, not pixels, are asked about beside each picture.
    #[serde(default)]
    pub layouts: usize,
    /// Questions about each of these.
    #[serde(default = "layout_queries")]
    pub layout_queries: usize,
    /// Whether there are no pictures at all: the phase learns to read and to compare.
    #[serde(default)]
    pub blind: bool,
    /// Share of pictures in which the labelled things are among the proposals, found or not.
    #[serde(default)]
    pub teacher_forcing: f32,
    /// Questions a picture at most; 0 teaches only what stands where.
    pub queries: usize,
    /// Of these, how many masks are decoded.
    pub masks: usize,
    /// Of these, to how many the reasoned answer is taught too, at most.
    #[serde(default, skip_serializing_if = "none")]
    pub chains: usize,
    /// Tokens of the longest thought that is taught; what takes more is left out and counted.
    #[serde(default = "thought_tokens", skip_serializing_if = "usual_thought")]
    pub thought_tokens: usize,
    /// Tasks with answers in words, and how many requests of each are taught about a picture, in the mean: 0.25 are one
    /// about every fourth.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<TaskKind, f32>,
    /// Highest learning rate.
    pub learning_rate: f32,
    /// Steps of linear warm-up; then the rate falls as a cosine to `final_share`.
    pub warm_up_steps: usize,
    /// Share of the learning rate at the end.
    #[serde(default = "final_share")]
    pub final_share: f32,
    /// Parameters that do not move, by beginning of their names.
    #[serde(default)]
    pub frozen: Vec<String>,
    /// Pictures at most of which is kept, in memory, what the frozen vision part sees: 3.4 MB each at 512 pixels.
    #[serde(default, skip_serializing_if = "none")]
    pub kept: usize,
    /// Weight with which questions of a stratum are drawn; 1 where none is given, 0 for never.
    #[serde(default)]
    pub curriculum: BTreeMap<Stratum, f32>,
    /// Targets under so many pixels of this phase's input are not asked for.
    #[serde(default = "smallest_target")]
    pub smallest_target_pixels: f32,
}

fn final_share() -> f32 {
    0.05
}

fn layout_queries() -> usize {
    16
}

fn smallest_target() -> f32 {
    20.0
}

/// A recipe without chains is written as it always was.
pub(super) fn none(count: &usize) -> bool {
    *count == 0
}

fn thought_tokens() -> usize {
    96
}

fn usual_thought(tokens: &usize) -> bool {
    *tokens == thought_tokens()
}

impl Phase {
    /// Learning rate at `step` of the phase.
    pub fn rate(&self, step: usize) -> f32 {
        schedule(step, self.steps, self.warm_up_steps, self.learning_rate, self.final_share)
    }

    /// Room for the longest reasoned answer.
    pub fn limits(&self) -> Limits {
        Limits::roomy(self.thought_tokens, LISTED)
    }

    /// What keeps this phase's tasks from being taught, as setting, expected and got; `weight` is that of their loss, `sets`
    /// are the recipe's.
    pub(super) fn unteachable(&self, weight: f32, sets: &[Folder]) -> Option<(String, String, String)> {
        let setting = |kind: &TaskKind| format!("phases.{}.tasks.{}", self.name, kind.name());
        let spoken = sets.iter().any(|set| set.format == Format::Spoken);
        for (kind, count) in &self.tasks {
            let people = SPOKEN.contains(kind);
            if let Some(why) = missing(*kind).filter(|_| !(people && spoken)) {
                let taught = TAUGHT.map(TaskKind::name).join(", ");
                let or = if people { ", or a set in the format `spoken` under [[data.sets]]" } else { "" };
                return Some((setting(kind), format!("one of {taught}{or}"), format!("{}, {why}", kind.name())));
            }
            if !(*count > 0.0 && *count <= MOST) {
                return Some((setting(kind), format!("a number above 0, {MOST} at most"), count.to_string()));
            }
        }
        let kind = self.tasks.keys().next()?;
        if self.blind {
            return Some((setting(kind), "none in a phase without pictures".to_owned(), "some".to_owned()));
        }
        let expected = || format!("above 0 where `{}` is taught", setting(kind));
        (weight == 0.0).then(|| ("loss.chain".to_owned(), expected(), "0".to_owned()))
    }

    /// The first part of the vision graph that moves, where there is any.
    pub(super) fn moving_vision(&self) -> Option<&'static str> {
        let frozen = |part: &str| self.frozen.iter().any(|prefix| part.starts_with(prefix.as_str()));
        VISION.into_iter().find(|part| !frozen(part))
    }

    /// Weight of a stratum.
    pub fn weight(&self, stratum: Stratum) -> f32 {
        self.curriculum.get(&stratum).copied().unwrap_or(1.0)
    }
}

/// Linear warm-up to `highest`, then a cosine that falls to `final_share` of it at the last of `steps`.
pub(crate) fn schedule(step: usize, steps: usize, warm_up: usize, highest: f32, final_share: f32) -> f32 {
    if step < warm_up {
        return highest * (step + 1) as f32 / warm_up as f32;
    }
    let length = steps.saturating_sub(warm_up).max(1) as f32;
    let done = ((step - warm_up) as f32 / length).min(1.0);
    let cosine = 0.5 * (1.0 + (std::f32::consts::PI * done).cos());
    highest * (final_share + (1.0 - final_share) * cosine)
}
