//! What a run begins with.

use std::path::Path;

use candle_core::Device;
use kestrel_models::candle::Params;
use kestrel_models::kestrel::Config;
use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_models::weights;

use super::{Options, Recipe};
use crate::sft::checkpoint::{MODEL, STATE};
use crate::sft::{Result, TOKENIZER, TrainError};

/// The model that a run began with, kept in its folder: a resumed run and its reference need it.
pub(super) const BEGINNING: &str = "beginning.safetensors";

/// A model ready to act.
#[derive(Debug)]
pub struct Start {
    /// Its parameters.
    pub params: Params,
    /// Its sizes.
    pub config: Config,
    /// Its words.
    pub tokenizer: QueryTokenizer,
}

/// Makes the run's folder ready, and tells whether there is something to resume.
pub(super) fn prepare(folder: &Path, options: &Options) -> Result<bool> {
    std::fs::create_dir_all(folder).map_err(TrainError::io("creating", folder))?;
    let (state, there) = (folder.join(STATE), folder.join(STATE).is_file());
    if there && !options.resume {
        let (expected, got) = ("none yet, or --resume".to_owned(), "a run of this name".to_owned());
        return Err(TrainError::Checkpoint { path: state, expected, got });
    }
    if there {
        return Ok(true);
    }
    let Some(from) = &options.from else {
        let what = "the model to begin from".to_owned();
        return Err(TrainError::Missing { what, expected: "--from with the folder of a trained model".to_owned() });
    };
    for (theirs, ours) in [(MODEL, BEGINNING), (TOKENIZER, TOKENIZER)] {
        let theirs = from.join(theirs);
        std::fs::copy(&theirs, folder.join(ours)).map_err(TrainError::io("copying", &theirs))?;
    }
    Ok(false)
}

/// Loads `file` and the tokenizer of a model's folder.
///
/// # Errors
/// When a file is missing, damaged, or does not say its model's sizes.
pub fn load(folder: &Path, file: &str) -> Result<Start> {
    load_to(folder, file, &Device::Cpu)
}

/// As [`load`], with the parameters on `device`.
///
/// # Errors
/// As [`load`].
pub fn load_to(folder: &Path, file: &str, device: &Device) -> Result<Start> {
    let path = folder.join(file);
    let (weights, metadata) = weights::checkpoint::load(&path)?;
    let refuse = |got: String| {
        let expected = "the model's sizes in the metadata, as `ground train` writes them".to_owned();
        TrainError::Checkpoint { path: path.clone(), expected, got }
    };
    let config = metadata.get("config").ok_or_else(|| refuse("none".to_owned()))?;
    let config = serde_json::from_str(config).map_err(|e| refuse(e.to_string()))?;
    let tokenizer = QueryTokenizer::load(&folder.join(TOKENIZER))?;
    Ok(Start { params: weights.to_params(device)?, config, tokenizer })
}

/// Patterns that fit nothing.
pub(super) fn nothing(recipe: &Recipe, setting: &str, expected: &str, patterns: &[String]) -> TrainError {
    let got = format!("{patterns:?}, which fit none");
    TrainError::Setting { recipe: recipe.name.clone(), setting: setting.to_owned(), expected: expected.to_owned(), got }
}
