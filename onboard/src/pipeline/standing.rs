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

use image::RgbImage;
use kestrel_link::{Hint, Outcome, Query, Segment, Standing};
use kestrel_perception::track::MOST_PIECES;
use kestrel_perception::{
    Appearance, Bitmap, Component, Decision, Piece, TrackOptions, Tracker, Verification, segment,
};
use serde::{Deserialize, Serialize};

use super::tiles::asks_for_all;
use super::timings::{Timings, timed};
use super::views::Heard;
use super::words::Tokens;
use super::{
    Answer, Glance, Look, SegmentError, engine_failure, failed, judged, not_finite, refused, segmented, union,
};

/// How queries that stand are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingOptions {
    /// The words are read again after so many frames, and earlier when the picture contradicts them; 1 reads them on
    /// every frame.
    pub verify_frames: u32,
    /// How long a thing keeps its identity while it is not seen.
    pub track: TrackOptions,
}

impl Default for StandingOptions {
    fn default() -> Self {
        Self { verify_frames: 30, track: TrackOptions::default() }
    }
}

/// What is kept of one query from frame to frame; it belongs to the model that answered.
///
/// A function of the frames that it was asked about and their capture times: asked the same again, it answers the same.
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
            verification: Verification::new(options.verify_frames),
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

    /// Names what an outcome shows, after the words were read or not; `None` for a frame that was not looked at.
    fn take(
        &mut self,
        outcome: &mut Outcome,
        read: Option<(bool, Option<Heard>)>,
        frame: &RgbImage,
        capture_unix_nanos: u64,
    ) -> Result<Standing, SegmentError> {
        let pieces = match outcome {
            Outcome::Segmented { masks } => pieces(masks, self.asks_for_all, frame)?,
            Outcome::Refused(_) => Vec::new(),
        };
        let step = self.tracker.step(&pieces, capture_unix_nanos)?;
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
    /// Answers a query that stands about the next of its frames, whose capture time is `capture_unix_nanos`.
    ///
    /// As [`Look::ask`] where the words are read; elsewhere from what was kept, without the language graph and without
    /// tiles. Where words ask for all things of a kind, each connected piece of the mask is a segment with an identity of
    /// its own, up to [`MOST_PIECES`], and smaller ones are one more without; else the mask is one thing, however many
    /// pieces it has.
    ///
    /// # Errors
    /// When the query is malformed.
    pub fn ask_standing(
        &mut self,
        standing: &mut StandingQuery,
        capture_unix_nanos: u64,
    ) -> Result<Answer, SegmentError> {
        standing.query.validate()?;
        let frame = self.frame;
        let mut timings = std::mem::take(&mut self.timings);
        if let Some(refusal) = &self.refusal {
            let mut outcome = Outcome::Refused(refusal.clone());
            let said = standing.take(&mut outcome, None, frame, capture_unix_nanos)?;
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
            let read = Some((shows(&whole), heard));
            said =
                Some(timed(&mut timings.postprocess, || standing.take(&mut outcome, read, frame, capture_unix_nanos))?);
        }
        Ok(Answer { outcome, timings, whole: Some(whole.into()), words_cut, failure, standing: said })
    }

    /// As [`Look::ask_standing`] for a query that was checked at the door; a fault of ours is a refusal too.
    pub fn answer_standing(&mut self, standing: &mut StandingQuery, capture_unix_nanos: u64) -> Answer {
        self.ask_standing(standing, capture_unix_nanos)
            .unwrap_or_else(|error| Answer::unanswerable(standing.query(), &error))
    }

    /// Draws what was kept, or reads the words where that is due.
    fn turn(&mut self, standing: &StandingQuery, tokens: &Tokens, timings: &mut Timings) -> Result<Turn, SegmentError> {
        let verification = &standing.verification;
        if let Some(heard) = standing.heard.as_ref().filter(|_| !verification.is_due()) {
            let whole = self.redrawn(heard, tokens, timings)?;
            if !verification.doubts(shows(&whole)) {
                let words_cut = standing.words_cut;
                let outcome = timed(&mut timings.postprocess, || plain(&whole, words_cut))?;
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
        let super::Segmenter { engine, thresholds, answers, views, .. } = &mut *self.segmenter;
        views.see(0, self.frame, engine.as_mut(), timings)?;
        let said = views.say_again(0, heard, engine.as_mut(), timings)?;
        timed(&mut timings.postprocess, || judged(&said, self.frame, (answers, thresholds), tokens, &[]))
    }
}

/// Whether the policy shows what was said of the whole frame.
fn shows(whole: &Glance) -> bool {
    matches!(whole.decision, Decision::Segment { .. })
}

/// The outcome of the whole frame alone.
fn plain(whole: &Glance, words_cut: usize) -> Result<Outcome, SegmentError> {
    match &whole.decision {
        Decision::Segment { presence, predicted_iou } => segmented(&whole.mask, *presence, *predicted_iou),
        Decision::Refuse(refusal) => Ok(refused(refusal.clone(), words_cut)),
    }
}

/// The pieces of an answer that may have identities, one for each of the first segments; the segments of an answer that
/// asks for all are made one for each connected piece.
fn pieces(masks: &mut Vec<Segment>, each: bool, frame: &RgbImage) -> Result<Vec<Piece>, SegmentError> {
    let outcome = Outcome::Segmented { masks: std::mem::take(masks) };
    let whole = union(&outcome)?;
    if let Outcome::Segmented { masks: taken } = outcome {
        *masks = taken;
    }
    let Some(whole) = whole else { return Ok(Vec::new()) };
    let mut parts = whole.components();
    let rest = parts.split_off(parts.len().min(MOST_PIECES));
    if !each {
        return Ok(joined(parts.into_iter().chain(rest)).iter().map(|all| piece(all, frame)).collect());
    }
    if parts.len() > 1 {
        apart(masks, &whole, &parts, rest)?;
    }
    Ok(parts.iter().map(|part| piece(part, frame)).collect())
}

/// Puts a segment for each part in place of those that there are, and one for the rest.
fn apart(
    masks: &mut Vec<Segment>,
    whole: &Bitmap,
    parts: &[Component],
    rest: Vec<Component>,
) -> Result<(), SegmentError> {
    let presence = masks.iter().map(|mask| mask.presence).fold(0.0, f32::max);
    let predicted_iou = masks.iter().map(|mask| mask.predicted_iou).fold(1.0, f32::min);
    let rest = joined(rest);
    let mut segments = Vec::with_capacity(parts.len() + 1);
    for part in parts.iter().chain(&rest) {
        segments.extend(segment(&whole.only(part), presence, predicted_iou)?);
    }
    *masks = segments;
    Ok(())
}

/// Several pieces of a mask as one; `None` of none.
fn joined(parts: impl IntoIterator<Item = Component>) -> Option<Component> {
    parts.into_iter().reduce(|mut all, part| {
        let edges = |[x, y, width, height]: [u32; 4]| [x, y, x + width, y + height];
        let ([ax0, ay0, ax1, ay1], [bx0, by0, bx1, by1]) = (edges(all.bounding_box), edges(part.bounding_box));
        let (x0, y0) = (ax0.min(bx0), ay0.min(by0));
        all.bounding_box = [x0, y0, ax1.max(bx1) - x0, ay1.max(by1) - y0];
        all.area += part.area;
        all.runs.extend(part.runs);
        all
    })
}

fn piece(part: &Component, frame: &RgbImage) -> Piece {
    let bounding_box = part.bounding_box.map(|pixels| pixels as f32);
    Piece { bounding_box, appearance: Appearance::under(frame, part) }
}

/// The box around all masks as a hint; `None` where there is none.
fn place(masks: &[Segment], frame: &RgbImage) -> Option<Hint> {
    let edges = masks.iter().map(|mask| {
        let [x, y, width, height] = mask.bounding_box;
        [x, y, x.saturating_add(width), y.saturating_add(height)]
    });
    let [x0, y0, x1, y1] =
        edges.reduce(|all, one| [all[0].min(one[0]), all[1].min(one[1]), all[2].max(one[2]), all[3].max(one[3])])?;
    let across = |x: u32| (x as f32 / frame.width() as f32).clamp(0.0, 1.0);
    let down = |y: u32| (y as f32 / frame.height() as f32).clamp(0.0, 1.0);
    let hint = Hint::Box { x0: across(x0), y0: down(y0), x1: across(x1), y1: down(y1) };
    hint.validate().is_ok().then_some(hint)
}

/// What is kept of all queries that stand; bounded.
pub struct StandingQueries {
    options: StandingOptions,
    most: usize,
    /// Who was asked longest ago comes first.
    all: Vec<StandingQuery>,
}

impl StandingQueries {
    /// Nothing yet, and at most `most` queries later: who was asked longest ago makes room.
    #[must_use]
    pub fn new(options: StandingOptions, most: usize) -> Self {
        Self { options, most: most.max(1), all: Vec::new() }
    }

    /// What is kept of a query, to ask about its next frame; nothing where it `begins`, or is another than the one with
    /// its id.
    pub fn of(&mut self, query: &Query, begins: bool) -> &mut StandingQuery {
        let known = self.taken(&query.id).filter(|known| !begins && known.query == *query);
        self.put(known.unwrap_or_else(|| StandingQuery::new(query, &self.options)))
    }

    /// What was kept of a query after it was answered `turn` times; `None` where that is not known.
    pub fn at(&mut self, query: &Query, turn: u32) -> Option<&mut StandingQuery> {
        if turn == 0 {
            return Some(self.of(query, true));
        }
        let known = self.taken(&query.id).filter(|known| known.turn == turn && known.query == *query)?;
        Some(self.put(known))
    }

    /// Lets go of what is kept of a query.
    pub fn forget(&mut self, id: &str) {
        self.all.retain(|known| known.query.id != id);
    }

    /// How many queries something is kept of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn taken(&mut self, id: &str) -> Option<StandingQuery> {
        let index = self.all.iter().position(|known| known.query.id == id)?;
        Some(self.all.remove(index))
    }

    fn put(&mut self, standing: StandingQuery) -> &mut StandingQuery {
        if self.all.len() >= self.most {
            self.all.remove(0);
        }
        self.all.push(standing);
        let last = self.all.len() - 1;
        &mut self.all[last]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn query(id: &str, text: &str) -> Query {
        Query { id: id.into(), text: text.into(), hint: None, frames: 0 }
    }

    fn queries(most: usize) -> StandingQueries {
        StandingQueries::new(StandingOptions::default(), most)
    }

    #[test]
    fn a_query_finds_its_own_until_it_is_replaced() {
        let mut kept = queries(4);
        kept.of(&query("a", "the car"), true).turn = 7;
        assert_eq!(kept.of(&query("a", "the car"), false).turn(), 7);
        assert_eq!(kept.of(&query("a", "the boat"), false).turn(), 0, "other words");
        kept.of(&query("a", "the boat"), false).turn = 3;
        assert_eq!(kept.of(&query("a", "the boat"), true).turn(), 0, "asked anew");
        kept.forget("a");
        assert!(kept.is_empty());
    }

    #[test]
    fn who_was_asked_longest_ago_makes_room() {
        let mut kept = queries(2);
        for id in ["a", "b", "a", "c"] {
            kept.of(&query(id, "the car"), false).turn += 1;
        }
        assert_eq!(kept.len(), 2);
        assert_eq!(kept.of(&query("a", "the car"), false).turn(), 2);
        assert_eq!(kept.of(&query("b", "the car"), false).turn(), 0);
    }

    /// What would break: a replay behind a gap that compares with another state.
    #[test]
    fn a_turn_is_found_only_where_it_follows() {
        let mut kept = queries(2);
        assert!(kept.at(&query("a", "the car"), 1).is_none());
        kept.at(&query("a", "the car"), 0).unwrap().turn = 1;
        assert!(kept.at(&query("a", "the car"), 1).is_some());
        assert!(kept.at(&query("a", "the car"), 3).is_none(), "two answers are missing");
        assert!(kept.is_empty(), "and it cannot be followed from there on");
    }

    fn segment_of(inside: impl Fn(u32, u32) -> bool) -> Segment {
        segment(&Bitmap::from_fn(100, 40, inside), 0.9, 0.8).unwrap().unwrap()
    }

    #[test]
    fn one_thing_stays_one_segment_and_all_things_are_told_apart() {
        let frame = RgbImage::new(100, 40);
        // Ten squares of 4, 5, … pixels a side at most.
        let inside = |x: u32, y: u32| x % 10 < 8 && y < 4 + x / 10;
        let mut masks = vec![segment_of(inside)];
        let found = pieces(&mut masks, false, &frame).unwrap();
        assert_eq!((masks.len(), found.len()), (1, 1));
        assert_eq!(found[0].bounding_box, [0.0, 0.0, 98.0, 13.0]);
        let area = masks[0].area_pixels;
        let found = pieces(&mut masks, true, &frame).unwrap();
        assert_eq!((masks.len(), found.len()), (MOST_PIECES + 1, MOST_PIECES), "the two smallest are one");
        assert_eq!(masks.iter().map(|mask| mask.area_pixels).sum::<u64>(), area, "no pixel is lost");
        assert_eq!(found[0].bounding_box, [90.0, 0.0, 8.0, 13.0], "the largest first");
    }

    #[test]
    fn a_place_is_the_box_around_everything() {
        let masks = [segment_of(|x, y| x < 10 && y < 4), segment_of(|x, y| (40..50).contains(&x) && y == 19)];
        let hint = place(&masks, &RgbImage::new(100, 40)).unwrap();
        assert_eq!(hint, Hint::Box { x0: 0.0, y0: 0.0, x1: 0.5, y1: 0.5 });
        assert_eq!(place(&[], &RgbImage::new(100, 40)), None);
    }
}
