//! From a sample to what one training pass needs: pixels, packed questions and their goals.

mod chain;
mod question;
mod task;

pub use chain::{Chain, Reasons, Shown};
pub(super) use question::{AMBIGUOUS, CANDIDATES_SHARE};
pub use question::{Goal, Pointers, Question, Words, special};
pub(crate) use question::{class, ids};
pub use task::Tasks;
pub(crate) use task::prompt;

use candle_core::Tensor;
use kestrel_link::Hint;
use kestrel_models::kestrel::{Config, Seen};
use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_perception::{Scratch, View, preprocess};
use ndarray::Array4;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::coverage::Coverage;
use super::distil::Lesson;
use super::{Phase, Result, TrainError};
use crate::expressions::meaning::Expression;
use crate::expressions::{self, Options, Proposed};
use crate::losses::dense::Grid;
use crate::losses::proposals::{Spots, Thing};
use crate::sample::{Ask, Category, Instance, Picture, Sample, Target};
use question::{chatted, compares, shows};

/// Share of decoded masks that goes to questions with something to show.
const SHOWN_SHARE: f32 = 0.75;
/// Share of clear pictures that are asked anew.
const FRESH_SHARE: f64 = 0.8;

/// One picture, ready to be trained on.
#[derive(Debug, Clone)]
pub struct Example {
    /// Normalised pixels `[side, side, 3]`.
    pub pixels: Vec<f32>,
    /// What vision sees of them, where that is known before the pass.
    pub seen: Option<Seen<Tensor>>,
    /// What a teacher says of it, where there is one.
    pub lesson: Option<Lesson>,
    /// The questions; masks are decoded for the first [`Example::masks`].
    pub questions: Vec<Question>,
    /// Reasoned answers to some of them.
    pub reasons: Reasons,
    /// Answers to tasks.
    pub tasks: Tasks,
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
        let clear = sample.degradation.is_none() && sample.is_ours();
        let fresh = if self.phase.queries > 0 && clear && rng.random_bool(FRESH_SHARE) {
            let base = Options::default();
            let weights = base.weights.iter().map(|&(stratum, w)| (stratum, w * self.phase.weight(stratum))).collect();
            expressions::generate(&sample.picture, &Options { count: self.phase.queries, weights, ..base }, &mut rng)
        } else {
            Vec::new()
        };
        let asked: Vec<Asked<'_>> = match fresh.is_empty() {
            false => fresh.iter().map(Asked::fresh).collect(),
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
        // Of stored questions about a clear picture it is not known what they mean: only nonsense would have a chain.
        let reasons = (!fresh.is_empty() || sample.degradation.is_some()).then_some(seed);
        let tasks = task::write(self, sample, seed)?;
        Ok(Example { given, tasks, ..self.make(sample, &chosen, masks, reasons)? })
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
        self.make(sample, &chosen, chosen.len(), None)
    }

    /// `reasons` is the seed of the choice of chains, where there may be any.
    fn make(&mut self, sample: &Sample, chosen: &[Asked<'_>], masks: usize, reasons: Option<u64>) -> Result<Example> {
        let (config, picture) = (self.config, &sample.picture);
        let here = Coverage::of(picture, config.mask_side())?;
        let mut questions = Vec::with_capacity(chosen.len());
        for &Asked { ask, anchor, alike, .. } in chosen {
            let tokens = self.tokens(&ask.text, ask.hint.as_ref(), &ask.nonsense)?;
            let pointers = Pointers::of(ask, anchor, alike);
            let anchor = anchor.map(|at| Goal::Mask(here.union(&[at])).heat(config.embed_side()));
            questions.push(Question { pointers, anchor, ..Question::stored(ask, tokens, here.goal(&ask.target)) });
        }
        let reasons = match reasons.filter(|_| self.phase.chains > 0) {
            Some(seed) => chain::write(self, sample, chosen, &questions, &here, seed)?,
            None => Reasons::default(),
        };
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
        let (pixels, tasks, given) = (self.pixels(picture)?, Tasks::default(), false);
        Ok(Example {
            pixels,
            seen: None,
            lesson: None,
            questions,
            reasons,
            tasks,
            masks,
            grid,
            fine_grid,
            spots,
            things,
            given,
            later,
        })
    }

    /// The drone's own preprocessing, channel-last.
    fn pixels(&mut self, picture: &Picture) -> Result<Vec<f32>> {
        normalised(self.config.image, picture, &mut self.buffer, &mut self.scratch)
    }

    /// As [`ids`], for this model.
    pub(crate) fn tokens(&self, text: &str, hint: Option<&Hint>, nonsense: &[(usize, usize)]) -> Result<Words> {
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

/// The drone's own preprocessing of a picture to `side` pixels, channel-last.
///
/// # Errors
/// When the picture cannot be resized.
pub fn normalised(side: usize, picture: &Picture, buffer: &mut Array4<f32>, scratch: &mut Scratch) -> Result<Vec<f32>> {
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
pub(crate) fn things(picture: &Picture) -> Vec<Thing> {
    let side = picture.image.width() as f32;
    let thing = |instance: &Instance| {
        let [x, y, w, h] = instance.bounding_box.map(|v| v / side);
        Thing { category: instance.category, colour: instance.colour, edges: [x, y, x + w, y + h] }
    };
    picture.instances.iter().map(thing).collect()
}

/// Visible pixels of an instance, by its box where the mask is unknown or broken (which shows elsewhere).
pub(super) fn pixels_of(instance: &Instance) -> f32 {
    let boxed = instance.bounding_box[2] * instance.bounding_box[3];
    match &instance.mask {
        Some(mask) => mask.area().map_or(boxed, |area| area as f32),
        None => boxed,
    }
}

/// A question that was chosen, the instance that its target is related to, those that it is told from and what its words
/// mean, where known.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    ask: &'a Ask,
    anchor: Option<usize>,
    alike: Option<&'a Vec<usize>>,
    expression: Option<&'a Expression>,
}

impl<'a> Asked<'a> {
    fn stored(ask: &'a Ask) -> Self {
        Self { ask, anchor: None, alike: None, expression: None }
    }

    fn fresh(proposed: &'a Proposed) -> Self {
        let Proposed { ask, anchor, alike, expression, .. } = proposed;
        Self { ask, anchor: *anchor, alike: alike.as_ref(), expression: expression.as_ref() }
    }
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
