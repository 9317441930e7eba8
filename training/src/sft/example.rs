//! From a sample to what one training pass needs: pixels, packed questions and their goals.

use kestrel_link::Hint;
use kestrel_models::kestrel::Config;
use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_perception::{Scratch, SpecialIds, View, layout, preprocess};
use ndarray::Array4;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::coverage::{Coverage, pool};
use super::{Phase, Result, TrainError};
use crate::expressions::{self, Options};
use crate::losses::dense::Grid;
use crate::losses::proposals::{Spots, Thing};
use crate::sample::{Ask, Category, Instance, Picture, Sample, Stratum, Target};

/// Share of decoded masks that goes to questions with something to show.
const SHOWN_SHARE: f32 = 0.75;
/// Share of questions with chatter around them.
const CHATTER_SHARE: f64 = 0.35;
/// Share of clear pictures that are asked anew.
const FRESH_SHARE: f64 = 0.8;

/// One picture, ready to be trained on.
#[derive(Debug, Clone)]
pub struct Example {
    /// Normalised pixels `[side, side, 3]`.
    pub pixels: Vec<f32>,
    /// The questions; masks are decoded for the first [`Example::masks`].
    pub questions: Vec<Question>,
    /// How many masks are decoded.
    pub masks: usize,
    /// Labels of the dense heads at stride 16.
    pub grid: Grid,
    /// Labels of the dense heads at stride 4.
    pub fine_grid: Grid,
    /// Labels of the spots, at stride 8.
    pub spots: Spots,
    /// The labelled things, in the order of the picture's instances.
    pub things: Vec<Thing>,
    /// Whether the labelled things are among the proposals, found or not.
    pub given: bool,
    /// A later frame, where the decoded questions are answered again.
    pub later: Option<Later>,
}

/// A later frame of the same scene.
#[derive(Debug, Clone)]
pub struct Later {
    /// Normalised pixels `[side, side, 3]`.
    pub pixels: Vec<f32>,
    /// Goals of the first [`Example::masks`] questions there.
    pub goals: Vec<Goal>,
}

/// A question as tokens, with its right answer.
#[derive(Debug, Clone)]
pub struct Question {
    /// Token ids, `<answer>` and `[SEG]` at the end.
    pub ids: Vec<u32>,
    /// For every word token: 1 where it belongs to a word without sense, else 0.
    pub doubt: Vec<f32>,
    /// What the mask should be.
    pub goal: Goal,
    /// What should be pointed at.
    pub pointers: Pointers,
    /// Where the thing is that the words relate their target to: a heat of `[(side/16)²]` cells.
    pub anchor: Option<Vec<f32>>,
    /// Whether the words certainly relate their target to nothing.
    pub plain: bool,
    /// Whether only comparing things tells the target from others like it.
    pub compared: bool,
}

/// The answer to a question that several things fit.
pub(super) const AMBIGUOUS: usize = 2;
/// Candidates of an ambiguous question matter less than targets.
pub(super) const CANDIDATES_SHARE: f32 = 0.3;

/// The right answer in terms of labelled things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointers {
    /// Index among the five answers: 0 is `[SEG]`.
    pub class: usize,
    /// The things that are meant; several for an ambiguous question.
    pub targets: Vec<usize>,
    /// What the words relate their target to, which may be nothing; `None` where that is not known.
    pub anchor: Option<Option<usize>>,
    /// The things of the kind that the words name, where that is known.
    pub alike: Option<Vec<usize>>,
}

impl Pointers {
    pub(crate) fn of(ask: &Ask, anchor: Option<usize>, alike: Option<&Vec<usize>>) -> Self {
        let related = anchor.map(Some).or_else(|| plain(ask.stratum).then_some(None));
        Self {
            class: class(&ask.target),
            targets: targets(&ask.target).to_vec(),
            anchor: related,
            alike: alike.cloned(),
        }
    }
}

/// Whether the words certainly relate their target to nothing.
fn plain(stratum: Stratum) -> bool {
    !matches!(stratum, Stratum::Relation | Stratum::WrongRelation | Stratum::Unseeable)
}

/// What a mask should be, at stride 4 of the input.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Goal {
    /// This coverage, `[(side/4)²]`.
    Mask(Vec<f32>),
    /// The candidates of an ambiguous question: drawn, but no object to be shown.
    Candidates(Vec<f32>),
    /// Something that fills these columns and rows, `[side/4]` each.
    Boxes(Vec<f32>, Vec<f32>),
    /// Nothing.
    Empty,
}

