//! kestrel-s: a multimodal language model that answers with a mask, written once against [`Ops`](crate::ops::Ops).
//!
//! Topology (Sa2VA, arXiv 2501.04001): vision trunk → projector → decoder language model → hidden state at `[SEG]`
//! → SAM-2-style mask decoder. Three functions, three graphs: [`vision`], [`language`], [`mask`]; between the
//! first and the last, [`kestrel_perception::proposals`] picks the things that stand out. A fourth, [`step`], is the
//! language model again, row by row behind a cache, for answers that are decoded.

mod auxiliary;
mod choice;
mod compare;
mod decoder;
pub mod generate;
mod language;
mod likeness;
pub mod pack;
mod positions;
mod ranks;
mod scale;
mod step;
mod things;
pub mod trunk;
mod vision;

pub use auxiliary::{Names, names_of_anchors, names_of_places, names_of_tokens, names_of_wishes, reading};
pub use choice::Choice;
pub use compare::{Compared, Proposals, compare};
pub use decoder::{decode, mask};
pub use language::{language, language_told, words};
pub use likeness::{Keys, Likeness, Wishes, blank, keys, likeness, product, wishes};
pub use step::{rows, step};
pub use things::{Told, location_codes, mixed, told};
pub use vision::vision;

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Sizes of the model. Every field is part of a checkpoint: parameters of another configuration do not load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Side of the square input in pixels, a multiple of 32. The parameters do not depend on it.
    pub image: usize,
    /// Pieces of the tokenizer.
    pub vocabulary: usize,
    /// Longest token sequence of one query, `<answer>` and `[SEG]` included.
    pub max_tokens: usize,
    /// Width of the language model.
    pub language_width: usize,
    /// Decoder layers of the language model.
    pub language_layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads (grouped-query attention).
    pub kv_heads: usize,
    /// Width inside SwiGLU.
    pub feed_forward: usize,
    /// Width of the stride-16 embedding and of the `[SEG]` state.
    pub mask_width: usize,
    /// Width of the stride-4 features.
    pub fine_width: usize,
    /// Two-way layers of the mask decoder.
    pub mask_layers: usize,
    /// Heads of its attentions, which run at half of `mask_width`.
    pub mask_heads: usize,
    /// Layers that compare proposals, at least one, with as many heads.
    #[serde(default = "compare_layers")]
    pub compare_layers: usize,
    /// Names that places and words share in training; the heads that score them are dropped at export.
    pub auxiliary: usize,
    /// Whether what stands out is told to the language model before it answers with reasons, and may be pointed at where
    /// it writes a location. Fast answers do not hear of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub things: bool,
    /// Side of the input at which the parameters were learnt, where `image` is another; see [`Config::at`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learnt_at: Option<usize>,
}

fn compare_layers() -> usize {
    3
}

impl Config {
    /// The student that flies: about 7 million parameters.
    pub fn kestrel_s() -> Self {
        Self {
            image: 512,
            vocabulary: 2048,
            max_tokens: 48,
            language_width: 256,
            language_layers: 4,
            heads: 8,
            kv_heads: 2,
            feed_forward: 640,
            mask_width: 128,
            fine_width: 32,
            mask_layers: 2,
            mask_heads: 4,
            compare_layers: 3,
            auxiliary: 32,
            things: false,
            learnt_at: None,
        }
    }

    /// The same topology, small enough for tests: the trunk keeps its widths, all else shrinks.
    pub fn tiny() -> Self {
        Self {
            image: 64,
            vocabulary: 512,
            max_tokens: 16,
            language_width: 32,
            language_layers: 2,
            heads: 4,
            kv_heads: 2,
            feed_forward: 48,
            mask_width: 32,
            fine_width: 16,
            mask_layers: 1,
            mask_heads: 2,
            compare_layers: 1,
            auxiliary: 32,
            things: false,
            learnt_at: None,
        }
    }

    /// Keys and values that a cache keeps of every row: two of each layer, and two more for pointing.
    pub fn planes(&self) -> usize {
        2 * (self.language_layers + usize::from(self.things))
    }

