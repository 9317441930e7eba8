//! Chains of reasons, teacher-forced: every token that the grammar leaves open is taught, and every `[SEG]` what it shows.
//! Answers to tasks are laid out and taught by the same functions (`sft/tasks.rs`).
//!
//! The layout is the one that answers are decoded in ([`kestrel_models::kestrel::generate`]): image tokens at rotary
//! position 0, prompt and answer counted from 1, every row behind all image tokens and its own past. A model that is told
//! of what stands out has it among the image tokens. One token's row
//! gives the logits of the next, so that [`Laid`] holds for each taught token the place before it; what `language`
//! calls the `[SEG]` state is then the taught token's own.

use candle_core::Tensor;
use kestrel_models::candle::Candle;
use kestrel_models::kestrel::pack::{Packed, pack};
use kestrel_models::kestrel::{Config, Said, language, language_told, told};
use kestrel_models::tokenizer::{FIRST_LOCATION, LOCATIONS};
use kestrel_perception::{Grammar, ParseError};

use super::distil::Lesson;
use super::example::{Chain, Example, Shown};
use super::measured::Values;
use super::pass::{Setup, host};
use super::recipe::Weights;
use super::teach::{Scene, Sought, found};
use super::{Result, aim, distil};
use crate::losses::token::{Learnt, cross_entropy, shares, softened};
use crate::losses::{attach, relative};
use crate::reasoning::Bins;
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
    /// The box that it is a location of.
    pub part_of: Option<Bins>,
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

/// What answers about a picture are written behind.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// Image tokens, `[1, I, language_width]`.
    pub tokens: &'a Tensor,
    /// What stands out, `[1, n, THING]`, where the model is told of it and there is anything.
    pub things: Option<&'a Tensor>,
}

impl<'a> Before<'a> {
    /// Image tokens alone.
    pub fn picture(tokens: &'a Tensor) -> Self {
        Self { tokens, things: None }
    }

