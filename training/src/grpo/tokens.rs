//! Rollouts that are written token by token: which tokens were chosen, and the surrogate over them, whatever the rules of
//! what is written.

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use kestrel_models::candle::{Candle, Params};

use super::improve::{Batch, Improved};
use super::objective::{Action, Turn, categorical, surrogate};
use super::recipe::Recipe;
use super::rollout::Actor;
use crate::losses::attach;
use crate::sft::Result;
use crate::sft::chain::{Before, Laid, Open, Rules, leaves_open};
use crate::sft::example::Chain;
use crate::sft::pass::host;

/// Rollouts in one pass: what they may see of each other is a square of all their tokens.
pub(super) const AT_ONCE: usize = 4;

/// A rollout that teaches something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a, G> {
    /// Prompt and what was written.
    pub(super) chain: &'a Chain<G>,
    /// Log-probabilities, when they were sampled, of the tokens that the grammar left open.
    pub(super) logs: &'a [f32],
    /// How much better than its group it was.
    pub(super) advantage: f32,
    /// Whether a limit ended it.
    pub(super) overlong: bool,
}

impl<G> Line<'_, G> {
    /// As the surrogate counts it, under the policy that wrote it.
    pub(super) fn turn(&self) -> Turn {
        let action = |log: &f32| Action { new: *log, old: *log, reference: *log };
        let actions = self.logs.iter().map(action).collect();
        Turn { actions, advantage: self.advantage, overlong: self.overlong }
    }
}

/// Of what was sampled, the log-probabilities of the tokens that the grammar left open, and whether it left nothing but
/// the token `end` at some place.
pub(super) fn choices<G: Rules>(
    ids: &[u32],
    logs: &[f32],
    mut grammar: G,
    vocabulary: usize,
    end: u32,
) -> (Vec<f32>, bool) {
    let (mut chosen, mut cut) = (Vec::with_capacity(ids.len()), false);
    for (&id, &log) in ids.iter().zip(logs) {
        let open = leaves_open(&grammar, vocabulary);
        if open {
            chosen.push(log);
        }
        cut |= id == end && !open;
        // What was sampled under this grammar is not refused by it.
        if grammar.push(id).is_err() {
            break;
        }
    }
    (chosen, cut)
}

/// What rollouts about one view are improved by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) actor: &'a Actor<'a>,
    pub(super) recipe: &'a Recipe,
    /// The temperature that the tokens were sampled at.
    pub(super) temperature: f32,
    /// What the rollouts are written behind.
    pub(super) before: Before<'a>,
    pub(super) batch: Batch,
}

impl Pass<'_> {
    /// Gradients of the surrogate over rollouts, a few of them at once.
    pub(super) fn improve<G: Rules>(
        &self,
        reference: Option<&Params>,
        lines: &[Line<'_, G>],
        sum: &mut Improved,
    ) -> Result<Vec<GradStore>> {
        let mut stores = Vec::new();
        for some in lines.chunks(AT_ONCE) {
            stores.push(self.run(reference, some, sum)?.backward()?);
        }
        Ok(stores)
    }

    fn run<G: Rules>(&self, reference: Option<&Params>, some: &[Line<'_, G>], sum: &mut Improved) -> Result<Tensor> {
        let Actor { params, config, special } = self.actor;
        let chains: Vec<Chain<G>> = some.iter().map(|line| line.chain.clone()).collect();
        let laid = Laid::of(&chains, config, &self.before, special.seg, special.pad)?;
        let said = laid.say(&mut Candle::new(params), config, &self.before)?;
        let logits = host(&said.logits)?;
        let referred = match reference {
            Some(params) => Some(host(&laid.say(&mut Candle::evaluating(params), config, &self.before)?.logits)?),
            None => None,
        };
        let mut gradient = vec![0.0; logits.len()];
        for (number, line) in some.iter().enumerate() {
            let open = laid.open.iter().filter(|open| open.chain == number);
            let chosen: Vec<Chosen<'_, G>> = open.map(|open| self.chosen(open, &logits)).collect();
            let actions = chosen.iter().zip(line.logs).map(|(chosen, &old)| {
                let reference = referred.as_ref().map_or(chosen.log, |logits| self.chosen(chosen.open, logits).log);
                Action { new: chosen.log, old, reference }
            });
            let turn = Turn { actions: actions.collect(), advantage: line.advantage, overlong: line.overlong };
            let got = surrogate(&[turn], &self.recipe.objective, self.batch.units);
            sum.policy += got.loss;
            sum.loss += self.recipe.terms.policy * got.loss;
            (sum.actions, sum.clipped, sum.kl) =
                (sum.actions + got.actions, sum.clipped + got.clipped, sum.kl + got.kl);
            for (chosen, slope) in chosen.iter().zip(got.slopes.iter().flatten()) {
                let row = chosen.open.gradient(&mut gradient, config.vocabulary);
                for (id, by) in chosen.allowed.iter().zip(&chosen.slope) {
                    row[*id] += self.recipe.terms.policy * slope * by;
                }
            }
        }
        Ok(attach(&said.logits, gradient)?)
    }

    /// A token under the policy of these logits: first what the grammar allows, then the temperature, as in sampling.
    fn chosen<'o, G: Rules>(&self, open: &'o Open<G>, logits: &[f32]) -> Chosen<'o, G> {
        let vocabulary = self.actor.config.vocabulary;
        let row = open.logits(logits, vocabulary);
        let allowed: Vec<usize> = (0..vocabulary).filter(|&id| open.grammar.allows(id as u32)).collect();
        let among: Vec<f32> = allowed.iter().map(|&id| row[id]).collect();
        let at = allowed.iter().position(|&id| id == open.id as usize).unwrap_or_default();
        let (log, slope) = categorical(&among, at, self.temperature);
        Chosen { open, allowed, log, slope }
    }
}

/// A token that was chosen among others.
struct Chosen<'o, G> {
    open: &'o Open<G>,
    allowed: Vec<usize>,
    log: f32,
    /// Derivative of `log` by the logit of each that was allowed.
    slope: Vec<f32>,
}
