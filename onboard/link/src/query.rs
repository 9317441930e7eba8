//! What an operator asks.

use crate::codec::Message;
use crate::error::LinkError;
use crate::key::check_query_id;
use serde::{Deserialize, Serialize};

/// Longest query id accepted, in bytes.
pub const MAX_ID_BYTES: usize = 64;

/// Longest query text accepted, in bytes of UTF-8.
pub const MAX_TEXT_BYTES: usize = 512;

/// A question to a drone: words, a hint in the picture, or both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Chosen by the asker; every answer repeats it. 1 to [`MAX_ID_BYTES`] letters, digits, `.`, `_`, `-`: it becomes part of a key.
    /// A query under the id of one that is being answered takes its place; who still waits for an answer to that is told.
    pub id: String,
    /// Plain words, at most [`MAX_TEXT_BYTES`] bytes. May be empty when a hint is given.
    pub text: String,
    /// A place in the picture beside or instead of words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
    /// Answer this many admitted frames, then stop. 0 means until withdrawn or replaced.
    #[serde(default = "one")]
    pub frames: u32,
    /// Give reasons too, for the first of the answers: as [`ExplanationPart`](crate::ExplanationPart)s behind it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub explain: bool,
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
    /// Whether it asks for more than one frame, so that its answers hang together.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.frames != 1
    }

    /// Checks id, text and hint.
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
        self.hint.map_or(Ok(()), |hint| hint.validate())
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