    /// Whether a model that is told of things is wide enough for them; one that is not has any size.
    ///
    /// # Errors
    /// When it is not.
    pub fn tells_things(&self) -> Result<()> {
        if self.things { things::fits(self) } else { Ok(()) }
    }

    /// Width of a row's keys, and of its values.
    pub fn kv_width(&self) -> usize {
        self.language_width / self.heads * self.kv_heads
    }

    /// Side of the grid of image tokens (stride 32).
    pub fn token_side(&self) -> usize {
        self.image / 32
    }

    /// Side of the mask decoder's embedding (stride 16).
    pub fn embed_side(&self) -> usize {
        self.image / 16
    }

    /// Side of the grid of spots (stride 8).
    pub fn spot_side(&self) -> usize {
        self.image / 8
    }

    /// Side of the mask logits (stride 4).
    pub fn mask_side(&self) -> usize {
        self.image / 4
    }
}

/// What the vision graph gives.
#[derive(Debug, Clone)]
pub struct Seen<T> {
    /// Position-encoded image tokens, rows `[N, (S/32)², language_width]`.
    pub tokens: T,
    /// Stride-16 embedding, rows `[N, (S/16)², mask_width]`.
    pub embed: T,
    /// Stride-4 features, rows `[N, (S/4)², fine_width]`.
    pub fine: T,
    /// What stands in every stride-8 cell, rows `[N, (S/8)², SPOT]`: see [`kestrel_perception::proposals`].
    pub spots: T,
}

/// Packed queries as tensors, see [`pack::Packed`].
#[derive(Clone)]
pub struct PackedTensors<T> {
    /// Integer `[B, P]`.
    pub ids: T,
    /// Integer `[B, Q]`: where each query's `<answer>` stands among the P text tokens; `[SEG]` follows it.
    pub index: T,
    /// Additive `[B or 1, I+P, I+P]`.
    pub mask: T,
    /// `[B or 1, I+P, d/2]`.
    pub cos: T,
    /// `[B or 1, I+P, d/2]`.
    pub sin: T,
}

/// What the language graph gives.
#[derive(Clone)]
pub struct Said<T> {
    /// Next-token logits at `<answer>`, `[B, Q, vocabulary]`.
    pub logits: T,
    /// The `[SEG]` state, `[B, Q, mask_width]`.
    pub seg: T,
    /// Logit that a text token belongs to a word without sense, `[B, P, 1]`.
    pub doubt: T,
    /// Where the rows of `logits` look for a location, `[B, Q, L]`: logits of the L rows, image tokens, things and words;
    /// `None` where the model was not told of things. Nothing but training asks for it.
    pub looks: Option<T>,
}

/// Keys and values of the rows that one layer has read, `[B, L, kv_width]` each; keys are rotated to their positions.
#[derive(Debug, Clone)]
pub struct KeyValue<T> {
    /// What queries are held against.
    pub keys: T,
    /// What they take.
    pub values: T,
}

/// Rows that [`step`] reads next.
#[derive(Debug, Clone)]
pub struct Next<T> {
    /// Image tokens or [`words`], `[B, T, language_width]`.
    pub rows: T,
    /// Additive `[B or 1, T, length+T]`: the places of the cache, then the rows themselves.
    pub mask: T,
    /// `[B or 1, T, d/2]`.
    pub cos: T,
    /// `[B or 1, T, d/2]`.
    pub sin: T,
    /// Where the things of the rows are, [`Told::places`]; `None` where the model is told of none.
    pub places: Option<T>,
}

/// What [`step`] gives.
#[derive(Debug, Clone)]
pub struct Stepped<T> {
    /// Next-token logits at every row, `[B, T, vocabulary]`.
    pub logits: T,
    /// Every row as a `[SEG]` state, `[B, T, mask_width]`.
    pub seg: T,
    /// What each layer's cache is to keep of the rows, and behind them what pointing is.
    pub new: Vec<KeyValue<T>>,
}

/// What the mask graph gives.
#[derive(Clone)]
pub struct Masks<T> {
    /// Mask logits `[N·Q, (S/4)², 1]`, row-major.
    pub mask: T,
    /// Logit of the predicted IoU, `[N·Q, 1, 1]`.
    pub iou: T,
    /// Object logit, `[N·Q, 1, 1]`.
    pub object: T,
}
