//! Chains of reasons for questions whose answers are known: what a reasoned answer says between `<think>` and
//! `</think>`.
//!
//! A question becomes [`chain::Step`]s ([`write()`]): the cues in its words, the candidates with their boxes, what each cue
//! leaves of them, and what follows. The steps become token ids ([`Reasoner`]), and what the ids say is read back and
//! checked against the annotation by [`verify`], which shares nothing with the writing but the meaning of words
//! ([`crate::expressions::meaning`]) and of places ([`crate::expressions::space`]). A chain that fails is dropped and
//! counted. What a model writes is read and checked in the same way ([`judge()`]). The shape follows RSGround-R1 (arXiv
//! 2601.21634) as far as it is known; the chains' language is derived.

pub mod chain;
pub mod cues;
mod judge;
mod rank;
mod settled;
mod tokens;
mod verify;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_perception::answer::bins;
use kestrel_perception::{Grammar, Limits, parse};

use crate::expressions::meaning::{Expression, Facts};
use crate::sample::{Ask, Target};
use crate::views::Family;

pub use chain::{Bins, Piece, Step};
pub use judge::{Asked, judge, refused};
pub use settled::Settled;
pub use tokens::{pieces, reasoned_ids};
pub use verify::{Fault, verify};
pub use write::write;

/// Candidates with boxes, at most; further ones are "many".
pub const LISTED: usize = 6;

/// What a chain is about.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The picture's labels.
    pub facts: &'a Facts<'a>,
    /// The words and the right answer.
    pub ask: &'a Ask,
    /// What the words mean, where that is known and they mean something.
    pub expression: Option<&'a Expression>,
    /// What the picture suffered. Its questions were settled before, on the clear picture.
    pub view: Option<Family>,
}

impl Question<'_> {
    /// The box of a thing as locations.
    fn bins(&self, thing: usize) -> Bins {
        bins(self.facts.things[thing].edges.map(|v| v / self.facts.side))
    }

    /// What the words have that makes no sense, in the spelling of chains.
    fn senseless(&self) -> String {
        let words = self.ask.nonsense.iter().filter_map(|&(from, to)| self.ask.text.get(from..to));
        words.map(str::to_lowercase).collect::<Vec<_>>().join(" and ")
    }
}

/// Why there is no chain for a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Dropped {
    /// Its meaning was not kept.
    #[error("what the words mean is not known")]
    Meaning,
    /// Its cues have no place in a chain.
    #[error("a combination of cues that chains have no words for")]
    Cues,
    /// The annotation cannot tell what a cue leaves of the candidates.
    #[error("what a cue leaves is not sure")]
    Unsure,
    /// More candidates or targets than are listed.
    #[error("the answer is not among the candidates that are listed")]
    Many,
    /// The verifier found a statement that does not hold.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The chain has more tokens than the limits allow.
    #[error("the chain is longer than allowed")]
    Long,
}

impl Dropped {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meaning => "meaning",
            Self::Cues => "cues",
            Self::Unsure => "unsure",
            Self::Many => "many",
            Self::Fault(_) => "fault",
            Self::Long => "long",
        }
    }
}

/// A reasoned answer as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reasoned {
    /// Everything behind `<think>`, `</answer>` included.
    pub written: Vec<u32>,
    /// How many of these are the thought.
    pub thought: usize,
    /// The instance that each `[SEG]` is for, in order.
    pub targets: Vec<usize>,
}

/// Writes and checks chains, and counts those it dropped.
#[derive(Debug, Clone)]
pub struct Reasoner<'a> {
    tokenizer: &'a QueryTokenizer,
    grammar: Grammar,
    limits: Limits,
    /// Chains that were written, and by [`Dropped::name`] those that were not.
    pub tally: BTreeMap<&'static str, usize>,
}

/// Token ids of words and boxes.
pub(crate) fn encoded(pieces: &[Piece], tokenizer: &QueryTokenizer) -> kestrel_models::error::Result<Vec<u32>> {
    tokens::ids(pieces, tokenizer)
}

/// The name in [`Reasoner::tally`] of chains that were written.
pub const WRITTEN: &str = "written";

impl<'a> Reasoner<'a> {
    /// A reasoner whose chains fit `limits`.
    pub fn new(tokenizer: &'a QueryTokenizer, limits: Limits) -> Self {
        let grammar = Grammar::new(reasoned_ids(tokenizer), tokenizer.vocabulary() as u32, limits);
        Self { tokenizer, grammar, limits, tally: BTreeMap::new() }
    }

    /// The grammar that every chain follows.
    pub fn grammar(&self) -> Grammar {
        self.grammar
    }

    /// The reasoned answer to a question, or `None` where there is no certain one; the tally tells why.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn reason(&mut self, question: &Question<'_>) -> kestrel_models::error::Result<Option<Reasoned>> {
        let reasoned = self.attempt(question)?;
        let name = reasoned.as_ref().map_or_else(|dropped| dropped.name(), |_| WRITTEN);
        *self.tally.entry(name).or_default() += 1;
        Ok(reasoned.ok())
    }

    /// [`Reasoner::reason`] without counting, with the reason.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn attempt(&self, question: &Question<'_>) -> kestrel_models::error::Result<Result<Reasoned, Dropped>> {
        let steps = match write(question) {
            Ok(steps) => steps,
            Err(dropped) => return Ok(Err(dropped)),
        };
        let thought = tokens::ids(&chain::spell(&steps), self.tokenizer)?;
        let told = pieces(&thought, self.tokenizer)?;
        // What is checked is what the tokens say, not what was meant by them.
        let targets = match chain::read(&told).map_err(|_| Fault::SYNTAX).and_then(|told| verify(&told, question)) {
            Ok(targets) => targets,
            Err(fault) => return Ok(Err(fault.into())),
        };
        if targets.len() > self.limits.targets.max(1) {
            return Ok(Err(Dropped::Many));
        }
        let boxes: Vec<Bins> = targets.iter().map(|&thing| question.bins(thing)).collect();
        let written = tokens::answer(&thought, &boxes, refusal(&question.ask.target), self.tokenizer);
        Ok(match parse(&written, &self.grammar) {
            Ok(_) => Ok(Reasoned { written, thought: thought.len(), targets }),
            // The pieces are text and boxes are in order: nothing else can be wrong with them.
            Err(_) => Err(Dropped::Long),
        })
    }
}

/// Index of the reason among `<none:…>`, for an answer without targets.
fn refusal(target: &Target) -> Option<usize> {
    match target {
        Target::Masks(_) | Target::Boxes(_) => None,
        Target::Absent => Some(0),
        Target::Ambiguous(_) => Some(1),
        Target::NotUnderstood => Some(2),
        Target::Unseeable => Some(3),
    }
}
