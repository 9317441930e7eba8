//! A folder of somebody's own pictures, as recipes and commands name it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::formats::{self, Annotations, Format};
use super::{DataError, Record, Result, Split};

/// A data set on disk, and how much of it is wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// The annotations' format.
    pub format: Format,
    /// The folder: absolute, or within the folder of data sets.
    pub folder: PathBuf,
    /// The annotation file in it, where a COCO file has another name than the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<PathBuf>,
    /// The part that is meant: one of the set's own splits, `train`, `tune`, `test` or `all`. A recipe trains on `train` where it
    /// says nothing, `ground eval` judges on `test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Whether outlines are boxes in truth, and must not be learnt as masks.
    #[serde(default)]
    pub boxes_only: bool,
    /// Samples made of it; without this and `share`, [`SAMPLES`] for each of its pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pictures: Option<usize>,
    /// Its share of all samples, in place of their number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f32>,
    /// Hash of what is trained on. Filled in when a run begins, so that samples of other annotations are not taken for these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// Samples of each picture where a recipe does not say: each is another crop, laid down another way.
pub const SAMPLES: usize = 8;

impl Folder {
    /// A folder of this format and nothing else said.
    pub fn new(format: Format, folder: &Path) -> Self {
        let folder = folder.to_path_buf();
        let (annotations, split, pictures, share, content) = (None, None, None, None, None);
        Self { format, folder, annotations, split, boxes_only: false, pictures, share, content }
    }

    /// Where it lies; `data` is the folder of data sets.
    ///
    /// # Errors
    /// When it is relative and there is no such folder.
    pub fn path(&self, data: Option<&Path>) -> Result<PathBuf> {
        match data {
            _ if self.folder.is_absolute() => Ok(self.folder.clone()),
            Some(data) => Ok(data.join(&self.folder)),
            None => Err(DataError::Form {
                path: self.folder.clone(),
                expected: "an absolute path, or a folder of data sets (--data, KESTREL_DATA) to find it in".to_owned(),
                got: "neither".to_owned(),
            }),
        }
    }

    /// The part that is meant, or the `usual` one, with pictures that are there; no picture is decoded.
    ///
    /// # Errors
    /// When the annotations cannot be read, or nothing is left that can be asked about.
    pub fn part(&self, data: Option<&Path>, usual: Split) -> Result<Annotations> {
        let path = self.path(data)?;
        let mut all = formats::read_file(self.format, &path, self.annotations.as_deref())?;
        if self.boxes_only {
            all = all.boxes_only();
        }
        let all = all.with_pictures();
        let (read, splits) = (all.records.len(), all.splits().into_iter().map(str::to_owned).collect::<Vec<_>>());
        let part = all.part(self.split.as_deref(), usual, &path)?;
        if part.instances() + part.expressions() + part.spoken() > 0 {
            return Ok(part);
        }
        let name = self.split.as_deref().unwrap_or(usual.name());
        let mut got =
            vec![format!("{} pictures of {read} that could be read, and nothing in them", part.records.len())];
        if !splits.is_empty() {
            got.push(format!("its splits: {}", splits.join(", ")));
        }
        got.extend(part.told().into_iter().take(8));
        let expected = format!("pictures in the part `{name}` with something labelled or said");
        Err(DataError::Form { path, expected, got: got.join("; ") })
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.format, self.folder.display())
    }
}

/// Hash of records as they train: what is labelled and said, and how long each picture's file is.
pub fn content(records: &[Record]) -> String {
    let mut hash = Sha256::new();
    for record in records {
        let bytes = length(&record.path);
        let Record { width, height, instances, exhaustive, modality, scene, expressions, .. } = record;
        let said = (record.frame(), bytes, [width, height], instances, exhaustive, modality, scene, expressions);
        hash.update(format!("{said:?}"));
        // Records without tasks keep the hash that they had before there were any.
        if !record.spoken.is_empty() {
            let after = record.after.as_deref().map(|path| (path.file_name(), length(path)));
            hash.update(format!("{:?}", (&record.spoken, after)));
        }
    }
    hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// Bytes of a file; 0 where it is missing.
fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}
