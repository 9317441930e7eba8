//! One gradient pass over what was played: the surrogate, the regression of Aerial-R1, plain supervision.

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::{Proposals, Seen, compare, decode, keys};
use serde::Serialize;

use super::objective::{Action, Turn, categorical, gaussian, surrogate};
use super::reasoned::{self, Written};
use super::recipe::Recipe;
use super::rollout::{Actor, Asked, Heard, Played, Taken, answers, hear};
use super::spoken::{self, Spoken};
use crate::losses::mask::{self as masks, Parts};
use crate::losses::proposals::owners;
use crate::losses::{answer, attach};
use crate::rewards::views::Branch;
use crate::sft::example::Question;
use crate::sft::measured::Values;
use crate::sft::pass::{Setup, host};
use crate::sft::teach::{self, Scene, Sought};
use crate::sft::{Result, propose};

/// Weights of cross-entropy and Dice in the mask regression of Aerial-R1's public source. Our dense loss stands in for its
/// cross-entropy at sampled points: focal over all cells, by the target's area.
const REGRESSED: Parts = Parts { focal: 2.0, dice: 0.5 };

/// Sums of what gradient passes measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Improved {
    /// The weighted loss.
    pub loss: f32,
    /// The surrogate.
    pub policy: f32,
    /// The regression.
    pub regression: f32,
    /// Supervision.
    pub supervised: f32,
    /// Chains of reasons beside it, where there are any.
    #[serde(skip_serializing_if = "nothing")]
    pub chains: f32,
    /// Actions that counted.
    pub actions: usize,
    /// Actions that were clipped.
    pub clipped: usize,
    /// Divergence from the reference, summed over actions.
    pub kl: f32,
}

/// The log of a run without chains is as it always was.
fn nothing(loss: &f32) -> bool {
    *loss == 0.0
}

impl std::ops::AddAssign for Improved {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.policy += other.policy;
        self.regression += other.regression;
        self.supervised += other.supervised;
        self.chains += other.chains;
        self.actions += other.actions;
        self.clipped += other.clipped;
        self.kl += other.kl;
    }
}

/// What the whole batch is averaged over.
#[derive(Debug, Clone, Copy)]
pub struct Batch {
    /// Units of the surrogate, see [`super::objective::units`].
    pub units: f32,
    /// Rollouts with a positive advantage.
    pub better: f32,
    /// Pictures.
    pub pictures: f32,
}

/// The turns of a played picture as the surrogate counts them, under the policy that played.
pub fn turns(played: &Played) -> Vec<Turn> {
    let fast = played.taken.iter().filter_map(|taken| Some(turn(taken, taken.advantage?, None)));
    let written = played.written.iter().filter_map(Written::turn);
    fast.chain(written).chain(played.spoken.iter().filter_map(Spoken::turn)).collect()
}

/// A rollout as a turn; `new` are log-probabilities of its answer and its state, where they changed.
fn turn(taken: &Taken, advantage: f32, new: Option<[(f32, f32); 2]>) -> Turn {
    let old = [taken.answer_log, taken.state.as_ref().and_then(|s| s.log)];
    let new = new.unwrap_or([0, 1].map(|k| (old[k].unwrap_or_default(), old[k].unwrap_or_default())));
    let both = old.into_iter().zip(new);
    let actions = both.filter_map(|(old, (new, reference))| Some(Action { new, old: old?, reference })).collect();
    Turn { actions, advantage, overlong: false }
}

/// The pass over one view's questions.
struct View<'a> {
    actor: &'a Actor<'a>,
    recipe: &'a Recipe,
    seen: &'a Seen<Tensor>,
    proposals: Proposals<Tensor>,
    /// The thing that each proposal stands for.
    owners: Vec<Option<usize>>,
    heard: Heard,
    /// The view's questions.
    asked: Vec<(usize, &'a Asked)>,
    batch: Batch,
}

