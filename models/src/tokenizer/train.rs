//! Training: byte pairs are merged by how often they stand together (Sennrich et al., arXiv 1508.07909).

use std::collections::{BTreeMap, HashMap};

use serde_json::json;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer,
};

use super::{LOCATIONS, NAMED, QueryTokenizer};
use crate::error::{Error, Result};

/// A pair seen once is chance, not language.
const MINIMUM_FREQUENCY: u64 = 2;

/// Trains a tokenizer of at most `vocabulary` ids: special tokens, all 256 bytes, then merges by frequency.
///
/// Deterministic: ties go to the pair of lower ids, whatever order the texts come in.
///
/// # Errors
/// When `vocabulary` has no room for the special tokens and the bytes.
pub fn train(texts: impl Iterator<Item = String>, vocabulary: usize) -> Result<QueryTokenizer> {
    let mut names: Vec<String> = NAMED.iter().map(ToString::to_string).collect();
    names.extend((0..LOCATIONS).map(|k| format!("<loc_{k}>")));
    let mut bytes: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    bytes.sort_unstable();
    names.extend(bytes.iter().map(ToString::to_string));
    if names.len() > vocabulary {
        return Err(Error::Tokenizer(format!(
            "training: expected a vocabulary of at least {}, got {vocabulary}",
            names.len()
        )));
    }
    let ids: HashMap<char, u32> = names
        .iter()
        .zip(0u32..)
        .filter(|(n, _)| n.chars().count() == 1)
        .filter_map(|(n, id)| Some((n.chars().next()?, id)))
        .collect();

    let untrained = assemble(&names, &[])?;
    let mut words: Vec<(Vec<u32>, u64)> = count_words(&untrained.inner, texts)?
        .into_iter()
        .map(|(word, count)| (word.chars().filter_map(|c| ids.get(&c).copied()).collect(), count))
        .collect();
    let mut merges = Vec::new();
    while names.len() < vocabulary {
        let Some(pair) = most_frequent_pair(&words) else { break };
        let joined = format!("{}{}", names[pair.0 as usize], names[pair.1 as usize]);
        merges.push([names[pair.0 as usize].clone(), names[pair.1 as usize].clone()]);
        // Two ways to the same spelling share one id, or the vocabulary would hold it twice.
        let id = match names.iter().position(|n| *n == joined) {
            Some(known) => known as u32,
            None => {
                names.push(joined);
                names.len() as u32 - 1
            }
        };
        for (word, _) in &mut words {
            merge(word, pair, id);
        }
    }
    assemble(&names, &merges)
}

/// The tokenizer of a vocabulary in id order and its merges in rank order.
fn assemble(names: &[String], merges: &[[String; 2]]) -> Result<QueryTokenizer> {
    let vocabulary: BTreeMap<&str, usize> = names.iter().map(String::as_str).zip(0..).collect();
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": merges,
        },
    });
    QueryTokenizer::from_json(file.to_string().as_bytes(), "the trained tokenizer")
}

/// How often each word occurs, in the byte spelling that the pre-tokenizer gives.
fn count_words(tokenizer: &Tokenizer, texts: impl Iterator<Item = String>) -> Result<BTreeMap<String, u64>> {
    let failed = |error| Error::Tokenizer(format!("splitting a training text: {error}"));
    let mut counts = BTreeMap::new();
    for text in texts {
        let mut normalized = NormalizedString::from(text);
        if let Some(normalizer) = tokenizer.get_normalizer() {
            normalizer.normalize(&mut normalized).map_err(failed)?;
        }
        let mut split = PreTokenizedString::from(normalized);
        if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut split).map_err(failed)?;
        }
        for (word, _, _) in split.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            *counts.entry(word.to_owned()).or_insert(0) += 1;
        }
    }
    Ok(counts)
}

fn most_frequent_pair(words: &[(Vec<u32>, u64)]) -> Option<(u32, u32)> {
    let mut counts: HashMap<(u32, u32), u64> = HashMap::new();
    for (word, count) in words {
        for pair in word.windows(2) {
            *counts.entry((pair[0], pair[1])).or_default() += count;
        }
    }
    counts
        .into_iter()
        .filter(|&(_, count)| count >= MINIMUM_FREQUENCY)
        .max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0)))
        .map(|(pair, _)| pair)
}

/// Replaces every occurrence of `pair`, left to right, by `id`.
fn merge(word: &mut Vec<u32>, pair: (u32, u32), id: u32) {
    let mut kept = 0;
    let mut at = 0;
    while at < word.len() {
        if at + 1 < word.len() && (word[at], word[at + 1]) == pair {
            word[kept] = id;
            at += 2;
        } else {
            word[kept] = word[at];
            at += 1;
        }
        kept += 1;
    }
    word.truncate(kept);
}
