//! `ground export`: a checkpoint becomes the graphs of a bundle.

use crate::draft;
use crate::steps::{self, BUNDLE, INPUTS, Step};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use kestrel_link::manifest::{EXPLAIN_FILE, GRAPH_FILES, THRESHOLDS_FILE, TOKENIZER_FILE};
use kestrel_link::{AnswerTokens, Thresholds};
use kestrel_models::export::{Room, explain, export, open_vision};
use kestrel_models::kestrel::Config;
use kestrel_models::tokenizer::{self, QueryTokenizer};
use kestrel_models::weights::{Weights, checkpoint};
use kestrel_training::sft::recipe::model_files;
use kestrel_training::sft::{self, TOKENIZER};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `ground export`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// `model.safetensors` of a run; its tokenizer lies beside it.
    #[arg(required_unless_present = "untrained")]
    checkpoint: Option<PathBuf>,
    /// Export a model that was never trained: the whole way works, its answers mean nothing.
    #[arg(long, conflicts_with = "checkpoint")]
    untrained: bool,
    /// Folder of the bundle; made if it is not there.
    #[arg(long)]
    out: PathBuf,
    /// Also write the parameters in half precision and the tokenizer into this folder, for `ground train --from`.
    #[arg(long, requires = "checkpoint")]
    start: Option<PathBuf>,
    /// Also write explain.onnx, the graph that answers with reasons: `onboard segment --explain`, `ground eval --reasoned`.
    #[arg(long)]
    explain: bool,
    /// Leave the batch axis of vision.onnx open, so that an engine that gains by it sees several tiles of a frame in one run.
    #[arg(long, requires = "checkpoint")]
    open_batch: bool,
    /// Name of the model in the manifest; by default kestrel-s for its sizes, else the name of --recipe.
    #[arg(long, requires = "checkpoint")]
    model_name: Option<String>,
    /// Version of the model in the manifest.
    #[arg(long, default_value = "0.1.0")]
    model_version: String,
    /// The recipe that trained the checkpoint, for the record of steps.
    #[arg(long, requires = "checkpoint")]
    recipe: Option<PathBuf>,
    /// The folder that the training began from, for the record of steps.
    #[arg(long, requires = "recipe")]
    trained_from: Option<PathBuf>,
    /// The teacher of the training, as `ground distil --teacher` took it, for the record of steps.
    #[arg(long, requires = "recipe")]
    teacher: Option<PathBuf>,
    /// The quantisation.json of the training, as `ground train --quantisation` took it, for the record of steps; by default
    /// the one that the recipe names.
    #[arg(long, requires = "recipe", value_name = "FILE")]
    quantisation: Option<PathBuf>,
    /// Free text for the manifest, `key=value`; may be given several times.
    #[arg(long, value_parser = pair)]
    provenance: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).ok_or_else(|| "expected key=value".to_owned())
}

/// Runs `ground export`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    steps::begin(&arguments.out)?;
    match &arguments.checkpoint {
        Some(path) => {
            let (config, weights, tokenizer) = trained(path)?;
            if let Some(folder) = &arguments.start {
                write_start(folder, &config, &weights, &tokenizer)?;
            }
            let provenance = arguments.provenance.iter().cloned().collect();
            lay_explain(&arguments.out, &config, &weights, arguments.explain)?;
            let name = arguments.name(&config)?;
            let naming = Naming { name: &name, version: &arguments.model_version, provenance };
            write(&arguments.out, &config, weights, &tokenizer, naming, arguments.open_batch)?;
        }
        None => write_untrained(&arguments.out, arguments.explain)?,
    }
    note(arguments)?;
    println!("{}", arguments.out.display());
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    /// The name asked for, or the one that sizes and recipe give.
    fn name(&self, config: &Config) -> Result<String> {
        if let Some(name) = &self.model_name {
            return Ok(name.clone());
        }
        let settings = self.recipe.as_deref().map(settings).transpose()?;
        let recipe = settings.as_ref().and_then(|(_, table)| table.get("name")).and_then(toml::Value::as_str);
        Ok(draft::name(config, recipe))
    }
}

