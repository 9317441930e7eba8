//! Questions about things without their pixels: the model learns to compare apart from learning to see, at hundreds of
//! questions a second instead of a dozen.
//!
//! The things are those of real pictures and scenes, their names as a detector would give them.

use std::time::Instant;

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use kestrel_models::candle::Candle;
use kestrel_models::kestrel::{Proposals, compare, language, pack::pack};
use kestrel_perception::proposals::{CODE, MOST, NAMES, Proposal, ProposalInputs};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Result;
use super::example::{Maker, Pointers, things};
use super::measured::{Times, Values, lap};
use super::pass::Setup;
use super::point::{Asked, point};
use super::propose;
use super::reading::{IMAGES, noise, normal};
use crate::cache::Cache;
use crate::expressions::{self, Options};
use crate::losses::proposals::{Thing, imagined_names, owners};
use crate::sample::{Category, Colour, Stratum};

/// Sets the layouts' random numbers apart from those of the picture with the same seed.
const STREAM: u64 = 0x6c61_796f;
/// Share of things that were overlooked: with a rival gone, who is second is no longer what the question says.
const LEFT_OUT: f64 = 0.03;
/// Things that are not there, at most.
const FALSE_ALARMS: usize = 5;

/// One question about one layout.
struct Row {
    ids: Vec<u32>,
    names: Vec<f32>,
    inputs: ProposalInputs,
    owners: Vec<Option<usize>>,
    pointers: Pointers,
}

/// Runs the phase's number of layouts, drawn from `seed`, forward and backward.
///
/// # Errors
/// When a sample cannot be read, or the model or candle fails.
pub(super) fn pass(
    setup: &Setup<'_>,
    maker: &Maker<'_>,
    cache: &Cache,
    seed: u64,
    times: &mut Times,
) -> Result<(GradStore, Values)> {
    let mut clock = Instant::now();
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ STREAM);
    let mut rows = Vec::with_capacity(maker.phase.layouts * maker.phase.layout_queries);
    for _ in 0..maker.phase.layouts {
        ask(maker, cache, &mut rng, &mut rows)?;
    }
    lap(&mut clock, &mut times.prepare);
    let (config, device) = (setup.config, setup.params.device());
    let mut ops = Candle::new(setup.params);
    let texts: Vec<Vec<Vec<u32>>> = rows.iter().map(|row| vec![row.ids.clone()]).collect();
    let packed = pack(&texts, IMAGES, setup.pad, None).tensors(config.language_width / config.heads, device)?;
    let noise = noise(&mut rng, rows.len() * IMAGES * config.language_width);
    let noise = Tensor::from_vec(noise, (rows.len(), IMAGES, config.language_width), device)?;
    let said = language(&mut ops, config, &noise, &packed)?;
    let compared = compare(&mut ops, config, &proposals(&rows, device)?, &said.seg, 1)?;
    lap(&mut clock, &mut times.reading);
    let asked: Vec<Asked<'_>> = rows.iter().map(|row| Asked { owners: &row.owners, pointers: &row.pointers }).collect();
    let (total, pointed) = point(&asked, &compared, setup.weights.pointing)?;
    let values = Values { layouts: pointed.loss, located: pointed.right, total: pointed.loss, ..Values::default() };
    lap(&mut clock, &mut times.loss);
    let grads = total.backward()?;
    lap(&mut clock, &mut times.backward);
    Ok((grads, values))
}

