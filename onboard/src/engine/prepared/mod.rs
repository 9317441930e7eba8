//! Engines that TensorRT built before the flight: a folder each, with a record of what it was built from and for.
//!
//! Building takes minutes, so it happens when it is asked for ([`build()`]) and never at a start: who opens a TensorRT
//! provider gets the engines that are ready for exactly these graphs, this TensorRT and this GPU, or a refusal that says
//! what is there instead.

mod build;
mod hardware;
mod options;
mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use kestrel_link::sha256_hex;
use serde::{Deserialize, Serialize};

pub use build::{Built, Step, build, check};
pub use hardware::{Hardware, HardwareError};
pub(super) use options::{Place, plugin, tensorrt};
pub use store::{MadeFile, RECORD, Record, default_root, find, wanted};
pub(super) use store::{ready, unchanged};

/// In what an engine computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Half precision, single where TensorRT finds that better.
    Fp16,
    /// INT8 where the graph is quantised, half precision elsewhere.
    Int8,
}

impl Precision {
    /// What the graphs themselves ask for: INT8 where one of them holds a quantised value.
    #[must_use]
    pub fn of<'a>(graphs: impl IntoIterator<Item = &'a [u8]>) -> Self {
        const QUANTISED: &[u8] = b"DequantizeLinear";
        let holds = |graph: &[u8]| graph.windows(QUANTISED.len()).any(|part| part == QUANTISED);
        if graphs.into_iter().any(holds) { Self::Int8 } else { Self::Fp16 }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        })
    }
}

/// One graph as a key names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphKey {
    /// Hex SHA-256 of its ONNX bytes.
    pub sha256: String,
    /// Its inputs with their shapes, e.g. `image 1x3x512x512`.
    pub shapes: String,
}

/// What an engine is of and for. Engines of another key are other engines.
///
/// The graphs are named by their own hashes and not by the bundle's: new thresholds or canaries for the same graphs need
/// no new engines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// By name: vision, language, mask and, where it was built, explain.
    pub graphs: BTreeMap<String, GraphKey>,
    /// `tensorrt` or `nv_tensorrt_rtx`.
    pub provider: String,
    /// Version of TensorRT, or of the plugin.
    pub provider_version: String,
    /// Version of ONNX Runtime, which cuts the graph into engines.
    pub runtime_version: String,
    /// The GPU, by its own name.
    pub gpu: String,
    /// Its architecture, e.g. `sm_87`.
    pub architecture: String,
    /// In what it computes.
    pub precision: Precision,
}

impl Key {
    /// Name of the folder: the same key gives the same name on every machine.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        for (name, graph) in &self.graphs {
            text += &format!("{name}\n{}\n{}\n", graph.sha256, graph.shapes);
        }
        let Self { provider, provider_version, runtime_version, gpu, architecture, precision, .. } = self;
        for part in [provider, provider_version, runtime_version, gpu, architecture] {
            text += &format!("{part}\n");
        }
        text += &precision.to_string();
        let hash = sha256_hex(text.as_bytes());
        format!("{provider}-{architecture}-{}", &hash[..16])
    }

    /// The GPU as a person would name it.
    #[must_use]
    pub fn made_for(&self) -> String {
        format!("{} ({})", self.gpu, self.architecture)
    }

    fn is_for_the_same_hardware(&self, other: &Self) -> bool {
        self.gpu == other.gpu && self.architecture == other.architecture
    }

    /// Whether engines of this key hold all graphs of `wanted`; it may have been built with more.
    fn holds(&self, wanted: &Self) -> bool {
        wanted.graphs.iter().all(|(name, graph)| self.graphs.get(name) == Some(graph))
    }

    /// In what this key differs from the one that is wanted, the hardware apart, as lines for a person.
    fn differs(&self, wanted: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, graph) in &wanted.graphs {
            match self.graphs.get(name) {
                None => lines.push(format!("no {name} graph")),
                Some(held) if held.sha256 != graph.sha256 => lines.push(format!("another {name} graph")),
                Some(held) if held.shapes != graph.shapes => {
                    lines.push(format!("{name} of {}, wanted {}", held.shapes, graph.shapes));
                }
                Some(_) => {}
            }
        }
        for (what, held, wanted) in [
            ("provider", &self.provider, &wanted.provider),
            ("TensorRT", &self.provider_version, &wanted.provider_version),
            ("ONNX Runtime", &self.runtime_version, &wanted.runtime_version),
        ] {
            if held != wanted {
                lines.push(format!("{what} {held}, here is {wanted}"));
            }
        }
        if self.precision != wanted.precision {
            lines.push(format!("{}, wanted {}", self.precision, wanted.precision));
        }
        lines
    }
}

/// A folder of engines that was found: what its record says, or why that cannot be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The folder.
    pub folder: PathBuf,
    /// What it holds; an error where the record is broken, or a file of it missing or changed.
    pub record: Result<Record, String>,
}

/// What is there for a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Readiness {
    /// Engines for exactly this.
    Ready(PathBuf),
    /// Nothing at all for these graphs.
    Missing,
    /// Engines for this GPU, of something else: say, an older TensorRT.
    Stale {
        /// The folder.
        folder: PathBuf,
        /// In what they differ.
        differs: Vec<String>,
    },
    /// Engines of these graphs for another GPU.
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// The GPU that they were made for.
        made_for: String,
        /// The GPU that is here.
        here: String,
    },
    /// A folder whose files are not what its record says.
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(folder) => write!(f, "ready in {}", folder.display()),
            Self::Missing => f.write_str("none were prepared"),
            Self::Stale { folder, differs } => write!(f, "those in {} are of {}", folder.display(), differs.join("; ")),
            Self::Foreign { folder, made_for, here } => {
                write!(f, "those in {} were made for {made_for}, and here is {here}", folder.display())
            }
            Self::Damaged { folder, why } => write!(f, "those in {} are damaged: {why}", folder.display()),
        }
    }
}

/// What is there for `wanted` among the folders that were found. Pure.
///
/// What is ready wins. Of the rest the nearest is told: damaged engines for exactly this, then stale ones for this GPU,
/// then ones for another GPU.
#[must_use]
pub fn decide(wanted: &Key, found: &[Found]) -> Readiness {
    let (mut damaged, mut stale, mut foreign) = (None, None, None);
    for Found { folder, record } in found {
        let folder = folder.clone();
        let key = match record {
            Ok(record) => &record.key,
            Err(why) => {
                let named = folder.file_name().is_some_and(|name| *name == *wanted.fingerprint());
                if named {
                    damaged = Some(Readiness::Damaged { folder, why: why.clone() });
                }
                continue;
            }
        };
        let differs = key.differs(wanted);
        let shares = wanted.graphs.iter().any(|(name, graph)| key.graphs.get(name) == Some(graph));
        match (key.is_for_the_same_hardware(wanted), differs.is_empty()) {
            (true, true) => return Readiness::Ready(folder),
            (true, false) if shares => stale = Some(Readiness::Stale { folder, differs }),
            (false, _) if key.holds(wanted) => {
                let (made_for, here) = (key.made_for(), wanted.made_for());
                foreign = Some(Readiness::Foreign { folder, made_for, here });
            }
            _ => {}
        }
    }
    damaged.or(stale).or(foreign).unwrap_or(Readiness::Missing)
}

#[cfg(test)]
mod tests;
