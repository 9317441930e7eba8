//! Answers to tasks as rollouts: sampled under the grammar, scored by the reward table, improved token by token.
//!
//! That reinforcement goes task after task is GeoVLM-R1's (arXiv 2509.25026): a recipe asks for one task, or for one and a
//! little of those before it, and begins from the result of the recipe before. What is asked and how answers are written
//! ([`crate::tasks`]) is derived, and so is that the form earns nothing: under the grammar every answer has it.

mod improve;
mod measured;
mod settings;

pub(super) use improve::improve;
pub use measured::Answers;
pub(super) use measured::measured;
pub use settings::Settings;

use candle_core::Tensor;
use kestrel_models::kestrel::generate::{Prompt, Rollout, Sampling, generate};
use kestrel_models::kestrel::{Choice, Seen};
use kestrel_models::tokenizer::QueryTokenizer;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::advantage::{self, advantages};
use super::episode::{Episode, Known};
use super::objective::Turn;
use super::recipe::Recipe;
use super::rollout::Actor;
use super::tokens::{Line, choices};
use crate::expressions::Phrasing;
use crate::rewards::views::Branch;
use crate::rewards::{Options, TaskKind, Truth, score};
use crate::sft::Result;
use crate::sft::example::{Chain, prompt};
use crate::tasks::{TextGrammar, TextLimits, parse, request, spoken};

/// An answer to a task, sampled.
#[derive(Debug, Clone)]
pub struct Spoken {
    /// Which view it is about.
    pub sight: usize,
    /// The task.
    pub kind: TaskKind,
    /// Prompt and answer.
    pub chain: Chain<TextGrammar>,
    /// Log-probabilities, when they were sampled, of the tokens that the grammar left open.
    pub logs: Vec<f32>,
    /// Whether only the limit ended it.
    pub overlong: bool,
    /// Its reward in 0..=1; `None` where it could not be scored.
    pub reward: Option<f64>,
    /// How much better than the others of its request it was; `None` where these tell nothing.
    pub advantage: Option<f32>,
}

impl Spoken {
    /// Tokens of the answer, without its end.
    pub fn tokens(&self) -> usize {
        self.chain.ids.len().saturating_sub(self.chain.prompt + 1)
    }

    /// What it teaches by, where it teaches anything.
    fn line(&self) -> Option<Line<'_, TextGrammar>> {
        let Self { chain, logs, overlong, advantage, .. } = self;
        Some(Line { chain, logs, advantage: (*advantage)?, overlong: *overlong })
    }

    /// As the surrogate counts it, under the policy that wrote it.
    pub(super) fn turn(&self) -> Option<Turn> {
        Some(self.line()?.turn())
    }
}

