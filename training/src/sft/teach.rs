//! What is taught about a picture's questions: their words, and what their `[SEG]` states find.

use candle_core::Tensor;
use kestrel_models::candle::Candle;
use kestrel_models::kestrel::pack::Packed;
use kestrel_models::kestrel::{
    Compared, Keys, Likeness, Masks, Proposals, Said, Seen, compare, decode, likeness, wishes,
};

use super::Result;
use super::example::{CANDIDATES_SHARE, Goal, Pointers, Question};
use super::measured::Values;
use super::pass::{Setup, host};
use super::point::{Asked, point};
use crate::losses::{answer, attach, binary, mask as masks};

/// Nonsense is rare: its tokens weigh so much more.
pub(super) const NONSENSE_WEIGHT: f32 = 3.0;
/// How much it matters that words without a relation mark no anchor.
const NO_ANCHOR_SHARE: f32 = 0.1;
/// Likeness cannot tell the largest from the others: taught to, it learns to be unsure of all.
const COMPARED_SHARE: f32 = 0.2;

/// What a pass has seen of a picture.
pub(crate) struct Scene<'a> {
    pub(crate) seen: &'a Seen<Tensor>,
    pub(crate) keys: &'a Keys<Tensor>,
    pub(crate) proposals: &'a Proposals<Tensor>,
    /// The thing that each proposal stands for.
    pub(crate) owners: &'a [Option<usize>],
}

/// What a `[SEG]` state should find.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sought<'a> {
    /// The mask.
    pub(crate) goal: &'a Goal,
    /// What should be pointed at.
    pub(crate) pointers: &'a Pointers,
    /// Whether only comparing things tells the target from others like it.
    pub(crate) compared: bool,
    /// Where the thing is that words relate their target to, as a heat.
    pub(crate) anchor: Option<&'a [f32]>,
    /// Whether words certainly relate their target to nothing.
    pub(crate) plain: bool,
}

/// Losses of what language alone gives: the answer to every question, and doubt about its words.
pub(crate) fn heard(
    setup: &Setup<'_>,
    questions: &[Question],
    pack: &Packed,
    said: &Said<Tensor>,
    values: &mut Values,
) -> Result<Tensor> {
    let answers = answers(setup, questions, &said.logits, values)?;
    Ok((answers + doubts(setup, questions, pack, &said.doubt, values)?)?)
}

