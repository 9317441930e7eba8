//! Compares what stands out in a view with the words and with each other: which of these is meant.
//!
//! A mask decoder sees places; "the second truck from the left" and "the car next to the bus" are about things. So the
//! proposals of [`kestrel_perception::proposals`] become tokens, each with its names, its place, the words, and how far
//! its names are those that the words ask for, as target and as anchor. They attend to each other, and each says whether
//! it is meant (regions as tokens: Ma et al., Groma, arXiv 2404.13013).

use kestrel_perception::proposals::{NAMES, SPOT};

use super::ranks::{Ranked, ranks};
use super::{Config, Wishes, names_of_anchors, names_of_wishes, wishes};
use crate::error::Result;
use crate::ops::{Act, Init, Ops};

const EPS: f32 = 1e-5;
/// Categories among the shared names, which the background follows.
const CATEGORIES: usize = 20;

/// Proposals as tensors, K of them.
#[derive(Clone)]
pub struct Proposals<T> {
    /// Logits of names, `[N, K, NAMES]`.
    pub names: T,
    /// Places and sizes, `[N, K, CODE]`.
    pub codes: T,
    /// Shares of rows and columns that the boxes cover, of the grids of stride 16 and 4: `[N, 2·(S/16) + 2·(S/4), K]`.
    pub extents: T,
    /// Additive attention `[N or 1, K + 1, K + 1]`; the first place is the query's own.
    pub attention: T,
}

/// What comparing gives.
///
/// Words for one thing have one answer, words for all of a kind have any number: there are two pointers, and `single`
/// says which of them counts.
#[derive(Clone)]
pub struct Compared<T> {
    /// Probability that a proposal is meant, `[N·Q, 1, K]`.
    pub meant: T,
    /// Logit that a proposal is meant, whatever the others are, `[N·Q, 1, K]`.
    pub pointer: T,
    /// Logits that a proposal is the one that is meant, the first of them that none is, `[N·Q, 1, K + 1]`.
    pub choice: T,
    /// Logit that one thing is meant, not several, `[N·Q, 1, 1]`.
    pub single: T,
    /// Logit that a proposal is of the kind that the words compare, `[N·Q, 1, K]`.
    pub alike: T,
    /// Logits that the words relate their target to a proposal, the first of them to nothing, `[N·Q, 1, K + 1]`.
    pub anchor: T,
    /// Logit that anything is meant, `[N·Q, 1, 1]`.
    pub found: T,
    /// What the query learnt, `[N·Q, 1, mask_width]`.
    pub summary: T,
}

/// What stands in every stride-8 cell, `[N, (S/8)², SPOT]`, from the pyramid's map there.
pub(super) fn spots<O: Ops>(ops: &mut O, config: &Config, p8: &O::T) -> Result<O::T> {
    let rows = ops.to_rows(p8)?;
    let hidden = ops.linear(&rows, "proposals.hidden", config.mask_width / 2, true, Act::Relu)?;
    ops.linear(&hidden, "proposals.out", SPOT, true, Act::None)
}

/// Compares N views' proposals for `queries` queries each, given their states `seg [N·queries, 1, mask_width]`.
pub fn compare<O: Ops>(
    ops: &mut O,
    config: &Config,
    proposals: &Proposals<O::T>,
    seg: &O::T,
    queries: usize,
) -> Result<Compared<O::T>> {
    let width = config.mask_width;
    let (count, most) = (ops.shape(seg)[0], ops.shape(&proposals.codes)[1]);
    let things = things(ops, config, proposals, seg, queries)?;
    let own = ops.parameter("compare.query", &[1, 1, width], Init::Normal(0.5))?;
    let own = ops.repeat_batch(&own, count)?;
    let asked = ops.linear(seg, "compare.asked", width, true, Act::None)?;
    let own = ops.add(&own, &asked)?;
    let mut x = ops.concat(&[own, things], 1)?;
    let views = ops.shape(&proposals.attention)[0];
    let attention =
        if views == 1 { proposals.attention.clone() } else { ops.repeat_batch(&proposals.attention, queries)? };
    let hidden = ops.narrow(&attention, 1, 0, 1)?;
    let hidden = ops.narrow(&hidden, 2, 1, most)?;
    x = encoder_layer(ops, config, &x, &attention, "compare.layers.0")?;
    let (own, things) = (ops.narrow(&x, 1, 0, 1)?, ops.narrow(&x, 1, 1, most)?);
    let Ranked { learnt, alike, anchor } = ranks(ops, config, proposals, [&own, &things, seg, &hidden], queries)?;
    let things = ops.add(&things, &learnt)?;
    let mut x = ops.concat(&[own, things], 1)?;
    for layer in 1..config.compare_layers {
        x = encoder_layer(ops, config, &x, &attention, &format!("compare.layers.{layer}"))?;
    }
    let x = ops.layer_norm(&x, "compare.norm", EPS)?;
    let own = ops.narrow(&x, 1, 0, 1)?;
    let things = ops.narrow(&x, 1, 1, most)?;
    let pointer = ops.linear(&things, "compare.pointer", 1, true, Act::None)?;
    let pointer = ops.reshape(&pointer, &[count, 1, most])?;
    let chosen = ops.linear(&things, "compare.choice", 1, true, Act::None)?;
    let chosen = ops.reshape(&chosen, &[count, 1, most])?;
    let chosen = ops.add(&chosen, &hidden)?;
    let nothing = ops.linear(&own, "compare.no_choice", 1, true, Act::None)?;
    let choice = ops.concat(&[nothing, chosen], 2)?;
    let single = ops.linear(&own, "compare.single", 1, true, Act::None)?;
    Ok(Compared {
        meant: meant(ops, [&pointer, &choice, &single])?,
        pointer,
        choice,
        single,
        alike,
        anchor,
        found: ops.linear(&own, "compare.found", 1, true, Act::None)?,
        summary: ops.linear(&own, "compare.summary", width, true, Act::None)?,
    })
}