impl Goal {
    /// The goal on a coarser grid of `side²` cells, the cell with the largest share lifted to 1: a thing much smaller
    /// than a cell is still somewhere.
    pub fn heat(&self, side: usize) -> Vec<f32> {
        let fine = match self {
            Self::Mask(cells) | Self::Candidates(cells) => cells.clone(),
            Self::Boxes(columns, rows) => rows.iter().flat_map(|r| columns.iter().map(move |c| r * c)).collect(),
            Self::Empty => Vec::new(),
        };
        let mut heat = pool(&fine, fine.len().isqrt(), side);
        let most = heat.iter().copied().fold(0.0, f32::max);
        if most > 0.0 {
            heat.iter_mut().for_each(|h| *h /= most);
        }
        heat
    }
}

/// Turns samples into examples of a phase.
#[derive(Debug)]
pub struct Maker<'a> {
    /// Model at the phase's input size.
    pub config: &'a Config,
    /// The phase.
    pub phase: &'a Phase,
    /// Words to ids.
    pub tokenizer: &'a QueryTokenizer,
    scratch: Scratch,
    buffer: Array4<f32>,
}

impl<'a> Maker<'a> {
    /// A maker with buffers of its own.
    pub fn new(config: &'a Config, phase: &'a Phase, tokenizer: &'a QueryTokenizer) -> Self {
        let side = config.image;
        Self { config, phase, tokenizer, scratch: Scratch::default(), buffer: Array4::zeros((1, 3, side, side)) }
    }

