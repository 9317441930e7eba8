//! Which piece of an answer is which of the one before: identities of a standing query over time.
//!
//! [`Tracker::step`] takes the pieces of one answer. Each is held against every live track: where constant velocity has
//! brought the track's box, how the track's mask, moved there, overlaps the piece's, and how alike their colours are. The
//! assignment of least total cost says which piece continues which track (tracking by detection as in Bewley et al., Simple
//! online and realtime tracking, ICIP 2016, with masks in the boxes and colours beside them). A track that no piece continues is kept for a while, so that what passes
//! behind a tree comes out as itself.
//!
//! Everything is bounded: [`MOST_PIECES`] pieces of an answer, [`MOST_TRACKS`] tracks, a shape of few cells and a fixed
//! histogram each.

mod appearance;
mod assign;
mod motion;
mod shape;
#[cfg(test)]
mod tests;

use kestrel_link::{Track, TrackEvent};
use serde::{Deserialize, Serialize};

use crate::error::Error;
pub use appearance::Appearance;
use assign::{Costs, assign};
use motion::{Motion, nearness};
pub use shape::Shape;

/// Most pieces of one answer that have identities.
pub const MOST_PIECES: usize = 8;
/// Most tracks that are live at once, those among them that are not seen at the moment.
pub const MOST_TRACKS: usize = 16;

/// Weight of the place beside that of the colours, which is what is left of 1.
const PLACE: f32 = 0.7;
/// Cost at which a piece is rather a new thing than one of those before.
const ALONE: f64 = 0.75;
/// More than any assignment costs: pairs out of each other's reach.
const APART: f64 = 1e3;
/// Share of the newest look in the appearance of a track.
const RENEWAL: f32 = 0.2;
/// Largest coordinate of a box, in pixels.
const MOST_PIXELS: f32 = 1e6;

/// How long a track is kept that is not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackOptions {
    /// Frames in a row in which it may be missed; it is lost with the next one.
    pub keep_frames: u32,
    /// Longest time in milliseconds between two frames that show it, by the clock of [`Tracker::step`].
    pub keep_millis: u64,
}

impl Default for TrackOptions {
    fn default() -> Self {
        Self { keep_frames: 30, keep_millis: 3000 }
    }
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// `[x, y, width, height]` in pixels of the frame.
    pub bounding_box: [f32; 4],
    /// What it fills of that.
    pub shape: Shape,
    /// Its colours.
    pub appearance: Appearance,
}

impl Piece {
    fn check(&self) -> Result<(), Error> {
        const OPERATION: &str = "follow a piece";
        let count = self.bounding_box.iter().filter(|value| !value.is_finite()).count();
        if count > 0 {
            return Err(Error::NotFinite { operation: OPERATION, count });
        }
        let far = self.bounding_box.iter().copied().find(|value| value.abs() > MOST_PIXELS);
        let empty = self.bounding_box[2..].iter().copied().find(|side| *side <= 0.0);
        match far.or(empty) {
            Some(got) => {
                let expected = "a box of positive sides within a million pixels";
                Err(Error::Range { operation: OPERATION, expected, got })
            }
            None => Ok(()),
        }
    }
}

/// What one answer did to the tracks: exactly one event for each of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// The track of each piece, new or updated; `None` for pieces beyond [`MOST_PIECES`].
    pub tracks: Vec<Option<Track>>,
    /// Tracks that this answer does not show, and that are kept.
    pub refused: Vec<u64>,
    /// Tracks that end with this answer.
    pub lost: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq)]
struct Live {
    id: u64,
    motion: Motion,
    appearance: Appearance,
    age_frames: u32,
    unseen_frames: u32,
    /// As it was last seen.
    shape: Shape,
}

/// The identities of one standing query.
///
/// A function of the answers and their frames' times alone, so that a recorded flight gives the same ids again.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracker {
    options: TrackOptions,
    /// The next id; none is given twice.
    next: u64,
    /// In the order of their ids.
    live: Vec<Live>,
}

impl Tracker {
    /// Without tracks; the first one's id will be 1.
    #[must_use]
    pub fn new(options: TrackOptions) -> Self {
        Self { options, next: 1, live: Vec::with_capacity(MOST_TRACKS) }
    }

