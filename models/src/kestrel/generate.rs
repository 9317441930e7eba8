//! Samples several continuations of one prompt behind one picture, in candle.
//!
//! Picture and prompt are read once; their keys and values are then repeated for every rollout, and all rollouts that
//! go on take each step together. Nothing is kept for a backward pass: who trains on a rollout runs it again in one
//! teacher-forced pass, and finds the log-probabilities that are reported here.

use candle_core::{DType, Device, Tensor};
use kestrel_perception::Grammar;
use kestrel_perception::decoding::mask;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::choice::{Choice, choose};
use super::language::{Places, layers, words};
use super::pack::rotary;
use super::scale::balanced;
use super::step::{read, step};
use super::things::{Told, nowhere, told};
use super::{Config, KeyValue, Next};
use crate::candle::{Candle, Params};
use crate::error::{Error, Result};
use crate::ops::Ops as _;

/// What a rollout may say.
pub trait Constraint {
    /// Sets the logits of tokens that may not come next to −∞; the others stay as they are.
    fn restrict(&self, logits: &mut [f32]);
    /// Takes in the token that was chosen.
    fn push(&mut self, id: u32);
    /// Whether the rollout is complete: no token follows.
    fn finished(&self) -> bool;
}

/// A reasoned answer behind its prompt.
impl Constraint for Grammar {
    fn restrict(&self, logits: &mut [f32]) {
        self.mask(logits);
    }

    fn push(&mut self, id: u32) {
        // What is chosen was not forbidden a moment ago; if it were, the state stays, and reading the answer says so.
        let _ = Self::push(self, id);
    }

    fn finished(&self) -> bool {
        Self::finished(self)
    }
}

/// What is continued.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// Image tokens of one picture, `[1, I, language_width]`.
    pub tokens: &'a Tensor,
    /// What stands out there, `[1, K, THING]`, where the model is told of it and there is anything.
    pub things: Option<&'a Tensor>,
    /// The words behind them.
    pub ids: &'a [u32],
}

/// How rollouts are drawn.
#[derive(Debug, Clone, Copy)]
pub struct Sampling {
    /// How each token is chosen.
    pub choice: Choice,
    /// Most tokens of one rollout; one that its constraint has not finished by then is cut.
    pub most: usize,
    /// The token whose hidden state prompts the mask decoder.
    pub seg: u32,
}

/// One continuation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rollout {
    /// The chosen tokens, without the prompt.
    pub ids: Vec<u32>,
    /// `log π` of each: see [`Choice`]. π is over what the constraint allowed at that place.
    pub log_probabilities: Vec<f32>,
    /// The `[SEG]` state, `mask_width` numbers, of each `[SEG]` among `ids`.
    pub segs: Vec<Vec<f32>>,
}

/// Draws one rollout under each of the `constraints`, which afterwards hold what they were told.
///
/// Every rollout has a generator of its own, seeded by `rng` in their order, so its draws do not depend on when the
/// others finish.
///
/// # Errors
/// When the prompt does not fit the model, a constraint allows nothing, or the choice is impossible.
pub fn generate<C: Constraint>(
    params: &Params,
    config: &Config,
    prompt: &Prompt<'_>,
    constraints: &mut [C],
    sampling: Sampling,
    rng: &mut impl Rng,
) -> Result<Vec<Rollout>> {
    if constraints.is_empty() {
        return Ok(Vec::new());
    }
    let mut ops = Candle::evaluating(params);
    let mut rollouts = vec![Rollout::default(); constraints.len()];
    let mut draws: Vec<ChaCha8Rng> = constraints.iter().map(|_| ChaCha8Rng::from_rng(rng)).collect();
    let (first, kept) = prefill(&mut ops, config, prompt)?;
    let mut batch = Batch::new(&mut ops, params.device(), &kept, constraints.len(), sampling.most)?;
    let mut logits = vec![first; constraints.len()];
    loop {
        let (mut places, mut ids) = (Vec::new(), Vec::new());
        for (place, (&member, logits)) in batch.members.iter().zip(&mut logits).enumerate() {
            let (rollout, constraint) = (&mut rollouts[member], &mut constraints[member]);
            if let Some(id) = extend(rollout, constraint, logits, sampling, &mut draws[member])? {
                places.push(place);
                ids.push(id);
            }
        }
        if ids.is_empty() {
            return Ok(rollouts);
        }
        batch.retain(&places)?;
        let position = prompt.ids.len() + batch.steps + 1;
        let (next_logits, segs) = batch.feed(&mut ops, config, &ids, position as u32)?;
        logits = next_logits;
        for ((&member, &id), seg) in batch.members.iter().zip(&ids).zip(segs) {
            if id == sampling.seg {
                rollouts[member].segs.push(seg);
            }
        }
    }
}

