//! Reasoned answers as rollouts: sampled under the grammar, rewarded by their places, improved token by token.
//!
//! The shape is that of RSGround-R1 (arXiv 2601.21634): chains, a positional reward, and updates scaled by how far a
//! group agrees on a place. Its equations are not public; formulas and numbers here and in [`position`] are derived.

mod improve;
mod teach;

pub(super) use improve::improve;
pub use teach::Taught;
pub(super) use teach::{draw, teach};

use candle_core::Tensor;
use kestrel_models::kestrel::generate::{Prompt, Sampling, generate};
use kestrel_models::kestrel::{Choice, Seen};
use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_perception::{Answer, Conclusion, Grammar, Limits, parse, prompt};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::advantage::{self, advantages};
use super::episode::{Episode, Posed};
use super::objective::Turn;
use super::recipe::Recipe;
use super::rollout::Actor;
use super::tokens::{Line, choices};
use crate::reasoning::{Reasoner, chain, pieces, reasoned_ids};
use crate::rewards::boxes::{self, Edges};
use crate::rewards::position::{self, Coherence, Extent, Reach, Weights};
use crate::rewards::views::Branch;
use crate::sample::Target;
use crate::sft::example::{Chain, class, ids};
use crate::sft::{Result, propose};

/// What the wrong reason for a right refusal is worth beside the right one.
const WRONG_REASON: f64 = 0.5;

/// Reasoned answers among the rollouts of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Questions about each picture that are answered with reasons; 0 leaves all of this out.
    pub questions: usize,
    /// Tokens of the longest thought; a rollout whose thought is cut counts as overlong.
    pub thought_tokens: usize,
    /// What form, IoU and position of an answer are worth.
    pub reward: Weights,
    /// How fast the positional reward falls.
    pub reach: Reach,
    /// How advantages are scaled by the coherence of a group's places; not at all where this is not given.
    pub coherence: Option<Coherence>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { questions: 0, thought_tokens: 96, reward: Weights::default(), reach: Reach::default(), coherence: None }
    }
}

impl Settings {
    /// Whether nothing is answered with reasons; a recipe without is written as it always was.
    pub fn off(&self) -> bool {
        *self == Self::default()
    }
}

/// A reasoned rollout.
#[derive(Debug, Clone)]
pub struct Written {
    /// Which view it is about.
    pub sight: usize,
    /// Rollouts of one group answer one question.
    pub group: usize,
    /// Prompt and answer.
    pub chain: Chain,
    /// Log-probabilities, when they were sampled, of the tokens that the grammar left open.
    pub logs: Vec<f32>,
    /// Whether the limit ended its thought.
    pub overlong: bool,
    /// Its reward; `None` where it could not be scored.
    pub scored: Option<Scored>,
    /// How much better than its group it was, scaled by coherence; `None` where the group tells nothing.
    pub advantage: Option<f32>,
    /// ω, by which the advantage was scaled.
    pub weight: f32,
}

impl Written {
    /// What it teaches by, where it teaches anything.
    fn line(&self) -> Option<Line<'_, Grammar>> {
        let Self { chain, logs, overlong, advantage, .. } = self;
        Some(Line { chain, logs, advantage: (*advantage)?, overlong: *overlong })
    }

    /// As the surrogate counts it, under the policy that wrote it.
    pub(super) fn turn(&self) -> Option<Turn> {
        Some(self.line()?.turn())
    }
}

/// What a reasoned rollout is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Scored {
    /// 1 where the thought can be read as a chain.
    pub format: f64,
    /// Σ IoU over the larger number of boxes, of a target that is there; how right a refusal is where there is none.
    pub iou: f64,
    /// Positional reward of the first box.
    pub position: f64,
    /// The first box.
    pub edges: Option<Edges>,
    /// The weighted sum.
    pub reward: f64,
}

