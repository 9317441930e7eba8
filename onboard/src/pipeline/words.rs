//! From an operator's words to token ids.

use kestrel_link::{AnswerTokens, Hint};
use kestrel_perception::{ReasonedIds, SpecialIds, TokenLayout, layout};
use tokenizers::Tokenizer;

use super::SegmentError;

/// The bundle's tokenizer and the ids of what carries no words.
pub(super) struct Words {
    tokenizer: Tokenizer,
    special: SpecialIds,
    max_tokens: usize,
}

/// A query's tokens, before a hint is put beside them.
pub(super) struct Tokens {
    /// The text that the offsets refer to.
    pub(super) text: String,
    ids: Vec<u32>,
    /// Byte range in `text` of each token.
    pub(super) offsets: Vec<(usize, usize)>,
}

impl Words {
    pub(super) fn load(json: &[u8], answers: &AnswerTokens, max_tokens: usize) -> Result<Self, SegmentError> {
        let failed = |why: String| SegmentError::Tokenizer { why };
        let tokenizer = Tokenizer::from_bytes(json).map_err(|error| failed(error.to_string()))?;
        let id = |token: &str| {
            tokenizer
                .token_to_id(token)
                .ok_or_else(|| failed(format!("expected the token {token}, got a vocabulary without it")))
        };
        let special =
            SpecialIds::find(|token| tokenizer.token_to_id(token)).map_err(|error| failed(error.to_string()))?;
        for (token, expected) in [
            ("<pad>", answers.pad),
            ("<answer>", answers.answer),
            ("[SEG]", answers.seg),
            ("<none:absent>", answers.absent),
            ("<none:ambiguous>", answers.ambiguous),
            ("<none:not_understood>", answers.not_understood),
            ("<none:unseeable>", answers.unseeable),
        ] {
            let got = id(token)?;
            if got != expected {
                return Err(failed(format!("expected {token} at the manifest's id {expected}, got {got}")));
            }
        }
        Ok(Self { tokenizer, special, max_tokens })
    }

    pub(super) fn encode(&self, text: &str) -> Result<Tokens, SegmentError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Tokens { text: String::new(), ids: Vec::new(), offsets: Vec::new() });
        }
        let encoding =
            self.tokenizer.encode(text, false).map_err(|error| SegmentError::Tokenizer { why: error.to_string() })?;
        Ok(Tokens { text: text.to_owned(), ids: encoding.get_ids().to_vec(), offsets: encoding.get_offsets().to_vec() })
    }

    /// The ids that a reasoned answer is made of.
    pub(super) fn reasoned(&self) -> Result<ReasonedIds, SegmentError> {
        ReasonedIds::find(|token| self.tokenizer.token_to_id(token))
            .map_err(|error| SegmentError::Tokenizer { why: error.to_string() })
    }

    /// Number of ids in use.
    pub(super) fn vocabulary(&self) -> u32 {
        self.tokenizer.get_vocab_size(true) as u32
    }

    /// Text of ids; special tokens are spelled out.
    pub(super) fn decode(&self, ids: &[u32]) -> Result<String, SegmentError> {
        self.tokenizer.decode(ids, false).map_err(|error| SegmentError::Tokenizer { why: error.to_string() })
    }

    /// Text that one more token adds. `pending` holds those of a character that is not whole yet.
    pub(super) fn tell(&self, pending: &mut Vec<u32>, id: u32) -> Result<String, SegmentError> {
        pending.push(id);
        let text = self.decode(pending)?;
        // No character has more bytes than four, and no token has less than one.
        if text.ends_with(char::REPLACEMENT_CHARACTER) && pending.len() < 4 {
            return Ok(String::new());
        }
        pending.clear();
        Ok(text)
    }

    /// The language graph's `ids`, with the place of `<answer>`.
    pub(super) fn layout(&self, tokens: &Tokens, hint: Option<&Hint>) -> TokenLayout {
        layout(&tokens.ids, hint, &self.special, self.max_tokens)
    }
}
