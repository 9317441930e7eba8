//! The first line of defence: classical statistics that refuse a frame before any network runs.
//!
//! Light, colour and broken rows come from one pass over sparse columns; sharpness and noise from small patches at full resolution.
//! Sharpness is judged by the *best* parts of the frame, and not at all where there is no texture, so that a desert or a lake is not taken for a defect.
//! The defaults refuse none of the clean colour photographs they were set on, at the price of letting mild defects through to the model.

mod histogram;
mod patches;
mod samples;
mod statistics;

use crate::policy::advice;
use image::RgbImage;
use kestrel_link::{Refusal, Verdict};
use serde::{Deserialize, Serialize};
pub use statistics::{GateScratch, Statistics};

/// Bounds of the gate; a frame beyond one of them is refused. Light and colour are in 0..=1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateThresholds {
    /// Too dark below this [`Statistics::high_luma`].
    pub least_high_luma: f32,
    /// Overexposed above this [`Statistics::clipped_share`].
    pub most_clipped_share: f32,
    /// Truncated above this [`Statistics::constant_bottom`], unless the top is as constant (a letterbox).
    pub most_constant_bottom: f32,
    /// Torn above this [`Statistics::tear`].
    pub most_tear: f32,
    /// Frozen when a frame repeats the one before it this many times; 0 never.
    pub most_repeats: u32,
    /// Noisy above this [`Statistics::noise_levels`] …
    pub most_noise_levels: f32,
    /// … when [`Statistics::whiteness`] reaches this too: foliage is rough but not white.
    pub least_noise_whiteness: f32,
    /// Hazy below this contrast, [`Statistics::high_luma`] − [`Statistics::low_luma`] …
    pub least_contrast: f32,
    /// … when [`Statistics::dark_channel`] reaches this too.
    pub least_haze_dark_channel: f32,
    /// No colour picture below this [`Statistics::chroma`].
    pub least_chroma: f32,
    /// False-colour infrared above this [`Statistics::magenta`] …
    pub most_magenta: f32,
    /// … when [`Statistics::warm_share`] does not exceed this: red earth is red and warm.
    pub most_false_colour_warm_share: f32,
    /// Blurred below this [`Statistics::sharpness`]: frames with a long side under 900 pixels, and larger ones.
    pub least_sharpness: [f32; 2],
    /// Blurred by motion below this [`Statistics::least_sharpness`] …
    pub least_directional_sharpness: f32,
    /// … when [`Statistics::sharpness`] is this many times as much: a blur alike in all directions has the bound above.
    pub least_motion_ratio: f32,
    /// Blurred (into blocks) above this [`Statistics::repeated_share`].
    pub most_repeated_share: f32,
}

impl Default for GateThresholds {
    fn default() -> Self {
        Self {
            least_high_luma: 0.12,
            most_clipped_share: 0.4,
            most_constant_bottom: 0.06,
            most_tear: 3.0,
            most_repeats: 5,
            most_noise_levels: 18.0,
            least_noise_whiteness: 0.5,
            least_contrast: 0.2,
            least_haze_dark_channel: 0.5,
            least_chroma: 0.03,
            most_magenta: 0.047,
            most_false_colour_warm_share: 0.15,
            least_sharpness: [0.42, 0.33],
            least_directional_sharpness: 0.55,
            least_motion_ratio: 1.12,
            most_repeated_share: 0.86,
        }
    }
}

impl GateThresholds {
    /// Every bound moved by a share of itself, so that more frames pass (`share` above 0) or fewer (below 0).
    ///
    /// The frames that pass at one share pass at every greater one: a single number orders all gates of this family.
    /// `share` is held to -0.9..=1; repeated frames are no matter of a bound and stay as they are.
    #[must_use]
    pub fn loosened(&self, share: f32) -> Self {
        let share = share.clamp(-0.9, 1.0);
        let (more, less) = (1.0 + share, 1.0 - share);
        Self {
            least_high_luma: self.least_high_luma * less,
            most_clipped_share: self.most_clipped_share * more,
            most_constant_bottom: self.most_constant_bottom * more,
            most_tear: self.most_tear * more,
            most_repeats: self.most_repeats,
            most_noise_levels: self.most_noise_levels * more,
            least_noise_whiteness: self.least_noise_whiteness * more,
            least_contrast: self.least_contrast * less,
            least_haze_dark_channel: self.least_haze_dark_channel * more,
            least_chroma: self.least_chroma * less,
            most_magenta: self.most_magenta * more,
            most_false_colour_warm_share: self.most_false_colour_warm_share * less,
            least_sharpness: self.least_sharpness.map(|least| least * less),
            least_directional_sharpness: self.least_directional_sharpness * less,
            least_motion_ratio: self.least_motion_ratio * more,
            most_repeated_share: self.most_repeated_share * more,
        }
    }
}

