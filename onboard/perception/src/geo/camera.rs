//! The camera: a pinhole with the lens distortion of Brown and Conrady.

use super::GeoError;
use kestrel_link::mask::MAX_SIDE;
use serde::{Deserialize, Serialize};

/// Largest difference between the aspect ratios of frame and calibration, as a share of them.
///
/// Streams of one sensor are cut to multiples of 8 or 16 pixels, which changes the ratio by a few thousandths.
const MOST_ASPECT_DIFFERENCE: f64 = 0.01;

/// Most steps of Newton's method when a distortion is undone; real lenses need four.
const MOST_STEPS: usize = 20;

/// Points along each side of the frame at which a distortion must be undoable.
const PROBES: u32 = 9;

/// A calibrated camera.
///
/// Axes: x to the right, y down, z out of the lens along the optical axis.
/// Pixels are measured from the frame's top left corner, so the first pixel's centre is `[0.5, 0.5]`;
/// OpenCV and ROS measure from that centre: add 0.5 to the principal point of their calibrations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// Width of the pictures that it was calibrated with; frames of other sizes and the same shape are scaled.
    pub width_pixels: u32,
    /// Height of these pictures.
    pub height_pixels: u32,
    /// Focal length along x and y, in pixels.
    pub focal_pixels: [f64; 2],
    /// Principal point: where the optical axis meets the picture.
    pub centre_pixels: [f64; 2],
    /// The lens; left out, a perfect one.
    #[serde(default)]
    pub distortion: Distortion,
    /// Standard deviation of the focal length as a share of it; both axes err together, as with zoom or heat.
    pub focal_sigma: f64,
    /// Standard deviation of the principal point along each axis, in pixels.
    pub centre_sigma_pixels: f64,
}

/// Lens distortion in the coefficients and order of meaning of OpenCV's `plumb_bob`.
///
/// With `r² = x² + y²` of an undistorted ray (x, y, 1):
/// `x' = x·(1 + k1·r² + k2·r⁴ + k3·r⁶) + 2·p1·x·y + p2·(r² + 2x²)` and
/// `y' = y·(1 + k1·r² + k2·r⁴ + k3·r⁶) + p1·(r² + 2y²) + 2·p2·x·y`.
/// Source: D. C. Brown, "Decentering distortion of lenses", Photogrammetric Engineering 32(3), 1966, in the form of
/// OpenCV's documentation of `calib3d`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Distortion {
    /// Radial, r².
    pub k1: f64,
    /// Radial, r⁴.
    pub k2: f64,
    /// Tangential, along y.
    pub p1: f64,
    /// Tangential, along x.
    pub p2: f64,
    /// Radial, r⁶.
    pub k3: f64,
}

impl Camera {
    /// Checks that every number is finite and in range and that the distortion can be undone all over the picture.
    ///
    /// # Errors
    /// Names the field, the range and what was there.
    pub fn check(&self) -> Result<(), GeoError> {
        let (width, height) = (f64::from(self.width_pixels), f64::from(self.height_pixels));
        let most = f64::from(MAX_SIDE);
        GeoError::check("camera.width_pixels", width, 1.0, most, "1 to 8192 pixels")?;
        GeoError::check("camera.height_pixels", height, 1.0, most, "1 to 8192 pixels")?;
        for focal in self.focal_pixels {
            GeoError::check("camera.focal_pixels", focal, 1.0, 1e6, "1 to 1000000 pixels")?;
        }
        for (centre, side) in self.centre_pixels.into_iter().zip([width, height]) {
            GeoError::check("camera.centre_pixels", centre, 0.0, side, "a point of the picture")?;
        }
        let Distortion { k1, k2, p1, p2, k3 } = self.distortion;
        for coefficient in [k1, k2, p1, p2, k3] {
            GeoError::check("camera.distortion", coefficient, -100.0, 100.0, "-100 to 100")?;
        }
        GeoError::check("camera.focal_sigma", self.focal_sigma, 0.0, 0.5, "a share of 0 to 0.5")?;
        GeoError::check("camera.centre_sigma_pixels", self.centre_sigma_pixels, 0.0, width, "0 to the width")?;
        self.check_lens(width, height)
    }

    fn check_lens(&self, width: f64, height: f64) -> Result<(), GeoError> {
        let share = |step: u32| f64::from(step) / f64::from(PROBES - 1);
        for (column, row) in (0..PROBES).flat_map(|row| (0..PROBES).map(move |column| (column, row))) {
            let pixel = [share(column) * width, share(row) * height];
            if self.ray(pixel, 1.0, [0.0; 2]).is_none() {
                let expected = "coefficients that show every ray at one pixel only";
                return Err(GeoError { field: "camera.distortion", expected, got: self.distortion.k1 });
            }
        }
        Ok(())
    }

