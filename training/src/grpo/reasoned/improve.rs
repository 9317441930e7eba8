//! The surrogate over the tokens of reasoned rollouts.

use candle_core::backprop::GradStore;
use kestrel_models::candle::Params;
use kestrel_perception::Grammar;

use super::super::improve::{Batch, Improved};
use super::super::recipe::Recipe;
use super::super::rollout::{Actor, Played};
use super::super::tokens::{Line, Pass};
use super::Written;
use crate::sft::chain::Before;
use crate::sft::{Result, propose};

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
        let about = played.written.iter().filter(|written| written.sight == s);
        let mine: Vec<Line<'_, Grammar>> = about.filter_map(Written::line).collect();
        if mine.is_empty() {
            continue;
        }
        let things = propose::things(actor.config, &sight.seen, &propose::found(&sight.seen, actor.config)?)?;
        let before = Before { tokens: &sight.seen.tokens, things: things.as_ref() };
        let pass = Pass { actor, recipe, temperature: recipe.policy.temperature, before, batch };
        stores.extend(pass.improve(reference, &mine, sum)?);
    }
    Ok(stores)
}
