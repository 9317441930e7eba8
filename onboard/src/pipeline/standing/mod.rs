//! Queries that stand: words are read once, and what was understood is drawn in frame after frame.
//!
//! The language graph runs on the first frame. What it said — the `[SEG]` state, the logits of the answers, the doubts of
//! the words — is kept, and a further frame costs vision, which all queries of the frame share, and the mask graph. When
//! the words are read again is for [`Verification`] to say; which mask is which thing, for [`Tracker`].
//!
//! The language graph reads the picture too, so its logits belong to the frame that it read. On later frames the
//! probability that the target is there is computed from those and from the object score and predicted IoU of the frame at
//! hand; [`Standing::verified_frames_ago`] says how old they are.
//!
//! What is kept is of the whole frame. Tiles are asked with words, each for itself, so they are asked on frames on which
//! the words are read and on no other: a target that only tiles see is found on those alone.

mod kept;
mod pieces;

use image::RgbImage;
use kestrel_link::{Hint, Outcome, Query, Standing};
use kestrel_perception::{Bitmap, Decision, TrackOptions, Tracker, Verification};
use serde::{Deserialize, Serialize};

pub use kept::StandingQueries;
use pieces::{pieces, place};

use super::tiles::asks_for_all;
use super::timings::{Timings, timed};
use super::views::Heard;
use super::words::Tokens;
use super::{
    Answer, Arena, Glance, Look, SegmentError, Segmenter, engine_failure, failed, judged, not_finite, refused,
    segmented_in,
};

/// How queries that stand are followed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StandingOptions {
    /// The words are read again after so many frames, and earlier when the picture contradicts them; 1 reads them on
    /// every frame.
    pub verify_frames: u32,
    /// The picture contradicts them, too, when the presence of what it shows is lower by this than when they were read, 0..=1;
    /// 1 never heeds it. A record from before this was heeded says nothing of it, and is replayed without.
    #[serde(default = "unheeded")]
    pub verify_presence_fall: f32,
    /// How long a thing keeps its identity while it is not seen.
    pub track: TrackOptions,
}

fn unheeded() -> f32 {
    1.0
}

impl Default for StandingOptions {
    fn default() -> Self {
        Self { verify_frames: 30, verify_presence_fall: 0.2, track: TrackOptions::default() }
    }
}

/// What is kept of one query from frame to frame; it belongs to the model that answered.
///
/// A function of the frames that it was asked about and their times: asked the same again, it answers the same.
/// A frame on which the engine failed leaves it as it was.
pub struct StandingQuery {
    query: Query,
    asks_for_all: bool,
    turn: u32,
    tokens: Option<Tokens>,
    heard: Option<Heard>,
    words_cut: usize,
    verification: Verification,
    tracker: Tracker,
    /// Where the target was seen last: where a query with a hint looks for it later.
    place: Option<Hint>,
}

/// What was made of one frame.
struct Turn {
    outcome: Outcome,
    whole: Glance,
    words_cut: usize,
    /// What the language graph said, where it ran.
    heard: Option<Heard>,
}

impl StandingQuery {
    /// A query that was asked about no frame yet.
    #[must_use]
    pub fn new(query: &Query, options: &StandingOptions) -> Self {
        Self {
            query: query.clone(),
            asks_for_all: asks_for_all(&query.text),
            turn: 0,
            tokens: None,
            heard: None,
            words_cut: 0,
            verification: Verification::new(options.verify_frames, options.verify_presence_fall),
            tracker: Tracker::new(options.track),
            place: None,
        }
    }

    /// The query.
    #[must_use]
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// Whether its words ask for all things of a kind, each of which then has an identity.
    #[must_use]
    pub fn asks_for_all(&self) -> bool {
        self.asks_for_all
    }

    /// How often it was answered.
    #[must_use]
    pub fn turn(&self) -> u32 {
        self.turn
    }

    /// Where to look: the hint is of the first frame, and the target may have moved since.
    fn hint(&self) -> Option<Hint> {
        self.query.hint.map(|asked| self.place.unwrap_or(asked))
    }

    /// Names what an outcome shows, after the words were read or not, with the presence of what the whole frame shows; `None`
    /// for a frame that was not looked at. Beside the frame stands the mask that the outcome encodes, where that is at hand.
    fn take(
        &mut self,
        outcome: &mut Outcome,
        read: Option<(Option<f32>, Option<Heard>)>,
        (frame, drawn): (&RgbImage, Option<&Bitmap>),
        nanos: u64,
    ) -> Result<Standing, SegmentError> {
        let pieces = match outcome {
            Outcome::Segmented { masks } => pieces(masks, self.asks_for_all, frame, drawn)?,
            Outcome::Refused(_) => Vec::new(),
        };
        let step = self.tracker.step(&pieces, nanos)?;
        if let Outcome::Segmented { masks } = outcome {
            for (segment, track) in masks.iter_mut().zip(step.tracks) {
                segment.track = track;
            }
            self.place = place(masks, frame).or(self.place);
        }
        match read {
            None => self.verification.skipped(),
            Some((shown, None)) => self.verification.drawn(shown),
            Some((shown, Some(heard))) => {
                self.verification.heard(shown);
                self.heard = Some(heard);
            }
        }
        self.turn = self.turn.saturating_add(1);
        let verified_frames_ago = self.verification.age_frames();
        Ok(Standing { verified_frames_ago, refused: step.refused, lost: step.lost })
    }
}

