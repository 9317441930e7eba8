//! How a new model reaches a drone: an offer, chunks that the drone pulls, and states that it publishes.

use crate::codec::Message;
use crate::error::LinkError;
use crate::hash::is_sha256_hex;
use crate::key::{DroneId, ROOT};
use crate::manifest::{MAX_BUNDLE_BYTES, MAX_MANIFEST_BYTES, check_path};
use crate::signature::MAX_SIGNATURE_BYTES;
use serde::{Deserialize, Serialize};

/// Most bytes of one chunk.
pub const MAX_CHUNK_BYTES: u32 = 256 * 1024;

/// "I have this bundle": sent to `kestrel/{drone}/model/push`, answered with a [`PushState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushOffer {
    /// The exact text of `manifest.json`.
    pub manifest: String,
    /// The exact text of `manifest.sig`.
    pub signature: String,
}

impl Message for PushOffer {
    const NAME: &'static str = "push offer";
    const MAX_BYTES: usize = 64 * 1024;

    fn validate(&self) -> Result<(), LinkError> {
        for (operation, limit, got) in [
            ("push offer manifest", MAX_MANIFEST_BYTES, self.manifest.len()),
            ("push offer signature", MAX_SIGNATURE_BYTES, self.signature.len()),
        ] {
            if got > limit {
                return Err(LinkError::TooLarge { operation, limit, got });
            }
        }
        Ok(())
    }
}

/// Which bytes of which file the drone wants; answered with exactly these bytes, raw.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChunkRequest {
    /// Hex SHA-256 of the offered manifest.
    pub manifest_hash: String,
    /// Path of the file in the bundle.
    pub path: String,
    /// First byte.
    pub offset: u64,
    /// Number of bytes, 1 to [`MAX_CHUNK_BYTES`].
    pub length: u32,
}

impl ChunkRequest {
    /// The zenoh selector `kestrel/{drone}/model/chunk/{hash}/{path}?offset=…;length=…`.
    #[must_use]
    pub fn selector(&self, drone: &DroneId) -> String {
        format!(
            "{ROOT}/{drone}/model/chunk/{}/{}?offset={};length={}",
            self.manifest_hash, self.path, self.offset, self.length
        )
    }

    /// Reads the key and the parameters of a selector.
    ///
    /// # Errors
    /// When either is not as [`ChunkRequest::selector`] writes it or is out of range.
    pub fn parse(key: &str, parameters: &str) -> Result<Self, LinkError> {
        let wrong = || LinkError::field("chunk key", "kestrel/{drone}/model/chunk/{manifest hash}/{path}", key);
        let parts: Vec<&str> = key.splitn(6, '/').collect();
        let [ROOT, drone, "model", "chunk", hash, path] = parts[..] else {
            return Err(wrong());
        };
        DroneId::new(drone)?;
        check_path(path)?;
        if !is_sha256_hex(hash) {
            return Err(wrong());
        }
        let request = Self {
            manifest_hash: hash.to_owned(),
            path: path.to_owned(),
            offset: parameter(parameters, "offset")?,
            length: u32::try_from(parameter(parameters, "length")?).unwrap_or(u32::MAX),
        };
        if !(1..=MAX_CHUNK_BYTES).contains(&request.length) || request.offset > MAX_BUNDLE_BYTES {
            return Err(LinkError::field(
                "chunk parameters",
                format!("offset to {MAX_BUNDLE_BYTES}, length in 1..={MAX_CHUNK_BYTES}"),
                parameters,
            ));
        }
        Ok(request)
    }

    /// The bytes asked for, out of the whole file; `None` when it has no such range.
    #[must_use]
    pub fn slice<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::try_from(self.offset).ok()?;
        file.get(start..start.checked_add(self.length as usize)?)
    }
}

fn parameter(parameters: &str, name: &'static str) -> Result<u64, LinkError> {
    let mut found = parameters
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    match (found.next().map(str::parse), found.next()) {
        (Some(Ok(value)), None) => Ok(value),
        _ => Err(LinkError::field("chunk parameters", format!("one `{name}=` with a whole number"), parameters)),
    }
}

/// Where a model push stands: the answer to an offer, and published at every change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushState {
    /// The drone's id.
    pub drone: String,
    /// `name@version` of the offered model, empty when none is known.
    pub model: String,
    /// Hex SHA-256 of the offered manifest, empty when none is known.
    pub manifest_hash: String,
    /// How far it is.
    pub phase: PushPhase,
}

/// The way of a pushed model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PushPhase {
    /// Nothing under way.
    Idle,
    /// Pulling chunks.
    Downloading {
        /// Bytes that arrived.
        received_bytes: u64,
        /// Bytes of the whole bundle.
        total_bytes: u64,
    },
    /// Every file's size and hash is right.
    Verified,
    /// Whole in the spare slot.
    Staged,
    /// Being tried on its canary frames.
    Trial,
    /// Flies, and is the last good model now.
    Committed,
    /// The model from before flies on.
    RolledBack {
        /// Which check the new one failed.
        why: String,
    },
    /// Not taken at all.
    Refused {
        /// Which check the offer failed.
        why: String,
    },
}

impl PushPhase {
    /// Whether nothing more will follow for this offer.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Committed | Self::RolledBack { .. } | Self::Refused { .. })
    }
}

impl Message for PushState {
    const NAME: &'static str = "push state";
    const MAX_BYTES: usize = 8 * 1024;

    fn validate(&self) -> Result<(), LinkError> {
        DroneId::new(&self.drone).map(drop)
    }
}
