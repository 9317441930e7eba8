//! What an operator asks.

use crate::codec::Message;
use crate::error::LinkError;
use crate::key::check_query_id;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Longest query id accepted, in bytes.
pub const MAX_ID_BYTES: usize = 64;

/// Longest query text accepted, in bytes of UTF-8.
pub const MAX_TEXT_BYTES: usize = 512;

/// Longest deadline that a query may name, in milliseconds: an hour.
pub const MAX_DEADLINE_MILLIS: u32 = 3_600_000;

/// Longest time to live that a query may name, in milliseconds: a day.
pub const MAX_TIME_TO_LIVE_MILLIS: u32 = 86_400_000;

/// A question to a drone: words, a hint in the picture, or both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Chosen by the asker; every answer repeats it. 1 to [`MAX_ID_BYTES`] letters, digits, `.`, `_`, `-`: it becomes part of a key.
    /// A query under the id of one that is being answered takes its place; who still waits for an answer to that is told.
    /// It begins anew, unless it [renews](Query::renews) that.
    pub id: String,
    /// Plain words, at most [`MAX_TEXT_BYTES`] bytes. May be empty when a hint is given.
    pub text: String,
    /// A place in the picture beside or instead of words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
    /// Answer this many admitted frames, then stop. 0 means until its time to live is over, or it is withdrawn or replaced.
    #[serde(default = "one")]
    pub frames: u32,
    /// Give reasons too, for the first of the answers: as [`ExplanationPart`](crate::ExplanationPart)s behind it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub explain: bool,
    /// An outcome that takes longer than this many milliseconds, from when both frame and query were there, is refused as too
    /// late; 1 to [`MAX_DEADLINE_MILLIS`]. The drone's own deadline holds where that is shorter, and where this is `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_millis: Option<u32>,
    /// It ends this many milliseconds after the drone took it, at most [`MAX_TIME_TO_LIVE_MILLIS`], with one last refusal that
    /// says so. 0 ends it at once: sent under the id of a query that stands, it withdraws that. With `None` a query that
    /// [stands](Query::stands) lives for as long as the drone's configuration says, and any other until it is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_live_millis: Option<u32>,
}

fn one() -> u32 {
    1
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A place in the picture, in fractions of the frame: x right, y down, both in 0..=1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hint {
    /// A point on the target.
    Point {
        /// Fraction of the width.
        x: f32,
        /// Fraction of the height.
        y: f32,
    },
    /// A box around the target, corners (x0, y0) top left and (x1, y1) bottom right.
    Box {
        /// Left edge.
        x0: f32,
        /// Top edge.
        y0: f32,
        /// Right edge.
        x1: f32,
        /// Bottom edge.
        y1: f32,
    },
}

impl Message for Query {
    const NAME: &'static str = "query";
    const MAX_BYTES: usize = 4 * 1024;

    fn validate(&self) -> Result<(), LinkError> {
        Query::validate(self)
    }
}

impl Query {
    /// A query about one frame, in words alone, with the deadline of the drone.
    pub fn new(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            text: text.into(),
            hint: None,
            frames: 1,
            explain: false,
            deadline_millis: None,
            time_to_live_millis: None,
        }
    }

    /// The query that withdraws this one.
    #[must_use]
    pub fn withdrawal(&self) -> Self {
        Self { explain: false, time_to_live_millis: Some(0), ..self.clone() }
    }

    /// Whether it asks for more than one frame, so that its answers hang together.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.frames != 1
    }

    /// Whether it asks for the same in as many frames, under whatever id and for however long.
    #[must_use]
    pub fn asks_as(&self, other: &Self) -> bool {
        (&self.text, self.hint, self.frames) == (&other.text, other.hint, other.frames)
    }

    /// Whether it lets one that is being answered go on, for longer or shorter than that was to live, instead of beginning anew:
    /// it has the same id, names a time to live, wants no reasons, and asks the same without an end (`frames` 0).
    #[must_use]
    pub fn renews(&self, other: &Self) -> bool {
        let goes_on = self.time_to_live_millis.is_some() && self.frames == 0 && !self.explain;
        goes_on && self.id == other.id && self.asks_as(other)
    }

    /// Checks id, text, hint and times.
    ///
    /// # Errors
    /// Names the field, the range and what was there.
    pub fn validate(&self) -> Result<(), LinkError> {
        check_query_id(&self.id)?;
        if self.text.len() > MAX_TEXT_BYTES {
            return Err(LinkError::TooLarge { operation: "query.text", limit: MAX_TEXT_BYTES, got: self.text.len() });
        }
        if self.text.chars().any(char::is_control) {
            return Err(LinkError::field("query.text", "no control characters", &self.text));
        }
        if self.text.trim().is_empty() && self.hint.is_none() {
            return Err(LinkError::field("query.text", "words, or a hint beside it", &self.text));
        }
        within("query.deadline_millis", self.deadline_millis, 1..=MAX_DEADLINE_MILLIS)?;
        within("query.time_to_live_millis", self.time_to_live_millis, 0..=MAX_TIME_TO_LIVE_MILLIS)?;
        self.hint.map_or(Ok(()), |hint| hint.validate())
    }
}

/// Checks a time that may be left out.
fn within(field: &'static str, millis: Option<u32>, range: RangeInclusive<u32>) -> Result<(), LinkError> {
    match millis {
        Some(millis) if !range.contains(&millis) => {
            Err(LinkError::field(field, format!("{} to {}", range.start(), range.end()), millis))
        }
        _ => Ok(()),
    }
}

impl Hint {
    /// Checks that the place lies in the picture and is not empty.
    ///
    /// # Errors
    /// Names the coordinate, the range and what was there.
    pub fn validate(&self) -> Result<(), LinkError> {
        let inside = |name: &str, value: f32| {
            // Written so that NaN fails too.
            if (0.0..=1.0).contains(&value) {
                return Ok(());
            }
            Err(LinkError::field(format!("query.hint.{name}"), "a fraction in 0..=1", value))
        };
        match *self {
            Self::Point { x, y } => {
                inside("x", x)?;
                inside("y", y)
            }
            Self::Box { x0, y0, x1, y1 } => {
                for (name, value) in [("x0", x0), ("y0", y0), ("x1", x1), ("y1", y1)] {
                    inside(name, value)?;
                }
                if x0 < x1 && y0 < y1 {
                    return Ok(());
                }
                Err(LinkError::field("query.hint", "a box with x0 < x1 and y0 < y1", [x0, y0, x1, y1]))
            }
        }
    }
}