/// Answers some of an episode's questions with reasons. `progress` is the share of training that is done.
///
/// # Errors
/// When the model or the tokenizer fails.
pub fn play(
    actor: &Actor<'_>,
    tokenizer: &QueryTokenizer,
    recipe: &Recipe,
    episode: &Episode,
    progress: f64,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Written>> {
    let settings = &recipe.reasoning;
    let mut places: Vec<(usize, &Posed)> = Vec::new();
    for (s, sight) in episode.sights.iter().enumerate() {
        places.extend(sight.asked.iter().filter(|posed| answerable(posed)).map(|posed| (s, posed)));
    }
    places.shuffle(rng);
    let mut written = Vec::new();
    for (group, (sight, posed)) in places.into_iter().take(settings.questions).enumerate() {
        let seen = &episode.sights[sight].seen;
        let mut rollouts = sample(actor, tokenizer, recipe, seen, posed, rng)?;
        for rollout in &mut rollouts {
            (rollout.sight, rollout.group) = (sight, group);
            rollout.scored = judge(tokenizer, settings, posed, rollout, progress)?;
        }
        compare(recipe, posed.branch(), progress, &mut rollouts);
        written.extend(rollouts);
    }
    Ok(written)
}

/// Whether an answer's boxes can be judged: one thing is meant, or nothing is to be shown.
fn answerable(posed: &Posed) -> bool {
    match &posed.ask.target {
        Target::Masks(of) => of.len() == 1 && bounds(posed.target()).is_some(),
        Target::Boxes(_) => false,
        _ => true,
    }
}

/// The rollouts of one question, not yet judged.
fn sample(
    actor: &Actor<'_>,
    tokenizer: &QueryTokenizer,
    recipe: &Recipe,
    seen: &Seen<Tensor>,
    posed: &Posed,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Written>> {
    let limits = Limits::roomy(recipe.reasoning.thought_tokens, 1);
    let grammar = Reasoner::new(tokenizer, limits).grammar();
    let ask = &posed.ask;
    let (request, _) = ids(tokenizer, actor.config.max_tokens, &ask.text, ask.hint.as_ref(), &[])?;
    let prompt = prompt(&request, &reasoned_ids(tokenizer));
    let mut grammars = vec![grammar; recipe.policy.rollouts];
    let choice = Choice::Sampled { temperature: recipe.policy.temperature };
    let sampling = Sampling { choice, most: limits.tokens, seg: actor.special.seg };
    let things = propose::things(actor.config, seen, &propose::found(seen, actor.config)?)?;
    let asked = Prompt { tokens: &seen.tokens, things: things.as_ref(), ids: &prompt };
    let drawn = generate(actor.params, actor.config, &asked, &mut grammars, sampling, rng)?;
    let write = |rollout: kestrel_models::kestrel::generate::Rollout| {
        let (vocabulary, end) = (actor.config.vocabulary, actor.special.think_end);
        let (logs, overlong) = choices(&rollout.ids, &rollout.log_probabilities, grammar, vocabulary, end);
        let ids = [&prompt[..], &rollout.ids].concat();
        let chain = Chain { ids, prompt: prompt.len(), grammar, shown: Vec::new() };
        let (scored, advantage, weight) = (None, None, 1.0);
        Written { sight: 0, group: 0, chain, logs, overlong, scored, advantage, weight }
    };
    Ok(drawn.into_iter().map(write).collect())
}

/// What one rollout is worth; `None` where that cannot be told.
fn judge(
    tokenizer: &QueryTokenizer,
    settings: &Settings,
    posed: &Posed,
    rollout: &Written,
    progress: f64,
) -> Result<Option<Scored>> {
    let Chain { ids, prompt, grammar, .. } = &rollout.chain;
    let Ok(Answer { thought, outcome }) = parse(&ids[*prompt..], grammar) else { return Ok(Some(Scored::default())) };
    let reads = chain::read(&pieces(&thought, tokenizer)?).is_ok();
    let mut scored = Scored { format: f64::from(u8::from(reads)), ..Scored::default() };
    match (outcome, bounds(posed.target())) {
        (Conclusion::Boxes(said), truth) => {
            scored.edges = said.first().copied();
            if let Some(truth) = truth {
                let overlap = boxes::detection(&said, &[truth], 0.0);
                let first = position::positional(said.first(), &truth, Extent::SQUARE, settings.reach);
                let (Ok(iou), Ok(position)) = (overlap, first) else { return Ok(None) };
                (scored.iou, scored.position) = (iou, position);
            }
        }
        (Conclusion::None(reason), None) => {
            scored.iou = if reason + 1 == class(&posed.ask.target) { 1.0 } else { WRONG_REASON };
        }
        (Conclusion::None(_), Some(_)) => {}
    }
    scored.reward = settings.reward.total(scored.format, scored.iou, scored.position, progress);
    Ok(scored.reward.is_finite().then_some(scored))
}

/// Advantages within one question's rollouts, scaled by the coherence of their places.
fn compare(recipe: &Recipe, branch: Branch, progress: f64, rollouts: &mut [Written]) {
    let scored: Vec<Option<Scored>> = rollouts.iter().map(|rollout| rollout.scored).collect();
    let advantages = unscaled(&scored, branch, recipe.reasoning.reward.at(progress), &recipe.advantage);
    let group: Vec<position::Rollout> = rollouts
        .iter()
        .zip(&advantages)
        .map(|(r, advantage)| {
            let Scored { edges, iou, .. } = r.scored.unwrap_or_default();
            position::Rollout { edges, iou, advantage: f64::from(advantage.unwrap_or_default()) }
        })
        .collect();
    let weights = match &recipe.reasoning.coherence {
        Some(coherence) => coherence.weights(&group, Extent::SQUARE),
        None => vec![1.0; rollouts.len()],
    };
    for ((rollout, advantage), weight) in rollouts.iter_mut().zip(advantages).zip(weights) {
        rollout.weight = weight as f32;
        rollout.advantage = advantage.map(|advantage| advantage * rollout.weight);
    }
}

/// Advantages of one question's rollouts by their form, IoU and position, each with its weight.
fn unscaled(
    scored: &[Option<Scored>],
    branch: Branch,
    weights: [f64; 3],
    options: &advantage::Options,
) -> Vec<Option<f32>> {
    let [of_format, of_iou, of_position] = weights;
    let weighted = |Scored { format, iou, position, .. }: Scored| {
        [of_format * format, of_iou * iou, of_position * position].map(|part| part as f32)
    };
    let parts: Vec<Option<[f32; 3]>> = scored.iter().map(|scored| scored.map(weighted)).collect();
    advantages(&parts, &weights.map(|weight| weight as f32), &vec![branch; scored.len()], options)
}

/// The box around a mask of shares of `side²` cells, in fractions of the view: an edge lies within the outermost cell by
/// the largest share that is covered along it. None where nothing is covered.
fn bounds(cells: &[f32]) -> Option<Edges> {
    let side = cells.len().isqrt();
    let most = |of: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
        (0..side).map(|line| (0..side).map(|k| of(line, k)).fold(0.0, f32::max)).collect()
    };
    let axis = |lines: &[f32]| {
        let first = lines.iter().position(|share| *share > 0.0)?;
        let last = lines.iter().rposition(|share| *share > 0.0)?;
        let (low, high) = (first as f32 + 1.0 - lines[first], last as f32 + lines[last]);
        // Within one cell the two shares are the same one.
        let (low, high) = if first == last { (first as f32, last as f32 + 1.0) } else { (low, high) };
        Some((low / side as f32, high / side as f32))
    };
    let (x0, x1) = axis(&most(&|column, row| cells[row * side + column]))?;
    let (y0, y1) = axis(&most(&|row, column| cells[row * side + column]))?;
    Some([x0, y0, x1, y1])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_box_lies_around_what_is_covered() {
        let mut cells = vec![0.0; 64];
        assert_eq!(bounds(&cells), None);
        (cells[9], cells[10], cells[11]) = (0.25, 1.0, 0.5);
        (cells[17], cells[18], cells[19]) = (0.25, 1.0, 0.5);
        let [x0, y0, x1, y1] = bounds(&cells).unwrap();
        assert_eq!([x0, x1].map(|v| v * 8.0), [1.75, 3.5]);
        assert_eq!([y0, y1].map(|v| v * 8.0), [1.0, 3.0]);
        cells.fill(0.0);
        cells[63] = 0.1;
        assert_eq!(bounds(&cells).unwrap().map(|v| v * 8.0), [7.0, 7.0, 8.0, 8.0]);
    }

    /// What would break: parts packed into one are never normalised for themselves, whatever the recipe asks.
    #[test]
    fn form_counts_by_its_weight_where_parts_are_normalised_for_themselves() {
        let of = |format: f64, iou: f64| Some(Scored { format, iou, ..Scored::default() });
        let weights = Weights::default().at(0.0);
        let apart = advantage::Options { per_reward: true, ..advantage::Options::default() };
        let near = |got: Option<f32>, wanted: f32| (got.unwrap() - wanted).abs() < 1e-3;
        // Places alike, forms not: ±0.707 of two rollouts, times the form's weight of a half.
        let form = [of(1.0, 0.8), of(0.0, 0.8), None];
        let got = unscaled(&form, Branch::High, weights, &apart);
        assert!(near(got[0], 0.3536) && near(got[1], -0.3536) && got[2].is_none(), "{got:?}");
        assert!(near(
            unscaled(&form, Branch::High, weights, &advantage::Options::default())[0],
            std::f32::consts::FRAC_1_SQRT_2
        ));
        // The better form, and a place that is worse by little: the place weighs twice as much.
        let both = [of(1.0, 0.7), of(0.0, 0.8)];
        assert!(near(unscaled(&both, Branch::High, weights, &apart)[0], -0.3536));
        assert!(near(
            unscaled(&both, Branch::High, weights, &advantage::Options::default())[0],
            std::f32::consts::FRAC_1_SQRT_2
        ));
    }
}
