//! One picture through the model, its losses, and the gradients of all parameters.

use std::time::Instant;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::pack::{Packed, pack};
use kestrel_models::kestrel::{
    Compared, Config, Keys, Likeness, Masks, Seen, compare, decode, keys, language, likeness, mask, names_of_places,
    names_of_tokens, vision, wishes,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::example::{CANDIDATES_SHARE, Example, Goal, Question};
use super::measured::{Times, Values, lap};
use super::point::{Asked, point};
use super::recipe::Weights;
use super::{Result, chain, propose, tasks};
use crate::losses::proposals::owners;
use crate::losses::{answer, attach, binary, mask as masks};

/// Nonsense is rare: its tokens weigh so much more.
pub(super) const NONSENSE_WEIGHT: f32 = 3.0;
/// How much it matters that words without a relation mark no anchor.
const NO_ANCHOR_SHARE: f32 = 0.1;
/// Likeness cannot tell the largest from the others: taught to, it learns to be unsure of all.
const COMPARED_SHARE: f32 = 0.2;

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
pub(super) fn packed(questions: &[Question], config: &Config, pad: u32) -> Packed {
    let ids = questions.iter().map(|q| q.ids.clone()).collect::<Vec<_>>();
    pack(&[ids], config.token_side() * config.token_side(), pad, None)
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
    let seen = vision(&mut ops, config, &image(&example.pixels, config.image, device)?)?;
    lap(&mut clock, &mut times.vision);
    let keys = keys(&mut ops, config, &seen)?;
    let mut total = dense_heads(&mut ops, setup, example, &seen, &keys, &mut values)?;
    lap(&mut clock, &mut times.loss);
    if !example.questions.is_empty() {
        let pack = packed(&example.questions, config, setup.pad);
        let tensors = pack.tensors(config.language_width / config.heads, device)?;
        let said = language(&mut ops, config, &seen.tokens, &tensors)?;
        lap(&mut clock, &mut times.language);
        total = (total + answers(setup, example, &said.logits, &mut values)?)?;
        total = (total + doubts(setup, example, &pack, &said.doubt, &mut values)?)?;
        let wishes = wishes(&mut ops, config, &said.seg)?;
        let alike = likeness(&mut ops, config, &keys, &wishes)?;
        let wanted: Vec<Wanted<'_>> = example.questions.iter().map(|q| (&q.goal, q.compared)).collect();
        total = (total + matches(setup, &wanted, &alike, &mut values)?)?;
        total = (total + anchors(setup, example, &alike.anchor, &mut values)?)?;
        lap(&mut clock, &mut times.loss);
        let picked = propose::found(&seen, config)?;
        let picked = match example.given {
            true => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed ^ GIVEN);
                propose::given(&example.things, &picked, config.spot_side(), LEFT_OUT, &mut rng)
            }
            false => picked,
        };
        let proposals = propose::tensors(&mut ops, config, &seen, &picked)?;
        let (asked, decoded) = (example.questions.len(), example.masks);
        let seg = said.seg.reshape((asked, 1, config.mask_width))?;
        let compared = compare(&mut ops, config, &proposals, &seg, asked)?;
        let owners = owners(&picked, &example.things);
        total = (total + points(setup, example, &owners, &compared, &mut values)?)?;
        let seg = seg.narrow(0, 0, decoded)?;
        let compared = first(compared, decoded)?;
        let shown = decode(&mut ops, config, &seen, &proposals, &compared, &seg, decoded)?;
        lap(&mut clock, &mut times.mask);
        let goals: Vec<&Goal> = example.questions[..decoded].iter().map(|q| &q.goal).collect();
        let (term, judged) = judge(setup, &shown, &goals, 1.0)?;
        values += judged;
        total = (total + term)?;
        lap(&mut clock, &mut times.loss);
        if !example.reasons.chains.is_empty() {
            let scene = chain::Scene { seen: &seen, keys: &keys, proposals: &proposals, owners: &owners };
            total = (total + chain::teach(&mut ops, setup, example, &scene, &mut values)?)?;
            lap(&mut clock, &mut times.language);
        }
        if let Some(later) = &example.later {
            let seen = vision(&mut ops, config, &image(&later.pixels, config.image, device)?)?;
            lap(&mut clock, &mut times.vision);
            let proposals = propose::tensors(&mut ops, config, &seen, &propose::found(&seen, config)?)?;
            let shown = mask(&mut ops, config, &seen, &proposals, &seg, decoded)?;
            lap(&mut clock, &mut times.mask);
            let (term, judged) = judge(setup, &shown, &later.goals.iter().collect::<Vec<_>>(), weights.later)?;
            values.later += judged.total;
            values.total += judged.total;
            total = (total + term)?;
            lap(&mut clock, &mut times.loss);
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

/// The comparison of the first `count` questions: of it, decoding reads nothing but these.
pub(super) fn first(compared: Compared<Tensor>, count: usize) -> Result<Compared<Tensor>> {
    let first = |x: &Tensor| x.narrow(0, 0, count);
    Ok(Compared {
        meant: first(&compared.meant)?,
        found: first(&compared.found)?,
        summary: first(&compared.summary)?,
        ..compared
    })
}

/// What a `[SEG]` state should be like, and whether only comparing things tells that.
pub(super) type Wanted<'a> = (&'a Goal, bool);

/// Likeness of every question's wish with every place, coarse and fine: the mask before the decoder's layers, and the
/// only part of the model in which nothing but the words tells questions apart.
pub(super) fn matches(
    setup: &Setup<'_>,
    wanted: &[Wanted<'_>],
    alike: &Likeness<Tensor>,
    values: &mut Values,
) -> Result<Tensor> {
    let coarse = matched(setup, wanted, &alike.coarse, setup.config.embed_side(), 0.5, values)?;
    let fine = matched(setup, wanted, &alike.mask, setup.config.mask_side(), 1.0, values)?;
    Ok((coarse + fine)?)
}

fn matched(
    setup: &Setup<'_>,
    wanted: &[Wanted<'_>],
    scores: &Tensor,
    side: usize,
    share: f32,
    values: &mut Values,
) -> Result<Tensor> {
    let scores = scores.transpose(1, 2)?.contiguous()?;
    let logits = host(&scores)?;
    let mut gradient = vec![0.0; logits.len()];
    let weights = setup.weights;
    let each = share * weights.matching / wanted.len() as f32;
    let coarse = side < setup.config.mask_side();
    let rows = logits.chunks_exact(side * side).zip(gradient.chunks_exact_mut(side * side));
    for (&(goal, compared), (z, g)) in wanted.iter().zip(rows) {
        let each = each * if compared { COMPARED_SHARE } else { 1.0 };
        let parts =
            |share: f32| masks::Parts { focal: each * share * weights.focal, dice: each * share * weights.dice };
        let loss = match goal {
            Goal::Empty => masks::empty(z, weights.empty * each, g),
            Goal::Candidates(_) if coarse => masks::dense(z, &goal.heat(side), parts(CANDIDATES_SHARE), g),
            Goal::Mask(_) | Goal::Boxes(..) if coarse => masks::dense(z, &goal.heat(side), parts(1.0), g),
            Goal::Candidates(target) => masks::dense(z, target, parts(CANDIDATES_SHARE), g),
            Goal::Mask(target) => masks::dense(z, target, parts(1.0), g),
            Goal::Boxes(columns, rows) => masks::projections(z, columns, rows, each * weights.projection, g),
        };
        values.matching += loss;
        values.total += loss;
    }
    Ok(attach(&scores, gradient)?)
}

/// Where the thing is that words relate their target to: without it a relation is a long way for a gradient.
fn anchors(setup: &Setup<'_>, example: &Example, scores: &Tensor, values: &mut Values) -> Result<Tensor> {
    let side = setup.config.embed_side();
    let scores = scores.transpose(1, 2)?.contiguous()?;
    let logits = host(&scores)?;
    let mut gradient = vec![0.0; logits.len()];
    let each = setup.weights.anchor / example.questions.len() as f32;
    let rows = logits.chunks_exact(side * side).zip(gradient.chunks_exact_mut(side * side));
    for (question, (z, g)) in example.questions.iter().zip(rows) {
        // Words without a relation have no anchor; where the relation is not known, nothing is taught.
        let loss = match &question.anchor {
            Some(heat) => masks::dense(z, heat, masks::Parts { focal: 2.0 * each, dice: each }, g),
            None if question.plain => masks::empty(z, NO_ANCHOR_SHARE * each, g),
            None => continue,
        };
        values.anchor += loss;
        values.total += loss;
    }
    Ok(attach(&scores, gradient)?)
}

/// Which proposals are meant: all questions at once, for the price of a few tokens.
fn points(
    setup: &Setup<'_>,
    example: &Example,
    owners: &[Option<usize>],
    compared: &Compared<Tensor>,
    values: &mut Values,
) -> Result<Tensor> {
    let asked: Vec<Asked<'_>> =
        example.questions.iter().map(|question| Asked { owners, pointers: &question.pointers }).collect();
    let (term, pointed) = point(&asked, compared, setup.weights.pointing)?;
    values.pointing += pointed.loss;
    values.total += pointed.loss;
    values.pointed += pointed.right;
    Ok(term)
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

fn answers(setup: &Setup<'_>, example: &Example, output: &Tensor, values: &mut Values) -> Result<Tensor> {
    let logits = host(output)?;
    let mut gradient = vec![0.0; logits.len()];
    let vocabulary = setup.config.vocabulary;
    let count = example.questions.len() as f32;
    let rows = logits.chunks_exact(vocabulary).zip(gradient.chunks_exact_mut(vocabulary));
    for (question, (row, gradient)) in example.questions.iter().zip(rows) {
        let weight = setup.weights.answer / count;
        let loss = answer::cross_entropy(row, &setup.answers, question.pointers.class, weight, gradient);
        values.answer += loss;
        values.total += loss;
        let best = (0..5).max_by(|&a, &b| row[setup.answers[a] as usize].total_cmp(&row[setup.answers[b] as usize]));
        values.right += f32::from(best == Some(question.pointers.class)) / count;
    }
    Ok(attach(output, gradient)?)
}

fn doubts(setup: &Setup<'_>, example: &Example, pack: &Packed, output: &Tensor, values: &mut Values) -> Result<Tensor> {
    let logits = host(output)?;
    let mut gradient = vec![0.0; logits.len()];
    let words: usize = example.questions.iter().map(|q| q.doubt.len()).sum();
    let scale = setup.weights.doubt / words.max(1) as f32;
    for (question, &start) in example.questions.iter().zip(&pack.start) {
        for (i, &target) in question.doubt.iter().enumerate() {
            let at = start as usize + i;
            let weight = scale * if target > 0.5 { NONSENSE_WEIGHT } else { 1.0 };
            let (loss, slope) = binary(logits[at], target);
            gradient[at] += weight * slope;
            values.doubt += weight * loss;
            values.total += weight * loss;
        }
    }
    Ok(attach(output, gradient)?)
}

/// Losses of decoded masks against their goals, times `share`.
pub(crate) fn judge(setup: &Setup<'_>, shown: &Masks<Tensor>, goals: &[&Goal], share: f32) -> Result<(Tensor, Values)> {
    let weights = setup.weights;
    let (logits, objects, ious) = (host(&shown.mask)?, host(&shown.object)?, host(&shown.iou)?);
    let cells = logits.len() / goals.len().max(1);
    let each = share / goals.len().max(1) as f32;
    let mut gradient = vec![0.0; logits.len()];
    let (mut object_gradient, mut iou_gradient) = (vec![0.0; objects.len()], vec![0.0; ious.len()]);
    let mut values = Values::default();
    let (mut overlaps, mut targets) = (0.0, 0.0);
    for (i, goal) in goals.iter().enumerate() {
        let z = &logits[i * cells..(i + 1) * cells];
        let g = &mut gradient[i * cells..(i + 1) * cells];
        let parts = |factor: f32| masks::Parts { focal: weights.focal * factor, dice: weights.dice * factor };
        let (mut object, mut iou) = (None, None);
        values.mask += match goal {
            Goal::Mask(target) => {
                let (both, either) = masks::overlap(z, target);
                let overlap = if either > 0.0 { both / either } else { 0.0 };
                (object, iou) = (Some(1.0), Some(overlap));
                overlaps += overlap;
                targets += 1.0;
                masks::dense(z, target, parts(each), g)
            }
            Goal::Candidates(target) => masks::dense(z, target, parts(each * CANDIDATES_SHARE), g),
            Goal::Boxes(columns, rows) => {
                object = Some(1.0);
                masks::projections(z, columns, rows, each * weights.projection, g)
            }
            Goal::Empty => {
                (object, iou) = (Some(0.0), Some(0.0));
                masks::empty(z, each * weights.empty, g)
            }
        };
        if let Some(target) = object {
            let (loss, slope) = binary(objects[i], target);
            object_gradient[i] = each * weights.object * slope;
            values.object += each * weights.object * loss;
        }
        if let Some(target) = iou {
            let (loss, slope) = binary(ious[i], target);
            iou_gradient[i] = each * weights.iou * slope;
            values.iou += each * weights.iou * loss;
        }
    }
    values.overlap = if targets > 0.0 { overlaps / targets } else { 0.0 };
    values.total = values.mask + values.object + values.iou;
    let term = (attach(&shown.mask, gradient)? + attach(&shown.object, object_gradient)?)?;
    Ok(((term + attach(&shown.iou, iou_gradient)?)?, values))
}
