//! The configuration of `onboard run`: one TOML file, environment and flags, unknown keys refused.

mod camera;
mod explain;
mod keys;
mod position;
mod standing;
#[cfg(test)]
mod tests;
mod tiling;
mod upkeep;

use std::path::{Path, PathBuf};
use std::time::Duration;

use kestrel_link::DroneId;
use kestrel_link::query::MAX_TIME_TO_LIVE_MILLIS;
use kestrel_link::signature::{VerifyingKey, parse_public_key};
use kestrel_perception::{GateThresholds, Tiling};
use serde::Deserialize;
use toml::{Table, Value};

use crate::camera::CameraOptions;
use crate::engine::{Accelerator, EngineChoice, EngineOptions};
use crate::gate_table::GateTable;
use crate::node::{Limits, LinkOptions, ModelSource, NodeConfig, UpkeepOptions};
use crate::pipeline::SegmenterOptions;
use crate::record::RecordOptions;
use crate::released;

use keys::{keys, merge, put, unknown};

/// The commented default configuration.
pub const DEFAULT: &str = include_str!("../kestrel-onboard.toml");

/// What the file says, checked for types only.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    drone: String,
    model: Model,
    engine: Engine,
    camera: camera::Camera,
    perception: Perception,
    tiling: tiling::TilingSection,
    position: position::Position,
    link: Link,
    limits: LimitsSection,
    watchdog: upkeep::Watchdog,
    thermal: upkeep::ThermalSection,
    metrics: upkeep::MetricsSection,
    record: Record,
    standing: standing::StandingSection,
    explain: explain::ExplainSection,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    file: PathBuf,
    most_megabytes: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    bundle: PathBuf,
    slots: PathBuf,
    trusted_keys: Vec<String>,
    trial_latency_millis: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Engine {
    name: String,
    threads: usize,
    library: PathBuf,
    fetch: bool,
    prepared: PathBuf,
    plugin: PathBuf,
    fallback: String,
    fallback_after_failures: u32,
    rebuild_first_millis: u64,
    rebuild_most_millis: u64,
    rebuild_good_answers: u32,
    give_up_after_failures: u32,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Perception {
    tiling: Tiling,
    gate: bool,
    gate_table: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    listen: Vec<String>,
    connect: Vec<String>,
    multicast_scouting: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsSection {
    active_queries: usize,
    deadline_millis: u64,
    reuse_frame_millis: u64,
    frame_timeout_millis: u64,
    standing_millis: u64,
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node.
    pub node: NodeConfig,
    /// Where frames come from.
    pub camera: CameraOptions,
}

/// What is wrong with a configuration; [`ConfigError::hint`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read {path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, or a value of another type.
    #[error("{origin}: {why}")]
    Malformed {
        /// File, environment variable or flag.
        origin: String,
        /// What the parser said.
        why: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown key `{key}`")]
    UnknownKey {
        /// File, environment variable or flag.
        origin: String,
        /// The key.
        key: String,
        /// The key that was probably meant.
        nearest: String,
    },
    /// A value out of its range.
    #[error("{key}: expected {expected}, got {got}")]
    Value {
        /// The key.
        key: &'static str,
        /// What would be right.
        expected: String,
        /// What is there.
        got: String,
    },
}

impl ConfigError {
    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Read { .. } => {
                "give the path of a TOML file; onboard/kestrel-onboard.toml is a commented example".into()
            }
            Self::Malformed { .. } => "compare with the commented example onboard/kestrel-onboard.toml".into(),
            Self::UnknownKey { nearest, .. } => format!("did you mean `{nearest}`?"),
            Self::Value { key, .. } => format!("set `{key}` in the file, by environment or with --set {key}=VALUE"),
        }
    }
}

impl Config {
    /// Reads the file at `path` over the defaults, then the environment, then `sets` (`section.key=value`).
    ///
    /// # Errors
    /// Names the file, variable or flag, the key, and what would be right.
    pub fn load(
        path: &Path,
        environment: impl Fn(&str) -> Option<String>,
        sets: &[String],
    ) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string(), environment, sets)
    }

    /// As [`Config::load`] with the file's text; `origin` names it in errors.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        text: &str,
        origin: &str,
        environment: impl Fn(&str) -> Option<String>,
        sets: &[String],
    ) -> Result<Self, ConfigError> {
        let malformed = |origin: &str, why: String| ConfigError::Malformed { origin: origin.to_owned(), why };
        let mut table: Table =
            DEFAULT.parse().map_err(|error: toml::de::Error| malformed("default", error.to_string()))?;
        let keys = keys(&table);
        let given: Table = text.parse().map_err(|error: toml::de::Error| malformed(origin, error.to_string()))?;
        merge(&mut table, given, "", origin, &keys)?;
        for key in &keys {
            let variable = format!("KESTREL_{}", key.replace('.', "_").to_uppercase());
            if let Some(text) = environment(&variable) {
                put(&mut table, key, &text, &variable)?;
            }
        }
        for set in sets {
            let (key, text) =
                set.split_once('=').ok_or_else(|| malformed("--set", format!("expected KEY=VALUE, got {set:?}")))?;
            if !keys.iter().any(|known| known == key) {
                return Err(unknown("--set", key, &keys));
            }
            put(&mut table, key, text, "--set")?;
        }
        let file: File =
            Value::Table(table).try_into().map_err(|error: toml::de::Error| malformed(origin, error.to_string()))?;
        file.check()
    }
}

