//! A model bundle on disk: opened only when every byte is what its manifest says.

pub mod error;
pub mod seal;
mod tokenizer;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

pub use error::BundleError;
pub use seal::seal;

use kestrel_link::manifest::{
    GRAPH_FILES, MANIFEST_FILE, MAX_BUNDLE_BYTES, MAX_MANIFEST_BYTES, SIGNATURE_FILE, THRESHOLDS_FILE, TOKENIZER_FILE,
};
use kestrel_link::signature::{MAX_SIGNATURE_BYTES, VerifyingKey, verify_manifest};
use kestrel_link::{
    CanarySpec, ChunkRequest, LinkError, Manifest, Mask, Outcome, PushOffer, Query, Thresholds, sha256_hex,
};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A checked model bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Where its files lie.
    pub dir: PathBuf,
    /// What it holds.
    pub manifest: Manifest,
    /// When to answer and when to stay silent.
    pub thresholds: Thresholds,
    /// Pictures with known answers.
    pub canaries: Vec<Canary>,
    /// Hex SHA-256 of `manifest.json`.
    pub manifest_hash: String,
    manifest_text: String,
    signature: Option<String>,
}

/// A picture with a known answer.
#[derive(Debug, Clone)]
pub struct Canary {
    /// Path of the PNG.
    pub image: PathBuf,
    /// What is asked.
    pub query: Query,
    /// The mask this model gave when it was bundled; `None` when it must refuse.
    pub expected: Option<Mask>,
    /// Least IoU with `expected` that passes.
    pub min_iou: f32,
}

/// Where the bytes of a bundle come from.
pub trait ReadFiles {
    /// Length of a plain file in bytes.
    ///
    /// # Errors
    /// As the file system says; also when it is no plain file.
    fn length(&self, path: &Path) -> std::io::Result<u64>;

    /// The first `limit` bytes of a file, or all when it is shorter.
    ///
    /// # Errors
    /// As the file system says.
    fn read(&self, path: &Path, limit: u64) -> std::io::Result<Vec<u8>>;
}

/// The file system itself.
#[derive(Debug, Clone, Copy)]
pub struct FileSystem;

impl ReadFiles for FileSystem {
    fn length(&self, path: &Path) -> std::io::Result<u64> {
        let metadata = std::fs::metadata(path)?;
        if metadata.is_file() {
            return Ok(metadata.len());
        }
        Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a plain file"))
    }

    fn read(&self, path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Bundle {
    /// Opens the bundle in a folder and checks every file of it; signatures are checked by [`Bundle::verify_signature`].
    ///
    /// # Errors
    /// Names the first file that is missing, has other bytes than the manifest says, or is not for this runtime.
    pub fn open(dir: &Path) -> Result<Self, BundleError> {
        Self::load(dir, &FileSystem)
    }

    /// As [`Bundle::open`], with the bytes from elsewhere.
    ///
    /// # Errors
    /// As [`Bundle::open`].
    pub fn load(dir: &Path, files: &impl ReadFiles) -> Result<Self, BundleError> {
        let path = dir.join(MANIFEST_FILE);
        let bytes = capped(files, &path, MAX_MANIFEST_BYTES)?;
        let manifest = Manifest::from_json(&bytes).map_err(|e| BundleError::content(&path, e))?;
        let manifest_hash = sha256_hex(&bytes);
        // JSON that parsed is UTF-8.
        let manifest_text = String::from_utf8_lossy(&bytes).into_owned();
        let checked = check_files(dir, &manifest, files)?;
        let thresholds = thresholds(dir, &checked)?;
        let tokenizer_path = dir.join(TOKENIZER_FILE);
        tokenizer::check(&tokenizer_path, bytes_of(&checked, TOKENIZER_FILE), &manifest)?;
        let canaries = canaries(dir, &manifest, &checked)?;
        let signature = signature(dir, files)?;
        Ok(Self { dir: dir.to_owned(), manifest, thresholds, canaries, manifest_hash, manifest_text, signature })
    }

    /// Whether a signature lies beside the manifest; says nothing about who made it.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.signature.is_some()
    }

    /// Checks the manifest's signature; gives the id of the trusted key that made it.
    ///
    /// # Errors
    /// When there is none, or it does not hold under any of the keys.
    pub fn verify_signature(&self, trusted: &[VerifyingKey]) -> Result<String, BundleError> {
        let path = self.dir.join(SIGNATURE_FILE);
        let Some(signature) = &self.signature else {
            return Err(BundleError::Unsigned { path });
        };
        verify_manifest(self.manifest_text.as_bytes(), signature, trusted).map_err(|e| BundleError::content(&path, e))
    }

    /// Path of one of the bundle's files.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What a pusher sends to a drone first.
    ///
    /// # Errors
    /// When the bundle carries no signature: drones take signed ones only.
    pub fn offer(&self) -> Result<PushOffer, BundleError> {
        let Some(signature) = self.signature.clone() else {
            return Err(BundleError::Unsigned { path: self.dir.join(SIGNATURE_FILE) });
        };
        Ok(PushOffer { manifest: self.manifest_text.clone(), signature })
    }

    /// The bytes a drone asks for, `None` when this bundle has no such bytes.
    ///
    /// # Errors
    /// When the file cannot be read any more.
    pub fn chunk(&self, request: &ChunkRequest) -> Result<Option<Vec<u8>>, BundleError> {
        if request.manifest_hash != self.manifest_hash || !self.manifest.files.contains_key(&request.path) {
            return Ok(None);
        }
        let path = self.dir.join(&request.path);
        let bytes = FileSystem.read(&path, MAX_BUNDLE_BYTES).map_err(|e| BundleError::file("read", &path, e))?;
        Ok(request.slice(&bytes).map(<[u8]>::to_vec))
    }
}

impl Canary {
    /// Holds an outcome against what is expected; gives the IoU, 1 for a rightful refusal.
    ///
    /// # Errors
    /// Says in one line what came instead.
    pub fn judge(&self, outcome: &Outcome) -> Result<f32, String> {
        let name = self.image.file_stem().unwrap_or_default().to_string_lossy();
        let text = &self.query.text;
        match (outcome, &self.expected) {
            (Outcome::Refused(_), None) => Ok(1.0),
            (Outcome::Refused(refusal), Some(_)) => {
                Err(format!("canary {name} {text:?}: expected a mask, got the refusal {:?}", refusal.verdict))
            }
            (Outcome::Segmented { .. }, None) => Err(format!("canary {name} {text:?}: expected a refusal, got a mask")),
            (Outcome::Segmented { masks }, Some(expected)) => {
                let union = masks.iter().try_fold(None::<Mask>, |sum, segment| {
                    Ok::<_, LinkError>(Some(match sum {
                        None => segment.mask.clone(),
                        Some(sum) => sum.union(&segment.mask)?,
                    }))
                });
                let iou = union
                    .and_then(|union| union.map_or(Ok(0.0), |union| union.iou(expected)))
                    .map_err(|error| format!("canary {name} {text:?}: {error}"))?;
                if iou >= self.min_iou {
                    return Ok(iou);
                }
                Err(format!("canary {name} {text:?}: expected an IoU of at least {}, got {iou}", self.min_iou))
            }
        }
    }
}

type Checked = BTreeMap<String, Vec<u8>>;

fn bytes_of<'a>(checked: &'a Checked, name: &str) -> &'a [u8] {
    checked.get(name).map_or(&[], Vec::as_slice)
}