/// Questions about a picture of the cache.
fn ask(maker: &Maker<'_>, cache: &Cache, rng: &mut ChaCha8Rng, rows: &mut Vec<Row>) -> Result<()> {
    let sample = cache.get(rng.random_range(0..cache.len()))?;
    let things = things(&sample.picture);
    let side = maker.config.spot_side();
    let base = Options::default();
    // Nonsense is learnt by reading.
    let weight = |stratum| if stratum == Stratum::Nonsense { 0.0 } else { maker.phase.weight(stratum) };
    let weights = base.weights.iter().map(|&(stratum, w)| (stratum, w * weight(stratum))).collect();
    let options = Options { count: maker.phase.layout_queries, weights, ..base };
    for proposed in expressions::generate(&sample.picture, &options, rng) {
        let ask = &proposed.ask;
        let mut seen = propose::given(&things, &false_alarms(side, rng), side, LEFT_OUT, rng);
        let mut owners = owners(&seen, &things);
        shuffle(&mut seen, &mut owners, rng);
        let mut names = Vec::with_capacity(MOST * NAMES);
        for owner in &owners {
            let thing = owner.map_or_else(|| random_thing(rng), |of| things[of]);
            let drawn: Vec<f32> = (0..NAMES).map(|_| normal(rng)).collect();
            let mut drawn = drawn.into_iter();
            let blurred = if owner.is_none() { 1.5 } else { 0.0 };
            let chance = rng.random::<f32>();
            let named = imagined_names(&thing, || drawn.next().unwrap_or_default(), || chance);
            names.extend(named.map(|name| name - blurred));
        }
        names.resize(MOST * NAMES, 0.0);
        let mut inputs = ProposalInputs::default();
        let boxes: Vec<[f32; 4]> = seen.iter().map(|p| p.edges).collect();
        inputs.fill(&boxes, &[]);
        let (ids, _) = maker.tokens(&ask.text, ask.hint.as_ref(), &ask.nonsense)?;
        let pointers = Pointers::of(ask, proposed.anchor, proposed.alike.as_ref());
        rows.push(Row { ids, names, inputs, owners, pointers });
    }
    Ok(())
}

fn shuffle(seen: &mut Vec<Proposal>, owners: &mut Vec<Option<usize>>, rng: &mut ChaCha8Rng) {
    let mut both: Vec<_> = std::mem::take(seen).into_iter().zip(std::mem::take(owners)).collect();
    both.shuffle(rng);
    (*seen, *owners) = both.into_iter().unzip();
}

/// Proposals where nothing is.
fn false_alarms(side: usize, rng: &mut ChaCha8Rng) -> Vec<Proposal> {
    let count = rng.random_range(0..=FALSE_ALARMS);
    let mut alarm = || {
        let (x, y) = (rng.random_range(0.05..0.95f32), rng.random_range(0.05..0.95f32));
        let (w, h) = (rng.random_range(0.02..0.1f32), rng.random_range(0.02..0.1f32));
        let cell = (y * side as f32) as usize * side + (x * side as f32) as usize;
        Proposal { cell, score: 0.2, edges: [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0] }
    };
    (0..count).map(|_| alarm()).collect()
}

/// What a false alarm looks like.
fn random_thing(rng: &mut ChaCha8Rng) -> Thing {
    let category: Category = Category::ALL[rng.random_range(0..Category::ALL.len())];
    let colour: Colour = Colour::ALL[rng.random_range(0..Colour::ALL.len())];
    Thing { category, colour: rng.random_bool(0.5).then_some(colour), edges: [0.0; 4] }
}

fn proposals(rows: &[Row], device: &candle_core::Device) -> Result<Proposals<Tensor>> {
    let joined = |part: fn(&Row) -> &[f32], shape: (usize, usize, usize)| {
        Tensor::from_vec(rows.iter().flat_map(|row| part(row).iter().copied()).collect::<Vec<f32>>(), shape, device)
    };
    let count = rows.len();
    Ok(Proposals {
        names: joined(|row| &row.names, (count, MOST, NAMES))?,
        codes: joined(|row| &row.inputs.codes, (count, MOST, CODE))?,
        // No mask is decoded, so no box is laid over a grid.
        extents: Tensor::zeros((1, 1, MOST), candle_core::DType::F32, device)?,
        attention: joined(|row| &row.inputs.attention, (count, MOST + 1, MOST + 1))?,
    })
}
