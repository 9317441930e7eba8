//! Where a vehicle is and where its camera looks, for cameras whose frames do not say so.
//!
//! Whoever knows the pose (an autopilot's bridge, a gimbal's driver) publishes samples on [`DroneId::pose`](crate::DroneId::pose),
//! and the drone takes for each frame what held at its capture time.

use crate::camera::MAX_POSE_BYTES;
use crate::codec::Message;
use crate::error::LinkError;
use serde::{Deserialize, Serialize};

/// A pose and when it held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoseSample {
    /// When it held, nanoseconds since the Unix epoch, by the clock that stamps the frames; not 0.
    pub time_unix_nanos: u64,
    /// The text of a pose file, at most [`MAX_POSE_BYTES`] bytes of JSON.
    pub pose: String,
}

impl Message for PoseSample {
    const NAME: &'static str = "pose sample";
    const MAX_BYTES: usize = 8 * 1024;

    fn validate(&self) -> Result<(), LinkError> {
        if self.time_unix_nanos == 0 {
            return Err(LinkError::field("pose.time_unix_nanos", "when the pose held", self.time_unix_nanos));
        }
        if self.pose.len() > MAX_POSE_BYTES {
            return Err(LinkError::TooLarge { operation: "pose.pose", limit: MAX_POSE_BYTES, got: self.pose.len() });
        }
        Ok(())
    }
}
