//! Whether a tokenizer speaks the ids that the manifest promises.

use super::BundleError;
use kestrel_link::Manifest;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

/// The parts of a `tokenizers` file that name ids.
#[derive(Deserialize)]
struct TokenizerFile {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    model: Model,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    vocab: HashMap<String, u32>,
}

pub(super) fn check(path: &Path, bytes: &[u8], manifest: &Manifest) -> Result<(), BundleError> {
    let mismatch = |expected: String, got: String| Err(BundleError::Mismatch { path: path.to_owned(), expected, got });
    let file: TokenizerFile = match serde_json::from_slice(bytes) {
        Ok(file) => file,
        Err(error) => return mismatch("a tokenizer with a vocabulary".into(), error.to_string()),
    };
    let mut ids = file.model.vocab;
    ids.extend(file.added_tokens.into_iter().map(|token| (token.content, token.id)));
    if let Some((token, id)) = ids.iter().find(|(_, id)| **id >= manifest.vocabulary) {
        return mismatch(format!("ids below {}", manifest.vocabulary), format!("{id} for {token:?}"));
    }
    let answers = &manifest.answer_tokens;
    for (token, id) in [
        ("[SEG]", answers.seg),
        ("<none:absent>", answers.absent),
        ("<none:ambiguous>", answers.ambiguous),
        ("<none:not_understood>", answers.not_understood),
        ("<none:unseeable>", answers.unseeable),
        ("<answer>", answers.answer),
        ("<pad>", answers.pad),
    ] {
        if ids.get(token) != Some(&id) {
            return mismatch(format!("id {id} for {token}"), format!("{:?}", ids.get(token)));
        }
    }
    Ok(())
}
