//! Token-by-token decoding: new rows of the language model behind rows whose keys and values are kept.
//!
//! The layer is [`language`](super::language())'s own. Without a past a step is a prefill, and its outputs are those of
//! a whole pass; which rows are image tokens and which are words makes no difference to it.

use super::language::{Places, layers, norm, prompt, scores, words};
use super::things::{point, pointed};
use super::{Config, KeyValue, Next, Stepped};
use crate::error::Result;
use crate::ops::Ops;

/// Reads T new rows, which see the kept rows and each other as `next.mask` allows.
///
/// `past` is one entry of each layer and, where there may be things, one for pointing behind them; or none at all where
/// nothing came before. New keys and values do not enter it:
/// who keeps the cache writes them to its next free place.
///
/// # Errors
/// When `past` has another number of layers, or shapes do not fit.
pub fn step<O: Ops>(ops: &mut O, config: &Config, next: &Next<O::T>, past: &[KeyValue<O::T>]) -> Result<Stepped<O::T>> {
    let standing = Places { cos: &next.cos, sin: &next.sin, mask: &next.mask };
    let Some(places) = &next.places else {
        let (hidden, new) = layers(ops, config, &next.rows, &standing, past)?;
        let (logits, seg) = read(ops, config, &hidden)?;
        return Ok(Stepped { logits, seg, new });
    };
    // What is kept for pointing comes behind all layers.
    let (pointed_at, past) = match past.split_last() {
        Some((last, layers)) => (Some(last), layers),
        None => (None, past),
    };
    let (hidden, mut new) = layers(ops, config, &next.rows, &standing, past)?;
    let hidden = norm(ops, &hidden)?;
    let pointing = point(ops, config, (&hidden, places), 0, pointed_at, &next.mask)?;
    let logits = scores(ops, config, &hidden)?;
    let logits = pointed(ops, &logits, &pointing.locations)?;
    new.push(pointing.kept);
    Ok(Stepped { logits, seg: prompt(ops, config, &hidden)?, new })
}

/// Next-token logits and mask prompts of hidden states `[B, T, language_width]`.
pub(super) fn read<O: Ops>(ops: &mut O, config: &Config, hidden: &O::T) -> Result<(O::T, O::T)> {
    let hidden = norm(ops, hidden)?;
    Ok((scores(ops, config, &hidden)?, prompt(ops, config, &hidden)?))
}

/// Rows of both kinds from inputs of fixed shape, `[B, T, language_width]`: the word `ids [B, T]` where `spoken [B, T, 1]`
/// is 1, the image token `tokens [B, T, language_width]` where it is 0.
///
/// Two products instead of a difference: what is not chosen adds an exact zero, whatever it holds.
///
/// # Errors
/// When shapes do not fit.
pub fn rows<O: Ops>(ops: &mut O, config: &Config, tokens: &O::T, ids: &O::T, spoken: &O::T) -> Result<O::T> {
    let text = words(ops, config, ids)?;
    let text = ops.mul(&text, spoken)?;
    let one = ops.constant(&[1.0], &[1, 1, 1])?;
    let seen = ops.scale(spoken, -1.0)?;
    let seen = ops.add(&seen, &one)?;
    let picture = ops.mul(tokens, &seen)?;
    ops.add(&picture, &text)
}
