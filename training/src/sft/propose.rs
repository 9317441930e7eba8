//! Proposals in training: the drone's own picking, helped by the labels while it learns.

use candle_core::{Device, Tensor};
use kestrel_models::candle::Candle;
use kestrel_models::kestrel::{Config, Proposals, Seen};
use kestrel_models::ops::Ops as _;
use kestrel_perception::proposals::{self, CODE, GEOMETRY, MOST, NAMES, Proposal, ProposalInputs, THING, iou, pick};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Result;
use super::pass::host;
use crate::losses::proposals::Thing;

/// How far edges of given boxes are moved, in shares of the box.
const SHIFT: f32 = 0.08;
/// A found proposal that overlaps a given one so much is that one.
const SAME: f32 = 0.4;

/// What the drone would pick.
///
/// # Errors
/// When the spots are not finite.
pub fn found(seen: &Seen<Tensor>, config: &Config) -> Result<Vec<Proposal>> {
    Ok(pick(&host(&seen.spots)?, config.spot_side())?)
}

/// Labelled things as proposals, moved a little and but for a share of them, then what was found besides.
pub(super) fn given(
    things: &[Thing],
    found: &[Proposal],
    side: usize,
    left_out: f64,
    rng: &mut ChaCha8Rng,
) -> Vec<Proposal> {
    let mut proposals = Vec::with_capacity(MOST);
    for thing in things {
        let [x0, y0, x1, y1] = thing.edges;
        if x1 <= x0 || y1 <= y0 || proposals.len() == MOST || rng.random_bool(left_out) {
            continue;
        }
        let mut moved = |v: f32, length: f32| (v + rng.random_range(-SHIFT..SHIFT) * length).clamp(0.0, 1.0);
        let (w, h) = (x1 - x0, y1 - y0);
        let edges = [moved(x0, w), moved(y0, h), moved(x1, w), moved(y1, h)];
        let cell = |low: f32, high: f32| ((0.5 * (low + high) * side as f32) as usize).min(side - 1);
        proposals.push(Proposal { cell: cell(y0, y1) * side + cell(x0, x1), score: 1.0, edges });
    }
    for proposal in found {
        if proposals.len() < MOST && proposals.iter().all(|p| iou(&p.edges, &proposal.edges) < SAME) {
            proposals.push(*proposal);
        }
    }
    proposals
}

/// The proposals of one picture as the model takes them, their names read from its spots.
///
/// # Errors
/// When candle fails.
pub fn tensors(
    ops: &mut Candle<'_>,
    config: &Config,
    seen: &Seen<Tensor>,
    proposals: &[Proposal],
) -> Result<Proposals<Tensor>> {
    let device = seen.spots.device().clone();
    let mut cells: Vec<u32> = proposals.iter().map(|p| p.cell as u32).collect();
    cells.resize(MOST, 0);
    let index = Tensor::from_vec(cells, (1, MOST), &device)?;
    let spots = ops.select(&seen.spots, &index)?;
    let names = ops.narrow(&spots, 2, GEOMETRY, NAMES)?;
    let boxes: Vec<[f32; 4]> = proposals.iter().map(|p| p.edges).collect();
    let mut inputs = ProposalInputs::default();
    inputs.fill(&boxes, &[config.embed_side(), config.mask_side()]);
    with_names(names, &inputs, &device)
}

/// What stands out as a model that is told of it reads it, `[1, n, THING]`; `None` where it is not told, or nothing does.
/// No gradient goes through it: what stands out is not taught by what is said of it.
///
/// # Errors
/// When a proposal is not of this view, or candle fails.
pub fn things(config: &Config, seen: &Seen<Tensor>, proposals: &[Proposal]) -> Result<Option<Tensor>> {
    if !config.things || proposals.is_empty() {
        return Ok(None);
    }
    let told = proposals::things(&host(&seen.spots)?, proposals)?;
    let shape = (1, told.len() / THING, THING);
    Ok(Some(Tensor::from_vec(told, shape, seen.spots.device())?))
}

/// Proposals of one view with these names `[1, MOST, NAMES]`.
fn with_names(names: Tensor, inputs: &ProposalInputs, device: &Device) -> Result<Proposals<Tensor>> {
    let tensor = |data: &[f32], rows: usize| Tensor::from_slice(data, (1, rows, data.len() / rows), device);
    Ok(Proposals {
        names,
        codes: tensor(&inputs.codes, inputs.codes.len() / CODE)?,
        extents: tensor(&inputs.extents, inputs.extents.len() / MOST)?,
        attention: tensor(&inputs.attention, MOST + 1)?,
    })
}

/// Proposals that no picture gave, to make every parameter once.
///
/// # Errors
/// When candle fails.
pub(super) fn none(config: &Config, device: &Device) -> Result<Proposals<Tensor>> {
    let mut inputs = ProposalInputs::default();
    inputs.fill(&[], &[config.embed_side(), config.mask_side()]);
    let names = Tensor::zeros((1, MOST, NAMES), candle_core::DType::F32, device)?;
    with_names(names, &inputs, device)
}
