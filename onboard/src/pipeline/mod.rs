//! From a frame and a query to an outcome.
//!
//! [`Segmenter::look`] admits a frame; [`Look::ask`] answers queries about it:
//! gate → preprocessing → vision → language → mask → refusal policy, first for the whole frame, then for its tiles.
//! What the vision graph says of a view is kept while the frame is looked at, so a further query costs language and mask only.
//! [`Look::ask_standing`] answers a query that stands: what the language graph said is kept from frame to frame.
//! [`Look::explain`] answers with reasons instead, token by token, where the bundle has the graph for it.

mod answer;
mod arena;
mod budget;
mod error;
mod explain;
mod prepare;
mod shapes;
mod standing;
mod tiles;
mod timings;
mod views;
mod words;

use image::RgbImage;
use kestrel_link::manifest::{GRAPH_FILES, TOKENIZER_FILE};
use kestrel_link::{AnswerTokens, Hint, Outcome, Query, Refusal, Thresholds};
use kestrel_perception::gate::{self, GateScratch, Measured};
use kestrel_perception::{Decision, GateHistory, GateThresholds, TileOptions, Tiling, plan, policy};

use crate::bundle::{Bundle, BundleError};
use crate::engine::{Engine, GraphBytes, Opener};

pub use answer::{Answer, Whole, union};
pub use error::SegmentError;
pub use explain::{Concluded, Explanation, Written};
pub use prepare::{Prepared, Preparer};
pub use shapes::Shapes;
pub use standing::{StandingOptions, StandingQueries, StandingQuery};
pub use timings::{Millis, Timings};

use answer::{Glance, engine_failure, failed, judged, not_finite, refused, segmented, segmented_in};
use arena::Arena;
use budget::Budget;
use explain::Explainer;
use timings::timed;
use views::Views;
use words::{Tokens, Words};

/// How a segmenter looks at frames.
#[derive(Debug, Clone)]
pub struct SegmenterOptions {
    /// When a frame is also looked at in tiles.
    pub tiling: Tiling,
    /// What tiles shall show and may cost, for tilings with a budget.
    pub tiles: TileOptions,
    /// Thresholds of the gate; `None` admits every frame (for measuring the model alone).
    pub gate: Option<GateThresholds>,
    /// Probabilities at which the mask of the whole frame is cut besides the model's own, for fitting that.
    pub sweep: Vec<f32>,
    /// Whether to load the graph that answers with reasons, see [`Look::explain`].
    pub explain: bool,
    /// How queries that stand are followed.
    pub standing: StandingOptions,
}

impl Default for SegmenterOptions {
    fn default() -> Self {
        Self {
            tiling: Tiling::Auto,
            tiles: TileOptions::default(),
            gate: Some(GateThresholds::default()),
            sweep: Vec::new(),
            explain: false,
            standing: StandingOptions::default(),
        }
    }
}

/// Answers queries about frames with one model and one engine.
pub struct Segmenter {
    engine: Box<dyn Engine>,
    words: Words,
    thresholds: Thresholds,
    answers: AnswerTokens,
    model: String,
    options: SegmenterOptions,
    history: GateHistory,
    gate: GateScratch,
    views: Views,
    budget: Budget,
    arena: Arena,
    explainer: Option<Explainer>,
}

impl Segmenter {
    /// A segmenter for a bundle and an engine that has loaded its graphs; runs the graphs once on zeros.
    ///
    /// # Errors
    /// When the tokenizer does not fit the manifest, the engine fails or lacks a graph that `options` want, or an output
    /// has another shape than the manifest says.
    pub fn new(bundle: &Bundle, engine: Box<dyn Engine>, options: SegmenterOptions) -> Result<Self, SegmentError> {
        let manifest = &bundle.manifest;
        let answers = &manifest.answer_tokens;
        let shapes = Shapes::of(manifest);
        let words = Words::load(&read(bundle, TOKENIZER_FILE)?, answers, manifest.max_tokens as usize)?;
        let mut segmenter = Self {
            engine,
            words,
            thresholds: bundle.thresholds.clone(),
            answers: *answers,
            model: manifest.model(),
            options,
            history: GateHistory::default(),
            gate: GateScratch::default(),
            views: Views::new(shapes),
            budget: Budget::default(),
            arena: Arena::default(),
            explainer: None,
        };
        let engine = segmenter.engine.as_mut();
        segmenter.views.warm_up(engine)?;
        if segmenter.options.tiling.is_budgeted() {
            // The first run of a graph is slower than any other.
            let mut timings = Timings::default();
            segmenter.views.run_bare(engine, &mut timings)?;
            segmenter.budget.asked(&Timings::default(), &timings);
        }
        if segmenter.options.explain {
            segmenter.explainer = Some(Explainer::new(engine, &segmenter.words, &shapes)?);
        }
        Ok(segmenter)
    }