/// Losses of what `[SEG]` states `[1, n, mask_width]` find, of which there is at least one: likeness with places, which
/// proposals are meant, and the masks of the first `decoded`.
pub(crate) fn found(
    ops: &mut Candle<'_>,
    setup: &Setup<'_>,
    sought: &[Sought<'_>],
    decoded: usize,
    states: &Tensor,
    scene: &Scene<'_>,
    values: &mut Values,
) -> Result<Tensor> {
    Ok(found_and_shown(ops, setup, sought, decoded, states, scene, values)?.0)
}

/// As [`found`], with what was decoded.
pub(super) fn found_and_shown(
    ops: &mut Candle<'_>,
    setup: &Setup<'_>,
    sought: &[Sought<'_>],
    decoded: usize,
    states: &Tensor,
    scene: &Scene<'_>,
    values: &mut Values,
) -> Result<(Tensor, Option<Masks<Tensor>>)> {
    let (config, count) = (setup.config, sought.len());
    let wishes = wishes(ops, config, states)?;
    let alike = likeness(ops, config, scene.keys, &wishes)?;
    let mut total = matches(setup, sought, &alike, values)?;
    total = (total + anchors(setup, sought, &alike.anchor, values)?)?;
    let seg = states.reshape((count, 1, config.mask_width))?;
    let compared = compare(ops, config, scene.proposals, &seg, count)?;
    total = (total + points(setup, sought, scene.owners, &compared, values)?)?;
    if decoded == 0 {
        return Ok((total, None));
    }
    let (compared, seg) = (first(compared, decoded)?, seg.narrow(0, 0, decoded)?);
    let shown = decode(ops, config, scene.seen, scene.proposals, &compared, &seg, decoded)?;
    let goals: Vec<&Goal> = sought[..decoded].iter().map(|sought| sought.goal).collect();
    let (term, judged) = judge(setup, &shown, &goals, 1.0)?;
    *values += judged;
    Ok(((total + term)?, Some(shown)))
}

/// The comparison of the first `count` questions: of it, decoding reads nothing but these.
fn first(compared: Compared<Tensor>, count: usize) -> Result<Compared<Tensor>> {
    let first = |x: &Tensor| x.narrow(0, 0, count);
    Ok(Compared {
        meant: first(&compared.meant)?,
        found: first(&compared.found)?,
        summary: first(&compared.summary)?,
        ..compared
    })
}

/// Likeness of every question's wish with every place, coarse and fine: the mask before the decoder's layers, and the
/// only part of the model in which nothing but the words tells questions apart.
fn matches(setup: &Setup<'_>, sought: &[Sought<'_>], alike: &Likeness<Tensor>, values: &mut Values) -> Result<Tensor> {
    let coarse = matched(setup, sought, &alike.coarse, setup.config.embed_side(), 0.5, values)?;
    let fine = matched(setup, sought, &alike.mask, setup.config.mask_side(), 1.0, values)?;
    Ok((coarse + fine)?)
}

fn matched(
    setup: &Setup<'_>,
    sought: &[Sought<'_>],
    scores: &Tensor,
    side: usize,
    share: f32,
    values: &mut Values,
) -> Result<Tensor> {
    let scores = scores.transpose(1, 2)?.contiguous()?;
    let logits = host(&scores)?;
    let mut gradient = vec![0.0; logits.len()];
    let weights = setup.weights;
    let each = share * weights.matching / sought.len() as f32;
    let coarse = side < setup.config.mask_side();
    let rows = logits.chunks_exact(side * side).zip(gradient.chunks_exact_mut(side * side));
    for (&Sought { goal, compared, .. }, (z, g)) in sought.iter().zip(rows) {
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
fn anchors(setup: &Setup<'_>, sought: &[Sought<'_>], scores: &Tensor, values: &mut Values) -> Result<Tensor> {
    let side = setup.config.embed_side();
    let scores = scores.transpose(1, 2)?.contiguous()?;
    let logits = host(&scores)?;
    let mut gradient = vec![0.0; logits.len()];
    let each = setup.weights.anchor / sought.len() as f32;
    let rows = logits.chunks_exact(side * side).zip(gradient.chunks_exact_mut(side * side));
    for (question, (z, g)) in sought.iter().zip(rows) {
        // Words without a relation have no anchor; where the relation is not known, nothing is taught.
        let loss = match question.anchor {
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
    sought: &[Sought<'_>],
    owners: &[Option<usize>],
    compared: &Compared<Tensor>,
    values: &mut Values,
) -> Result<Tensor> {
    let asked: Vec<Asked<'_>> = sought.iter().map(|sought| Asked { owners, pointers: sought.pointers }).collect();
    let (term, pointed) = point(&asked, compared, setup.weights.pointing)?;
    values.pointing += pointed.loss;
    values.total += pointed.loss;
    values.pointed += pointed.right;
    Ok(term)
}

fn answers(setup: &Setup<'_>, questions: &[Question], output: &Tensor, values: &mut Values) -> Result<Tensor> {
    let logits = host(output)?;
    let mut gradient = vec![0.0; logits.len()];
    let vocabulary = setup.config.vocabulary;
    let count = questions.len() as f32;
    let rows = logits.chunks_exact(vocabulary).zip(gradient.chunks_exact_mut(vocabulary));
    for (question, (row, gradient)) in questions.iter().zip(rows) {
        let weight = setup.weights.answer / count;
        let loss = answer::cross_entropy(row, &setup.answers, question.pointers.class, weight, gradient);
        values.answer += loss;
        values.total += loss;
        let best = (0..5).max_by(|&a, &b| row[setup.answers[a] as usize].total_cmp(&row[setup.answers[b] as usize]));
        values.right += f32::from(best == Some(question.pointers.class)) / count;
    }
    Ok(attach(output, gradient)?)
}

fn doubts(
    setup: &Setup<'_>,
    questions: &[Question],
    pack: &Packed,
    output: &Tensor,
    values: &mut Values,
) -> Result<Tensor> {
    let logits = host(output)?;
    let mut gradient = vec![0.0; logits.len()];
    let words: usize = questions.iter().map(|q| q.doubt.len()).sum();
    let scale = setup.weights.doubt / words.max(1) as f32;
    for (question, &start) in questions.iter().zip(&pack.start) {
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
