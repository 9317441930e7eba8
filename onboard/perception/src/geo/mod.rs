//! Where on the earth a mask lies: from pixels, a calibrated camera and a pose to latitude and longitude with an error.
//!
//! The way of the data: a [`Camera`] turns a pixel into a ray, a [`Pose`] turns the ray into north, east and down,
//! the [`Ground`] is where it ends ([`Sight`]), and [`Geodetic`] makes a latitude and longitude of that.
//! [`Spread`] says how far all of this may be wrong, and [`Georeferencer`] does it for every connected piece of a mask.
//!
//! Poses that come apart from the frames are kept in [`Poses`], which says which one held at a capture time.
//!
//! An unknown pose, a ray that meets no ground, and an error that is too large or cannot be stated all give no position,
//! with the reason. Formulas, axes and limits are explained in `docs/concepts/geo-referencing.md`.

mod camera;
mod earth;
mod ground;
mod outline;
mod pose;
mod poses;
mod sight;
mod spread;

use crate::bitmap::{Bitmap, Component};
use crate::error::Error;
use kestrel_link::position::{MAX_OUTLINE, MAX_PIECES};
use kestrel_link::{Georeference, Outcome, Position, Unplaced, Verdict};
use serde::{Deserialize, Serialize};

pub use camera::{Camera, Distortion};
pub use earth::Geodetic;
pub use ground::Ground;
pub use pose::{Attitude, GimbalReference, Pose, PoseSigma};
pub use poses::{Choice, Kept, Poses, PosesOptions};
pub use sight::{Sight, Spot};
pub use spread::Spread;

/// Pieces smaller than this share of the largest are no targets of their own.
const LEAST_SHARE: f64 = 0.05;

/// A number of a camera, a pose or a bound that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{field}: expected {expected}, got {got}")]
pub struct GeoError {
    /// Which number.
    pub field: &'static str,
    /// What would be right.
    pub expected: &'static str,
    /// What is there.
    pub got: f64,
}

impl GeoError {
    /// Passes a number in `low..=high`; NaN never passes.
    fn check(field: &'static str, got: f64, low: f64, high: f64, expected: &'static str) -> Result<(), Self> {
        if (low..=high).contains(&got) { Ok(()) } else { Err(Self { field, expected, got }) }
    }
}

/// What a position must hold to be given.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// Standard deviation of a mask's centroid and corners along each axis of the frame, in pixels: the model's error. Where
    /// each corner is off by itself and not the mask as a whole, the centroid is nearer than that.
    pub pixel_sigma: f64,
    /// Largest one-sigma radius of a centroid or corner, in metres.
    pub most_sigma_metres: f64,
    /// Largest horizontal distance from the camera, in metres.
    pub most_range_metres: f64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { pixel_sigma: 4.0, most_sigma_metres: 25.0, most_range_metres: 2000.0 }
    }
}

impl Bounds {
    /// Checks that every number is finite and in range.
    ///
    /// # Errors
    /// Names the field, the range and what was there.
    pub fn check(&self) -> Result<(), GeoError> {
        GeoError::check("pixel_sigma", self.pixel_sigma, 0.0, 1000.0, "0 to 1000 pixels")?;
        GeoError::check("most_sigma_metres", self.most_sigma_metres, 0.0, 1e5, "0 to 100000 metres")?;
        // At 10 km the earth has fallen 8 m below a level plane.
        GeoError::check("most_range_metres", self.most_range_metres, 0.0, 1e4, "0 to 10000 metres")
    }
}

/// Places masks on the earth with one camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Georeferencer {
    camera: Camera,
    bounds: Bounds,
}

impl Georeferencer {
    /// A georeferencer for a checked camera and checked bounds.
    ///
    /// # Errors
    /// Names the first number of camera or bounds that makes no sense.
    pub fn new(camera: Camera, bounds: Bounds) -> Result<Self, GeoError> {
        camera.check()?;
        bounds.check()?;
        Ok(Self { camera, bounds })
    }

