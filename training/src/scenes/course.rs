//! A scene as it goes on: frames at any time, for queries that stand.
//!
//! Camera and traffic are functions of seed and time, so a film needs no state. Traffic would be out of sight after a few
//! seconds; the clock of a [`Course`] therefore swings, `t(τ) = reach · (1 − cos(2πτ / period)) / 2`: it goes forward, slows
//! down, comes back and goes forward again without a jump, and whoever left the picture comes back into it.

use super::Shot;
use super::vector::sin_cos;
use crate::sample::Picture;

/// A film of one scene.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Course {
    /// Names the scene.
    pub seed: u64,
    /// Side of the square pictures in pixels.
    pub size: u32,
    /// Frames in a second of flight.
    pub frames_per_second: f32,
    /// The latest moment of the scene that is shown, in seconds.
    pub reach_seconds: f32,
    /// After how long it begins again, in seconds of flight.
    pub period_seconds: f32,
}

impl Course {
    /// Ten frames a second of the first six seconds of a scene, there and back in twenty: never faster than in life.
    #[must_use]
    pub fn new(seed: u64, size: u32) -> Self {
        Self { seed, size, frames_per_second: 10.0, reach_seconds: 6.0, period_seconds: 20.0 }
    }

    /// The moment of the scene that a frame shows, in seconds.
    #[must_use]
    pub fn seconds(&self, number: u32) -> f32 {
        let turn = number as f32 / (self.frames_per_second * self.period_seconds);
        let (_, cos) = sin_cos((turn - turn.floor()) * std::f32::consts::TAU);
        self.reach_seconds * (1.0 - cos) / 2.0
    }

    /// When a frame was taken, in nanoseconds of flight since the first.
    #[must_use]
    pub fn nanos(&self, number: u32) -> u64 {
        (f64::from(number) / f64::from(self.frames_per_second) * 1e9) as u64
    }

    /// A frame. `instances[i]` is the same thing in all of them; one that is out of view has an empty mask and `visible` 0.
    #[must_use]
    pub fn frame(&self, number: u32) -> Picture {
        let shot = Shot::at(self.seed, self.size, self.seconds(number), number);
        let labels: Vec<usize> = (0..shot.things.len()).collect();
        shot.picture(self.seed, number as usize, &labels)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::{render, render_sequence};
    use super::*;
    use crate::sample::Category;

    #[test]
    fn the_clock_swings_without_a_jump() {
        let course = Course::new(0, 64);
        let times: Vec<f32> = (0..=400).map(|number| course.seconds(number)).collect();
        assert!(times[0] == 0.0 && (times[100] - 6.0).abs() < 1e-4 && times[200].abs() < 1e-4);
        assert!(times.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 0.1), "never faster than in life");
        assert!(times.iter().all(|time| (0.0..=6.0).contains(time)));
        assert_eq!(course.nanos(25), 2_500_000_000);
    }

    /// What would break: a film of other scenes than those of the benchmark and of training.
    #[test]
    fn a_course_shows_the_scene_that_stills_and_sequences_show() {
        for seed in [3, 8] {
            let course = Course::new(seed, 96);
            assert_eq!(course.frame(0).image, render(seed, 96).image);
            let second = Course { frames_per_second: 1.0, reach_seconds: 1.0, period_seconds: 2.0, ..course };
            assert_eq!(second.seconds(1), 1.0);
            assert_eq!(second.frame(1).image, render_sequence(seed, 96, 2)[1].image);
        }
    }

    #[test]
    fn things_keep_their_numbers_and_move_little_from_frame_to_frame() {
        let mut moved = 0.0_f32;
        for seed in 0..4 {
            let course = Course::new(seed, 96);
            let frames: Vec<Picture> = [40, 41].map(|number| course.frame(number)).into();
            assert_eq!(frames[0].instances.len(), frames[1].instances.len());
            for (one, two) in frames[0].instances.iter().zip(&frames[1].instances) {
                assert_eq!(one.category, two.category);
                if one.category == Category::Car && one.visible > 0.95 && two.visible > 0.95 {
                    let step = (0..2).map(|axis| (one.bounding_box[axis] - two.bounding_box[axis]).abs());
                    moved = moved.max(step.fold(0.0, f32::max));
                }
            }
        }
        assert!(moved < 24.0, "a quarter of the picture in a tenth of a second: {moved} pixels");
    }
}
