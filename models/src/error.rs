//! What can go wrong with a model.

use thiserror::Error;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of this crate: what was done, what was expected, what came.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has another shape than the definition needs.
    #[error("{operation} `{name}`: expected shape {expected}, got {got:?}")]
    Shape {
        /// The operation.
        operation: &'static str,
        /// Parameter or tensor.
        name: String,
        /// What it needs, in words.
        expected: String,
        /// What came.
        got: Vec<usize>,
    },
    /// A request that cannot be served.
    #[error("{operation}: expected {expected}, got {got}")]
    Request {
        /// The operation.
        operation: &'static str,
        /// What it needs, in words.
        expected: String,
        /// What came.
        got: String,
    },
    /// A parameter that the definition needs is in no file.
    #[error("parameter `{name}` {shape:?} is missing from {from}")]
    MissingParameter {
        /// Its full name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Where it was looked for.
        from: String,
    },
    /// A file does not hold what its format says.
    #[error("{path}: expected {expected}, got {got}")]
    Format {
        /// The file.
        path: String,
        /// What should be there.
        expected: String,
        /// What is there.
        got: String,
    },
    /// candle failed.
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
    /// A file could not be read or written.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// The tokenizers crate failed.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
}
