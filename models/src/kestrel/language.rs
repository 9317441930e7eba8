//! The decoder language model: Qwen2's layer (RMSNorm, RoPE, grouped-query attention with q/k/v bias, SwiGLU).
//!
//! Source of the layer: Qwen2 technical report, arXiv 2407.10671; tensor names follow Hugging Face's.

use super::{Config, PackedTensors, Said};
use crate::error::Result;
use crate::ops::{Act, Ops};

const EPS: f32 = 1e-6;

/// Reads packed queries behind the image tokens and answers all of them in one pass.
pub fn language<O: Ops>(
    ops: &mut O,
    config: &Config,
    tokens: &O::T,
    packed: &PackedTensors<O::T>,
) -> Result<Said<O::T>> {
    let width = config.language_width;
    let text = ops.embedding(&packed.ids, "language.embed_tokens", config.vocabulary, width)?;
    // The tied matrix is small, so that it scores well; image tokens have unit scale, and beside them unscaled words
    // would drown in the residual stream (Gemma scales the same way, arXiv 2403.08295).
    let text = ops.scale(&text, (width as f32).sqrt())?;
    let mut x = ops.concat(&[tokens.clone(), text], 1)?;
    for layer in 0..config.language_layers {
        x = decoder_layer(ops, config, &x, packed, &format!("language.layers.{layer}"))?;
    }
    let (images, all) = (ops.shape(tokens)[1], ops.shape(&x)[1]);
    let hidden = ops.narrow(&x, 1, images, all - images)?;
    let hidden = ops.rms_norm(&hidden, "language.norm", EPS)?;

    let answer = ops.select(&hidden, &packed.index)?;
    // Tied head: the same matrix that embeds the pieces scores them.
    let logits = ops.linear(&answer, "language.embed_tokens", config.vocabulary, false, Act::None)?;
    // `[SEG]` stands right behind `<answer>`: the same index one row further.
    let behind = ops.narrow(&hidden, 1, 1, all - images - 1)?;
    let seg = ops.select(&behind, &packed.index)?;
    let seg = ops.linear(&seg, "seg.in", width, true, Act::Relu)?;
    let seg = ops.linear(&seg, "seg.out", config.mask_width, true, Act::None)?;
    let doubt = ops.linear(&hidden, "language.doubt", 1, true, Act::None)?;
    Ok(Said { logits, seg, doubt })
}

fn decoder_layer<O: Ops>(
    ops: &mut O,
    config: &Config,
    x: &O::T,
    packed: &PackedTensors<O::T>,
    name: &str,
) -> Result<O::T> {
    let width = config.language_width;
    let kv_width = width / config.heads * config.kv_heads;
    let normed = ops.rms_norm(x, &format!("{name}.input_layernorm"), EPS)?;
    let q = ops.linear(&normed, &format!("{name}.self_attn.q_proj"), width, true, Act::None)?;
    let k = ops.linear(&normed, &format!("{name}.self_attn.k_proj"), kv_width, true, Act::None)?;
    let v = ops.linear(&normed, &format!("{name}.self_attn.v_proj"), kv_width, true, Act::None)?;
    let q = ops.rope(&q, config.heads, &packed.cos, &packed.sin)?;
    let k = ops.rope(&k, config.kv_heads, &packed.cos, &packed.sin)?;
    let mixed = ops.attention(&q, &k, &v, config.heads, config.kv_heads, Some(&packed.mask))?;
    let mixed = ops.linear(&mixed, &format!("{name}.self_attn.o_proj"), width, false, Act::None)?;
    let x = ops.add(x, &mixed)?;

    let normed = ops.rms_norm(&x, &format!("{name}.post_attention_layernorm"), EPS)?;
    let gate = ops.linear(&normed, &format!("{name}.mlp.gate_proj"), config.feed_forward, false, Act::Silu)?;
    let up = ops.linear(&normed, &format!("{name}.mlp.up_proj"), config.feed_forward, false, Act::None)?;
    let gated = ops.mul(&gate, &up)?;
    let down = ops.linear(&gated, &format!("{name}.mlp.down_proj"), width, false, Act::None)?;
    ops.add(&x, &down)
}
