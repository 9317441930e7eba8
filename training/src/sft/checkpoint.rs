//! A run's whole state in one file, written beside and renamed, so that a killed run finds the old or the new one.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use kestrel_models::kestrel::Config;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::optimiser::{AdamW, Slot};
use super::{Recipe, Result, TrainError};

/// The state of a run, beside the model.
pub const STATE: &str = "checkpoint.safetensors";
/// The averaged parameters under their plain names: what is evaluated and exported.
pub const MODEL: &str = "model.safetensors";

const META: &str = "kestrel";

/// A part of a slot's state and its prefix in the file.
type Part = (&'static str, fn(&Slot) -> &Vec<f32>);

/// What a checkpoint says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta<R = Recipe> {
    /// Steps done.
    pub step: usize,
    /// Samples of the cache that the order is drawn over.
    pub samples: usize,
    /// The recipe.
    pub recipe: R,
    /// How often each parameter was updated, in the order of their names.
    pub updates: Vec<u32>,
    /// Updates of the optimiser, which may be several a step; older files do not say, and made one.
    #[serde(default)]
    pub optimiser_steps: Option<u32>,
}

/// A parameter by name, shape and values.
pub type Parameter = (String, Vec<usize>, Vec<f32>);

/// Writes both files into `folder`: the optimiser's state, and the `model` of these sizes.
///
/// # Errors
/// When the disk refuses.
pub fn write<R: Serialize>(
    folder: &Path,
    meta: &Meta<R>,
    config: &Config,
    adam: &AdamW,
    model: Vec<Parameter>,
) -> Result<()> {
    let parts: [Part; 4] =
        [("value", |s| &s.value), ("mean", |s| &s.mean), ("square", |s| &s.square), ("average", |s| &s.average)];
    let mut tensors = Vec::with_capacity(adam.slots.len() * parts.len());
    for slot in &adam.slots {
        for (part, values) in parts {
            tensors.push((format!("{part}:{}", slot.name), slot.var.dims().to_vec(), bytes(values(slot))));
        }
    }
    save(&folder.join(STATE), tensors, meta, config)?;
    let model = model.into_iter().map(|(name, shape, values)| (name, shape, bytes(&values))).collect();
    save(&folder.join(MODEL), model, meta, config)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn save<R: Serialize>(
    path: &Path,
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
    meta: &Meta<R>,
    config: &Config,
) -> Result<()> {
    let refuse = |got: String| TrainError::Checkpoint {
        path: path.to_path_buf(),
        expected: "tensors that can be written".to_owned(),
        got,
    };
    let json = serde_json::to_string(meta).map_err(|e| refuse(e.to_string()))?;
    let config = serde_json::to_string(config).map_err(|e| refuse(e.to_string()))?;
    let mut views = Vec::with_capacity(tensors.len());
    for (name, shape, bytes) in &tensors {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(|e| refuse(e.to_string()))?;
        views.push((name.as_str(), view));
    }
    let metadata = HashMap::from([(META.to_owned(), json), ("config".to_owned(), config)]);
    let serialised = serialize(views, Some(metadata)).map_err(|e| refuse(e.to_string()))?;
    let beside = path.with_extension("partial");
    let mut file = File::create(&beside).map_err(TrainError::io("creating", &beside))?;
    file.write_all(&serialised).map_err(TrainError::io("writing", &beside))?;
    file.sync_all().map_err(TrainError::io("writing", &beside))?;
    std::fs::rename(&beside, path).map_err(TrainError::io("renaming", &beside))
}

/// Reads a state into `adam` and the model; `same` tells whether a recipe goes on with this run's model, seed and data.
///
/// # Errors
/// When the file is damaged or of another run.
pub fn read<R: DeserializeOwned>(folder: &Path, same: impl Fn(&R) -> bool, adam: &mut AdamW) -> Result<Meta<R>> {
    let path = folder.join(STATE);
    let buffer = std::fs::read(&path).map_err(TrainError::io("reading", &path))?;
    let refuse =
        |expected: &str, got: String| TrainError::Checkpoint { path: path.clone(), expected: expected.to_owned(), got };
    let meta: Meta<R> = meta(&path, &buffer)?;
    if !same(&meta.recipe) {
        return Err(refuse("the model, seed and data of this recipe", "others; give the run another name".into()));
    }
    let tensors = SafeTensors::deserialize(&buffer).map_err(|e| refuse("safetensors", e.to_string()))?;
    let mut names: Vec<&str> = tensors.names().into_iter().filter_map(|name| name.strip_prefix("value:")).collect();
    names.sort_unstable();
    if meta.updates.len() != names.len() {
        return Err(refuse(&format!("{} update counts", names.len()), meta.updates.len().to_string()));
    }
    // A head that the run did not have yet begins fresh; of the others nothing may be missing.
    let had: HashMap<&str, u32> = names.into_iter().zip(meta.updates.iter().copied()).collect();
    for slot in adam.slots.iter_mut().filter(|slot| had.contains_key(slot.name.as_str())) {
        let updates = had.get(slot.name.as_str()).copied().unwrap_or_default();
        let load = |part: &str| -> Result<Vec<f32>> {
            let name = format!("{part}:{}", slot.name);
            let view = tensors.tensor(&name).map_err(|e| refuse(&name, e.to_string()))?;
            if view.shape() != slot.var.dims() || view.dtype() != Dtype::F32 {
                let expected = format!("{name} of shape {:?}", slot.var.dims());
                return Err(refuse(&expected, format!("{:?}", view.shape())));
            }
            let word = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            Ok(view.data().chunks_exact(4).map(word).collect())
        };
        let (value, mean, square, average) = (load("value")?, load("mean")?, load("square")?, load("average")?);
        (slot.value, slot.mean, slot.square, slot.average) = (value, mean, square, average);
        slot.updates = updates;
        slot.publish()?;
    }
    adam.steps = meta.optimiser_steps.unwrap_or(meta.step as u32);
    Ok(meta)
}

fn meta<R: DeserializeOwned>(path: &Path, buffer: &[u8]) -> Result<Meta<R>> {
    let refuse = |got: String| TrainError::Checkpoint {
        path: path.to_path_buf(),
        expected: "a checkpoint of this trainer".to_owned(),
        got,
    };
    let (_, header) = SafeTensors::read_metadata(buffer).map_err(|e| refuse(e.to_string()))?;
    let json = header.metadata().as_ref().and_then(|m| m.get(META)).ok_or_else(|| refuse("no description".into()))?;
    serde_json::from_str(json).map_err(|e| refuse(e.to_string()))
}
