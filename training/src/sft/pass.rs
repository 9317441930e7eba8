//! One picture through the model, its losses, and the gradients of all parameters.

use std::time::Instant;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::pack::{Packed, pack};
use kestrel_models::kestrel::{Config, Keys, Seen, keys, language, mask, names_of_places, names_of_tokens, vision};
use kestrel_perception::proposals::Proposal;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::chain::Beside;
use super::distil::Spoken;
use super::example::{Example, Question};
use super::measured::{Times, Values, lap};
use super::recipe::Weights;
use super::teach::{Scene, Sought, found_and_shown, heard, judge};
use super::{Result, chain, distil, propose, tasks};
use crate::losses::attach;
use crate::losses::proposals::owners;

/// Share of labelled things that are left to be found even where labels help.
const LEFT_OUT: f64 = 0.1;
/// Sets the random numbers of given boxes apart from those that drew the example.
const GIVEN: u64 = 0x6769_7665;

/// What stays the same from pass to pass.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// The parameters.
    pub params: &'a Params,
    /// The model at this input size.
    pub config: &'a Config,
    /// Weights of the losses.
    pub weights: &'a Weights,
    /// The five answer tokens.
    pub answers: [u32; 5],
    /// The padding token.
    pub pad: u32,
}

/// Numbers of a tensor, in order.
pub(crate) fn host(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.flatten_all()?.to_vec1::<f32>()?)
}

/// A picture as the vision graph takes it.
pub(crate) fn image(pixels: &[f32], side: usize, device: &Device) -> Result<Tensor> {
    Ok(Tensor::from_slice(pixels, (1, side, side, 3), device)?)
}

/// The packed questions of one picture.
pub(crate) fn packed(questions: &[Question], config: &Config, pad: u32) -> Packed {
    let ids = questions.iter().map(|q| q.ids.clone()).collect::<Vec<_>>();
    pack(&[ids], config.token_side() * config.token_side(), pad, None)
}

/// What a frozen vision part sees of an example.
pub(super) fn see(setup: &Setup<'_>, example: &Example) -> Result<Seen<Tensor>> {
    let picture = image(&example.pixels, setup.config.image, setup.params.device())?;
    Ok(vision(&mut Candle::evaluating(setup.params), setup.config, &picture)?)
}

/// The proposals of an example's view of `side²` spots: what was `found` there, and where its labels help the labelled things
/// before it, moved alike for all models by the same `seed`.
pub(super) fn proposed(example: &Example, found: Vec<Proposal>, side: usize, seed: u64) -> Vec<Proposal> {
    match example.given {
        true => {
            let mut rng = ChaCha8Rng::seed_from_u64(seed ^ GIVEN);
            propose::given(&example.things, &found, side, LEFT_OUT, &mut rng)
        }
        false => found,
    }
}

