//! `manifest.json`: what a model bundle holds and what it needs.

use crate::error::LinkError;
use crate::hash::{is_sha256_hex, sha256_hex};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

pub use crate::thresholds::{Presence, Thresholds};

/// The bundle format this runtime reads.
pub const FORMAT: u32 = 1;
/// This runtime's version, held against [`Manifest::minimum_runtime`].
pub const RUNTIME_VERSION: &str = env!("CARGO_PKG_VERSION");
/// File name of the manifest in a bundle.
pub const MANIFEST_FILE: &str = "manifest.json";
/// File name of the manifest's signature in a bundle.
pub const SIGNATURE_FILE: &str = "manifest.sig";
/// The three graphs in the order in which [`Thresholds::model_hash`] takes them.
pub const GRAPH_FILES: [&str; 3] = ["vision.onnx", "language.onnx", "mask.onnx"];
/// The graph that writes reasoned answers; a bundle may hold it, and no threshold depends on it.
pub const EXPLAIN_FILE: &str = "explain.onnx";
/// File name of the tokenizer.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// File name of the thresholds.
pub const THRESHOLDS_FILE: &str = "thresholds.json";
/// Longest manifest, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 48 * 1024;
/// Most files in a bundle.
pub const MAX_FILES: usize = 64;
/// Most bytes of all files of a bundle together.
pub const MAX_BUNDLE_BYTES: u64 = 64 * 1024 * 1024;

/// Side of the square view in pixels that this runtime prepares.
pub const INPUT_SIZE: u32 = 512;
/// Widths of a model: more would make buffers that no drone has memory for.
pub const WIDTHS: RangeInclusive<u32> = 8..=4096;
/// Width of kestrel-s's image tokens and of its language model's hidden state.
pub const LANGUAGE_WIDTH: u32 = 256;
/// Width of kestrel-s's mask embeddings and of its `[SEG]`.
pub const MASK_WIDTH: u32 = 128;
/// Width of kestrel-s's stride-4 features.
pub const FINE_WIDTH: u32 = 32;
/// Lengths of a model's longest question in tokens.
pub const QUESTION_TOKENS: RangeInclusive<u32> = 16..=256;
/// Most tokens of a question to kestrel-s, `<answer>` and `[SEG]` included.
pub const MAX_TOKENS: u32 = 48;

/// What a bundle holds and what it needs; the signature is over its exact bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Name of the model, e.g. `kestrel-s`: 1 to 64 letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// Version of the model, same characters as the name.
    pub version: String,
    /// When the bundle was made, RFC 3339.
    pub created: String,
    /// Oldest runtime that can fly it, `major.minor.patch`.
    pub minimum_runtime: String,
    /// Side of the square input in pixels.
    pub input_size: u32,
    /// Tokens of the tokenizer.
    pub vocabulary: u32,
    /// Width of an image token.
    pub language_width: u32,
    /// Width of `embed` and `seg`.
    pub mask_width: u32,
    /// Width of `fine`.
    pub fine_width: u32,
    /// Length of `ids`.
    pub max_tokens: u32,
    /// Ids that the runtime must know without asking the tokenizer.
    pub answer_tokens: AnswerTokens,
    /// Every file of the bundle except the manifest and its signature, by path with `/`.
    pub files: BTreeMap<String, FileEntry>,
    /// Where the model comes from: recipe, commit, seed, data, licence; free text.
    pub provenance: BTreeMap<String, String>,
}

/// Token ids of the answer template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerTokens {
    /// `[SEG]`.
    pub seg: u32,
    /// `<none:absent>`.
    pub absent: u32,
    /// `<none:ambiguous>`.
    pub ambiguous: u32,
    /// `<none:not_understood>`.
    pub not_understood: u32,
    /// `<none:unseeable>`.
    pub unseeable: u32,
    /// `<answer>`.
    pub answer: u32,
    /// `<pad>`.
    pub pad: u32,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Hex SHA-256 of its bytes.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
}

