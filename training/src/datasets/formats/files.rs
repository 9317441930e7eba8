//! Annotation files and pictures in a folder.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};

use crate::datasets::{DataError, Result};

/// Largest annotation file: COCO's largest is a quarter of it.
const MAX_BYTES: u64 = 2 << 30;
/// Endings of pictures that can be decoded.
const PICTURES: [&str; 8] = ["png", "jpg", "jpeg", "tif", "tiff", "PNG", "JPG", "JPEG"];

/// A file's bytes, if it is not absurdly large.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>> {
    let length = std::fs::metadata(path).map_err(DataError::io("reading", path))?.len();
    if length > MAX_BYTES {
        return Err(form(path, "an annotation file of at most 2 GiB", format!("{length} bytes")));
    }
    std::fs::read(path).map_err(DataError::io("reading", path))
}

/// A file's text, without a byte-order mark.
pub(super) fn text(path: &Path) -> Result<String> {
    let text = String::from_utf8(bytes(path)?).map_err(|e| form(path, "UTF-8 text", e.utf8_error().to_string()))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// A file's JSON.
pub(super) fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = bytes(path)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    serde_json::from_slice(bytes).map_err(|source| DataError::Json { path: path.to_path_buf(), source })
}

/// An entry of a list that may be broken by itself: the list's other entries still count.
pub(super) struct Entry<T>(pub(super) std::result::Result<T, Broken>);

/// What is there instead of an entry of the right form.
pub(super) struct Broken {
    error: serde_json::Error,
    value: serde_json::Value,
}

impl Broken {
    /// An identifier that can be read all the same.
    pub(super) fn id(&self, key: &str) -> Option<Id> {
        self.value.get(key).and_then(|value| Id::deserialize(value).ok())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Entry<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(T::deserialize(&value).map_err(|error| Broken { error, value })))
    }
}

/// An identifier, which some tools write as a number and some as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(i64),
    Text(String),
}

/// An identifier of an image, a category or an annotation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(from = "Written")]
pub(super) struct Id(pub(super) String);

impl From<Written> for Id {
    fn from(written: Written) -> Self {
        match written {
            Written::Number(number) => Self(number.to_string()),
            Written::Text(text) => Self(text),
        }
    }
}

/// The error of a file that is not of its form.
pub(super) fn form(path: &Path, expected: &str, got: String) -> DataError {
    DataError::Form { path: path.to_path_buf(), expected: expected.to_owned(), got }
}

/// The first of `names` that is a file of `folder`.
pub(super) fn first(folder: &Path, names: &[&str]) -> Result<PathBuf> {
    let found = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| form(folder, &format!("one of {}", names.join(", ")), "none of them".to_owned()))
}

/// The files of a folder with this ending, sorted by name.
pub(super) fn with_ending(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io("reading", folder))? {
        let path = entry.map_err(DataError::io("reading", folder))?.path();
        if path.is_file() && path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A file's name without folder and ending.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A file's name without folder.
pub(super) fn name(path: &Path) -> String {
    path.file_name().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether a name stays inside the folder that it is joined to.
pub(super) fn is_inside(file: &str) -> bool {
    !file.is_empty() && Path::new(file).components().all(|c| matches!(c, Component::Normal(_)))
}

/// Looks for a picture in several folders; without an ending, with the usual ones.
pub(super) fn picture(folders: &[PathBuf], file: &str) -> Option<PathBuf> {
    let ended = Path::new(file).extension().and_then(|e| e.to_str());
    let whole = ended.is_some_and(|e| PICTURES.iter().any(|known| known.eq_ignore_ascii_case(e)));
    folders.iter().find_map(|folder| {
        if whole {
            return Some(folder.join(file)).filter(|path| path.is_file());
        }
        PICTURES.iter().map(|ending| folder.join(format!("{file}.{ending}"))).find(|path| path.is_file())
    })
}
