//! Holds a reasoned answer against the labels, whoever decoded it.

use kestrel_models::error::Result;
use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_perception::{Answer, Conclusion, Grammar, parse};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Piece, Question, chain, pieces, verify};
use crate::benchmark;
use crate::expressions::meaning::Facts;
use crate::expressions::{Options, Proposed, generate_about};
use crate::metrics::{Explained, Kind};
use crate::sample::{Ask, Sample, Target};
use crate::sft::chain::leaves_open;
use crate::views::Family;

/// What is asked of a picture for reasons.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    facts: &'a Facts<'a>,
    view: Option<Family>,
    proposed: Vec<Proposed>,
}

impl<'a> Asked<'a> {
    /// Up to `count` questions about a sample, of whose picture these are the facts.
    ///
    /// A clear picture is asked anew, by `seed`, in phrasings as in the benchmark: what stored questions mean was not
    /// kept, and without it no cue can be checked. A degraded one keeps its questions: what is said there names no cue.
    pub fn of(sample: &Sample, facts: &'a Facts<'a>, count: usize, seed: u64) -> Self {
        let view = sample.degradation.as_ref().and_then(|(family, _)| Family::named(family));
        let proposed = match sample.degradation.is_some() {
            true => sample.asks.iter().take(count).cloned().map(unmeant).collect(),
            false => {
                let options = Options { count, ..benchmark::options() };
                generate_about(facts, &options, &mut ChaCha8Rng::seed_from_u64(seed))
            }
        };
        Self { facts, view, proposed }
    }

    /// The questions.
    pub fn questions(&self) -> impl Iterator<Item = Question<'_>> {
        self.proposed.iter().map(|Proposed { ask, expression, .. }| Question {
            facts: self.facts,
            ask,
            expression: expression.as_ref(),
            view: self.view,
        })
    }
}

/// A question whose meaning was not kept.
fn unmeant(ask: Ask) -> Proposed {
    Proposed { ask, expression: None, needs: Vec::new(), anchor: None, alike: None }
}

/// Judges what was written behind a question's `<think>` under `grammar`; `fast` is the fast answer to it.
///
/// Boxes are compared in fractions of the model's input, which are those of the picture: samples are square.
///
/// # Errors
/// When the tokenizer fails.
pub fn judge(
    tokenizer: &QueryTokenizer,
    question: &Question<'_>,
    written: &[u32],
    grammar: &Grammar,
    fast: Kind,
) -> Result<Explained> {
    let silent = refused(question, Kind::Other, fast);
    let Ok(Answer { outcome, thought }) = parse(written, grammar) else {
        return Ok(Explained { given: None, ended: false, confirmed: known(question).then_some(false), ..silent });
    };
    let told = pieces(&thought, tokenizer)?;
    let holds = chain::read(&told).is_ok_and(|steps| verify(&steps, question).is_ok());
    let words = told.iter().filter_map(|piece| match piece {
        Piece::Text(text) => Some(text.trim()),
        Piece::Box(_) => None,
    });
    let (given, boxes) = match outcome {
        Conclusion::Boxes(boxes) => (Some(Kind::Mask), boxes),
        Conclusion::None(reason) => (Kind::ANSWERS.get(reason + 1).copied(), Vec::new()),
    };
    Ok(Explained {
        given,
        boxes,
        thought: words.collect::<Vec<_>>().join(" … "),
        tokens: thought.len(),
        ended: ended(&thought, grammar, tokenizer),
        confirmed: known(question).then_some(holds),
        ..silent
    })
}

/// A question that was refused before anything was thought: complete, and no statement in it to confirm.
pub fn refused(question: &Question<'_>, given: Kind, fast: Kind) -> Explained {
    let Question { facts, ask, .. } = question;
    let edges = |thing: &usize| facts.things.get(*thing).map(|thing| thing.edges.map(|v| v / facts.side));
    let of: &[usize] = match &ask.target {
        Target::Masks(of) | Target::Boxes(of) => of,
        _ => &[],
    };
    Explained {
        scene: facts.picture.origin.scene.clone(),
        text: ask.text.clone(),
        expected: Kind::from(&ask.target),
        truth: of.iter().filter_map(edges).collect(),
        fast,
        given: Some(given),
        boxes: Vec::new(),
        thought: String::new(),
        tokens: 0,
        ended: true,
        confirmed: None,
        overlap: None,
        fast_overlap: None,
    }
}

/// Whether the labels can judge what is said about a question.
fn known(question: &Question<'_>) -> bool {
    question.expression.is_some() || question.view.is_some() || question.ask.target == Target::NotUnderstood
}

/// Whether more than the end was allowed behind a thought.
fn ended(thought: &[u32], grammar: &Grammar, tokenizer: &QueryTokenizer) -> bool {
    let mut state = grammar.restarted();
    let whole = thought.iter().all(|id| state.push(*id).is_ok());
    whole && leaves_open(&state, tokenizer.vocabulary())
}