    /// How many tracks are live, those among them that are not seen at the moment.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// Takes in the pieces of the answer about the next frame, none for a refusal; the largest come first.
    ///
    /// `nanos` is the frame's time by a clock that nobody sets between two frames: only differences count. Where it stands
    /// still or goes backwards, motion counts on ten frames a second, and tracks are kept by frames alone.
    ///
    /// # Errors
    /// When a box is not finite, empty or out of range; the tracks then stay as they were.
    pub fn step(&mut self, pieces: &[Piece], nanos: u64) -> Result<Step, Error> {
        pieces.iter().try_for_each(Piece::check)?;
        let mut step = Step { tracks: vec![None; pieces.len()], ..Step::default() };
        self.expire(nanos, &mut step);
        let pieces = &pieces[..pieces.len().min(MOST_PIECES)];
        let continued = self.associate(pieces, nanos);
        for live in &mut self.live {
            live.age_frames = live.age_frames.saturating_add(1);
            live.unseen_frames = live.unseen_frames.saturating_add(1);
        }
        for (at, piece) in pieces.iter().enumerate() {
            if let Some(live) = continued[at].and_then(|index| self.live.get_mut(index)) {
                step.tracks[at] = Some(live.update(piece, nanos));
            }
        }
        self.sort_out(&mut step);
        for (at, piece) in pieces.iter().enumerate() {
            if step.tracks[at].is_none() {
                step.tracks[at] = self.begin(piece, nanos, &mut step);
            }
        }
        Ok(step)
    }

    /// Ends the tracks that were not seen for too long by the clock.
    fn expire(&mut self, nanos: u64, step: &mut Step) {
        let keep = self.options.keep_millis;
        self.live.retain(|live| {
            let kept = nanos.saturating_sub(live.motion.seen_nanos) / 1_000_000 <= keep;
            if !kept {
                step.lost.push(live.id);
            }
            kept
        });
    }

    /// The index of the track that each piece continues.
    fn associate(&self, pieces: &[Piece], nanos: u64) -> [Option<usize>; MOST_PIECES] {
        let tracks = self.live.len().min(MOST_TRACKS);
        let columns = tracks + pieces.len();
        let mut costs = Costs { rows: pieces.len(), columns, of: [[ALONE; assign::COLUMNS]; assign::ROWS] };
        for (row, piece) in costs.of.iter_mut().zip(pieces) {
            for (cost, live) in row.iter_mut().zip(&self.live) {
                *cost = live.cost(piece, nanos).unwrap_or(APART);
            }
        }
        let columns = assign(&costs);
        let mut continued = [None; MOST_PIECES];
        for (to, (row, column)) in continued.iter_mut().zip(columns.into_iter().enumerate()).take(pieces.len()) {
            *to = (column < tracks && costs.of[row][column] < ALONE).then_some(column);
        }
        continued
    }

    /// Tells what becomes of the tracks that no piece continues.
    fn sort_out(&mut self, step: &mut Step) {
        let keep = self.options.keep_frames;
        self.live.retain(|live| {
            let kept = live.unseen_frames <= keep;
            match (live.unseen_frames, kept) {
                (0, _) => {}
                (_, true) => step.refused.push(live.id),
                (_, false) => step.lost.push(live.id),
            }
            kept
        });
    }

    /// Begins a track; where there are too many, the one that was not seen for longest makes room.
    fn begin(&mut self, piece: &Piece, nanos: u64, step: &mut Step) -> Option<Track> {
        let id = self.next;
        let next = id.checked_add(1)?;
        if self.live.len() >= MOST_TRACKS {
            let unseen = self.live.iter().enumerate().filter(|(_, live)| live.unseen_frames > 0);
            let (index, _) = unseen.max_by_key(|(_, live)| (live.unseen_frames, std::cmp::Reverse(live.id)))?;
            let ended = self.live.remove(index).id;
            step.refused.retain(|id| *id != ended);
            step.lost.push(ended);
        }
        self.next = next;
        self.live.push(Live {
            id,
            motion: Motion::new(piece.bounding_box, nanos),
            appearance: piece.appearance.clone(),
            age_frames: 0,
            unseen_frames: 0,
            shape: piece.shape.clone(),
        });
        Some(Track { id, event: TrackEvent::New, age_frames: 0 })
    }
}

impl Live {
    /// What it costs to take a piece for this track, 0..=1; `None` when it is out of reach.
    fn cost(&self, piece: &Piece, nanos: u64) -> Option<f64> {
        let expected = self.motion.predict(nanos, self.unseen_frames.saturating_add(1));
        let place = nearness((&self.shape, &expected), (&piece.shape, &piece.bounding_box), self.unseen_frames)?;
        let look = self.appearance.similarity(&piece.appearance);
        let cost = 1.0 - f64::from(PLACE * place + (1.0 - PLACE) * look);
        // A velocity can grow beyond numbers only from boxes that jump over the whole range; those are apart.
        cost.is_finite().then_some(cost)
    }

    /// Goes on with a piece; `unseen_frames` counts this frame already.
    fn update(&mut self, piece: &Piece, nanos: u64) -> Track {
        self.motion.update(piece.bounding_box, nanos, self.unseen_frames);
        self.appearance.blend(&piece.appearance, RENEWAL);
        self.unseen_frames = 0;
        self.shape.clone_from(&piece.shape);
        Track { id: self.id, event: TrackEvent::Update, age_frames: self.age_frames }
    }
}
