//! Why a push stops.

use super::receiver::ReceiveError;
use super::state::{RECORD_FORMAT, TransitionError};
use crate::bundle::BundleError;
use kestrel_link::LinkError;
use std::io;
use std::path::PathBuf;

/// Why a step could not be made; what flew before flies on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// The disk failed.
    #[error("model slots: {operation} {path}: {source}", path = path.display())]
    Disk {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `current.json` is not what this program writes.
    #[error("{path}: expected a record of format {RECORD_FORMAT}, got {got}", path = path.display())]
    Record {
        /// Where it lies.
        path: PathBuf,
        /// What is there.
        got: String,
    },
    /// A step out of its order.
    #[error(transparent)]
    Order(#[from] TransitionError),
    /// The offer is not trusted or not for this runtime.
    #[error("push offer: {0}")]
    Offer(#[from] LinkError),
    /// A chunk is not what was asked for.
    #[error(transparent)]
    Chunk(#[from] ReceiveError),
    /// The files in a slot are not a whole, trusted bundle.
    #[error("model slots: {0}")]
    Bundle(#[from] BundleError),
    /// The bundle in a slot is another than the record says.
    #[error("{path}: expected manifest {expected}, got {got}", path = path.display())]
    OtherBundle {
        /// The slot's folder.
        path: PathBuf,
        /// Hash by the record.
        expected: String,
        /// Hash of what is there.
        got: String,
    },
}

impl SlotError {
    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Disk { .. } => {
                "check that the disk has room for two models, is writable and is used by one drone only"
            }
            Self::Record { .. } => {
                "written by a newer version, or damaged: move the folder away and push the model again"
            }
            Self::Order(_) => "wait for the state under model/state, then push again",
            Self::Offer(error) => error.hint(),
            Self::Chunk(_) => "push again from an undamaged copy of the bundle",
            Self::Bundle(error) => error.hint(),
            Self::OtherBundle { .. } => "files in the slots were changed by hand: push the model again",
        }
    }

    /// Whether asking for the chunk again can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Chunk(ReceiveError::Order { .. } | ReceiveError::Length { .. }))
    }
}
