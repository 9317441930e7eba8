//! Chains of reasons, teacher-forced: every token that the grammar leaves open is taught, and every `[SEG]` what it shows.
//!
//! The layout is the one that answers are decoded in ([`kestrel_models::kestrel::generate`]): image tokens at rotary
//! position 0, prompt and answer counted from 1, every row behind all image tokens and its own past. One token's row
//! gives the logits of the next, so that [`Laid`] holds for each taught token the place before it; what `language`
//! calls the `[SEG]` state is then the taught token's own.

use candle_core::Tensor;
use kestrel_models::candle::Candle;
use kestrel_models::kestrel::pack::{Packed, pack};
use kestrel_models::kestrel::{Config, Said, language};
use kestrel_perception::Grammar;

use super::Result;
use super::example::{Chain, Example, Shown};
use super::measured::Values;
use super::pass::{Setup, host};
use super::teach::{Scene, Sought, found};
use crate::losses::attach;
use crate::losses::token::cross_entropy;

/// A token before which the grammar left more than one open.
#[derive(Debug, Clone, Copy)]
pub struct Open {
    /// Which chain.
    pub chain: usize,
    /// The token.
    pub id: u32,
    /// What was allowed instead: the grammar right before it.
    pub grammar: Grammar,
    /// Row among what the model says.
    row: usize,
}

impl Open {
    /// The logits that the token was chosen by, among all rows of `logits`.
    pub fn logits<'l>(&self, logits: &'l [f32], vocabulary: usize) -> &'l [f32] {
        &logits[self.row * vocabulary..][..vocabulary]
    }

    /// Their part of a gradient.
    pub fn gradient<'g>(&self, gradient: &'g mut [f32], vocabulary: usize) -> &'g mut [f32] {
        &mut gradient[self.row * vocabulary..][..vocabulary]
    }
}

/// Whether a grammar leaves more than one token open.
pub fn leaves_open(grammar: &Grammar, vocabulary: usize) -> bool {
    (0..vocabulary as u32).filter(|id| grammar.allows(*id)).nth(1).is_some()
}

/// Chains about one picture, laid out for one pass.
#[derive(Debug)]
pub struct Laid {
    packed: Packed,
    /// The tokens to be taught, chain after chain.
    pub open: Vec<Open>,
    /// Rows of the `[SEG]`, in their order.
    segs: Vec<u32>,
}

impl Laid {
    /// Lays out chains behind the image tokens of a model of this size; `seg` and `pad` are those tokens.
    ///
    /// # Errors
    /// When the grammar of a chain refuses one of its tokens.
    pub fn of(chains: &[Chain], config: &Config, seg: u32, pad: u32) -> Result<Self> {
        let ids: Vec<Vec<u32>> = chains.iter().map(|chain| chain.ids.clone()).collect();
        let mut packed = pack(&[ids], config.token_side().pow(2), pad, None);
        let (mut index, mut open, mut segs) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (chain, &start)) in chains.iter().zip(&packed.start).enumerate() {
            let mut grammar = chain.grammar;
            for (at, &id) in chain.ids.iter().enumerate().skip(chain.prompt.max(1)) {
                let row = index.len();
                let free = leaves_open(&grammar, config.vocabulary);
                if free {
                    open.push(Open { chain: number, id, grammar, row });
                }
                if id == seg {
                    segs.push(row as u32);
                }
                if free || id == seg {
                    index.push(start + at as u32 - 1);
                }
                grammar.push(id)?;
            }
        }
        (packed.queries, packed.index) = (index.len(), index);
        Ok(Self { packed, open, segs })
    }

    /// One pass behind image tokens `[1, I, language_width]`: what the model says at every row.
    ///
    /// # Errors
    /// When shapes do not fit, or nothing is open.
    pub fn say(&self, ops: &mut Candle<'_>, config: &Config, tokens: &Tensor) -> Result<Said<Tensor>> {
        let packed = self.packed.tensors(config.language_width / config.heads, tokens.device())?;
        Ok(language(ops, config, tokens, &packed)?)
    }

    /// The states of all `[SEG]`, `[1, n, mask_width]`.
    ///
    /// # Errors
    /// When candle fails.
    pub fn states(&self, said: &Said<Tensor>) -> Result<Tensor> {
        let rows = Tensor::from_slice(&self.segs, self.segs.len(), said.seg.device())?;
        Ok(said.seg.index_select(&rows, 1)?)
    }
}

/// Losses of an example's chains, of which there is at least one.
pub(super) fn teach(
    ops: &mut Candle<'_>,
    setup: &Setup<'_>,
    example: &Example,
    scene: &Scene<'_>,
    values: &mut Values,
) -> Result<Tensor> {
    let [seg, ..] = setup.answers;
    let laid = Laid::of(&example.reasons.chains, setup.config, seg, setup.pad)?;
    let said = laid.say(ops, setup.config, &scene.seen.tokens)?;
    let tokens = tokens(setup, &laid, example.reasons.chains.len(), &said, values)?;
    let shown: Vec<&Shown> = example.reasons.chains.iter().flat_map(|chain| &chain.shown).collect();
    if shown.is_empty() {
        return Ok(tokens);
    }
    let states = laid.states(&said)?;
    let masks = shows(ops, setup, &shown, example.masks, scene, &states, values)?;
    Ok((tokens + masks)?)
}

/// Cross-entropy of every open token, a mean over all of them.
fn tokens(setup: &Setup<'_>, laid: &Laid, chains: usize, said: &Said<Tensor>, values: &mut Values) -> Result<Tensor> {
    let (vocabulary, weight) = (setup.config.vocabulary, setup.weights.chain / laid.open.len().max(1) as f32);
    let logits = host(&said.logits)?;
    let mut gradient = vec![0.0; logits.len()];
    let mut right = vec![(0.0, 0.0); chains];
    for open in &laid.open {
        let slope = open.gradient(&mut gradient, vocabulary);
        let allowed = |id| open.grammar.allows(id);
        let (loss, likeliest) = cross_entropy(open.logits(&logits, vocabulary), allowed, open.id, weight, slope);
        values.chains.loss += loss;
        values.total += loss;
        let (hits, all) = &mut right[open.chain];
        (*hits, *all) = (*hits + f32::from(likeliest), *all + 1.0);
    }
    values.chains.taught += chains as f32;
    values.chains.right += right.iter().map(|(hits, all): &(f32, f32)| hits / all.max(1.0)).sum::<f32>();
    Ok(attach(&said.logits, gradient)?)
}

/// What every `[SEG]` shows, taught as that of a fast answer is: likeness, pointing, and the mask of the first `masks`.
fn shows(
    ops: &mut Candle<'_>,
    setup: &Setup<'_>,
    shown: &[&Shown],
    masks: usize,
    scene: &Scene<'_>,
    states: &Tensor,
    values: &mut Values,
) -> Result<Tensor> {
    let share = setup.weights.chain;
    let sought: Vec<Sought<'_>> = shown.iter().map(|shown| shown.sought()).collect();
    let mut part = Values::default();
    let term = found(ops, setup, &sought, masks.min(shown.len()), states, scene, &mut part)?;
    values.chains.shown += share * part.total;
    values.total += share * part.total;
    Ok((term * f64::from(share))?)
}
