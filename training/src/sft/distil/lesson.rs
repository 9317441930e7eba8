//! What a teacher says of one example.

use candle_core::Tensor;
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::{Config, Masks, Seen, language, mask, vision};
use kestrel_perception::Scratch;
use ndarray::Array4;

use super::{Teacher, Terms};
use crate::losses::distil::resample;
use crate::losses::sigmoid;
use crate::sample::Sample;
use crate::sft::chain::{Before, Laid, Open};
use crate::sft::example::{Example, normalised};
use crate::sft::kept::Kept;
use crate::sft::pass::{host, image, packed, proposed};
use crate::sft::recipe::{Distil, Phase};
use crate::sft::{Result, propose};

/// What a teacher says of one example, on the student's grids.
#[derive(Debug, Clone, Default)]
pub struct Lesson {
    pub(super) terms: Terms,
    pub(super) temperature: f32,
    /// What it sees: tokens, embedding, fine features; none where they are not learnt.
    pub(super) maps: Vec<Map>,
    /// Logits of the five answers to every question.
    pub(super) answers: Vec<[f32; 5]>,
    /// The `[SEG]` state of every question.
    pub(super) states: Rows,
    /// Probabilities of the decoded masks, the student's cells of each.
    pub(super) masks: Vec<f32>,
    /// Logits of the object scores.
    pub(super) objects: Vec<f32>,
    /// Logits of the predicted IoUs.
    pub(super) ious: Vec<f32>,
    /// Logits of every row of the laid out chains.
    pub(super) chains: Vec<f32>,
    /// What is concluded with reasons.
    pub(super) reasoned: Vec<Reasoned>,
}

/// A map of a picture, resampled to the student's grid.
#[derive(Debug, Clone)]
pub(super) struct Map {
    pub(super) name: &'static str,
    pub(super) width: usize,
    pub(super) cells: Vec<f32>,
}

/// Rows of one width.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    pub(super) width: usize,
    pub(super) values: Vec<f32>,
}

impl Rows {
    fn of(tensor: &Tensor) -> Result<Self> {
        let width = tensor.dims().last().copied().unwrap_or_default();
        Ok(Self { width, values: host(tensor)? })
    }

    pub(super) fn row(&self, at: usize) -> &[f32] {
        &self.values[at * self.width..(at + 1) * self.width]
    }
}

/// What one reasoned answer concludes.
#[derive(Debug, Clone)]
pub(super) struct Reasoned {
    /// The example's question.
    pub(super) question: usize,
    /// Logits right behind `<answer>`: something is shown, or one of the four refusals.
    pub(super) answer: [f32; 5],
    /// The state of its `[SEG]`, where it shows one thing.
    pub(super) state: Option<Vec<f32>>,
}

/// A teacher in one phase, shared by all workers.
#[derive(Debug)]
pub struct Tutor<'a> {
    params: &'a Params,
    config: Config,
    terms: Terms,
    temperature: f32,
    answers: [u32; 5],
    pad: u32,
    kept: Kept,
}

/// A worker's buffers to look at pictures at the teacher's size.
#[derive(Debug)]
pub struct Glasses {
    scratch: Scratch,
    buffer: Array4<f32>,
}

impl<'a> Tutor<'a> {
    /// The `teacher` of a phase; `answers` and `pad` are those tokens, `student` the parameters in training.
    pub fn new(
        teacher: &'a Teacher,
        student: &'a Params,
        distil: &Distil,
        phase: &Phase,
        (answers, pad): ([u32; 5], u32),
    ) -> Self {
        let learnt = match teacher.is_another() {
            true => teacher.config().clone(),
            false => Config { image: phase.image, ..teacher.config().clone() },
        };
        let config = learnt.at(distil.image.unwrap_or(phase.image));
        Self {
            params: teacher.params(student),
            config,
            terms: distil.weights,
            temperature: distil.temperature,
            answers,
            pad,
            kept: Kept::new(distil.kept),
        }
    }

    /// A worker's buffers.
    pub fn glasses(&self) -> Glasses {
        let side = self.config.image;
        Glasses { scratch: Scratch::default(), buffer: Array4::zeros((1, 3, side, side)) }
    }