/// Reads a file whose length nothing has vouched for.
fn capped(files: &impl ReadFiles, path: &Path, limit: usize) -> Result<Vec<u8>, BundleError> {
    let length = files.length(path).map_err(|e| BundleError::file("open", path, e))?;
    if length > limit as u64 {
        return Err(BundleError::Length { path: path.to_owned(), expected: limit as u64, got: length });
    }
    files.read(path, limit as u64).map_err(|e| BundleError::file("read", path, e))
}

fn check_files(dir: &Path, manifest: &Manifest, files: &impl ReadFiles) -> Result<Checked, BundleError> {
    let mut checked = Checked::new();
    for (name, entry) in &manifest.files {
        let path = dir.join(name);
        let length = files.length(&path).map_err(|e| BundleError::file("open", &path, e))?;
        if length != entry.bytes {
            return Err(BundleError::Length { path, expected: entry.bytes, got: length });
        }
        let bytes = files.read(&path, entry.bytes).map_err(|e| BundleError::file("read", &path, e))?;
        let got = sha256_hex(&bytes);
        if got != entry.sha256 {
            return Err(BundleError::Hash { path, expected: entry.sha256.clone(), got });
        }
        checked.insert(name.clone(), bytes);
    }
    Ok(checked)
}

fn thresholds(dir: &Path, checked: &Checked) -> Result<Thresholds, BundleError> {
    let path = dir.join(THRESHOLDS_FILE);
    let thresholds =
        Thresholds::from_json(bytes_of(checked, THRESHOLDS_FILE)).map_err(|e| BundleError::content(&path, e))?;
    let [vision, language, mask] = GRAPH_FILES.map(|name| bytes_of(checked, name));
    let graphs = Thresholds::hash_graphs(vision, language, mask);
    if thresholds.model_hash != graphs {
        return Err(BundleError::ForeignThresholds { path, expected: graphs, got: thresholds.model_hash });
    }
    Ok(thresholds)
}

fn canaries(dir: &Path, manifest: &Manifest, checked: &Checked) -> Result<Vec<Canary>, BundleError> {
    let mut canaries = Vec::new();
    for stem in manifest.canaries() {
        let (json, png) = (format!("{stem}.json"), format!("{stem}.png"));
        let spec =
            CanarySpec::from_json(bytes_of(checked, &json)).map_err(|e| BundleError::content(&dir.join(&json), e))?;
        let image = dir.join(&png);
        let size = picture_size(&image, bytes_of(checked, &png))?;
        if let Some(mask) = &spec.expected
            && (mask.width, mask.height) != size
        {
            return Err(BundleError::Mismatch {
                path: image,
                expected: format!("{}x{} pixels as its mask", mask.width, mask.height),
                got: format!("{}x{}", size.0, size.1),
            });
        }
        let CanarySpec { query, expected, min_iou } = spec;
        canaries.push(Canary { image, query, expected, min_iou });
    }
    Ok(canaries)
}

fn picture_size(path: &Path, bytes: &[u8]) -> Result<(u32, u32), BundleError> {
    let reader = image::ImageReader::with_format(std::io::Cursor::new(bytes), image::ImageFormat::Png);
    reader.into_dimensions().map_err(|error| BundleError::Mismatch {
        path: path.to_owned(),
        expected: "a PNG".into(),
        got: error.to_string(),
    })
}

fn signature(dir: &Path, files: &impl ReadFiles) -> Result<Option<String>, BundleError> {
    let path = dir.join(SIGNATURE_FILE);
    match files.length(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => {
            let bytes = capped(files, &path, MAX_SIGNATURE_BYTES)?;
            Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
        }
    }
}
