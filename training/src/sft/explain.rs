//! Reasoned answers of a model, decoded as they are at flight and held against the labels; the fast ones beside them.

use candle_core::Tensor;
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::generate::{Prompt, Sampling, generate};
use kestrel_models::kestrel::pack::pack;
use kestrel_models::kestrel::{Choice, Config, Seen, language};
use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_perception::{Grammar, Limits, prompt};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::evaluate::likeliest;
use super::example::ids;
use super::pass::host;
use super::{Result, propose};
use crate::expressions::meaning::Facts;
use crate::metrics::{Explained, Kind};
use crate::reasoning::{Asked, Question, Reasoner, judge, reasoned_ids};
use crate::sample::Sample;

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

/// Answers `count` questions about a picture, those of [`Asked`], with reasons, greedily, and in the fast way; `seen` is
/// its view.
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
    let asked = Asked::of(sample, &facts, count, seed);
    let Model { tokenizer, config, .. } = model;
    let mut requests = Vec::with_capacity(count);
    for Question { ask, .. } in asked.questions() {
        requests.push(ids(tokenizer, config.max_tokens, &ask.text, ask.hint.as_ref(), &[])?.0);
    }
    let fast = fast(model, seen, &requests)?;
    let things = propose::things(config, seen, &propose::found(seen, config)?)?;
    let grammar = Reasoner::new(tokenizer, model.limits).grammar();
    let mut explained = Vec::with_capacity(requests.len());
    for ((question, request), fast) in asked.questions().zip(&requests).zip(fast) {
        let written = decoded(model, (seen, things.as_ref()), request, &grammar)?;
        explained.push(judge(tokenizer, &question, &written, &grammar, fast)?);
    }
    Ok(explained)
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
    Ok(rows.chunks_exact(config.vocabulary).map(|row| Kind::ANSWERS[likeliest(row, &answers)]).collect())
}

/// What the model writes behind a request's prompt, given the view and what stands out there.
fn decoded(
    model: &Model<'_>,
    (seen, things): (&Seen<Tensor>, Option<&Tensor>),
    request: &[u32],
    grammar: &Grammar,
) -> Result<Vec<u32>> {
    let ids = prompt(request, &reasoned_ids(model.tokenizer));
    let prompt = Prompt { tokens: &seen.tokens, things, ids: &ids };
    let sampling = Sampling { choice: Choice::Greedy, most: model.limits.tokens, seg: model.tokenizer.special().seg };
    // Greed draws nothing.
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let rollouts = generate(model.params, model.config, &prompt, &mut [*grammar], sampling, &mut rng)?;
    Ok(rollouts.into_iter().next().unwrap_or_default().ids)
}
