//! A training run as a TOML file.

mod distil;
mod phase;
mod processor;
mod weights;

pub use distil::{Distil, Terms, model_files};
pub use phase::Phase;
pub(crate) use phase::{VISION, schedule};
pub use processor::Processor;
pub use weights::Weights;

use std::path::{Path, PathBuf};

use kestrel_models::kestrel::Config;
use serde::{Deserialize, Serialize};

use super::{Result, TrainError};
use crate::cache::Spec;
use crate::losses::dense::OUTPUTS;

/// Everything that decides a run. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Names the folder of the run; letters, digits, `-` and `_`.
    pub name: String,
    /// Everything random follows from it.
    pub seed: u64,
    /// Threads; each handles one sample at a time.
    pub workers: usize,
    /// What computes.
    #[serde(default)]
    pub device: Processor,
    /// Whether the run must begin from a pretrained trunk.
    pub pretrained_trunk: bool,
    /// Phrasings that the tokenizer is trained on.
    pub tokenizer_texts: usize,
    /// Steps between checkpoints.
    pub checkpoint_steps: usize,
    /// Steps between evaluations; 0 for none.
    pub evaluate_steps: usize,
    /// Pictures of each evaluation.
    pub evaluate_pictures: usize,
    /// Sets of the evaluation, by name of [`crate::benchmark`], or `sets` for the tuning parts of the recipe's own; the pictures
    /// are shared evenly.
    #[serde(default)]
    pub evaluate_sets: Vec<String>,
    /// Questions about each of these pictures that are answered with reasons too; 0 for none.
    #[serde(default, skip_serializing_if = "phase::none")]
    pub evaluate_chains: usize,
    /// Requests of every task of the phases about each of these pictures; 0 for none.
    #[serde(default, skip_serializing_if = "phase::none")]
    pub evaluate_tasks: usize,
    /// Whether locations begin as the codes of image tokens' places, whatever the model to begin from has in their stead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub location_codes: bool,
    /// `quantisation.json` of a bundle that `ground quantise` wrote of the model that this run begins from: every pass rounds
    /// as its graphs do, so that the weights learn to bear it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantisation: Option<PathBuf>,
    /// Sizes of the model; `image` is overridden by every phase.
    pub model: Config,
    /// The cache of samples.
    pub data: Spec,
    /// The optimiser.
    #[serde(default)]
    pub optimiser: Optimiser,
    /// Weights of the losses.
    #[serde(default)]
    pub loss: Weights,
    /// A teacher beside the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distil: Option<Distil>,
    /// What happens, in order.
    pub phases: Vec<Phase>,
}

/// AdamW (Loshchilov & Hutter, arXiv 1711.05101) with clipping and an average of the parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optimiser {
    /// Decay of the gradient's mean.
    pub beta1: f32,
    /// Decay of the gradient's square.
    pub beta2: f32,
    /// Decoupled weight decay of matrices and kernels; vectors have none.
    pub weight_decay: f32,
    /// Largest norm of a step's whole gradient.
    pub clip_norm: f32,
    /// The trunk's share of the learning rate, for weights of a fresh layer's size; others by their size.
    pub trunk_share: f32,
    /// Decay of the average that is evaluated and exported.
    pub average_decay: f32,
}

impl Default for Optimiser {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.98, weight_decay: 0.05, clip_norm: 1.0, trunk_share: 0.3, average_decay: 0.999 }
    }
}

