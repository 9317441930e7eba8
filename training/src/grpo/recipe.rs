//! A reinforcement run as a TOML file.

use std::path::Path;

use kestrel_models::candle::lora::Lora;
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use super::{advantage, objective, reasoned, spoken};
use crate::cache::Spec;
use crate::datasets::formats::Format;
use crate::rewards::position::Coherence;
use crate::rewards::views::{self, Branch};
use crate::sft::recipe::{Optimiser, Processor, VISION, Weights};
use crate::sft::{Result, TrainError};

/// Everything that decides a run but the model that it begins with. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Names the folder of the run; letters, digits, `-` and `_`.
    pub name: String,
    /// Everything random follows from it, but the data.
    pub seed: u64,
    /// Threads; each handles one picture at a time.
    pub workers: usize,
    /// What computes.
    #[serde(default, skip_serializing_if = "Processor::plain")]
    pub device: Processor,
    /// Optimiser steps.
    pub steps: usize,
    /// Pictures a step.
    pub batch: usize,
    /// Updates on the rollouts of a step.
    #[serde(default = "one")]
    pub updates: usize,
    /// Highest learning rate.
    pub learning_rate: f32,
    /// Steps of linear warm-up; then the rate falls as a cosine to `final_share`.
    pub warm_up_steps: usize,
    /// Share of the learning rate at the end.
    pub final_share: f32,
    /// Steps between checkpoints.
    pub checkpoint_steps: usize,
    /// The pictures.
    pub data: Data,
    /// What is asked about each.
    #[serde(default)]
    pub questions: Questions,
    /// What moves, and how it acts.
    pub policy: Policy,
    /// What is rewarded.
    #[serde(default)]
    pub reward: views::Settings,
    /// How rewards become advantages.
    #[serde(default)]
    pub advantage: advantage::Options,
    /// Scaling of advantages by how far a group's masks agree on where the target is (RSGround-R1, derived); none without.
    #[serde(default)]
    pub coherence: Option<Coherence>,
    /// How advantages become a loss.
    #[serde(default)]
    pub objective: objective::Options,
    /// What the loss is made of.
    #[serde(default)]
    pub terms: Terms,
    /// Reasoned answers among the rollouts.
    #[serde(default, skip_serializing_if = "reasoned::Settings::off")]
    pub reasoning: reasoned::Settings,
    /// Answers to tasks among the rollouts.
    #[serde(default, skip_serializing_if = "spoken::Settings::off")]
    pub tasks: spoken::Settings,
    /// The optimiser.
    #[serde(default)]
    pub optimiser: Optimiser,
    /// Weights of the supervised losses.
    #[serde(default)]
    pub loss: Weights,
}

fn one() -> usize {
    1
}

/// The pictures of a run, seen once by the frozen vision part and kept as its features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Where the pictures come from; `degraded_share` and `later_share` are not read: views are drawn here.
    pub pictures: Spec,
    /// Degraded views beside the clean one of each picture; the first of them hides something that is asked for.
    pub views: usize,
    /// Questions about each picture at most.
    pub asks: usize,
}

/// What is asked about a picture in one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Questions {
    /// For something that can be seen in the clean view.
    pub high: usize,
    /// For something that can be seen in a degraded view.
    pub degraded: usize,
    /// For something that a degraded view hides; the same question is asked about the clean view beside it.
    pub low: usize,
    /// For something that is not there, or is not clear, or makes no sense.
    pub absent: usize,
    /// Besides, to how many the reasoned answer is taught where supervision is a term, at most. Rollouts never are chains.
    #[serde(skip_serializing_if = "none")]
    pub chains: usize,
}

fn none(count: &usize) -> bool {
    *count == 0
}

impl Default for Questions {
    fn default() -> Self {
        Self { high: 2, degraded: 1, low: 2, absent: 2, chains: 0 }
    }
}