/// `σ(single) · softmax(choice) + σ(−single) · σ(pointer)`.
fn meant<O: Ops>(ops: &mut O, [pointer, choice, single]: [&O::T; 3]) -> Result<O::T> {
    let most = ops.shape(pointer)[2];
    let chosen = ops.softmax(choice)?;
    let chosen = ops.narrow(&chosen, 2, 1, most)?;
    let each = ops.activate(pointer, Act::Sigmoid)?;
    let one = ops.activate(single, Act::Sigmoid)?;
    let several = ops.scale(single, -1.0)?;
    let several = ops.activate(&several, Act::Sigmoid)?;
    let chosen = ops.mul(&chosen, &one)?;
    let each = ops.mul(&each, &several)?;
    ops.add(&chosen, &each)
}

/// Tokens of the proposals, `[N·queries, K, mask_width]`.
fn things<O: Ops>(
    ops: &mut O,
    config: &Config,
    proposals: &Proposals<O::T>,
    seg: &O::T,
    queries: usize,
) -> Result<O::T> {
    let width = config.mask_width;
    let names = ops.activate(&proposals.names, Act::Sigmoid)?;
    let look = ops.linear(&names, "compare.look", width, true, Act::None)?;
    let place = ops.linear(&proposals.codes, "compare.place", width, true, Act::Relu)?;
    let place = ops.linear(&place, "compare.place_mix", width, false, Act::None)?;
    let plain = ops.add(&look, &place)?;
    let mut tokens = ops.repeat_batch(&plain, queries)?;
    let names = ops.repeat_batch(&names, queries)?;
    let wishes: Wishes<O::T> = wishes(ops, config, seg)?;
    let wanted = names_of_wishes(ops, config, &wishes)?.coarse;
    let anchor = names_of_anchors(ops, config, &wishes)?;
    for (asked, name) in [(wanted, "compare.wanted"), (anchor, "compare.anchor")] {
        let asked = nameable(ops, &asked)?;
        let alike = ops.mul(&names, &asked)?;
        let alike = ops.linear(&alike, name, width, false, Act::None)?;
        tokens = ops.add(&tokens, &alike)?;
    }
    let words = ops.linear(seg, "compare.words", width, false, Act::None)?;
    ops.add(&tokens, &words)
}

/// The categories and colours among the shared names, as probabilities.
fn nameable<O: Ops>(ops: &mut O, names: &O::T) -> Result<O::T> {
    let categories = ops.narrow(names, 2, 0, CATEGORIES)?;
    let colours = ops.narrow(names, 2, CATEGORIES + 1, NAMES - CATEGORIES)?;
    let both = ops.concat(&[categories, colours], 2)?;
    ops.activate(&both, Act::Sigmoid)
}

/// A pre-norm transformer encoder layer (Xiong et al., arXiv 2002.04745).
fn encoder_layer<O: Ops>(ops: &mut O, config: &Config, x: &O::T, attention: &O::T, name: &str) -> Result<O::T> {
    let width = config.mask_width;
    let normed = ops.layer_norm(x, &format!("{name}.norm1"), EPS)?;
    let q = ops.linear(&normed, &format!("{name}.q_proj"), width, true, Act::None)?;
    let k = ops.linear(&normed, &format!("{name}.k_proj"), width, true, Act::None)?;
    let v = ops.linear(&normed, &format!("{name}.v_proj"), width, true, Act::None)?;
    let mixed = ops.attention(&q, &k, &v, config.mask_heads, config.mask_heads, Some(attention))?;
    let mixed = ops.linear(&mixed, &format!("{name}.out_proj"), width, true, Act::None)?;
    let x = ops.add(x, &mixed)?;
    let normed = ops.layer_norm(&x, &format!("{name}.norm2"), EPS)?;
    let hidden = ops.linear(&normed, &format!("{name}.mlp.in"), 2 * width, true, Act::Relu)?;
    let hidden = ops.linear(&hidden, &format!("{name}.mlp.out"), width, true, Act::None)?;
    ops.add(&x, &hidden)
}

/// How much of every cell the meant proposals' boxes cover.
pub(super) struct Pointed<T> {
    /// At stride 16, `[N·Q, (S/16)², 1]`.
    pub(super) coarse: T,
    /// At stride 4, `[N·Q, (S/4)², 1]`.
    pub(super) fine: T,
}

/// Lays the boxes of the meant proposals over the grids: `Σₖ pₖ · rowₖ(y) · columnₖ(x)`.
pub(super) fn pointed<O: Ops>(
    ops: &mut O,
    config: &Config,
    proposals: &Proposals<O::T>,
    meant: &O::T,
    queries: usize,
) -> Result<Pointed<O::T>> {
    let (coarse, fine) = (config.embed_side(), config.mask_side());
    let count = ops.shape(meant)[0];
    let extents = ops.repeat_batch(&proposals.extents, queries)?;
    let lay = |ops: &mut O, from: usize, side: usize| -> Result<O::T> {
        let rows = ops.narrow(&extents, 1, from, side)?;
        let rows = ops.mul(&rows, meant)?;
        let columns = ops.narrow(&extents, 1, from + side, side)?;
        let laid = ops.matmul_t(&rows, &columns)?;
        ops.reshape(&laid, &[count, side * side, 1])
    };
    Ok(Pointed { coarse: lay(ops, 0, coarse)?, fine: lay(ops, 2 * coarse, fine)? })
}
