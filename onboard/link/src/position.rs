//! Where on the earth a piece of a mask lies, or why that is not said.

use crate::error::LinkError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most pieces of one mask that are placed.
pub const MAX_PIECES: usize = 8;

/// Most corners of the outline of one piece.
pub const MAX_OUTLINE: usize = 24;

/// Largest length that is stated for a range or an error, in metres; larger ones are stated as this.
pub const MAX_METRES: f64 = 1e7;

/// Largest time that is stated between a frame and a pose, in seconds; larger ones are stated as this.
pub const MAX_SECONDS: f64 = 1e10;

/// What is said of the place of one connected piece of a mask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Georeference {
    /// Where it lies.
    Placed(Position),
    /// No position rather than a wrong one.
    Unplaced {
        /// What stood in the way.
        why: Unplaced,
    },
}

/// A place on the ground with its error; latitudes and longitudes are WGS 84.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Latitude of the centroid, -90..=90, north positive.
    pub latitude_degrees: f64,
    /// Longitude of the centroid, -180..=180, east positive.
    pub longitude_degrees: f64,
    /// One-sigma error of the centroid: the truth lies within this distance in about two of three cases (68.27 %).
    pub radius_metres: f64,
    /// The same error with its direction.
    pub ellipse: Ellipse,
    /// Corners of the outline as `[latitude, longitude]` in degrees, in order, not closed; at most [`MAX_OUTLINE`].
    pub outline: Vec<[f64; 2]>,
    /// The largest one-sigma radius of the corners.
    pub outline_radius_metres: f64,
    /// One-sigma radius of each corner, in the order of `outline`; empty from a drone that does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outline_radii_metres: Vec<f64>,
}

/// Standard deviations of a position along its two principal axes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ellipse {
    /// Along the direction of the largest error.
    pub major_metres: f64,
    /// Across it.
    pub minor_metres: f64,
    /// Direction of the largest error, clockwise from north, 0..180.
    pub bearing_degrees: f64,
}

/// Why a piece of a mask has no position.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unplaced {
    /// Nobody said where the camera was and where it looked.
    PoseUnknown,
    /// Poses come apart from the frames, and the frame's capture time is not to be trusted.
    CaptureDoubted,
    /// No pose of the capture time or after it has come yet, and none is carried on beyond the last.
    PoseAwaited,
    /// The poses around the capture time lie too far from it.
    PoseStale {
        /// How far the nearer one, or of two the farther one, lies from the capture time.
        age_seconds: f64,
        /// The bound.
        most_seconds: f64,
    },
    /// The poses before and after the capture time are too unlike for anything to be said of the time between.
    PoseUnsteady,
    /// The pose holds numbers out of range.
    PoseInvalid,
    /// The camera's calibration does not fit the frame.
    CameraInvalid,
    /// The piece reaches the horizon or the sky.
    AboveHorizon,
    /// No error can be stated: the piece is too near the horizon, or the pose too poor, for errors to stay proportional.
    ErrorUnknown,
    /// The piece reaches farther than allowed.
    BeyondRange {
        /// Its horizontal distance from the camera.
        range_metres: f64,
        /// The bound.
        most_metres: f64,
    },
    /// The error is larger than allowed.
    TooUncertain {
        /// The one-sigma radius.
        radius_metres: f64,
        /// The bound.
        most_metres: f64,
    },
}

impl Georeference {
    /// Checks that every number is finite and in range.
    ///
    /// # Errors
    /// Names the field, the range and what was there.
    pub fn validate(&self) -> Result<(), LinkError> {
        match self {
            Self::Placed(position) => position.validate(),
            Self::Unplaced { why } => match *why {
                Unplaced::BeyondRange { range_metres, most_metres } => {
                    metres("position.range_metres", range_metres)?;
                    metres("position.most_metres", most_metres)
                }
                Unplaced::TooUncertain { radius_metres, most_metres } => {
                    metres("position.radius_metres", radius_metres)?;
                    metres("position.most_metres", most_metres)
                }
                Unplaced::PoseStale { age_seconds, most_seconds } => {
                    seconds("position.age_seconds", age_seconds)?;
                    seconds("position.most_seconds", most_seconds)
                }
                _ => Ok(()),
            },
        }
    }
}

