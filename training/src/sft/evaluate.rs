//! A quick look at the averaged model on tuning samples during training.
//!
//! It judges masks at the decoder's own resolution and takes the likeliest answer; the full evaluation runs the flying
//! runtime instead.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::{Config, Seen, compare, decode, language, vision};
use kestrel_models::tokenizer::QueryTokenizer;
use serde::Serialize;

use super::example::{Example, Goal, Maker, Question};
use super::explain::{Model, explain};
use super::optimiser::AdamW;
use super::pass::{host, image, packed};
use super::perform::{Plan, perform};
use super::point::exactly;
use super::{Phase, Recipe, Result, TrainError, propose};
use crate::benchmark;
use crate::datasets::Split;
use crate::datasets::folder::Folder;
use crate::losses::answer::none_margin;
use crate::losses::proposals::{Thing, owners};
use crate::losses::{mask as masks, sigmoid};
use crate::metrics::{Figure, Kind, NO_DOUBT, Performance, Reasoned, Record, Swept, performance, reasoned, report};
use crate::rewards::TaskKind;
use crate::sample::{Ask, Origin, Sample, Stratum, Target};
use crate::threads::Threads;

/// What one evaluation found.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// Mean IoU of questions for one thing.
    pub specific: Figure,
    /// Mean IoU of questions for all things of a kind.
    pub general: Figure,
    /// Mean IoU irrespective of whether it answered.
    pub mask: f64,
    /// Share of absent targets without a pixel.
    pub pass_rate: Figure,
    /// Share of present targets that were refused.
    pub false_refusals: Figure,
    /// Matthews correlation of presence.
    pub il_mcc: Figure,
    /// Share of refusals with the right reason.
    pub reasons: Figure,
    /// All figures by stratum.
    pub strata: BTreeMap<Stratum, Figure>,
    /// Reasoned answers, where they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoned: Option<Reasoned>,
    /// Answers to tasks, where they are asked for and the labels know the right ones.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<TaskKind, Performance>,
    /// Share of questions of a stratum for which exactly the right proposals are meant, found ones only.
    pub pointed: BTreeMap<Stratum, f32>,
}

/// The name by which a recipe evaluates on the tuning parts of its own sets.
pub const SETS: &str = "sets";

/// Samples of the sets that a recipe evaluates on, shared evenly. Scenes are rendered as large as the recipe's own pictures
/// where those are larger than usual, so that a larger input has more to see.
///
/// # Errors
/// When a set is unknown or its data is missing.
pub fn samples(recipe: &Recipe, data: Option<&Path>) -> Result<Vec<(String, Sample)>> {
    let (names, pictures) = (&recipe.evaluate_sets, recipe.evaluate_pictures);
    let each = pictures.div_ceil(names.len().max(1));
    let mut samples = Vec::with_capacity(pictures);
    for name in names {
        let size = recipe.data.size.max(benchmark::SIZE);
        let found = match name.as_str() {
            SETS => tuning(recipe, each, data)?,
            _ => benchmark::set_at(name, size, 0, Some(each), data)?,
        };
        for sample in found {
            samples.push((name.clone(), sample?));
        }
    }
    Ok(samples)
}

/// The first pictures of each set's tuning part, none of which may train.
fn tuning(recipe: &Recipe, pictures: usize, data: Option<&Path>) -> Result<benchmark::Samples> {
    let sets = &recipe.data.sets;
    let each = pictures.div_ceil(sets.len().max(1));
    let mut records = Vec::new();
    for set in sets {
        let tuning = Folder { split: None, ..set.clone() }.part(data, Split::Tune)?.records;
        let training = set.part(data, Split::Train)?.records;
        let trained: HashSet<&Path> = training.iter().flat_map(|record| record.files()).collect();
        if let Some(both) = tuning.iter().find(|record| record.files().any(|file| trained.contains(file))) {
            return Err(TrainError::Setting {
                recipe: recipe.name.clone(),
                setting: "evaluate_sets".to_owned(),
                expected: "`sets` only where no tuning picture trains".to_owned(),
                got: format!("{set}, of which {} does both", both.frame()),
            });
        }
        records.extend(tuning.into_iter().take(each));
    }
    Ok(benchmark::from_records(records, 0, Some(pictures)))
}

/// Index of the likeliest of the five answers, by a row of logits.
pub(crate) fn likeliest(row: &[f32], answers: &[u32; 5]) -> usize {
    (0..5).max_by(|&a, &b| row[answers[a] as usize].total_cmp(&row[answers[b] as usize])).unwrap_or_default()
}