    /// An example with questions drawn by the phase's curriculum from `seed`. A clear picture is mostly asked anew, so
    /// that no picture is tied to the words it was first stored with; a degraded one keeps its questions, since what can
    /// still be seen in it was settled then.
    ///
    /// # Errors
    /// When a mask does not decode or the picture cannot be resized.
    pub fn draw(&mut self, sample: &Sample, seed: u64) -> Result<Example> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // What annotators wrote is kept with its picture and cannot be made anew.
        let ours = !sample.asks.iter().any(|ask| ask.written);
        let fresh = if self.phase.queries > 0 && sample.degradation.is_none() && ours && rng.random_bool(FRESH_SHARE) {
            let base = Options::default();
            let weights = base.weights.iter().map(|&(stratum, w)| (stratum, w * self.phase.weight(stratum))).collect();
            expressions::generate(&sample.picture, &Options { count: self.phase.queries, weights, ..base }, &mut rng)
        } else {
            Vec::new()
        };
        let asked: Vec<Asked<'_>> = match fresh.is_empty() {
            false => fresh.iter().map(|p| Asked { ask: &p.ask, anchor: p.anchor, alike: p.alike.as_ref() }).collect(),
            true => self.choose(sample, &mut rng),
        };
        let texts: Vec<Ask> = asked.iter().map(|asked| chatted(asked.ask, &mut rng)).collect();
        let asked = asked.iter().zip(&texts).map(|(asked, ask)| Asked { ask, ..*asked });
        let mut chosen: Vec<Asked<'_>> = asked.filter(|a| self.large_enough(sample, a.ask)).collect();
        let masks = self.phase.masks.min(chosen.len());
        let shown = (masks as f32 * SHOWN_SHARE).ceil() as usize;
        front(&mut chosen, shown, |asked| shows(&asked.ask.target));
        // The likeness alone answers what a thing looks like; the decoder is there for what has to be compared.
        front(&mut chosen, masks.div_ceil(2), |asked| shows(&asked.ask.target) && compares(asked.ask.stratum));
        let given = rng.random::<f32>() < self.phase.teacher_forcing;
        Ok(Example { given, ..self.make(sample, &chosen, masks)? })
    }

    /// Stored questions, drawn by the curriculum.
    fn choose<'s>(&self, sample: &'s Sample, rng: &mut ChaCha8Rng) -> Vec<Asked<'s>> {
        let mut keys: Vec<(f32, &Ask)> = Vec::with_capacity(sample.asks.len());
        for ask in &sample.asks {
            let unit: f32 = rng.random_range(1e-6..1.0);
            let weight = self.phase.weight(ask.stratum);
            if weight > 0.0 {
                // The smallest of exponential draws with these rates: sampling without replacement by weight.
                keys.push((-unit.ln() / weight, ask));
            }
        }
        keys.sort_by(|a, b| a.0.total_cmp(&b.0));
        keys.into_iter().take(self.phase.queries).map(|(_, ask)| Asked::stored(ask)).collect()
    }

    /// An example with all questions of the sample and all their masks, in their order.
    ///
    /// # Errors
    /// As [`Maker::draw`].
    pub fn all(&mut self, sample: &Sample) -> Result<Example> {
        let chosen: Vec<Asked<'_>> = sample.asks.iter().map(Asked::stored).collect();
        self.make(sample, &chosen, chosen.len())
    }

    fn make(&mut self, sample: &Sample, chosen: &[Asked<'_>], masks: usize) -> Result<Example> {
        let (config, picture) = (self.config, &sample.picture);
        let here = Coverage::of(picture, config.mask_side())?;
        let mut questions = Vec::with_capacity(chosen.len());
        for &Asked { ask, anchor, alike } in chosen {
            let (ids, doubt) = self.tokens(&ask.text, ask.hint.as_ref(), &ask.nonsense)?;
            let goal = here.goal(&ask.target);
            let pointers = Pointers::of(ask, anchor, alike);
            let anchor = anchor.map(|at| Goal::Mask(here.union(&[at])).heat(config.embed_side()));
            let plain = plain(ask.stratum);
            let compared = matches!(ask.stratum, Stratum::Relation | Stratum::Ordinal | Stratum::Size);
            questions.push(Question { ids, doubt, goal, pointers, anchor, plain, compared });
        }
        let later = match &sample.later {
            Some(later) => {
                let there = Coverage::of(later, config.mask_side())?;
                let goals = chosen[..masks].iter().map(|asked| there.goal(&asked.ask.target)).collect();
                Some(Later { pixels: self.pixels(later)?, goals })
            }
            None => None,
        };
        let grid = here.grid(picture, config.embed_side(), true);
        let fine_grid = here.grid(picture, config.mask_side(), false);
        let things = things(picture);
        let known = picture.exhaustive.len() as f32 / Category::ALL.len() as f32;
        let spots = Spots::new(config.spot_side(), things.clone(), known.min(1.0));
        let pixels = self.pixels(picture)?;
        Ok(Example { pixels, questions, masks, grid, fine_grid, spots, things, given: false, later })
    }

    /// The drone's own preprocessing, channel-last.
    fn pixels(&mut self, picture: &Picture) -> Result<Vec<f32>> {
        normalised(self.config.image, picture, &mut self.buffer, &mut self.scratch)
    }

    /// As [`ids`], for this model.
    pub(crate) fn tokens(
        &self,
        text: &str,
        hint: Option<&Hint>,
        nonsense: &[(usize, usize)],
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        ids(self.tokenizer, self.config.max_tokens, text, hint, nonsense)
    }

    fn large_enough(&self, sample: &Sample, ask: &Ask) -> bool {
        let (Target::Masks(targets) | Target::Boxes(targets)) = &ask.target else { return true };
        let side = sample.picture.image.width() as f32;
        let scale = (self.config.image as f32 / side).powi(2);
        let area: f32 = targets.iter().filter_map(|&i| sample.picture.instances.get(i)).map(pixels_of).sum();
        area * scale >= self.phase.smallest_target_pixels
    }
}

/// Token ids of a request up to `[SEG]`, and the doubt target of every word token.
pub(crate) fn ids(
    tokenizer: &QueryTokenizer,
    max_tokens: usize,
    text: &str,
    hint: Option<&Hint>,
    nonsense: &[(usize, usize)],
) -> Result<(Vec<u32>, Vec<f32>)> {
    let pieces = tokenizer.encode(text)?;
    let words: Vec<u32> = pieces.iter().map(|p| p.0).collect();
    let laid = layout(&words, hint, &special(tokenizer), max_tokens);
    let ids = laid.ids[..laid.used()].iter().map(|&id| id as u32).collect();
    // Doubt is about words. Of "the meaning of life" every word is known: that it asks for nothing is the answer's.
    let unknown = |range: &&(usize, usize)| text.get(range.0..range.1).is_some_and(|word| !word.contains(' '));
    let doubted = |from: &usize, to: &usize| nonsense.iter().filter(unknown).any(|(a, b)| from < b && to > a);
    let doubt = pieces[..words.len() - laid.cut].iter().map(|(_, (from, to))| f32::from(doubted(from, to))).collect();
    Ok((ids, doubt))
}