/// What moves, and how it acts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Rollouts of a question about a view.
    pub rollouts: usize,
    /// Temperature of the answer.
    pub temperature: f32,
    /// σ: deviation of a sampled `[SEG]` state as a share of the state's length.
    pub latent_deviation: f32,
    /// Whether every answer is `[SEG]`, so that only an empty mask can refuse (Aerial-R1).
    #[serde(default)]
    pub forced_answer: bool,
    /// Whether what a view hides is refused by the answer alone: neither its `[SEG]` state nor its mask and their signs of
    /// presence are acted on or taught, which leaves presence to what is absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden_by_answer: bool,
    /// Parameters that move, as patterns with `*` and `?`.
    pub trainable: Vec<String>,
    /// Adapters instead of the matrices themselves.
    #[serde(default)]
    pub lora: Option<Adapters>,
}

/// Low-rank adapters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adapters {
    /// Matrices that get one, as patterns.
    pub on: Vec<String>,
    /// Rank.
    pub rank: usize,
    /// α: the adapter is scaled by α/rank.
    pub alpha: f32,
}

impl Policy {
    /// Whether questions of this branch teach their answer and nothing else.
    pub fn answer_alone(&self, branch: Branch) -> bool {
        self.hidden_by_answer && branch == Branch::Low
    }

    /// Whether a parameter moves.
    pub fn moves(&self, name: &str) -> bool {
        matches(&self.trainable, name) || (self.lora.is_some() && name.contains(".lora_"))
    }

    /// The adapters' sizes, where there are any.
    pub fn adapters(&self) -> Option<Lora> {
        self.lora.as_ref().map(|lora| Lora { rank: lora.rank, alpha: lora.alpha })
    }
}

/// Whether a name fits one of the patterns.
pub fn matches(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| WildMatch::new(pattern).matches(name))
}

/// Weights of the parts of the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// The clipped surrogate over answers and `[SEG]` states.
    pub policy: f32,
    /// Masks of better rollouts regressed to the target, weighted by their advantage (Aerial-R1's update).
    pub regression: f32,
    /// Plain supervision of the same questions.
    pub supervised: f32,
}

impl Terms {
    /// Whether anything learns from rollouts.
    pub fn needs_rollouts(&self) -> bool {
        self.policy > 0.0 || self.regression > 0.0
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self { policy: 1.0, regression: 0.0, supervised: 0.0 }
    }
}

/// The preset `published`, which a recipe's own keys override.
const PUBLISHED: &str = r#"
[reward]
consensus = 2.0
consensus_of = "everyone"
refusal = 1.0
hallucination = 2.0
area_reference = 0.0
tolerated_area = 0.000762939453125
reason = 0.0
infer_view = true
[advantage]
per_branch = false
per_reward = false
by_deviation = true
least_deviation = 0.0
[terms]
policy = 0.0
regression = 1.0
supervised = 0.0
[policy]
forced_answer = true
"#;

