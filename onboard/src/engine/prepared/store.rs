//! Folders of engines on disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kestrel_link::sha256_hex;
use serde::{Deserialize, Serialize};
use tract_onnx::pb::{tensor_shape_proto::dimension, type_proto};
use tract_onnx::prelude::Framework;

use super::hardware::{self, Hardware};
use super::options::Place;
use super::{Found, GraphKey, Key, Precision, Readiness, decide};
use crate::engine::{EngineError, EngineOptions, Graph, GraphBytes, Provider, runtime};
use crate::registry;

/// The file that says what a folder holds.
pub const RECORD: &str = "engine.json";
/// The format of records that this version reads.
pub(super) const RECORD_FORMAT: u32 = 1;
/// A record is never larger.
const MAX_RECORD_BYTES: u64 = 1 << 20;
/// The folder of what was timed, beside those of the engines.
const TIMINGS: &str = "timings";

/// One file of a folder of engines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeFile {
    /// Hex SHA-256 of its bytes.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
}

/// What a folder of engines holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Format of this record.
    pub format: u32,
    /// What the engines are of and for.
    pub key: Key,
    /// `name@version` of the bundle that they were built from, for people.
    pub model: String,
    /// Hex SHA-256 of that bundle's manifest, for people.
    pub manifest_hash: String,
    /// How long each graph took to build.
    pub build_seconds: BTreeMap<String, f64>,
    /// Every file beside the record.
    pub files: BTreeMap<String, MadeFile>,
}

/// Where engines lie unless another folder is named: the user's cache.
#[must_use]
pub fn default_root() -> Option<PathBuf> {
    registry::cache_folder().map(|folder| folder.join("engines"))
}

pub(super) fn root(options: &EngineOptions) -> Result<PathBuf, EngineError> {
    options.accelerator.prepared.clone().or_else(default_root).ok_or_else(|| EngineError::NotPrepared {
        provider: "tensorrt",
        why: "there is no cache folder; set KESTREL_CACHE, or name a folder".into(),
    })
}

/// All folders of engines below `root`, their files checked against their records; none where there is no such folder.
#[must_use]
pub fn find(root: &Path) -> Vec<Found> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    // A name with a dot is one that is being built.
    let is_named = |folder: &Path| folder.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'));
    folders.retain(|folder| is_named(folder) && folder.join(RECORD).is_file());
    folders.into_iter().map(|folder| Found { record: read(&folder), folder }).collect()
}

fn read(folder: &Path) -> Result<Record, String> {
    let path = folder.join(RECORD);
    let length = std::fs::metadata(&path).map_err(|error| error.to_string())?.len();
    if length > MAX_RECORD_BYTES {
        return Err(format!("{RECORD}: expected at most {MAX_RECORD_BYTES} bytes, got {length}"));
    }
    let text = std::fs::read(&path).map_err(|error| error.to_string())?;
    let record: Record = serde_json::from_slice(&text).map_err(|error| format!("{RECORD}: {error}"))?;
    if record.format != RECORD_FORMAT {
        return Err(format!("{RECORD}: expected format {RECORD_FORMAT}, got {}", record.format));
    }
    let there = files(folder)?;
    // The plugin writes its cache anew as it sees fit; of an engine of TensorRT every byte stays.
    let is_kept_by_the_provider = record.key.provider == Provider::NvTensorRtRtx.name();
    let same = match is_kept_by_the_provider {
        true => record.files.keys().all(|name| there.contains_key(name)),
        false => there == record.files,
    };
    if same { Ok(record) } else { Err(changed(&record.files, &there)) }
}

/// Names a file that differs.
fn changed(recorded: &BTreeMap<String, MadeFile>, there: &BTreeMap<String, MadeFile>) -> String {
    let names = recorded.keys().chain(there.keys());
    let differing = names.into_iter().find(|name| recorded.get(*name) != there.get(*name));
    let name = differing.map_or("a file", String::as_str);
    match (recorded.contains_key(name), there.contains_key(name)) {
        (true, false) => format!("{name} is missing"),
        (false, true) => format!("{name} is not in the record"),
        _ => format!("{name} was changed"),
    }
}

/// Every file of a folder but the record, with its hash; folders within it too.
pub(super) fn files(folder: &Path) -> Result<BTreeMap<String, MadeFile>, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(part) = open.pop() {
        let failed = |error: std::io::Error| format!("{}: {error}", part.display());
        for entry in std::fs::read_dir(&part).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            if name != RECORD {
                let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                found.insert(name, MadeFile { sha256: sha256_hex(&bytes), bytes: bytes.len() as u64 });
            }
        }
    }
    Ok(found)
}

