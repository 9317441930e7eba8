//! Requests without a picture through the language model: it learns to read apart from learning to see, at hundreds of
//! requests a second instead of a dozen.

use std::time::Instant;

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use kestrel_models::candle::Candle;
use kestrel_models::kestrel::pack::pack;
use kestrel_models::kestrel::{blank, language, names_of_anchors, names_of_wishes, product, reading as read, wishes};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Result;
use super::example::Maker;
use super::pass::{NONSENSE_WEIGHT, Setup, Times, Values, host, lap};
use crate::expressions::{Imagined, imagine};
use crate::losses::{answer, attach, binary, reading};

/// Sets the requests' random numbers apart from those of the picture with the same seed.
const STREAM: u64 = 0x7265_6164;
/// Image tokens of noise that stand where a picture would be: what words say does not depend on what is seen.
const IMAGES: usize = 4;
/// Weight of the places of a blank picture beside the names.
const PLACES: f32 = 2.0;

/// One request, ready.
struct Read {
    imagined: Imagined,
    ids: Vec<u32>,
    doubt: Vec<f32>,
}

/// Numbers of mean 0 and variance 1: sums of three uniform ones, near enough to normal.
fn noise(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| 2.0 * (0..3).map(|_| rng.random::<f32>() - 0.5).sum::<f32>()).collect()
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
    let (config, device) = (setup.config, setup.params.device());
    let mut ops = Candle::new(setup.params);
    let rows: Vec<Vec<Vec<u32>>> = requests.iter().map(|r| vec![r.ids.clone()]).collect();
    let packed = pack(&rows, IMAGES, setup.pad, None);
    let tensors = packed.tensors(config.language_width / config.heads, device)?;
    let noise = noise(&mut rng, requests.len() * IMAGES * config.language_width);
    let noise = Tensor::from_vec(noise, (requests.len(), IMAGES, config.language_width), device)?;
    let said = language(&mut ops, config, &noise, &tensors)?;
    let seg = said.seg.reshape((1, requests.len(), config.mask_width))?;
    let wishes = wishes(&mut ops, config, &seg)?;
    let named = names_of_wishes(&mut ops, config, &wishes)?;
    let anchors = names_of_anchors(&mut ops, config, &wishes)?;
    let parts = read(&mut ops, &seg, reading::OUTPUTS)?;
    let place = blank(&mut ops, config)?;
    let places = product(&mut ops, &place, &wishes.coarse, config.mask_width)?.transpose(1, 2)?.contiguous()?;
    lap(&mut clock, &mut times.reading);

    let side = config.embed_side();
    let weight = setup.weights.reading / requests.len() as f32;
    let mut values = Values::default();
    let mut right = 0.0;
    let mut terms = Vec::new();
    let mut each = |output: &Tensor, width: usize, loss: &mut dyn FnMut(&Read, &[f32], &mut [f32]) -> f32| {
        let logits = host(output)?;
        let mut gradient = vec![0.0; logits.len()];
        let rows = logits.chunks_exact(width).zip(gradient.chunks_exact_mut(width));
        for (request, (z, g)) in requests.iter().zip(rows) {
            values.reading += loss(request, z, g);
        }
        terms.push(attach(output, gradient)?);
        Result::Ok(())
    };
    each(&named.coarse, config.auxiliary, &mut |r, z, g| {
        let Some(expression) = &r.imagined.expression else { return 0.0 };
        let read = reading::names(expression, z, weight, g);
        right += f32::from(read.right);
        read.loss
    })?;
    each(&named.fine, config.auxiliary, &mut |r, z, g| {
        r.imagined.expression.as_ref().map_or(0.0, |e| reading::names(e, z, weight, g).loss)
    })?;
    each(&anchors, config.auxiliary, &mut |r, z, g| {
        let anchor = r.imagined.expression.as_ref().and_then(|e| e.relation.as_ref());
        anchor.map_or(0.0, |(_, of)| reading::names(of, z, 2.0 * weight, g).loss)
    })?;
    each(&parts, reading::OUTPUTS, &mut |r, z, g| {
        r.imagined.expression.as_ref().map_or(0.0, |e| reading::parts(e, z, 0.3 * weight, g))
    })?;
    each(&places, side * side, &mut |r, z, g| {
        r.imagined.expression.as_ref().map_or(0.0, |e| reading::places(e, side, z, PLACES * weight, g))
    })?;
    each(&said.logits, config.vocabulary, &mut |r, z, g| {
        let sense = answer::sense(z, &setup.answers, r.imagined.expression.is_some(), weight, g);
        let absent = r.imagined.expression.as_ref().is_some_and(|e| e.foreign.is_some());
        sense + if absent { answer::cross_entropy(z, &setup.answers, 1, 0.3 * weight, g) } else { 0.0 }
    })?;
    let longest = packed.text;
    each(&said.doubt, longest, &mut |r, z, g| {
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
    lap(&mut clock, &mut times.loss);
    let mut total = terms.swap_remove(0);
    for term in terms {
        total = (total + term)?;
    }
    let grads = total.backward()?;
    lap(&mut clock, &mut times.backward);
    Ok((grads, values))
}
