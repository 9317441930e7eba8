//! Who teaches a model beside the labels, and what each part of it weighs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Phase;
use super::phase::none;
use crate::sft::TOKENIZER;
use crate::sft::checkpoint::MODEL;

/// A teacher that sees the same pictures and hears the same questions; its answers are learnt beside the labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Distil {
    /// The teacher: a folder with `model.safetensors` and `tokenizer.json`, or that model's file. Its widths, layers and input
    /// may be others, its words must be the student's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Whether the model teaches itself, as it is at every step: by a larger input, or what it says with reasons.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub itself: bool,
    /// Side of the teacher's input in pixels; the phase's own where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<usize>,
    /// Pictures at most of which is kept, in memory, what the teacher's vision sees: 14 MB each at 1024 pixels.
    #[serde(skip_serializing_if = "none")]
    pub kept: usize,
    /// Share of clear pictures that are seen, by student and teacher, through a degraded view drawn anew each time: with
    /// `data.degraded_share = 0` every picture is seen clear and degraded.
    pub degraded: f32,
    /// What logits of tokens are divided by before they are compared.
    pub temperature: f32,
    /// What each part weighs.
    pub weights: Terms,
}

impl Default for Distil {
    fn default() -> Self {
        Self {
            teacher: None,
            itself: false,
            image: None,
            kept: 0,
            degraded: 0.0,
            temperature: 2.0,
            weights: Terms::default(),
        }
    }
}

/// What each part of a teacher's answers weighs; each is a mean over a picture's questions. 0 leaves a part out; where all
/// are 0 the teacher is not asked, and only its words are the student's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// The choice among the five answers.
    pub answer: f32,
    /// The choice at every token of a chain of reasons that the grammar leaves open.
    pub chain: f32,
    /// The `[SEG]` state, through a learnt map where widths differ.
    pub seg: f32,
    /// Mask logits.
    pub mask: f32,
    /// Object score and predicted IoU.
    pub presence: f32,
    /// What vision sees, through learnt maps.
    pub features: f32,
    /// What the teacher says with reasons, learnt by the fast answer: the choice behind `<answer>`, and the `[SEG]` state where
    /// one thing is shown.
    pub reasoned: f32,
}

impl Default for Terms {
    fn default() -> Self {
        Self { answer: 1.0, chain: 0.5, seg: 0.5, mask: 1.0, presence: 0.5, features: 0.5, reasoned: 0.5 }
    }
}

impl Terms {
    /// None of them.
    pub const NONE: Self =
        Self { answer: 0.0, chain: 0.0, seg: 0.0, mask: 0.0, presence: 0.0, features: 0.0, reasoned: 0.0 };

    fn named(&self) -> [(&'static str, f32); 7] {
        [
            ("answer", self.answer),
            ("chain", self.chain),
            ("seg", self.seg),
            ("mask", self.mask),
            ("presence", self.presence),
            ("features", self.features),
            ("reasoned", self.reasoned),
        ]
    }

    /// Whether anything is learnt.
    pub fn any(&self) -> bool {
        self.named().iter().any(|(_, weight)| *weight > 0.0)
    }
}

impl Distil {
    /// The teacher's model and, beside it, its tokenizer, where a teacher is named.
    pub fn files(&self) -> Option<(PathBuf, PathBuf)> {
        self.teacher.as_deref().map(model_files)
    }