/// The key of engines for these graphs on this machine.
///
/// # Errors
/// When the library lacks the provider, there is no GPU or no TensorRT, or a graph cannot be read.
pub fn wanted(graphs: &GraphBytes<'_>, provider: Provider, options: &EngineOptions) -> Result<Key, EngineError> {
    let runtime_version = runtime::available(provider, options)?;
    let hardware =
        |error: hardware::HardwareError| EngineError::Provider { provider: provider.name(), why: error.to_string() };
    let provider_version = match (provider, &options.accelerator.plugin) {
        (Provider::NvTensorRtRtx, Some(path)) => {
            plugin_version(path).map_err(|why| EngineError::Provider { provider: provider.name(), why })?
        }
        _ => hardware::tensorrt_version().map_err(hardware)?,
    };
    let Hardware { gpu, architecture } = Hardware::find().map_err(hardware)?;
    let all = [Graph::Vision, Graph::Language, Graph::Mask, Graph::Explain];
    let present: Vec<(Graph, &[u8])> = all.into_iter().filter_map(|graph| Some((graph, graphs.get(graph)?))).collect();
    let mut keys = BTreeMap::new();
    for &(graph, bytes) in &present {
        let shapes = shapes(bytes).map_err(|why| EngineError::Load { engine: provider.name().into(), graph, why })?;
        keys.insert(graph.name().to_owned(), GraphKey { sha256: sha256_hex(bytes), shapes });
    }
    Ok(Key {
        graphs: keys,
        provider: provider.name().to_owned(),
        provider_version,
        runtime_version,
        gpu,
        architecture,
        precision: Precision::of(present.iter().map(|(_, bytes)| *bytes)),
    })
}

/// A plugin carries its TensorRT within it and names no version: its own bytes are one.
fn plugin_version(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(format!("plugin {}", &sha256_hex(&bytes)[..16]))
}

/// A graph's inputs with their shapes, by name; a side that is left open is a `?`.
pub(super) fn shapes(mut bytes: &[u8]) -> Result<String, String> {
    let model = tract_onnx::onnx().proto_model_for_read(&mut bytes).map_err(|error| error.to_string())?;
    let graph = model.graph.ok_or("expected an ONNX model, got one without a graph")?;
    let mut inputs: Vec<String> = graph
        .input
        .iter()
        .map(|input| {
            let kind = input.r#type.as_ref().and_then(|kind| kind.value.as_ref());
            let Some(type_proto::Value::TensorType(tensor)) = kind else { return format!("{} ?", input.name) };
            let sides = tensor.shape.iter().flat_map(|shape| &shape.dim).map(|side| match &side.value {
                Some(dimension::Value::DimValue(side)) => side.to_string(),
                _ => "?".to_owned(),
            });
            format!("{} {}", input.name, sides.collect::<Vec<_>>().join("x"))
        })
        .collect();
    inputs.sort();
    Ok(inputs.join(", "))
}

/// Where what was timed for a GPU and a TensorRT is kept.
pub(super) fn timings(root: &Path, key: &Key) -> PathBuf {
    let plain =
        |text: &str| -> String { text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect() };
    root.join(TIMINGS).join(format!("{}-{}", plain(&key.architecture), plain(&key.provider_version)))
}

/// The folder of engines that are ready for these graphs here, and what is told about it to the provider.
///
/// # Errors
/// When they are not ready: what is there instead, and how to build them.
pub(in crate::engine) fn ready(
    graphs: &GraphBytes<'_>,
    provider: Provider,
    options: &EngineOptions,
) -> Result<impl Fn(Graph) -> Place + use<>, EngineError> {
    let key = wanted(graphs, provider, options)?;
    let root = root(options)?;
    let readiness = decide(&key, &find(&root));
    let Readiness::Ready(folder) = readiness else {
        return Err(EngineError::NotPrepared { provider: provider.name(), why: readiness.to_string() });
    };
    let (timings, precision) = (timings(&root, &key), key.precision);
    Ok(move |graph: Graph| Place { folder: folder.clone(), timings: timings.clone(), graph: graph.name(), precision })
}

/// Whether the folder still holds what its record says, after a provider has opened it: one that built an engine anew
/// would have left it there.
///
/// # Errors
/// Names the file that is new, gone or changed.
pub(in crate::engine) fn unchanged(folder: &Path, provider: Provider) -> Result<(), EngineError> {
    read(folder).map(drop).map_err(|why| EngineError::NotPrepared {
        provider: provider.name(),
        why: format!("it did not take the engines in {} as they were: {why}", folder.display()),
    })
}
