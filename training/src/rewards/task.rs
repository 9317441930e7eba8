//! What kinds of tasks there are, and what is chosen about their rewards.

use serde::{Deserialize, Serialize};

use super::format::Length;
use super::position::Reach;

/// The tasks of GeoVLM-R1's reward table (arXiv 2509.25026).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// One label: exact match.
    Classification,
    /// Several labels: F1 or recall.
    MultiLabel,
    /// Boxes of what the words mean: detection.
    ReferredDetection,
    /// Boxes of everything, damage by disaster among it: detection.
    Detection,
    /// A description with boxes: half lexical on the text, half IoU on the boxes.
    GroundingDescription,
    /// The whole picture in words: Levenshtein, or as chosen.
    Caption,
    /// A region in words: half sentence, half lexical.
    RegionCaption,
    /// What has changed between pictures, in words: half sentence, half lexical.
    ChangeCaption,
    /// A short answer: Jaccard index of words.
    ShortVqa,
    /// Labels of what has changed over time: F1 or recall.
    Temporal,
}

impl TaskKind {
    /// All of them, in order.
    pub const ALL: [Self; 10] = [
        Self::Classification,
        Self::MultiLabel,
        Self::ReferredDetection,
        Self::Detection,
        Self::GroundingDescription,
        Self::Caption,
        Self::RegionCaption,
        Self::ChangeCaption,
        Self::ShortVqa,
        Self::Temporal,
    ];

    /// Its name in recipes and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classification => "classification",
            Self::MultiLabel => "multi_label",
            Self::ReferredDetection => "referred_detection",
            Self::Detection => "detection",
            Self::GroundingDescription => "grounding_description",
            Self::Caption => "caption",
            Self::RegionCaption => "region_caption",
            Self::ChangeCaption => "change_caption",
            Self::ShortVqa => "short_vqa",
            Self::Temporal => "temporal",
        }
    }

    /// Whether boxes are part of the answer.
    pub fn has_boxes(self) -> bool {
        matches!(self, Self::ReferredDetection | Self::Detection | Self::GroundingDescription)
    }

    /// Whether its reward needs the sentence model.
    pub fn needs_sentences(self, options: &Options) -> bool {
        match self {
            Self::RegionCaption | Self::ChangeCaption => true,
            Self::Caption => matches!(options.caption, Caption::Sentence | Caption::Hybrid),
            _ => false,
        }
    }
}

/// How sets of labels are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Labels {
    /// F1 (derived): naming everything does not pay.
    #[default]
    F1,
    /// Recall, as published.
    Recall,
}

/// How captions of whole pictures are compared; the table names all but the hybrid for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caption {
    /// By letters.
    #[default]
    Levenshtein,
    /// By words: mean of ROUGE-1, ROUGE-L and METEOR.
    Lexical,
    /// By meaning: cosine of sentence embeddings.
    Sentence,
    /// Half by meaning, half by words.
    Hybrid,
}

/// Guards against answers that only play for the reward; each multiplies it (derived).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guards {
    /// Against words said over and over.
    pub repetition: bool,
    /// Against length, if any.
    pub length: Option<Length>,
    /// Against more boxes than there are things; the detection reward divides by their number once already.
    pub surplus: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self { repetition: true, length: Some(Length::default()), surplus: false }
    }
}

/// What is chosen about the rewards.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// How labels are compared.
    pub labels: Labels,
    /// IoU from which a detected box is paid, 0..=1; 0.5, and 0.25 for small things.
    pub iou: f64,
    /// How captions of whole pictures are compared.
    pub caption: Caption,
    /// How fast the positional reward falls.
    pub reach: Reach,
    /// Guards.
    pub guards: Guards,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            labels: Labels::F1,
            iou: 0.5,
            caption: Caption::Levenshtein,
            reach: Reach::Diagonal,
            guards: Guards::default(),
        }
    }
}

impl Options {
    /// As published: recall and no guards.
    pub fn published() -> Self {
        Self {
            labels: Labels::Recall,
            guards: Guards { repetition: false, length: None, surplus: false },
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn tasks_are_named_alike_in_code_and_in_files() {
        for kind in TaskKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.name()));
        }
    }

    #[test]
    fn a_recipe_says_what_differs_from_the_default() {
        let options: Options = toml::from_str("labels = \"recall\"\n[guards]\nrepetition = false").unwrap();
        let guards = Guards { repetition: false, ..Guards::default() };
        assert_eq!(options, Options { labels: Labels::Recall, guards, ..Options::default() });
        assert!(toml::from_str::<Options>("lables = \"f1\"").is_err());
    }

    #[test]
    fn only_meaning_needs_the_sentence_model() {
        let needing =
            |options: &Options| TaskKind::ALL.into_iter().filter(|kind| kind.needs_sentences(options)).count();
        assert_eq!(needing(&Options::default()), 2);
        assert_eq!(needing(&Options { caption: Caption::Hybrid, ..Options::default() }), 3);
    }
}
