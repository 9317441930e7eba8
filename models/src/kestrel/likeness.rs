//! How alike each place of a picture and each `[SEG]` state are: the direct way from words to pixels.
//!
//! Both sides are projected into one space, in which training also names things: the auxiliary names score a cell's
//! key and a state's wish with the same vectors, so that "red" in words and red in a picture point the same way before
//! a single mask was asked for (as CLIP's shared space does for whole pictures, arXiv 2103.00020).

use super::{Config, Seen, positions};
use crate::error::Result;
use crate::ops::{Act, Ops};

const EPS: f32 = 1e-6;

/// What each place of a picture shows.
#[derive(Clone)]
pub struct Keys<T> {
    /// Stride 16, its place included, rows `[N, (S/16)², mask_width]`.
    pub coarse: T,
    /// Stride 4, rows `[N, (S/4)², fine_width]`.
    pub fine: T,
}

/// What `[SEG]` states look for.
#[derive(Clone)]
pub struct Wishes<T> {
    /// Rows `[N, Q, mask_width]`.
    pub coarse: T,
    /// Rows `[N, Q, fine_width]`.
    pub fine: T,
    /// How much must speak for a place, `[N, Q, 1]`.
    pub bias: T,
    /// What the words relate their target to: another wish for coarse keys, `[N, Q, mask_width]`.
    pub anchor: T,
}

/// Likeness as logits.
#[derive(Clone)]
pub struct Likeness<T> {
    /// At stride 16, `[N, (S/16)², Q]`.
    pub coarse: T,
    /// At stride 4, the coarse one included, `[N, (S/4)², Q]`.
    pub mask: T,
    /// Of the anchor, at stride 16, `[N, (S/16)², Q]`.
    pub anchor: T,
}

/// Keys of what was seen.
pub fn keys<O: Ops>(ops: &mut O, config: &Config, seen: &Seen<O::T>) -> Result<Keys<O::T>> {
    let place = place(ops, config)?;
    let cells = ops.add(&seen.embed, &place)?;
    let coarse = unit(ops, &cells, "mask.likeness.image", config.mask_width)?;
    let fine = unit(ops, &seen.fine, "mask.likeness.fine", config.fine_width)?;
    Ok(Keys { coarse, fine })
}

/// Coarse keys of a picture that shows nothing: the places alone, `[1, (S/16)², mask_width]`.
pub fn blank<O: Ops>(ops: &mut O, config: &Config) -> Result<O::T> {
    let place = place(ops, config)?;
    unit(ops, &place, "mask.likeness.image", config.mask_width)
}

/// Wishes of `[SEG]` states `seg [N, Q, mask_width]`.
pub fn wishes<O: Ops>(ops: &mut O, config: &Config, seg: &O::T) -> Result<Wishes<O::T>> {
    let coarse = unit(ops, seg, "mask.likeness.seg", config.mask_width)?;
    let fine = unit(ops, seg, "mask.likeness.seg_fine", config.fine_width)?;
    let bias = ops.linear(seg, "mask.likeness.bias", 1, true, Act::None)?;
    let anchor = unit(ops, seg, "mask.likeness.anchor", config.mask_width)?;
    Ok(Wishes { coarse, fine, bias, anchor })
}

/// A projection of unit scale: words that learned to be loud alone would drown what a picture has to say.
fn unit<O: Ops>(ops: &mut O, x: &O::T, name: &str, width: usize) -> Result<O::T> {
    let x = ops.linear(x, name, width, true, Act::None)?;
    ops.rms_norm(&x, &format!("{name}_norm"), EPS)
}

/// The likeness of every place with every wish.
pub fn likeness<O: Ops>(
    ops: &mut O,
    config: &Config,
    keys: &Keys<O::T>,
    wishes: &Wishes<O::T>,
) -> Result<Likeness<O::T>> {
    let side = config.embed_side();
    let coarse = product(ops, &keys.coarse, &wishes.coarse, config.mask_width)?;
    // `[N, Q, 1]` turned to `[N, 1, Q]`.
    let one = ops.constant(&[1.0], &[1, 1, 1])?;
    let count = ops.shape(&wishes.bias)[0];
    let one = ops.repeat_batch(&one, count)?;
    let bias = ops.matmul_t(&one, &wishes.bias)?;
    let coarse = ops.add(&coarse, &bias)?;
    let fine = product(ops, &keys.fine, &wishes.fine, config.fine_width)?;
    let spread = ops.to_map(&coarse, side, side)?;
    let spread = ops.upsample_nearest(&spread, 4)?;
    let spread = ops.to_rows(&spread)?;
    let mask = ops.add(&spread, &fine)?;
    let anchor = product(ops, &keys.coarse, &wishes.anchor, config.mask_width)?;
    Ok(Likeness { coarse, mask, anchor })
}

/// `keys · wishesᵀ / sqrt(width)`, as in attention: two vectors of this width have a product of its root.
pub fn product<O: Ops>(ops: &mut O, keys: &O::T, wishes: &O::T, width: usize) -> Result<O::T> {
    let wishes = ops.scale(wishes, (width as f32).powf(-0.5))?;
    ops.matmul_t(keys, &wishes)
}

/// Codes of the stride-16 places, `[1, (S/16)², mask_width]`.
pub(super) fn place<O: Ops>(ops: &mut O, config: &Config) -> Result<O::T> {
    let (side, width) = (config.embed_side(), config.mask_width);
    ops.constant(&positions::grid(side, width), &[1, side * side, width])
}
