//! The camera over the scene and the light of the hour.

use super::random::Dice;
use super::vector::{V3, sin_cos, v3};

/// Pitch of a nadir view in radians.
///
/// Seeds name the pictures of published tables: the next decimals of π/2 would change them all.
#[allow(clippy::approx_constant)]
const STRAIGHT_DOWN: f32 = 1.5708;

/// A pinhole camera; pixels are counted in samples of the supersampled picture.
#[derive(Debug, Clone)]
pub(super) struct Camera {
    pub(super) position: V3,
    pub(super) right: V3,
    pub(super) down: V3,
    pub(super) forward: V3,
    /// Focal length as a multiple of the picture's side.
    pub(super) focal: f32,
    /// Metres above ground.
    pub(super) altitude: f32,
    /// Where the optical axis meets the ground.
    pub(super) target: V3,
}

/// How a place wants to be looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Framing {
    /// Least and greatest length of a car in the middle of the picture, as fractions of the side.
    pub(super) car: (f32, f32),
    /// Chance that the camera looks straight down.
    pub(super) nadir: f32,
}

impl Camera {
    /// Draws a camera. `seconds` moves it along its slow drift.
    pub(super) fn draw(dice: &mut Dice, framing: Framing, seconds: f32) -> Camera {
        let ground_sample = 4.5 / dice.log_range(framing.car.0, framing.car.1);
        let pitch = if dice.chance(framing.nadir) { dice.range(1.50, STRAIGHT_DOWN) } else { dice.range(0.68, 1.42) };
        let mut focal = dice.range(0.75, 1.35);
        // `ground_sample` is the metres one picture side spans at the target.
        let mut distance = ground_sample * focal;
        let (sin_pitch, cos_pitch) = sin_cos(pitch);
        let altitude = (distance * sin_pitch).clamp(20.0, 120.0);
        distance = altitude / sin_pitch;
        focal = (distance / ground_sample).clamp(0.5, 2.4);
        // The upper edge must stay well below the horizon.
        let steepest = sin_cos(pitch - 0.22);
        focal = focal.max(0.5 * steepest.1 / steepest.0);
        let yaw = dice.range(0.0, std::f32::consts::TAU);
        let drift = dice.direction();
        let speed = dice.range(0.0, 0.05) * ground_sample;
        let turn = dice.normal() * 0.01;
        let (sy, cy) = sin_cos(yaw + turn * seconds);
        let target = v3(drift.0 * speed * seconds, drift.1 * speed * seconds, 0.0);
        let forward = v3(cy * cos_pitch, sy * cos_pitch, -sin_pitch);
        let right = v3(sy, -cy, 0.0);
        Camera {
            position: target - forward * distance,
            right,
            down: forward.cross(right),
            forward,
            focal,
            altitude,
            target,
        }
    }

    /// Radius on the ground, around the target, that the picture can show.
    pub(super) fn reach(&self) -> f32 {
        let mut reach = 5.0f32;
        for (x, y) in [(-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)] {
            let d = self.ray(x, y);
            let t = if d.z < -0.05 { -self.position.z / d.z } else { self.position.z * 12.0 };
            let p = self.position + d * t - self.target;
            reach = reach.max((p.x * p.x + p.y * p.y).sqrt());
        }
        reach.min(420.0)
    }

    /// Unnormalised ray through a picture point given in fractions of the side from the centre.
    pub(super) fn ray(&self, x: f32, y: f32) -> V3 {
        self.forward + self.right * (x / self.focal) + self.down * (y / self.focal)
    }

    /// Metres per picture side at the target.
    pub(super) fn span(&self) -> f32 {
        let d = self.target - self.position;
        d.dot(d).sqrt() / self.focal
    }

    /// Whether a ball of `radius` at `p` may be in or near the picture.
    pub(super) fn near_view(&self, p: V3, radius: f32) -> bool {
        let d = p - self.position;
        let depth = d.dot(self.forward);
        if depth < -radius {
            return false;
        }
        let limit = depth.max(1.0) * 0.5 / self.focal;
        let margin = radius * 1.6 + limit * 0.12;
        d.dot(self.right).abs() < limit + margin && d.dot(self.down).abs() < limit + margin
    }
}

/// Sun, sky and air.
#[derive(Debug, Clone)]
pub(super) struct Light {
    /// Unit vector towards the sun.
    pub(super) sun: V3,
    pub(super) sun_colour: V3,
    pub(super) sky_colour: V3,
    /// Share of the direct light that is left: 1 in clear air, small under cloud.
    pub(super) direct: f32,
    /// Extinction per metre.
    pub(super) haze: f32,
    pub(super) haze_colour: V3,
    /// Width of the half-shadow: 0 sharp, 1 very soft.
    pub(super) softness: f32,
}

impl Light {
    pub(super) fn draw(dice: &mut Dice) -> Light {
        let kind = dice.weighted(&[0.55, 0.27, 0.18]);
        let azimuth = dice.range(0.0, std::f32::consts::TAU);
        let elevation = match kind {
            2 => dice.range(0.42, 0.62),
            _ => dice.range(0.65, 1.3),
        };
        let (se, ce) = sin_cos(elevation);
        let (sa, ca) = sin_cos(azimuth);
        let (sun_colour, sky_colour, direct) = match kind {
            0 => (v3(1.0, 0.955, 0.88) * 2.5, v3(0.40, 0.50, 0.68), dice.range(0.8, 1.0)),
            1 => (v3(1.0, 0.98, 0.95) * 2.2, v3(0.95, 1.0, 1.06), dice.range(0.03, 0.35)),
            _ => (v3(1.0, 0.80, 0.56) * 2.9, v3(0.42, 0.47, 0.62), dice.range(0.7, 1.0)),
        };
        Light {
            sun: v3(ca * ce, sa * ce, se),
            sun_colour,
            sky_colour,
            direct,
            haze: dice.range(0.0, 1.0) * dice.range(0.0, 1.0) * 0.0022,
            haze_colour: v3(0.72, 0.78, 0.86) * 1.1,
            softness: if kind == 1 { 0.9 } else { dice.range(0.1, 0.3) },
        }
    }
}
