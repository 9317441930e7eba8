//! What can go wrong with a conformance suite.

use std::path::PathBuf;

use crate::engine::EngineError;

/// A suite that cannot be read, or a case that cannot be judged; [`ConformanceError::hint`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConformanceError {
    /// A file that cannot be read.
    #[error("reading {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A file that does not hold what it should.
    #[error("{path}: expected {expected}, got {got}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        got: String,
    },
    /// An engine that cannot be had, refuses a graph or fails.
    #[error("case {case}: {source}")]
    Engine {
        /// The case.
        case: String,
        /// The engine's word.
        source: EngineError,
    },
    /// Outputs other than the case's.
    #[error("case {case}: expected {expected}, got {got}")]
    Output {
        /// The case.
        case: String,
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
    /// A case without a tolerance for the engine.
    #[error("case {case}: expected a tolerance for {engine}, got those for {known}")]
    NoTolerance {
        /// The case.
        case: String,
        /// The engine.
        engine: String,
        /// The engines that have one.
        known: String,
    },
}

impl ConformanceError {
    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File { .. } | Self::Content { .. } => {
                "name the folder of a suite, such as onboard/conformance; its files are made anew by `KESTREL_WRITE=1 cargo test -p kestrel-models --test parity conformance`"
            }
            Self::Engine { source, .. } => source.hint(),
            Self::Output { .. } => "the graph and the expected outputs do not belong together: make the suite anew",
            Self::NoTolerance { .. } => "state one in suite.toml, or run another engine",
        }
    }
}
