//! The two-way mask decoder (SAM 2, arXiv 2408.00714): tokens and picture attend to each other, then a
//! per-query kernel is applied to per-query features at stride 4.
//!
//! One mask token, not SAM's three: a text query names its target, and choosing among hypotheses by predicted IoU
//! would add an error that words do not have. The mask begins as the likeness of words and places
//! ([`super::likeness`]), which the layers see as a dense prompt and then sharpen.

use super::compare::{Compared, Pointed, Proposals, compare, pointed};
use super::likeness::{Keys, Likeness, keys, likeness, place, product, wishes};
use super::{Config, Masks, Seen};
use crate::error::Result;
use crate::ops::{Act, Conv, Init, Ops};

const EPS: f32 = 1e-5;
const SMOOTH: Conv = Conv { kernel: 3, stride: 1, act: Act::None };
/// Learned tokens before the prompt: object score, predicted IoU, mask.
const LEARNED: usize = 3;

/// Compares the proposals and decodes `queries` masks for each picture from `[SEG]` states `seg [N·queries, 1, mask_width]`.
pub fn mask<O: Ops>(
    ops: &mut O,
    config: &Config,
    seen: &Seen<O::T>,
    proposals: &Proposals<O::T>,
    seg: &O::T,
    queries: usize,
) -> Result<Masks<O::T>> {
    let compared = compare(ops, config, proposals, seg, queries)?;
    decode(ops, config, seen, proposals, &compared, seg, queries)
}

/// The mask where the proposals have been compared.
pub fn decode<O: Ops>(
    ops: &mut O,
    config: &Config,
    seen: &Seen<O::T>,
    proposals: &Proposals<O::T>,
    compared: &Compared<O::T>,
    seg: &O::T,
    queries: usize,
) -> Result<Masks<O::T>> {
    let width = config.mask_width;
    let count = ops.shape(seg)[0];
    let learned = ops.parameter("mask.tokens", &[1, LEARNED, width], Init::Normal(0.5))?;
    let learned = ops.repeat_batch(&learned, count)?;
    let prompt = ops.concat(&[learned, seg.clone(), compared.summary.clone()], 1)?;
    let pointed = pointed(ops, config, proposals, &compared.meant, queries)?;

    let keys = keys(ops, config, seen)?;
    let keys = Keys { coarse: ops.repeat_batch(&keys.coarse, queries)?, fine: ops.repeat_batch(&keys.fine, queries)? };
    let wishes = wishes(ops, config, seg)?;
    let alike = likeness(ops, config, &keys, &wishes)?;

    let place = place(ops, config)?;
    let rows = dense_prompt(ops, config, &seen.embed, &alike, &pointed, queries)?;
    let mut picture = Picture { rows, place };
    let mut tokens = prompt.clone();
    for layer in 0..config.mask_layers {
        tokens = two_way(ops, config, tokens, &prompt, &mut picture, &format!("mask.layers.{layer}"))?;
    }
    let (k, v) = picture.keys_values(ops, config, "mask.final")?;
    let q = ops.add(&tokens, &prompt)?;
    let mixed = attend(ops, config, &q, &k, &v, "mask.final")?;
    let tokens = ops.add(&tokens, &mixed)?;
    let tokens = ops.layer_norm(&tokens, "mask.final.norm", EPS)?;

    let object = head(ops, &tokens, 0, "mask.object", width, 1)?;
    let object = ops.add(&object, &compared.found)?;
    let iou = head(ops, &tokens, 1, "mask.iou", width, 1)?;
    let kernel = head(ops, &tokens, 2, "mask.kernel", width, config.fine_width)?;
    let features = upscale(ops, config, &picture.rows, &seen.fine, [&alike.mask, &pointed.fine], queries)?;
    let sharp = product(ops, &features, &kernel, config.fine_width)?;
    let drawn = ops.add(&sharp, &alike.mask)?;
    let boxed = trusted(ops, &pointed.fine, &compared.summary)?;
    Ok(Masks { mask: ops.add(&drawn, &boxed)?, iou, object })
}