    /// Opens the engine that `options` ask for on the bundle's graphs, then as [`Segmenter::new`].
    ///
    /// # Errors
    /// As [`crate::engine::open`] and [`Segmenter::new`]; when answers with reasons are wanted and the bundle has no
    /// graph for them.
    pub fn open(
        bundle: &Bundle,
        engine: &crate::engine::EngineOptions,
        options: SegmenterOptions,
    ) -> Result<Self, SegmentError> {
        Self::open_with(bundle, &Opener::default(), engine, options)
    }

    /// As [`Segmenter::open`], with an engine from `opener`.
    ///
    /// # Errors
    /// As [`Segmenter::open`].
    pub fn open_with(
        bundle: &Bundle,
        opener: &Opener,
        engine: &crate::engine::EngineOptions,
        options: SegmenterOptions,
    ) -> Result<Self, SegmentError> {
        let [vision, language, mask] = graphs(bundle)?;
        let explain = options.explain.then(|| explain::graph(bundle)).transpose()?;
        let graphs = GraphBytes { vision: &vision, language: &language, mask: &mask, explain: explain.as_deref() };
        Self::new(bundle, opener.open(&graphs, engine)?, options)
    }

    /// Engine and provider that are really active.
    #[must_use]
    pub fn engine(&self) -> &str {
        self.engine.name()
    }

    /// `name@version` of the model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The model's thresholds.
    #[must_use]
    pub fn thresholds(&self) -> &Thresholds {
        &self.thresholds
    }

    /// What will be kept of queries that stand, `most` at once.
    #[must_use]
    pub fn standing(&self, most: usize) -> StandingQueries {
        StandingQueries::new(self.options.standing, most)
    }

    /// Looks at the next frame of a stream: the gate also holds it against those before it.
    ///
    /// # Errors
    /// When the frame has no pixel.
    pub fn look<'a>(&'a mut self, frame: &'a RgbImage) -> Result<Look<'a>, SegmentError> {
        self.look_prepared(frame, &mut Prepared::default())
    }

    /// As [`Segmenter::look`], with what a [`Preparer`] with the same options made of the frame ahead; what it has not made
    /// is made here. Memory that is not needed any more stays in `prepared` for another frame.
    ///
    /// # Errors
    /// As [`Segmenter::look`].
    pub fn look_prepared<'a>(
        &'a mut self,
        frame: &'a RgbImage,
        prepared: &mut Prepared,
    ) -> Result<Look<'a>, SegmentError> {
        check_frame(frame)?;
        let mut timings = Timings { gate: prepared.gate, ..Timings::default() };
        let ahead = prepared.measured.take();
        let refusal = timed(&mut timings.gate, || self.judge(frame, ahead));
        let SegmenterOptions { tiling, tiles, .. } = &self.options;
        let most_views = self.budget.views(*tiling, tiles);
        let size = [frame.width(), frame.height()];
        self.views.begin(plan(size, self.views.input_size(), *tiling, tiles, most_views.unwrap_or(1)));
        self.views.take_input(prepared);
        Ok(Look { segmenter: self, frame, refusal, timings, most_views })
    }

    /// What the gate remembers of the frames before.
    #[must_use]
    pub fn gate_history(&self) -> GateHistory {
        self.history
    }

    /// Puts the gate where it stood in another flight.
    pub fn set_gate_history(&mut self, history: GateHistory) {
        self.history = history;
    }

    /// Looks at a single picture that belongs to no stream.
    ///
    /// # Errors
    /// When the picture has no pixel.
    pub fn look_still<'a>(&'a mut self, picture: &'a RgbImage) -> Result<Look<'a>, SegmentError> {
        self.history = GateHistory::default();
        self.look(picture)
    }

    /// Answers one query about one picture.
    ///
    /// # Errors
    /// When the picture has no pixel or the query is malformed.
    pub fn segment(&mut self, picture: &RgbImage, query: &Query) -> Result<Answer, SegmentError> {
        self.look_still(picture)?.ask(query)
    }

    /// Runs the three graphs once more on what they were last given, with nothing of ours between: the baseline of benchmarks.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn run_bare(&mut self) -> Result<Timings, SegmentError> {
        let mut timings = Timings::default();
        self.views.run_bare(self.engine.as_mut(), &mut timings)?;
        Ok(timings)
    }

    /// What the gate says of a frame, of which `ahead` was read before.
    fn judge(&mut self, frame: &RgbImage, ahead: Option<Measured>) -> Option<Refusal> {
        let thresholds = self.options.gate.as_ref()?;
        let measured = ahead.unwrap_or_else(|| gate::measure(frame, &mut self.gate));
        let report = measured.judge(thresholds, &self.history);
        self.history = report.history;
        report.verdict.map(|verdict| Refusal { advice: policy::advice(&verdict), evidence: report.evidence, verdict })
    }
}

