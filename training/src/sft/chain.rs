//! Chains of reasons, teacher-forced: every token that the grammar leaves open is taught, and every `[SEG]` what it shows.
//! Answers to tasks are laid out and taught by the same functions (`sft/tasks.rs`).
//!
//! The layout is the one that answers are decoded in ([`kestrel_models::kestrel::generate`]): image tokens at rotary
//! position 0, prompt and answer counted from 1, every row behind all image tokens and its own past. One token's row
//! gives the logits of the next, so that [`Laid`] holds for each taught token the place before it; what `language`
//! calls the `[SEG]` state is then the taught token's own.

use candle_core::Tensor;
use kestrel_models::candle::Candle;
use kestrel_models::kestrel::pack::{Packed, pack};
use kestrel_models::kestrel::{Config, Said, language};
use kestrel_perception::{Grammar, ParseError};

use super::Result;
use super::example::{Chain, Example, Shown};
use super::measured::Values;
use super::pass::{Setup, host};
use super::teach::{Scene, Sought, found};
use crate::losses::attach;
use crate::losses::token::cross_entropy;
use crate::tasks::TextGrammar;

/// The rules of what is written behind a prompt: how far it has come, and what may come next.
pub trait Rules: Copy {
    /// Whether `id` may come next.
    fn allows(&self, id: u32) -> bool;

    /// Writes a token.
    ///
    /// # Errors
    /// When it may not come next; the state stays as it was.
    fn push(&mut self, id: u32) -> std::result::Result<(), ParseError>;
}

/// Reasoned answers.
impl Rules for Grammar {
    fn allows(&self, id: u32) -> bool {
        Self::allows(self, id)
    }

    fn push(&mut self, id: u32) -> std::result::Result<(), ParseError> {
        Self::push(self, id)
    }
}

/// Answers to tasks.
impl Rules for TextGrammar {
    fn allows(&self, id: u32) -> bool {
        Self::allows(self, id)
    }

    fn push(&mut self, id: u32) -> std::result::Result<(), ParseError> {
        Self::push(self, id)
    }
}

/// A token before which the grammar left more than one open.
#[derive(Debug, Clone, Copy)]
pub struct Open<G = Grammar> {
    /// Which chain.
    pub chain: usize,
    /// The token.
    pub id: u32,
    /// What was allowed instead: the grammar right before it.
    pub grammar: G,
    /// Row among what the model says.
    row: usize,
}

impl<G> Open<G> {
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
pub fn leaves_open(grammar: &impl Rules, vocabulary: usize) -> bool {
    (0..vocabulary as u32).filter(|id| grammar.allows(*id)).nth(1).is_some()
}

/// Chains about one picture, laid out for one pass.
#[derive(Debug)]
pub struct Laid<G = Grammar> {
    packed: Packed,
    /// The tokens to be taught, chain after chain.
    pub open: Vec<Open<G>>,
    /// Rows of the `[SEG]`, in their order.
    segs: Vec<u32>,
}

impl<G: Rules> Laid<G> {
    /// Lays out chains behind the image tokens of a model of this size; `seg` and `pad` are those tokens.
    ///
    /// # Errors
    /// When the grammar of a chain refuses one of its tokens.
    pub fn of(chains: &[Chain<G>], config: &Config, seg: u32, pad: u32) -> Result<Self> {
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
    let weights = vec![setup.weights.chain / laid.open.len().max(1) as f32; example.reasons.chains.len()];
    let (tokens, told) = tokens(setup, &laid, &weights, &said)?;
    for told in told {
        values.chains.loss += told.loss;
        values.chains.right += told.share();
        values.chains.taught += 1.0;
        values.total += told.loss;
    }
    let shown: Vec<&Shown> = example.reasons.chains.iter().flat_map(|chain| &chain.shown).collect();
    if shown.is_empty() {
        return Ok(tokens);
    }
    let states = laid.states(&said)?;
    let masks = shows(ops, setup, &shown, example.masks, scene, &states, values)?;
    Ok((tokens + masks)?)
}

/// What the open tokens of one chain came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    /// Their loss, weighted.
    pub(super) loss: f32,
    /// Those that are the likeliest, of how many.
    right: (f32, f32),
}

impl Told {
    /// Share of tokens that are the likeliest.
    pub(super) fn share(&self) -> f32 {
        self.right.0 / self.right.1.max(1.0)
    }
}

/// Cross-entropy of every open token; `weights` are those of a token of each chain.
pub(super) fn tokens<G: Rules>(
    setup: &Setup<'_>,
    laid: &Laid<G>,
    weights: &[f32],
    said: &Said<Tensor>,
) -> Result<(Tensor, Vec<Told>)> {
    let vocabulary = setup.config.vocabulary;
    let logits = host(&said.logits)?;
    let mut gradient = vec![0.0; logits.len()];
    let mut told = vec![Told::default(); weights.len()];
    for open in &laid.open {
        let slope = open.gradient(&mut gradient, vocabulary);
        let allowed = |id| open.grammar.allows(id);
        let (row, weight) = (open.logits(&logits, vocabulary), weights[open.chain]);
        let (loss, likeliest) = cross_entropy(row, allowed, open.id, weight, slope);
        let Told { loss: sum, right: (hits, all) } = &mut told[open.chain];
        (*sum, *hits, *all) = (*sum + loss, *hits + f32::from(likeliest), *all + 1.0);
    }
    Ok((attach(&said.logits, gradient)?, told))
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