/// The drone's own preprocessing of a picture to `side` pixels, channel-last.
pub(crate) fn normalised(
    side: usize,
    picture: &Picture,
    buffer: &mut Array4<f32>,
    scratch: &mut Scratch,
) -> Result<Vec<f32>> {
    let view = View::whole(picture.image.width(), picture.image.height());
    preprocess(&picture.image, &view, buffer, scratch)
        .map_err(|source| TrainError::Preprocess { picture: name(picture), source })?;
    let plane = side * side;
    let mut pixels = vec![0.0; 3 * plane];
    for (channel, values) in buffer.as_slice().unwrap_or_default().chunks_exact(plane).enumerate() {
        for (pixel, &value) in pixels.chunks_exact_mut(3).zip(values) {
            pixel[channel] = value;
        }
    }
    Ok(pixels)
}

/// The picture's instances as things; what left the view has an empty box.
pub(super) fn things(picture: &Picture) -> Vec<Thing> {
    let side = picture.image.width() as f32;
    let thing = |instance: &Instance| {
        let [x, y, w, h] = instance.bounding_box.map(|v| v / side);
        Thing { category: instance.category, colour: instance.colour, edges: [x, y, x + w, y + h] }
    };
    picture.instances.iter().map(thing).collect()
}

/// The instances that a question is about.
fn targets(target: &Target) -> &[usize] {
    match target {
        Target::Masks(of) | Target::Boxes(of) | Target::Ambiguous(of) => of,
        Target::Absent | Target::NotUnderstood | Target::Unseeable => &[],
    }
}

/// Visible pixels of an instance, by its box where the mask is unknown or broken (which shows elsewhere).
pub(super) fn pixels_of(instance: &Instance) -> f32 {
    let boxed = instance.bounding_box[2] * instance.bounding_box[3];
    match &instance.mask {
        Some(mask) => mask.area().map_or(boxed, |area| area as f32),
        None => boxed,
    }
}

/// A question that was chosen, the instance that its target is related to and those that it is told from, where known.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    ask: &'a Ask,
    anchor: Option<usize>,
    alike: Option<&'a Vec<usize>>,
}

impl<'a> Asked<'a> {
    fn stored(ask: &'a Ask) -> Self {
        Self { ask, anchor: None, alike: None }
    }
}

/// The question with chatter around its words, now and then.
fn chatted(ask: &Ask, rng: &mut ChaCha8Rng) -> Ask {
    if ask.text.is_empty() || !rng.random_bool(CHATTER_SHARE) {
        return ask.clone();
    }
    let (text, nonsense) = expressions::chat(&ask.text, &ask.nonsense, rng);
    Ask { text, nonsense, ..ask.clone() }
}

/// Moves up to `count` items for which `holds` to the front; the order is otherwise kept.
fn front<T>(items: &mut Vec<T>, count: usize, holds: impl Fn(&T) -> bool) {
    let (mut first, mut rest) = (Vec::with_capacity(items.len()), Vec::new());
    for item in items.drain(..) {
        if first.len() < count && holds(&item) { first.push(item) } else { rest.push(item) }
    }
    first.append(&mut rest);
    *items = first;
}

fn shows(target: &Target) -> bool {
    matches!(target, Target::Masks(_) | Target::Boxes(_))
}

/// Whether a question singles out one of several things alike.
fn compares(stratum: Stratum) -> bool {
    matches!(stratum, Stratum::Relation | Stratum::Ordinal | Stratum::Size | Stratum::Hint)
}

/// Index of the right answer among `[SEG]`, absent, ambiguous, not understood, unseeable.
pub(crate) fn class(target: &Target) -> usize {
    match target {
        Target::Masks(_) | Target::Boxes(_) => 0,
        Target::Absent => 1,
        Target::Ambiguous(_) => 2,
        Target::NotUnderstood => 3,
        Target::Unseeable => 4,
    }
}

/// The special ids as the drone's token layout takes them.
pub fn special(tokenizer: &QueryTokenizer) -> SpecialIds {
    let special = tokenizer.special();
    SpecialIds {
        pad: special.pad,
        answer: special.answer,
        seg: special.seg,
        point: special.point,
        bounding_box: special.bounding_box,
        first_location: special.first_location,
    }
}

pub(crate) fn name(picture: &Picture) -> String {
    format!("{}/{}", picture.origin.dataset, picture.origin.frame)
}

#[cfg(test)]
mod tests {
    use super::front;

    #[test]
    fn shown_targets_come_first_and_nothing_is_lost() {
        let mut items = vec![1, 2, 3, 4, 5, 6];
        front(&mut items, 2, |i| i % 2 == 0);
        assert_eq!(items, [2, 4, 1, 3, 5, 6]);
    }
}
