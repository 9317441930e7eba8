//! Scores answers against what is right: the reward table of GeoVLM-R1 and the positional rewards of RSGround-R1.
//!
//! Pure functions, apart from the sentence model's weights and from masks on a GPU, which are counted there.
//! The way of the data: [`answer`] finds the answer and its boxes in a model's text, [`score`] compares them with the
//! [`Truth`] by the task's measures ([`text`], [`lexical`], [`sbert`], [`boxes`]), and [`mod@format`] judges the form.
//! The form is kept apart, so that whoever sums rewards decides what it is worth.
//! [`position`] rewards places and scales a group's advantages, [`views`] rewards masks and silence over hybrid views.
//!
//! Every reward of a task lies in 0..=1. What cannot be scored is [`Unscorable`], never 0.

pub mod answer;
pub mod boxes;
mod error;
pub mod format;
pub mod lexical;
pub mod position;
pub mod sbert;
mod task;
pub mod text;
pub mod views;

#[cfg(test)]
mod tests;

pub use error::Unscorable;
pub use sbert::Sbert;
pub use task::{Caption, Guards, Labels, Options, TaskKind};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use answer::Said;
use boxes::Edges;
use lexical::Lexical;
use position::Extent;

/// What is right. A task reads what it needs and leaves the rest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Truth {
    /// Labels.
    pub labels: Vec<String>,
    /// Captions, descriptions or short answers, each of which is right; the one most like the answer counts.
    pub texts: Vec<String>,
    /// Boxes; an empty list says that nothing is there.
    pub boxes: Option<Vec<Edges>>,
    /// The picture's width and height in pixels, for rewards of distance.
    pub size: Option<Extent>,
}

/// A scored answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scored {
    /// The task's reward with its guards, in 0..=1.
    pub reward: f64,
    /// 1 if the text has the form that was asked for, else 0; no part of `reward`.
    pub format: f64,
    /// What the reward was made of, by name, each in 0..=1.
    pub parts: BTreeMap<&'static str, f64>,
}

/// Scores a model's whole text.
///
/// # Errors
/// When the truth lacks what the task compares with, an edge is not finite, or the sentence model is missing or fails.
pub fn score(
    kind: TaskKind,
    answer: &str,
    truth: &Truth,
    options: &Options,
    sentences: Option<&Sbert>,
) -> Result<Scored, Unscorable> {
    let said = answer::read(answer::answer(answer));
    let judge = Judge { kind, said: &said, truth, options, sentences };
    let mut parts = BTreeMap::new();
    let mut reward = judge.task(&mut parts)?;
    for (name, factor) in judge.guards(answer) {
        reward *= factor;
        parts.insert(name, factor);
    }
    Ok(Scored { reward, format: format::format(answer), parts })
}

/// Named measures.
type Parts = BTreeMap<&'static str, f64>;

/// One answer beside its truth.
struct Judge<'a> {
    kind: TaskKind,
    said: &'a Said,
    truth: &'a Truth,
    options: &'a Options,
    sentences: Option<&'a Sbert>,
}