    fn rows(&self) -> usize {
        let rows = |tensor: &Tensor| tensor.dims().get(1).copied().unwrap_or_default();
        rows(self.tokens) + self.things.map_or(0, rows)
    }
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
    /// Lays out chains behind what is `before` them, for a model of these sizes; `seg` and `pad` are those tokens.
    ///
    /// # Errors
    /// When the grammar of a chain refuses one of its tokens.
    pub fn of(chains: &[Chain<G>], config: &Config, before: &Before<'_>, seg: u32, pad: u32) -> Result<Self> {
        let ids: Vec<Vec<u32>> = chains.iter().map(|chain| chain.ids.clone()).collect();
        let mut packed = pack(&[ids], before.rows(), pad, None);
        let (mut index, mut open, mut segs) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (chain, &start)) in chains.iter().zip(&packed.start).enumerate() {
            let mut grammar = chain.grammar;
            for (at, &id) in chain.ids.iter().enumerate().skip(chain.prompt.max(1)) {
                let row = index.len();
                let free = leaves_open(&grammar, config.vocabulary);
                if free {
                    let part_of = aim::box_around(&chain.ids, at);
                    open.push(Open { chain: number, id, grammar, part_of, row });
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

    /// One pass behind what the chains were laid out behind: what the model says at every row.
    ///
    /// # Errors
    /// When shapes do not fit, or nothing is open.
    pub fn say(&self, ops: &mut Candle<'_>, config: &Config, before: &Before<'_>) -> Result<Said<Tensor>> {
        let Before { tokens, things } = *before;
        let packed = self.packed.tensors(config.language_width / config.heads, tokens.device())?;
        if !config.things {
            return Ok(language(ops, config, tokens, &packed)?);
        }
        let told = told(ops, config, tokens, things)?;
        Ok(language_told(ops, config, &told, &packed)?)
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

/// What has been said and found before chains are taught.
pub(super) struct Beside<'a> {
    /// What stands out, where the model is told of it.
    pub(super) things: Option<&'a Tensor>,
    /// The `[SEG]` states of the fast answers to the example's questions, `[1, questions, mask_width]`.
    pub(super) fast: &'a Tensor,
    /// What a teacher says of the example, where there is one.
    pub(super) lesson: Option<&'a Lesson>,
}

/// Chains as they were laid out, and what the model says of them.
struct Read<'a> {
    laid: Laid,
    said: Said<Tensor>,
    before: Before<'a>,
}

impl<'a> Read<'a> {
    fn of(
        ops: &mut Candle<'_>,
        setup: &Setup<'_>,
        chains: &[Chain],
        scene: &Scene<'a>,
        things: Option<&'a Tensor>,
    ) -> Result<Self> {
        let [seg, ..] = setup.answers;
        let before = Before { tokens: &scene.seen.tokens, things };
        let laid = Laid::of(chains, setup.config, &before, seg, setup.pad)?;
        let said = laid.say(ops, setup.config, &before)?;
        Ok(Self { laid, said, before })
    }
}

/// Losses of an example's chains, of which there is at least one.
pub(super) fn teach(
    ops: &mut Candle<'_>,
    setup: &Setup<'_>,
    example: &Example,
    scene: &Scene<'_>,
    beside: &Beside<'_>,
    values: &mut Values,
) -> Result<Tensor> {
    let chains = example.reasons.chains.as_slice();
    let read = Read::of(ops, setup, chains, scene, beside.things)?;
    let (mut taught, states) = learnt(ops, setup, (chains, example.masks), scene, &read, values)?;
    if let Some(lesson) = beside.lesson
        && let Some(term) = distil::thinks(setup, lesson, &read.laid, &read.said, values)?
    {
        taught = (taught + term)?;
    }
    match states {
        Some(states) if setup.weights.agreement > 0.0 => {
            Ok((taught + agrees(setup, example, &states, beside.fast, values)?)?)
        }
        _ => Ok(taught),
    }
}

/// Losses of chains about one picture, of which there is at least one, `masks` of what they show decoded; and the states of
/// their `[SEG]`, where they have any.
pub(crate) fn taught(
    ops: &mut Candle<'_>,
    setup: &Setup<'_>,
    (chains, masks): (&[Chain], usize),
    scene: &Scene<'_>,
    things: Option<&Tensor>,
    values: &mut Values,
) -> Result<(Tensor, Option<Tensor>)> {
    let read = Read::of(ops, setup, chains, scene, things)?;
    learnt(ops, setup, (chains, masks), scene, &read, values)
}

/// As [`taught`], of chains that were read.
fn learnt(
    ops: &mut Candle<'_>,
    setup: &Setup<'_>,
    (chains, masks): (&[Chain], usize),
    scene: &Scene<'_>,
    Read { laid, said, before }: &Read<'_>,
    values: &mut Values,
) -> Result<(Tensor, Option<Tensor>)> {
    let weights = vec![setup.weights.chain / laid.open.len().max(1) as f32; chains.len()];
    let (mut tokens, told) = tokens(setup, laid, &weights, said)?;
    if let Some(aims) = aim::aims(setup, laid, said, before, values)? {
        tokens = (tokens + aims)?;
    }
    for told in told {
        values.chains.loss += told.loss;
        values.chains.right += told.share();
        values.chains.nats += told.nats();
        values.chains.near += told.near();
        values.chains.taught += 1.0;
        values.total += told.loss;
    }
    let shown: Vec<&Shown> = chains.iter().flat_map(|chain| &chain.shown).collect();
    if shown.is_empty() {
        return Ok((tokens, None));
    }
    let states = laid.states(said)?;
    let masks = shows(ops, setup, &shown, masks, scene, &states, values)?;
    Ok(((tokens + masks)?, Some(states)))
}

/// What the open tokens of one chain came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    /// Their loss, weighted.
    pub(super) loss: f32,
    /// Those that are the likeliest, of how many.
    right: (f32, f32),
    /// Nats of all of them.
    nats: f32,
    /// Locations whose likeliest is at most one off, of how many.
    near: (f32, f32),
}

impl Told {
    /// Share of tokens that are the likeliest.
    pub(super) fn share(&self) -> f32 {
        self.right.0 / self.right.1.max(1.0)
    }

    /// Nats of a token, whatever it weighs.
    fn nats(&self) -> f32 {
        self.nats / self.right.1.max(1.0)
    }

    /// Share of locations whose likeliest is at most one off; 1 where there are none.
    fn near(&self) -> f32 {
        if self.near.1 > 0.0 { self.near.0 / self.near.1 } else { 1.0 }
    }
}

/// Brings the `[SEG]` of reasoned answers that show one thing to the state of the fast answer to the same question, which
/// has learnt to find it.
fn agrees(setup: &Setup<'_>, example: &Example, states: &Tensor, fast: &Tensor, values: &mut Values) -> Result<Tensor> {
    let width = setup.config.mask_width;
    let (said, known) = (host(states)?, host(fast)?);
    let mut gradient = vec![0.0; said.len()];
    let (mut pairs, mut at) = (Vec::new(), 0);
    for (chain, &question) in example.reasons.chains.iter().zip(&example.reasons.about) {
        if chain.shown.len() == 1 {
            pairs.push((at, question));
        }
        at += chain.shown.len();
    }
    let each = setup.weights.agreement / pairs.len().max(1) as f32;
    for (state, question) in pairs {
        let (row, goal) = (state * width..(state + 1) * width, question * width..(question + 1) * width);
        let loss = relative(&said[row.clone()], &known[goal], each, &mut gradient[row]);
        values.chains.apart += loss;
        values.total += loss;
    }
    Ok(attach(states, gradient)?)
}

/// Cross-entropy of every open token; `weights` are those of a token of each chain, and locations weigh as the recipe says,
/// against themselves and their neighbours.
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
        let bin = open.id.checked_sub(FIRST_LOCATION).filter(|bin| *bin < LOCATIONS);
        let Weights { location, location_spread, .. } = *setup.weights;
        let weight = if bin.is_some() { weight * location } else { weight };
        let learnt = match bin {
            Some(bin) if location_spread > 0.0 => {
                let among = |bin: &u32| allowed(FIRST_LOCATION + bin);
                let near = shares(bin, (0..LOCATIONS).filter(among), location_spread);
                let near: Vec<(u32, f32)> =
                    near.into_iter().map(|(bin, share)| (FIRST_LOCATION + bin, share)).collect();
                softened(row, allowed, open.id, &near, weight, slope)
            }
            _ => cross_entropy(row, allowed, open.id, weight, slope),
        };
        let Learnt { loss, nats, likeliest } = learnt;
        let told = &mut told[open.chain];
        let right = f32::from(likeliest == open.id);
        (told.loss, told.nats) = (told.loss + loss, told.nats + nats);
        told.right = (told.right.0 + right, told.right.1 + 1.0);
        if bin.is_some() {
            let near = f32::from(likeliest.abs_diff(open.id) <= 1);
            told.near = (told.near.0 + near, told.near.1 + 1.0);
        }
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
