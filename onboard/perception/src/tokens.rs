//! From words and a hint to the model's token ids, and from per-token doubts back to words.

use kestrel_link::Hint;

/// Number of location tokens along one side of the model's input.
pub const LOCATIONS: u32 = 64;

/// Fewest tokens that hold a box hint, the answer and `[SEG]`.
const SHORTEST: usize = 7;

/// Ids of the tokens that carry no words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialIds {
    /// `<pad>`.
    pub pad: u32,
    /// `<answer>`.
    pub answer: u32,
    /// `[SEG]`.
    pub seg: u32,
    /// `<point>`.
    pub point: u32,
    /// `<box>`.
    pub bounding_box: u32,
    /// `<loc_0>`; the other locations follow it.
    pub first_location: u32,
}

/// A vocabulary that is not the model's: a token is missing, or has another id than it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {got}")]
pub struct VocabularyError {
    /// The token, with its id where that is given.
    pub expected: String,
    /// What is there.
    pub got: String,
}

/// The id of a token that must be there.
pub(crate) fn known(id: &impl Fn(&str) -> Option<u32>, token: &str) -> Result<u32, VocabularyError> {
    id(token).ok_or_else(|| VocabularyError {
        expected: format!("the token {token}"),
        got: "a vocabulary without it".to_owned(),
    })
}

impl SpecialIds {
    /// Finds the tokens in a vocabulary; `id` gives the id of a spelling.
    ///
    /// # Errors
    /// When one is missing, or the locations are not in a row.
    pub fn find(id: impl Fn(&str) -> Option<u32>) -> Result<Self, VocabularyError> {
        let first_location = known(&id, "<loc_0>")?;
        for bin in 1..LOCATIONS {
            let token = format!("<loc_{bin}>");
            let (got, expected) = (known(&id, &token)?, first_location.saturating_add(bin));
            if got != expected {
                return Err(VocabularyError { expected: format!("{token} at id {expected}"), got: got.to_string() });
            }
        }
        Ok(Self {
            pad: known(&id, "<pad>")?,
            answer: known(&id, "<answer>")?,
            seg: known(&id, "[SEG]")?,
            point: known(&id, "<point>")?,
            bounding_box: known(&id, "<box>")?,
            first_location,
        })
    }
}

/// Token ids of one query, ready for the language graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenLayout {
    /// Words, hint, `<answer>`, `[SEG]`, then `<pad>`: exactly the length asked.
    pub ids: Vec<i64>,
    /// Position of `<answer>` in `ids`; `[SEG]` follows it.
    pub answer_index: usize,
    /// Word tokens that did not fit and were left out at the end.
    pub cut: usize,
}

impl TokenLayout {
    /// Number of tokens before the padding.
    #[must_use]
    pub fn used(&self) -> usize {
        self.answer_index + 2
    }
}

/// Lays out `word_ids` and a hint (in fractions of the model's input) as `max` token ids.
///
/// Words beyond the room left by the hint, `<answer>` and `[SEG]` are cut and counted.
/// `max` is raised to 7 when it is less, the room that a box hint needs.
#[must_use]
pub fn layout(word_ids: &[u32], hint: Option<&Hint>, special: &SpecialIds, max: usize) -> TokenLayout {
    let max = max.max(SHORTEST);
    let location = |fraction: f32| special.first_location + location(fraction);
    let (hint_ids, hint_length) = match hint {
        None => ([0; 5], 0),
        Some(&Hint::Point { x, y }) => ([special.point, location(x), location(y), 0, 0], 3),
        Some(&Hint::Box { x0, y0, x1, y1 }) => {
            ([special.bounding_box, location(x0), location(y0), location(x1), location(y1)], 5)
        }
    };
    let kept = word_ids.len().min(max - 2 - hint_length);
    let mut ids = Vec::with_capacity(max);
    ids.extend(word_ids[..kept].iter().chain(&hint_ids[..hint_length]).map(|&id| i64::from(id)));
    let answer_index = ids.len();
    ids.extend([i64::from(special.answer), i64::from(special.seg)]);
    ids.resize(max, i64::from(special.pad));
    TokenLayout { ids, answer_index, cut: word_ids.len() - kept }
}

/// The location 0..64 that a fraction of the input falls into; what lies outside goes to the nearest.
#[must_use]
pub fn location(fraction: f32) -> u32 {
    // `as` sends NaN and what is below zero to 0.
    ((fraction * LOCATIONS as f32).floor() as u32).min(LOCATIONS - 1)
}

/// How much the model doubts that a word means anything.
#[derive(Debug, Clone, PartialEq)]
pub struct WordDoubt {
    /// The word as it was typed.
    pub word: String,
    /// Mean over the word's tokens of the doubt logit.
    pub logit: f32,
}