impl Judge<'_> {
    /// The task's reward before its guards; what it is made of goes into `parts`.
    fn task(&self, parts: &mut Parts) -> Result<f64, Unscorable> {
        match self.kind {
            TaskKind::Classification => self.label(parts),
            TaskKind::MultiLabel | TaskKind::Temporal => self.labels(parts),
            TaskKind::Detection => self.detection(parts),
            TaskKind::ReferredDetection => {
                let reward = self.detection(parts)?;
                self.position(parts)?;
                Ok(reward)
            }
            TaskKind::GroundingDescription => {
                // Every overlap counts here: the table's IoU on the boxes names no threshold.
                let overlap = boxes::detection(&self.said.boxes, self.boxes()?, 0.0)?;
                parts.insert("iou", overlap);
                Ok((self.caption(Caption::Lexical, parts)? + overlap) / 2.0)
            }
            TaskKind::Caption => self.caption(self.options.caption, parts),
            TaskKind::RegionCaption | TaskKind::ChangeCaption => self.caption(Caption::Hybrid, parts),
            TaskKind::ShortVqa => self.words(parts),
        }
    }

    /// Factors in 0..=1 by which gaming the reward costs.
    fn guards(&self, text: &str) -> Vec<(&'static str, f64)> {
        let Guards { repetition, length, surplus } = self.options.guards;
        let words = text::words(text);
        let mut factors = Vec::new();
        if repetition {
            factors.push(("repetition", format::repetition(&words)));
        }
        if let Some(length) = length {
            factors.push(("length", length.guard(words.len())));
        }
        if let (true, true, Some(things)) = (surplus, self.kind.has_boxes(), &self.truth.boxes) {
            factors.push(("surplus", boxes::surplus(self.said.boxes.len(), things.len())));
        }
        factors
    }

    fn wrong_truth(&self, expected: &'static str, got: &'static str) -> Unscorable {
        Unscorable::Truth { task: self.kind.name(), expected, got }
    }

    fn label(&self, parts: &mut Parts) -> Result<f64, Unscorable> {
        match self.truth.labels.as_slice() {
            [label] if !text::normalise(label).is_empty() => {
                let accuracy = text::accuracy(&self.said.words, label);
                parts.insert("accuracy", accuracy);
                Ok(accuracy)
            }
            [] | [_] => Err(self.wrong_truth("one label", "none")),
            _ => Err(self.wrong_truth("one label", "several")),
        }
    }

    fn labels(&self, parts: &mut Parts) -> Result<f64, Unscorable> {
        let right = text::label_set(&self.truth.labels);
        if right.is_empty() {
            return Err(self.wrong_truth("labels", "none"));
        }
        let said = text::labels(&self.said.words);
        let (recall, f1) = (text::recall(&said, &right), text::f1(&said, &right));
        parts.extend([("recall", recall), ("f1", f1)]);
        Ok(match self.options.labels {
            Labels::F1 => f1,
            Labels::Recall => recall,
        })
    }

    fn boxes(&self) -> Result<&[Edges], Unscorable> {
        self.truth.boxes.as_deref().ok_or_else(|| self.wrong_truth("boxes, or an empty list for nothing", "none"))
    }

    fn detection(&self, parts: &mut Parts) -> Result<f64, Unscorable> {
        let reward = boxes::detection(&self.said.boxes, self.boxes()?, self.options.iou)?;
        parts.insert("detection", reward);
        Ok(reward)
    }

    /// Where one thing is meant and the picture's size is known, the first box's positional reward, beside the reward.
    fn position(&self, parts: &mut Parts) -> Result<(), Unscorable> {
        if let ([thing], Some(extent)) = (self.boxes()?, self.truth.size) {
            let position = position::positional(self.said.boxes.first(), thing, extent, self.options.reach)?;
            parts.insert("position", position);
        }
        Ok(())
    }

    /// The truth's texts that hold a word.
    fn texts(&self) -> Result<Vec<&String>, Unscorable> {
        let texts: Vec<_> = self.truth.texts.iter().filter(|text| !text::normalise(text).is_empty()).collect();
        if texts.is_empty() { Err(self.wrong_truth("a text", "none")) } else { Ok(texts) }
    }

    fn words(&self, parts: &mut Parts) -> Result<f64, Unscorable> {
        let set = |text: &str| text::words(text).into_iter().collect();
        let said = set(&self.said.words);
        let jaccard = best(self.texts()?.into_iter().map(|text| text::jaccard(&said, &set(text))));
        parts.insert("jaccard", jaccard);
        Ok(jaccard)
    }

    fn caption(&self, by: Caption, parts: &mut Parts) -> Result<f64, Unscorable> {
        let texts = self.texts()?;
        match by {
            Caption::Levenshtein => {
                let said = text::normalise(&self.said.words);
                let alike = |text: &&String| text::levenshtein_similarity(&said, &text::normalise(text));
                let levenshtein = best(texts.iter().map(alike));
                parts.insert("levenshtein", levenshtein);
                Ok(levenshtein)
            }
            Caption::Lexical => Ok(self.lexical(&texts, parts)),
            Caption::Sentence => self.sentence(&texts, parts),
            Caption::Hybrid => Ok((self.sentence(&texts, parts)? + self.lexical(&texts, parts)) / 2.0),
        }
    }

    fn lexical(&self, texts: &[&String], parts: &mut Parts) -> f64 {
        let said = text::words(&self.said.words);
        let measured = texts.iter().map(|text| Lexical::of(&said, &text::words(text)));
        let Some(lexical) = measured.max_by(|a, b| a.mean().total_cmp(&b.mean())) else { return 0.0 };
        parts.extend([("rouge_1", lexical.rouge_1), ("rouge_l", lexical.rouge_l), ("meteor", lexical.meteor)]);
        parts.insert("lexical", lexical.mean());
        lexical.mean()
    }

    fn sentence(&self, texts: &[&String], parts: &mut Parts) -> Result<f64, Unscorable> {
        let model = self.sentences.ok_or(Unscorable::NoSentenceModel)?;
        let mut sentence: f64 = 0.0;
        // Silence has an embedding too, and must not be paid for it.
        if !text::normalise(&self.said.words).is_empty() {
            for text in texts {
                let alike = model.similarity(self.said.words.trim(), text);
                sentence = sentence.max(alike.map_err(|error| Unscorable::Sentences(error.to_string()))?);
            }
        }
        parts.insert("sentence", sentence);
        Ok(sentence)
    }
}

fn best(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, f64::max)
}