    /// What the teacher says of an `example` that a student of these sizes is about to learn from, drawn with `seed` from a
    /// `sample`; where that has a `number` its view may be kept.
    ///
    /// # Errors
    /// When the picture cannot be resized, or the model fails.
    pub fn lesson(
        &self,
        glasses: &mut Glasses,
        student: &Config,
        (sample, number): (&Sample, Option<usize>),
        example: &Example,
        seed: u64,
    ) -> Result<Lesson> {
        let mut see = || self.see(glasses, student, sample, example);
        let seen = match number {
            Some(number) => self.kept.view(number, see)?,
            None => see()?,
        };
        let mut lesson = Lesson { terms: self.terms, temperature: self.temperature, ..Lesson::default() };
        if self.terms.features > 0.0 {
            lesson.maps = self.maps(student, &seen)?;
        }
        if example.questions.is_empty() {
            return Ok(lesson);
        }
        let mut ops = Candle::evaluating(self.params);
        let picked = proposed(example, propose::found(&seen, &self.config)?, self.config.spot_side(), seed);
        let pack = packed(&example.questions, &self.config, self.pad);
        let tensors = pack.tensors(self.config.language_width / self.config.heads, self.params.device())?;
        let said = language(&mut ops, &self.config, &seen.tokens, &tensors)?;
        let logits = host(&said.logits)?;
        lesson.answers = logits.chunks_exact(self.config.vocabulary).map(|row| self.answer(row)).collect();
        lesson.states = Rows::of(&said.seg)?;
        if example.masks > 0 && self.terms.mask + self.terms.presence > 0.0 {
            let (count, width) = (example.masks, self.config.mask_width);
            let proposals = propose::tensors(&mut ops, &self.config, &seen, &picked)?;
            let seg = said.seg.reshape((1, example.questions.len(), width))?;
            let seg = seg.narrow(1, 0, count)?.reshape((count, 1, width))?;
            let shown = mask(&mut ops, &self.config, &seen, &proposals, &seg, count)?;
            self.shows(&mut lesson, student, &shown)?;
        }
        if !example.reasons.chains.is_empty() && self.terms.chain + self.terms.reasoned > 0.0 {
            let things = propose::things(&self.config, &seen, &picked)?;
            self.reasons(&mut ops, &mut lesson, example, &Before { tokens: &seen.tokens, things: things.as_ref() })?;
        }
        Ok(lesson)
    }

    fn see(&self, glasses: &mut Glasses, student: &Config, sample: &Sample, example: &Example) -> Result<Seen<Tensor>> {
        let side = self.config.image;
        let own;
        let pixels = match side == student.image {
            true => &example.pixels,
            false => {
                own = normalised(side, &sample.picture, &mut glasses.buffer, &mut glasses.scratch)?;
                &own
            }
        };
        let picture = image(pixels, side, self.params.device())?;
        Ok(vision(&mut Candle::evaluating(self.params), &self.config, &picture)?)
    }

    fn maps(&self, student: &Config, seen: &Seen<Tensor>) -> Result<Vec<Map>> {
        let (own, config) = (student, &self.config);
        [
            ("tokens", &seen.tokens, config.token_side(), own.token_side()),
            ("embed", &seen.embed, config.embed_side(), own.embed_side()),
            ("fine", &seen.fine, config.mask_side(), own.mask_side()),
        ]
        .into_iter()
        .map(|(name, map, from, to)| -> Result<Map> {
            let Rows { width, values } = Rows::of(map)?;
            Ok(Map { name, width, cells: resample(&values, width, from, to) })
        })
        .collect()
    }

    /// The five answers among a row of logits.
    fn answer(&self, row: &[f32]) -> [f32; 5] {
        self.answers.map(|id| row[id as usize])
    }

    fn shows(&self, lesson: &mut Lesson, student: &Config, shown: &Masks<Tensor>) -> Result<()> {
        let (from, to) = (self.config.mask_side(), student.mask_side());
        let probabilities: Vec<f32> = host(&shown.mask)?.into_iter().map(sigmoid).collect();
        lesson.masks = probabilities.chunks_exact(from * from).flat_map(|mask| resample(mask, 1, from, to)).collect();
        (lesson.objects, lesson.ious) = (host(&shown.object)?, host(&shown.iou)?);
        Ok(())
    }

    /// What the teacher says at every token of the example's chains, and what it concludes from them.
    fn reasons(&self, ops: &mut Candle<'_>, lesson: &mut Lesson, example: &Example, before: &Before<'_>) -> Result<()> {
        let chains = example.reasons.chains.as_slice();
        let [seg, ..] = self.answers;
        let laid = Laid::of(chains, &self.config, before, seg, self.pad)?;
        let said = laid.say(ops, &self.config, before)?;
        let logits = host(&said.logits)?;
        let shows = chains.iter().any(|chain| !chain.shown.is_empty());
        let states = if shows { Some(Rows::of(&laid.states(&said)?)?) } else { None };
        let mut first = 0;
        for (number, (chain, &question)) in chains.iter().zip(&example.reasons.about).enumerate() {
            let concluded = laid.open.iter().find(|open| open.chain == number && self.concludes(open));
            if let Some(answer) = concluded.and_then(|open| self.conclusion(open, &logits)) {
                let alone = chain.shown.len() == 1;
                let state = states.as_ref().filter(|_| alone).map(|states| states.row(first).to_vec());
                lesson.reasoned.push(Reasoned { question, answer, state });
            }
            first += chain.shown.len();
        }
        lesson.chains = logits;
        Ok(())
    }

    /// Whether a token stands right behind `<answer>`: nowhere else may a refusal stand.
    fn concludes(&self, open: &Open) -> bool {
        open.grammar.allows(self.answers[1])
    }

    /// The choice right behind `<answer>` as one among the five answers: what may stand there beside refusals begins a target.
    fn conclusion(&self, open: &Open, logits: &[f32]) -> Option<[f32; 5]> {
        let row = open.logits(logits, self.config.vocabulary);
        let shows = |id: &u32| open.grammar.allows(*id) && !self.answers.contains(id);
        let begins = (0..self.config.vocabulary as u32).find(shows)?;
        let [_, absent, ambiguous, not_understood, unseeable] = self.answer(row);
        Some([row[begins as usize], absent, ambiguous, not_understood, unseeable])
    }
}
