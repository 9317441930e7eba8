//! The model that flies, and how it is opened when a node starts.

use std::sync::Arc;

use kestrel_link::manifest::THRESHOLDS_FILE;

use super::push::Slots;
use super::{ModelSource, NodeConfig, NodeError};
use crate::bundle::Bundle;
use crate::camera;
use crate::engine::runtime_version;
use crate::pipeline::Segmenter;
use crate::record::{Flight, Model, Recorder, processor};
use crate::slots::{FolderDisk, SlotError, SlotStore};

/// A model ready to fly.
pub(crate) struct Flying {
    pub(super) segmenter: Segmenter,
    pub(super) about: Arc<Model>,
}

impl Flying {
    /// The model of a bundle, from a slot that is `A`, `B`, or empty.
    pub(super) fn new(bundle: &Bundle, segmenter: Segmenter, slot: &str) -> Self {
        let thresholds = bundle.manifest.files.get(THRESHOLDS_FILE);
        let engine = segmenter.engine().to_owned();
        let about = Model {
            name: segmenter.model().to_owned(),
            manifest_hash: bundle.manifest_hash.clone(),
            thresholds_hash: thresholds.map(|file| file.sha256.clone()).unwrap_or_default(),
            library: engine.starts_with("ort").then(runtime_version).flatten(),
            engine,
            slot: slot.to_owned(),
        };
        Self { segmenter, about: Arc::new(about) }
    }
}

/// Begins the record, if one is wanted.
pub(super) fn record(config: &NodeConfig) -> Result<Option<Recorder>, NodeError> {
    Ok(config.record.as_ref().map(|options| Recorder::start(options, &flight(config))).transpose()?)
}

/// What a record says of the flight.
fn flight(config: &NodeConfig) -> Flight {
    Flight {
        drone: config.drone.to_string(),
        runtime: env!("CARGO_PKG_VERSION").to_owned(),
        started_unix_nanos: camera::unix_nanos(),
        tiling: config.segmenter.tiling,
        gate: config.segmenter.gate,
        engine: config.engine.choice,
        threads: config.engine.threads,
        deadline_millis: u64::try_from(config.limits.deadline.as_millis()).unwrap_or(u64::MAX),
        processor: processor(),
    }
}

/// Opens the model that is to fly.
pub(super) fn open_model(config: &NodeConfig) -> Result<(Flying, Option<Slots>), NodeError> {
    let open = |bundle: &Bundle, slot: &str| {
        let segmenter = Segmenter::open(bundle, &config.engine, config.segmenter.clone())?;
        tracing::info!("{} flies on {}", segmenter.model(), segmenter.engine());
        Ok::<_, NodeError>(Flying::new(bundle, segmenter, slot))
    };
    match &config.model {
        ModelSource::Folder(dir) => Ok((open(&Bundle::open(dir)?, "")?, None)),
        ModelSource::Slots { dir, trusted, first } => {
            let disk = FolderDisk::open(dir).map_err(|source| SlotError::Disk {
                operation: "open",
                path: dir.clone(),
                source,
            })?;
            let (store, recovery) = SlotStore::open(disk, dir, trusted.clone())?;
            for note in &recovery.notes {
                tracing::warn!("{note}");
            }
            let slot = store.record().committed.as_ref().map_or("", |release| release.slot.name()).to_owned();
            let flying = match (recovery.bundle, first) {
                (Some(bundle), _) => open(&bundle, &slot)?,
                (None, Some(first)) => open(&Bundle::open(first)?, "")?,
                (None, None) => return Err(NodeError::NoModel { path: dir.display().to_string() }),
            };
            Ok((flying, Some(Slots::new(store))))
        }
    }
}
