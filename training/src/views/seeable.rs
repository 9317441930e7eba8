//! When a degraded target counts as unseeable.
//!
//! Two limits: its short side is under two details of the view's resolution, or its contrast to noise is under 3.
//! Contrast is the deviation of its clean pixels from the mean of its surround, times the gain that the degradation left
//! (a linear fit of degraded on clean); noise is what that fit leaves over, averaged down to the coarsest grid on which
//! the target could still be recognised, eight cells across its short side.
//! A limit that the clean view already misses does not count: then it was not the degradation.

use image::RgbImage;

use super::{Family, View};
use crate::datasets::{Result, raster};
use crate::sample::Picture;

/// What is left of an instance in a view.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sight {
    /// Short side (for a smear: extent along it) in details of the view's resolution; infinite when resolution is kept.
    pub details: f32,
    /// Contrast to noise in the view.
    pub contrast_to_noise: f32,
    /// Contrast to noise in the clean picture.
    pub clean_contrast_to_noise: f32,
}

/// Details that the short side must span.
pub const MIN_DETAILS: f32 = 2.0;
/// Contrast to noise below which nothing is seen.
pub const MIN_CONTRAST_TO_NOISE: f32 = 3.0;
/// Noise that every camera has, in 8-bit steps.
const SENSOR_NOISE: f32 = 2.0;

impl Sight {
    /// The rule.
    pub fn unseeable(&self) -> bool {
        let faint = self.contrast_to_noise < MIN_CONTRAST_TO_NOISE;
        let by_view = self.contrast_to_noise < 0.6 * self.clean_contrast_to_noise;
        self.details < MIN_DETAILS || (faint && by_view)
    }
}

/// Judges one instance of a clean picture in its degraded view.
///
/// # Errors
/// When the instance's mask does not decode.
pub fn sight(picture: &Picture, degraded: &RgbImage, view: &View, instance: usize) -> Result<Sight> {
    let size = picture.image.width();
    let [x, y, w, h] = picture.instances[instance].bounding_box;
    let resolution = view.resolution_pixels();
    let extent = if view.family == Family::MotionBlur {
        let (sin, cos) = view.angle_radians.sin_cos();
        (w * cos.abs()).max(h * sin.abs()).max(w.min(h))
    } else {
        w.min(h)
    };
    // Below a pixel and a half a blur or block takes nothing that the camera had not taken already.
    let details = if resolution > 1.5 { extent / resolution } else { f32::INFINITY };
    let bits = raster::bits(picture, instance)?;
    let margin = (0.35 * w.max(h)).clamp(4.0, 24.0);
    let from = |v: f32| (v - margin).max(0.0) as u32;
    let to = |v: f32| ((v + margin).ceil().max(1.0) as u32).min(size);
    let (x0, y0, x1, y1) = (from(x), from(y), to(x + w), to(y + h));
    let mut own = Vec::new();
    let mut around = Vec::new();
    for py in y0..y1 {
        for px in x0..x1 {
            let inside_box = (px as f32) >= x && (px as f32) < x + w && (py as f32) >= y && (py as f32) < y + h;
            let inside = bits.as_ref().map_or(inside_box, |b| b[(py * size + px) as usize]);
            let pair = (picture.image.get_pixel(px, py).0, degraded.get_pixel(px, py).0);
            if inside { own.push(pair) } else { around.push(pair) }
        }
    }
    let (contrast, gain, residual) = contrast(&own, &around);
    // Blurs and blocks change detail, not noise: what the fit leaves over there is lost detail.
    let added = if resolution > 0.0 { 0.0 } else { residual };
    // Compression errors are blocks themselves and do not average out.
    let cell = if view.family == Family::Jpeg { 1.0 } else { (w.min(h) / 8.0).max(1.0) };
    let noise = |added: f32| SENSOR_NOISE.hypot(added) / cell;
    let gain = if resolution > 0.0 { 1.0 } else { gain.clamp(0.0, 1.0) };
    Ok(Sight {
        details,
        contrast_to_noise: gain * contrast / noise(added),
        clean_contrast_to_noise: contrast / noise(0.0),
    })
}

type Pair = ([u8; 3], [u8; 3]);

/// Clean contrast against the surround, and gain and residual of degraded on clean over both.
fn contrast(own: &[Pair], around: &[Pair]) -> (f32, f32, f32) {
    let n = around.len().max(1) as f32;
    let ground: [f32; 3] = [0, 1, 2].map(|c| around.iter().map(|(a, _)| f32::from(a[c])).sum::<f32>() / n);
    let from_ground = |p: &[u8; 3]| (0..3).map(|c| (f32::from(p[c]) - ground[c]).powi(2)).sum::<f32>() / 3.0;
    let contrast = (own.iter().map(|(a, _)| from_ground(a)).sum::<f32>() / own.len().max(1) as f32).sqrt();
    let all = || own.iter().chain(around).flat_map(|(a, b)| (0..3).map(|c| (f64::from(a[c]), f64::from(b[c]))));
    let count = (3 * (own.len() + around.len())).max(1) as f64;
    let (sa, sb) = all().fold((0.0, 0.0), |(sa, sb), (a, b)| (sa + a, sb + b));
    let (ma, mb) = (sa / count, sb / count);
    let (mut vaa, mut vab, mut vbb) = (0.0, 0.0, 0.0);
    for (a, b) in all() {
        vaa += (a - ma) * (a - ma);
        vab += (a - ma) * (b - mb);
        vbb += (b - mb) * (b - mb);
    }
    let gain = if vaa > 1e-9 { vab / vaa } else { 0.0 };
    let residual = ((vbb - gain * vab).max(0.0) / count).sqrt();
    (contrast, gain as f32, residual as f32)
}

/// For every instance, whether the view hides it.
///
/// # Errors
/// When a mask does not decode.
pub fn unseeable(picture: &Picture, degraded: &RgbImage, view: &View) -> Result<Vec<bool>> {
    (0..picture.instances.len()).map(|i| Ok(sight(picture, degraded, view, i)?.unseeable())).collect()
}
