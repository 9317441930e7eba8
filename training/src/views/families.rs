//! The degradations themselves.

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Family, View};

pub(super) fn block(severity: f32) -> u32 {
    1 + (15.0 * severity).round() as u32
}

pub(super) fn sigma(severity: f32) -> f32 {
    8.0 * severity
}

pub(super) fn smear(severity: f32) -> f32 {
    1.0 + 39.0 * severity
}

pub(super) fn radius(severity: f32) -> f32 {
    14.0 * severity
}

pub(super) fn apply(view: &View, image: &RgbImage) -> RgbImage {
    let mut rng = ChaCha8Rng::seed_from_u64(view.seed);
    let s = view.severity;
    match view.family {
        Family::Pixelate => pixelate(image, block(s)),
        Family::GaussianBlur => imageops::fast_blur(image, sigma(s).max(0.05)),
        Family::MotionBlur => motion(image, smear(s), view.angle_radians),
        Family::Noise => {
            let deviation = 0.3 * 255.0 * s;
            each(image, |v, _| v + deviation * normal(&mut rng))
        }
        Family::Jpeg => jpeg(image, (40.0 - 38.0 * s).round().clamp(1.0, 40.0) as u8),
        Family::Haze => {
            let through = 1.0 - 0.92 * s;
            let veil = [218.0, 222.0, 228.0];
            each(image, |v, c| v * through + veil[c] * (1.0 - through))
        }
        Family::LowLight => low_light(image, s, &mut rng),
        Family::Rain => rain(image, s, view.angle_radians, &mut rng),
        Family::Defocus => defocus(image, radius(s)),
    }
}

fn each(image: &RgbImage, mut change: impl FnMut(f32, usize) -> f32) -> RgbImage {
    let mut out = image.clone();
    for pixel in out.pixels_mut() {
        for (channel, value) in pixel.0.iter_mut().enumerate() {
            *value = change(f32::from(*value), channel).round().clamp(0.0, 255.0) as u8;
        }
    }
    out
}

/// Sum of four uniforms, scaled to unit deviation: close enough to a Gaussian, and the same on every machine.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let bits: u64 = rng.random();
    let sum: f32 = (0..4).map(|i| ((bits >> (16 * i)) & 0xffff) as f32 / 65_535.0 - 0.5).sum();
    sum * 1.732_050_8
}

fn pixelate(image: &RgbImage, block: u32) -> RgbImage {
    let (w, h) = image.dimensions();
    let small = imageops::resize(image, (w / block).max(1), (h / block).max(1), FilterType::Triangle);
    imageops::resize(&small, w, h, FilterType::Nearest)
}

fn motion(image: &RgbImage, length: f32, angle: f32) -> RgbImage {
    let (sin, cos) = angle.sin_cos();
    let steps = (length.ceil() as i32).max(1);
    let offsets: Vec<(i32, i32)> = (0..steps)
        .map(|i| {
            let t = (i as f32 + 0.5) / steps as f32 * length - length / 2.0;
            ((t * cos).round() as i32, (t * sin).round() as i32)
        })
        .collect();
    mean_of(image, &offsets)
}

/// Mean over shifted copies, edges repeated.
fn mean_of(image: &RgbImage, offsets: &[(i32, i32)]) -> RgbImage {
    let (w, h) = (image.width() as i32, image.height() as i32);
    let raw = image.as_raw();
    let mut sums = vec![0u32; raw.len()];
    for (dx, dy) in offsets {
        for y in 0..h {
            let from = (y + dy).clamp(0, h - 1) * w;
            let row = &mut sums[(y * w * 3) as usize..((y + 1) * w * 3) as usize];
            for (x, sum) in row.chunks_exact_mut(3).enumerate() {
                let at = ((from + (x as i32 + dx).clamp(0, w - 1)) * 3) as usize;
                for (s, v) in sum.iter_mut().zip(&raw[at..at + 3]) {
                    *s += u32::from(*v);
                }
            }
        }
    }
    let n = offsets.len().max(1) as u32;
    let mut out = image.clone();
    for (value, sum) in out.as_flat_samples_mut().samples.iter_mut().zip(sums) {
        *value = ((sum + n / 2) / n) as u8;
    }
    out
}

fn jpeg(image: &RgbImage, quality: u8) -> RgbImage {
    let mut bytes = Vec::new();
    let coded = JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(image).is_ok();
    match image::load_from_memory(&bytes) {
        Ok(decoded) if coded => decoded.into_rgb8(),
        // The encoder takes every RGB picture that has pixels; an empty one stays as it is.
        _ => image.clone(),
    }
}

fn low_light(image: &RgbImage, severity: f32, rng: &mut ChaCha8Rng) -> RgbImage {
    let exposure = 1.0 - 0.96 * severity;
    each(image, |v, _| {
        let light = v * exposure;
        // Shot noise grows with the root of the light, read noise with the gain that the dark asks for.
        let deviation = severity * (0.35 * light.max(0.0) + 16.0).sqrt();
        light + deviation * normal(rng)
    })
}

fn rain(image: &RgbImage, severity: f32, angle: f32, rng: &mut ChaCha8Rng) -> RgbImage {
    let (w, h) = image.dimensions();
    let mut light = vec![0f32; (w * h) as usize];
    let drops = (severity * 0.012 * (w * h) as f32) as u32;
    // Steep, never level.
    let slope = (angle - std::f32::consts::FRAC_PI_2) * 0.4;
    for _ in 0..drops {
        let (x, y) = (rng.random::<f32>() * w as f32, rng.random::<f32>() * h as f32);
        let length = rng.random_range(8.0..16.0 + 24.0 * severity);
        let strength = rng.random_range(0.25..0.75f32);
        for step in 0..length as u32 {
            let (px, py) = (x + step as f32 * slope.sin(), y + step as f32 * slope.cos());
            if px >= 0.0 && py >= 0.0 && (px as u32) < w && (py as u32) < h {
                let at = (py as u32 * w + px as u32) as usize;
                light[at] = light[at].max(strength);
            }
        }
    }
    let veil = 0.35 * severity;
    let mut out = image.clone();
    for (pixel, light) in out.pixels_mut().zip(light) {
        let Rgb(values) = pixel;
        for v in values {
            let veiled = f32::from(*v) * (1.0 - veil) + 190.0 * veil;
            *v = (veiled + (235.0 - veiled) * light).round().clamp(0.0, 255.0) as u8;
        }
    }
    out
}

fn defocus(image: &RgbImage, radius: f32) -> RgbImage {
    let reach = radius.ceil() as i32;
    // A disc of at most about 150 samples: on a wide disc every second or third pixel is enough.
    let stride = (1 + reach / 6).max(1);
    let mut offsets = vec![(0, 0)];
    for dy in (-reach..=reach).step_by(stride as usize) {
        for dx in (-reach..=reach).step_by(stride as usize) {
            if (dx, dy) != (0, 0) && ((dx * dx + dy * dy) as f32) <= radius * radius {
                offsets.push((dx, dy));
            }
        }
    }
    let disc = mean_of(image, &offsets);
    // The gaps of the sparse disc leave ripples of that period.
    if stride > 1 { imageops::fast_blur(&disc, stride as f32 * 0.5) } else { disc }
}
