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
    keep_frames: u32,
    keep_millis: u64,
}

impl StandingSection {
    /// How queries that stand are followed.
    pub(super) fn options(self) -> Result<StandingOptions, ConfigError> {
        let wrong = |key, expected: String, got: u64| Err(ConfigError::Value { key, expected, got: got.to_string() });
        let Self { verify_frames, keep_frames, keep_millis } = self;
        if !(1..=MOST_FRAMES).contains(&verify_frames) {
            return wrong("standing.verify_frames", format!("1 to {MOST_FRAMES}"), verify_frames.into());
        }
        if keep_frames > MOST_FRAMES {
            return wrong("standing.keep_frames", format!("0 to {MOST_FRAMES}"), keep_frames.into());
        }
        if keep_millis > MOST_MILLIS {
            return wrong("standing.keep_millis", format!("0 to {MOST_MILLIS}"), keep_millis);
        }
        Ok(StandingOptions { verify_frames, track: TrackOptions { keep_frames, keep_millis } })
    }
}