/// The boxes that are meant as logits: how much a query trusts them, and what stands against every pixel outside them.
/// "The second truck" should hear nothing but its box, "all trucks" may be more than were proposed.
fn trusted<O: Ops>(ops: &mut O, pointed: &O::T, summary: &O::T) -> Result<O::T> {
    let trust = ops.linear(summary, "mask.trust", 1, true, Act::None)?;
    let against = ops.linear(summary, "mask.against", 1, true, Act::None)?;
    let boxed = ops.mul(pointed, &trust)?;
    ops.add(&boxed, &against)
}

/// The stride-16 embedding with the likeness laid over it, as SAM lays a mask prompt over its image embedding: what the
/// words point at, what they relate it to and which boxes are meant is marked before the layers look,
/// `[N·queries, (S/16)², mask_width]`.
fn dense_prompt<O: Ops>(
    ops: &mut O,
    config: &Config,
    embed: &O::T,
    alike: &Likeness<O::T>,
    pointed: &Pointed<O::T>,
    queries: usize,
) -> Result<O::T> {
    let mut marked = ops.repeat_batch(embed, queries)?;
    let coarse = ops.activate(&alike.coarse, Act::Sigmoid)?;
    let anchor = ops.activate(&alike.anchor, Act::Sigmoid)?;
    for (mark, name) in
        [(&coarse, "mask.prompt"), (&anchor, "mask.prompt_anchor"), (&pointed.coarse, "mask.prompt_pointed")]
    {
        let mark = ops.linear(mark, name, config.mask_width, false, Act::None)?;
        marked = ops.add(&marked, &mark)?;
    }
    Ok(marked)
}

/// The picture's side of the decoder.
struct Picture<T> {
    rows: T,
    place: T,
}

impl<T: Clone> Picture<T> {
    fn placed<O: Ops<T = T>>(&self, ops: &mut O) -> Result<T> {
        ops.add(&self.rows, &self.place)
    }

    fn keys_values<O: Ops<T = T>>(&self, ops: &mut O, config: &Config, name: &str) -> Result<(T, T)> {
        let inner = config.mask_width / 2;
        let placed = self.placed(ops)?;
        let k = ops.linear(&placed, &format!("{name}.k_proj"), inner, true, Act::None)?;
        let v = ops.linear(&self.rows, &format!("{name}.v_proj"), inner, true, Act::None)?;
        Ok((k, v))
    }
}

fn two_way<O: Ops>(
    ops: &mut O,
    config: &Config,
    tokens: O::T,
    prompt: &O::T,
    picture: &mut Picture<O::T>,
    name: &str,
) -> Result<O::T> {
    let (width, inner) = (config.mask_width, config.mask_width / 2);
    // Tokens among themselves.
    let self_name = format!("{name}.self_attn");
    let q = ops.add(&tokens, prompt)?;
    let k = ops.linear(&q, &format!("{self_name}.k_proj"), inner, true, Act::None)?;
    let v = ops.linear(&tokens, &format!("{self_name}.v_proj"), inner, true, Act::None)?;
    let mixed = attend(ops, config, &q, &k, &v, &self_name)?;
    let tokens = ops.add(&tokens, &mixed)?;
    let tokens = ops.layer_norm(&tokens, &format!("{name}.norm1"), EPS)?;
    // Tokens look at the picture.
    let look = format!("{name}.token_to_image");
    let (k, v) = picture.keys_values(ops, config, &look)?;
    let q = ops.add(&tokens, prompt)?;
    let mixed = attend(ops, config, &q, &k, &v, &look)?;
    let tokens = ops.add(&tokens, &mixed)?;
    let tokens = ops.layer_norm(&tokens, &format!("{name}.norm2"), EPS)?;
    let hidden = ops.linear(&tokens, &format!("{name}.mlp.in"), width * 2, true, Act::Relu)?;
    let hidden = ops.linear(&hidden, &format!("{name}.mlp.out"), width, true, Act::None)?;
    let tokens = ops.add(&tokens, &hidden)?;
    let tokens = ops.layer_norm(&tokens, &format!("{name}.norm3"), EPS)?;
    // The picture looks at the tokens.
    let back = format!("{name}.image_to_token");
    let placed = picture.placed(ops)?;
    let q = ops.linear(&placed, &format!("{back}.q_proj"), inner, true, Act::None)?;
    let k = ops.add(&tokens, prompt)?;
    let k = ops.linear(&k, &format!("{back}.k_proj"), inner, true, Act::None)?;
    let v = ops.linear(&tokens, &format!("{back}.v_proj"), inner, true, Act::None)?;
    let mixed = ops.attention(&q, &k, &v, config.mask_heads, config.mask_heads, None)?;
    let mixed = ops.linear(&mixed, &format!("{back}.out_proj"), width, true, Act::None)?;
    let rows = ops.add(&picture.rows, &mixed)?;
    picture.rows = ops.layer_norm(&rows, &format!("{name}.norm4"), EPS)?;
    Ok(tokens)
}

