//! The numbers the gate judges by.

use super::patches::{self, Patch};
use super::samples;
use image::RgbImage;

/// Frames with a side of this many pixels or more have bounds of their own: the model sees them made smaller, and their blur with them.
pub(super) const LARGE_SIDE: u32 = 900;

/// Sharpness compares pixels 4 and 8 apart (indices into the patches' distances): finer detail the model does not need.
const FINE: usize = 2;
const COARSE: usize = 3;

/// Whether a patch has texture is asked 16 pixels apart, where a strong blur still leaves some.
const WIDE: usize = 4;

/// Mean squared difference, in grey levels² beyond the noise, from which a patch has texture to judge sharpness by.
const TEXTURE: f32 = 30.0;

/// Fewest textured patches that say something about sharpness.
const FEWEST_TEXTURED: usize = 4;

/// Statistics of one frame. Light and colour are in 0..=1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Statistics {
    /// Mean luma.
    pub mean_luma: f32,
    /// Luma that 5 % of the pixels do not exceed.
    pub low_luma: f32,
    /// Luma that 95 % of the pixels do not exceed.
    pub high_luma: f32,
    /// Share of pixels with a luma of 250 or more of 255.
    pub clipped_share: f32,
    /// The least channel that 10 % of the pixels do not exceed: haze lifts it.
    pub dark_channel: f32,
    /// Spread between the channels that 99 % of the pixels do not exceed: 0 in a picture without colour.
    pub chroma: f32,
    /// Mean excess of red and blue over green: false-colour infrared has it, plants and earth in daylight have not.
    pub magenta: f32,
    /// Share of pixels with clearly more green than blue.
    pub warm_share: f32,
    /// Share of the height, from the bottom, that is one constant colour.
    pub constant_bottom: f32,
    /// The same from the top.
    pub constant_top: f32,
    /// Jump between two neighbouring rows over most of the width, relative to the rows around; 0 without one.
    pub tear: f32,
    /// Deviation of the noise in grey levels, by the quietest fifth of the patches.
    pub noise_levels: f32,
    /// Energy of differences between neighbours relative to pixels 4 apart: 1 for white noise, less for a picture.
    pub whiteness: f32,
    /// Share of pixels that equal their right neighbour in a typical textured patch; `None` without texture.
    pub repeated_share: Option<f32>,
    /// Energy of differences between pixels 4 apart relative to 8 apart in the sharpest tenth of the patches.
    /// 1/4 where nothing is sharp at that scale, 1/2 for edges; `None` without texture.
    pub sharpness: Option<f32>,
    /// The same along the least sharp of four directions: low when the camera moved.
    pub least_sharpness: Option<f32>,
}

/// Buffers of the gate that live from frame to frame.
#[derive(Debug, Default)]
pub struct GateScratch {
    rows: Vec<samples::Row>,
    patches: Vec<Patch>,
}

/// Measures a frame of at least one pixel; the second value is the fingerprint of what was read.
pub(super) fn measure(frame: &RgbImage, scratch: &mut GateScratch) -> (Statistics, u64) {
    let GateScratch { rows, patches } = scratch;
    let samples = samples::read(frame, rows);
    patches::read(frame, patches);
    let patches = patches.as_slice();
    let noise = percentile(patches.iter().map(|patch| patch.noise), 0.2).unwrap_or(0.0);
    // Independent noise of deviation s adds 2s² to the mean squared difference at any distance.
    let floor = 2.0 * noise * noise;
    let repeated = patches.iter().filter(|patch| textured(patch.axis_energy(WIDE), floor)).map(|patch| patch.repeated);
    let statistics = Statistics {
        mean_luma: samples.luma.mean(),
        low_luma: samples.luma.percentile(0.05),
        high_luma: samples.luma.percentile(0.95),
        clipped_share: samples.luma.share_from(250),
        dark_channel: samples.darkest.percentile(0.1),
        chroma: samples.chroma.percentile(0.99),
        magenta: samples.magenta,
        warm_share: samples.warm_share,
        constant_bottom: samples.constant_bottom,
        constant_top: samples.constant_top,
        tear: samples.tear,
        noise_levels: noise,
        whiteness: percentile(patches.iter().map(|patch| patch.axis_energy(0) / patch.axis_energy(2).max(0.1)), 0.5)
            .unwrap_or(0.0),
        repeated_share: percentile(repeated, 0.5),
        sharpness: sharpest(patches, floor, Patch::axis_energy),
        least_sharpness: least_sharpness(patches, floor),
    };
    (statistics, samples.fingerprint)
}

fn textured(coarse: f32, floor: f32) -> bool {
    coarse - floor > TEXTURE + floor
}

/// The sharpness that the best tenth of the textured patches reaches; `None` when too few have texture.
fn sharpest(patches: &[Patch], floor: f32, energy: impl Fn(&Patch, usize) -> f32) -> Option<f32> {
    let is_textured = |patch: &&Patch| textured(energy(patch, WIDE), floor);
    if patches.iter().filter(is_textured).count() < FEWEST_TEXTURED {
        return None;
    }
    let ratio = |patch: &Patch| (energy(patch, FINE) - floor).max(0.0) / (energy(patch, COARSE) - floor).max(1.0);
    percentile(patches.iter().filter(is_textured).map(ratio), 0.9)
}

fn least_sharpness(patches: &[Patch], floor: f32) -> Option<f32> {
    (0..patches::DIRECTIONS.len())
        .filter_map(|direction| sharpest(patches, floor, |patch, lag| patch.energy[direction][lag]))
        .min_by(f32::total_cmp)
}

/// The value that a `share` of all patches' does not exceed; `None` of nothing.
fn percentile(values: impl Iterator<Item = f32>, share: f32) -> Option<f32> {
    let (mut all, mut count) = ([0.0; patches::MOST], 0);
    for (place, value) in all.iter_mut().zip(values) {
        *place = value;
        count += 1;
    }
    let values = &mut all[..count];
    let wanted = (values.len().checked_sub(1)? as f32 * share).round() as usize;
    let (_, value, _) = values.select_nth_unstable_by(wanted, f32::total_cmp);
    Some(*value)
}
