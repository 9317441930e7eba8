//! Trunk, feature pyramid and projector.

use super::{Config, Seen, compare::spots, positions, scale::sized, trunk::trunk};
use crate::error::Result;
use crate::ops::{Act, Conv, Ops};

const EPS: f32 = 1e-5;
const SMOOTH: Conv = Conv { kernel: 3, stride: 1, act: Act::None };
const HALVE: Conv = Conv { kernel: 3, stride: 2, act: Act::None };

/// Sees one batch of pictures: map `[N, S, S, 3]`, ImageNet-normalised.
pub fn vision<O: Ops>(ops: &mut O, config: &Config, image: &O::T) -> Result<Seen<O::T>> {
    let stages = trunk(ops, image)?;
    let (wide, half, fine) = (config.mask_width, config.mask_width / 2, config.fine_width);

    // Top-down: what a thing is flows to where its edge is.
    let p32 = ops.linear(&stages.s32, "neck.lateral32", wide, true, Act::None)?;
    let p16 = merge(ops, &stages.s16, &p32, "16", wide)?;
    let p8 = merge(ops, &stages.s8, &p16, "8", half)?;
    let p4 = merge(ops, &stages.s4, &p8, "4", fine)?;
    let spots = spots(ops, config, &p8)?;
    let spots = sized(ops, config, spots)?;

    // Bottom-up once: colour and small things must reach the stride at which words are matched.
    let down = ops.depthwise(&p8, "neck.down", HALVE)?;
    let down = ops.linear(&down, "neck.down_mix", wide, true, Act::None)?;
    let embed = ops.add(&p16, &down)?;
    let embed = ops.linear(&embed, "neck.embed", wide, true, Act::None)?;

    let tokens = project(ops, config, &p32, &embed)?;
    // The pretrained trunk speaks at a scale of its own; the heads begin at theirs.
    let embed = ops.to_rows(&embed)?;
    let embed = ops.layer_norm(&embed, "neck.embed_norm", EPS)?;
    let fine = ops.to_rows(&p4)?;
    let fine = ops.layer_norm(&fine, "neck.fine_norm", EPS)?;
    Ok(Seen { tokens, embed, fine, spots })
}

fn merge<O: Ops>(ops: &mut O, lateral: &O::T, above: &O::T, level: &str, width: usize) -> Result<O::T> {
    let lateral = ops.linear(lateral, &format!("neck.lateral{level}"), width, true, Act::None)?;
    let above = ops.linear(above, &format!("neck.above{level}"), width, false, Act::None)?;
    let above = ops.upsample_nearest(&above, 2)?;
    let sum = ops.add(&lateral, &above)?;
    let sum = ops.activate(&sum, Act::Relu)?;
    let smooth = ops.depthwise(&sum, &format!("neck.smooth{level}"), SMOOTH)?;
    ops.linear(&smooth, &format!("neck.mix{level}"), width, true, Act::Relu)
}

/// Image tokens at stride 32: what the trunk's last stage knows, joined with the pyramid, with their place added.
fn project<O: Ops>(ops: &mut O, config: &Config, p32: &O::T, embed: &O::T) -> Result<O::T> {
    let (wide, width, side) = (config.mask_width, config.language_width, config.token_side());
    let pooled = ops.depthwise(embed, "projector.pool", HALVE)?;
    let pooled = ops.linear(&pooled, "projector.pool_mix", wide, true, Act::None)?;
    let joined = ops.add(&pooled, p32)?;
    let rows = ops.to_rows(&joined)?;
    let hidden = ops.linear(&rows, "projector.in", width, true, Act::Gelu)?;
    let tokens = ops.linear(&hidden, "projector.out", width, true, Act::None)?;
    let place = ops.constant(&positions::grid(side, width), &[1, side * side, width])?;
    let place = ops.linear(&place, "projector.place", width, false, Act::None)?;
    let tokens = ops.add(&tokens, &place)?;
    ops.rms_norm(&tokens, "projector.norm", 1e-6)
}