/// Runs one example forward and backward; `seed` moves the boxes of given things.
///
/// # Errors
/// When the model or candle fails.
pub fn pass(setup: &Setup<'_>, example: &Example, seed: u64, times: &mut Times) -> Result<(GradStore, Values)> {
    let (config, weights) = (setup.config, setup.weights);
    let mut ops = Candle::new(setup.params);
    let device = setup.params.device();
    let mut values = Values::default();
    values.chains.long = example.reasons.long as f32;
    values.chains.dropped = example.reasons.dropped as f32;
    let mut clock = Instant::now();
    let seen = match &example.seen {
        Some(seen) => seen.clone(),
        None => vision(&mut ops, config, &image(&example.pixels, config.image, device)?)?,
    };
    lap(&mut clock, &mut times.vision);
    let keys = keys(&mut ops, config, &seen)?;
    let mut total = dense_heads(&mut ops, setup, example, &seen, &keys, &mut values)?;
    if let Some(lesson) = &example.lesson
        && let Some(term) = distil::sees(&mut ops, lesson, &seen, &mut values)?
    {
        total = (total + term)?;
    }
    lap(&mut clock, &mut times.loss);
    if !example.questions.is_empty() {
        let pack = packed(&example.questions, config, setup.pad);
        let tensors = pack.tensors(config.language_width / config.heads, device)?;
        let said = language(&mut ops, config, &seen.tokens, &tensors)?;
        lap(&mut clock, &mut times.language);
        total = (total + heard(setup, &example.questions, &pack, &said, &mut values)?)?;
        lap(&mut clock, &mut times.loss);
        let picked = proposed(example, propose::found(&seen, config)?, config.spot_side(), seed);
        let proposals = propose::tensors(&mut ops, config, &seen, &picked)?;
        let owners = owners(&picked, &example.things);
        let scene = Scene { seen: &seen, keys: &keys, proposals: &proposals, owners: &owners };
        let sought: Vec<Sought<'_>> = example.questions.iter().map(Question::sought).collect();
        let states = said.seg.reshape((1, sought.len(), config.mask_width))?;
        let (term, shown) = found_and_shown(&mut ops, setup, &sought, example.masks, &states, &scene, &mut values)?;
        total = (total + term)?;
        lap(&mut clock, &mut times.mask);
        if let Some(lesson) = &example.lesson {
            let spoken = Spoken { logits: &said.logits, states: &states, shown: shown.as_ref() };
            total = (total + distil::says(&mut ops, setup, lesson, &spoken, &mut values)?)?;
            lap(&mut clock, &mut times.loss);
        }
        if !example.reasons.chains.is_empty() {
            let things = propose::things(config, &seen, &picked)?;
            let beside = Beside { things: things.as_ref(), fast: &states, lesson: example.lesson.as_ref() };
            total = (total + chain::teach(&mut ops, setup, example, &scene, &beside, &mut values)?)?;
            lap(&mut clock, &mut times.language);
        }
        if let Some(later) = &example.later {
            let seen = vision(&mut ops, config, &image(&later.pixels, config.image, device)?)?;
            lap(&mut clock, &mut times.vision);
            let proposals = propose::tensors(&mut ops, config, &seen, &propose::found(&seen, config)?)?;
            let seg = states.narrow(1, 0, example.masks)?.reshape((example.masks, 1, config.mask_width))?;
            let shown = mask(&mut ops, config, &seen, &proposals, &seg, example.masks)?;
            let (term, judged) = judge(setup, &shown, &later.goals.iter().collect::<Vec<_>>(), weights.later)?;
            lap(&mut clock, &mut times.mask);
            values.later += judged.total;
            values.total += judged.total;
            total = (total + term)?;
        }
    }
    if !example.tasks.is_empty() {
        if let Some(term) = tasks::teach(&mut ops, setup, example, &seen.tokens, &mut values)? {
            total = (total + term)?;
        }
        lap(&mut clock, &mut times.language);
    }
    let grads = total.backward()?;
    lap(&mut clock, &mut times.backward);
    Ok((grads, values))
}

fn dense_heads(
    ops: &mut Candle<'_>,
    setup: &Setup<'_>,
    example: &Example,
    seen: &Seen<Tensor>,
    keys: &Keys<Tensor>,
    values: &mut Values,
) -> Result<Tensor> {
    let (outputs, weight) = (setup.config.auxiliary, setup.weights.auxiliary);
    let names = names_of_places(ops, setup.config, keys)?;
    let tokens = names_of_tokens(ops, setup.config, seen)?;
    let taught = |output: &Tensor, loss: &dyn Fn(&[f32], &mut [f32]) -> f32| -> Result<(Tensor, f32)> {
        let logits = host(output)?;
        let mut gradient = vec![0.0; logits.len()];
        let loss = loss(&logits, &mut gradient);
        Ok((attach(output, gradient)?, loss))
    };
    let (coarse, a) = taught(&names.coarse, &|z, g| example.grid.loss(z, outputs, weight, g))?;
    let (fine, b) = taught(&names.fine, &|z, g| example.fine_grid.loss(z, outputs, weight, g))?;
    let (tokens, c) = taught(&tokens, &|z, g| example.grid.token_loss(z, outputs, weight, g))?;
    let (spots, d) = taught(&seen.spots, &|z, g| example.spots.loss(z, setup.weights.proposals, g))?;
    values.auxiliary += a + b + c;
    values.proposals += d;
    values.total += a + b + c + d;
    Ok((((coarse + fine)? + tokens)? + spots)?)
}
