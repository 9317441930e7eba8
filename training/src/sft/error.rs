//! What can go wrong in a training run.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::datasets::DataError;

/// Bytes of a gibibyte.
pub(crate) const GIBIBYTE: f64 = 1_073_741_824.0;

/// Result of training.
pub type Result<T> = std::result::Result<T, TrainError>;

/// Errors of a training run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The system refused a file operation.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A recipe is not valid TOML of the expected form.
    #[error("{path}: not a valid recipe: {source}")]
    Recipe {
        /// The recipe file.
        path: PathBuf,
        /// The parser's word, with the line.
        source: Box<toml::de::Error>,
    },
    /// A setting of a recipe makes no sense.
    #[error("recipe {recipe}: `{setting}`: expected {expected}, got {got}")]
    Setting {
        /// The recipe's name.
        recipe: String,
        /// The setting.
        setting: String,
        /// What it must be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A checkpoint does not fit the run.
    #[error("checkpoint {path}: expected {expected}, got {got}")]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What this run needs.
        expected: String,
        /// What is there.
        got: String,
    },
    /// A loss or gradient is not a number any more.
    #[error("step {step}: {what} is {value}; lower the learning rate or look at the data near sample {sample}")]
    Diverged {
        /// Step of the run.
        step: usize,
        /// Loss or gradient norm.
        what: &'static str,
        /// Its value.
        value: f32,
        /// First sample of the step.
        sample: usize,
    },
    /// A run needs more memory than there is.
    #[error(
        "{what}: expected at least {:.1} GiB of memory, counted before the first step; {:.1} GiB can be had\n\
         hint: {less}",
        *needed as f64 / GIBIBYTE, *there as f64 / GIBIBYTE
    )]
    Memory {
        /// The phase or the recipe that needs it.
        what: String,
        /// What needs less.
        less: &'static str,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that can be had.
        there: u64,
    },
    /// Files that the run needs first.
    #[error("{what} is missing: expected {expected}")]
    Missing {
        /// What is missing.
        what: String,
        /// Where it should be and how it gets there.
        expected: String,
    },
    /// A worker thread died.
    #[error("worker {worker} stopped: {got}")]
    Worker {
        /// Its number.
        worker: usize,
        /// Its last word.
        got: String,
    },
    /// The model or candle failed.
    #[error(transparent)]
    Model(#[from] kestrel_models::error::Error),
    /// Data could not be made or read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A picture could not be brought to the model's input.
    #[error("preprocessing {picture}: {source}")]
    Preprocess {
        /// Data set and frame.
        picture: String,
        /// The word of the drone's own preprocessing.
        source: kestrel_perception::Error,
    },
    /// What stands out cannot be picked: the numbers are not finite.
    #[error("picking proposals: {0}")]
    Proposals(#[from] kestrel_perception::Error),
    /// A chain of reasons is no answer that the grammar allows.
    #[error(transparent)]
    Chain(#[from] kestrel_perception::ParseError),
    /// A mask of a sample does not decode.
    #[error("mask of instance {instance} of {picture}: {got}")]
    Mask {
        /// Data set and frame.
        picture: String,
        /// Index of the instance.
        instance: usize,
        /// The codec's word.
        got: String,
    },
}

impl From<candle_core::Error> for TrainError {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.into())
    }
}

impl TrainError {
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { operation, path, source }
    }
}
