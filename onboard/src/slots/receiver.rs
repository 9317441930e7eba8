//! Which chunks to ask for, and whether what comes is what was promised. No network and no disk.

use kestrel_link::manifest::check_path;
use kestrel_link::push::MAX_CHUNK_BYTES;
use kestrel_link::signature::{VerifyingKey, verify_manifest};
use kestrel_link::{ChunkRequest, FileEntry, Hasher, LinkError, Manifest, PushOffer, sha256_hex};

/// A download under way: holds hashes and positions, never the bytes.
#[derive(Clone)]
pub struct Receiver {
    manifest: Manifest,
    manifest_hash: String,
    /// Files that have bytes, in manifest order.
    files: Vec<(String, FileEntry)>,
    asked: Position,
    got: Position,
    hasher: Hasher,
    received: u64,
}

/// The next byte: which file, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Position {
    file: usize,
    offset: u64,
}

/// Why bytes were not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// Not the chunk whose turn it is; ask again.
    #[error("chunk: expected {path} from byte {offset}, got {got_path} from byte {got_offset}")]
    Order {
        /// File whose turn it is.
        path: String,
        /// Next byte of it.
        offset: u64,
        /// File that came.
        got_path: String,
        /// Where it began.
        got_offset: u64,
    },
    /// Not as many bytes as asked for; ask again.
    #[error("chunk of {path}: expected {expected} bytes, got {got}")]
    Length {
        /// The file.
        path: String,
        /// Bytes asked for.
        expected: u32,
        /// Bytes that came.
        got: usize,
    },
    /// A whole file has another hash than the manifest says: the push has failed.
    #[error("{path}: expected SHA-256 {expected}, got {got}")]
    Hash {
        /// The file.
        path: String,
        /// By the manifest.
        expected: String,
        /// Of what came.
        got: String,
    },
    /// Every byte came already.
    #[error("chunk of {path}: expected nothing more, all files are complete")]
    Complete {
        /// The file that came.
        path: String,
    },
}

impl Receiver {
    /// Takes an offer that a trusted key signed.
    ///
    /// # Errors
    /// When the signature does not hold, or the manifest is not one this runtime flies or tests.
    pub fn new(offer: &PushOffer, trusted: &[VerifyingKey]) -> Result<Self, LinkError> {
        let bytes = offer.manifest.as_bytes();
        // First who says it, then what is said: nothing of an untrusted manifest is looked at.
        verify_manifest(bytes, &offer.signature, trusted)?;
        let manifest = Manifest::from_json(bytes)?;
        if manifest.canaries().is_empty() {
            return Err(LinkError::Field {
                field: "manifest.files".into(),
                expected: "at least one canary/NN.png with canary/NN.json: a pushed model is tried on them".into(),
                got: "none".into(),
            });
        }
        for (path, file) in &manifest.files {
            check_path(path)?;
            if file.bytes == 0 && file.sha256 != sha256_hex(&[]) {
                return Err(LinkError::Field {
                    field: format!("manifest.files.{path}.sha256"),
                    expected: "the hash of no bytes, as its length is 0".into(),
                    got: file.sha256.clone(),
                });
            }
        }
        let files = manifest.files.clone().into_iter().filter(|(_, file)| file.bytes > 0).collect();
        Ok(Self {
            manifest_hash: sha256_hex(bytes),
            manifest,
            files,
            asked: Position::default(),
            got: Position::default(),
            hasher: Hasher::default(),
            received: 0,
        })
    }

    /// What was offered.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Hex SHA-256 of what was offered.
    #[must_use]
    pub fn manifest_hash(&self) -> &str {
        &self.manifest_hash
    }

    /// Bytes received, and bytes in all.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.received, self.manifest.total_bytes())
    }

    /// Whether every file came with the right hash.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.got.file == self.files.len()
    }

    /// The next chunk to ask for, `None` when all were asked for. Several may be under way; they are taken in order.
    pub fn next_request(&mut self) -> Option<ChunkRequest> {
        let request = self.request_at(self.asked)?;
        self.asked = self.past(self.asked, request.length);
        Some(request)
    }

    /// Begins to ask again at the first byte that has not come: after a lost or wrong chunk.
    pub fn ask_again(&mut self) {
        self.asked = self.got;
    }

    /// Takes the bytes for a request; they are to be added to the end of the file it names.
    ///
    /// # Errors
    /// Only [`ReceiveError::Hash`] ends the push; after the others, [`Receiver::ask_again`].
    pub fn accept(&mut self, request: &ChunkRequest, bytes: &[u8]) -> Result<(), ReceiveError> {
        let path = request.path.clone();
        let Some(turn) = self.request_at(self.got) else {
            return Err(ReceiveError::Complete { path });
        };
        if turn != *request {
            let (got_path, got_offset) = (path, request.offset);
            return Err(ReceiveError::Order { path: turn.path, offset: turn.offset, got_path, got_offset });
        }
        if bytes.len() != request.length as usize {
            return Err(ReceiveError::Length { path, expected: request.length, got: bytes.len() });
        }
        self.hasher.update(bytes);
        self.received += bytes.len() as u64;
        let next = self.past(self.got, request.length);
        if next.file != self.got.file {
            let got = std::mem::take(&mut self.hasher).finish();
            let expected = self.files[self.got.file].1.sha256.clone();
            if got != expected {
                return Err(ReceiveError::Hash { path, expected, got });
            }
        }
        self.got = next;
        Ok(())
    }

    fn request_at(&self, at: Position) -> Option<ChunkRequest> {
        let (path, file) = self.files.get(at.file)?;
        let left = file.bytes - at.offset;
        Some(ChunkRequest {
            manifest_hash: self.manifest_hash.clone(),
            path: path.clone(),
            offset: at.offset,
            length: left.min(u64::from(MAX_CHUNK_BYTES)) as u32,
        })
    }

    fn past(&self, at: Position, length: u32) -> Position {
        let offset = at.offset + u64::from(length);
        match self.files.get(at.file) {
            Some((_, file)) if offset < file.bytes => Position { offset, ..at },
            _ => Position { file: at.file + 1, offset: 0 },
        }
    }
}
