//! What stands out in a view, told to the language model, and pointed at where it writes a location.
//!
//! An image token covers 32 × 32 pixels and was never asked where in them a thing is; the proposals know. So an answer
//! with reasons is written behind them: each is a row among the image tokens, with its names and its place. And a location
//! is not made up bin by bin: beside the tied head, every token points at one of the things before it, says which of its
//! four edges it means, and the place of that edge is added to the logits of the locations (pointing at the input: Vinyals
//! et al., Pointer Networks, arXiv 1506.03134; regions that a language model refers to: Ma et al., Groma, arXiv 2404.13013).

use kestrel_perception::proposals::{CODE, EDGES, NAMES, THING, WAVE, waves};

use super::{Config, KeyValue, positions};
use crate::error::{Error, Result};
use crate::ops::{Act, Ops};
use crate::tokenizer::{FIRST_LOCATION, LOCATIONS};

const EPS: f32 = 1e-6;
/// Edges of a thing.
const SIDES: usize = EDGES / WAVE;
/// What tells of a row where its thing's edges are: their waves, and 1 where there is a thing at all.
const PLACED: usize = EDGES + 1;
/// By how much a thing that is pointed at for certain raises its place, beside what is learnt: the products of [`waves`]
/// tell neighbouring locations by 1.4.
const GAIN: f32 = 2.0;
/// By how much a thing is looked at rather than a word or an image token, beside what is learnt: enough that some things
/// outweigh some hundred other rows.
const FAVOUR: f32 = 6.0;

/// What stands before the words of a question.
#[derive(Debug, Clone)]
pub struct Told<T> {
    /// Image tokens, then things: `[B, R, language_width]`.
    pub rows: T,
    /// Where the edges of each row's thing are: the [`waves`] of left, top, right and bottom, then 1. All zero where the row
    /// is no thing, `[B, R, 49]`.
    pub places: T,
}

/// Rows that [`step`](super::step()) reads, of any kind.
///
/// `tokens [B, T, language_width]` are image tokens, or things ([`kestrel_perception::proposals::thing`]) in the first
/// numbers of a row; `ids [B, T]` are words. `kinds [B, T, 2]` says of each row whether it is a word, and whether it is a
/// thing.
///
/// # Errors
/// When the model is too narrow for things, or shapes do not fit.
pub fn mixed<O: Ops>(ops: &mut O, config: &Config, tokens: &O::T, ids: &O::T, kinds: &O::T) -> Result<Told<O::T>> {
    fits(config)?;
    let (word, thing) = (ops.narrow(kinds, 2, 0, 1)?, ops.narrow(kinds, 2, 1, 1)?);
    let spoken = super::rows(ops, config, tokens, ids, &word)?;
    let told = ops.narrow(tokens, 2, 0, THING)?;
    let things = rows(ops, config, &told)?;
    let things = ops.mul(&things, &thing)?;
    // What a thing says in its raw numbers is no image token.
    let one = ops.constant(&[1.0], &[1, 1, 1])?;
    let other = ops.scale(&thing, -1.0)?;
    let other = ops.add(&other, &one)?;
    let spoken = ops.mul(&spoken, &other)?;
    let places = places(ops, &told)?;
    Ok(Told { rows: ops.add(&spoken, &things)?, places: ops.mul(&places, &thing)? })
}

/// Image tokens `[B, I, language_width]`, and behind them `things [B, K, THING]`, where there are any.
///
/// # Errors
/// As [`mixed`].
pub fn told<O: Ops>(ops: &mut O, config: &Config, tokens: &O::T, things: Option<&O::T>) -> Result<Told<O::T>> {
    fits(config)?;
    let shape = ops.shape(tokens);
    let nowhere = nowhere(ops, shape[0], shape[1])?;
    let Some(things) = things else { return Ok(Told { rows: tokens.clone(), places: nowhere }) };
    let rows = rows(ops, config, things)?;
    let places = places(ops, things)?;
    Ok(Told { rows: ops.concat(&[tokens.clone(), rows], 1)?, places: ops.concat(&[nowhere, places], 1)? })
}

/// Places of rows that are no things, `[batch, rows, 49]`.
pub(super) fn nowhere<O: Ops>(ops: &mut O, batch: usize, rows: usize) -> Result<O::T> {
    let nowhere = ops.constant(&vec![0.0; rows * PLACED], &[1, rows, PLACED])?;
    ops.repeat_batch(&nowhere, batch)
}