fn attend<O: Ops>(ops: &mut O, config: &Config, q: &O::T, k: &O::T, v: &O::T, name: &str) -> Result<O::T> {
    let inner = config.mask_width / 2;
    let q = ops.linear(q, &format!("{name}.q_proj"), inner, true, Act::None)?;
    let mixed = ops.attention(&q, k, v, config.mask_heads, config.mask_heads, None)?;
    ops.linear(&mixed, &format!("{name}.out_proj"), config.mask_width, true, Act::None)
}

fn head<O: Ops>(ops: &mut O, tokens: &O::T, token: usize, name: &str, width: usize, out: usize) -> Result<O::T> {
    let x = ops.narrow(tokens, 1, token, 1)?;
    let x = ops.linear(&x, &format!("{name}.in"), width, true, Act::Relu)?;
    ops.linear(&x, &format!("{name}.out"), out, true, Act::None)
}

/// Per-query features at stride 4: the updated picture carries *which*, the fine features carry the edge.
fn upscale<O: Ops>(
    ops: &mut O,
    config: &Config,
    rows: &O::T,
    fine: &O::T,
    [alike, pointed]: [&O::T; 2],
    queries: usize,
) -> Result<O::T> {
    let (side, width) = (config.embed_side(), config.fine_width);
    let x = ops.linear(rows, "mask.up.in", 2 * width, true, Act::Relu)?;
    let x = ops.to_map(&x, side, side)?;
    let x = ops.upsample_nearest(&x, 2)?;
    let x = ops.depthwise(&x, "mask.up.smooth8", SMOOTH)?;
    let x = ops.linear(&x, "mask.up.mix8", width, true, Act::None)?;
    let x = ops.upsample_nearest(&x, 2)?;
    let fine = ops.linear(fine, "mask.up.fine", width, true, Act::None)?;
    let fine = ops.to_map(&fine, 4 * side, 4 * side)?;
    let fine = ops.repeat_batch(&fine, queries)?;
    let x = ops.add(&x, &fine)?;
    let alike = ops.activate(alike, Act::Sigmoid)?;
    let marked = ops.linear(&alike, "mask.up.marked", width, false, Act::None)?;
    let boxed = ops.linear(pointed, "mask.up.pointed", width, false, Act::None)?;
    let marked = ops.add(&marked, &boxed)?;
    let marked = ops.to_map(&marked, 4 * side, 4 * side)?;
    let x = ops.add(&x, &marked)?;
    let x = ops.activate(&x, Act::Relu)?;
    let x = ops.depthwise(&x, "mask.up.smooth4", SMOOTH)?;
    let x = ops.linear(&x, "mask.up.mix4", width, true, Act::Relu)?;
    ops.to_rows(&x)
}