/// A recipe as it is written, and its settings.
fn settings(recipe: &Path) -> Result<(String, toml::Table)> {
    let text = std::fs::read_to_string(recipe).with_context(|| format!("reading {}", recipe.display()))?;
    let table = toml::from_str(&text).with_context(|| recipe.display().to_string())?;
    Ok((text, table))
}

/// Notes what was done, and what trained it where that is told; seals again.
fn note(arguments: &Arguments) -> Result<()> {
    let out = &arguments.out;
    if let Some(recipe) = &arguments.recipe {
        let command = if arguments.teacher.is_some() { "distil" } else { "train" };
        let mut step = Step::new(command).input(recipe)?;
        if let Some(from) = &arguments.trained_from {
            step = step.option("--from", INPUTS);
            for name in [sft::checkpoint::MODEL, TOKENIZER] {
                step = step.beside(&from.join(name))?;
            }
        }
        if let Some(teacher) = &arguments.teacher {
            let (model, words) = model_files(teacher);
            step = step.word("--teacher").input(&model)?.beside(&words)?;
        }
        let (text, settings) = settings(recipe)?;
        let named = settings.get("quantisation").and_then(toml::Value::as_str).map(PathBuf::from);
        if let Some(record) = arguments.quantisation.clone().or(named) {
            // Named in the command, because the recipe's own path leads nowhere on another day.
            step = step.word("--quantisation").input(&record).map_err(|error| {
                anyhow!("{error:#}\nhint: --quantisation names the record that the training rounded by")
            })?;
        }
        let seed = settings.get("seed").and_then(toml::Value::as_integer);
        steps::note(out, Step { recipe: Some(text), seed: seed.and_then(|seed| seed.try_into().ok()), ..step })?;
    }
    let mut step = Step::new("export");
    step = match &arguments.checkpoint {
        Some(checkpoint) => step.input(checkpoint)?.beside(&checkpoint.with_file_name(TOKENIZER))?,
        None => step.word("--untrained"),
    };
    step = step.option("--out", BUNDLE).flag("--explain", arguments.explain);
    step = step.flag("--open-batch", arguments.open_batch);
    if arguments.checkpoint.is_some() {
        // As it is there, because the recipe is no input of this step.
        step = step.option("--model-name", draft::read(out)?.name);
    }
    step = step.option("--model-version", &arguments.model_version);
    for (key, value) in &arguments.provenance {
        step = step.option("--provenance", format!("{key}={value}"));
    }
    let explain = arguments.explain.then_some(EXPLAIN_FILE);
    step = step.gives(out, GRAPH_FILES.into_iter().chain([TOKENIZER_FILE, THRESHOLDS_FILE]).chain(explain))?;
    steps::note(out, step)?;
    kestrel_onboard::bundle::seal(out, draft::read(out)?, None)?;
    Ok(())
}

/// Weights, configuration and tokenizer of a run, by its `model.safetensors`.
///
/// # Errors
/// When a file is missing or broken, or the weights do not tell their configuration.
pub fn trained(path: &Path) -> Result<(Config, Weights, QueryTokenizer)> {
    let (weights, metadata) = checkpoint::load(path)?;
    let Some(config) = metadata.get("config") else {
        bail!(
            "{}: expected the model's configuration in the metadata, got none\nhint: name the model.safetensors of a run",
            path.display()
        );
    };
    let config = Config { image: kestrel_link::manifest::INPUT_SIZE as usize, ..serde_json::from_str(config)? };
    let tokenizer = QueryTokenizer::load(&path.with_file_name(TOKENIZER))?;
    Ok((config, weights, tokenizer))
}

/// What further training begins from.
fn write_start(folder: &Path, config: &Config, weights: &Weights, tokenizer: &QueryTokenizer) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let metadata = [("config".to_owned(), serde_json::to_string(config)?)];
    checkpoint::save_half(&folder.join(sft::checkpoint::MODEL), weights, &metadata.into())?;
    Ok(tokenizer.save(&folder.join(TOKENIZER))?)
}

