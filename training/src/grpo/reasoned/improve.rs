//! The surrogate over the tokens of reasoned rollouts.

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use kestrel_models::candle::{Candle, Params};

use super::super::improve::{Batch, Improved};
use super::super::objective::{Action, Turn, categorical, surrogate};
use super::super::recipe::Recipe;
use super::super::rollout::{Actor, Played};
use super::Written;
use crate::losses::attach;
use crate::sft::chain::{Before, Laid, Open};
use crate::sft::example::Chain;
use crate::sft::pass::host;
use crate::sft::{Result, propose};

/// Rollouts in one pass: what they may see of each other is a square of all their tokens.
pub(in super::super) const AT_ONCE: usize = 4;

/// Gradients of a played picture's reasoned rollouts.
pub(in super::super) fn improve(
    actor: &Actor<'_>,
    reference: Option<&Params>,
    recipe: &Recipe,
    played: &Played,
    batch: Batch,
    sum: &mut Improved,
) -> Result<Vec<GradStore>> {
    let mut stores = Vec::new();
    for (s, sight) in played.episode.sights.iter().enumerate() {
        let teaches = |w: &&Written| w.sight == s && w.advantage.is_some();
        let mine: Vec<&Written> = played.written.iter().filter(teaches).collect();
        if mine.is_empty() {
            continue;
        }
        let things = propose::things(actor.config, &sight.seen, &propose::found(&sight.seen, actor.config)?)?;
        let before = Before { tokens: &sight.seen.tokens, things: things.as_ref() };
        for some in mine.chunks(AT_ONCE) {
            let pass = Pass { actor, recipe, before, some, batch };
            stores.push(pass.run(reference, sum)?.backward()?);
        }
    }
    Ok(stores)
}

/// A few rollouts about one view.
struct Pass<'a> {
    actor: &'a Actor<'a>,
    recipe: &'a Recipe,
    before: Before<'a>,
    some: &'a [&'a Written],
    batch: Batch,
}

impl Pass<'_> {
    fn run(&self, reference: Option<&Params>, sum: &mut Improved) -> Result<Tensor> {
        let Actor { params, config, special } = self.actor;
        let chains: Vec<Chain> = self.some.iter().map(|w| w.chain.clone()).collect();
        let laid = Laid::of(&chains, config, &self.before, special.seg, special.pad)?;
        let said = laid.say(&mut Candle::new(params), config, &self.before)?;
        let logits = host(&said.logits)?;
        let referred = match reference {
            Some(params) => Some(host(&laid.say(&mut Candle::evaluating(params), config, &self.before)?.logits)?),
            None => None,
        };
        let mut gradient = vec![0.0; logits.len()];
        for (number, written) in self.some.iter().enumerate() {
            let open = laid.open.iter().filter(|open| open.chain == number);
            let chosen: Vec<Chosen<'_>> = open.map(|open| self.chosen(open, &logits)).collect();
            let actions = chosen.iter().zip(&written.logs).map(|(chosen, &old)| {
                let reference = referred.as_ref().map_or(chosen.log, |logits| self.chosen(chosen.open, logits).log);
                Action { new: chosen.log, old, reference }
            });
            let turn = Turn {
                actions: actions.collect(),
                advantage: written.advantage.unwrap_or_default(),
                overlong: written.overlong,
            };
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
    fn chosen<'o>(&self, open: &'o Open, logits: &[f32]) -> Chosen<'o> {
        let vocabulary = self.actor.config.vocabulary;
        let row = open.logits(logits, vocabulary);
        let allowed: Vec<usize> = (0..vocabulary).filter(|&id| open.grammar.allows(id as u32)).collect();
        let among: Vec<f32> = allowed.iter().map(|&id| row[id]).collect();
        let at = allowed.iter().position(|&id| id == open.id as usize).unwrap_or_default();
        let (log, slope) = categorical(&among, at, self.recipe.policy.temperature);
        Chosen { open, allowed, log, slope }
    }
}

/// A token that was chosen among others.
struct Chosen<'o> {
    open: &'o Open,
    allowed: Vec<usize>,
    log: f32,
    /// Derivative of `log` by the logit of each that was allowed.
    slope: Vec<f32>,
}
