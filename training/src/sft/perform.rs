//! A model's answers to tasks, decoded and scored, beside the best answer of one that does not look.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;
use kestrel_models::kestrel::generate::{Prompt, Sampling, generate};
use kestrel_models::kestrel::{Choice, Seen};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::chain::leaves_open;
use super::example::prompt;
use super::explain::Model;
use super::{Recipe, Result};
use crate::cache::Cache;
use crate::expressions::Phrasing;
use crate::metrics::Performed;
use crate::rewards::{Options, TaskKind, score};
use crate::sample::Sample;
use crate::tasks::{self, Task, TextGrammar, TextLimits, constant, first_told, parse, right, spoken, task, text, told};

/// Training pictures whose right answers are tried as the constant one.
const PICTURES: usize = 128;
/// Share of requests in held-out phrasings, as in the benchmark.
const HELD_OUT_SHARE: f32 = 0.3;
/// Sets what is drawn here apart from what else is drawn for a picture.
const STREAM: u64 = 0x7065_7266;

/// What is asked of a model beside its questions.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The tasks.
    pub kinds: BTreeSet<TaskKind>,
    /// Requests of each about each picture.
    pub count: usize,
    /// The constant answer to each, where training pictures have any.
    pub constants: BTreeMap<TaskKind, String>,
}

impl Plan {
    /// The tasks of all phases of a recipe, so that what an earlier one has taught is judged to the end. The constant
    /// answers come from the first training pictures.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn of(recipe: &Recipe, cache: &Cache) -> Result<Self> {
        let kinds: BTreeSet<TaskKind> = recipe.phases.iter().flat_map(|phase| phase.tasks.keys().copied()).collect();
        let mut plan = Self { kinds, count: recipe.evaluate_tasks, constants: BTreeMap::new() };
        if plan.is_empty() {
            return Ok(plan);
        }
        let mut answers: BTreeMap<TaskKind, Vec<_>> = BTreeMap::new();
        for index in 0..cache.len().min(PICTURES) {
            let sample = cache.get(index)?;
            let Some(facts) = tasks::facts(&sample) else { continue };
            for &kind in &plan.kinds {
                let found = right(&facts, kind).or_else(|| first_told(&sample, kind));
                let found = found.map(|(answer, truth)| (text(&answer), truth));
                answers.entry(kind).or_default().extend(found);
            }
        }
        plan.constants = answers.iter().filter_map(|(kind, of)| Some((*kind, constant(*kind, of)?))).collect();
        Ok(plan)
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty() || self.count == 0
    }
}

/// Answers the tasks of a plan about a picture, greedily; `seen` is its view. Where neither labels nor people tell the right
/// answer, nothing is asked.
///
/// # Errors
/// When the model or the tokenizer fails.
pub fn perform(
    model: &Model<'_>,
    sample: &Sample,
    seen: &Seen<Tensor>,
    plan: &Plan,
    seed: u64,
) -> Result<Vec<Performed>> {
    if plan.is_empty() {
        return Ok(Vec::new());
    }
    let Some(facts) = tasks::facts(sample) else { return Ok(Vec::new()) };
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ STREAM);
    let mut performed = Vec::new();
    for &kind in &plan.kinds {
        let mut told = told(sample, kind, plan.count, &mut rng).into_iter();
        for _ in 0..plan.count {
            let held_out = rng.random::<f32>() < HELD_OUT_SHARE;
            let phrasing = if held_out { Phrasing::HeldOut } else { Phrasing::Train };
            let task = told.next().or_else(|| task(&facts, kind, phrasing, &mut rng));
            let Some(task) = task else { break };
            let said = answer(model, &task, seen)?;
            let constant = plan.constants.get(&kind).map(String::as_str);
            performed.push(record(&task, said, constant, &sample.picture.origin.scene));
        }
    }
    Ok(performed)
}

/// What a model wrote.
struct Said {
    text: String,
    tokens: usize,
    ended: bool,
}

fn answer(model: &Model<'_>, task: &Task, seen: &Seen<Tensor>) -> Result<Said> {
    let limits = TextLimits::of(task.kind);
    let grammar = TextGrammar::new(model.tokenizer, limits);
    let ids = prompt(model.tokenizer, model.config.max_tokens, &task.request)?;
    let asked = Prompt { tokens: &seen.tokens, things: None, ids: &ids };
    let seg = model.tokenizer.special().seg;
    let sampling = Sampling { choice: Choice::Greedy, most: limits.most(), seg };
    // Greed draws nothing.
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let drawn = generate(model.params, model.config, &asked, &mut [grammar], sampling, &mut rng)?;
    let written = drawn.into_iter().next().unwrap_or_default().ids;
    // Under the grammar there is nothing that does not parse.
    let said = parse(&written, &grammar)?;
    let mut state = grammar;
    let whole = said.iter().all(|id| state.push(*id).is_ok());
    let ended = whole && leaves_open(&state, model.tokenizer.vocabulary());
    Ok(Said { text: spoken(said, model.tokenizer)?, tokens: said.len(), ended })
}

fn record(task: &Task, said: Said, constant: Option<&str>, scene: &str) -> Performed {
    let options = Options::default();
    let worth = |text: &str| score(task.kind, text, &task.truth, &options, None).ok().map(|scored| scored.reward);
    Performed {
        scene: scene.to_owned(),
        kind: task.kind,
        request: task.request.clone(),
        held_out_phrasing: task.held_out_phrasing,
        right: text(&task.answer),
        reward: worth(&said.text),
        constant: constant.and_then(worth),
        said: said.text,
        tokens: said.tokens,
        ended: said.ended,
    }
}
