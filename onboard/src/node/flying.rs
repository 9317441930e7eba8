//! The model that flies, and how it is opened when a node starts.

use std::path::PathBuf;
use std::sync::Arc;

use kestrel_link::manifest::THRESHOLDS_FILE;
use kestrel_link::signature::VerifyingKey;

use super::push::Slots;
use super::{NodeConfig, NodeError};
use crate::bundle::Bundle;
use crate::camera;
use crate::engine::{EngineChoice, EngineOptions, runtime_version};
use crate::health::recovery::Which;
use crate::pipeline::{SegmentError, Segmenter};
use crate::record::{Flight, Georeferencing, Model, Recorder, processor};
use crate::slots::{FolderDisk, SlotError, SlotStore};

/// Which model flies.
#[derive(Debug, Clone)]
pub enum ModelSource {
    /// A bundle in a folder, signed or not; no pushes are taken.
    Folder(PathBuf),
    /// The committed model of two slots; signed models can be pushed into them.
    Slots {
        /// Folder of the slots.
        dir: PathBuf,
        /// Keys whose bundles may enter.
        trusted: Vec<VerifyingKey>,
        /// A bundle that flies while the slots hold none.
        first: Option<PathBuf>,
    },
}

/// A model ready to fly.
pub(crate) struct Flying {
    pub(super) segmenter: Segmenter,
    pub(super) about: Arc<Model>,
    pub(super) bundle: Bundle,
    /// Engine and provider as outcomes name them.
    pub(super) engine: String,
    pub(super) which: Which,
}

impl Flying {
    /// The model of a bundle on the engine that was asked for, from a slot that is `A`, `B`, or empty.
    pub(super) fn new(bundle: &Bundle, segmenter: Segmenter, slot: &str) -> Self {
        let thresholds = bundle.manifest.files.get(THRESHOLDS_FILE);
        let engine = segmenter.engine().to_owned();
        let about = Model {
            name: segmenter.model().to_owned(),
            manifest_hash: bundle.manifest_hash.clone(),
            thresholds_hash: thresholds.map(|file| file.sha256.clone()).unwrap_or_default(),
            library: engine.starts_with("ort").then(runtime_version).flatten(),
            engine: engine.clone(),
            slot: slot.to_owned(),
        };
        Self { segmenter, about: Arc::new(about), bundle: bundle.clone(), engine, which: Which::First }
    }

    /// The model of a bundle on the engine that flies in place of `first`; every outcome says so.
    pub(super) fn fallback(bundle: &Bundle, segmenter: Segmenter, slot: &str, first: EngineChoice) -> Self {
        let flying = Self::new(bundle, segmenter, slot);
        let engine = named_fallback(&flying.engine, first);
        Self { engine, which: Which::Fallback, ..flying }
    }
}

/// How an engine that flies in place of another one is named.
pub(super) fn named_fallback(engine: &str, first: EngineChoice) -> String {
    format!("{engine} (fallback of {first})")
}

impl NodeConfig {
    /// Opens a model on an engine, with the options of the first one but for its name.
    pub(super) fn open(&self, bundle: &Bundle, choice: EngineChoice) -> Result<Segmenter, SegmentError> {
        let engine = EngineOptions { choice, ..self.engine.clone() };
        Segmenter::open_with(bundle, &self.upkeep.opener, &engine, self.segmenter.clone())
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
        tiles: config.segmenter.tiles,
        gate: config.segmenter.gate,
        engine: config.engine.choice,
        threads: config.engine.threads,
        deadline_millis: u64::try_from(config.limits.deadline.as_millis()).unwrap_or(u64::MAX),
        processor: processor(),
        standing: config.segmenter.standing,
        georeferencing: config.georeferencer.as_ref().map(Georeferencing::of),
    }
}

/// Opens the model that is to fly.
pub(super) fn open_model(config: &NodeConfig) -> Result<(Flying, Option<Slots>), NodeError> {
    let open = |bundle: &Bundle, slot: &str| {
        let segmenter = config.open(bundle, config.engine.choice)?;
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
