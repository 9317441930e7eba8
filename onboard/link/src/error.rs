//! What can be wrong with bytes that came over the link.

/// Anything that is refused at the border.
///
/// Each variant says what was being done, what was expected and what was there; [`LinkError::hint`] says what to try.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// More bytes than the format allows.
    #[error("{operation}: expected at most {limit} bytes, got {got}")]
    TooLarge {
        /// What was being done.
        operation: &'static str,
        /// Most bytes allowed.
        limit: usize,
        /// Bytes that were there.
        got: usize,
    },
    /// The bytes are not the encoding they should be.
    #[error("{operation}: {why}")]
    Malformed {
        /// What was being done.
        operation: &'static str,
        /// What the decoder said.
        why: String,
    },
    /// Bytes were left after the message.
    #[error("{operation}: expected the message to end after byte {end}, got {got} bytes")]
    TrailingBytes {
        /// What was being done.
        operation: &'static str,
        /// Where the message ended.
        end: usize,
        /// Bytes that were there.
        got: usize,
    },
    /// A field holds a value outside its range.
    #[error("{field}: expected {expected}, got {got}")]
    Field {
        /// Path of the field.
        field: String,
        /// What would have been right.
        expected: String,
        /// What was there, shortened.
        got: String,
    },
    /// The run lengths of a mask make no sense.
    #[error("mask run lengths: expected {expected}, got {got}")]
    RunLengths {
        /// What would have been right.
        expected: String,
        /// What was there.
        got: String,
    },
    /// A signature that holds under none of the trusted keys.
    #[error("signature of {what}: {why}")]
    Signature {
        /// What was signed.
        what: &'static str,
        /// Which check failed.
        why: String,
    },
}

impl LinkError {
    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "send less: shorter text, a coarser mask, or smaller pieces",
            Self::Malformed { .. } | Self::TrailingBytes { .. } => {
                "encode one message of docs/reference/link.cddl, with nothing after it"
            }
            Self::Field { .. } => {
                "the ranges of every field stand in docs/reference/link.cddl; a newer version may have changed them"
            }
            Self::RunLengths { .. } => {
                "masks are COCO compressed run lengths, column by column, beginning with the zeros"
            }
            Self::Signature { .. } => {
                "sign the bundle with a key that the drone trusts, or add the public key to its trusted keys"
            }
        }
    }

    pub(crate) fn field(field: impl Into<String>, expected: impl Into<String>, got: impl std::fmt::Debug) -> Self {
        Self::Field { field: field.into(), expected: expected.into(), got: shortened(&got) }
    }
}

/// Hostile values must not fill logs: 80 characters tell enough.
fn shortened(value: &impl std::fmt::Debug) -> String {
    let full = format!("{value:?}");
    match full.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &full[..end]),
        None => full,
    }
}
