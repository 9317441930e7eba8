//! What is learnt from a teacher's lesson: every part of it against what the student says.

use candle_core::Tensor;
use kestrel_models::candle::Candle;
use kestrel_models::kestrel::{Masks, Said, Seen};
use kestrel_models::ops::Ops as _;

use super::lesson::{Lesson, Reasoned};
use super::{Terms, map, spread};
use crate::losses::distil::{choice, mask, yes_or_no};
use crate::losses::{attach, relative, sigmoid};
use crate::sft::Result;
use crate::sft::chain::Laid;
use crate::sft::measured::Values;
use crate::sft::pass::{Setup, host};

/// What the student has said of an example.
pub(in crate::sft) struct Spoken<'a> {
    /// Next-token logits at `<answer>` of every question.
    pub(in crate::sft) logits: &'a Tensor,
    /// The `[SEG]` states, `[1, questions, mask_width]`.
    pub(in crate::sft) states: &'a Tensor,
    /// Decoded masks of the first questions.
    pub(in crate::sft) shown: Option<&'a Masks<Tensor>>,
}

/// An output of the student, with the gradient of what is learnt of it.
struct Learnt<'a> {
    output: &'a Tensor,
    values: Vec<f32>,
    gradient: Vec<f32>,
}

impl<'a> Learnt<'a> {
    fn of(output: &'a Tensor) -> Result<Self> {
        let values = host(output)?;
        let gradient = vec![0.0; values.len()];
        Ok(Self { output, values, gradient })
    }

    /// One of `count` rows.
    fn row(&mut self, at: usize, count: usize) -> (&[f32], &mut [f32]) {
        let width = self.values.len() / count.max(1);
        let row = at * width..(at + 1) * width;
        (&self.values[row.clone()], &mut self.gradient[row])
    }

    fn term(self) -> Result<Tensor> {
        Ok(attach(self.output, self.gradient)?)
    }
}

/// The choice among `ids` of a row of logits against a teacher's logits of as many things.
fn chosen((row, gradient): (&[f32], &mut [f32]), ids: &[u32], teacher: &[f32], temperature: f32, weight: f32) -> f32 {
    let own: Vec<f32> = ids.iter().map(|id| row[*id as usize]).collect();
    let mut slope = vec![0.0; own.len()];
    let loss = choice(&own, teacher, temperature, weight, &mut slope);
    for (id, slope) in ids.iter().zip(slope) {
        gradient[*id as usize] += slope;
    }
    loss
}

/// Rows of the student's in the teacher's width.
fn mapped(ops: &mut Candle<'_>, name: &str, rows: &Tensor, theirs: usize) -> Result<Tensor> {
    let own = rows.dims().last().copied().unwrap_or_default();
    let weight = ops.parameter(&map(name), &[1, theirs, own], spread(own))?;
    Ok(ops.matmul_t(rows, &weight)?)
}

/// What vision sees, through learnt maps (FitNets' hints, Romero et al., arXiv 1412.6550): the distance of each of the three
/// maps as a share of the teacher's size, a third of the weight each. `None` where nothing of it is learnt.
pub(in crate::sft) fn sees(
    ops: &mut Candle<'_>,
    lesson: &Lesson,
    seen: &Seen<Tensor>,
    values: &mut Values,
) -> Result<Option<Tensor>> {
    let mut total = None;
    for theirs in &lesson.maps {
        let own = match theirs.name {
            "tokens" => &seen.tokens,
            "embed" => &seen.embed,
            _ => &seen.fine,
        };
        let guess = mapped(ops, theirs.name, own, theirs.width)?;
        let mut learnt = Learnt::of(&guess)?;
        let weight = lesson.terms.features / lesson.maps.len() as f32;
        let (row, gradient) = learnt.row(0, 1);
        let loss = relative(row, &theirs.cells, weight, gradient);
        values.distil.features += loss;
        values.total += loss;
        let term = learnt.term()?;
        total = Some(match total {
            None => term,
            Some(total) => (total + term)?,
        });
    }
    Ok(total)
}

/// The fast answers: the choice among the five, `[SEG]` states, masks and presence.
pub(in crate::sft) fn says(
    ops: &mut Candle<'_>,
    setup: &Setup<'_>,
    lesson: &Lesson,
    spoken: &Spoken<'_>,
    values: &mut Values,
) -> Result<Tensor> {
    let answered = answers(setup, lesson, spoken.logits, values)?;
    let mut total = (answered + states(ops, setup, lesson, spoken.states, values)?)?;
    if let Some(shown) = spoken.shown.filter(|_| !lesson.masks.is_empty()) {
        total = (total + shows(lesson, shown, values)?)?;
    }
    Ok(total)
}

