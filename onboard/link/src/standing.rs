//! What a drone says beyond masks when a query stands: which thing is which over time, and how old the words' reading is.

use crate::error::LinkError;
use serde::{Deserialize, Serialize};

/// Most ids in each list of a [`Standing`].
pub const MAX_IDS: usize = 64;

/// The identity of one mask among those of its query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// From 1. As long as the query stands and the same model flies, no id names two things; both a query that is asked
    /// anew and a model that is switched begin anew.
    pub id: u64,
    /// Whether the thing was known before.
    pub event: TrackEvent,
    /// Frames since it was new: 0 for that frame itself.
    pub age_frames: u32,
}

/// What this frame is for a thing that it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrackEvent {
    /// The first one.
    New,
    /// One more.
    Update,
}

/// How a reply to a standing query stands to those before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Frames since the language model read the words with a picture: 0 when it did so for this very frame; `None` when it
    /// has not yet, because the gate refused every frame so far.
    ///
    /// On other frames mask, object score and predicted IoU are of the frame, and what the words themselves say for or
    /// against the target is of the one that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_frames_ago: Option<u32>,
    /// Ids of things that this frame does not show, and that keep their identity for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<u64>,
    /// Ids of things that are given up with this frame; each is told once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<u64>,
}

impl Standing {
    /// Whether the words were read for this very frame.
    #[must_use]
    pub fn verified(&self) -> bool {
        self.verified_frames_ago == Some(0)
    }

    /// Checks that the lists are short and ids are ids.
    ///
    /// # Errors
    /// Names the list, the range and what was there.
    pub fn validate(&self) -> Result<(), LinkError> {
        for (field, ids) in [("standing.refused", &self.refused), ("standing.lost", &self.lost)] {
            if ids.len() > MAX_IDS {
                return Err(LinkError::field(field, format!("at most {MAX_IDS} ids"), ids.len()));
            }
            ids.iter().try_for_each(|id| check_id(field, *id))?;
        }
        Ok(())
    }
}

impl Track {
    /// Checks that the id is one and that only a new thing is of this frame.
    ///
    /// # Errors
    /// Names the field, the range and what was there.
    pub fn validate(&self) -> Result<(), LinkError> {
        check_id("segment.track.id", self.id)?;
        if (self.event == TrackEvent::New) != (self.age_frames == 0) {
            let expected = "0 for what is new, more for what is not";
            return Err(LinkError::field("segment.track.age_frames", expected, (self.event, self.age_frames)));
        }
        Ok(())
    }
}

fn check_id(field: &'static str, id: u64) -> Result<(), LinkError> {
    if id == 0 { Err(LinkError::field(field, "an id from 1", id)) } else { Ok(()) }
}