impl FileEntry {
    /// The entry for a file of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: sha256_hex(bytes), bytes: bytes.len() as u64 }
    }
}

impl Manifest {
    /// Reads and checks `manifest.json`.
    ///
    /// # Errors
    /// When it is too long, not this JSON, out of range, or for another runtime.
    pub fn from_json(bytes: &[u8]) -> Result<Self, LinkError> {
        let manifest: Self = json("manifest", bytes, MAX_MANIFEST_BYTES)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The manifest as pretty JSON with a final newline: the bytes that are hashed and signed.
    ///
    /// # Errors
    /// When it is out of range or too long.
    pub fn to_json(&self) -> Result<Vec<u8>, LinkError> {
        self.validate()?;
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| LinkError::Malformed { operation: "write manifest", why: error.to_string() })?;
        bytes.push(b'\n');
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(LinkError::TooLarge {
                operation: "write manifest",
                limit: MAX_MANIFEST_BYTES,
                got: bytes.len(),
            });
        }
        Ok(bytes)
    }

    /// `name@version`, as replies and health say it.
    #[must_use]
    pub fn model(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).fold(0, u64::saturating_add)
    }

    /// Stems `canary/NN` of the canaries, in order.
    #[must_use]
    pub fn canaries(&self) -> Vec<&str> {
        let picture = |path: &str| self.files.contains_key(&format!("{path}.png"));
        self.files
            .keys()
            .filter_map(|path| path.strip_suffix(".json"))
            .filter(|stem| stem.starts_with("canary/") && picture(stem))
            .collect()
    }

    /// Checks every field against this runtime.
    ///
    /// # Errors
    /// Names the field, what was expected and what was there.
    pub fn validate(&self) -> Result<(), LinkError> {
        if self.format != FORMAT {
            return Err(LinkError::field("manifest.format", FORMAT.to_string(), self.format));
        }
        check_name("manifest.name", &self.name)?;
        check_name("manifest.version", &self.version)?;
        if self.created.len() > 64 {
            return Err(LinkError::field("manifest.created", "at most 64 bytes", &self.created));
        }
        self.check_runtime()?;
        self.check_shapes()?;
        self.check_tokens()?;
        self.check_files()?;
        self.check_provenance()
    }

    fn check_runtime(&self) -> Result<(), LinkError> {
        let needed = parse_version("manifest.minimum_runtime", &self.minimum_runtime)?;
        if needed > parse_version("runtime version", RUNTIME_VERSION)? {
            return Err(LinkError::field(
                "manifest.minimum_runtime",
                format!("at most this runtime's {RUNTIME_VERSION}"),
                &self.minimum_runtime,
            ));
        }
        Ok(())
    }

    fn check_shapes(&self) -> Result<(), LinkError> {
        if self.input_size != INPUT_SIZE {
            let expected = format!("this runtime's {INPUT_SIZE}");
            return Err(LinkError::field("manifest.input_size", expected, self.input_size));
        }
        for (field, got, known) in [
            ("manifest.language_width", self.language_width, WIDTHS),
            ("manifest.mask_width", self.mask_width, WIDTHS),
            ("manifest.fine_width", self.fine_width, WIDTHS),
            ("manifest.max_tokens", self.max_tokens, QUESTION_TOKENS),
        ] {
            if !known.contains(&got) {
                return Err(LinkError::field(field, format!("{known:?}"), got));
            }
        }
        // 256 bytes, the special tokens, and ids that fit the smallest exports.
        if !(256..=65_536).contains(&self.vocabulary) {
            return Err(LinkError::field("manifest.vocabulary", "256..=65536", self.vocabulary));
        }
        Ok(())
    }

    fn check_tokens(&self) -> Result<(), LinkError> {
        let t = &self.answer_tokens;
        let ids = [t.seg, t.absent, t.ambiguous, t.not_understood, t.unseeable, t.answer, t.pad];
        if let Some(id) = ids.iter().find(|id| **id >= self.vocabulary) {
            return Err(LinkError::field("manifest.answer_tokens", format!("ids below {}", self.vocabulary), id));
        }
        if ids.iter().collect::<BTreeSet<_>>().len() != ids.len() {
            return Err(LinkError::field("manifest.answer_tokens", "seven different ids", ids));
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), LinkError> {
        if self.files.len() > MAX_FILES {
            return Err(LinkError::field("manifest.files", format!("at most {MAX_FILES} files"), self.files.len()));
        }
        for (path, file) in &self.files {
            check_path(path)?;
            if !is_sha256_hex(&file.sha256) {
                return Err(LinkError::field(
                    format!("manifest.files.{path}.sha256"),
                    "64 lower-case hex digits",
                    &file.sha256,
                ));
            }
            let below = format!("{path}/");
            if self.files.keys().any(|other| other.starts_with(&below)) {
                return Err(LinkError::field("manifest.files", "a file or a folder", path));
            }
        }
        if self.total_bytes() > MAX_BUNDLE_BYTES {
            return Err(LinkError::field(
                "manifest.files",
                format!("at most {MAX_BUNDLE_BYTES} bytes together"),
                self.total_bytes(),
            ));
        }
        let needed = GRAPH_FILES.into_iter().chain([TOKENIZER_FILE, THRESHOLDS_FILE]);
        for path in needed {
            if !self.files.contains_key(path) {
                return Err(LinkError::field("manifest.files", path, "no such entry"));
            }
        }
        Ok(())
    }

    fn check_provenance(&self) -> Result<(), LinkError> {
        let long = |text: &String| text.len() > 4096;
        if self.provenance.len() > 32 || self.provenance.iter().any(|(k, v)| long(k) || long(v)) {
            return Err(LinkError::field(
                "manifest.provenance",
                "at most 32 texts of at most 4096 bytes",
                self.provenance.len(),
            ));
        }
        Ok(())
    }
}

