//! The decoder language model: Qwen2's layer (RMSNorm, RoPE, grouped-query attention with q/k/v bias, SwiGLU).
//!
//! Source of the layer: Qwen2 technical report, arXiv 2407.10671; tensor names follow Hugging Face's.

use super::scale::balanced;
use super::things::{Told, nowhere, point, pointed};
use super::{Config, KeyValue, PackedTensors, Said};
use crate::error::{Error, Result};
use crate::ops::{Act, Ops};

const EPS: f32 = 1e-6;

/// Where rows stand, and what they may see.
pub(super) struct Places<'a, T> {
    /// Rotary table `[B or 1, T, d/2]`.
    pub(super) cos: &'a T,
    /// Rotary table `[B or 1, T, d/2]`.
    pub(super) sin: &'a T,
    /// Additive `[B or 1, T, length+T]`, for `length` cached rows.
    pub(super) mask: &'a T,
}

/// Reads packed queries behind the image tokens and answers all of them in one pass.
pub fn language<O: Ops>(
    ops: &mut O,
    config: &Config,
    tokens: &O::T,
    packed: &PackedTensors<O::T>,
) -> Result<Said<O::T>> {
    answers(ops, config, tokens, None, packed)
}

/// As [`language`], behind things beside the image tokens, at which locations may point.
///
/// # Errors
/// When shapes do not fit.
pub fn language_told<O: Ops>(
    ops: &mut O,
    config: &Config,
    told: &Told<O::T>,
    packed: &PackedTensors<O::T>,
) -> Result<Said<O::T>> {
    answers(ops, config, &told.rows, Some(&told.places), packed)
}

fn answers<O: Ops>(
    ops: &mut O,
    config: &Config,
    tokens: &O::T,
    places: Option<&O::T>,
    packed: &PackedTensors<O::T>,
) -> Result<Said<O::T>> {
    let text = words(ops, config, &packed.ids)?;
    let x = ops.concat(&[tokens.clone(), text], 1)?;
    let mask = balanced(ops, config, &packed.mask, 0)?;
    let standing = Places { cos: &packed.cos, sin: &packed.sin, mask: &mask };
    let (x, _) = layers(ops, config, &x, &standing, &[])?;
    let (images, all) = (ops.shape(tokens)[1], ops.shape(&x)[1]);
    let hidden = ops.narrow(&x, 1, images, all - images)?;
    let hidden = norm(ops, &hidden)?;

    let answer = ops.select(&hidden, &packed.index)?;
    let mut logits = scores(ops, config, &answer)?;
    let mut looks = None;
    if let Some(places) = places {
        let whole = norm(ops, &x)?;
        let batch = ops.shape(&x)[0];
        let text = nowhere(ops, batch, all - images)?;
        let places = ops.concat(&[places.clone(), text], 1)?;
        let mask = ops.narrow(&mask, 1, images, all - images)?;
        let pointing = point(ops, config, (&whole, &places), images, None, &mask)?;
        let locations = ops.select(&pointing.locations, &packed.index)?;
        logits = pointed(ops, &logits, &locations)?;
        let all = pointing.looks(ops, config)?;
        looks = Some(ops.select(&all, &packed.index)?);
    }
    // `[SEG]` stands right behind `<answer>`: the same index one row further.
    let behind = ops.narrow(&hidden, 1, 1, all - images - 1)?;
    let seg = ops.select(&behind, &packed.index)?;
    let seg = prompt(ops, config, &seg)?;
    let doubt = ops.linear(&hidden, "language.doubt", 1, true, Act::None)?;
    Ok(Said { logits, seg, doubt, looks })
}

/// Integer ids `[B, T]` as rows that may stand beside image tokens, `[B, T, language_width]`.
pub fn words<O: Ops>(ops: &mut O, config: &Config, ids: &O::T) -> Result<O::T> {
    let width = config.language_width;
    let text = ops.embedding(ids, "language.embed_tokens", config.vocabulary, width)?;
    // The tied matrix is small, so that it scores well; image tokens have unit scale, and beside them unscaled words
    // would drown in the residual stream (Gemma scales the same way, arXiv 2403.08295).
    ops.scale(&text, (width as f32).sqrt())
}

