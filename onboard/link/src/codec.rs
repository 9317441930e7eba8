//! CBOR in and out (RFC 8949), with a size cap on every message.

use crate::error::LinkError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Nesting that no message of ours reaches.
const MAX_DEPTH: usize = 32;

/// What may travel as one CBOR message.
pub trait Message: Serialize + DeserializeOwned {
    /// Name for errors.
    const NAME: &'static str;
    /// Most bytes when encoded.
    const MAX_BYTES: usize;

    /// Checks the ranges that the types alone do not hold.
    ///
    /// # Errors
    /// Names the field, the range and what was there.
    fn validate(&self) -> Result<(), LinkError>;
}

/// Encodes a message.
///
/// # Errors
/// [`LinkError::TooLarge`] when it is over its cap.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, LinkError> {
    let mut bytes = Vec::new();
    encode_into(message, &mut bytes)?;
    Ok(bytes)
}

/// As [`encode`], into `bytes`, whose contents are written over and whose memory is used again.
///
/// # Errors
/// As [`encode`]; `bytes` then hold nothing that may be sent.
pub fn encode_into<M: Message>(message: &M, bytes: &mut Vec<u8>) -> Result<(), LinkError> {
    bytes.clear();
    ciborium::into_writer(message, &mut *bytes)
        .map_err(|error| LinkError::Malformed { operation: M::NAME, why: error.to_string() })?;
    check_size::<M>(bytes.len())
}

/// Decodes and validates exactly one message.
///
/// # Errors
/// On anything but one whole, valid message; never panics and never allocates beyond a small multiple of the cap.
pub fn decode<M: Message>(bytes: &[u8]) -> Result<M, LinkError> {
    check_size::<M>(bytes.len())?;
    let mut rest = bytes;
    let message: M = ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH)
        .map_err(|error| LinkError::Malformed { operation: M::NAME, why: describe(&error) })?;
    if !rest.is_empty() {
        return Err(LinkError::TrailingBytes { operation: M::NAME, end: bytes.len() - rest.len(), got: bytes.len() });
    }
    message.validate()?;
    Ok(message)
}

fn check_size<M: Message>(got: usize) -> Result<(), LinkError> {
    if got > M::MAX_BYTES {
        return Err(LinkError::TooLarge { operation: M::NAME, limit: M::MAX_BYTES, got });
    }
    Ok(())
}

fn describe<T: std::fmt::Debug>(error: &ciborium::de::Error<T>) -> String {
    use ciborium::de::Error;
    match error {
        Error::Io(_) => "expected a whole CBOR item, got the end of the bytes".into(),
        Error::Syntax(at) => format!("not CBOR at byte {at}"),
        // Serde's texts quote the offending value; a hostile one must not fill the log.
        Error::Semantic(_, why) => why.chars().take(200).collect(),
        Error::RecursionLimitExceeded => format!("nested more than {MAX_DEPTH} deep"),
    }
}
