//! From a pixel to the ground, back, and how far that may be wrong.

use super::camera::Camera;
use super::earth::Geodetic;
use super::ground::Ground;
use super::pose::{GimbalReference, Pose, turn, turn_back};
use super::spread::Spread;
use super::{Bounds, Unplaced};
use kestrel_link::position::MAX_METRES;

// Uncertain inputs of a projection and where they stand in a row of numbers. The camera's own place is not among
// them: its error moves every point alike.
const HEIGHT: usize = 0;
const VEHICLE: usize = 1;
const GIMBAL: usize = 4;
const FOCAL: usize = 7;
const CENTRE: usize = 8;
const PIXEL: usize = 10;
const SLOPE: usize = 12;
const INPUTS: usize = 14;

/// A ray must fall towards the ground by this share of its length.
const LEAST_FALL: f64 = 1e-6;

/// Largest shift of the mean by curvature, as a share of the one-sigma radius, at which a linear error is still stated.
///
/// Chosen by simulation: below it the radius holds 68 to 71 % of the truth, above it the share grows to 77 %.
const MOST_BEND: f64 = 0.2;

/// A camera at a pose over the ground.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sight {
    camera: Camera,
    reference: GimbalReference,
    /// On the ellipsoid, straight below the camera: its true height changes a distance by less than a millionth per 6 m.
    below: Geodetic,
    ground: Ground,
    nominal: [f64; INPUTS],
    sigma: [f64; INPUTS],
    position_sigma: f64,
    bounds: Bounds,
}

/// A point of the ground with its error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spot {
    /// Metres north and east of the camera.
    pub north_east: [f64; 2],
    /// On the earth.
    pub place: Geodetic,
    /// Its covariance.
    pub spread: Spread,
    /// One sigma, see [`Spread::radius_metres`].
    pub radius_metres: f64,
}

impl Sight {
    /// A sight; `camera` must be one that passed its check, of the frame's size.
    pub(super) fn new(camera: Camera, pose: &Pose, bounds: &Bounds) -> Result<Self, Unplaced> {
        pose.check().map_err(|_| Unplaced::PoseInvalid)?;
        let ground = pose.ground;
        let row = |height, [a, b, c]: [f64; 3], [d, e, f]: [f64; 3], focal, centre, pixel, slope: [f64; 2]| {
            [height, a, b, c, d, e, f, focal, centre, centre, pixel, pixel, slope[0], slope[1]]
        };
        let below = Geodetic {
            latitude_degrees: pose.latitude_degrees,
            longitude_degrees: pose.longitude_degrees,
            height_metres: 0.0,
        };
        let slope = [ground.slope_north, ground.slope_east];
        let height = pose.height_above_ground_metres;
        let sigma = &pose.sigma;
        Ok(Self {
            camera,
            reference: pose.gimbal_reference,
            below,
            ground,
            nominal: row(height, pose.vehicle.radians(), pose.gimbal.radians(), 1.0, 0.0, 0.0, slope),
            sigma: row(
                sigma.height_metres.hypot(ground.relief_sigma_metres),
                sigma.vehicle.radians(),
                sigma.gimbal.radians(),
                camera.focal_sigma,
                camera.centre_sigma_pixels,
                bounds.pixel_sigma,
                [ground.slope_sigma; 2],
            ),
            position_sigma: sigma.position_metres,
            bounds: *bounds,
        })
    }

    /// The point of the ground, `[north, east]` in metres from the camera, that a pixel shows.
    ///
    /// # Errors
    /// When the ray meets no ground, or only beyond the range.
    pub fn ground(&self, pixel: [f64; 2]) -> Result<[f64; 2], Unplaced> {
        let met = self.meet(&self.at(pixel))?;
        let range_metres = met[0].hypot(met[1]);
        let most_metres = self.bounds.most_range_metres;
        if range_metres > most_metres {
            return Err(Unplaced::BeyondRange { range_metres: range_metres.min(MAX_METRES), most_metres });
        }
        Ok(met)
    }

