//! Requests without a picture through the language model: it learns to read apart from learning to see, at hundreds of
//! requests a second instead of a dozen.

use std::time::Instant;

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use kestrel_models::candle::Candle;
use kestrel_models::kestrel::pack::pack;
use kestrel_models::kestrel::{
    Names, blank, language, names_of_anchors, names_of_wishes, product, reading as read, wishes,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Result;
use super::example::Maker;
use super::measured::{Times, Values, lap};
use super::pass::{Setup, host};
use super::teach::NONSENSE_WEIGHT;
use crate::expressions::meaning::Expression;
use crate::expressions::{Imagined, imagine};
use crate::losses::{answer, attach, binary, reading};

/// Sets the requests' random numbers apart from those of the picture with the same seed.
const STREAM: u64 = 0x7265_6164;
/// Image tokens of noise that stand where a picture would be: what words say does not depend on what is seen.
pub(super) const IMAGES: usize = 4;
/// Weight of the places of a blank picture beside the names.
const PLACES: f32 = 2.0;

/// One request, ready.
struct Read {
    imagined: Imagined,
    ids: Vec<u32>,
    doubt: Vec<f32>,
}

/// A number of mean 0 and variance 1: the sum of three uniform ones, near enough to normal.
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f32 {
    2.0 * (0..3).map(|_| rng.random::<f32>() - 0.5).sum::<f32>()
}

pub(super) fn noise(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| normal(rng)).collect()
}

/// Runs the phase's number of requests, drawn from `seed`, forward and backward.
///
/// # Errors
/// When the model or candle fails.
pub fn pass(setup: &Setup<'_>, maker: &Maker<'_>, seed: u64, times: &mut Times) -> Result<(GradStore, Values)> {
    let mut clock = Instant::now();
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ STREAM);
    let mut requests = Vec::with_capacity(maker.phase.texts);
    for _ in 0..maker.phase.texts {
        let imagined = imagine(&mut rng);
        let (ids, doubt) = maker.tokens(&imagined.text, imagined.hint.as_ref(), &imagined.nonsense)?;
        requests.push(Read { imagined, ids, doubt });
    }
    let said = say(setup, &requests, &mut rng)?;
    lap(&mut clock, &mut times.reading);
    let (total, values) = teach(setup, &requests, &said)?;
    lap(&mut clock, &mut times.loss);
    let grads = total.backward()?;
    lap(&mut clock, &mut times.backward);
    Ok((grads, values))
}

/// What the model says of requests; every tensor has one row a request.
struct Said {
    answers: Tensor,
    doubt: Tensor,
    /// Text tokens of a row of `doubt`.
    longest: usize,
    named: Names<Tensor>,
    anchors: Tensor,
    parts: Tensor,
    places: Tensor,
}

fn say(setup: &Setup<'_>, requests: &[Read], rng: &mut ChaCha8Rng) -> Result<Said> {
    let (config, device) = (setup.config, setup.params.device());
    let mut ops = Candle::new(setup.params);
    let rows: Vec<Vec<Vec<u32>>> = requests.iter().map(|r| vec![r.ids.clone()]).collect();
    let packed = pack(&rows, IMAGES, setup.pad, None);
    let tensors = packed.tensors(config.language_width / config.heads, device)?;
    let noise = noise(rng, requests.len() * IMAGES * config.language_width);
    let noise = Tensor::from_vec(noise, (requests.len(), IMAGES, config.language_width), device)?;
    let said = language(&mut ops, config, &noise, &tensors)?;
    let seg = said.seg.reshape((1, requests.len(), config.mask_width))?;
    let wishes = wishes(&mut ops, config, &seg)?;
    let place = blank(&mut ops, config)?;
    let places = product(&mut ops, &place, &wishes.coarse, config.mask_width)?;
    Ok(Said {
        answers: said.logits,
        doubt: said.doubt,
        longest: packed.text,
        named: names_of_wishes(&mut ops, config, &wishes)?,
        anchors: names_of_anchors(&mut ops, config, &wishes)?,
        parts: read(&mut ops, &seg, reading::OUTPUTS)?,
        places: places.transpose(1, 2)?.contiguous()?,
    })
}

/// All losses of what was said.
fn teach(setup: &Setup<'_>, requests: &[Read], said: &Said) -> Result<(Tensor, Values)> {
    let (config, side) = (setup.config, setup.config.embed_side());
    let weight = setup.weights.reading / requests.len() as f32;
    let mut values = Values::default();
    let mut right = 0.0;
    let named = each(requests, &said.named.coarse, config.auxiliary, &mut values, |_, e, z, g| {
        let read = e.map(|e| reading::names(e, z, weight, g));
        right += f32::from(read.is_some_and(|read| read.right));
        read.map_or(0.0, |read| read.loss)
    })?;
    let fine = each(requests, &said.named.fine, config.auxiliary, &mut values, |_, e, z, g| {
        e.map_or(0.0, |e| reading::names(e, z, weight, g).loss)
    })?;
    let anchors = each(requests, &said.anchors, config.auxiliary, &mut values, |_, e, z, g| {
        let anchor = e.and_then(|e| e.relation.as_ref());
        anchor.map_or(0.0, |(_, of)| reading::names(of, z, 2.0 * weight, g).loss)
    })?;
    let parts = each(requests, &said.parts, reading::OUTPUTS, &mut values, |_, e, z, g| {
        e.map_or(0.0, |e| reading::parts(e, z, 0.3 * weight, g))
    })?;
    let places = each(requests, &said.places, side * side, &mut values, |_, e, z, g| {
        e.map_or(0.0, |e| reading::places(e, side, z, PLACES * weight, g))
    })?;
    let answers = each(requests, &said.answers, config.vocabulary, &mut values, |_, e, z, g| {
        let sense = answer::sense(z, &setup.answers, e.is_some(), weight, g);
        let absent = e.is_some_and(|e| e.foreign.is_some());
        sense + if absent { answer::cross_entropy(z, &setup.answers, 1, 0.3 * weight, g) } else { 0.0 }
    })?;
    let doubt = each(requests, &said.doubt, said.longest, &mut values, |r, _, z, g| {
        let each = setup.weights.doubt * weight / r.doubt.len().max(1) as f32;
        r.doubt.iter().enumerate().fold(0.0, |sum, (at, &target)| {
            let share = each * if target > 0.5 { NONSENSE_WEIGHT } else { 1.0 };
            let (loss, slope) = binary(z[at], target);
            g[at] += share * slope;
            sum + share * loss
        })
    })?;
    let sensible = requests.iter().filter(|r| r.imagined.expression.is_some()).count();
    values.read = right / sensible.max(1) as f32;
    values.total = values.reading;
    let mut total = named;
    for term in [fine, anchors, parts, places, answers, doubt] {
        total = (total + term)?;
    }
    Ok((total, values))
}

/// Adds the loss of every request's row of `output`, given the request and what it means.
fn each(
    requests: &[Read],
    output: &Tensor,
    width: usize,
    values: &mut Values,
    mut loss: impl FnMut(&Read, Option<&Expression>, &[f32], &mut [f32]) -> f32,
) -> Result<Tensor> {
    let logits = host(output)?;
    let mut gradient = vec![0.0; logits.len()];
    let rows = logits.chunks_exact(width).zip(gradient.chunks_exact_mut(width));
    for (request, (z, g)) in requests.iter().zip(rows) {
        values.reading += loss(request, request.imagined.expression.as_ref(), z, g);
    }
    Ok(attach(output, gradient)?)
}