impl Recipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// When the file cannot be read, is no valid recipe, or a setting makes no sense.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io("reading", path))?;
        let recipe: Self = toml::from_str(&text)
            .map_err(|source| TrainError::Recipe { path: path.to_path_buf(), source: Box::new(source) })?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Steps of all phases.
    pub fn steps(&self) -> usize {
        self.phases.iter().map(|p| p.steps).sum()
    }

    /// The phase of a step, with the step within it, its number, and the pictures of all steps before.
    pub fn phase(&self, step: usize) -> Option<Position<'_>> {
        let (mut from, mut pictures) = (0, 0);
        for (number, phase) in self.phases.iter().enumerate() {
            if step < from + phase.steps {
                let within = step - from;
                return Some(Position { phase, number, within, pictures: pictures + within * phase.batch });
            }
            from += phase.steps;
            pictures += phase.steps * phase.batch;
        }
        None
    }

    /// The model at a phase's input size.
    pub fn model_of(&self, phase: &Phase) -> Config {
        Config { image: phase.image, ..self.model.clone() }
    }

    fn check(&self) -> Result<()> {
        let wrong = |setting: &str, expected: &str, got: String| {
            Err(TrainError::Setting {
                recipe: self.name.clone(),
                setting: setting.to_owned(),
                expected: expected.to_owned(),
                got,
            })
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return wrong("name", "letters, digits, - and _", format!("{:?}", self.name));
        }
        if self.workers == 0 || self.checkpoint_steps == 0 || self.phases.is_empty() || self.data.is_empty() {
            return wrong("workers, checkpoint_steps, phases, data", "at least one of each", "none".into());
        }
        if let Err((setting, expected, got)) = self.data.check() {
            return wrong(&format!("data.{setting}"), &expected, got);
        }
        if self.model.auxiliary < OUTPUTS {
            return wrong("model.auxiliary", &format!("at least {OUTPUTS}"), self.model.auxiliary.to_string());
        }
        if self.model.compare_layers == 0 {
            return wrong("model.compare_layers", "at least 1", "0".into());
        }
        for (name, weight) in [
            ("loss.chain", self.loss.chain),
            ("loss.location", self.loss.location),
            ("loss.location_spread", self.loss.location_spread),
            ("loss.aim", self.loss.aim),
            ("loss.agreement", self.loss.agreement),
        ] {
            if !(weight >= 0.0 && weight.is_finite()) {
                return wrong(name, "a weight of 0 or more", weight.to_string());
            }
        }
        if let Some((setting, expected, got)) = self.distil.as_ref().and_then(|distil| distil.senseless(&self.phases)) {
            return wrong(&setting, &expected, got);
        }
        if let Err(error) = self.model.tells_things() {
            return wrong("model.things", "false, or a language model with room for them", error.to_string());
        }
        if self.loss.aim > 0.0 && !self.model.things {
            let expected = "0 where `model.things` is false: there is nothing to look at";
            return wrong("loss.aim", expected, self.loss.aim.to_string());
        }
        for phase in &self.phases {
            let at = |field: &str| format!("phases.{}.{field}", phase.name);
            if phase.image == 0 || phase.image % 32 != 0 || !(self.data.size as usize).is_multiple_of(phase.image / 4) {
                let expected = format!("a multiple of 32 whose quarter divides data.size {}", self.data.size);
                return wrong(&at("image"), &expected, phase.image.to_string());
            }
            if phase.batch == 0 || phase.steps == 0 || (phase.queries > 0 && phase.masks == 0) {
                return wrong(&at("batch, steps, masks"), "at least 1 each", "0".into());
            }
            if phase.blind && phase.texts == 0 && phase.layouts == 0 {
                return wrong(&at("texts, layouts"), "at least 1 of one in a phase without pictures", "0".into());
            }
            if !(0.0..=1.0).contains(&phase.teacher_forcing) {
                return wrong(&at("teacher_forcing"), "a share from 0 to 1", phase.teacher_forcing.to_string());
            }
            if phase.layouts > 0 && phase.layout_queries == 0 {
                return wrong(&at("layout_queries"), "at least 1", "0".into());
            }
            if phase.chains > 0 && self.loss.chain == 0.0 {
                return wrong("loss.chain", &format!("above 0 where `{}` teaches chains", at("chains")), "0".into());
            }
            if phase.chains > phase.queries || phase.thought_tokens == 0 {
                let got = format!("{} of {}, {}", phase.chains, phase.queries, phase.thought_tokens);
                return wrong(&at("chains, thought_tokens"), "at most one a question, at least 1 token", got);
            }
            if let Some(part) = phase.moving_vision().filter(|_| phase.kept > 0) {
                let got = format!("`{part}…`, which moves");
                return wrong(&at("kept"), "0 where any part of vision moves: its views change", got);
            }
            if let Some((setting, expected, got)) = phase.unteachable(self.loss.chain, &self.data.sets) {
                return wrong(&setting, &expected, got);
            }
            if !(phase.learning_rate > 0.0 && phase.learning_rate.is_finite()) {
                return wrong(&at("learning_rate"), "a positive number", phase.learning_rate.to_string());
            }
            if let Some((stratum, weight)) = phase.curriculum.iter().find(|(_, w)| !(**w >= 0.0 && w.is_finite())) {
                return wrong(&at(&format!("curriculum.{stratum:?}")), "a weight of 0 or more", weight.to_string());
            }
        }
        Ok(())
    }
}