impl Look<'_> {
    /// Answers a query that stands about the next of its frames, whose time is `nanos`: its capture time, or that of another
    /// clock that nobody sets between two frames.
    ///
    /// As [`Look::ask`] where the words are read; elsewhere from what was kept, without the language graph and without
    /// tiles. Where words ask for all things of a kind, each connected piece of the mask is a segment with an identity of
    /// its own, up to [`MOST_PIECES`](kestrel_perception::track::MOST_PIECES), and smaller ones are one more without; else
    /// the mask is one thing, however many pieces it has.
    ///
    /// # Errors
    /// When the query is malformed.
    pub fn ask_standing(&mut self, standing: &mut StandingQuery, nanos: u64) -> Result<Answer, SegmentError> {
        standing.query.validate()?;
        let frame = self.frame;
        let mut timings = std::mem::take(&mut self.timings);
        if let Some(refusal) = &self.refusal {
            let mut outcome = Outcome::Refused(refusal.clone());
            let said = standing.take(&mut outcome, None, (frame, None), nanos)?;
            return Ok(Answer { standing: Some(said), ..Answer::unseen(outcome, timings, None) });
        }
        let tokens = match standing.tokens.take() {
            Some(tokens) => tokens,
            None => timed(&mut timings.words, || self.segmenter.words.encode(&standing.query.text))?,
        };
        let turn = self.turn(standing, &tokens, &mut timings);
        standing.tokens = Some(tokens);
        let Turn { mut outcome, whole, words_cut, heard } = match turn {
            Ok(turn) => turn,
            Err(error) => {
                let failure = Some(engine_failure(self.segmenter.engine.name(), error)?);
                return Ok(Answer::unseen(Outcome::Refused(failed()), timings, failure));
            }
        };
        let failure = not_finite(&outcome);
        let mut said = None;
        if failure.is_none() {
            standing.words_cut = words_cut;
            // Where the words were read, tiles may have drawn the mask anew.
            let drawn = heard.is_none().then_some(&whole.mask);
            let read = Some((shows(&whole), heard));
            let named = timed(&mut timings.postprocess, || standing.take(&mut outcome, read, (frame, drawn), nanos));
            said = Some(named?);
        }
        Ok(Answer { outcome, timings, whole: Some(whole.into()), words_cut, failure, standing: said })
    }

    /// As [`Look::ask_standing`] for a query that was checked at the door; a fault of ours is a refusal too.
    pub fn answer_standing(&mut self, standing: &mut StandingQuery, nanos: u64) -> Answer {
        self.ask_standing(standing, nanos).unwrap_or_else(|error| Answer::unanswerable(standing.query(), &error))
    }

    /// Draws what was kept, or reads the words where that is due.
    fn turn(&mut self, standing: &StandingQuery, tokens: &Tokens, timings: &mut Timings) -> Result<Turn, SegmentError> {
        let verification = &standing.verification;
        if let Some(heard) = standing.heard.as_ref().filter(|_| !verification.is_due()) {
            let whole = self.redrawn(heard, tokens, timings)?;
            if !verification.doubts(shows(&whole)) {
                let words_cut = standing.words_cut;
                let arena = &mut self.segmenter.arena;
                let outcome = timed(&mut timings.postprocess, || plain(&whole, words_cut, arena))?;
                return Ok(Turn { outcome, whole, words_cut, heard: None });
            }
        }
        let (hint, words_cut) = self.placed(standing.hint(), tokens);
        let whole = self.glance(0, tokens, hint.as_ref(), timings)?;
        // Before tiles are asked with the same graph.
        let heard = Some(self.segmenter.views.heard().clone());
        let outcome = self.closer(&standing.query, &whole, words_cut, tokens, timings)?;
        Ok(Turn { outcome, whole, words_cut, heard })
    }

    /// What the whole frame shows of what was kept.
    fn redrawn(&mut self, heard: &Heard, tokens: &Tokens, timings: &mut Timings) -> Result<Glance, SegmentError> {
        let Segmenter { engine, thresholds, answers, views, arena, .. } = &mut *self.segmenter;
        views.see(0, self.frame, engine.as_mut(), timings)?;
        let said = views.say_again(0, heard, engine.as_mut(), timings)?;
        timed(&mut timings.postprocess, || judged(&said, self.frame, (answers, thresholds), tokens, (&[], arena)))
    }
}

/// The presence of what the policy shows of the whole frame; `None` where it shows nothing.
fn shows(whole: &Glance) -> Option<f32> {
    match whole.decision {
        Decision::Segment { presence, .. } => Some(presence),
        Decision::Refuse(_) => None,
    }
}

/// The outcome of the whole frame alone.
fn plain(whole: &Glance, words_cut: usize, arena: &mut Arena) -> Result<Outcome, SegmentError> {
    match &whole.decision {
        Decision::Segment { presence, predicted_iou } => segmented_in(&whole.mask, *presence, *predicted_iou, arena),
        Decision::Refuse(refusal) => Ok(refused(refusal.clone(), words_cut)),
    }
}