/// Gradients of one played picture.
///
/// # Errors
/// When the model or candle fails.
pub fn improve(
    actor: &Actor<'_>,
    reference: Option<&Params>,
    recipe: &Recipe,
    played: &Played,
    batch: Batch,
) -> Result<(Vec<GradStore>, Improved)> {
    let (mut stores, mut sum) = (Vec::new(), Improved::default());
    for (s, sight) in played.episode.sights.iter().enumerate() {
        let asked: Vec<(usize, &Asked)> = played.asked.iter().enumerate().filter(|(_, a)| a.sight == s).collect();
        if asked.is_empty() {
            continue;
        }
        let mut ops = Candle::new(actor.params);
        let questions: Vec<&Asked> = asked.iter().map(|(_, asked)| *asked).collect();
        let referred = match reference {
            Some(params) => {
                let actor = Actor { params, ..*actor };
                let heard = hear(&mut Candle::evaluating(params), &actor, &sight.seen, &questions)?;
                Some((answers(&actor, &heard.logits)?, host(&heard.seg)?))
            }
            None => None,
        };
        let heard = hear(&mut ops, actor, &sight.seen, &questions)?;
        let picked = propose::found(&sight.seen, actor.config)?;
        let proposals = propose::tensors(&mut ops, actor.config, &sight.seen, &picked)?;
        let owners = owners(&picked, &sight.things);
        let view = View { actor, recipe, seen: &sight.seen, proposals, owners, heard, asked, batch };
        let mut terms = Vec::new();
        if recipe.terms.policy > 0.0 {
            terms.extend(view.policy(&played.taken, referred.as_ref(), &mut sum)?);
        }
        if recipe.terms.regression > 0.0 {
            terms.extend(view.regression(&mut ops, &played.taken, &mut sum)?);
        }
        if recipe.terms.supervised > 0.0 {
            terms.extend(view.supervised(&mut ops, &mut sum)?);
        }
        let mut terms = terms.into_iter();
        if let Some(first) = terms.next() {
            let total = terms.try_fold(first, |sum, term| sum + term)?;
            stores.push(total.backward()?);
        }
    }
    if recipe.terms.policy > 0.0 {
        stores.extend(reasoned::improve(actor, reference, recipe, played, batch, &mut sum)?);
        stores.extend(spoken::improve(actor, reference, recipe, played, batch, &mut sum)?);
    }
    if recipe.terms.supervised > 0.0 {
        stores.extend(reasoned::teach(actor, recipe, played, batch, &mut sum)?);
    }
    Ok((stores, sum))
}