/// Where a step stands.
#[derive(Debug, Clone, Copy)]
pub struct Position<'a> {
    /// The phase.
    pub phase: &'a Phase,
    /// Its number.
    pub number: usize,
    /// The step within it.
    pub within: usize,
    /// Pictures shown in all steps before.
    pub pictures: usize,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn recipe(text: &str) -> std::result::Result<Recipe, String> {
        let recipe: Recipe = toml::from_str(text).map_err(|e| e.to_string())?;
        recipe.check().map_err(|e| e.to_string())?;
        Ok(recipe)
    }

    #[test]
    fn the_shipped_recipes_are_valid() {
        let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("recipes");
        let mut seen = 0;
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|p| p.is_file()) {
            // Experiments lie beside them.
            if !std::fs::read_to_string(&path).unwrap().contains("[[phases]]") {
                continue;
            }
            Recipe::load(&path).unwrap();
            seen += 1;
        }
        assert!(seen >= 2);
    }

    #[test]
    fn unknown_keys_and_senseless_settings_are_refused() {
        let good = include_str!("../../../recipes/smoke.toml");
        recipe(good).unwrap();
        let error = recipe(&good.replacen("seed =", "sead =", 1)).unwrap_err();
        assert!(error.contains("sead"), "{error}");
        let error = recipe(&good.replacen("learning_rate = ", "learning_rate = -", 1)).unwrap_err();
        assert!(error.contains("learning_rate"), "{error}");
    }

    #[test]
    fn a_model_that_compares_nothing_is_refused() {
        let text = include_str!("../../../recipes/smoke.toml").replace("[model]", "[model]\ncompare_layers = 0");
        let error = recipe(&text).unwrap_err();
        assert!(error.contains("model.compare_layers") && error.contains("at least 1"), "{error}");
    }

    #[test]
    fn views_are_kept_of_frozen_vision_alone() {
        let smoke = include_str!("../../../recipes/smoke.toml");
        let frozen = "frozen = [\"trunk.stem\"]";
        let error = recipe(&smoke.replace(frozen, &format!("kept = 9\n{frozen}"))).unwrap_err();
        assert!(error.contains("phases.large.kept") && error.contains("`trunk."), "{error}");
        let kept = "kept = 9\nfrozen = [\"trunk.\", \"neck.\", \"projector.\", \"proposals.\"]";
        assert_eq!(recipe(&smoke.replace(frozen, kept)).unwrap().phases[2].kept, 9);
    }

    #[test]
    fn a_model_too_narrow_for_things_and_weights_below_nothing_are_refused() {
        let smoke = include_str!("../../../recipes/smoke.toml");
        let error = recipe(&smoke.replace("[model]", "[model]\nthings = true")).unwrap_err();
        assert!(error.contains("model.things"), "{error}");
        for name in ["location", "location_spread", "aim", "agreement"] {
            let error = recipe(&format!("{smoke}\n[loss]\n{name} = -1.0")).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        let error = recipe(&format!("{smoke}\n[loss]\naim = 1.0")).unwrap_err();
        assert!(error.contains("loss.aim") && error.contains("model.things"), "{error}");
    }

    #[test]
    fn chains_that_would_teach_nothing_are_refused() {
        let smoke = include_str!("../../../recipes/smoke.toml");
        let with =
            |keys: &str, loss: &str| recipe(&(smoke.replace("queries = 4", &format!("queries = 4\n{keys}")) + loss));
        with("chains = 2", "[loss]\nchain = 0.5").unwrap();
        for (keys, loss, named) in [
            ("chains = 2", "", "loss.chain"),
            ("chains = 5", "[loss]\nchain = 0.5", "5 of 4"),
            ("chains = 2\nthought_tokens = 0", "[loss]\nchain = 0.5", "thought_tokens"),
            ("", "[loss]\nchain = -1.0", "loss.chain"),
        ] {
            let error = with(keys, loss).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn tasks_that_nothing_here_can_teach_are_refused_with_what_is_missing() {
        let smoke = include_str!("../../../recipes/smoke.toml");
        let with = |phase: &str, tasks: &str, loss: &str| {
            recipe(&(smoke.replace(phase, &format!("{phase}\ntasks = {{ {tasks} }}")) + loss))
        };
        let (seeing, weight) = ("queries = 4", "[loss]\nchain = 0.5");
        let good = with(seeing, "classification = 1, multi_label = 0.5", weight).unwrap();
        assert_eq!(good.phases[1].tasks[&crate::rewards::TaskKind::MultiLabel], 0.5);
        for (tasks, named) in [
            ("caption = 1", "captions that people wrote"),
            ("region_caption = 1", "regions"),
            ("change_caption = 1", "what changed"),
            ("short_vqa = 1", "questions and short answers"),
            ("temporal = 1", "several times"),
            ("detection = 1", "damage"),
            ("referred_detection = 1", "`chains`"),
            ("clasification = 1", "unknown variant `clasification`"),
            ("classification = 0", "above 0"),
            ("classification = 9", "8 at most"),
            ("classification = nan", "above 0"),
        ] {
            let error = with(seeing, tasks, weight).unwrap_err();
            assert!(error.contains(named), "{tasks}: {error}");
        }
        let error = with(seeing, "caption = 1", weight).unwrap_err();
        assert!(error.contains("one of classification, multi_label, grounding_description"), "{error}");
        let set = |format: &str| format!("{weight}\n[[data.sets]]\nformat = \"{format}\"\nfolder = \"mine\"");
        let spoken = "caption = 1, region_caption = 1, change_caption = 1, short_vqa = 1";
        with(seeing, spoken, &set("spoken")).unwrap();
        let error = with(seeing, "caption = 1", &set("coco")).unwrap_err();
        assert!(error.contains("a set in the format `spoken`") && error.contains("tasks.caption"), "{error}");
        let error = with(seeing, "temporal = 1", &set("spoken")).unwrap_err();
        assert!(error.contains("several times") && !error.contains("`spoken`"), "{error}");
        let error = with(seeing, "classification = 1", "").unwrap_err();
        assert!(error.contains("loss.chain") && error.contains("tasks.classification"), "{error}");
        let error = with("queries = 1", "classification = 1", weight).unwrap_err();
        assert!(error.contains("without pictures"), "{error}");
    }

    /// What would break: records of experiments that were made before there were chains and tasks.
    #[test]
    fn a_recipe_without_chains_is_written_as_before() {
        let written = toml::to_string(&recipe(include_str!("../../../recipes/smoke.toml")).unwrap()).unwrap();
        let later = ["chain", "thought", "tasks", "things", "kept", "location", "agreement", "distil"];
        assert!(later.iter().all(|word| !written.contains(word)), "{written}");
    }

    #[test]
    fn rate_warms_up_and_falls() {
        let recipe = recipe(include_str!("../../../recipes/smoke.toml")).unwrap();
        let phase = Phase { steps: 100, warm_up_steps: 10, learning_rate: 1.0, ..recipe.phases[0].clone() };
        assert!(phase.rate(0) < phase.rate(5) && phase.rate(9) == 1.0);
        assert!((phase.rate(100) - phase.final_share).abs() < 1e-6);
        assert!((10..99).all(|s| phase.rate(s) >= phase.rate(s + 1)));
    }

    #[test]
    fn phases_follow_each_other() {
        let recipe = recipe(include_str!("../../../recipes/smoke.toml")).unwrap();
        let first = &recipe.phases[0];
        let next = recipe.phase(first.steps).unwrap();
        assert_eq!((next.number, next.within, next.pictures), (1, 0, first.steps * first.batch));
        assert!(recipe.phase(recipe.steps()).is_none());
    }
}
