//! Answers with reasons in the ranges: the graph that decodes rounds the same layers as the fast one by the same scales, and
//! what those layers read of a thought no question shows them.
//!
//! An answer is decoded by the whole model as it is at flight, and then read again in one pass that is watched
//! ([`kestrel_training::sft::chain`] teaches by such a pass): every row by which a token was chosen, and each `[SEG]` with
//! the mask that it draws. What only such answers have, pointing at things, stays wide: a place is told to a fraction of a
//! location.

use candle_core::Tensor;
use kestrel_models::candle::{Candle, Params, Places};
use kestrel_models::kestrel::generate::{Prompt, Sampling, generate};
use kestrel_models::kestrel::pack::pack;
use kestrel_models::kestrel::{Choice, Config, Said, Seen, language, language_told, mask, told};
use kestrel_models::quantise::Observer;
use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_perception::proposals::Proposal;
use kestrel_perception::{Grammar, Limits, ReasonedIds, prompt};
use kestrel_training::reasoning::{Reasoner, reasoned_ids};
use kestrel_training::sft::chain::Before;
use kestrel_training::sft::propose;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Prepared, Result};

/// Questions about each frame that are answered with reasons too, at most: each takes as long as many fast answers.
const THOUGHTS: usize = 2;

/// How many answers with reasons the ranges of these frames see.
pub fn thoughts(frames: &[Prepared]) -> usize {
    frames.iter().map(|frame| frame.questions.len().min(THOUGHTS)).sum()
}

/// How questions are answered with reasons.
#[derive(Debug, Clone, Copy)]
pub struct Reasons {
    grammar: Grammar,
    ids: ReasonedIds,
    /// Tokens of an answer at most.
    most: usize,
}

impl Reasons {
    /// As models are taught to answer, see [`Limits`].
    pub fn of(tokenizer: &QueryTokenizer) -> Self {
        let limits = Limits::default();
        let grammar = Reasoner::new(tokenizer, limits).grammar();
        Self { grammar, ids: reasoned_ids(tokenizer), most: limits.tokens }
    }
}

/// A model that is watched while it answers with reasons.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch<'a> {
    pub(super) observer: &'a Observer,
    pub(super) params: &'a Params,
    pub(super) config: &'a Config,
    pub(super) reasons: &'a Reasons,
}

impl Watch<'_> {
    /// Watches the answers to some questions about what was `seen` of the frame of this number: others of each frame, so that
    /// questions of all kinds are among them.
    pub(super) fn answers(&self, number: usize, frame: &Prepared, seen: &Seen<Tensor>) -> Result<()> {
        let found = propose::found(seen, self.config)?;
        let things = propose::things(self.config, seen, &found)?;
        let before = Before { tokens: &seen.tokens, things: things.as_ref() };
        let count = frame.questions.len();
        for at in 0..count.min(THOUGHTS) {
            let asked = prompt(&frame.questions[(number * THOUGHTS + at) % count], &self.reasons.ids);
            let written = self.written(&before, &asked)?;
            if let Some(states) = self.read(&before, &asked, &written)? {
                self.drawn(seen, &found, &states)?;
            }
        }
        Ok(())
    }

    /// What the whole model writes behind a prompt.
    fn written(&self, before: &Before<'_>, asked: &[u32]) -> Result<Vec<u32>> {
        let Reasons { grammar, ids, most } = *self.reasons;
        let prompt = Prompt { tokens: before.tokens, things: before.things, ids: asked };
        let sampling = Sampling { choice: Choice::Greedy, most, seg: ids.special.seg };
        // Greed draws nothing.
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let rollouts = generate(self.params, self.config, &prompt, &mut [grammar], sampling, &mut rng)?;
        Ok(rollouts.into_iter().next().unwrap_or_default().ids)
    }

    /// Watches an answer being read; gives the state of each `[SEG]`, `[n, 1, mask_width]`, where there is one.
    fn read(&self, before: &Before<'_>, asked: &[u32], written: &[u32]) -> Result<Option<Tensor>> {
        let ids = [asked, written].concat();
        let first = asked.len().saturating_sub(1);
        let chosen: Vec<u32> = (first..first + written.len()).map(|row| row as u32).collect();
        if chosen.is_empty() {
            return Ok(None);
        }
        let is_behind = |row: &u32| ids.get(*row as usize + 1) == Some(&self.reasons.ids.special.seg);
        let segs: Vec<u32> = chosen.iter().copied().filter(is_behind).collect();
        self.pass(before, &ids, chosen, &Shared { observer: self.observer, segs: false })?;
        if segs.is_empty() {
            return Ok(None);
        }
        let count = segs.len();
        let said = self.pass(before, &ids, segs, &Shared { observer: self.observer, segs: true })?;
        Ok(Some(said.seg.reshape((count, 1, self.config.mask_width))?))
    }

    /// One pass over prompt and answer: logits at these rows of them, and states right behind.
    fn pass(&self, before: &Before<'_>, ids: &[u32], rows: Vec<u32>, places: &dyn Places) -> Result<Said<Tensor>> {
        let Self { params, config, reasons, .. } = *self;
        let mut images = before.tokens.dim(1)?;
        if let Some(things) = before.things {
            images += things.dim(1)?;
        }
        let mut packed = pack(&[vec![ids.to_vec()]], images, reasons.ids.special.pad, None);
        (packed.queries, packed.index) = (rows.len(), rows);
        let packed = packed.tensors(config.language_width / config.heads, params.device())?;
        let mut ops = Candle::evaluating(params).with_places(places);
        if !config.things {
            return Ok(language(&mut ops, config, before.tokens, &packed)?);
        }
        let told = told(&mut ops, config, before.tokens, before.things)?;
        Ok(language_told(&mut ops, config, &told, &packed)?)
    }

    /// Watches the masks of an answer being drawn.
    fn drawn(&self, seen: &Seen<Tensor>, found: &[Proposal], states: &Tensor) -> Result<()> {
        let mut ops = Candle::evaluating(self.params).with_places(self.observer);
        let proposals = propose::tensors(&mut ops, self.config, seen, found)?;
        mask(&mut ops, self.config, seen, &proposals, states, states.dim(0)?)?;
        Ok(())
    }
}

/// Watches the layers that answers with reasons share with fast ones: those behind a `[SEG]` state, or all others. A row that
/// is no `[SEG]` has a state too, which nobody asks for.
#[derive(Debug)]
struct Shared<'a> {
    observer: &'a Observer,
    segs: bool,
}

impl Places for Shared<'_> {
    fn activation(&self, place: &str, x: &Tensor) -> kestrel_models::error::Result<Tensor> {
        match place.starts_with("seg.") == self.segs {
            true => self.observer.activation(place, x),
            false => Ok(x.clone()),
        }
    }

    /// Only layers whose kernels were noted are rounded, and fast answers show all that are to be.
    fn kernel(&self, _: &str, weight: &Tensor, _: usize) -> kestrel_models::error::Result<Tensor> {
        Ok(weight.clone())
    }
}

#[cfg(test)]
#[path = "reasons_tests.rs"]
mod tests;
