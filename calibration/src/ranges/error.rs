//! What can go wrong while ranges are found.

use thiserror::Error;

/// Errors of ranges and sweeps.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RangesError {
    /// Too few frames to say how far activations reach.
    #[error("calibrating ranges: expected at least {expected} frames, got {got}; {missing} more are needed")]
    TooFew {
        /// How many are needed.
        expected: usize,
        /// How many there are.
        got: usize,
        /// The difference.
        missing: usize,
    },
    /// A frame about which nothing is asked shows nothing of words and masks.
    #[error("calibrating ranges: expected questions about the frame {frame}, got none")]
    NoQuestion {
        /// Its name.
        frame: String,
    },
    /// A number of the model is not finite.
    #[error("{what}: expected finite numbers, got {got}")]
    NotFinite {
        /// What it is.
        what: &'static str,
        /// What came.
        got: f32,
    },
    /// The model failed.
    #[error(transparent)]
    Model(#[from] kestrel_models::error::Error),
    /// Preparing or proposing failed.
    #[error(transparent)]
    Train(#[from] kestrel_training::sft::TrainError),
    /// Answers could not be read.
    #[error(transparent)]
    Perception(#[from] kestrel_perception::Error),
    /// candle failed.
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
}
