//! What can go wrong with data on disk.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Result of the data modules.
pub type Result<T> = std::result::Result<T, DataError>;

/// Errors of data sets, caches and benchmark sets.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
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
    /// A file is not the JSON that its format says.
    #[error("{path}: not valid JSON of the expected form: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's word.
        source: serde_json::Error,
    },
    /// One entry of an annotation file is broken.
    #[error("{path}: {entry}[{index}]: expected {expected}, got {got}")]
    Annotation {
        /// The annotation file.
        path: PathBuf,
        /// `images` or `instances`.
        entry: &'static str,
        /// Position in that list.
        index: usize,
        /// What should be there.
        expected: String,
        /// What is there.
        got: String,
    },
    /// A picture cannot be read.
    #[error("{path} (images[{index}]): expected {expected}, got {got}")]
    Picture {
        /// The image file.
        path: PathBuf,
        /// Position in the annotation file's `images`.
        index: usize,
        /// What should be there.
        expected: String,
        /// What came instead.
        got: String,
    },
    /// A cache shard is not what its header says.
    #[error("{path}: expected {expected}, got {got}; delete the file and build the cache again")]
    Shard {
        /// The shard.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        got: String,
    },
    /// A sample index beyond the end.
    #[error("cache {path}: sample {index} asked for, it holds {len}")]
    OutOfRange {
        /// The cache folder.
        path: PathBuf,
        /// What was asked for.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// No benchmark set has this name.
    #[error("no set is called `{got}`; there are {known}")]
    UnknownSet {
        /// The name asked for.
        got: String,
        /// The names there are.
        known: String,
    },
    /// A mask does not decode.
    #[error("mask of instance {instance} of {dataset}/{frame}: {got}")]
    Mask {
        /// Index of the instance.
        instance: usize,
        /// Data set.
        dataset: String,
        /// File or frame.
        frame: String,
        /// The codec's word.
        got: String,
    },
    /// Pixels do not become a mask.
    #[error("encoding a mask of {size}x{size}: {got}")]
    Encode {
        /// Side in pixels.
        size: u32,
        /// The codec's word.
        got: String,
    },
    /// A file is not what its format says.
    #[error("{path}: expected {expected}, got {got}")]
    Form {
        /// The file or folder.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        got: String,
    },
    /// No format has this name.
    #[error("no format is called `{got}`; there are {known}")]
    UnknownFormat {
        /// The name asked for.
        got: String,
        /// The names there are.
        known: String,
    },
    /// A split is asked for that a set does not have, or none where it has some.
    #[error("{path}: expected a split among {known}, got {got}")]
    Split {
        /// The set's folder.
        path: PathBuf,
        /// The splits that it has.
        known: String,
        /// What was asked for.
        got: String,
    },
    /// A data folder that the request needs is missing.
    #[error("{path} is missing: expected a folder with images/ and annotations.json for {needed_for}")]
    MissingFolder {
        /// Where it was looked for.
        path: PathBuf,
        /// What asked for it.
        needed_for: String,
    },
}

impl DataError {
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { operation, path, source }
    }
}