impl View<'_> {
    fn row_of(&self, taken: &Taken) -> Option<usize> {
        self.asked.iter().position(|(number, _)| *number == taken.asked)
    }

    /// The surrogate over answers and states.
    fn policy(
        &self,
        taken: &[Taken],
        referred: Option<&(Vec<[f32; 5]>, Vec<f32>)>,
        sum: &mut Improved,
    ) -> Result<Vec<Tensor>> {
        let (config, temperature) = (self.actor.config, self.recipe.policy.temperature);
        let (vocabulary, width) = (config.vocabulary, config.mask_width);
        let (logits, states) = (answers(self.actor, &self.heard.logits)?, host(&self.heard.seg)?);
        let ids = self.actor.special.answers();
        let mut by_logits = vec![0.0; self.asked.len() * vocabulary];
        let mut by_states = vec![0.0; self.asked.len() * width];
        for (taken, advantage) in taken.iter().filter_map(|t| Some((t, t.advantage?))) {
            let Some(row) = self.row_of(taken) else { continue };
            let (answer_log, answer_slope) = categorical(&logits[row], taken.answer, temperature);
            let mean = &states[row * width..(row + 1) * width];
            let acted = taken.state.as_ref().filter(|state| state.log.is_some());
            let density = |mean: &[f32]| acted.map(|s| gaussian(&s.sample, mean, s.deviation));
            let (state_log, state_slope) = density(mean).unwrap_or_default();
            let (answer_reference, state_reference) = match referred {
                Some((logits, states)) => (
                    categorical(&logits[row], taken.answer, temperature).0,
                    density(&states[row * width..(row + 1) * width]).unwrap_or_default().0,
                ),
                None => (answer_log, state_log),
            };
            let new = [(answer_log, answer_reference), (state_log, state_reference)];
            let turns = [turn(taken, advantage, Some(new))];
            let got = surrogate(&turns, &self.recipe.objective, self.batch.units);
            sum.policy += got.loss;
            sum.loss += self.recipe.terms.policy * got.loss;
            (sum.actions, sum.clipped, sum.kl) =
                (sum.actions + got.actions, sum.clipped + got.clipped, sum.kl + got.kl);
            let mut slopes = got.slopes[0].iter().map(|s| s * self.recipe.terms.policy);
            if taken.answer_log.is_some() {
                let slope = slopes.next().unwrap_or_default();
                for (id, s) in ids.iter().zip(&answer_slope) {
                    by_logits[row * vocabulary + *id as usize] += slope * s;
                }
            }
            if acted.is_some() {
                let slope = slopes.next().unwrap_or_default();
                for (to, s) in by_states[row * width..].iter_mut().zip(&state_slope) {
                    *to += slope * s;
                }
            }
        }
        Ok(vec![attach(&self.heard.logits, by_logits)?, attach(&self.heard.seg, by_states)?])
    }

    /// Masks of better rollouts regressed to what they should be, weighted by how much better they were.
    fn regression(&self, ops: &mut Candle<'_>, taken: &[Taken], sum: &mut Improved) -> Result<Vec<Tensor>> {
        let weight = self.recipe.terms.regression;
        let mut terms = Vec::new();
        if self.recipe.policy.forced_answer {
            terms.push(self.forced_answer(weight, sum)?);
        }
        let better: Vec<(usize, &Taken, f32)> = taken
            .iter()
            .filter(|t| t.state.as_ref().is_some_and(|state| state.log.is_some()))
            .filter_map(|t| Some((self.row_of(t)?, t, t.advantage.filter(|a| *a > 0.0)?)))
            .collect();
        if better.is_empty() {
            return Ok(terms);
        }
        let (config, count, device) = (self.actor.config, better.len(), self.actor.params.device());
        // The noise of the rollout is data; the gradient goes through the state that it was added to.
        let rows: Vec<u32> = better.iter().map(|b| b.0 as u32).collect();
        let mean = self.heard.seg.index_select(&Tensor::from_vec(rows, count, device)?, 0)?;
        let sampled: Vec<f32> =
            better.iter().filter_map(|b| b.1.state.as_ref()).flat_map(|s| s.sample.iter().copied()).collect();
        let sampled = Tensor::from_vec(sampled, (count, config.mask_width), device)?;
        let seg = (&mean + (sampled - mean.detach())?)?.reshape((count, 1, config.mask_width))?;
        let compared = compare(ops, config, &self.proposals, &seg, count)?;
        let shown = decode(ops, config, self.seen, &self.proposals, &compared, &seg, count)?;
        let logits = host(&shown.mask)?;
        let cells = logits.len() / count;
        let mut gradient = vec![0.0; logits.len()];
        let rows = logits.chunks_exact(cells).zip(gradient.chunks_exact_mut(cells));
        for ((row, _, advantage), (z, g)) in better.iter().zip(rows) {
            let asked = self.asked[*row].1;
            let share = weight * advantage / self.batch.better.max(1.0);
            let parts = Parts { focal: share * REGRESSED.focal, dice: share * REGRESSED.dice };
            let loss = match self.recipe.reward.judged_as(asked.branch, asked.target()) {
                Branch::High => masks::dense(z, asked.target(), parts, g),
                Branch::Low | Branch::Absent => masks::empty(z, parts.focal, g),
            };
            sum.regression += loss / weight;
            sum.loss += loss;
        }
        terms.push(attach(&shown.mask, gradient)?);
        Ok(terms)
    }

    /// What supervised fine-tuning teaches about the same questions, all their masks decoded.
    fn supervised(&self, ops: &mut Candle<'_>, sum: &mut Improved) -> Result<Vec<Tensor>> {
        let (config, policy) = (self.actor.config, &self.recipe.policy);
        let setup = Setup {
            params: self.actor.params,
            config,
            weights: &self.recipe.loss,
            answers: self.actor.special.answers(),
            pad: self.actor.special.pad,
        };
        let mut values = Values::default();
        let questions: Vec<Question> = self.asked.iter().map(|(_, asked)| asked.question.clone()).collect();
        let mut total = teach::heard(&setup, &questions, &self.heard.pack, &self.heard.said, &mut values)?;
        let (rows, sought): (Vec<u32>, Vec<Sought<'_>>) = (0u32..)
            .zip(&self.asked)
            .filter(|(_, (_, asked))| !policy.answer_alone(asked.branch))
            .map(|(row, (_, asked))| (row, asked.question.sought()))
            .unzip();
        let count = sought.len();
        if count > 0 {
            let rows = Tensor::from_vec(rows, count, self.actor.params.device())?;
            let states = self.heard.seg.index_select(&rows, 0)?.reshape((1, count, config.mask_width))?;
            let keys = keys(ops, config, self.seen)?;
            let scene = Scene { seen: self.seen, keys: &keys, proposals: &self.proposals, owners: &self.owners };
            total = (total + teach::found(ops, &setup, &sought, count, &states, &scene, &mut values)?)?;
        }
        let share = 1.0 / self.batch.pictures.max(1.0);
        let weight = self.recipe.terms.supervised * share;
        sum.supervised += share * values.total;
        sum.loss += weight * values.total;
        Ok(vec![(total * f64::from(weight))?])
    }

    /// Cross-entropy of the one answer that is given, a mean over the view's questions and the batch's pictures.
    fn forced_answer(&self, weight: f32, sum: &mut Improved) -> Result<Tensor> {
        let logits = host(&self.heard.logits)?;
        let vocabulary = self.actor.config.vocabulary;
        let share = weight / (self.asked.len() as f32 * self.batch.pictures.max(1.0));
        let mut gradient = vec![0.0; logits.len()];
        for (row, g) in logits.chunks_exact(vocabulary).zip(gradient.chunks_exact_mut(vocabulary)) {
            let loss = answer::cross_entropy(row, &self.actor.special.answers(), 0, share, g);
            sum.regression += loss / weight;
            sum.loss += loss;
        }
        Ok(attach(&self.heard.logits, gradient)?)
    }
}