    /// The camera at a pose, seen through a frame of `width` × `height` pixels.
    ///
    /// # Errors
    /// [`Unplaced::PoseUnknown`] without a pose, [`Unplaced::PoseInvalid`], or [`Unplaced::CameraInvalid`] for a frame of
    /// another shape than the calibration's.
    pub fn sight(&self, width: u32, height: u32, pose: Option<&Pose>) -> Result<Sight, Unplaced> {
        let pose = pose.ok_or(Unplaced::PoseUnknown)?;
        let camera = self.camera.scaled(width, height).ok_or(Unplaced::CameraInvalid)?;
        Sight::new(camera, pose, &self.bounds)
    }

    /// The place of each connected piece of a mask, largest first, or why it has none.
    ///
    /// Pieces under a twentieth of the largest are left out, as are those after the first [`MAX_PIECES`].
    /// An empty mask has no piece; a mask that cannot be placed at all has one entry with the reason.
    #[must_use]
    pub fn place(&self, mask: &Bitmap, pose: Option<&Pose>) -> Vec<Georeference> {
        self.place_or(mask, pose.ok_or(Unplaced::PoseUnknown))
    }

    /// As [`Georeferencer::place`], with the reason where there is no pose.
    fn place_or(&self, mask: &Bitmap, pose: Result<&Pose, Unplaced>) -> Vec<Georeference> {
        let pieces = mask.components();
        let Some(largest) = pieces.first() else { return Vec::new() };
        let least = largest.area as f64 * LEAST_SHARE;
        let sight = match pose.and_then(|pose| self.sight(mask.width(), mask.height(), Some(pose))) {
            Ok(sight) => sight,
            Err(why) => return vec![Georeference::Unplaced { why }],
        };
        let placed = |piece: &Component| match place(&sight, piece) {
            Ok(position) => Georeference::Placed(position),
            Err(why) => Georeference::Unplaced { why },
        };
        pieces.iter().take(MAX_PIECES).take_while(|piece| piece.area as f64 >= least).map(placed).collect()
    }

    /// The camera that it places with.
    #[must_use]
    pub fn camera(&self) -> &Camera {
        &self.camera
    }

    /// What a position must hold to be given.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Writes the places of all masks of an outcome into it; candidates of an ambiguous query are placed too.
    ///
    /// Where there is no pose, the reason for that is every mask's reason.
    ///
    /// # Errors
    /// When a mask does not decode.
    pub fn annotate(&self, outcome: &mut Outcome, pose: Result<&Pose, Unplaced>) -> Result<(), Error> {
        let segments = match outcome {
            Outcome::Segmented { masks } => masks,
            Outcome::Refused(refusal) => match &mut refusal.verdict {
                Verdict::TargetAmbiguous { candidates } => candidates,
                _ => return Ok(()),
            },
        };
        for segment in segments {
            segment.positions = self.place_or(&Bitmap::from_mask(&segment.mask)?, pose);
        }
        Ok(())
    }
}

/// The place of one piece: the centroid of its area on the ground, and its outline there, each corner with its own error.
fn place(sight: &Sight, piece: &Component) -> Result<Position, Unplaced> {
    let corners = outline::simplify(&outline::trace(piece), MAX_OUTLINE);
    let mut outline = Vec::with_capacity(corners.len());
    let mut outline_radii_metres = Vec::with_capacity(corners.len());
    for corner in corners {
        let spot = sight.spot(corner)?;
        outline_radii_metres.push(spot.radius_metres);
        outline.push([spot.place.latitude_degrees, spot.place.longitude_degrees]);
    }
    let centroid = outline::centroid(sight, piece)?;
    // The error is that of the pixel that shows the centroid: every input moves a small piece as it moves this pixel.
    let pixel = sight.pixel(centroid).ok_or(Unplaced::ErrorUnknown)?;
    let spot = sight.spot(pixel)?;
    Ok(Position {
        latitude_degrees: spot.place.latitude_degrees,
        longitude_degrees: spot.place.longitude_degrees,
        radius_metres: spot.radius_metres,
        ellipse: spot.spread.ellipse(),
        outline,
        outline_radius_metres: outline_radii_metres.iter().copied().fold(0.0, f64::max),
        outline_radii_metres,
    })
}

#[cfg(test)]
mod tests;