fn answers(setup: &Setup<'_>, lesson: &Lesson, logits: &Tensor, values: &mut Values) -> Result<Tensor> {
    let (terms, temperature, count) = (lesson.terms, lesson.temperature, lesson.answers.len());
    let mut learnt = Learnt::of(logits)?;
    for (at, teacher) in lesson.answers.iter().enumerate() {
        let weight = terms.answer / count as f32;
        let loss = chosen(learnt.row(at, count), &setup.answers, teacher, temperature, weight);
        values.distil.answer += loss;
        values.total += loss;
        // What the teacher would refuse.
        if teacher[1..].iter().any(|none| *none > teacher[0]) {
            values.distil.refusals += loss;
        }
    }
    for Reasoned { question, answer, .. } in &lesson.reasoned {
        let weight = terms.reasoned / lesson.reasoned.len() as f32;
        let loss = chosen(learnt.row(*question, count), &setup.answers, answer, temperature, weight);
        values.distil.reasoned += loss;
        values.total += loss;
    }
    learnt.term()
}

fn states(
    ops: &mut Candle<'_>,
    setup: &Setup<'_>,
    lesson: &Lesson,
    states: &Tensor,
    values: &mut Values,
) -> Result<Tensor> {
    let (terms, count, theirs) = (lesson.terms, lesson.answers.len(), lesson.states.width);
    // Without a weight there is no map either.
    let own = match theirs == setup.config.mask_width || terms.seg + terms.reasoned == 0.0 {
        true => states.clone(),
        false => mapped(ops, "seg", states, theirs)?,
    };
    let mut learnt = Learnt::of(&own)?;
    if terms.seg > 0.0 {
        for at in 0..count {
            let (row, gradient) = learnt.row(at, count);
            let loss = relative(row, lesson.states.row(at), terms.seg / count as f32, gradient);
            values.distil.seg += loss;
            values.total += loss;
        }
    }
    let alone = lesson.reasoned.iter().filter(|reasoned| reasoned.state.is_some()).count();
    for Reasoned { question, state, .. } in &lesson.reasoned {
        let Some(state) = state.as_ref().filter(|_| terms.reasoned > 0.0) else { continue };
        let (row, gradient) = learnt.row(*question, count);
        let loss = relative(row, state, terms.reasoned / alone as f32, gradient);
        values.distil.reasoned += loss;
        values.total += loss;
    }
    learnt.term()
}

fn shows(lesson: &Lesson, shown: &Masks<Tensor>, values: &mut Values) -> Result<Tensor> {
    let (terms, count) = (lesson.terms, lesson.objects.len());
    let cells = lesson.masks.len() / count.max(1);
    let mut masks = Learnt::of(&shown.mask)?;
    for (at, target) in lesson.masks.chunks_exact(cells.max(1)).enumerate() {
        let (row, gradient) = masks.row(at, count);
        let loss = mask(row, target, terms.mask / count as f32, gradient);
        values.distil.mask += loss;
        values.total += loss;
    }
    let mut total = masks.term()?;
    for (output, teacher) in [(&shown.object, &lesson.objects), (&shown.iou, &lesson.ious)] {
        let mut learnt = Learnt::of(output)?;
        // Half of the weight each.
        let each = 0.5 * terms.presence / count.max(1) as f32;
        for (at, theirs) in teacher.iter().enumerate() {
            let (row, gradient) = learnt.row(at, count);
            let (loss, slope) = yes_or_no(row[0], sigmoid(*theirs));
            gradient[0] += each * slope;
            values.distil.presence += each * loss;
            values.total += each * loss;
        }
        total = (total + learnt.term()?)?;
    }
    Ok(total)
}

/// Chains of reasons: the choice at every token that the grammar leaves open, among what it allows. `None` where the teacher
/// was not asked.
pub(in crate::sft) fn thinks(
    setup: &Setup<'_>,
    lesson: &Lesson,
    laid: &Laid,
    said: &Said<Tensor>,
    values: &mut Values,
) -> Result<Option<Tensor>> {
    let (Terms { chain, .. }, vocabulary) = (lesson.terms, setup.config.vocabulary);
    if chain == 0.0 || lesson.chains.is_empty() {
        return Ok(None);
    }
    let mut learnt = Learnt::of(&said.logits)?;
    let weight = chain / laid.open.len().max(1) as f32;
    for open in &laid.open {
        let allowed: Vec<u32> = (0..vocabulary as u32).filter(|id| open.grammar.allows(*id)).collect();
        let teacher = open.logits(&lesson.chains, vocabulary);
        let teacher: Vec<f32> = allowed.iter().map(|id| teacher[*id as usize]).collect();
        let row = (open.logits(&learnt.values, vocabulary), open.gradient(&mut learnt.gradient, vocabulary));
        let loss = chosen(row, &allowed, &teacher, lesson.temperature, weight);
        values.distil.chain += loss;
        values.total += loss;
    }
    Ok(Some(learnt.term()?))
}
