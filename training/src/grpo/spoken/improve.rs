//! The surrogate over the tokens of answers to tasks.

use candle_core::backprop::GradStore;
use kestrel_models::candle::Params;

use super::super::improve::{Batch, Improved};
use super::super::recipe::Recipe;
use super::super::rollout::{Actor, Played};
use super::super::tokens::{Line, Pass};
use super::Spoken;
use crate::sft::Result;
use crate::sft::chain::Before;
use crate::tasks::TextGrammar;

/// Gradients of the answers to tasks about a played picture.
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
        let about = played.spoken.iter().filter(|spoken| spoken.sight == s);
        let mine: Vec<Line<'_, TextGrammar>> = about.filter_map(Spoken::line).collect();
        if mine.is_empty() {
            continue;
        }
        // Whoever answers a task is not told what stands out: as in teaching and in judging.
        let before = Before::picture(&sight.seen.tokens);
        let pass = Pass { actor, recipe, temperature: recipe.tasks.temperature, before, batch };
        stores.extend(pass.improve(reference, &mine, sum)?);
    }
    Ok(stores)
}
