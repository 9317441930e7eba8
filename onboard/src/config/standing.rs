//! The section on queries that stand.

use kestrel_perception::TrackOptions;
use serde::Deserialize;

use super::ConfigError;
use crate::pipeline::StandingOptions;

/// Most frames and most milliseconds that make sense.
const MOST_FRAMES: u32 = 100_000;
const MOST_MILLIS: u64 = 3_600_000;

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StandingSection {
    verify_frames: u32,
    verify_presence_fall: f32,
    keep_frames: u32,
    keep_millis: u64,
}

impl StandingSection {
    /// How queries that stand are followed.
    pub(super) fn options(self) -> Result<StandingOptions, ConfigError> {
        let wrong = |key, expected: String, got: u64| Err(ConfigError::Value { key, expected, got: got.to_string() });
        let Self { verify_frames, verify_presence_fall, keep_frames, keep_millis } = self;
        if !(1..=MOST_FRAMES).contains(&verify_frames) {
            return wrong("standing.verify_frames", format!("1 to {MOST_FRAMES}"), verify_frames.into());
        }
        // Written so that a NaN is refused.
        if !(verify_presence_fall > 0.0 && verify_presence_fall <= 1.0) {
            let (key, expected) = ("standing.verify_presence_fall", "above 0, at most 1".to_owned());
            return Err(ConfigError::Value { key, expected, got: verify_presence_fall.to_string() });
        }
        if keep_frames > MOST_FRAMES {
            return wrong("standing.keep_frames", format!("0 to {MOST_FRAMES}"), keep_frames.into());
        }
        if keep_millis > MOST_MILLIS {
            return wrong("standing.keep_millis", format!("0 to {MOST_MILLIS}"), keep_millis);
        }
        let track = TrackOptions { keep_frames, keep_millis };
        Ok(StandingOptions { verify_frames, verify_presence_fall, track })
    }
}
