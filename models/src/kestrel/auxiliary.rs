//! Dense heads that teach the trunk in training and are dropped at export.

use super::{Config, Seen};
use crate::error::Result;
use crate::ops::{Act, Ops};

/// Logits for every cell of the stride-16 grid, rows `[N, (S/16)², auxiliary]`; the trainer says what each means.
pub fn auxiliary<O: Ops>(ops: &mut O, config: &Config, seen: &Seen<O::T>) -> Result<O::T> {
    let hidden = ops.linear(&seen.embed, "auxiliary.in", config.mask_width, true, Act::Relu)?;
    ops.linear(&hidden, "auxiliary.out", config.auxiliary, true, Act::None)
}