/// The graphs that every bundle has: vision, language, mask.
///
/// # Errors
/// When a file cannot be read or changed since the bundle was opened.
pub fn graphs(bundle: &Bundle) -> Result<[Vec<u8>; 3], SegmentError> {
    let [vision, language, mask] = GRAPH_FILES;
    Ok([read(bundle, vision)?, read(bundle, language)?, read(bundle, mask)?])
}

/// Reads a file of the bundle, and checks again that its bytes are the manifest's: it may have changed since.
fn read(bundle: &Bundle, name: &str) -> Result<Vec<u8>, BundleError> {
    let path = bundle.path(name);
    let bytes =
        std::fs::read(&path).map_err(|source| BundleError::File { operation: "read", path: path.clone(), source })?;
    let expected = bundle.manifest.files.get(name).map(|file| file.sha256.clone()).unwrap_or_default();
    let got = kestrel_link::sha256_hex(&bytes);
    if got == expected { Ok(bytes) } else { Err(BundleError::Hash { path, expected, got }) }
}

fn check_frame(frame: &RgbImage) -> Result<(), SegmentError> {
    if frame.width() == 0 || frame.height() == 0 {
        return Err(SegmentError::EmptyFrame { width: frame.width(), height: frame.height() });
    }
    let most = kestrel_link::mask::MAX_SIDE;
    if frame.width() > most || frame.height() > most {
        return Err(SegmentError::LargeFrame { width: frame.width(), height: frame.height(), most });
    }
    Ok(())
}

/// A frame under view; dropped before the next one.
pub struct Look<'a> {
    segmenter: &'a mut Segmenter,
    frame: &'a RgbImage,
    refusal: Option<Refusal>,
    /// Time spent that no answer has carried yet.
    timings: Timings,
    most_views: Option<u32>,
}

