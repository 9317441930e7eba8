//! The pose: where the camera is, where it looks, and how well both are known.

use super::GeoError;
use super::ground::Ground;
use serde::{Deserialize, Serialize};

/// Where a camera is and where it looks at the moment of a frame.
///
/// Every error is asked for: a pose without errors would claim to be exact. The distance between camera and
/// antenna is not modelled and belongs into [`PoseSigma::position_metres`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pose {
    /// WGS 84 latitude, -90..=90, north positive.
    pub latitude_degrees: f64,
    /// WGS 84 longitude, -180..=180, east positive.
    pub longitude_degrees: f64,
    /// Height of the camera over the ground straight below it.
    pub height_above_ground_metres: f64,
    /// Of the vehicle against north, east and down: yaw is the true heading, clockwise from north.
    pub vehicle: Attitude,
    /// Of the camera's mount: pitch 0 looks ahead, -90 straight down.
    pub gimbal: Attitude,
    /// What the gimbal's angles are measured against.
    pub gimbal_reference: GimbalReference,
    /// How well all of this is known.
    pub sigma: PoseSigma,
    /// The ground; left out, level within [`Ground::default`]'s errors.
    #[serde(default)]
    pub ground: Ground,
}

/// Yaw, pitch and roll in degrees, applied in this order (aerospace sequence z-y'-x'').
///
/// Axes x forward, y right, z down; positive yaw turns right, positive pitch lifts the nose, positive roll lowers the right side.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attitude {
    /// About down.
    pub yaw_degrees: f64,
    /// About the right axis.
    pub pitch_degrees: f64,
    /// About the forward axis.
    pub roll_degrees: f64,
}

/// What a gimbal's angles are measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GimbalReference {
    /// The vehicle's body: a camera that is fixed to it, or joint angles.
    Vehicle,
    /// The horizon, turned by the vehicle's yaw: a gimbal, or a digital one, that holds pitch and roll.
    /// The vehicle's pitch and roll then do not matter.
    Horizon,
}

/// Standard deviations of a pose; zero says that something is exact.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoseSigma {
    /// Along north and along east, each.
    pub position_metres: f64,
    /// Of the height above ground.
    pub height_metres: f64,
    /// Of each angle of the vehicle.
    pub vehicle: Attitude,
    /// Of each angle of the gimbal, the mounting of the camera included.
    pub gimbal: Attitude,
}

impl Pose {
    /// Checks that every number is finite and in range.
    ///
    /// # Errors
    /// Names the field, the range and what was there.
    pub fn check(&self) -> Result<(), GeoError> {
        GeoError::check("pose.latitude_degrees", self.latitude_degrees, -90.0, 90.0, "-90 to 90 degrees")?;
        GeoError::check("pose.longitude_degrees", self.longitude_degrees, -180.0, 180.0, "-180 to 180 degrees")?;
        let height = self.height_above_ground_metres;
        GeoError::check("pose.height_above_ground_metres", height, 0.1, 2e4, "0.1 to 20000 metres")?;
        for (field, angles) in [("pose.vehicle", self.vehicle), ("pose.gimbal", self.gimbal)] {
            for angle in angles.degrees() {
                GeoError::check(field, angle, -360.0, 360.0, "-360 to 360 degrees")?;
            }
        }
        let PoseSigma { position_metres, height_metres, vehicle, gimbal } = self.sigma;
        GeoError::check("pose.sigma.position_metres", position_metres, 0.0, 1e5, "0 to 100000 metres")?;
        GeoError::check("pose.sigma.height_metres", height_metres, 0.0, 2e4, "0 to 20000 metres")?;
        for (field, angles) in [("pose.sigma.vehicle", vehicle), ("pose.sigma.gimbal", gimbal)] {
            for angle in angles.degrees() {
                GeoError::check(field, angle, 0.0, 180.0, "0 to 180 degrees")?;
            }
        }
        self.ground.check()
    }
}

impl Attitude {
    /// Yaw, pitch and roll in degrees.
    #[must_use]
    pub fn new(yaw_degrees: f64, pitch_degrees: f64, roll_degrees: f64) -> Self {
        Self { yaw_degrees, pitch_degrees, roll_degrees }
    }

    /// Yaw, pitch, roll.
    pub(super) fn degrees(&self) -> [f64; 3] {
        [self.yaw_degrees, self.pitch_degrees, self.roll_degrees]
    }

    /// Yaw, pitch, roll.
    pub(super) fn radians(&self) -> [f64; 3] {
        self.degrees().map(f64::to_radians)
    }
}

/// A vector of the turned axes in the axes that `[yaw, pitch, roll]` (radians) are measured against:
/// `Rz(yaw)·Ry(pitch)·Rx(roll)·v`.
///
/// Source: B. L. Stevens, F. L. Lewis, E. N. Johnson, Aircraft Control and Simulation, 3rd ed. 2016, section 1.3.
pub(super) fn turn([yaw, pitch, roll]: [f64; 3], [x, y, z]: [f64; 3]) -> [f64; 3] {
    let (sin, cos) = roll.sin_cos();
    let (y, z) = (cos * y - sin * z, sin * y + cos * z);
    let (sin, cos) = pitch.sin_cos();
    let (x, z) = (cos * x + sin * z, cos * z - sin * x);
    let (sin, cos) = yaw.sin_cos();
    [cos * x - sin * y, sin * x + cos * y, z]
}

/// The inverse of [`turn`].
pub(super) fn turn_back([yaw, pitch, roll]: [f64; 3], [x, y, z]: [f64; 3]) -> [f64; 3] {
    let (sin, cos) = yaw.sin_cos();
    let (x, y) = (cos * x + sin * y, cos * y - sin * x);
    let (sin, cos) = pitch.sin_cos();
    let (x, z) = (cos * x - sin * z, cos * z + sin * x);
    let (sin, cos) = roll.sin_cos();
    [x, cos * y + sin * z, cos * z - sin * y]
}