/// Hidden states, and what a cache keeps of every layer.
pub(super) type Kept<T> = (T, Vec<KeyValue<T>>);

/// All decoder layers over rows `x` behind `past`, one entry of each layer or none at all.
/// Gives the hidden states, not yet normalised, and what a cache keeps of the rows.
pub(super) fn layers<O: Ops>(
    ops: &mut O,
    config: &Config,
    x: &O::T,
    places: &Places<'_, O::T>,
    past: &[KeyValue<O::T>],
) -> Result<Kept<O::T>> {
    if !past.is_empty() && past.len() != config.language_layers {
        return Err(Error::Shape {
            operation: "language",
            name: "past".into(),
            expected: format!("keys and values of {} layers, or of none", config.language_layers),
            got: vec![past.len()],
        });
    }
    let mut x = x.clone();
    let mut new = Vec::with_capacity(config.language_layers);
    for layer in 0..config.language_layers {
        let name = format!("language.layers.{layer}");
        let (y, kept) = decoder_layer(ops, config, &x, places, past.get(layer), &name)?;
        x = y;
        new.push(kept);
    }
    Ok((x, new))
}

/// The norm before the heads.
pub(super) fn norm<O: Ops>(ops: &mut O, hidden: &O::T) -> Result<O::T> {
    ops.rms_norm(hidden, "language.norm", EPS)
}

/// Next-token logits of normalised states. Tied head: the same matrix that embeds the pieces scores them.
pub(super) fn scores<O: Ops>(ops: &mut O, config: &Config, hidden: &O::T) -> Result<O::T> {
    ops.linear(hidden, "language.embed_tokens", config.vocabulary, false, Act::None)
}

/// Normalised states at `[SEG]` as prompts of the mask decoder.
pub(super) fn prompt<O: Ops>(ops: &mut O, config: &Config, hidden: &O::T) -> Result<O::T> {
    let seg = ops.linear(hidden, "seg.in", config.language_width, true, Act::Relu)?;
    ops.linear(&seg, "seg.out", config.mask_width, true, Act::None)
}

fn decoder_layer<O: Ops>(
    ops: &mut O,
    config: &Config,
    x: &O::T,
    places: &Places<'_, O::T>,
    past: Option<&KeyValue<O::T>>,
    name: &str,
) -> Result<(O::T, KeyValue<O::T>)> {
    let (width, kv_width) = (config.language_width, config.kv_width());
    let normed = ops.rms_norm(x, &format!("{name}.input_layernorm"), EPS)?;
    let q = ops.linear(&normed, &format!("{name}.self_attn.q_proj"), width, true, Act::None)?;
    let k = ops.linear(&normed, &format!("{name}.self_attn.k_proj"), kv_width, true, Act::None)?;
    let v = ops.linear(&normed, &format!("{name}.self_attn.v_proj"), kv_width, true, Act::None)?;
    let q = ops.rope(&q, config.heads, places.cos, places.sin)?;
    let k = ops.rope(&k, config.kv_heads, places.cos, places.sin)?;
    let (keys, values) = match past {
        Some(past) => {
            (ops.concat(&[past.keys.clone(), k.clone()], 1)?, ops.concat(&[past.values.clone(), v.clone()], 1)?)
        }
        None => (k.clone(), v.clone()),
    };
    let mixed = ops.attention(&q, &keys, &values, config.heads, config.kv_heads, Some(places.mask))?;
    let mixed = ops.linear(&mixed, &format!("{name}.self_attn.o_proj"), width, false, Act::None)?;
    let x = ops.add(x, &mixed)?;

    let normed = ops.rms_norm(&x, &format!("{name}.post_attention_layernorm"), EPS)?;
    let gate = ops.linear(&normed, &format!("{name}.mlp.gate_proj"), config.feed_forward, false, Act::Silu)?;
    let up = ops.linear(&normed, &format!("{name}.mlp.up_proj"), config.feed_forward, false, Act::None)?;
    let gated = ops.mul(&gate, &up)?;
    let down = ops.linear(&gated, &format!("{name}.mlp.down_proj"), width, false, Act::None)?;
    Ok((ops.add(&x, &down)?, KeyValue { keys: k, values: v }))
}
