//! Building engines, when that is asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::options::Place;
use super::store::{RECORD, RECORD_FORMAT, Record, files, find, root, timings, wanted};
use super::{Key, Readiness, decide};
use crate::engine::{EngineError, EngineOptions, Graph, GraphBytes, Provider, runtime};

/// How far a build has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// A graph is being built: which, as one of how many.
    Building {
        /// The graph.
        graph: Graph,
        /// Counted from 1.
        number: usize,
        /// How many there are.
        of: usize,
    },
    /// A graph was built.
    Built {
        /// The graph.
        graph: Graph,
        /// How long it took.
        time: Duration,
    },
}

/// What came of a build.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The folder.
    pub folder: PathBuf,
    /// What the engines are of and for.
    pub key: Key,
    /// How long each graph took; empty where engines for exactly this were there already.
    pub seconds: BTreeMap<String, f64>,
}

/// What is there for these graphs on this machine, with the key that was looked for.
///
/// # Errors
/// As [`wanted`].
pub fn check(
    graphs: &GraphBytes<'_>,
    provider: Provider,
    options: &EngineOptions,
) -> Result<(Key, Readiness), EngineError> {
    let key = wanted(graphs, provider, options)?;
    let readiness = decide(&key, &find(&root(options)?));
    Ok((key, readiness))
}

/// Builds engines for these graphs on this machine unless they are there. `model` and `manifest_hash` name the bundle in
/// the record; `seen` hears of every step. A build that fails leaves nothing that could be taken for engines.
///
/// # Errors
/// When there is no such provider, no GPU, no room, or a graph is not taken.
pub fn build(
    graphs: &GraphBytes<'_>,
    provider: Provider,
    options: &EngineOptions,
    (model, manifest_hash): (&str, &str),
    mut seen: impl FnMut(Step),
) -> Result<Built, EngineError> {
    let (key, readiness) = check(graphs, provider, options)?;
    if let Readiness::Ready(folder) = readiness {
        return Ok(Built { folder, key, seconds: BTreeMap::new() });
    }
    let root = root(options)?;
    let (folder, partial) = (root.join(key.fingerprint()), root.join(format!(".building-{}", std::process::id())));
    let place = Place { folder: partial.clone(), timings: timings(&root, &key), graph: "", precision: key.precision };
    let result = fill(graphs, provider, options, &place, &mut seen).and_then(|seconds| {
        let failed = |why: String| not_kept(provider, why);
        let record = Record {
            format: RECORD_FORMAT,
            key: key.clone(),
            model: model.to_owned(),
            manifest_hash: manifest_hash.to_owned(),
            build_seconds: seconds.clone(),
            files: files(&partial).map_err(failed)?,
        };
        keep(&partial, &folder, &record).map_err(failed)?;
        Ok(seconds)
    });
    if result.is_err() {
        // What is left of it is only disk: no record lies in it.
        let _ = std::fs::remove_dir_all(&partial);
    }
    Ok(Built { folder, key, seconds: result? })
}

fn not_kept(provider: Provider, why: String) -> EngineError {
    EngineError::NotPrepared { provider: provider.name(), why: format!("what was built could not be kept: {why}") }
}

/// Builds every graph into the folder of `place`.
fn fill(
    graphs: &GraphBytes<'_>,
    provider: Provider,
    options: &EngineOptions,
    place: &Place,
    seen: &mut impl FnMut(Step),
) -> Result<BTreeMap<String, f64>, EngineError> {
    for folder in [&place.folder, &place.timings] {
        std::fs::create_dir_all(folder)
            .map_err(|error| not_kept(provider, format!("making {}: {error}", folder.display())))?;
    }
    let all = [Graph::Vision, Graph::Language, Graph::Mask, Graph::Explain];
    let present: Vec<(Graph, &[u8])> = all.into_iter().filter_map(|graph| Some((graph, graphs.get(graph)?))).collect();
    let mut seconds = BTreeMap::new();
    for (index, &(graph, bytes)) in present.iter().enumerate() {
        seen(Step::Building { graph, number: index + 1, of: present.len() });
        let start = Instant::now();
        runtime::prepare(graph, bytes, provider, options, &Place { graph: graph.name(), ..place.clone() })?;
        let time = start.elapsed();
        seconds.insert(graph.name().to_owned(), time.as_secs_f64());
        seen(Step::Built { graph, time });
    }
    Ok(seconds)
}

/// Writes the record and gives the folder its name; a reader sees all of it or nothing.
pub(super) fn keep(partial: &Path, folder: &Path, record: &Record) -> Result<(), String> {
    let text = serde_json::to_string_pretty(record).map_err(|error| error.to_string())?;
    let path = partial.join(RECORD);
    std::fs::write(&path, text + "\n").map_err(|error| format!("writing {}: {error}", path.display()))?;
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(|error| format!("removing {}: {error}", folder.display()))?;
    }
    std::fs::rename(partial, folder).map_err(|error| format!("naming {}: {error}", folder.display()))
}
