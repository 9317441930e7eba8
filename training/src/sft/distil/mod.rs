//! A teacher beside the labels: it sees the same picture, hears the same questions, and what it answers is learnt.
//!
//! [`Teacher`] is a trained model of any sizes of the topology, with the student's words. [`Tutor`] makes a [`Lesson`] of every
//! example of a phase, without gradients; the pass over the example learns from it. Nothing of this is in the model that a run
//! writes: learnt maps between widths stay in its checkpoint.

mod learn;
mod lesson;
mod views;

pub(super) use learn::{Spoken, says, sees, thinks};
pub use lesson::{Glasses, Lesson, Tutor};
pub(super) use views::viewed;

use std::path::Path;

use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::Config;
use kestrel_models::ops::{Init, Ops as _};
use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_models::weights::{Weights, checkpoint};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::checkpoint::Parameter;
use super::recipe::{Distil, Terms};
use super::{Recipe, Result, TrainError};

/// Who taught a run, in its folder.
pub const TEACHER: &str = "teacher.json";
/// How the names of learnt maps begin.
const MAPS: &str = "distil.";

/// A map's full name.
fn map(name: &str) -> String {
    format!("{MAPS}{name}.weight")
}

/// Parameters without the maps that only learning needs.
pub(super) fn without_maps(parameters: Vec<Parameter>) -> Vec<Parameter> {
    parameters.into_iter().filter(|(name, ..)| !name.starts_with(MAPS)).collect()
}

/// A model that teaches.
#[derive(Debug)]
pub struct Teacher {
    /// Its parameters; `None` where the model teaches itself.
    params: Option<Params>,
    config: Config,
    record: Option<Record>,
}

/// What a run's folder tells of its teacher.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// SHA-256 of the teacher's file, hex.
    model: String,
    /// Its sizes, at its own input.
    config: Config,
}

impl Teacher {
    /// The teacher of a recipe, whose run lives in `folder`; `None` where nothing is learnt from one.
    ///
    /// # Errors
    /// When none is named, or it is missing, damaged, of another vocabulary, or the run itself.
    pub fn of(recipe: &Recipe, folder: &Path) -> Result<Option<Self>> {
        let Some(distil) = recipe.distil.as_ref().filter(|distil| distil.weights.any()) else { return Ok(None) };
        if distil.itself {
            return Ok(Some(Self { params: None, config: recipe.model.clone(), record: None }));
        }
        let wrong = |setting: &str, expected: String, got: String| TrainError::Setting {
            recipe: recipe.name.clone(),
            setting: setting.to_owned(),
            expected,
            got,
        };
        let Some((model, words)) = distil.files() else {
            let expected = "a model's folder (`ground distil --teacher`), or `itself = true`".to_owned();
            return Err(wrong("distil.teacher", expected, "none".to_owned()));
        };
        for (what, path) in [("the teacher's model", &model), ("the teacher's tokenizer", &words)] {
            if !path.is_file() {
                return Err(TrainError::Missing { what: what.to_owned(), expected: path.display().to_string() });
            }
        }
        if within(&model, folder) {
            let expected = "another model than the run's own, which changes".to_owned();
            return Err(wrong("distil.teacher", expected, model.display().to_string()));
        }
        let bytes = std::fs::read(&model).map_err(TrainError::io("reading", &model))?;
        let (weights, metadata) = checkpoint::from_bytes(&bytes, &model.display().to_string())?;
        let config: Config = sizes(&model, metadata.get("config"))?;
        if config.vocabulary != recipe.model.vocabulary {
            let expected = format!("{}, the teacher's: both must number words alike", config.vocabulary);
            return Err(wrong("model.vocabulary", expected, recipe.model.vocabulary.to_string()));
        }
        finite(&model, &weights)?;
        let record = Record { model: hex(&bytes), config: config.clone() };
        Ok(Some(Self { params: Some(weights.to_params(&Device::Cpu)?), config, record: Some(record) }))
    }

    /// Its sizes, at its own input.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its parameters, those of the `student` where that teaches itself.
    pub fn params<'a>(&'a self, student: &'a Params) -> &'a Params {
        self.params.as_ref().unwrap_or(student)
    }

    /// Whether it has parameters of its own.
    pub(super) fn is_another(&self) -> bool {
        self.params.is_some()
    }