/// Asks for tasks about an episode, samples answers and judges them. Labels that cannot tell a right answer ask nothing.
///
/// # Errors
/// When the model or the tokenizer fails.
pub fn play(
    actor: &Actor<'_>,
    tokenizer: &QueryTokenizer,
    recipe: &Recipe,
    episode: &Episode,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Spoken>> {
    let kinds: Vec<(TaskKind, f32)> = recipe.tasks.kinds.iter().map(|(kind, weight)| (*kind, *weight)).collect();
    let mut all = Vec::new();
    for _ in 0..recipe.tasks.requests {
        // Weights are positive, so that nothing is drawn only where there is nothing.
        let Ok((kind, _)) = kinds.choose_weighted(rng, |(_, weight)| *weight) else { break };
        // Another task in its place would be asked for more often than the recipe says.
        let Some((sight, known)) = find(episode, *kind) else { continue };
        let mut rollouts = sample(actor, tokenizer, recipe, &episode.sights[sight].seen, known, rng)?;
        let rewards: Vec<Option<f64>> = rollouts.iter().map(|rollout| rollout.reward).collect();
        for (rollout, advantage) in rollouts.iter_mut().zip(compare(&rewards, &recipe.advantage)) {
            (rollout.sight, rollout.advantage) = (sight, advantage);
        }
        all.extend(rollouts);
    }
    Ok(all)
}

/// The view that this task can be asked about, where there is one.
fn find(episode: &Episode, kind: TaskKind) -> Option<(usize, &Known)> {
    let mut sights = episode.sights.iter().enumerate();
    sights.find_map(|(s, sight)| Some((s, sight.tasks.iter().find(|known| known.kind == kind)?)))
}

/// Answers to one request, scored and not yet compared.
fn sample(
    actor: &Actor<'_>,
    tokenizer: &QueryTokenizer,
    recipe: &Recipe,
    seen: &Seen<Tensor>,
    known: &Known,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Spoken>> {
    let Actor { params, config, special } = *actor;
    let Known { kind, truth } = known;
    let Some(request) = request(*kind, Phrasing::Train, rng) else { return Ok(Vec::new()) };
    let limits = TextLimits::of(*kind);
    let grammar = TextGrammar::new(tokenizer, limits);
    let asked = prompt(tokenizer, config.max_tokens, request)?;
    let choice = Choice::Sampled { temperature: recipe.tasks.temperature };
    let sampling = Sampling { choice, most: limits.most(), seg: special.seg };
    let before = Prompt { tokens: &seen.tokens, things: None, ids: &asked };
    let mut grammars = vec![grammar; recipe.tasks.rollouts];
    let drawn = generate(params, config, &before, &mut grammars, sampling, rng)?;
    let mut rollouts = Vec::with_capacity(drawn.len());
    for Rollout { ids, log_probabilities, .. } in drawn {
        // Under the grammar there is nothing that does not parse.
        let reward = worth(*kind, &spoken(parse(&ids, &grammar)?, tokenizer)?, truth);
        let (logs, overlong) = choices(&ids, &log_probabilities, grammar, config.vocabulary, special.answer_end);
        let ids = [&asked[..], &ids].concat();
        let chain = Chain { ids, prompt: asked.len(), grammar, shown: Vec::new() };
        rollouts.push(Spoken { sight: 0, kind: *kind, chain, logs, overlong, reward, advantage: None });
    }
    Ok(rollouts)
}

/// What an answer earns; `None` where that cannot be told.
fn worth(kind: TaskKind, said: &str, truth: &Truth) -> Option<f64> {
    let scored = score(kind, said, truth, &Options::default(), None).ok()?;
    Some(scored.reward).filter(|reward| reward.is_finite())
}

/// Advantages within the answers to one request.
fn compare(rewards: &[Option<f64>], options: &advantage::Options) -> Vec<Option<f32>> {
    let parts: Vec<_> = rewards.iter().map(|reward| reward.map(|r| [r as f32])).collect();
    // All of them look at the clear view and are normalised together.
    advantages(&parts, &[1.0], &vec![Branch::High; rewards.len()], options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_cannot_be_scored_is_not_worth_nothing() {
        let said = "<think></think><answer>park</answer>";
        let truth = |label: &str| Truth { labels: vec![label.to_owned()], ..Truth::default() };
        assert_eq!(worth(TaskKind::Classification, said, &truth("park")), Some(1.0));
        assert_eq!(worth(TaskKind::Classification, said, &truth("river")), Some(0.0));
        assert_eq!(worth(TaskKind::Classification, said, &Truth::default()), None);
    }

    proptest! {
        /// A rollout without an advantage is no turn and no line of a pass.
        #[test]
        fn answers_that_earn_alike_teach_nothing(
            reward in 0.0..=1.0f64, scorable in proptest::collection::vec(any::<bool>(), 0..9),
        ) {
            let rewards: Vec<_> = scorable.iter().map(|yes| yes.then_some(reward)).collect();
            let got = compare(&rewards, &advantage::Options::default());
            prop_assert_eq!(got, vec![None; rewards.len()]);
        }

        #[test]
        fn the_better_answer_is_raised_and_what_was_not_scored_is_left_out(
            low in 0.0..0.5f64, more in 0.1..0.5f64, at in 0usize..3,
        ) {
            let mut rewards = vec![Some(low), Some(low + more)];
            rewards.insert(at, None);
            let got = compare(&rewards, &advantage::Options::default());
            prop_assert_eq!(got[at], None);
            let of = |number: usize| got.iter().flatten().nth(number).copied().unwrap_or_default();
            prop_assert!(of(0) < 0.0 && of(1) > 0.0, "{:?}", got);
        }
    }
}
