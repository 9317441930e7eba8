//! The two-way mask decoder (SAM 2, arXiv 2408.00714): tokens and picture attend to each other, then a
//! per-query kernel is applied to per-query features at stride 4.
//!
//! One mask token, not SAM's three: a text query names its target, and choosing among hypotheses by predicted IoU
//! would add an error that words do not have.

use super::{Config, Masks, Seen, positions};
use crate::error::Result;
use crate::ops::{Act, Conv, Init, Ops};

const EPS: f32 = 1e-5;
const SMOOTH: Conv = Conv { kernel: 3, stride: 1, act: Act::None };
/// Learned tokens before the prompt: object score, predicted IoU, mask.
const LEARNED: usize = 3;

/// Decodes `queries` masks for each picture from `[SEG]` states `seg [N·queries, 1, mask_width]`.
pub fn mask<O: Ops>(
    ops: &mut O,
    config: &Config,
    seen: &Seen<O::T>,
    seg: &O::T,
    queries: usize,
) -> Result<Masks<O::T>> {
    let width = config.mask_width;
    let count = ops.shape(seg)[0];
    let learned = ops.parameter("mask.tokens", &[1, LEARNED, width], Init::Normal(0.5))?;
    let learned = ops.repeat_batch(&learned, count)?;
    let prompt = ops.concat(&[learned, seg.clone()], 1)?;

    let side = config.embed_side();
    let place = ops.constant(&positions::grid(side, width), &[1, side * side, width])?;
    let mut picture = Picture { rows: seen.embed.clone(), place: place.clone(), pending: queries };
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
    let iou = head(ops, &tokens, 1, "mask.iou", width, 1)?;
    let kernel = head(ops, &tokens, 2, "mask.kernel", width, config.fine_width)?;
    let features = upscale(ops, config, &picture.rows, &seen.fine, queries)?;
    // As in attention: the product of two vectors of this width has a deviation of its root.
    let kernel = ops.scale(&kernel, (config.fine_width as f32).powf(-0.5))?;
    let mask = ops.matmul_t(&features, &kernel)?;
    let coarse = likeness(ops, config, &seen.embed, &place, seg, queries)?;
    Ok(Masks { mask: ops.add(&mask, &coarse)?, iou, object })
}

/// How alike each cell of the picture and the `[SEG]` state are, as logits at stride 4, `[N·queries, (S/4)², 1]`.
///
/// The two-way layers alone begin to tell queries apart only after tens of thousands of masks; this product gives
/// words a direct way to the cells they name, which the layers then sharpen.
fn likeness<O: Ops>(
    ops: &mut O,
    config: &Config,
    embed: &O::T,
    place: &O::T,
    seg: &O::T,
    queries: usize,
) -> Result<O::T> {
    let (width, side) = (config.mask_width, config.embed_side());
    let cells = ops.add(embed, place)?;
    let cells = ops.linear(&cells, "mask.likeness.image", width, true, Act::None)?;
    let cells = ops.repeat_batch(&cells, queries)?;
    let words = ops.linear(seg, "mask.likeness.seg", width, true, Act::None)?;
    let words = ops.scale(&words, (width as f32).powf(-0.5))?;
    let alike = ops.matmul_t(&cells, &words)?;
    let alike = ops.to_map(&alike, side, side)?;
    let alike = ops.upsample_nearest(&alike, 4)?;
    ops.to_rows(&alike)
}

/// The picture's side of the decoder. Until the first update it is the same for all queries of a picture, so its
/// projections are computed once and repeated (`pending` times) afterwards.
struct Picture<T> {
    rows: T,
    place: T,
    pending: usize,
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
        Ok((ops.repeat_batch(&k, self.pending)?, ops.repeat_batch(&v, self.pending)?))
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
    let q = ops.repeat_batch(&q, picture.pending)?;
    let k = ops.add(&tokens, prompt)?;
    let k = ops.linear(&k, &format!("{back}.k_proj"), inner, true, Act::None)?;
    let v = ops.linear(&tokens, &format!("{back}.v_proj"), inner, true, Act::None)?;
    let mixed = ops.attention(&q, &k, &v, config.mask_heads, config.mask_heads, None)?;
    let mixed = ops.linear(&mixed, &format!("{back}.out_proj"), width, true, Act::None)?;
    let rows = ops.repeat_batch(&picture.rows, picture.pending)?;
    let rows = ops.add(&rows, &mixed)?;
    picture.rows = ops.layer_norm(&rows, &format!("{name}.norm4"), EPS)?;
    picture.pending = 1;
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
fn upscale<O: Ops>(ops: &mut O, config: &Config, rows: &O::T, fine: &O::T, queries: usize) -> Result<O::T> {
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
    let x = ops.activate(&x, Act::Relu)?;
    let x = ops.depthwise(&x, "mask.up.smooth4", SMOOTH)?;
    let x = ops.linear(&x, "mask.up.mix4", width, true, Act::Relu)?;
    ops.to_rows(&x)
}
