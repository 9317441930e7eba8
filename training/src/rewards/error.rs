//! Why an answer could not be scored.

use thiserror::Error;

/// The judge's own inability: such an answer is left out of its group, never scored 0.
///
/// What the answer itself lacks (a box, a tag, any word) is no reason: that scores 0.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unscorable {
    /// The truth lacks what the task compares with.
    #[error("scoring {task}: expected {expected} in the truth, got {got}")]
    Truth {
        /// The task.
        task: &'static str,
        /// What the truth must hold.
        expected: &'static str,
        /// What it holds.
        got: &'static str,
    },
    /// A box that is not a place.
    #[error("comparing boxes: expected finite edges in the {side}, got NaN or infinity")]
    NotFinite {
        /// Whose box it is: `answer` or `truth`.
        side: &'static str,
    },
    /// A picture without pixels has no diagonal to measure by.
    #[error("measuring distance: expected a picture with pixels, got {width} x {height}")]
    NoPicture {
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
    },
    /// The task compares sentences and no model of them was given.
    #[error("comparing sentences: expected a sentence model, got none")]
    NoSentenceModel,
    /// The sentence model failed.
    #[error("comparing sentences: {0}")]
    Sentences(String),
}
