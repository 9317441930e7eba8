//! What a drone says of itself.

use crate::codec::Message;
use crate::error::LinkError;
use crate::key::DroneId;
use serde::{Deserialize, Serialize};

/// Published at a fixed rate and at every change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The drone's id.
    pub drone: String,
    /// Whether queries are answered.
    pub readiness: Readiness,
    /// `name@version` of the model that flies.
    pub model: String,
    /// Hex SHA-256 of that bundle's manifest.
    pub model_hash: String,
    /// `A` or `B`, or empty when the bundle was given by path.
    pub slot: String,
    /// Engine and provider really active.
    pub engine: String,
    /// Seconds since start, monotonic.
    pub uptime_seconds: u64,
    /// Frames seen from the camera.
    pub frames_in: u64,
    /// Frames replaced by a newer one before they were looked at.
    pub frames_dropped: u64,
    /// Outcomes with a mask.
    pub segmented: u64,
    /// Outcomes that refused.
    pub refused: u64,
    /// What is worse than it should be though queries are answered, one line each: another engine than the one asked for,
    /// a frame rate that fell with heat. Empty when all is well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
    /// How the flight's recording goes; `None` when none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<Recording>,
}

/// How the recording of a flight goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Frames that were looked at and are not in the record, because writing was slower than looking.
    pub lost_frames: u64,
    /// Outcomes that are not in the record for the same reason.
    pub lost_outcomes: u64,
    /// Why nothing is recorded any more, in at most 200 characters; empty while something is.
    pub stopped: String,
}

/// Most lines of [`Health::degraded`].
pub const MAX_DEGRADED: usize = 16;

/// Whether a drone can answer, and if not why not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Readiness {
    /// Answers queries.
    Ready,
    /// Starting, or trying a new model.
    Starting,
    /// Answers with refusals only.
    NotReady {
        /// What is wrong.
        why: String,
    },
}

impl Message for Health {
    const NAME: &'static str = "health";
    const MAX_BYTES: usize = 4 * 1024;

    fn validate(&self) -> Result<(), LinkError> {
        if self.degraded.len() > MAX_DEGRADED {
            let expected = format!("at most {MAX_DEGRADED} lines");
            return Err(LinkError::field("health.degraded", expected, self.degraded.len()));
        }
        DroneId::new(&self.drone).map(drop)
    }
}