/// How much an evaluation asks.
#[derive(Debug, Clone, Copy)]
pub struct Extent<'a> {
    /// Threads.
    pub workers: usize,
    /// Questions about each picture that are answered with reasons too.
    pub chains: usize,
    /// Tasks about each picture.
    pub tasks: &'a Plan,
    /// The parameters in training: what is rounded of them is rounded here.
    pub like: &'a Params,
}

/// Evaluates the averaged parameters.
///
/// # Errors
/// When the model fails.
pub fn evaluate(
    adam: &AdamW,
    config: &Config,
    phase: &Phase,
    tokenizer: &QueryTokenizer,
    samples: &[(String, Sample)],
    extent: &Extent<'_>,
) -> Result<(Evaluation, Vec<Record>)> {
    let mut tensors = HashMap::with_capacity(adam.slots.len());
    for (name, shape, values) in adam.averages() {
        tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?);
    }
    let mut params = Params::from_tensors(tensors)?;
    params.set_places_of(extent.like);
    judged(&params, config, phase, tokenizer, samples, extent)
}

/// As [`evaluate`], of these parameters as they are.
///
/// # Errors
/// When the model fails.
pub fn judged(
    params: &Params,
    config: &Config,
    phase: &Phase,
    tokenizer: &QueryTokenizer,
    samples: &[(String, Sample)],
    extent: &Extent<'_>,
) -> Result<(Evaluation, Vec<Record>)> {
    let &Extent { workers, chains, tasks, .. } = extent;
    let results = Threads::new(workers)?.each(0..workers, |_, number| {
        let mut maker = Maker::new(config, phase, tokenizer);
        let model = Model { params, config, tokenizer, limits: phase.limits() };
        let (mut records, mut explained, mut performed) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (set, sample)) in samples.iter().enumerate().skip(number).step_by(workers) {
            let example = maker.all(sample)?;
            let picture = image(&example.pixels, config.image, &Device::Cpu)?;
            let seen = vision(&mut Candle::evaluating(params), config, &picture)?;
            records.extend(look(params, config, tokenizer, (set, sample), &example, &seen)?);
            explained.extend(explain(&model, sample, &seen, chains, at as u64)?);
            performed.extend(perform(&model, sample, &seen, tasks, at as u64)?);
        }
        Ok((records, (explained, performed)))
    })?;
    let (results, written): (Vec<_>, Vec<_>) = results.into_iter().unzip();
    let (explained, performed): (Vec<_>, Vec<_>) = written.into_iter().unzip();
    let (explained, performed) = (explained.concat(), performed.concat());
    let mut records = Vec::new();
    let (mut sum, mut count) = (0.0, 0usize);
    let mut points: BTreeMap<Stratum, (f32, f32)> = BTreeMap::new();
    for Judged { record, shape, pointed } in results.into_iter().flatten() {
        if let Some(shape) = shape {
            sum += shape;
            count += 1;
        }
        let (right, all) = points.entry(record.stratum).or_default();
        (*right, *all) = (*right + f32::from(pointed), *all + 1.0);
        records.push(record);
    }
    let all = report(&records, 1);
    let evaluation = Evaluation {
        specific: all.specific.giou,
        general: all.general.giou,
        mask: sum / count.max(1) as f64,
        pass_rate: all.hard_negative.pass_rate,
        false_refusals: all.present.false_refusal_rate,
        il_mcc: all.il_mcc,
        reasons: all.reason_accuracy,
        strata: all.strata,
        reasoned: (chains > 0).then(|| reasoned(&explained, 1)),
        tasks: performance(&performed, 1),
        pointed: points.into_iter().map(|(stratum, (right, all))| (stratum, right / all)).collect(),
    };
    Ok((evaluation, records))
}

/// A question's record, and what it hides.
pub(crate) struct Judged {
    pub(crate) record: Record,
    /// IoU of the mask irrespective of the answer, where there is an outline.
    shape: Option<f64>,
    /// Whether exactly the right proposals are meant.
    pointed: bool,
}

/// A view and what is asked about it.
pub(crate) struct Subject<'a> {
    /// Name of the set.
    pub(crate) set: &'a str,
    /// Where the picture comes from.
    pub(crate) origin: &'a Origin,
    /// Degradation family and severity, if any.
    pub(crate) degradation: Option<&'a (String, f32)>,
    /// The questions.
    pub(crate) asks: &'a [Ask],
    /// The questions as the model takes them.
    pub(crate) questions: &'a [Question],
    /// The labelled things, where it matters which are pointed at.
    pub(crate) things: &'a [Thing],
}

