//! Chains of reasons taught beside supervision, on the same kept features: what teaching reasons does to fast answers.

use candle_core::backprop::GradStore;
use kestrel_models::candle::Candle;
use kestrel_models::kestrel::keys;
use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_perception::{Limits, prompt};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::super::episode::{Episode, Posed};
use super::super::improve::{Batch, Improved};
use super::super::recipe::Recipe;
use super::super::rollout::{Actor, Played};
use crate::losses::proposals::owners;
use crate::reasoning::{LISTED, Reasoner, reasoned_ids};
use crate::sft::chain::taught;
use crate::sft::example::{Chain, Pointers, Question, Shown, ids};
use crate::sft::measured::Values;
use crate::sft::pass::Setup;
use crate::sft::teach::Scene;
use crate::sft::{Result, propose};

/// A chain that is taught in a step.
#[derive(Debug, Clone)]
pub struct Taught {
    /// Which view it is about.
    sight: usize,
    chain: Chain,
}

/// Draws the chains of a step, as many as the recipe asks for at most.
///
/// # Errors
/// When the tokenizer fails.
pub(in super::super) fn draw(
    tokenizer: &QueryTokenizer,
    max_tokens: usize,
    recipe: &Recipe,
    episode: &Episode,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Taught>> {
    let limits = Limits::roomy(recipe.reasoning.thought_tokens, LISTED);
    let grammar = Reasoner::new(tokenizer, limits).grammar();
    let mut places: Vec<(usize, &Posed)> = Vec::new();
    for (s, sight) in episode.sights.iter().enumerate() {
        places.extend(sight.asked.iter().map(|posed| (s, posed)));
    }
    places.shuffle(rng);
    let mut drawn = Vec::new();
    for (sight, posed) in places {
        if drawn.len() == recipe.questions.chains {
            break;
        }
        // The mask of each of several things was not kept.
        let Some(settled) = posed.chain.as_ref().filter(|settled| settled.targets() < 2) else { continue };
        let Some(written) = settled.written(tokenizer, &grammar)? else { continue };
        let ask = &posed.ask;
        let words = ids(tokenizer, max_tokens, &ask.text, ask.hint.as_ref(), &ask.nonsense)?;
        let Question { ids, goal, pointers, compared, .. } = Question::stored(ask, words, posed.goal.clone());
        let pointers = Pointers { class: 0, targets: pointers.targets, anchor: None, alike: None };
        let shown = (settled.targets() == 1).then_some(Shown { goal, pointers, compared });
        let mut ids = prompt(&ids, &reasoned_ids(tokenizer));
        let prompt = ids.len();
        ids.extend(written);
        drawn.push(Taught { sight, chain: Chain { ids, prompt, grammar, shown: shown.into_iter().collect() } });
    }
    Ok(drawn)
}

/// Gradients of the chains about a played picture.
pub(in super::super) fn teach(
    actor: &Actor<'_>,
    recipe: &Recipe,
    played: &Played,
    batch: Batch,
    sum: &mut Improved,
) -> Result<Vec<GradStore>> {
    let Actor { params, config, special } = *actor;
    let (answers, pad) = (special.answers(), special.pad);
    let setup = Setup { params, config, weights: &recipe.loss, answers, pad };
    let share = 1.0 / batch.pictures.max(1.0);
    let weight = recipe.terms.supervised * share;
    let mut stores = Vec::new();
    for (s, sight) in played.episode.sights.iter().enumerate() {
        let chains: Vec<Chain> = played.chains.iter().filter(|t| t.sight == s).map(|t| t.chain.clone()).collect();
        if chains.is_empty() {
            continue;
        }
        let mut ops = Candle::new(params);
        let seen = &sight.seen;
        let picked = propose::found(seen, config)?;
        let proposals = propose::tensors(&mut ops, config, seen, &picked)?;
        let owners = owners(&picked, &sight.things);
        let keys = keys(&mut ops, config, seen)?;
        let scene = Scene { seen, keys: &keys, proposals: &proposals, owners: &owners };
        let things = propose::things(config, seen, &picked)?;
        let mut values = Values::default();
        let (term, _) =
            taught(&mut ops, &setup, (chains.as_slice(), chains.len()), &scene, things.as_ref(), &mut values)?;
        sum.chains += share * values.total;
        sum.loss += weight * values.total;
        stores.push((term * f64::from(weight))?.backward()?);
    }
    Ok(stores)
}
