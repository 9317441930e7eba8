//! The section on tiles whose number a budget bounds.

use kestrel_perception::TileOptions;
use serde::Deserialize;

use super::ConfigError;

/// Longest budget that makes sense.
const MOST_MILLIS: u32 = 3_600_000;

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TilingSection {
    budget_millis: u32,
    most_views: u32,
    smallest_pixels: f32,
    seen_pixels: f32,
    overlap: f32,
}

impl TilingSection {
    /// What tiles shall show and may cost.
    pub(super) fn options(self) -> Result<TileOptions, ConfigError> {
        let Self { budget_millis, most_views, smallest_pixels, seen_pixels, overlap } = self;
        let options = TileOptions { budget_millis, most_views, smallest_pixels, seen_pixels, overlap };
        if budget_millis > MOST_MILLIS {
            let (key, expected) = ("tiling.budget_millis", format!("0 to {MOST_MILLIS}"));
            return Err(ConfigError::Value { key, expected, got: budget_millis.to_string() });
        }
        options.check().map_err(|(field, expected, got)| {
            let key = match field {
                "most_views" => "tiling.most_views",
                "smallest_pixels" => "tiling.smallest_pixels",
                "seen_pixels" => "tiling.seen_pixels",
                _ => "tiling.overlap",
            };
            ConfigError::Value { key, expected, got }
        })?;
        Ok(options)
    }
}
