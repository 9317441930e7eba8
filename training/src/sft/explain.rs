//! Reasoned answers of a model, decoded as they are at flight and held against the labels; the fast ones beside them.

use candle_core::Tensor;
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::generate::{Prompt, Sampling, generate};
use kestrel_models::kestrel::pack::pack;
use kestrel_models::kestrel::{Choice, Config, Seen, language};
use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_perception::{Answer, Conclusion, Grammar, Limits, parse, prompt};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Result;
use super::chain::leaves_open;
use super::evaluate::{KINDS, likeliest};
use super::example::ids;
use super::pass::host;
use crate::benchmark;
use crate::expressions::meaning::Facts;
use crate::expressions::{Options, Proposed, generate_about};
use crate::metrics::{Explained, Kind};
use crate::reasoning::{Question, Reasoner, chain, pieces, reasoned_ids, verify};
use crate::sample::{Sample, Target};
use crate::views::Family;

/// A model that answers.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    /// The parameters.
    pub params: &'a Params,
    /// Its sizes, at its input size.
    pub config: &'a Config,
    /// Its words.
    pub tokenizer: &'a QueryTokenizer,
    /// Room for a reasoned answer.
    pub limits: Limits,
}

/// Answers `count` questions about a picture with reasons, greedily, and in the fast way; `seen` is its view.
///
/// A clear picture is asked anew, by `seed`, in phrasings as in the benchmark: what stored questions mean was not kept, and
/// without it no cue can be checked. A degraded one keeps its questions: what is said there names no cue.
///
/// # Errors
/// When the model fails.
pub fn explain(
    model: &Model<'_>,
    sample: &Sample,
    seen: &Seen<Tensor>,
    count: usize,
    seed: u64,
) -> Result<Vec<Explained>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let facts = Facts::of(&sample.picture);
    let view = sample.degradation.as_ref().and_then(|(family, _)| Family::named(family));
    let asked = match sample.degradation.is_some() {
        true => sample.asks.iter().take(count).cloned().map(unmeant).collect(),
        false => {
            let options = Options { count, ..benchmark::options() };
            generate_about(&facts, &options, &mut ChaCha8Rng::seed_from_u64(seed))
        }
    };
    let mut requests = Vec::with_capacity(asked.len());
    for Proposed { ask, .. } in &asked {
        let Model { tokenizer, config, .. } = model;
        requests.push(ids(tokenizer, config.max_tokens, &ask.text, ask.hint.as_ref(), &[])?.0);
    }
    let fast = fast(model, seen, &requests)?;
    let grammar = Reasoner::new(model.tokenizer, model.limits).grammar();
    let mut explained = Vec::with_capacity(asked.len());
    for ((Proposed { ask, expression, .. }, request), fast) in asked.iter().zip(&requests).zip(fast) {
        let written = decoded(model, seen, request, &grammar)?;
        let question = Question { facts: &facts, ask, expression: expression.as_ref(), view };
        explained.push(judged(model.tokenizer, &question, &written, &grammar)?.record(&question, fast));
    }
    Ok(explained)
}

/// A question whose meaning was not kept.
fn unmeant(ask: crate::sample::Ask) -> Proposed {
    Proposed { ask, expression: None, needs: Vec::new(), anchor: None, alike: None }
}

/// The likeliest fast answer to each request.
fn fast(model: &Model<'_>, seen: &Seen<Tensor>, requests: &[Vec<u32>]) -> Result<Vec<Kind>> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let (config, special) = (model.config, model.tokenizer.special());
    let packed = pack(&[requests.to_vec()], config.token_side().pow(2), special.pad, None);
    let packed = packed.tensors(config.language_width / config.heads, model.params.device())?;
    let said = language(&mut Candle::evaluating(model.params), config, &seen.tokens, &packed)?;
    let answers = special.answers();
    let rows = host(&said.logits)?;
    Ok(rows.chunks_exact(config.vocabulary).map(|row| KINDS[likeliest(row, &answers)]).collect())
}

/// What the model writes behind a request's prompt.
fn decoded(model: &Model<'_>, seen: &Seen<Tensor>, request: &[u32], grammar: &Grammar) -> Result<Vec<u32>> {
    let ids = prompt(request, &reasoned_ids(model.tokenizer));
    let prompt = Prompt { tokens: &seen.tokens, ids: &ids };
    let sampling = Sampling { choice: Choice::Greedy, most: model.limits.tokens, seg: model.tokenizer.special().seg };
    // Greed draws nothing.
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let rollouts = generate(model.params, model.config, &prompt, &mut [*grammar], sampling, &mut rng)?;
    Ok(rollouts.into_iter().next().unwrap_or_default().ids)
}

/// A reasoned answer, read.
struct Said {
    answer: Option<Answer>,
    words: String,
    ended: bool,
    confirmed: Option<bool>,
}

fn judged(tokenizer: &QueryTokenizer, question: &Question<'_>, written: &[u32], grammar: &Grammar) -> Result<Said> {
    let answer = parse(written, grammar).ok();
    let thought = answer.as_ref().map_or(&[][..], |answer| &answer.thought);
    let told = pieces(thought, tokenizer)?;
    let holds = chain::read(&told).is_ok_and(|steps| verify(&steps, question).is_ok());
    let meant = question.expression.is_some() || question.view.is_some();
    let known = meant || question.ask.target == Target::NotUnderstood;
    let words = told.iter().filter_map(|piece| match piece {
        chain::Piece::Text(text) => Some(text.trim()),
        chain::Piece::Box(_) => None,
    });
    Ok(Said {
        words: words.collect::<Vec<_>>().join(" … "),
        ended: ended(thought, grammar, tokenizer),
        confirmed: known.then_some(holds),
        answer,
    })
}

/// Whether more than the end was allowed behind a thought.
fn ended(thought: &[u32], grammar: &Grammar, tokenizer: &QueryTokenizer) -> bool {
    let mut state = grammar.restarted();
    let whole = thought.iter().all(|id| state.push(*id).is_ok());
    whole && leaves_open(&state, tokenizer.vocabulary())
}

impl Said {
    fn record(self, question: &Question<'_>, fast: Kind) -> Explained {
        let edges = |thing: &usize| question.facts.things.get(*thing).map(|t| t.edges.map(|v| v / question.facts.side));
        let of: &[usize] = match &question.ask.target {
            Target::Masks(of) | Target::Boxes(of) => of,
            _ => &[],
        };
        let (given, boxes, tokens) = match self.answer {
            Some(Answer { outcome: Conclusion::Boxes(boxes), thought }) => (Some(Kind::Mask), boxes, thought.len()),
            Some(Answer { outcome: Conclusion::None(reason), thought }) => {
                (KINDS.get(reason + 1).copied(), Vec::new(), thought.len())
            }
            None => (None, Vec::new(), 0),
        };
        Explained {
            scene: question.facts.picture.origin.scene.clone(),
            text: question.ask.text.clone(),
            expected: Kind::from(&question.ask.target),
            truth: of.iter().filter_map(edges).collect(),
            fast,
            given,
            boxes,
            thought: self.words,
            tokens,
            ended: self.ended,
            confirmed: self.confirmed,
        }
    }
}
