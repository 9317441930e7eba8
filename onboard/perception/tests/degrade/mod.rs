//! Degradations of clean frames with a severity in 0..=1, to hold the gate against.

use image::{Rgb, RgbImage, imageops};

/// A way to spoil a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Dark,
    Overexposed,
    Blur,
    Motion,
    Pixelate,
    Noise,
    Haze,
    Truncate,
    Tear,
    Grey,
}

/// All families.
pub(crate) const FAMILIES: [Family; 10] = [
    Family::Dark,
    Family::Overexposed,
    Family::Blur,
    Family::Motion,
    Family::Pixelate,
    Family::Noise,
    Family::Haze,
    Family::Truncate,
    Family::Tear,
    Family::Grey,
];

/// The frame, spoilt; lengths are relative to a frame whose long side is 512 pixels.
pub(crate) fn degrade(frame: &RgbImage, family: Family, severity: f32, seed: u64) -> RgbImage {
    if severity <= 0.0 {
        return frame.clone();
    }
    let scale = frame.width().max(frame.height()) as f32 / 512.0;
    match family {
        Family::Dark => dark(frame, severity, seed),
        Family::Overexposed => map(frame, |value| value * (1.0 + 6.0 * severity) + 90.0 * severity),
        Family::Blur => imageops::fast_blur(frame, (6.0 * severity * scale).max(0.1)),
        Family::Motion => motion(frame, (40.0 * severity * scale) as i64),
        Family::Pixelate => pixelate(frame, 1.0 / (1.0 + 15.0 * severity) / scale.max(1.0)),
        Family::Noise => noise(frame, 80.0 * severity, seed),
        Family::Haze => map(frame, |value| value + (225.0 - value) * 0.92 * severity),
        Family::Truncate => truncate(frame, severity),
        Family::Tear => tear(frame, severity),
        Family::Grey => grey(frame),
    }
}

fn map(frame: &RgbImage, mut change: impl FnMut(f32) -> f32) -> RgbImage {
    let mut spoilt = frame.clone();
    for value in spoilt.iter_mut() {
        *value = change(f32::from(*value)).round().clamp(0.0, 255.0) as u8;
    }
    spoilt
}

/// Standard normal numbers from a counter (SplitMix64, Box–Muller).
struct Normal(u64);

impl Normal {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 40) as f32 / (1 << 24) as f32
    }

    fn next(&mut self) -> f32 {
        let (one, two) = (self.uniform().max(1e-7), self.uniform());
        (-2.0 * one.ln()).sqrt() * (std::f32::consts::TAU * two).cos()
    }
}

fn noise(frame: &RgbImage, deviation: f32, seed: u64) -> RgbImage {
    let mut normal = Normal(seed);
    map(frame, |value| value + deviation * normal.next())
}

/// Less light, and the sensor's own noise left over.
fn dark(frame: &RgbImage, severity: f32, seed: u64) -> RgbImage {
    let mut normal = Normal(seed);
    map(frame, |value| value * (1.0 - 0.95 * severity) + 2.0 * severity * normal.next())
}

fn motion(frame: &RgbImage, length: i64) -> RgbImage {
    // A long way is sampled in places a few pixels apart, which blurs as well and costs less.
    let stride = length / 40 + 1;
    let steps: Vec<i64> = (0..length.max(1)).step_by(stride as usize).map(|step| step - length / 2).collect();
    let (width, height) = (i64::from(frame.width()), i64::from(frame.height()));
    RgbImage::from_fn(frame.width(), frame.height(), |x, y| {
        let mut sum = [0_u32; 3];
        for step in &steps {
            // About 27° to the row: neither along an axis nor along a diagonal.
            let u = (i64::from(x) + step).clamp(0, width - 1);
            let v = (i64::from(y) + step / 2).clamp(0, height - 1);
            for (total, value) in sum.iter_mut().zip(frame.get_pixel(u as u32, v as u32).0) {
                *total += u32::from(value);
            }
        }
        Rgb(sum.map(|total| (total / steps.len() as u32) as u8))
    })
}

fn pixelate(frame: &RgbImage, share: f32) -> RgbImage {
    let (width, height) = (frame.width() as f32 * share, frame.height() as f32 * share);
    let small = imageops::resize(frame, (width as u32).max(1), (height as u32).max(1), imageops::FilterType::Triangle);
    imageops::resize(&small, frame.width(), frame.height(), imageops::FilterType::Nearest)
}

fn truncate(frame: &RgbImage, severity: f32) -> RgbImage {
    let kept = (frame.height() as f32 * (1.0 - 0.8 * severity)) as u32;
    RgbImage::from_fn(frame.width(), frame.height(), |x, y| {
        if y < kept { *frame.get_pixel(x, y) } else { Rgb([128, 128, 128]) }
    })
}

fn tear(frame: &RgbImage, severity: f32) -> RgbImage {
    let (width, height) = frame.dimensions();
    let shift = (width as f32 * 0.4 * severity) as u32;
    RgbImage::from_fn(width, height, |x, y| {
        if y < height * 2 / 5 {
            *frame.get_pixel(x, y)
        } else {
            *frame.get_pixel((x + shift) % width, (y + height / 3) % height)
        }
    })
}

fn grey(frame: &RgbImage) -> RgbImage {
    imageops::colorops::grayscale(frame).pixels().zip(frame.enumerate_pixels()).fold(
        RgbImage::new(frame.width(), frame.height()),
        |mut spoilt, (value, (x, y, _))| {
            spoilt.put_pixel(x, y, Rgb([value[0]; 3]));
            spoilt
        },
    )
}