impl Position {
    fn validate(&self) -> Result<(), LinkError> {
        on_earth("position.latitude_degrees", [self.latitude_degrees, self.longitude_degrees])?;
        metres("position.radius_metres", self.radius_metres)?;
        metres("position.outline_radius_metres", self.outline_radius_metres)?;
        metres("position.ellipse.major_metres", self.ellipse.major_metres)?;
        metres("position.ellipse.minor_metres", self.ellipse.minor_metres)?;
        if !(0.0..=180.0).contains(&self.ellipse.bearing_degrees) {
            return Err(LinkError::field("position.ellipse.bearing_degrees", "0..180", self.ellipse.bearing_degrees));
        }
        if self.outline.len() > MAX_OUTLINE {
            return Err(LinkError::field("position.outline", format!("at most {MAX_OUTLINE}"), self.outline.len()));
        }
        let (radii, corners) = (self.outline_radii_metres.len(), self.outline.len());
        if radii > 0 && radii != corners {
            return Err(LinkError::field("position.outline_radii_metres", format!("none, or {corners}"), radii));
        }
        self.outline_radii_metres.iter().try_for_each(|&radius| metres("position.outline_radii_metres", radius))?;
        self.outline.iter().try_for_each(|&corner| on_earth("position.outline", corner))
    }
}

fn metres(field: &'static str, value: f64) -> Result<(), LinkError> {
    if (0.0..=MAX_METRES).contains(&value) { Ok(()) } else { Err(LinkError::field(field, "0..=1e7 metres", value)) }
}

fn seconds(field: &'static str, value: f64) -> Result<(), LinkError> {
    if (0.0..=MAX_SECONDS).contains(&value) { Ok(()) } else { Err(LinkError::field(field, "0..=1e10 seconds", value)) }
}

fn on_earth(field: &'static str, [latitude, longitude]: [f64; 2]) -> Result<(), LinkError> {
    if (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude) {
        return Ok(());
    }
    Err(LinkError::field(field, "a latitude in -90..=90 and a longitude in -180..=180", [latitude, longitude]))
}

impl fmt::Display for Georeference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Placed(position) => {
                let Position { latitude_degrees, longitude_degrees, radius_metres, .. } = position;
                write!(
                    f,
                    "at {latitude_degrees:.7}, {longitude_degrees:.7}, within {radius_metres:.1} m in 2 of 3 cases"
                )
            }
            Self::Unplaced { why } => write!(f, "no position: {why}"),
        }
    }
}

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoseUnknown => f.write_str("the camera's pose is not known"),
            Self::CaptureDoubted => f.write_str("the frame's capture time is not known, so its pose is not"),
            Self::PoseAwaited => f.write_str("no pose of its capture time or later has come yet"),
            Self::PoseStale { age_seconds, most_seconds } => {
                write!(f, "the pose is {age_seconds:.3} s away from it in time, more than {most_seconds:.3} s")
            }
            Self::PoseUnsteady => f.write_str("the poses before and after it are too unlike"),
            Self::PoseInvalid => f.write_str("the camera's pose makes no sense"),
            Self::CameraInvalid => f.write_str("the camera's calibration does not fit the frame"),
            Self::AboveHorizon => f.write_str("it reaches the horizon"),
            Self::ErrorUnknown => f.write_str("its error is not known: too near the horizon, or too poor a pose"),
            Self::BeyondRange { range_metres, most_metres } => {
                write!(f, "it is {range_metres:.0} m away, more than {most_metres:.0} m")
            }
            Self::TooUncertain { radius_metres, most_metres } => {
                write!(f, "its error would be {radius_metres:.1} m, more than {most_metres:.1} m")
            }
        }
    }
}
