//! What can go wrong while a flight is recorded, read and replayed.

use std::path::PathBuf;

use crate::pipeline::SegmentError;

/// Why a flight is not recorded; [`RecordError::hint`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A file of this name is there already: a record is never overwritten.
    #[error("record {path}: expected a new file, got one that is there already", path = path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The file cannot be created or written.
    #[error("{operation} {path}: {source}", path = path.display())]
    File {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something cannot be written into the record.
    #[error("write the record: {why}")]
    Write {
        /// What was said of it.
        why: String,
    },
    /// The recording thread could not be started.
    #[error("starting thread record: {source}")]
    Thread {
        /// What the system said.
        source: std::io::Error,
    },
}

impl RecordError {
    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Exists { .. } => {
                "name another file, or write {start} into its name: it becomes the second in which the flight starts"
            }
            Self::File { .. } | Self::Write { .. } => "check the folder, its permissions and the room on its disk",
            Self::Thread { .. } => "the system is out of threads or memory",
        }
    }

    /// An error with all that led to it.
    pub(super) fn write(error: impl std::error::Error) -> Self {
        let mut why = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            why = format!("{why}: {inner}");
            source = inner.source();
        }
        Self::Write { why }
    }
}

/// Why a file is no recorded flight. Damage within one is no error, see [`super::Damage`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be opened.
    #[error("open {path}: {source}", path = path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes cannot be read.
    #[error("read the record: {source}")]
    Read {
        /// What the system said.
        #[from]
        source: std::io::Error,
    },
    /// The bytes are no MCAP file.
    #[error("record: expected an MCAP file, got other bytes at its beginning")]
    NotMcap,
    /// An MCAP file that does not say which flight it is of.
    #[error("record: expected a flight of this runtime, got an MCAP file that does not describe one{why}")]
    NoFlight {
        /// The first damage that was found, or nothing.
        why: String,
    },
}

impl ReadError {
    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Open { .. } | Self::Read { .. } => "check the path and whether the file can be read",
            Self::NotMcap | Self::NoFlight { .. } => "give a file that was written by `onboard run --record FILE.mcap`",
        }
    }
}

/// Why a flight is not replayed; [`ReplayError::hint`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The record cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The record holds nothing that could be replayed.
    #[error("record: expected at least one frame that was looked at, got none{why}")]
    Nothing {
        /// The first damage that was found, or nothing.
        why: String,
    },
    /// The flight was flown by another model.
    #[error("model: expected {recorded}, which flew, got {got}")]
    OtherModel {
        /// The models that flew, with their hashes.
        recorded: String,
        /// The model that was given.
        got: String,
    },
    /// The flight was flown on another engine.
    #[error("engine: expected {recorded}, which flew, got {got}")]
    OtherEngine {
        /// The engine that flew.
        recorded: String,
        /// The engine that is active.
        got: String,
    },
    /// A frame cannot be looked at.
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

impl ReplayError {
    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read(error) => error.hint(),
            Self::Nothing { .. } => "a flight that ended before its first frame has nothing to replay",
            Self::OtherModel { .. } => "name that model's folder with --bundle, or compare with another one by --loose",
            Self::OtherEngine { .. } => "leave --engine out, or compare with another engine by --loose",
            Self::Segment(error) => error.hint(),
        }
    }
}