/// Whether a model of these sizes has room for things.
pub(super) fn fits(config: &Config) -> Result<()> {
    if config.language_width >= THING && config.kv_width() >= PLACED {
        return Ok(());
    }
    Err(Error::Request {
        operation: "tell things",
        expected: format!("a language model of width {THING} at least, and {PLACED} for its keys"),
        got: format!("{} and {}", config.language_width, config.kv_width()),
    })
}

/// Things as rows of the scale of image tokens.
fn rows<O: Ops>(ops: &mut O, config: &Config, things: &O::T) -> Result<O::T> {
    let width = config.language_width;
    let plain = ops.linear(things, "language.things.plain", width, false, Act::None)?;
    let hidden = ops.linear(things, "language.things.in", width, true, Act::Relu)?;
    let hidden = ops.linear(&hidden, "language.things.out", width, true, Act::None)?;
    let sum = ops.add(&plain, &hidden)?;
    ops.rms_norm(&sum, "language.things.norm", EPS)
}

fn places<O: Ops>(ops: &mut O, things: &O::T) -> Result<O::T> {
    let shape = ops.shape(things);
    let edges = ops.narrow(things, 2, NAMES + CODE, EDGES)?;
    let there = ops.constant(&vec![1.0; shape[1]], &[1, shape[1], 1])?;
    let there = ops.repeat_batch(&there, shape[0])?;
    ops.concat(&[edges, there], 2)
}

/// What rows point at, and what a cache keeps of them.
pub(super) struct Pointing<T> {
    /// Logits of the locations that pointing speaks for, `[B, T, LOCATIONS]`.
    pub(super) locations: T,
    /// The rows' keys, and their places as values.
    pub(super) kept: KeyValue<T>,
    /// What the rows that point are held against keys with, `[B, T, kv_width]`.
    query: T,
    /// The mask under which they look, with things before everything else.
    mask: T,
}

impl<T> Pointing<T> {
    /// Where rows look that point at nothing but each other, without a past: the logits of the rows, `[B, T, L]`.
    pub(super) fn looks<O: Ops<T = T>>(&self, ops: &mut O, config: &Config) -> Result<T> {
        let looks = ops.matmul_t(&self.query, &self.kept.keys)?;
        let looks = ops.scale(&looks, (config.kv_width() as f32).sqrt().recip())?;
        ops.add(&looks, &self.mask)
    }
}

/// Points from the rows `hidden [B, T, language_width]`, but for the first `silent` of them, at things among those rows and
/// `past`. `hidden` are normalised; `mask [B or 1, T − silent, past + T]` is that of the layers.
pub(super) fn point<O: Ops>(
    ops: &mut O,
    config: &Config,
    (hidden, places): (&O::T, &O::T),
    silent: usize,
    past: Option<&KeyValue<O::T>>,
    mask: &O::T,
) -> Result<Pointing<O::T>> {
    let (width, shape) = (config.kv_width(), ops.shape(hidden));
    let (batch, rows) = (shape[0], shape[1]);
    let keys = ops.linear(hidden, "language.point.key", width, true, Act::None)?;
    let placed = ops.linear(places, "language.point.place", width, false, Act::None)?;
    let keys = ops.add(&keys, &placed)?;
    let rest = width.saturating_sub(PLACED);
    let values = match rest {
        0 => places.clone(),
        _ => {
            let nothing = ops.constant(&vec![0.0; rows * rest], &[1, rows, rest])?;
            let nothing = ops.repeat_batch(&nothing, batch)?;
            ops.concat(&[places.clone(), nothing], 2)?
        }
    };
    let (all_keys, all_values) = match past {
        Some(past) => {
            (ops.concat(&[past.keys.clone(), keys.clone()], 1)?, ops.concat(&[past.values.clone(), values.clone()], 1)?)
        }
        None => (keys.clone(), values.clone()),
    };
    let asking = match silent {
        0 => hidden.clone(),
        _ => ops.narrow(hidden, 1, silent, rows.saturating_sub(silent))?,
    };
    let query = ops.linear(&asking, "language.point.query", width, true, Act::None)?;
    let mask = favoured(ops, mask, &all_values)?;
    // Words and image tokens are no places: what looks at them points at nothing.
    let found = ops.attention(&query, &all_keys, &all_values, 1, 1, Some(&mask))?;
    let found = ops.narrow(&found, 2, 0, EDGES)?;
    let locations = at_edge(ops, &found, &asking)?;
    Ok(Pointing { locations, kept: KeyValue { keys, values }, query, mask })
}