/// Doubts of the words of `text`, in their order.
///
/// `offsets` are the byte ranges of the word tokens in `text`, as the tokenizer gives them;
/// `doubt` holds one logit per token. Tokens beyond the shorter of both were cut, and words without a token are left out.
/// The mean, not the maximum, because one odd piece in a mistyped word is no reason to refuse it.
#[must_use]
pub fn word_doubts(text: &str, offsets: &[(usize, usize)], doubt: &[f32]) -> Vec<WordDoubt> {
    let mut doubts = Vec::new();
    word_doubts_into(text, offsets, doubt, &mut doubts);
    doubts
}

/// As [`word_doubts`], over what `doubts` held and in its memory.
pub fn word_doubts_into(text: &str, offsets: &[(usize, usize)], doubt: &[f32], doubts: &mut Vec<WordDoubt>) {
    let mut used = 0;
    for word in text.split_whitespace() {
        let start = word.as_ptr() as usize - text.as_ptr() as usize;
        let end = start + word.len();
        let (mut sum, mut count) = (0.0, 0_u32);
        for (&(from, to), &logit) in offsets.iter().zip(doubt) {
            if from < end && to > start {
                sum += logit;
                count += 1;
            }
        }
        if count == 0 {
            continue;
        }
        let logit = sum / count as f32;
        match doubts.get_mut(used) {
            Some(known) => {
                word.clone_into(&mut known.word);
                known.logit = logit;
            }
            None => doubts.push(WordDoubt { word: word.to_owned(), logit }),
        }
        used += 1;
    }
    doubts.truncate(used);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const SPECIAL: SpecialIds =
        SpecialIds { pad: 0, answer: 1, seg: 2, point: 3, bounding_box: 4, first_location: 100 };

    #[test]
    fn words_then_hint_then_answer_then_padding() {
        let hint = Hint::Box { x0: 0.0, y0: 0.5, x1: 0.999, y1: 1.0 };
        let layout = layout(&[50, 51], Some(&hint), &SPECIAL, 12);
        assert_eq!(layout.ids, [50, 51, 4, 100, 132, 163, 163, 1, 2, 0, 0, 0]);
        assert_eq!((layout.answer_index, layout.cut, layout.used()), (7, 0, 9));
    }

    #[test]
    fn long_queries_lose_words_and_never_the_hint_or_the_answer() {
        let words: Vec<u32> = (200..300).collect();
        let layout = layout(&words, Some(&Hint::Point { x: 0.25, y: 0.75 }), &SPECIAL, 48);
        assert_eq!(layout.ids.len(), 48);
        assert_eq!(layout.cut, 100 - 43);
        assert_eq!(layout.ids[43..], [3, 116, 148, 1, 2]);
    }

    #[test]
    fn locations_are_clipped() {
        assert_eq!([-1.0, 0.0, 0.5, 1.0, 7.0, f32::NAN].map(location), [0, 0, 32, 63, 63, 0]);
    }

    #[test]
    fn doubt_belongs_to_the_word_that_holds_the_token() {
        // "the flörp car", cut as the|·flö|rp|·car with the blank inside the following token.
        let text = "the flörp car";
        let offsets = [(0, 3), (3, 8), (8, 10), (10, 14)];
        let doubts = word_doubts(text, &offsets, &[-4.0, 2.0, 4.0, -3.0]);
        let logits: Vec<_> = doubts.iter().map(|doubt| (doubt.word.as_str(), doubt.logit)).collect();
        assert_eq!(logits, [("the", -4.0), ("flörp", 3.0), ("car", -3.0)]);
        let mut again = doubts.clone();
        word_doubts_into("a car", &[(0, 1), (1, 5)], &[1.0, 2.0], &mut again);
        assert_eq!(again, word_doubts("a car", &[(0, 1), (1, 5)], &[1.0, 2.0]), "nothing is left of what was there");
    }

    proptest! {
        #[test]
        fn layout_always_holds_answer_and_seg(words in prop::collection::vec(200_u32..2000, 0..120), kind in 0..3, x in -1.0_f32..2.0, max in 0_usize..64) {
            let hint = match kind {
                0 => None,
                1 => Some(Hint::Point { x, y: x }),
                _ => Some(Hint::Box { x0: x, y0: x, x1: x, y1: x }),
            };
            let layout = layout(&words, hint.as_ref(), &SPECIAL, max);
            prop_assert_eq!(layout.ids.len(), max.max(7));
            prop_assert_eq!(layout.ids[layout.answer_index], 1);
            prop_assert_eq!(layout.ids[layout.answer_index + 1], 2);
            prop_assert!(layout.ids[layout.used()..].iter().all(|&id| id == 0));
            let kept = layout.ids.iter().filter(|&&id| id >= 200).count();
            prop_assert_eq!(kept + layout.cut, words.len());
        }
    }
}
