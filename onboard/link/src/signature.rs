//! Ed25519 over a manifest's exact bytes.
//!
//! `manifest.sig` is one line: the key id, a space, the signature as 128 hex digits, a newline.
//! A key id is the first 16 hex digits of the SHA-256 of the public key.

use crate::error::LinkError;
use crate::hash::{from_hex, sha256_hex, to_hex};
use ed25519_dalek::{Signature, Signer};

pub use ed25519_dalek::{SigningKey, VerifyingKey};

/// Longest `manifest.sig`, in bytes.
pub const MAX_SIGNATURE_BYTES: usize = 256;

/// The id by which a public key is named.
#[must_use]
pub fn key_id(key: &VerifyingKey) -> String {
    sha256_hex(key.as_bytes()).chars().take(16).collect()
}

/// The text of `manifest.sig` for these manifest bytes.
#[must_use]
pub fn sign_manifest(manifest: &[u8], key: &SigningKey) -> String {
    let signature = key.sign(manifest);
    format!("{} {}\n", key_id(&key.verifying_key()), to_hex(&signature.to_bytes()))
}

/// Checks the text of a `manifest.sig`; gives the id of the key that signed.
///
/// # Errors
/// When the text is malformed, the key is not among `trusted`, or the signature does not hold.
pub fn verify_manifest(manifest: &[u8], signature: &str, trusted: &[VerifyingKey]) -> Result<String, LinkError> {
    let wrong = |why: String| LinkError::Signature { what: "manifest", why };
    if signature.len() > MAX_SIGNATURE_BYTES {
        return Err(LinkError::TooLarge {
            operation: "read manifest.sig",
            limit: MAX_SIGNATURE_BYTES,
            got: signature.len(),
        });
    }
    let (id, hex) = signature
        .trim_end()
        .split_once(' ')
        .ok_or_else(|| wrong("expected a key id and a signature, got neither".into()))?;
    let bytes: [u8; 64] = from_hex(hex).ok_or_else(|| wrong("expected 128 hex digits after the key id".into()))?;
    let key = trusted.iter().find(|key| key_id(key) == id).ok_or_else(|| {
        let known: Vec<String> = trusted.iter().map(key_id).collect();
        let id: String = id.chars().take(16).collect();
        wrong(format!("key {id} is not trusted; trusted are [{}]", known.join(", ")))
    })?;
    // Strict: refuses weak keys and signatures that can be altered without the key.
    key.verify_strict(manifest, &Signature::from_bytes(&bytes))
        .map_err(|_| wrong(format!("does not hold under key {id}")))?;
    Ok(id.to_owned())
}

/// A public key as 64 hex digits.
#[must_use]
pub fn public_key_text(key: &VerifyingKey) -> String {
    to_hex(key.as_bytes())
}

/// Reads a public key of 64 hex digits.
///
/// # Errors
/// When it is not that, or no point of the curve.
pub fn parse_public_key(text: &str) -> Result<VerifyingKey, LinkError> {
    let wrong = || LinkError::field("public key", "an Ed25519 key as 64 hex digits", text.trim());
    let bytes: [u8; 32] = from_hex(text.trim()).ok_or_else(wrong)?;
    let key = VerifyingKey::from_bytes(&bytes).map_err(|_| wrong())?;
    if key.is_weak() { Err(wrong()) } else { Ok(key) }
}

/// A secret key as 64 hex digits; keep it in a file that only its owner reads.
#[must_use]
pub fn secret_key_text(key: &SigningKey) -> String {
    to_hex(key.as_bytes())
}

/// Reads a secret key of 64 hex digits.
///
/// # Errors
/// When it is not that; the error does not repeat the text.
pub fn parse_secret_key(text: &str) -> Result<SigningKey, LinkError> {
    let bytes: [u8; 32] = from_hex(text.trim())
        .ok_or_else(|| LinkError::field("secret key", "an Ed25519 key as 64 hex digits", "something else"))?;
    Ok(SigningKey::from_bytes(&bytes))
}