/// What the gate remembers of the frames before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GateHistory {
    /// Hash of what was read of the last frame.
    pub fingerprint: Option<u64>,
    /// How many frames in a row have repeated the one before.
    pub repeats: u32,
}

/// What the gate says of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct GateReport {
    /// What was measured.
    pub statistics: Statistics,
    /// Why the frame is refused; `None` lets it pass.
    pub verdict: Option<Verdict>,
    /// The numbers behind the verdict, each beside the bound it broke; empty when the frame passes.
    pub evidence: Vec<(String, f32)>,
    /// To hand in with the next frame.
    pub history: GateHistory,
}

impl GateReport {
    /// The refusal to answer with; `None` when the frame passes.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        let verdict = self.verdict.clone()?;
        let advice = advice(&verdict);
        Some(Refusal { verdict, evidence: self.evidence.clone(), advice })
    }
}

/// Judges a frame. A frame without pixels is refused as truncated.
#[must_use]
pub fn gate(frame: &RgbImage, thresholds: &GateThresholds, history: &GateHistory) -> GateReport {
    measure(frame, &mut GateScratch::default()).judge(thresholds, history)
}

/// What the gate reads of a frame: a function of that frame alone, so that it may be read before it is known which frame
/// comes before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    width: u32,
    height: u32,
    /// Statistics and the hash of what was read; `None` without pixels.
    read: Option<(Statistics, u64)>,
}

/// Reads a frame, the part of [`gate`](gate()) that takes time; `scratch` is memory to work in.
#[must_use]
pub fn measure(frame: &RgbImage, scratch: &mut GateScratch) -> Measured {
    let (width, height) = frame.dimensions();
    let read = (width > 0 && height > 0).then(|| statistics::measure(frame, scratch));
    Measured { width, height, read }
}

