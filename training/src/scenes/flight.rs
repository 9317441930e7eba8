//! A scene as a camera in flight sees it: any moment of it, and where the camera was.

use super::Shot;
use super::camera::Camera;
use super::vector::V3;
use image::RgbImage;

/// Where a scene's camera is and where it looks. Scenes lie on level ground at height 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Viewpoint {
    /// Metres east of the scene's origin.
    pub east_metres: f64,
    /// Metres north of it.
    pub north_metres: f64,
    /// Metres above the ground.
    pub height_metres: f64,
    /// Clockwise from north, -270..=90: where the top of a picture taken straight down points.
    pub heading_degrees: f64,
    /// Of the optical axis against the horizon, about -90 (straight down) to -39.
    pub pitch_degrees: f64,
    /// Focal length as a multiple of the picture's side.
    pub focal_sides: f64,
}

impl Viewpoint {
    pub(super) fn of(camera: &Camera) -> Self {
        let [position, right, forward] = [camera.position, camera.right, camera.forward].map(wide);
        // By the right axis, which is level: straight down, the optical axis has no direction of its own.
        let heading_degrees = right[0].atan2(right[1]).to_degrees() - 90.0;
        let ahead = forward[1] * right[0] - forward[0] * right[1];
        Self {
            east_metres: position[0],
            north_metres: position[1],
            height_metres: position[2],
            heading_degrees,
            pitch_degrees: forward[2].atan2(ahead).to_degrees(),
            focal_sides: f64::from(camera.focal),
        }
    }
}

fn wide(v: V3) -> [f64; 3] {
    [f64::from(v.x), f64::from(v.y), f64::from(v.z)]
}

/// The scene `seed`, `size` pixels square, as it is `seconds` after its first frame; `frame` numbers the sensor's noise.
///
/// Only what can be seen from the first camera is built: the farther `seconds` is from 0, the emptier is the rim.
#[must_use]
pub fn render_moment(seed: u64, size: u32, seconds: f32, frame: u32) -> (RgbImage, Viewpoint) {
    let shot = Shot::at(seed, size, seconds, frame);
    (shot.image, shot.viewpoint)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::camera::Framing;
    use super::super::random::Dice;
    use super::*;

    /// What would break: masks of a simulated flight that are placed beside what they show.
    #[test]
    fn the_optical_axis_meets_the_ground_where_heading_and_pitch_say() {
        for seed in 0..40 {
            let framing = Framing { car: (0.05, 0.2), nadir: 0.4 };
            let camera = Camera::draw(&mut Dice::new(seed), framing, 3.0);
            let view = Viewpoint::of(&camera);
            let range = view.height_metres / (-view.pitch_degrees).to_radians().tan();
            let heading = view.heading_degrees.to_radians();
            let (east, north) = (view.east_metres + range * heading.sin(), view.north_metres + range * heading.cos());
            let target = wide(camera.target);
            let off = (east - target[0]).hypot(north - target[1]);
            assert!(off < 0.05, "seed {seed}: {off} m, {view:?}");
        }
    }

    #[test]
    fn a_moment_is_the_frame_of_a_sequence_and_moments_between_move() {
        let frames = super::super::render_sequence(5, 64, 2);
        let (second, _) = render_moment(5, 64, 1.0, 1);
        assert_eq!(second, frames[1].image);
        let (between, view) = render_moment(5, 64, 0.5, 2);
        assert!(between != frames[0].image && between != second);
        assert!(view.height_metres >= 19.9 && view.focal_sides >= 0.5, "{view:?}");
    }
}