/// Checks that a path stays inside the bundle on every file system: 1 to 4 parts of letters, digits, `.`, `_`, `-`, no part beginning with a dot.
///
/// # Errors
/// Names the path.
pub fn check_path(path: &str) -> Result<(), LinkError> {
    let plain = |part: &str| check_name("part", part).is_ok() && !part.starts_with('.');
    let parts = path.split('/').count();
    let reserved = [MANIFEST_FILE, SIGNATURE_FILE].contains(&path);
    if (1..=4).contains(&parts) && path.split('/').all(plain) && !reserved {
        return Ok(());
    }
    Err(LinkError::field(
        "manifest.files",
        "relative paths of 1 to 4 parts of letters, digits, '.', '_', '-', none beginning with a dot",
        path,
    ))
}

/// JSON with a cap on its length.
pub(crate) fn json<T: DeserializeOwned>(operation: &'static str, bytes: &[u8], limit: usize) -> Result<T, LinkError> {
    if bytes.len() > limit {
        return Err(LinkError::TooLarge { operation, limit, got: bytes.len() });
    }
    serde_json::from_slice(bytes)
        .map_err(|error| LinkError::Malformed { operation, why: error.to_string().chars().take(200).collect() })
}

fn check_name(field: &'static str, name: &str) -> Result<(), LinkError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(LinkError::field(field, "1 to 64 letters, digits, '.', '_' and '-'", name))
}

fn parse_version(field: &'static str, text: &str) -> Result<[u32; 3], LinkError> {
    let wrong = || LinkError::field(field, "major.minor.patch", text);
    let mut parts = text.split('.').map(|part| part.parse::<u32>().map_err(|_| wrong()));
    let version =
        [parts.next().ok_or_else(wrong)??, parts.next().ok_or_else(wrong)??, parts.next().ok_or_else(wrong)??];
    if parts.next().is_some() { Err(wrong()) } else { Ok(version) }
}
