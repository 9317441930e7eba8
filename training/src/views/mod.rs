//! Degraded views: what a real frame suffers, with a severity, and when a target can no longer be seen.
//!
//! Severity 0 is the identity; 1 is the worst that is drawn.
//! Two families, rain and defocus, are held out of all training: they test that refusal is not recognition of our own
//! generator.

mod families;
mod seeable;

#[cfg(test)]
mod tests;

use image::RgbImage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use seeable::{MIN_CONTRAST_TO_NOISE, MIN_DETAILS, Sight, sight, unseeable};

/// How a view is degraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Blocks of up to 16 px.
    Pixelate,
    /// σ up to 8 px.
    GaussianBlur,
    /// A straight smear of up to 40 px.
    MotionBlur,
    /// Gaussian, σ up to 0.3 of full scale.
    Noise,
    /// Block-transform compression, quality 40 down to 2.
    Jpeg,
    /// Contrast lost to a bright veil, down to 8 %.
    Haze,
    /// Exposure down to 4 %, with shot and read noise.
    LowLight,
    /// Held out: bright slanted streaks and a veil.
    Rain,
    /// Held out: a disc of up to 14 px radius.
    Defocus,
}

impl Family {
    /// The families that training may use.
    pub const TRAIN: [Self; 7] =
        [Self::Pixelate, Self::GaussianBlur, Self::MotionBlur, Self::Noise, Self::Jpeg, Self::Haze, Self::LowLight];
    /// The families that training never sees.
    pub const HELD_OUT: [Self; 2] = [Self::Rain, Self::Defocus];

    /// The family of a name in samples and tables.
    pub fn named(name: &str) -> Option<Self> {
        Self::TRAIN.into_iter().chain(Self::HELD_OUT).find(|family| family.name() == name)
    }

    /// What one says of a view that it degrades.
    pub fn adjective(self) -> &'static str {
        match self {
            Self::Pixelate => "coarse",
            Self::GaussianBlur => "blurred",
            Self::MotionBlur => "smeared",
            Self::Noise => "noisy",
            Self::Jpeg => "blocky",
            Self::Haze => "hazy",
            Self::LowLight => "dark",
            Self::Rain => "rainy",
            Self::Defocus => "soft",
        }
    }

    /// Its name in samples and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pixelate => "pixelate",
            Self::GaussianBlur => "gaussian_blur",
            Self::MotionBlur => "motion_blur",
            Self::Noise => "noise",
            Self::Jpeg => "jpeg",
            Self::Haze => "haze",
            Self::LowLight => "low_light",
            Self::Rain => "rain",
            Self::Defocus => "defocus",
        }
    }
}

/// A degradation with everything random about it drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// Which family.
    pub family: Family,
    /// 0..=1.
    pub severity: f32,
    /// Direction of a smear or of rain.
    pub angle_radians: f32,
    /// Seed of its noise.
    pub seed: u64,
}

impl View {
    /// Draws direction and noise.
    pub fn draw(family: Family, severity: f32, rng: &mut ChaCha8Rng) -> Self {
        let angle_radians = rng.random_range(0.0..std::f32::consts::PI);
        Self { family, severity: severity.clamp(0.0, 1.0), angle_radians, seed: rng.random() }
    }

    /// Draws a training view: any trained family, severities spread evenly.
    pub fn draw_training(rng: &mut ChaCha8Rng) -> Self {
        let family = Family::TRAIN[rng.random_range(0..Family::TRAIN.len())];
        let severity = rng.random_range(0.1..1.0);
        Self::draw(family, severity, rng)
    }

    /// The degraded picture; the same for the same view.
    pub fn apply(&self, image: &RgbImage) -> RgbImage {
        if self.severity <= 0.0 { image.clone() } else { families::apply(self, image) }
    }

    /// Smallest detail that survives, in pixels along [`View::angle_radians`] for a smear and in every direction
    /// otherwise: block side, full width at half maximum of the blur, half the smear, diameter of the disc.
    pub fn resolution_pixels(&self) -> f32 {
        match self.family {
            Family::Pixelate => families::block(self.severity) as f32,
            Family::GaussianBlur => 2.355 * families::sigma(self.severity),
            Family::MotionBlur => families::smear(self.severity) / 2.0,
            Family::Defocus => 2.0 * families::radius(self.severity),
            Family::Noise | Family::Jpeg | Family::Haze | Family::LowLight | Family::Rain => 0.0,
        }
    }
}