    /// The point of the ground that a pixel shows, with its error.
    ///
    /// First-order propagation of independent inputs; the sensitivity to each is half the difference between the points
    /// for the input plus and minus one standard deviation (JCGM 100:2008, 5.1.3, note 2).
    ///
    /// # Errors
    /// As [`Self::ground`], and when the errors reach the horizon, bend the projection too much to be stated, or are too large.
    pub fn spot(&self, pixel: [f64; 2]) -> Result<Spot, Unplaced> {
        let north_east = self.ground(pixel)?;
        let at = self.at(pixel);
        let mut spread = Spread::default();
        spread.add([self.position_sigma, 0.0]);
        spread.add([0.0, self.position_sigma]);
        let mut bend = [0.0; 2];
        for (index, &sigma) in self.sigma.iter().enumerate().filter(|(_, sigma)| **sigma > 0.0) {
            let moved = |by: f64| {
                let mut inputs = at;
                inputs[index] += by;
                self.meet(&inputs)
                    .map_err(|why| if why == Unplaced::AboveHorizon { Unplaced::ErrorUnknown } else { why })
            };
            let (more, less) = (moved(sigma)?, moved(-sigma)?);
            spread.add([(more[0] - less[0]) / 2.0, (more[1] - less[1]) / 2.0]);
            // Half the second derivative times the variance: how far this input moves the mean.
            bend = [0, 1].map(|axis: usize| bend[axis] + f64::midpoint(more[axis], less[axis]) - north_east[axis]);
        }
        let radius_metres = spread.radius_metres();
        if bend[0].hypot(bend[1]) > MOST_BEND * radius_metres {
            return Err(Unplaced::ErrorUnknown);
        }
        let most_metres = self.bounds.most_sigma_metres;
        if radius_metres > most_metres {
            return Err(Unplaced::TooUncertain { radius_metres: radius_metres.min(MAX_METRES), most_metres });
        }
        Ok(Spot { north_east, place: self.place(north_east), spread, radius_metres })
    }

    /// The pixel that shows a point of the ground, `[north, east]` in metres from the camera; `None` behind the camera.
    ///
    /// The inverse of [`Self::ground`]; the pixel may lie outside the frame.
    #[must_use]
    pub fn pixel(&self, north_east: [f64; 2]) -> Option<[f64; 2]> {
        let ray = [north_east[0], north_east[1], self.ground.down(self.nominal[HEIGHT], north_east)];
        let (vehicle, gimbal) = self.angles(&self.nominal);
        let [x, y, z] = turn_back(gimbal, turn_back(vehicle, ray));
        (x > 0.0).then(|| self.camera.pixel([y / x, z / x]))
    }

    /// A point of the ground, `[north, east]` in metres from the camera, on the earth.
    #[must_use]
    pub fn place(&self, north_east: [f64; 2]) -> Geodetic {
        let rise = self.nominal[HEIGHT] - self.ground.down(self.nominal[HEIGHT], north_east);
        self.below.offset([north_east[0], north_east[1], -rise])
    }

    fn at(&self, pixel: [f64; 2]) -> [f64; INPUTS] {
        let mut inputs = self.nominal;
        [inputs[PIXEL], inputs[PIXEL + 1]] = pixel;
        inputs
    }

    /// Yaw, pitch and roll of vehicle and gimbal that turn the ray.
    fn angles(&self, inputs: &[f64; INPUTS]) -> ([f64; 3], [f64; 3]) {
        let three = |from: usize| [inputs[from], inputs[from + 1], inputs[from + 2]];
        let mut vehicle = three(VEHICLE);
        if self.reference == GimbalReference::Horizon {
            vehicle = [vehicle[0], 0.0, 0.0];
        }
        (vehicle, three(GIMBAL))
    }

    /// Where the ray of the inputs meets the plane: at `t` times its direction with `t = height / (down + slope·horizontal)`.
    fn meet(&self, inputs: &[f64; INPUTS]) -> Result<[f64; 2], Unplaced> {
        let pixel = [inputs[PIXEL], inputs[PIXEL + 1]];
        let shift = [inputs[CENTRE], inputs[CENTRE + 1]];
        let [x, y] = self.camera.ray(pixel, inputs[FOCAL], shift).ok_or(Unplaced::CameraInvalid)?;
        let (vehicle, gimbal) = self.angles(inputs);
        // The camera's z, x and y are the gimbal's forward, right and down.
        let [north, east, down] = turn(vehicle, turn(gimbal, [1.0, x, y]));
        let fall = down + inputs[SLOPE] * north + inputs[SLOPE + 1] * east;
        let length = north.hypot(east).hypot(down);
        if fall <= LEAST_FALL * length || !fall.is_finite() {
            return Err(Unplaced::AboveHorizon);
        }
        let times = inputs[HEIGHT] / fall;
        Ok([times * north, times * east])
    }
}