impl Recipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// When the file cannot be read, is no valid recipe, or a setting makes no sense.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io("reading", path))?;
        let broken = |source| TrainError::Recipe { path: path.to_path_buf(), source: Box::new(source) };
        let recipe = Self::of(text.parse().map_err(broken)?).map_err(broken)?;
        recipe.check()?;
        Ok(recipe)
    }

    /// A recipe from its table, whose `preset` comes first.
    ///
    /// # Errors
    /// When a key is unknown or missing, or a value of another kind.
    pub fn of(mut table: toml::Table) -> std::result::Result<Self, toml::de::Error> {
        use serde::de::Error as _;
        match table.remove("preset") {
            None => {}
            Some(toml::Value::String(name)) if name == "published" => table = merged(PUBLISHED.parse()?, &table),
            Some(other) => return Err(toml::de::Error::custom(format!("preset: expected \"published\", got {other}"))),
        }
        toml::Value::Table(table).try_into()
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// Names the setting, what it must be and what it is.
    pub fn check(&self) -> Result<()> {
        let wrong = |setting: &str, expected: &str, got: String| {
            let (recipe, setting, expected) = (self.name.clone(), setting.to_owned(), expected.to_owned());
            Err(TrainError::Setting { recipe, setting, expected, got })
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return wrong("name", "letters, digits, - and _", format!("{:?}", self.name));
        }
        let counts = [
            ("workers", self.workers),
            ("steps", self.steps),
            ("batch", self.batch),
            ("updates", self.updates),
            ("checkpoint_steps", self.checkpoint_steps),
            ("data.pictures", usize::from(!self.data.pictures.is_empty())),
            ("data.asks", self.data.asks),
        ];
        if let Some((setting, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return wrong(setting, "at least 1", "0".into());
        }
        if let Err((setting, expected, got)) = self.data.pictures.check() {
            return wrong(&format!("data.pictures.{setting}"), &expected, got);
        }
        if let Some(number) = self.data.pictures.sets.iter().position(|set| set.format == Format::Spoken) {
            let setting = format!("data.pictures.sets[{number}].format");
            return wrong(&setting, "one whose labels tell what is right", "spoken, which labels nothing".into());
        }
        if self.policy.rollouts < 2 {
            return wrong(
                "policy.rollouts",
                "at least 2: a rollout is judged beside others",
                self.policy.rollouts.to_string(),
            );
        }
        let positive = [
            ("learning_rate", self.learning_rate),
            ("policy.temperature", self.policy.temperature),
            ("policy.latent_deviation", self.policy.latent_deviation),
        ];
        if let Some((setting, value)) = positive.iter().find(|(_, v)| !(*v > 0.0 && v.is_finite())) {
            return wrong(setting, "a positive number", value.to_string());
        }
        let Coherence { least, tolerance, .. } = self.coherence.unwrap_or_default();
        let sensible = (0.0..=1.0).contains(&least) && tolerance > 0.0 && tolerance.is_finite();
        if !sensible {
            let expected = "least in 0..=1 and a positive tolerance";
            return wrong("coherence", expected, format!("{least} and {tolerance}"));
        }
        let rewards = [self.reward.position, self.reward.position_end];
        if let Some(weight) = rewards.iter().find(|w| !(**w >= 0.0 && w.is_finite())) {
            return wrong("reward.position", "a number of 0 or more", weight.to_string());
        }
        let seen = |name: &str| VISION.iter().any(|prefix| name.starts_with(prefix));
        if let Some(pattern) = self.policy.trainable.iter().find(|pattern| seen(pattern)) {
            let expected = "no part of the vision graph, which is kept as its features";
            return wrong("policy.trainable", expected, pattern.clone());
        }
        if self.policy.lora.as_ref().is_some_and(|lora| lora.rank == 0) {
            return wrong("policy.lora.rank", "at least 1", "0".into());
        }
        if self.reasoning.questions > 0 && self.reasoning.thought_tokens == 0 {
            return wrong("reasoning.thought_tokens", "at least 1 where reasoning.questions are asked", "0".into());
        }
        let teaches = self.terms.supervised > 0.0 && self.loss.chain > 0.0 && self.reasoning.thought_tokens > 0;
        if self.questions.chains > 0 && !teaches {
            let got = format!("{} and {}", self.terms.supervised, self.loss.chain);
            return wrong("questions.chains", "0, or terms.supervised and loss.chain above 0", got);
        }
        if let Some((setting, expected, got)) = self.tasks.senseless(self.terms.policy) {
            return wrong(&setting, &expected, got);
        }
        if self.questions.low > 0 && self.data.views == 0 {
            return wrong("data.views", "at least 1 where questions.low is asked", "0".into());
        }
        Ok(())
    }

    /// Learning rate at `step`.
    pub fn rate(&self, step: usize) -> f32 {
        crate::sft::recipe::schedule(step, self.steps, self.warm_up_steps, self.learning_rate, self.final_share)
    }
}

/// `under` with the keys of `over`; tables are merged, anything else is replaced.
pub fn merged(mut under: toml::Table, over: &toml::Table) -> toml::Table {
    for (key, value) in over {
        let value = match (under.remove(key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => toml::Value::Table(merged(under, over)),
            (_, over) => over.clone(),
        };
        under.insert(key.clone(), value);
    }
    under
}

#[cfg(test)]
#[path = "recipe_tests.rs"]
mod tests;
