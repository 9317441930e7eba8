//! What a run begins with: samples, tokenizer, parameters.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::pack::pack;
use kestrel_models::kestrel::{
    Config, keys, language, language_told, location_codes, mask, names_of_anchors, names_of_places, names_of_tokens,
    names_of_wishes, reading as read, told, vision, wishes,
};
use kestrel_models::quantise::Scheme;
use kestrel_models::tokenizer::{self, FIRST_LOCATION, LOCATIONS, QueryTokenizer};
use kestrel_perception::proposals::THING;

use super::example::Maker;
use super::{Options, Progress, Recipe, Result, TrainError, progress_words, propose};
use crate::cache::Cache;
use crate::expressions::corpus;
use crate::losses::reading;

/// The tokenizer of a run, in its folder.
pub const TOKENIZER: &str = "tokenizer.json";

type Report<'a> = &'a (dyn Fn(Progress<'_>) -> ControlFlow<()> + Sync);

/// The recipe with its data sets read: how many samples they give, and of what.
pub(super) fn settled(recipe: &Recipe, options: &Options, progress: Report<'_>) -> Result<Recipe> {
    let data = recipe.data.settled(options.data.as_deref(), &|words| progress_words(progress, words))?;
    Ok(Recipe { data, ..recipe.clone() })
}

/// The cache of the recipe, completed unless the options say otherwise.
pub(super) fn cache(recipe: &Recipe, options: &Options, progress: Report<'_>) -> Result<Cache> {
    let folder = Cache::folder(&options.runs, &recipe.data);
    if options.partial_cache {
        return Ok(Cache::open(&folder)?);
    }
    if let Ok(cache) = Cache::open(&folder)
        && cache.complete()
    {
        return Ok(cache);
    }
    // Two threads finish samples at once; only growing counts are told.
    let told = AtomicUsize::new(0);
    let tell = |done: usize, all: usize| {
        if told.fetch_max(done, Ordering::Relaxed) < done {
            let _ = progress(Progress::Cache(done, all));
        }
    };
    Ok(Cache::build(&recipe.data, options.data.as_deref(), &folder, recipe.workers, &tell)?)
}

/// The tokenizer of the run, trained on training phrasings and on what people have `written` when it is not there yet.
pub(super) fn tokenizer(
    recipe: &Recipe,
    written: Vec<String>,
    folder: &Path,
    progress: Report<'_>,
) -> Result<QueryTokenizer> {
    let path = folder.join(TOKENIZER);
    if path.is_file() {
        return Ok(QueryTokenizer::load(&path)?);
    }
    progress_words(progress, "training the tokenizer");
    let texts = corpus(recipe.seed, recipe.tokenizer_texts).chain(written);
    let trained = tokenizer::train(texts, recipe.model.vocabulary)?;
    if trained.vocabulary() > recipe.model.vocabulary {
        return Err(TrainError::Setting {
            recipe: recipe.name.clone(),
            setting: "model.vocabulary".to_owned(),
            expected: format!("at least {}, the pieces that every tokenizer has", trained.vocabulary()),
            got: recipe.model.vocabulary.to_string(),
        });
    }
    trained.save(&path)?;
    Ok(trained)
}

/// Fresh parameters of the recipe's model, with the pretrained trunk where there is one.
///
/// # Errors
/// When the recipe wants a pretrained trunk and there is none, or the file does not fit.
pub fn initialise(recipe: &Recipe, trunk: Option<&Path>) -> Result<Params> {
    let params = untrained(&recipe.model, recipe.seed)?;
    match trunk {
        Some(path) => load_trunk(&params, path)?,
        None if recipe.pretrained_trunk => {
            return Err(TrainError::Missing {
                what: "the pretrained trunk".to_owned(),
                expected: "its safetensors file; `ground train` fetches and converts it".to_owned(),
            });
        }
        None => {}
    }
    Ok(params)
}

/// The scheme of a record that `ground quantise` wrote.
pub(super) fn scheme(recipe: &Recipe, record: &Path) -> Result<Scheme> {
    let wrong = |got: String| no_record(recipe, record, &got);
    let text = std::fs::read_to_string(record).map_err(|error| wrong(error.to_string()))?;
    let mut parsed: serde_json::Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let scheme = parsed.get_mut("scheme").map(serde_json::Value::take).unwrap_or_default();
    let scheme: Scheme = serde_json::from_value(scheme).map_err(|error| wrong(error.to_string()))?;
    scheme.check()?;
    Ok(scheme)
}

/// Refuses a scheme of a model with other layers: what it does not find would be left wide without a word.
pub(super) fn same_layers(recipe: &Recipe, record: &Path, scheme: &Scheme, params: &Params) -> Result<()> {
    let tensors = params.tensors();
    let mut named = scheme.layers.keys().chain(scheme.residuals.keys()).chain(&scheme.kept);
    match named.find(|layer| !tensors.contains_key(&format!("{layer}.weight"))) {
        None => Ok(()),
        Some(layer) => {
            Err(no_record(recipe, record, &format!("the layer `{layer}`, which the recipe's [model] does not have")))
        }
    }
}

fn no_record(recipe: &Recipe, record: &Path, got: &str) -> TrainError {
    TrainError::Setting {
        recipe: recipe.name.clone(),
        setting: "quantisation".to_owned(),
        expected: "the quantisation.json that `ground quantise` wrote of the model that this run begins from"
            .to_owned(),
        got: format!("{}: {got}\nhint: `ground train --quantisation FILE` names another", record.display()),
    }
}

/// Pictures that the scales of fresh layers are measured on.
const SETTLING: usize = 6;

/// Brings fresh layers to scale on the first pictures of the cache, at the first phase's size.
pub(super) fn settle(recipe: &Recipe, params: &Params, cache: &Cache, tokenizer: &QueryTokenizer) -> Result<()> {
    let Some(phase) = recipe.phases.first() else { return Ok(()) };
    let config = recipe.model_of(phase);
    let mut maker = Maker::new(&config, phase, tokenizer);
    let mut pictures = Vec::with_capacity(SETTLING);
    for index in 0..cache.len().min(SETTLING) {
        pictures.push(maker.draw(&cache.get(index)?, index as u64)?.pixels);
    }
    super::settle::settle(params, &config, &pictures)
}

/// Parameters that nothing has taught, the trunk's included.
///
/// # Errors
/// When the configuration makes no model.
pub fn untrained(model: &Config, seed: u64) -> Result<Params> {
    let params = Params::new(&Device::Cpu, seed);
    touch(&params, model)?;
    Ok(params)
}

/// One pass over a small picture: every parameter is asked for and so made.
fn touch(params: &Params, model: &Config) -> Result<()> {
    let config = Config { image: 64, ..model.clone() };
    let mut ops = Candle::evaluating(params);
    let picture = Tensor::zeros((1, 64, 64, 3), candle_core::DType::F32, params.device())?;
    let seen = vision(&mut ops, &config, &picture)?;
    let keys = keys(&mut ops, &config, &seen)?;
    names_of_places(&mut ops, &config, &keys)?;
    names_of_tokens(&mut ops, &config, &seen)?;
    let packed = pack(&[vec![vec![0, 1, 2]]], config.token_side().pow(2), 0, None);
    let tensors = packed.tensors(config.language_width / config.heads, params.device())?;
    let said = language(&mut ops, &config, &seen.tokens, &tensors)?;
    if config.things {
        let thing = Tensor::zeros((1, 1, THING), candle_core::DType::F32, params.device())?;
        let told = told(&mut ops, &config, &seen.tokens, Some(&thing))?;
        let packed = pack(&[vec![vec![0, 1, 2]]], config.token_side().pow(2) + 1, 0, None);
        let tensors = packed.tensors(config.language_width / config.heads, params.device())?;
        language_told(&mut ops, &config, &told, &tensors)?;
    }
    let wishes = wishes(&mut ops, &config, &said.seg)?;
    names_of_wishes(&mut ops, &config, &wishes)?;
    read(&mut ops, &said.seg, reading::OUTPUTS)?;
    names_of_anchors(&mut ops, &config, &wishes)?;
    let proposals = propose::none(&config, params.device())?;
    mask(&mut ops, &config, &seen, &proposals, &said.seg, 1)?;
    Ok(())
}

/// The tokenizer of the model to begin from, or of the teacher, becomes the run's: words are numbered as that model learnt
/// them.
pub(super) fn tokenizer_of(theirs: &Path, folder: &Path) -> Result<()> {
    // One that a run without a checkpoint has left numbers them otherwise.
    std::fs::copy(theirs, folder.join(TOKENIZER)).map_err(TrainError::io("copying", theirs))?;
    Ok(())
}

/// Parameters of a trained model; what it does not have stays as it is.
pub(super) fn begin_from(params: &Params, from: &Path, progress: Report<'_>) -> Result<()> {
    let path = from.join(super::checkpoint::MODEL);
    let (loaded, _) = kestrel_models::weights::checkpoint::load(&path)?;
    let mut known = 0;
    for (name, tensor) in params.tensors() {
        let Some((shape, values)) = loaded.get(&name) else { continue };
        if shape != tensor.dims() {
            return Err(TrainError::Checkpoint {
                path,
                expected: format!(
                    "`{name}` of shape {:?}: the recipe's [model] must be the one it was trained with",
                    tensor.dims()
                ),
                got: format!("{shape:?}"),
            });
        }
        params.insert(&name, &Tensor::from_slice(values, shape.as_slice(), params.device())?)?;
        known += 1;
    }
    if known == 0 {
        return Err(TrainError::Checkpoint {
            path,
            expected: "parameters of this model".to_owned(),
            got: "none of a name that it has".to_owned(),
        });
    }
    let all = params.tensors().len();
    progress_words(progress, &format!("beginning from {}: {known} of {all} parameters", path.display()));
    Ok(())
}

/// The table of words.
const WORDS: &str = "language.embed_tokens.weight";
/// What image tokens make of their places.
const PLACES: &str = "projector.place.weight";

/// Sets the locations' rows of the table of words to the codes of places, [`location_codes`], as loud as those rows were in
/// the mean.
///
/// # Errors
/// When the model has no such rows, or candle fails.
pub fn locate(params: &Params, model: &Config) -> Result<()> {
    let tensors = params.tensors();
    let values = |name: &str| -> Result<Vec<f32>> {
        let tensor = tensors.get(name).ok_or_else(|| TrainError::Missing {
            what: format!("the parameter `{name}`"),
            expected: "a model whose locations can begin as places".to_owned(),
        })?;
        Ok(tensor.flatten_all()?.to_vec1()?)
    };
    let (mut words, place, width) = (values(WORDS)?, values(PLACES)?, model.language_width);
    let (first, count) = (FIRST_LOCATION as usize * width, LOCATIONS as usize * width);
    let all = words.len() / width.max(1);
    let Some(rows) = words.get_mut(first..first + count) else {
        return Err(TrainError::Missing {
            what: "the rows of locations".to_owned(),
            expected: format!("{} words at least, got {all}", FIRST_LOCATION + LOCATIONS),
        });
    };
    let size = (rows.iter().map(|v| v * v).sum::<f32>() / count as f32).sqrt();
    rows.copy_from_slice(&location_codes(&place, width, size));
    Ok(params.insert(WORDS, &Tensor::from_vec(words, (all, width), params.device())?)?)
}

fn load_trunk(params: &Params, path: &Path) -> Result<()> {
    let loaded = candle_core::safetensors::load(path, &Device::Cpu)?;
    let refuse = |expected: String, got: &str| TrainError::Checkpoint {
        path: path.to_path_buf(),
        expected,
        got: got.to_owned(),
    };
    for name in params.tensors().keys().filter(|name| name.starts_with("trunk.")) {
        let tensor = loaded.get(name).ok_or_else(|| refuse(format!("a tensor `{name}`"), "none of this name"))?;
        params.insert(name, tensor)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_record_of_quantisation_says_what_is_rounded() {
        let recipe: Recipe = toml::from_str(include_str!("../../recipes/smoke.toml")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("quantisation.json");
        let with = |text: &str| {
            std::fs::write(&file, text).unwrap();
            scheme(&recipe, &file)
        };
        let rounding = |scale: &str| {
            format!(
                r#"{{"scheme": {{"target": "tensor_rt", "layers": {{"a": {{"scale": {scale}}}}}, "residuals": {{}}, "kept": []}}}}"#
            )
        };
        assert_eq!(with(&rounding("0.5")).unwrap().layers["a"].scale, 0.5);
        for broken in ["", "[]", "3", "{}", r#"{"scheme": 3}"#] {
            let error = with(broken).unwrap_err().to_string();
            assert!(error.contains("quantisation") && error.contains("ground quantise"), "{broken}: {error}");
        }
        assert!(with(&rounding("-0.5")).unwrap_err().to_string().contains("positive scale"));
        let error = scheme(&recipe, &dir.path().join("none.json")).unwrap_err().to_string();
        assert!(error.contains("none.json") && error.contains("hint: `ground train --quantisation"), "{error}");
    }

    /// What would break: weights that are said to bear a rounding which they never met.
    #[test]
    fn a_record_of_another_model_is_refused_by_the_layer_that_is_not_there() {
        let recipe: Recipe = toml::from_str(include_str!("../../recipes/smoke.toml")).unwrap();
        let params = untrained(&Config::tiny(), 1).unwrap();
        let held = |layers: &str, residuals: &str, kept: &str| {
            let text = format!(
                r#"{{"target": "tensor_rt", "layers": {{{layers}}}, "residuals": {{{residuals}}}, "kept": [{kept}]}}"#
            );
            let scheme: Scheme = serde_json::from_str(&text).unwrap();
            same_layers(&recipe, Path::new("quantisation.json"), &scheme, &params)
        };
        held(r#""neck.embed": {"scale": 1.0}"#, "", "").unwrap();
        let strange = r#""neck.strange": {"scale": 1.0}"#;
        for found in [held(strange, "", ""), held("", strange, ""), held("", "", r#""neck.strange""#)] {
            let error = found.unwrap_err().to_string();
            assert!(error.contains("`neck.strange`") && error.contains("[model]"), "{error}");
        }
    }
}
