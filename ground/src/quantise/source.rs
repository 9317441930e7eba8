//! The model that is quantised: a bundle in half precision, or a checkpoint.

use crate::{draft, export};
use anyhow::{Context, Result, bail};
use kestrel_link::manifest::{EXPLAIN_FILE, GRAPH_FILES, THRESHOLDS_FILE, TOKENIZER_FILE};
use kestrel_link::{AnswerTokens, Manifest};
use kestrel_models::kestrel::Config;
use kestrel_models::onnx::read;
use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_models::weights::Weights;
use kestrel_onboard::bundle::Bundle;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::RECORD_FILE;
use crate::steps::CALIBRATION_FILE;

/// Weights of the presence logit where nothing was calibrated: equal trust in words and mask.
const UNCALIBRATED: [f32; 3] = [-1.0, 1.0, 0.0];
/// A parameter that only models have which are told of things.
const TOLD: &str = "language.things.plain.weight";

/// A model in half precision.
pub(super) struct Source {
    /// Where it lies.
    pub(super) folder: PathBuf,
    /// The file of its weights, where it is no bundle.
    pub(super) checkpoint: Option<PathBuf>,
    pub(super) config: Config,
    pub(super) weights: Weights,
    pub(super) tokenizer: QueryTokenizer,
    pub(super) answers: AnswerTokens,
    /// Weights of its presence logit, in which shifts are told.
    pub(super) presence: [f32; 3],
    /// Its manifest, or one that begins a bundle.
    pub(super) manifest: Manifest,
    /// Whether the graph that decodes goes with it.
    pub(super) explain: bool,
    /// Other files of the bundle that stay right.
    rest: Vec<String>,
}

impl Source {
    pub(super) fn open(path: &Path, explain: bool) -> Result<Self> {
        match (path.is_dir(), path.is_file()) {
            (true, _) => Self::bundle(path),
            (_, true) => Self::checkpoint(path, explain),
            _ => bail!(
                "{}: expected the folder of a bundle or a model.safetensors, got nothing\n\
                 hint: `ground export` makes a bundle",
                path.display()
            ),
        }
    }

    fn bundle(folder: &Path) -> Result<Self> {
        let bundle = Bundle::open(folder)?;
        let manifest = bundle.manifest.clone();
        let explain = manifest.files.contains_key(EXPLAIN_FILE);
        let mut graphs = Vec::new();
        for name in GRAPH_FILES.into_iter().chain(explain.then_some(EXPLAIN_FILE)) {
            let path = bundle.path(name);
            graphs.push((name, std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?));
        }
        let weights = read::weights_of_all(graphs.iter().map(|(name, bytes)| (*name, bytes.as_slice())))
            .with_context(|| format!("reading the weights of {}", folder.display()))?;
        let rest = manifest.files.keys().filter(|name| stays(name)).cloned().collect();
        Ok(Self {
            folder: folder.to_owned(),
            checkpoint: None,
            config: config(&manifest, &weights),
            weights,
            tokenizer: QueryTokenizer::load(&bundle.path(TOKENIZER_FILE))?,
            answers: manifest.answer_tokens,
            presence: bundle.thresholds.presence.weights,
            manifest,
            explain,
            rest,
        })
    }

    fn checkpoint(path: &Path, explain: bool) -> Result<Self> {
        let (config, mut weights, tokenizer) = export::trained(path)?;
        weights.round_f16()?;
        let answers = export::answer_tokens(&tokenizer);
        let name = draft::name(&config, None);
        let manifest = draft::draft(&config, answers, (name.as_str(), "0.1.0"), BTreeMap::new());
        Ok(Self {
            folder: path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned(),
            checkpoint: Some(path.to_owned()),
            config,
            weights,
            tokenizer,
            answers,
            presence: UNCALIBRATED,
            manifest,
            explain,
            rest: Vec::new(),
        })
    }

    /// Copies what quantising leaves right: the card, and whatever else lies in the bundle.
    pub(super) fn copy_rest(&self, out: &Path) -> Result<()> {
        for name in &self.rest {
            let (from, to) = (self.folder.join(name), out.join(name));
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
            }
            std::fs::copy(&from, &to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        }
        Ok(())
    }
}

/// Whether a file of the bundle is not made anew. Canaries show what another model answers.
fn stays(name: &str) -> bool {
    let made = [EXPLAIN_FILE, THRESHOLDS_FILE, TOKENIZER_FILE, RECORD_FILE, CALIBRATION_FILE];
    !GRAPH_FILES.contains(&name) && !made.contains(&name) && !name.starts_with("canary/")
}

/// The configuration that a manifest promises, told of things where its weights are. Depths and heads are those of kestrel-s:
/// with others a parameter is missing or left over, which the exporter tells.
fn config(manifest: &Manifest, weights: &Weights) -> Config {
    Config {
        image: manifest.input_size as usize,
        vocabulary: manifest.vocabulary as usize,
        language_width: manifest.language_width as usize,
        mask_width: manifest.mask_width as usize,
        fine_width: manifest.fine_width as usize,
        max_tokens: manifest.max_tokens as usize,
        things: weights.get(TOLD).is_some(),
        ..Config::kestrel_s()
    }
}

/// Removes a file or folder that an earlier run may have left.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kestrel_models::export::{Room, explain};
    use kestrel_training::sft::untrained;

    /// What would break: the graph that decodes behind things, made anew as one that is told of none.
    #[test]
    fn a_bundle_that_is_told_of_things_is_known_by_its_weights() {
        let ids = AnswerTokens { seg: 0, absent: 1, ambiguous: 2, not_understood: 3, unseeable: 4, answer: 5, pad: 6 };
        for things in [false, true] {
            let model = Config { things, ..Config::kestrel_s() };
            let weights = Weights::from_params(&untrained(&model, 1).unwrap()).unwrap();
            let graph = explain(&model, &weights, &Room::of(&model)).unwrap();
            let read = read::weights_of_all([(EXPLAIN_FILE, graph.as_slice())]).unwrap();
            assert_eq!(config(&draft::draft(&model, ids, ("kestrel-s", "0.1.0"), BTreeMap::new()), &read), model);
        }
    }
}