    /// Keeps in the run's folder who teaches; a run that goes on must have the same teacher.
    pub(super) fn note(&self, folder: &Path, resumes: bool) -> Result<()> {
        let Some(record) = &self.record else { return Ok(()) };
        let path = folder.join(TEACHER);
        let refuse = |expected: String, got: String| TrainError::Checkpoint { path: path.clone(), expected, got };
        if resumes && path.is_file() {
            let text = std::fs::read_to_string(&path).map_err(TrainError::io("reading", &path))?;
            let was: Record = serde_json::from_str(&text)
                .map_err(|error| refuse("the record of a teacher".to_owned(), error.to_string()))?;
            if was != *record {
                return Err(refuse(
                    format!("the teacher that the run began with, SHA-256 {}", was.model),
                    format!("another one, {}; give the run another name", record.model),
                ));
            }
            return Ok(());
        }
        let text = serde_json::to_string_pretty(record)
            .map_err(|error| refuse("a record that can be written".to_owned(), error.to_string()))?;
        std::fs::write(&path, text + "\n").map_err(TrainError::io("writing", &path))
    }

    /// Makes the maps from a student's widths to the teacher's: of what vision sees always, since equal widths need not mean
    /// equal axes; they begin as they are where widths are equal. `[SEG]` states of equal width are compared as they are.
    pub(super) fn maps(&self, params: &Params, student: &Config, terms: &Terms) -> Result<()> {
        if terms.features > 0.0 {
            for (name, own, theirs) in [
                ("tokens", student.language_width, self.config.language_width),
                ("embed", student.mask_width, self.config.mask_width),
                ("fine", student.fine_width, self.config.fine_width),
            ] {
                match own == theirs {
                    true => params.insert(&map(name), &same(own)?)?,
                    false => fresh(params, name, own, theirs)?,
                }
            }
        }
        if terms.seg + terms.reasoned > 0.0 && student.mask_width != self.config.mask_width {
            fresh(params, "seg", student.mask_width, self.config.mask_width)?;
        }
        Ok(())
    }
}

/// The map that changes nothing, `[1, width, width]`.
fn same(width: usize) -> Result<Tensor> {
    let cells = (0..width * width).map(|at| f32::from(at / width == at % width)).collect::<Vec<f32>>();
    Ok(Tensor::from_vec(cells, (1, width, width), &Device::Cpu)?)
}

/// A map that nothing has taught yet.
fn fresh(params: &Params, name: &str, own: usize, theirs: usize) -> Result<()> {
    Candle::evaluating(params).parameter(&map(name), &[1, theirs, own], spread(own))?;
    Ok(())
}

/// The deviation that keeps the size of what is mapped.
fn spread(own: usize) -> Init {
    Init::Normal((1.0 / own.max(1) as f32).sqrt())
}

/// Refuses a run whose words are numbered otherwise than its teacher's.
///
/// # Errors
/// When they are, or the teacher's tokenizer cannot be read.
pub(super) fn same_words(distil: &Distil, tokenizer: &QueryTokenizer) -> Result<()> {
    let Some((_, path)) = distil.files() else { return Ok(()) };
    match QueryTokenizer::load(&path)?.to_json()? == tokenizer.to_json()? {
        true => Ok(()),
        false => Err(TrainError::Checkpoint {
            path,
            expected: "the tokenizer of this run: teacher and student must number words alike".to_owned(),
            got: "another one; begin from a model with the teacher's, or from none".to_owned(),
        }),
    }
}

/// Whether a file lies in a folder, whatever way both are named.
fn within(file: &Path, folder: &Path) -> bool {
    match (file.canonicalize(), folder.canonicalize()) {
        (Ok(file), Ok(folder)) => file.parent() == Some(folder.as_path()),
        _ => false,
    }
}

fn sizes(path: &Path, text: Option<&String>) -> Result<Config> {
    let refuse = |got: String| TrainError::Checkpoint {
        path: path.to_path_buf(),
        expected: "a model that tells its sizes".to_owned(),
        got,
    };
    let text = text.ok_or_else(|| refuse("no configuration in its metadata".to_owned()))?;
    serde_json::from_str(text).map_err(|error| refuse(error.to_string()))
}

fn finite(path: &Path, weights: &Weights) -> Result<()> {
    match weights.iter().find(|(_, (_, values))| values.iter().any(|value| !value.is_finite())) {
        None => Ok(()),
        Some((name, _)) => Err(TrainError::Checkpoint {
            path: path.to_path_buf(),
            expected: "numbers".to_owned(),
            got: format!("one in `{name}` that is none"),
        }),
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
