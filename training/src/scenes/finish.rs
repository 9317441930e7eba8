//! Lens, sensor and the camera's own picture processing.

use super::noise::hash;
use super::random::Dice;
use super::vector::{V3, v3};
use image::{Rgb, RgbImage};
use std::sync::OnceLock;

/// sRGB transfer over 4096 steps of linear light.
fn transfer() -> &'static [f32] {
    static CURVE: OnceLock<Vec<f32>> = OnceLock::new();
    CURVE.get_or_init(|| {
        (0..4097)
            .map(|i| {
                let x = i as f32 / 4096.0;
                if x <= 0.003_130_8 { 12.92 * x } else { 1.055 * libm::powf(x, 1.0 / 2.4) - 0.055 }
            })
            .collect()
    })
}

fn encode(x: f32) -> f32 {
    let x = x.clamp(0.0, 1.0) * 4096.0;
    let i = x as usize;
    let curve = transfer();
    let (a, b) = (curve[i], curve[(i + 1).min(4096)]);
    a + (b - a) * (x - i as f32)
}

fn luminance(c: V3) -> f32 {
    0.2126 * c.x + 0.7152 * c.y + 0.0722 * c.z
}

/// Settings of one exposure.
#[derive(Debug, Clone)]
pub(super) struct Sensor {
    exposure: f32,
    balance: V3,
    blur: f32,
    sharpening: f32,
    vignette: f32,
    shot: f32,
    read: f32,
    contrast: f32,
    saturation: f32,
    seed: u32,
}

impl Sensor {
    pub(super) fn draw(dice: &mut Dice, frame: u32) -> Sensor {
        let warm = dice.normal() * 0.035;
        let noisy = dice.range(0.0, 1.0);
        Sensor {
            exposure: libm::expf(dice.normal() * 0.16),
            balance: v3(1.0 + warm, 1.0 + dice.normal() * 0.008, 1.0 - warm),
            blur: dice.range(0.15, 0.42),
            sharpening: dice.range(0.0, 0.55),
            vignette: dice.range(0.0, 0.28),
            shot: 0.004 + 0.018 * noisy * noisy,
            read: 0.001 + 0.004 * noisy * noisy,
            contrast: dice.range(0.80, 1.20),
            saturation: dice.range(0.66, 0.98),
            seed: (dice.unit() * 65_536.0) as u32 ^ frame.wrapping_mul(0x9E37_79B1),
        }
    }

    /// Turns radiance into an 8-bit picture of `size` columns, no higher than wide.
    pub(super) fn expose(&self, mut light: Vec<V3>, size: usize) -> RgbImage {
        let height = light.len() / size.max(1);
        let mean = light.iter().map(|c| luminance(*c).min(2.0)).sum::<f32>() / light.len().max(1) as f32;
        // Metered between the mean and a fixed level: dark scenes stay darker than bright ones.
        let gain = self.exposure * 0.245 / (mean * 0.75 + 0.10);
        soften(&mut light, size, self.blur);
        let (half, middle) = (size as f32 * 0.5, height as f32 * 0.5);
        for (i, c) in light.iter_mut().enumerate() {
            let (x, y) = (i % size, i / size);
            let (dx, dy) = ((x as f32 - half) / half, (y as f32 - middle) / half);
            let r2 = (dx * dx + dy * dy) * 0.5;
            let lit = c.times(self.balance) * (gain * (1.0 - self.vignette * r2 * (0.5 + 0.5 * r2)));
            *c = v3(self.photon(lit.x, x, y, 0), self.photon(lit.y, x, y, 1), self.photon(lit.z, x, y, 2));
        }
        self.process(&light, size)
    }

    /// Adds shot and read noise.
    fn photon(&self, value: f32, x: usize, y: usize, channel: u32) -> f32 {
        let h = hash(x as u32, y as u32 ^ (channel << 16), self.seed);
        // Four bytes of one hash summed: close enough to normal, deviation 0.58.
        let n = ((h & 255) + (h >> 8 & 255) + (h >> 16 & 255) + (h >> 24)) as f32 * (1.0 / 255.0) - 2.0;
        value + n * 1.73 * (self.shot * value.max(0.0).sqrt() + self.read)
    }

    fn process(&self, light: &[V3], size: usize) -> RgbImage {
        // Luma keeps the detail and is sharpened; chroma is smoothed as a coded picture's is.
        let coded: Vec<V3> = light.iter().map(|c| self.tone(*c)).collect();
        let mut smooth = coded.clone();
        soften(&mut smooth, size, 0.5);
        let mut soft = smooth.clone();
        soften(&mut soft, size, 0.6);
        let height = light.len() / size.max(1);
        RgbImage::from_fn(size as u32, height as u32, |x, y| {
            let i = y as usize * size + x as usize;
            let luma = coded[i].x + self.sharpening * (coded[i].x - smooth[i].x);
            let (cb, cr) = (soft[i].y * self.saturation, soft[i].z * self.saturation);
            let r = luma + 1.402 * cr;
            let g = luma - 0.344_14 * cb - 0.714_14 * cr;
            let b = luma + 1.772 * cb;
            Rgb([r, g, b].map(|v| (v * 255.0 + 0.5).clamp(0.0, 255.0) as u8))
        })
    }

    /// Linear RGB to luma and chroma after the tone curve.
    fn tone(&self, c: V3) -> V3 {
        // A shoulder rolls highlights off instead of clipping them.
        let roll = |v: f32| {
            let v = v.max(0.0);
            if v > 0.6 { 0.6 + 0.4 * (1.0 - 1.0 / (1.0 + (v - 0.6) / 0.4)) } else { v }
        };
        let curve = |v: f32| {
            let e = encode(roll(v));
            let s = e * e * (3.0 - 2.0 * e);
            (e + (s - e) * (self.contrast - 0.8)).clamp(0.0, 1.0)
        };
        let (r, g, b) = (curve(c.x), curve(c.y), curve(c.z));
        let luma = 0.299 * r + 0.587 * g + 0.114 * b;
        v3(luma, (b - luma) * 0.564, (r - luma) * 0.713)
    }
}

/// Separable three-tap blur with side weight `amount / 2` each.
fn soften(light: &mut [V3], size: usize, amount: f32) {
    let height = light.len() / size.max(1);
    let (side, centre) = (amount * 0.5, 1.0 - amount);
    let mut row = vec![V3::default(); size];
    for y in 0..height {
        let line = &mut light[y * size..(y + 1) * size];
        row.copy_from_slice(line);
        for x in 0..size {
            let (l, r) = (row[x.saturating_sub(1)], row[(x + 1).min(size - 1)]);
            line[x] = row[x] * centre + (l + r) * side;
        }
    }
    let mut above = light[..size].to_vec();
    for y in 0..height {
        for x in 0..size {
            let here = light[y * size + x];
            let below = light[(y + 1).min(height - 1) * size + x];
            light[y * size + x] = here * centre + (above[x] + below) * side;
            above[x] = here;
        }
    }
}
