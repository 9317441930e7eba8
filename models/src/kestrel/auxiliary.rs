//! Heads that teach in training and are dropped at export. The trainer says what each output means.

use super::{Config, Keys, Seen, Wishes};
use crate::error::Result;
use crate::ops::{Act, Ops};

/// Logits of the same names for places and for words.
#[derive(Clone)]
pub struct Names<T> {
    /// `[N, L, auxiliary]` at stride 16, or of coarse wishes.
    pub coarse: T,
    /// `[N, L, auxiliary]` at stride 4, or of fine wishes.
    pub fine: T,
}

/// What stands in every place.
pub fn names_of_places<O: Ops>(ops: &mut O, config: &Config, keys: &Keys<O::T>) -> Result<Names<O::T>> {
    names(ops, config, &keys.coarse, &keys.fine)
}

/// What is wished for.
pub fn names_of_wishes<O: Ops>(ops: &mut O, config: &Config, wishes: &Wishes<O::T>) -> Result<Names<O::T>> {
    names(ops, config, &wishes.coarse, &wishes.fine)
}

/// What the words relate their target to, `[N, Q, auxiliary]`.
pub fn names_of_anchors<O: Ops>(ops: &mut O, config: &Config, wishes: &Wishes<O::T>) -> Result<O::T> {
    ops.linear(&wishes.anchor, "auxiliary.names_coarse", config.auxiliary, false, Act::None)
}

fn names<O: Ops>(ops: &mut O, config: &Config, coarse: &O::T, fine: &O::T) -> Result<Names<O::T>> {
    Ok(Names {
        coarse: ops.linear(coarse, "auxiliary.names_coarse", config.auxiliary, false, Act::None)?,
        fine: ops.linear(fine, "auxiliary.names_fine", config.auxiliary, false, Act::None)?,
    })
}

/// What image tokens hold, `[N, (S/32)², auxiliary]`: the language model can only compare what its tokens say.
pub fn names_of_tokens<O: Ops>(ops: &mut O, config: &Config, seen: &Seen<O::T>) -> Result<O::T> {
    ops.linear(&seen.tokens, "auxiliary.tokens", config.auxiliary, true, Act::None)
}

/// `outputs` readings of `[SEG]` states `[N, Q, mask_width]`: what the words said, part by part.
pub fn reading<O: Ops>(ops: &mut O, seg: &O::T, outputs: usize) -> Result<O::T> {
    ops.linear(seg, "auxiliary.reading", outputs, true, Act::None)
}