/// Exports a model that was never trained, with or without the graph that decodes.
pub fn write_untrained(out: &Path, explain: bool) -> Result<()> {
    let (config, weights, tokenizer) = untrained()?;
    lay_explain(out, &config, &weights, explain)?;
    let provenance = [("training".to_owned(), "none".to_owned())];
    let name = draft::name(&config, None);
    let naming = Naming { name: &name, version: "0.0.0-untrained", provenance: provenance.into() };
    write(out, &config, weights, &tokenizer, naming, false)
}

/// A model with the parameters that training would begin with, but for the trunk's.
fn untrained() -> Result<(Config, Weights, QueryTokenizer)> {
    let config = Config::kestrel_s();
    let texts = kestrel_training::expressions::corpus(0, 4000);
    let mut weights = Weights::new();
    for (name, tensor) in sft::untrained(&config, 0)?.tensors() {
        weights.insert(name, tensor.dims().to_vec(), tensor.flatten_all()?.to_vec1()?)?;
    }
    let tokenizer = tokenizer::train(texts, config.vocabulary)?;
    Ok((config, weights, tokenizer))
}

/// Writes the graph that decodes where the bundle will be sealed, or removes one that an earlier export left there.
fn lay_explain(out: &Path, config: &Config, weights: &Weights, wanted: bool) -> Result<()> {
    let path = out.join(EXPLAIN_FILE);
    if wanted {
        let graph = explain(config, weights, &Room::of(config))?;
        std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
        return std::fs::write(&path, graph).with_context(|| format!("writing {}", path.display()));
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// What a manifest says of where a model comes from.
struct Naming<'a> {
    name: &'a str,
    version: &'a str,
    provenance: BTreeMap<String, String>,
}

/// Writes graphs, tokenizer, thresholds that answer everything, and the manifest.
fn write(
    out: &Path,
    config: &Config,
    mut weights: Weights,
    tokenizer: &QueryTokenizer,
    naming: Naming<'_>,
    open_batch: bool,
) -> Result<()> {
    weights.round_f16()?;
    let mut graphs = export(config, &weights)?;
    if open_batch {
        graphs.vision = open_vision(config, &weights)?;
    }
    std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let bytes = [graphs.vision, graphs.language, graphs.mask];
    for (name, graph) in GRAPH_FILES.iter().zip(&bytes) {
        std::fs::write(out.join(name), graph).with_context(|| format!("writing {}", out.join(name).display()))?;
    }
    tokenizer.save(&out.join(TOKENIZER_FILE))?;
    let thresholds = draft::uncalibrated(&Thresholds::hash_graphs(&bytes[0], &bytes[1], &bytes[2]));
    std::fs::write(out.join(THRESHOLDS_FILE), serde_json::to_string_pretty(&thresholds)? + "\n")?;
    let draft = draft::draft(config, answer_tokens(tokenizer), (naming.name, naming.version), naming.provenance);
    kestrel_onboard::bundle::seal(out, draft, None)?;
    Ok(())
}

/// The ids that the runtime must know, by the tokenizer's own table.
pub(crate) fn answer_tokens(tokenizer: &QueryTokenizer) -> AnswerTokens {
    let special = tokenizer.special();
    let [absent, ambiguous, not_understood, unseeable] = special.none;
    let (seg, answer, pad) = (special.seg, special.answer, special.pad);
    AnswerTokens { seg, absent, ambiguous, not_understood, unseeable, answer, pad }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What would break: the next seal would sign a graph of other weights into the bundle.
    #[test]
    fn a_graph_of_an_earlier_export_does_not_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (config, none) = (Config::tiny(), Weights::new());
        let path = dir.path().join(EXPLAIN_FILE);
        std::fs::write(&path, "of other weights").unwrap();
        lay_explain(dir.path(), &config, &none, false).unwrap();
        assert!(!path.exists());
        lay_explain(dir.path(), &config, &none, false).unwrap();
        let error = lay_explain(dir.path(), &config, &none, true).unwrap_err().to_string();
        assert!(error.contains("is missing") && !path.exists(), "{error}");
    }
}