/// Judges all questions of a sample.
fn look(
    params: &Params,
    config: &Config,
    tokenizer: &QueryTokenizer,
    (set, sample): (&str, &Sample),
    example: &Example,
    seen: &Seen<Tensor>,
) -> Result<Vec<Judged>> {
    let (origin, degradation) = (&sample.picture.origin, sample.degradation.as_ref());
    let (asks, questions, things) = (&sample.asks, &example.questions, &example.things);
    answer(params, config, tokenizer, &Subject { set, origin, degradation, asks, questions, things }, seen)
}

/// Judges all questions about a view.
pub(crate) fn answer(
    params: &Params,
    config: &Config,
    tokenizer: &QueryTokenizer,
    subject: &Subject<'_>,
    seen: &Seen<Tensor>,
) -> Result<Vec<Judged>> {
    let count = subject.questions.len();
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut ops = Candle::evaluating(params);
    let special = tokenizer.special();
    let pack = packed(subject.questions, config, special.pad);
    let tensors = pack.tensors(config.language_width / config.heads, params.device())?;
    let said = language(&mut ops, config, &seen.tokens, &tensors)?;
    let seg = said.seg.reshape((count, 1, config.mask_width))?;
    let picked = propose::found(seen, config)?;
    let proposals = propose::tensors(&mut ops, config, seen, &picked)?;
    let compared = compare(&mut ops, config, &proposals, &seg, count)?;
    let shown = decode(&mut ops, config, seen, &proposals, &compared, &seg, count)?;
    let (owners, meant) = (owners(&picked, subject.things), host(&compared.meant)?);
    let most = meant.len() / count;
    let (logits, doubts) = (host(&said.logits)?, host(&said.doubt)?);
    let (pixels, objects, ious) = (host(&shown.mask)?, host(&shown.object)?, host(&shown.iou)?);
    let cells = pixels.len() / count;
    // Cells to pixels of the 512-px view.
    let scale = (kestrel_perception::MODEL_SIZE as usize / config.mask_side()).pow(2) as f32;
    let mut records = Vec::with_capacity(count);
    for (i, question) in subject.questions.iter().enumerate() {
        let row = &logits[i * config.vocabulary..(i + 1) * config.vocabulary];
        let answers = special.answers();
        let z = &pixels[i * cells..(i + 1) * cells];
        let nothing = vec![0.0; cells];
        let target = if let Goal::Mask(target) = &question.goal { target } else { &nothing };
        let (both, either) = masks::overlap(z, target);
        let area = z.iter().filter(|z| **z > 0.0).count() as f32;
        let ask = &subject.asks[i];
        let margin = none_margin(row, &answers);
        let given = Kind::ANSWERS[likeliest(row, &answers)];
        let answered = given == Kind::Mask && area > 0.0;
        let start = pack.start[i] as usize;
        let doubt = doubts[start..start + question.doubt.len()].iter().copied().fold(NO_DOUBT, f32::max);
        let in_pixels = |cells: f32| (cells * scale) as u64;
        let record = Record {
            set: subject.set.to_owned(),
            scene: subject.origin.scene.clone(),
            frame: subject.origin.frame.clone(),
            text: ask.text.clone(),
            stratum: ask.stratum,
            expected: Kind::from(&ask.target),
            weak: matches!(ask.target, Target::Boxes(_)),
            target: in_pixels(either - area + both),
            held_out_phrasing: ask.held_out_phrasing,
            slipped: ask.slipped,
            degradation: subject.degradation.cloned(),
            given: if given == Kind::Mask && !answered { Kind::Other } else { given },
            predicted: if answered { in_pixels(area) } else { 0 },
            intersection: if answered { in_pixels(both) } else { 0 },
            presence: sigmoid(-margin),
            features: [margin, objects[i], ious[i]],
            doubt,
            sweep: vec![Swept { threshold: 0.5, predicted: in_pixels(area), intersection: in_pixels(both) }],
        };
        let shape = matches!(question.goal, Goal::Mask(_)).then(|| f64::from(both / either.max(1.0)));
        let meant = &meant[i * most..][..owners.len()];
        let pointed = exactly(meant, |k| owners[k].is_some_and(|of| question.pointers.targets.contains(&of)));
        records.push(Judged { record, shape, pointed });
    }
    Ok(records)
}