impl Look<'_> {
    /// Why the gate refuses the frame; `None` when it is fit to be looked at.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// What the gate remembers, this frame included.
    #[must_use]
    pub fn gate_history(&self) -> GateHistory {
        self.segmenter.history
    }

    /// Takes back what an answer was made in, so that the next one is made in it too.
    pub fn recycle(&mut self, whole: Whole) {
        self.segmenter.arena.take_whole(whole);
    }

    /// Takes back an outcome that nobody needs any more, as [`Look::recycle`] does.
    pub fn recycle_outcome(&mut self, outcome: Outcome) {
        self.segmenter.arena.take_outcome(outcome);
    }

    /// The outcome of one query that was checked at the door; a fault of ours is a refusal too, which the asker must see.
    pub fn outcome(&mut self, query: &Query) -> Outcome {
        self.answer_to(query).outcome
    }

    /// The answer to one query that was checked at the door, as [`Look::outcome`] gives its outcome.
    pub fn answer_to(&mut self, query: &Query) -> Answer {
        self.ask(query).unwrap_or_else(|error| Answer::unanswerable(query, &error))
    }

    /// Answers one query about the frame.
    ///
    /// An engine that fails is a refusal, [`EngineDegraded`](kestrel_link::Verdict::EngineDegraded): the operator must see it
    /// and the drone must go on.
    ///
    /// # Errors
    /// When the query is malformed.
    pub fn ask(&mut self, query: &Query) -> Result<Answer, SegmentError> {
        query.validate()?;
        let mut timings = std::mem::take(&mut self.timings);
        if let Some(refusal) = &self.refusal {
            let outcome = Outcome::Refused(refusal.clone());
            return Ok(Answer::unseen(outcome, timings, None));
        }
        let tokens = timed(&mut timings.words, || self.segmenter.words.encode(&query.text))?;
        match self.answer(query, &tokens, &mut timings) {
            Ok((outcome, whole, words_cut)) => {
                let failure = not_finite(&outcome);
                Ok(Answer { outcome, timings, whole: Some(whole), words_cut, failure, standing: None })
            }
            Err(error) => {
                let failure = Some(engine_failure(self.segmenter.engine.name(), error)?);
                Ok(Answer::unseen(Outcome::Refused(failed()), timings, failure))
            }
        }
    }

    fn answer(
        &mut self,
        query: &Query,
        tokens: &Tokens,
        timings: &mut Timings,
    ) -> Result<(Outcome, Whole, usize), SegmentError> {
        let (hint, words_cut) = self.placed(query.hint, tokens);
        let whole = self.glance(0, tokens, hint.as_ref(), timings)?;
        let outcome = self.closer(query, &whole, words_cut, tokens, timings)?;
        Ok((outcome, whole.into(), words_cut))
    }

    /// A hint as the model takes it for the whole frame, and how many tokens do not fit beside it.
    fn placed(&self, hint: Option<Hint>, tokens: &Tokens) -> (Option<Hint>, usize) {
        let letterbox = self.segmenter.views.letterbox(0);
        let hint = hint.and_then(|hint| letterbox.hint(&hint, self.frame.width(), self.frame.height()));
        let words_cut = self.segmenter.words.layout(tokens, hint.as_ref()).cut;
        (hint, words_cut)
    }

    /// The outcome of what was said of the whole frame, after the tiles were asked too where there are some.
    fn closer(
        &mut self,
        query: &Query,
        whole: &Glance,
        words_cut: usize,
        tokens: &Tokens,
        timings: &mut Timings,
    ) -> Result<Outcome, SegmentError> {
        match whole.decision.clone() {
            Decision::Segment { presence, predicted_iou } => {
                let refined = self.refined(query, whole, predicted_iou, tokens, timings)?;
                let mask = refined.as_ref().unwrap_or(&whole.mask);
                let arena = &mut self.segmenter.arena;
                timed(&mut timings.postprocess, || segmented_in(mask, presence, predicted_iou, arena))
            }
            Decision::Refuse(mut refusal) => match self.tiles_instead(query, &mut refusal, tokens, timings)? {
                Some(outcome) => Ok(outcome),
                None => Ok(refused(refusal, words_cut)),
            },
        }
    }

    /// Runs language and mask, and vision if need be, on one view and lets the policy decide.
    fn glance(
        &mut self,
        view: usize,
        tokens: &Tokens,
        hint: Option<&Hint>,
        timings: &mut Timings,
    ) -> Result<Glance, SegmentError> {
        let Segmenter { engine, words, thresholds, answers, views, options, budget, arena, .. } = &mut *self.segmenter;
        let before = *timings;
        let layout = words.layout(tokens, hint);
        views.see(view, self.frame, engine.as_mut(), timings)?;
        let said = views.say(view, &layout, engine.as_mut(), timings)?;
        let levels = if view == 0 { options.sweep.as_slice() } else { &[] };
        let glance = timed(&mut timings.postprocess, || {
            judged(&said, self.frame, (answers, thresholds), tokens, (levels, arena))
        })?;
        budget.asked(&before, timings);
        Ok(glance)
    }
}
