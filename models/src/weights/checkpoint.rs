//! Weights in safetensors files.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, View};

use super::{Tensor, Weights};
use crate::error::{Error, Result};

/// Reads a safetensors file: its f32, f16 and bf16 tensors, and its metadata.
///
/// # Errors
/// When the file cannot be read, is malformed, or holds a tensor of another type.
pub fn load(path: &Path) -> Result<(Weights, BTreeMap<String, String>)> {
    let shown = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| Error::Io { operation: "read", path: shown.clone(), source })?;
    from_bytes(&bytes, &shown)
}

/// Like [`load`], from bytes; `origin` names them in errors.
///
/// # Errors
/// When the bytes are malformed or hold a tensor of another type.
pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<(Weights, BTreeMap<String, String>)> {
    let malformed = |error: safetensors::SafeTensorError| Error::Format {
        path: origin.to_owned(),
        expected: "a safetensors file".into(),
        got: error.to_string(),
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(malformed)?;
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let file = SafeTensors::deserialize(bytes).map_err(malformed)?;
    let mut weights = Weights::new();
    for (name, view) in file.iter() {
        let data = view.data();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::F16 => data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::BF16 => data.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            other => {
                return Err(Error::Format {
                    path: format!("{origin}: {name}"),
                    expected: "F32, F16 or BF16".into(),
                    got: format!("{other:?}"),
                });
            }
        };
        weights.insert(name, view.shape().to_vec(), values)?;
    }
    Ok((weights, metadata))
}

/// The bytes of a safetensors file.
///
/// # Errors
/// When the header would be beyond the format's limit.
pub fn to_bytes(weights: &Weights, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    serialise(weights, Dtype::F32, metadata)
}

fn serialise(weights: &Weights, dtype: Dtype, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let info: HashMap<String, String> = metadata.clone().into_iter().collect();
    let info = (!info.is_empty()).then_some(info);
    let tensors = weights.iter().map(|(name, tensor)| (name, Stored(tensor, dtype)));
    safetensors::serialize(tensors, info).map_err(|error| Error::Format {
        path: "safetensors".into(),
        expected: "a header within the format's limit".into(),
        got: error.to_string(),
    })
}

/// Writes a safetensors file; a reader sees the old file or the new one, whole.
///
/// # Errors
/// When the file cannot be written.
pub fn save(path: &Path, weights: &Weights, metadata: &BTreeMap<String, String>) -> Result<()> {
    write(path, &to_bytes(weights, metadata)?)
}

/// As [`save`], rounded to half precision: for weights to begin from, where the last bits do not matter.
///
/// # Errors
/// As [`save`].
pub fn save_half(path: &Path, weights: &Weights, metadata: &BTreeMap<String, String>) -> Result<()> {
    write(path, &serialise(weights, Dtype::F16, metadata)?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |operation| move |source| Error::Io { operation, path: path.display().to_string(), source };
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let mut file = File::create(&partial).map_err(failed("create"))?;
    file.write_all(bytes).map_err(failed("write"))?;
    file.sync_all().map_err(failed("write"))?;
    std::fs::rename(&partial, path).map_err(failed("rename to"))
}

/// A tensor as a file holds it: in full or in half precision.
struct Stored<'a>(&'a Tensor, Dtype);

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.1
    }

    fn shape(&self) -> &[usize] {
        &self.0.0
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = &self.0.1;
        Cow::Owned(match self.1 {
            Dtype::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        })
    }

    fn data_len(&self) -> usize {
        self.0.1.len() * if self.1 == Dtype::F16 { 2 } else { 4 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn sample() -> (Weights, BTreeMap<String, String>) {
        let mut weights = Weights::new();
        weights.insert("b.weight", vec![2, 3], vec![1.0, -2.5, f32::MIN_POSITIVE, 4.0, 5.0, 6.0]).unwrap();
        weights.insert("a", vec![], vec![7.0]).unwrap();
        (weights, BTreeMap::from([("step".to_owned(), "12".to_owned())]))
    }

    #[test]
    fn round_trips() {
        let (weights, metadata) = sample();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        save(&path, &weights, &metadata).unwrap();
        assert_eq!(load(&path).unwrap(), (weights, metadata));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the partial file stayed");
    }

    #[test]
    fn halves_are_read_as_the_nearest_numbers() {
        let (weights, metadata) = sample();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("h.safetensors");
        save_half(&path, &weights, &metadata).unwrap();
        let (read, info) = load(&path).unwrap();
        assert_eq!(info, metadata);
        for ((name, was), (_, is)) in weights.iter().zip(read.iter()) {
            assert!(was.1.iter().zip(&is.1).all(|(a, b)| (a - b).abs() <= 1e-3 * a.abs() + 1e-7), "{name}");
        }
    }

    #[test]
    fn every_cut_is_refused() {
        let (weights, metadata) = sample();
        let bytes = to_bytes(&weights, &metadata).unwrap();
        for cut in 0..bytes.len() {
            assert!(from_bytes(&bytes[..cut], "cut").is_err(), "{cut}");
        }
    }
}
