//! Chains of reasons for the questions of an example, as tokens, and what their `[SEG]` are to show.

use kestrel_perception::{Grammar, prompt};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::question::{Goal, Pointers, Question};
use super::{Asked, Maker};
use crate::expressions::meaning::Facts;
use crate::reasoning::{self, Reasoner, WRITTEN, reasoned_ids};
use crate::sample::{Sample, Target};
use crate::sft::Result;
use crate::sft::coverage::Coverage;
use crate::sft::teach::Sought;
use crate::views::Family;

/// Sets the choice of questions apart from the random numbers that drew them.
const STREAM: u64 = 0x6368_6169;
/// The name of too long a chain in [`Reasoner::tally`].
const LONG: &str = "long";

/// The chains of one picture.
#[derive(Debug, Clone, Default)]
pub struct Reasons {
    /// Those that are taught.
    pub chains: Vec<Chain>,
    /// The example's question that each is about.
    pub about: Vec<usize>,
    /// Questions whose chain is longer than the phase allows.
    pub long: usize,
    /// Questions that have no certain chain.
    pub dropped: usize,
}

/// A reasoned answer behind its prompt, or under other rules `G` another answer.
#[derive(Debug, Clone)]
pub struct Chain<G = Grammar> {
    /// The prompt, `<think>` at its end (`<answer>` where nothing is thought), then all that is written, `</answer>` at
    /// the end.
    pub ids: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// What may be written, in its state right behind the prompt.
    pub grammar: G,
    /// What each `[SEG]` is to show, in their order.
    pub shown: Vec<Shown>,
}

/// What a `[SEG]` of a reasoned answer is to show: one thing.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its mask.
    pub goal: Goal,
    /// What should be pointed at.
    pub pointers: Pointers,
    /// As [`Question::compared`].
    pub compared: bool,
}

impl Shown {
    /// What its `[SEG]` should find; chains tell relations in words, so that no anchor is taught.
    pub(crate) fn sought(&self) -> Sought<'_> {
        let Self { goal, pointers, compared } = self;
        Sought { goal, pointers, compared: *compared, anchor: None, plain: false }
    }
}

/// Chains for as many of the `chosen` questions as the phase teaches, in an order that `seed` draws.
pub(super) fn write(
    maker: &Maker<'_>,
    sample: &Sample,
    chosen: &[Asked<'_>],
    questions: &[Question],
    here: &Coverage,
    seed: u64,
) -> Result<Reasons> {
    let facts = Facts::of(&sample.picture);
    let view = sample.degradation.as_ref().and_then(|(family, _)| Family::named(family));
    let ids = reasoned_ids(maker.tokenizer);
    let mut reasoner = Reasoner::new(maker.tokenizer, maker.phase.limits());
    let mut order: Vec<usize> = (0..chosen.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ STREAM));
    let mut reasons = Reasons::default();
    for at in order {
        if reasons.chains.len() == maker.phase.chains {
            break;
        }
        let Asked { ask, expression, .. } = chosen[at];
        let Some(reasoned) = reasoner.reason(&reasoning::Question { facts: &facts, ask, expression, view })? else {
            continue;
        };
        let shown = reasoned.targets.iter().map(|&thing| {
            let target = if matches!(ask.target, Target::Boxes(_)) { Target::Boxes } else { Target::Masks };
            let pointers = Pointers { class: 0, targets: vec![thing], anchor: None, alike: None };
            Shown { goal: here.goal(&target(vec![thing])), pointers, compared: questions[at].compared }
        });
        let shown = shown.collect();
        let mut written = prompt(&questions[at].ids, &ids);
        let prompt = written.len();
        written.extend(reasoned.written);
        reasons.about.push(at);
        reasons.chains.push(Chain { ids: written, prompt, grammar: reasoner.grammar(), shown });
    }
    let count = |name: &str| reasoner.tally.get(name).copied().unwrap_or_default();
    reasons.long = count(LONG);
    reasons.dropped = reasoner.tally.values().sum::<usize>() - count(WRITTEN) - count(LONG);
    Ok(reasons)
}
