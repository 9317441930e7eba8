//! What can go wrong between a frame and an outcome.

use std::path::PathBuf;

use kestrel_link::LinkError;

use crate::bundle::BundleError;
use crate::engine::EngineError;

/// A question that cannot be answered, not even by a refusal; [`SegmentError::hint`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// A frame without pixels.
    #[error("frame: expected at least 1×1 pixels, got {width}×{height}")]
    EmptyFrame {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A frame larger than a mask may be.
    #[error("frame: expected at most {most} pixels on a side, got {width}×{height}")]
    LargeFrame {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The limit.
        most: u32,
    },
    /// A query that is not valid.
    #[error("query: {0}")]
    Query(#[from] LinkError),
    /// A tokenizer that does not fit.
    #[error("tokenizer.json: {why}")]
    Tokenizer {
        /// What is wrong.
        why: String,
    },
    /// A graph whose output has another shape than the manifest says.
    #[error("{engine}: output `{output}`: expected shape {expected:?}, got {got:?}")]
    Shape {
        /// The engine.
        engine: String,
        /// The output.
        output: &'static str,
        /// The manifest's shape.
        expected: Vec<usize>,
        /// The graph's shape.
        got: Vec<usize>,
    },
    /// A bundle without the graph that answers with reasons.
    #[error("{path}: expected the graph that answers with reasons, got a bundle without it", path = path.display())]
    NoReasons {
        /// Where the graph would be.
        path: PathBuf,
    },
    /// A reasoned answer that its own grammar refuses.
    #[error(transparent)]
    Reasoned(#[from] kestrel_perception::ParseError),
    /// A file of the bundle is not what it was.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A step of perception failed.
    #[error(transparent)]
    Perception(#[from] kestrel_perception::Error),
}

impl SegmentError {
    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::EmptyFrame { .. } => "check the camera or the picture: it holds nothing",
            Self::LargeFrame { .. } => "scale the picture down or cut it into parts",
            Self::Query(_) => "ask in one short sentence, for example: the red car left of the truck",
            Self::Tokenizer { .. } | Self::Shape { .. } => {
                "the bundle does not fit this runtime: export it again with this version"
            }
            Self::NoReasons { .. } => {
                "export the model with `ground export … --explain`, or ask for its answer without reasons"
            }
            Self::Reasoned(_) => "the model's words contradict its grammar: report this with the bundle's name",
            Self::Bundle(error) => error.hint(),
            Self::Engine(error) => error.hint(),
            Self::Perception(_) => "check the frame: its size and its pixels are not what they should be",
        }
    }
}
