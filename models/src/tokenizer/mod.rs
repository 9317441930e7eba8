//! The query tokenizer: byte-level BPE over NFKC-normalised, lower-cased text, so no text is unknown.
//!
//! The special tokens are entries of the vocabulary that no merge produces, and are not listed as added tokens:
//! an operator who types `[SEG]` or `<none:absent>` gets the letters, never the token, whichever program loads the file.

mod train;

use std::path::Path;

use kestrel_perception::{ReasonedIds, SpecialIds};
use tokenizers::Tokenizer;

use crate::error::{Error, Result};

pub use train::train;

/// How many location tokens there are along each axis.
pub const LOCATIONS: u32 = 64;

/// Named special tokens in the order of their ids from 0; the location tokens follow.
const NAMED: [&str; 12] = [
    "<pad>",
    "<answer>",
    "[SEG]",
    "<none:absent>",
    "<none:ambiguous>",
    "<none:not_understood>",
    "<none:unseeable>",
    "<point>",
    "<box>",
    "<think>",
    "</think>",
    "</answer>",
];

/// The id of `<loc_0>` in every tokenizer that is trained here.
pub const FIRST_LOCATION: u32 = NAMED.len() as u32;

/// Ids of the special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    /// `<pad>`.
    pub pad: u32,
    /// `<answer>`: its next-token logits are the answer.
    pub answer: u32,
    /// `[SEG]`.
    pub seg: u32,
    /// `<none:absent>`, `<none:ambiguous>`, `<none:not_understood>`, `<none:unseeable>`.
    pub none: [u32; 4],
    /// `<point>`, before two location tokens.
    pub point: u32,
    /// `<box>`, before four location tokens.
    pub bounding_box: u32,
    /// `<think>`.
    pub think: u32,
    /// `</think>`.
    pub think_end: u32,
    /// `</answer>`.
    pub answer_end: u32,
    /// `<loc_0>`; the other [`LOCATIONS`] − 1 follow in order.
    pub first_location: u32,
}

impl Special {
    fn of(tokenizer: &Tokenizer, origin: &str) -> Result<Self> {
        let found = ReasonedIds::find(|token| tokenizer.token_to_id(token));
        let ReasonedIds { special, none, think, think_end, answer_end } =
            found.map_err(|error| Error::Format { path: origin.into(), expected: error.expected, got: error.got })?;
        let SpecialIds { pad, answer, seg, point, bounding_box, first_location } = special;
        Ok(Self { pad, answer, seg, none, point, bounding_box, think, think_end, answer_end, first_location })
    }

    /// The location token of a fraction of the view; outside 0..1 it is clipped.
    pub fn location(&self, fraction: f32) -> u32 {
        // `as` saturates and sends NaN to 0, which is what clipping wants.
        let bin = (fraction * LOCATIONS as f32).floor() as u32;
        self.first_location + bin.min(LOCATIONS - 1)
    }

    /// The five tokens an answer can be: `[SEG]`, then the four `<none:…>`.
    pub fn answers(&self) -> [u32; 5] {
        [self.seg, self.none[0], self.none[1], self.none[2], self.none[3]]
    }
}

/// One token of a text: its id and the bytes `[start, end)` of the original text it came from.
pub type Piece = (u32, (usize, usize));

/// A trained tokenizer with its special ids.
#[derive(Debug, Clone)]
pub struct QueryTokenizer {
    inner: Tokenizer,
    special: Special,
}

impl QueryTokenizer {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// When the file cannot be read, is no tokenizer, or lacks a special token.
    pub fn load(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let bytes =
            std::fs::read(path).map_err(|source| Error::Io { operation: "read", path: shown.clone(), source })?;
        Self::from_json(&bytes, &shown)
    }

    /// Parses the bytes of a `tokenizer.json`; `origin` names them in errors.
    ///
    /// # Errors
    /// When the bytes are no tokenizer or lack a special token.
    pub fn from_json(bytes: &[u8], origin: &str) -> Result<Self> {
        let inner =
            Tokenizer::from_bytes(bytes).map_err(|error| Error::Tokenizer(format!("reading {origin}: {error}")))?;
        let special = Special::of(&inner, origin)?;
        Ok(Self { inner, special })
    }