impl File {
    fn check(self) -> Result<Config, ConfigError> {
        let wrong = |key, expected: &str, got: String| ConfigError::Value { key, expected: expected.to_owned(), got };
        let drone = DroneId::new(&self.drone).map_err(|error| wrong("drone", "an id", error.to_string()))?;
        let choice: EngineChoice = self.engine.name.parse().map_err(|_| {
            wrong(
                "engine.name",
                "ort/cpu, ort/cuda, ort/tensorrt, ort/nv_tensorrt_rtx or tract",
                format!("{:?}", self.engine.name),
            )
        })?;
        if choice == EngineChoice::Auto {
            let expected = "the engine that is to fly: ort/cpu, ort/cuda, ort/tensorrt or tract";
            return Err(wrong("engine.name", expected, "auto".into()));
        }
        let camera = self.camera.options()?;
        if !(1..=64).contains(&self.limits.active_queries) {
            return Err(wrong("limits.active_queries", "1 to 64", self.limits.active_queries.to_string()));
        }
        let longest = u64::from(MAX_TIME_TO_LIVE_MILLIS);
        if !(1..=longest).contains(&self.limits.standing_millis) {
            let got = self.limits.standing_millis.to_string();
            return Err(wrong("limits.standing_millis", &format!("1 to {longest}"), got));
        }
        let millis = Duration::from_millis;
        let source = self.model.source()?;
        let georeferencer = self.position.georeferencer()?;
        let poses = self.position.poses()?;
        let deadline = millis(self.limits.deadline_millis);
        let upkeep = UpkeepOptions {
            fallback: self.engine.fallback(choice)?,
            recovery: self.engine.recovery()?,
            watchdog: self.watchdog.limits(deadline)?,
            thermal: self.thermal.options(camera.frames_per_second)?,
            metrics: self.metrics.address()?,
            ..UpkeepOptions::of(deadline)
        };
        Ok(Config {
            node: NodeConfig {
                drone,
                model: source,
                trial_latency: millis(self.model.trial_latency_millis),
                engine: EngineOptions {
                    choice,
                    threads: self.engine.threads,
                    library: Some(self.engine.library).filter(|path| !path.as_os_str().is_empty()),
                    fetch: self.engine.fetch,
                    progress: false,
                    accelerator: Accelerator {
                        prepared: Some(self.engine.prepared).filter(|path| !path.as_os_str().is_empty()),
                        plugin: Some(self.engine.plugin).filter(|path| !path.as_os_str().is_empty()),
                    },
                },
                segmenter: SegmenterOptions {
                    tiling: self.perception.tiling,
                    tiles: self.tiling.options()?,
                    gate: self.perception.gate()?,
                    standing: self.standing.options()?,
                    ..SegmenterOptions::default()
                },
                georeferencer,
                poses,
                explain: self.explain.options()?,
                link: LinkOptions {
                    listen: self.link.listen,
                    connect: self.link.connect,
                    multicast_scouting: self.link.multicast_scouting,
                },
                limits: Limits {
                    active_queries: self.limits.active_queries,
                    deadline,
                    reuse_frame: millis(self.limits.reuse_frame_millis),
                    frame_timeout: millis(self.limits.frame_timeout_millis),
                    standing: millis(self.limits.standing_millis),
                },
                upkeep,
                record: (!self.record.file.as_os_str().is_empty()).then_some(RecordOptions {
                    file: self.record.file,
                    most_bytes: self.record.most_megabytes.saturating_mul(1_000_000),
                }),
            },
            camera,
        })
    }
}

impl Perception {
    /// The gate's bounds: those of the table where one is named, else the built-in ones.
    fn gate(&self) -> Result<Option<GateThresholds>, ConfigError> {
        let wrong = |expected: &str, got: String| {
            Err(ConfigError::Value { key: "perception.gate_table", expected: expected.to_owned(), got })
        };
        if self.gate_table.as_os_str().is_empty() {
            return Ok(self.gate.then(GateThresholds::default));
        }
        if !self.gate {
            return wrong("none beside `perception.gate = false`", self.gate_table.display().to_string());
        }
        match GateTable::read(&self.gate_table) {
            Ok(table) => {
                let (path, date, hash) = (self.gate_table.display(), &table.date, &table.sha256);
                tracing::info!("the gate's bounds are those of {path}, {date}, SHA-256 {hash}");
                Ok(Some(table.bounds))
            }
            Err(error) => wrong("a gate.json of `ground calibrate gate`", error.to_string()),
        }
    }
}

impl Model {
    /// What flies; where nothing is named, the bundle that ships, which is said.
    fn source(&self) -> Result<ModelSource, ConfigError> {
        let wrong = |key, expected: &str, got: String| ConfigError::Value { key, expected: expected.to_owned(), got };
        let trusted: Vec<VerifyingKey> = self
            .trusted_keys
            .iter()
            .map(|text| {
                parse_public_key(text).map_err(|error| wrong("model.trusted_keys", "public keys", error.to_string()))
            })
            .collect::<Result<_, _>>()?;
        let given = |path: &PathBuf| !path.as_os_str().is_empty();
        match (given(&self.bundle), given(&self.slots)) {
            (true, false) => Ok(ModelSource::Folder(self.bundle.clone())),
            (bundle, true) if !trusted.is_empty() => {
                Ok(ModelSource::Slots { dir: self.slots.clone(), trusted, first: bundle.then(|| self.bundle.clone()) })
            }
            (_, true) => Err(wrong("model.trusted_keys", "at least one key beside `model.slots`", "none".into())),
            (false, false) => {
                let Some(bundle) = released::find() else {
                    let got = format!("neither, and {} is neither here nor in a folder above", released::RELEASED);
                    return Err(wrong("model.bundle", "the folder of a bundle, or `model.slots`", got));
                };
                tracing::info!("no model is named: the one that ships flies, {}", bundle.display());
                Ok(ModelSource::Folder(bundle))
            }
        }
    }
}