    /// The same camera for frames of another size; `None` when the frame has no pixel or another shape.
    #[must_use]
    pub fn scaled(&self, width: u32, height: u32) -> Option<Self> {
        let scale =
            [f64::from(width) / f64::from(self.width_pixels), f64::from(height) / f64::from(self.height_pixels)];
        let fits = width > 0 && height > 0 && (scale[0] / scale[1] - 1.0).abs() <= MOST_ASPECT_DIFFERENCE;
        fits.then(|| Self {
            width_pixels: width,
            height_pixels: height,
            focal_pixels: [self.focal_pixels[0] * scale[0], self.focal_pixels[1] * scale[1]],
            centre_pixels: [self.centre_pixels[0] * scale[0], self.centre_pixels[1] * scale[1]],
            centre_sigma_pixels: self.centre_sigma_pixels * scale[0],
            ..*self
        })
    }

    /// The direction `[x, y]` of the ray (x, y, 1) that a pixel shows; `None` where the lens cannot be undone.
    ///
    /// `focal` multiplies the focal length and `shift` is added to the principal point, to see what their errors do.
    pub(super) fn ray(&self, pixel: [f64; 2], focal: f64, shift: [f64; 2]) -> Option<[f64; 2]> {
        let along =
            |axis: usize| (pixel[axis] - self.centre_pixels[axis] - shift[axis]) / (self.focal_pixels[axis] * focal);
        self.distortion.undo([along(0), along(1)])
    }

    /// The pixel that shows the ray (x, y, 1).
    pub(super) fn pixel(&self, ray: [f64; 2]) -> [f64; 2] {
        let [x, y] = self.distortion.apply(ray);
        [x * self.focal_pixels[0] + self.centre_pixels[0], y * self.focal_pixels[1] + self.centre_pixels[1]]
    }
}

impl Distortion {
    /// Where the lens shows the ray (x, y, 1), in the same unit.
    #[must_use]
    pub fn apply(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let Self { p1, p2, .. } = *self;
        let square = x * x + y * y;
        let radial = self.radial(square);
        [
            x * radial + 2.0 * p1 * x * y + p2 * (square + 2.0 * x * x),
            y * radial + p1 * (square + 2.0 * y * y) + 2.0 * p2 * x * y,
        ]
    }

    /// The ray (x, y, 1) that the lens shows at `shown`, by Newton's method; `None` where it folds the picture.
    #[must_use]
    pub fn undo(&self, shown: [f64; 2]) -> Option<[f64; 2]> {
        if *self == Self::default() {
            return Some(shown);
        }
        let [mut x, mut y] = shown;
        for _ in 0..MOST_STEPS {
            let at = self.apply([x, y]);
            let miss = [at[0] - shown[0], at[1] - shown[1]];
            let [[a, b], [c, d]] = self.slopes([x, y]);
            let determinant = a * d - b * c;
            // A picture that is not folded keeps left of right and top of bottom everywhere on the way.
            if determinant <= 0.0 || !determinant.is_finite() {
                return None;
            }
            if miss[0].abs().max(miss[1].abs()) < 1e-14 {
                return Some([x, y]);
            }
            x -= (d * miss[0] - b * miss[1]) / determinant;
            y -= (a * miss[1] - c * miss[0]) / determinant;
        }
        let at = self.apply([x, y]);
        let near = (at[0] - shown[0]).abs().max((at[1] - shown[1]).abs()) < 1e-11;
        near.then_some([x, y])
    }

    fn radial(&self, square: f64) -> f64 {
        1.0 + square * (self.k1 + square * (self.k2 + square * self.k3))
    }

    /// Derivatives of [`Self::apply`]: rows x', y'; columns x, y.
    fn slopes(&self, [x, y]: [f64; 2]) -> [[f64; 2]; 2] {
        let Self { k1, k2, k3, p1, p2 } = *self;
        let square = x * x + y * y;
        let radial = self.radial(square);
        // Derivative of the radial factor with respect to r².
        let bend = k1 + square * (2.0 * k2 + 3.0 * k3 * square);
        let cross = 2.0 * x * y * bend + 2.0 * p1 * x + 2.0 * p2 * y;
        [
            [radial + 2.0 * x * x * bend + 2.0 * p1 * y + 6.0 * p2 * x, cross],
            [cross, radial + 2.0 * y * y * bend + 6.0 * p1 * y + 2.0 * p2 * x],
        ]
    }
}
