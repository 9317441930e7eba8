//! Why a bundle is not opened.

use kestrel_link::LinkError;
use std::path::{Path, PathBuf};

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A file could not be read or written.
    #[error("{operation} {path}: {source}", path = path.display())]
    File {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file has another length than the manifest says.
    #[error("{path}: expected {expected} bytes, got {got}", path = path.display())]
    Length {
        /// Which file.
        path: PathBuf,
        /// Bytes by the manifest.
        expected: u64,
        /// Bytes on disk.
        got: u64,
    },
    /// A file has other bytes than the manifest says.
    #[error("{path}: expected SHA-256 {expected}, got {got}", path = path.display())]
    Hash {
        /// Which file.
        path: PathBuf,
        /// Hash by the manifest.
        expected: String,
        /// Hash of the bytes on disk.
        got: String,
    },
    /// The content of a file is not what this runtime takes.
    #[error("{path}: {source}", path = path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: LinkError,
    },
    /// Two files of the bundle contradict each other.
    #[error("{path}: expected {expected}, got {got}", path = path.display())]
    Mismatch {
        /// Which file.
        path: PathBuf,
        /// What the other files need.
        expected: String,
        /// What it says.
        got: String,
    },
    /// The thresholds were set on other graphs than those beside them.
    #[error(
        "{path}: expected thresholds of the graphs beside them (model_hash {expected}), got those of another model (model_hash {got})",
        path = path.display()
    )]
    ForeignThresholds {
        /// The thresholds' file.
        path: PathBuf,
        /// Hash of the bundle's graphs.
        expected: String,
        /// Hash that the thresholds name.
        got: String,
    },
    /// The bundle carries no signature where one is needed.
    #[error("{path}: expected a signature, got none", path = path.display())]
    Unsigned {
        /// Where the signature should be.
        path: PathBuf,
    },
}

impl BundleError {
    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File { .. } => "give the folder that holds manifest.json, with every file it lists readable",
            Self::Length { .. } | Self::Hash { .. } => {
                "the file changed since it was bundled: copy or push the bundle again"
            }
            Self::Content { source, .. } => source.hint(),
            Self::Mismatch { .. } => {
                "the bundle was put together from parts of different models: bundle it anew with `ground bundle`"
            }
            Self::ForeignThresholds { .. } => {
                "calibrate these graphs: `ground calibrate begin`, `ground eval --records`, `ground calibrate`"
            }
            Self::Unsigned { .. } => {
                "sign it with `ground bundle --sign KEY`, or fly it unsigned by path with --bundle"
            }
        }
    }

    pub(super) fn content(path: &Path, source: LinkError) -> Self {
        Self::Content { path: path.to_owned(), source }
    }

    pub(super) fn file(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::File { operation, path: path.to_owned(), source }
    }
}