    /// The file's text; the same tokenizer always gives the same bytes.
    ///
    /// # Errors
    /// When the tokenizers crate cannot serialise.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(true).map_err(|error| Error::Tokenizer(format!("writing: {error}")))
    }

    /// Writes `tokenizer.json`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.to_json()?).map_err(|source| Error::Io {
            operation: "write",
            path: path.display().to_string(),
            source,
        })
    }

    /// Ids of the special tokens.
    pub fn special(&self) -> &Special {
        &self.special
    }

    /// Number of ids in use; at most the size asked for in [`train`].
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of one token by its spelling in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Tokens of a text, whole, without special tokens. Offsets are bytes of `text` without surrounding blanks.
    ///
    /// # Errors
    /// When the tokenizers crate fails.
    pub fn encode(&self, text: &str) -> Result<Vec<Piece>> {
        let encoding = self
            .inner
            .encode(text, false)
            .map_err(|error| Error::Tokenizer(format!("encoding {} bytes: {error}", text.len())))?;
        Ok(encoding.get_ids().iter().copied().zip(encoding.get_offsets().iter().copied()).collect())
    }

    /// Text of ids; special tokens are spelled out.
    ///
    /// # Errors
    /// When the tokenizers crate fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, false).map_err(|error| Error::Tokenizer(format!("decoding: {error}")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use proptest::prelude::*;

    fn corpus() -> Vec<String> {
        let things = ["red car", "white truck", "swimming pool", "flat roof", "small boat", "person"];
        let places = ["on the left", "next to the road", "in the parking lot", "near the trees"];
        let mut texts = Vec::new();
        for thing in things {
            for place in places {
                texts.push(format!("the {thing} {place}"));
                texts.push(format!("Find every {thing} {place}, please!"));
            }
        }
        texts
    }

    fn trained() -> QueryTokenizer {
        train(corpus().into_iter(), 512).unwrap()
    }

    #[test]
    fn special_ids_stand_first_and_in_order() {
        let t = trained();
        let s = t.special();
        assert_eq!((s.pad, s.answer, s.seg, s.none), (0, 1, 2, [3, 4, 5, 6]));
        assert_eq!((s.point, s.bounding_box, s.think, s.think_end, s.answer_end), (7, 8, 9, 10, 11));
        assert_eq!(s.first_location, 12);
        assert_eq!(t.id("<loc_63>"), Some(75));
        assert_eq!([s.location(-1.0), s.location(0.5), s.location(1.0), s.location(f32::NAN)], [12, 44, 75, 12]);
    }

    #[test]
    fn order_of_the_texts_changes_nothing() {
        let mut reversed = corpus();
        reversed.reverse();
        let again = train(reversed.into_iter(), 512).unwrap();
        assert_eq!(trained().to_json().unwrap(), again.to_json().unwrap());
    }

    #[test]
    fn frequent_words_become_short() {
        let t = trained();
        assert_eq!(t.encode("the white truck").unwrap().len(), 3);
        assert!(t.vocabulary() <= 512 && t.vocabulary() > 332 + 50, "{}", t.vocabulary());
        // Too little text ends the merges early instead of inventing tokens.
        assert_eq!(train(["a b".to_owned()].into_iter(), 2048).unwrap().vocabulary(), 332);
        assert!(train(corpus().into_iter(), 100).is_err());
    }

    #[test]
    fn case_and_width_do_not_matter() {
        let t = trained();
        let ids = |text: &str| t.encode(text).unwrap().into_iter().map(|p| p.0).collect::<Vec<_>>();
        assert_eq!(ids("the RED car"), ids("ｔｈｅ red ｃａｒ"));
    }

    #[test]
    fn offsets_name_the_original_bytes() {
        let t = trained();
        let text = "  the Red车 car";
        for (_, (start, end)) in t.encode(text).unwrap() {
            assert!(!text[start..end].contains(' '), "{:?}", &text[start..end]);
        }
        let last = t.encode(text).unwrap().last().unwrap().1;
        assert_eq!(&text[last.0..last.1], "car");
    }

    #[test]
    fn no_text_is_unknown_and_none_makes_a_special_token() {
        let t = trained();
        let long = "weiße Großraumlimousine ".repeat(420);
        for text in [
            "the whiet trukc",
            "🚗 left of 🏠",
            "停车场里的红色汽车",
            "zxqvj",
            "naïve façade",
            "\u{0}\u{7f}",
            &long,
            "[SEG] <answer> <none:absent> <pad><loc_5></answer>",
        ] {
            let pieces = t.encode(text).unwrap();
            assert!(!pieces.is_empty());
            assert!(pieces.iter().all(|p| p.0 > 75), "{text:?} gave a special token");
        }
        assert_eq!(t.encode("").unwrap(), vec![]);
        assert!(long.len() > 10_000);
        // 10 kB of blanks: the splitting expression looks ahead.
        assert!(t.encode(&" ".repeat(10_240)).is_ok());
        assert!(t.encode(&"x".repeat(10_240)).is_ok());
    }

    #[test]
    fn file_round_trips_and_a_foreign_one_is_refused() {
        let t = trained();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        t.save(&path).unwrap();
        let back = QueryTokenizer::load(&path).unwrap();
        assert_eq!(back.encode("the red car").unwrap(), t.encode("the red car").unwrap());
        assert_eq!(back.to_json().unwrap(), t.to_json().unwrap());
        let foreign = t.to_json().unwrap().replace("[SEG]", "[GES]");
        let error = QueryTokenizer::from_json(foreign.as_bytes(), "foreign.json").unwrap_err().to_string();
        assert!(error.contains("foreign.json") && error.contains("[SEG]"), "{error}");
        assert!(QueryTokenizer::from_json(b"{}", "empty").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn plain_text_survives(text in "[a-z0-9 ,.!?é车🚗]{0,80}") {
            let t = trained();
            let ids: Vec<u32> = t.encode(&text).unwrap().into_iter().map(|p| p.0).collect();
            // The prefix space is the tokenizer's own.
            let expected = if text.is_empty() || text.starts_with(' ') { text } else { format!(" {text}") };
            prop_assert_eq!(t.decode(&ids).unwrap(), expected);
        }
    }
}
