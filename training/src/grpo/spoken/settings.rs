//! What a recipe says of the tasks that it samples.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rewards::TaskKind;
use crate::tasks::{TAUGHT, missing};

/// Answers to tasks among the rollouts of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How often each task is asked for, relative to the others.
    pub kinds: BTreeMap<TaskKind, f32>,
    /// Requests about each picture at most: where its labels do not tell the answer, nothing is asked.
    pub requests: usize,
    /// Rollouts of a request.
    pub rollouts: usize,
    /// Temperature of the tokens.
    pub temperature: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { kinds: BTreeMap::new(), requests: 1, rollouts: 8, temperature: 1.0 }
    }
}

impl Settings {
    /// Whether no task is asked for; a recipe without is written as it always was.
    pub fn off(&self) -> bool {
        *self == Self::default()
    }

    /// What makes no sense, as setting, expected and got; `policy` is the weight of the surrogate.
    pub(in super::super) fn senseless(&self, policy: f32) -> Option<(String, String, String)> {
        if self.off() {
            return None;
        }
        let wrong =
            |setting: &str, expected: &str, got: String| Some((format!("tasks.{setting}"), expected.to_owned(), got));
        let taught = || TAUGHT.map(TaskKind::name).join(", ");
        if self.kinds.is_empty() {
            return wrong("kinds", &format!("at least one of {}", taught()), "none".into());
        }
        for (kind, weight) in &self.kinds {
            let name = kind.name();
            if let Some(why) = missing(*kind) {
                return wrong(&format!("kinds.{name}"), &format!("one of {}", taught()), format!("{name}, {why}"));
            }
            if !(*weight > 0.0 && weight.is_finite()) {
                return wrong(&format!("kinds.{name}"), "a positive number", weight.to_string());
            }
        }
        if self.requests == 0 {
            return wrong("requests", "at least 1", "0".into());
        }
        if self.rollouts < 2 {
            let expected = "at least 2: a rollout is judged beside others";
            return wrong("rollouts", expected, self.rollouts.to_string());
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return wrong("temperature", "a positive number", self.temperature.to_string());
        }
        let expected = "above 0 where tasks are sampled";
        (policy <= 0.0).then(|| ("terms.policy".to_owned(), expected.to_owned(), policy.to_string()))
    }
}