impl Measured {
    /// Judges the frame after those before it, as [`gate`](gate()) does.
    #[must_use]
    pub fn judge(&self, thresholds: &GateThresholds, history: &GateHistory) -> GateReport {
        let Self { width, height, read } = *self;
        let owned = |(name, value): (&'static str, f32)| (name.to_owned(), value);
        let Some((statistics, fingerprint)) = read else {
            let numbers = [("width_pixels", width as f32), ("height_pixels", height as f32)];
            return GateReport {
                statistics: Statistics::default(),
                verdict: Some(Verdict::Truncated),
                evidence: numbers.into_iter().map(owned).collect(),
                history: *history,
            };
        };
        let repeats = if history.fingerprint == Some(fingerprint) { history.repeats.saturating_add(1) } else { 0 };
        let history = GateHistory { fingerprint: Some(fingerprint), repeats };
        let large = usize::from(width.max(height) >= statistics::LARGE_SIDE);
        let (verdict, evidence) = match judge(&statistics, repeats, large, thresholds) {
            Some((verdict, numbers)) => (Some(verdict), numbers.into_iter().map(owned).collect()),
            None => (None, Vec::new()),
        };
        GateReport { statistics, verdict, evidence, history }
    }
}

/// What the gate says of a frame of this size by its statistics alone, whatever came before it: for those who set bounds.
#[must_use]
pub fn verdict(statistics: &Statistics, size: (u32, u32), thresholds: &GateThresholds) -> Option<Verdict> {
    let large = usize::from(size.0.max(size.1) >= statistics::LARGE_SIDE);
    judge(statistics, 0, large, thresholds).map(|(verdict, _)| verdict)
}

/// A picture of blocks has a jump at every row of blocks; from this [`Statistics::repeated_share`] on a jump is no tear.
const REPEATED_BY_BLOCKS: f32 = 0.78;

type Finding = Option<(Verdict, Vec<(&'static str, f32)>)>;

/// The first defect found. Those that falsify the statistics of others come first: without light there is neither colour nor sharpness.
fn judge(statistics: &Statistics, repeats: u32, large: usize, bounds: &GateThresholds) -> Finding {
    light(statistics, bounds)
        .or_else(|| delivery(statistics, repeats, bounds))
        .or_else(|| air_and_noise(statistics, bounds))
        .or_else(|| colour(statistics, bounds))
        .or_else(|| sharpness(statistics, large, bounds))
        .or_else(|| tear(statistics, bounds))
}

fn light(statistics: &Statistics, bounds: &GateThresholds) -> Finding {
    if statistics.high_luma < bounds.least_high_luma {
        let numbers = vec![
            ("high_luma", statistics.high_luma),
            ("least_high_luma", bounds.least_high_luma),
            ("mean_luma", statistics.mean_luma),
        ];
        return Some((Verdict::TooDark, numbers));
    }
    if statistics.clipped_share > bounds.most_clipped_share {
        let numbers = vec![
            ("clipped_share", statistics.clipped_share),
            ("most_clipped_share", bounds.most_clipped_share),
            ("mean_luma", statistics.mean_luma),
        ];
        return Some((Verdict::Overexposed, numbers));
    }
    None
}

fn delivery(statistics: &Statistics, repeats: u32, bounds: &GateThresholds) -> Finding {
    let letterbox = statistics.constant_top > 0.5 * statistics.constant_bottom && statistics.constant_bottom < 0.5;
    if statistics.constant_bottom > bounds.most_constant_bottom && !letterbox {
        let numbers = vec![
            ("constant_bottom", statistics.constant_bottom),
            ("most_constant_bottom", bounds.most_constant_bottom),
        ];
        return Some((Verdict::Truncated, numbers));
    }
    if bounds.most_repeats > 0 && repeats >= bounds.most_repeats {
        let numbers = vec![("repeats", repeats as f32), ("most_repeats", bounds.most_repeats as f32)];
        return Some((Verdict::Frozen, numbers));
    }
    None
}

fn air_and_noise(statistics: &Statistics, bounds: &GateThresholds) -> Finding {
    if statistics.noise_levels > bounds.most_noise_levels && statistics.whiteness >= bounds.least_noise_whiteness {
        let numbers = vec![
            ("noise_levels", statistics.noise_levels),
            ("most_noise_levels", bounds.most_noise_levels),
            ("whiteness", statistics.whiteness),
        ];
        return Some((Verdict::Noisy, numbers));
    }
    let contrast = statistics.high_luma - statistics.low_luma;
    if contrast < bounds.least_contrast && statistics.dark_channel >= bounds.least_haze_dark_channel {
        let numbers = vec![
            ("contrast", contrast),
            ("least_contrast", bounds.least_contrast),
            ("dark_channel", statistics.dark_channel),
        ];
        return Some((Verdict::Hazy, numbers));
    }
    None
}

fn colour(statistics: &Statistics, bounds: &GateThresholds) -> Finding {
    if statistics.chroma < bounds.least_chroma {
        let numbers = vec![("chroma", statistics.chroma), ("least_chroma", bounds.least_chroma)];
        return Some((Verdict::WrongModality, numbers));
    }
    let cold = statistics.warm_share <= bounds.most_false_colour_warm_share;
    if statistics.magenta > bounds.most_magenta && cold {
        let numbers = vec![
            ("magenta", statistics.magenta),
            ("most_magenta", bounds.most_magenta),
            ("warm_share", statistics.warm_share),
        ];
        return Some((Verdict::WrongModality, numbers));
    }
    None
}

fn tear(statistics: &Statistics, bounds: &GateThresholds) -> Finding {
    let blocks = statistics.repeated_share.is_some_and(|share| share > REPEATED_BY_BLOCKS);
    let torn = statistics.tear > bounds.most_tear && !blocks;
    torn.then(|| (Verdict::Truncated, vec![("tear", statistics.tear), ("most_tear", bounds.most_tear)]))
}

fn sharpness(statistics: &Statistics, large: usize, bounds: &GateThresholds) -> Finding {
    let least = bounds.least_sharpness[large];
    if let Some(value) = statistics.sharpness.filter(|&value| value < least) {
        return Some((Verdict::Blurred, vec![("sharpness", value), ("least_sharpness", least)]));
    }
    let least = bounds.least_directional_sharpness;
    if let (Some(value), Some(mean)) = (statistics.least_sharpness, statistics.sharpness)
        && value < least
        && mean >= bounds.least_motion_ratio * value
    {
        let numbers =
            vec![("directional_sharpness", value), ("least_directional_sharpness", least), ("sharpness", mean)];
        return Some((Verdict::Blurred, numbers));
    }
    let most = bounds.most_repeated_share;
    if let Some(value) = statistics.repeated_share.filter(|&value| value > most) {
        return Some((Verdict::Blurred, vec![("repeated_share", value), ("most_repeated_share", most)]));
    }
    None
}