/// Chooses a rollout's next token. Gives it if the model must read it: when more is to come, or for its `[SEG]` state.
fn extend<C: Constraint>(
    rollout: &mut Rollout,
    constraint: &mut C,
    logits: &mut [f32],
    sampling: Sampling,
    draws: &mut ChaCha8Rng,
) -> Result<Option<u32>> {
    let complete = |rollout: &Rollout, constraint: &C| constraint.finished() || rollout.ids.len() >= sampling.most;
    if complete(rollout, constraint) {
        return Ok(None);
    }
    constraint.restrict(logits);
    // The upper 53 bits: as many as a f64 holds.
    let draw = (draws.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let (id, log_probability) = choose(logits, sampling.choice, draw)?;
    constraint.push(id);
    rollout.ids.push(id);
    rollout.log_probabilities.push(log_probability);
    Ok((!complete(rollout, constraint) || id == sampling.seg).then_some(id))
}

/// Reads picture and prompt: the logits behind the last word, and what every layer keeps.
fn prefill(ops: &mut Candle<'_>, config: &Config, prompt: &Prompt<'_>) -> Result<(Vec<f32>, Vec<KeyValue<Tensor>>)> {
    let &[1, images, width] = prompt.tokens.dims() else { return Err(misshapen(config, prompt)) };
    if width != config.language_width || images + prompt.ids.len() == 0 {
        return Err(misshapen(config, prompt));
    }
    // Where the vision stage trains, its image tokens remember how they came about.
    let tokens = prompt.tokens.detach();
    let (mut rows, mut places) = match config.things {
        true => {
            let Told { rows, places } = told(ops, config, &tokens, prompt.things)?;
            (rows, Some(places))
        }
        false => (tokens, None),
    };
    let images = rows.dim(1)?;
    if !prompt.ids.is_empty() {
        let ids = Tensor::from_slice(prompt.ids, (1, prompt.ids.len()), rows.device())?;
        let text = words(ops, config, &ids)?;
        rows = ops.concat(&[rows, text], 1)?;
        if let Some(places) = &mut places {
            let text = nowhere(ops, 1, prompt.ids.len())?;
            *places = ops.concat(&[places.clone(), text], 1)?;
        }
    }
    let all = images + prompt.ids.len();
    // The layout of `pack`, with a pack of one: image tokens share position 0, and everything sees what was before.
    let positions: Vec<u32> = (0..all).map(|row| (row + 1).saturating_sub(images) as u32).collect();
    let (cos, sin) = angles(ops, config, &positions)?;
    let seen = ops.constant(&mask(0, 0, all, all), &[1, all, all])?;
    let seen = balanced(ops, config, &seen, 0)?;
    if places.is_some() {
        let stepped = step(ops, config, &Next { rows, mask: seen, cos, sin, places }, &[])?;
        let last = stepped.logits.narrow(1, all - 1, 1)?;
        return Ok((last.flatten_all()?.to_vec1()?, stepped.new));
    }
    let standing = Places { cos: &cos, sin: &sin, mask: &seen };
    let (hidden, kept) = layers(ops, config, &rows, &standing, &[])?;
    let last = ops.narrow(&hidden, 1, all - 1, 1)?;
    let (logits, _) = read(ops, config, &last)?;
    Ok((logits.flatten_all()?.to_vec1()?, kept))
}

fn misshapen(config: &Config, prompt: &Prompt<'_>) -> Error {
    Error::Shape {
        operation: "generate",
        name: "tokens".into(),
        expected: format!("[1, I, {}] of one picture, or words", config.language_width),
        got: prompt.tokens.dims().to_vec(),
    }
}

fn angles(ops: &mut Candle<'_>, config: &Config, positions: &[u32]) -> Result<(Tensor, Tensor)> {
    let head = config.language_width / config.heads;
    let (cos, sin) = rotary(positions, head);
    let shape = [1, positions.len(), head / 2];
    Ok((ops.constant(&cos, &shape)?, ops.constant(&sin, &shape)?))
}

/// The rollouts that go on, and what was read so far.
struct Batch {
    /// Which rollout each batch entry is.
    members: Vec<usize>,
    device: Device,
    /// One of each layer, and one for pointing where there may be things, `[members, prefix + most, kv_width]`.
    buffers: Vec<KeyValue<Tensor>>,
    /// Rows of picture and prompt.
    prefix: usize,
    /// Rows read since.
    steps: usize,
}

/// Next-token logits and `[SEG]` states, one row for each rollout that goes on.
type Fed = (Vec<Vec<f32>>, Vec<Vec<f32>>);

impl Batch {
    /// `count` times the same prefix, with room for `most` rows behind it.
    fn new(
        ops: &mut Candle<'_>,
        device: &Device,
        kept: &[KeyValue<Tensor>],
        count: usize,
        most: usize,
    ) -> Result<Self> {
        let prefix = kept.first().map_or(Ok(0), |layer| layer.keys.dim(1))?;
        let mut buffer = |kept: &Tensor| -> Result<Tensor> {
            let (_, _, width) = kept.dims3()?;
            let buffer = Tensor::zeros((count, prefix + most, width), DType::F32, device)?;
            buffer.slice_set(&ops.repeat_batch(kept, count)?.contiguous()?, 1, 0)?;
            Ok(buffer)
        };
        let mut buffers = Vec::with_capacity(kept.len());
        for layer in kept {
            buffers.push(KeyValue { keys: buffer(&layer.keys)?, values: buffer(&layer.values)? });
        }
        Ok(Self { members: (0..count).collect(), device: device.clone(), buffers, prefix, steps: 0 })
    }

    /// Drops all but the batch entries at `places`, which ascend.
    fn retain(&mut self, places: &[usize]) -> Result<()> {
        if places.len() == self.members.len() {
            return Ok(());
        }
        self.members = places.iter().map(|&place| self.members[place]).collect();
        let places: Vec<u32> = places.iter().map(|&place| place as u32).collect();
        for layer in &mut self.buffers {
            let index = Tensor::from_slice(&places, places.len(), &self.device)?;
            layer.keys = layer.keys.index_select(&index, 0)?;
            layer.values = layer.values.index_select(&index, 0)?;
        }
        Ok(())
    }

    /// Reads one token of each member, all at the same position; gives each member's logits and `[SEG]` state.
    fn feed(&mut self, ops: &mut Candle<'_>, config: &Config, ids: &[u32], position: u32) -> Result<Fed> {
        let used = self.prefix + self.steps;
        let past = self.past(used)?;
        let ids = Tensor::from_slice(ids, (ids.len(), 1), &self.device)?;
        let (cos, sin) = angles(ops, config, &[position])?;
        // What of the buffer is not yet used is not even shown to the layers, so there is nothing to hide.
        let seen = ops.constant(&mask(used, used, 1, 1), &[1, 1, used + 1])?;
        let seen = balanced(ops, config, &seen, used)?;
        let places = match config.things {
            true => Some(nowhere(ops, self.members.len(), 1)?),
            false => None,
        };
        let next = Next { rows: words(ops, config, &ids)?, mask: seen, cos, sin, places };
        let stepped = step(ops, config, &next, &past)?;
        for (layer, new) in self.buffers.iter().zip(&stepped.new) {
            layer.keys.slice_set(&new.keys.contiguous()?, 1, used)?;
            layer.values.slice_set(&new.values.contiguous()?, 1, used)?;
        }
        self.steps += 1;
        Ok((stepped.logits.squeeze(1)?.to_vec2()?, stepped.seg.squeeze(1)?.to_vec2()?))
    }

    fn past(&self, used: usize) -> Result<Vec<KeyValue<Tensor>>> {
        let narrow = |layer: &KeyValue<Tensor>| -> Result<KeyValue<Tensor>> {
            Ok(KeyValue { keys: layer.keys.narrow(1, 0, used)?, values: layer.values.narrow(1, 0, used)? })
        };
        self.buffers.iter().map(narrow).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use candle_core::Var;

    /// What would break: a rollout of 192 tokens that remembers how each came about fills the memory.
    #[test]
    fn nothing_is_kept_for_a_backward_pass() {
        let config = Config::tiny();
        let params = Params::new(&Device::Cpu, 1);
        let tokens = Var::from_tensor(&Tensor::ones((1, 4, config.language_width), DType::F32, &Device::Cpu).unwrap());
        let tokens = (tokens.unwrap().as_tensor() * 0.5).unwrap();
        assert!(tokens.track_op(), "as where the vision stage trains");
        let mut ops = Candle::evaluating(&params);
        let (logits, kept) =
            prefill(&mut ops, &config, &Prompt { tokens: &tokens, things: None, ids: &[7, 8] }).unwrap();
        assert_eq!((logits.len(), kept.len()), (config.vocabulary, config.language_layers));
        let mut batch = Batch::new(&mut ops, &Device::Cpu, &kept, 3, 2).unwrap();
        batch.feed(&mut ops, &config, &[1, 2, 3], 3).unwrap();
        for layer in kept.iter().chain(&batch.buffers) {
            assert!(!layer.keys.track_op() && !layer.values.track_op());
        }
        assert_eq!(batch.buffers[0].keys.dims(), [3, 6 + 2, config.kv_width()]);
    }
}