/// The mask with things before everything else, given all rows' `places [B, L, …]`: `[B, T, L]`.
fn favoured<O: Ops>(ops: &mut O, mask: &O::T, places: &O::T) -> Result<O::T> {
    let there = ops.narrow(places, 2, EDGES, 1)?;
    let batch = ops.shape(&there)[0];
    // `[B, L, 1]` turned to `[B, 1, L]`.
    let one = ops.constant(&[FAVOUR], &[1, 1, 1])?;
    let one = ops.repeat_batch(&one, batch)?;
    let there = ops.matmul_t(&one, &there)?;
    ops.add(mask, &there)
}

/// The locations of the edge that is meant, `[B, T, LOCATIONS]`; before anything is learnt, all four are meant alike.
fn at_edge<O: Ops>(ops: &mut O, found: &O::T, asking: &O::T) -> Result<O::T> {
    let batch = ops.shape(found)[0];
    let edge = ops.linear(asking, "language.point.edge", SIDES, true, Act::None)?;
    let all = ops.constant(&[1.0; SIDES], &[1, 1, SIDES])?;
    let edge = ops.add(&edge, &all)?;
    // Each edge's number, beside all of its waves.
    let spread: Vec<f32> =
        (0..EDGES).flat_map(|at| (0..SIDES).map(move |side| f32::from(u8::from(at / WAVE == side)))).collect();
    let spread = ops.constant(&spread, &[1, EDGES, SIDES])?;
    let spread = ops.repeat_batch(&spread, batch)?;
    let edge = ops.matmul_t(&edge, &spread)?;
    let found = ops.mul(found, &edge)?;
    let bins = LOCATIONS as usize;
    let middle = |bin: usize| (bin as f32 + 0.5) / LOCATIONS as f32;
    let table: Vec<f32> = (0..bins).flat_map(|bin| waves(middle(bin)).repeat(SIDES)).collect();
    let table = ops.constant(&table, &[1, bins, EDGES])?;
    let table = ops.repeat_batch(&table, batch)?;
    let locations = ops.matmul_t(&found, &table)?;
    ops.scale(&locations, GAIN)
}

/// Next-token logits `[B, T, vocabulary]` with what pointing speaks for.
pub(super) fn pointed<O: Ops>(ops: &mut O, logits: &O::T, locations: &O::T) -> Result<O::T> {
    let (first, count) = (FIRST_LOCATION as usize, LOCATIONS as usize);
    let own = ops.narrow(logits, 2, first, count)?;
    let own = ops.add(&own, locations)?;
    let before = ops.narrow(logits, 2, 0, first)?;
    let rest = ops.shape(logits)[2].saturating_sub(first + count);
    if rest == 0 {
        return ops.concat(&[before, own], 2);
    }
    let behind = ops.narrow(logits, 2, first + count, rest)?;
    ops.concat(&[before, own, behind], 2)
}

/// Codes of the locations as those of image tokens, `[LOCATIONS, language_width]`: what the projector's place matrix
/// `place [language_width, language_width]` makes of the place on the diagonal whose x and y are the location.
///
/// Locations that begin as these mean the same along x and y, and are alike where they are near; to copy the place of an
/// image token that is attended to is then one step. Each row has the root mean square `size`.
pub fn location_codes(place: &[f32], width: usize, size: f32) -> Vec<f32> {
    let mut codes = Vec::with_capacity(LOCATIONS as usize * width);
    for bin in 0..LOCATIONS {
        let at = (bin as f32 + 0.5) / LOCATIONS as f32;
        let code = positions::code([at; 2], width);
        let row: Vec<f32> =
            place.chunks_exact(width).map(|row| row.iter().zip(&code).map(|(a, b)| a * b).sum()).collect();
        let square = row.iter().map(|v| v * v).sum::<f32>() / width as f32;
        let scale = size / square.sqrt().max(1e-12);
        codes.extend(row.iter().map(|v| v * scale));
    }
    codes
}

#[cfg(test)]
#[path = "things_tests.rs"]
mod tests;
