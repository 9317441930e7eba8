//! The ground: a plane through the point straight below the camera.

use super::GeoError;
use serde::{Deserialize, Serialize};

/// A plane, level or sloping. There is no terrain model: what the plane misses belongs into its errors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ground {
    /// Rise per metre towards north.
    pub slope_north: f64,
    /// Rise per metre towards east.
    pub slope_east: f64,
    /// Standard deviation of the slope along north and along east, each.
    pub slope_sigma: f64,
    /// Standard deviation of the seen surface about the plane: bumps, kerbs, and the height of what stands on it.
    pub relief_sigma_metres: f64,
}

impl Default for Ground {
    /// Level, as ground with buildings and roads is within 3 %, with half a metre for what stands on it (assumed, not measured).
    fn default() -> Self {
        Self { slope_north: 0.0, slope_east: 0.0, slope_sigma: 0.03, relief_sigma_metres: 0.5 }
    }
}

impl Ground {
    /// Checks that every number is finite and in range.
    ///
    /// # Errors
    /// Names the field, the range and what was there.
    pub fn check(&self) -> Result<(), GeoError> {
        GeoError::check("pose.ground.slope_north", self.slope_north, -1.0, 1.0, "-1 to 1")?;
        GeoError::check("pose.ground.slope_east", self.slope_east, -1.0, 1.0, "-1 to 1")?;
        GeoError::check("pose.ground.slope_sigma", self.slope_sigma, 0.0, 1.0, "0 to 1")?;
        GeoError::check("pose.ground.relief_sigma_metres", self.relief_sigma_metres, 0.0, 1e4, "0 to 10000 metres")
    }

    /// How far below the camera, `height` metres up, the ground lies at a point `[north, east]` in metres from it.
    #[must_use]
    pub fn down(&self, height: f64, [north, east]: [f64; 2]) -> f64 {
        height - self.slope_north * north - self.slope_east * east
    }
}