    /// A setting that makes no sense, as setting, expected and got.
    pub(super) fn senseless(&self, phases: &[Phase]) -> Option<(String, String, String)> {
        let wrong =
            |setting: &str, expected: &str, got: String| Some((format!("distil.{setting}"), expected.to_owned(), got));
        let sound = |weight: f32| weight >= 0.0 && weight.is_finite();
        if let Some((name, weight)) = self.weights.named().into_iter().find(|(_, weight)| !sound(*weight)) {
            return wrong(&format!("weights.{name}"), "a weight of 0 or more", weight.to_string());
        }
        if !(0.0..=1.0).contains(&self.degraded) {
            return wrong("degraded", "a share from 0 to 1", self.degraded.to_string());
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return wrong("temperature", "a number above 0", self.temperature.to_string());
        }
        if let Some(image) = self.image.filter(|image| *image == 0 || image % 32 != 0) {
            return wrong("image", "a multiple of 32", image.to_string());
        }
        if !self.itself {
            return None;
        }
        if let Some(teacher) = &self.teacher {
            return wrong("itself", "false where a teacher is named", format!("true, and {}", teacher.display()));
        }
        if self.kept > 0 {
            return wrong("kept", "0 where the model teaches itself: what it sees changes", self.kept.to_string());
        }
        let larger = |phase: &Phase| !phase.blind && self.image.is_some_and(|image| image != phase.image);
        let teaches = phases.iter().any(|phase| phase.chains > 0 || larger(phase));
        match teaches || !self.weights.any() {
            true => None,
            false => wrong(
                "itself",
                "another `image` than the phases', or `chains`: of its own fast answers nothing can be learnt",
                "neither".to_owned(),
            ),
        }
    }
}

/// The model of a path to it or to its folder, and the tokenizer beside it.
pub fn model_files(path: &Path) -> (PathBuf, PathBuf) {
    match path.is_file() {
        true => (path.to_path_buf(), path.with_file_name(TOKENIZER)),
        false => (path.join(MODEL), path.join(TOKENIZER)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Recipe;
    use super::*;

    fn recipe(section: &str) -> Result<Recipe, String> {
        let text = format!("{}\n{section}", include_str!("../../../recipes/smoke.toml"));
        let recipe: Recipe = toml::from_str(&text).map_err(|error| error.to_string())?;
        recipe.check().map_err(|error| error.to_string())?;
        Ok(recipe)
    }

    #[test]
    fn senseless_settings_are_refused() {
        for (section, named) in [
            ("[distil.weights]\nmask = nan", "distil.weights.mask"),
            ("[distil.weights]\nanswer = -1.0", "distil.weights.answer"),
            ("[distil.weights]\nseg = inf", "distil.weights.seg"),
            ("[distil.weights]\nmaks = 1.0", "maks"),
            ("[distil]\ntemperature = 0.0", "distil.temperature"),
            ("[distil]\ntemperature = nan", "distil.temperature"),
            ("[distil]\nimage = 100", "distil.image"),
            ("[distil]\ndegraded = 1.5", "distil.degraded"),
            ("[distil]\ndegraded = nan", "distil.degraded"),
            ("[distil]\nteacher = \"a\"\nitself = true", "false where a teacher is named"),
            ("[distil]\nitself = true\nimage = 256\nkept = 4", "distil.kept"),
            ("[distil]\nitself = true", "nothing can be learnt"),
            ("[distil]\nteecher = \"a\"", "teecher"),
        ] {
            let error = recipe(section).unwrap_err();
            assert!(error.contains(named), "{section}: {error}");
        }
        recipe("[distil]\nitself = true\nimage = 256").unwrap();
    }

    #[test]
    fn a_section_comes_back_as_it_was_written() {
        let was = recipe("[distil]\nteacher = \"t\"\nimage = 128\n[distil.weights]\nchain = 0.0").unwrap();
        let distil = was.distil.as_ref().unwrap();
        assert_eq!((distil.image, distil.weights.chain, distil.weights.mask), (Some(128), 0.0, 1.0));
        let text = toml::to_string(&was).unwrap();
        assert_eq!(toml::from_str::<Recipe>(&text).unwrap(), was);
    }

    #[test]
    fn a_teacher_is_a_folder_or_the_file_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join(MODEL);
        std::fs::write(&model, "").unwrap();
        let named = (model.clone(), dir.path().join(TOKENIZER));
        assert_eq!(model_files(dir.path()), named);
        assert_eq!(model_files(&model), named);
    }
}
