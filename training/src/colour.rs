//! What colour words may be said of a thing: the median inside its mask, with margins where words would disagree.

use crate::sample::Colour;
use image::RgbImage;
use kestrel_link::Mask;

/// Fewer pixels than this carry no sure colour.
const MIN_PIXELS: usize = 6;

/// The colour of the pixels under `mask`, or `None` near a border between two words, for mixed or too few pixels,
/// and for a mask that cannot be read or is not of the picture's size.
pub fn colour_of(image: &RgbImage, mask: &Mask) -> Option<Colour> {
    if (mask.width, mask.height) != image.dimensions() {
        return None;
    }
    let bits = mask.to_bits().ok()?;
    median_colour(image.pixels().zip(bits).filter(|(_, on)| *on).map(|(p, _)| p.0))
}

/// The rule of [`colour_of`] on bare 8-bit sRGB pixels.
pub fn median_colour(pixels: impl Iterator<Item = [u8; 3]>) -> Option<Colour> {
    let mut hsv: Vec<[f32; 3]> = pixels.map(to_hsv).collect();
    if hsv.len() < MIN_PIXELS {
        return None;
    }
    let value = median(&mut hsv, 2);
    let saturation = median(&mut hsv, 1);
    if value < 0.22 {
        return Some(Colour::Black);
    }
    if saturation < 0.17 {
        return match value {
            v if v < 0.27 => (saturation < 0.12).then_some(Colour::Black),
            v if v > 0.74 => Some(Colour::White),
            v if (0.33..0.62).contains(&v) => Some(Colour::Grey),
            _ => None,
        };
    }
    if saturation < 0.33 {
        return None;
    }
    let hue = median_hue(&mut hsv)?;
    match hue {
        h if !(12.0..345.0).contains(&h) => (saturation > 0.45 && value > 0.27).then_some(Colour::Red),
        h if (16.0..40.0).contains(&h) && value < 0.52 => Some(Colour::Brown),
        h if (18.0..38.0).contains(&h) && value > 0.62 && saturation > 0.58 => Some(Colour::Orange),
        h if (44.0..66.0).contains(&h) && value > 0.55 && saturation > 0.45 => Some(Colour::Yellow),
        h if (82.0..165.0).contains(&h) => Some(Colour::Green),
        h if (186.0..255.0).contains(&h) => Some(Colour::Blue),
        _ => None,
    }
}

/// Hue in degrees, saturation and value in 0..=1.
fn to_hsv(rgb: [u8; 3]) -> [f32; 3] {
    let [r, g, b] = rgb.map(|v| f32::from(v) / 255.0);
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let span = high - low;
    let hue = if span <= 0.0 {
        0.0
    } else if high == r {
        60.0 * ((g - b) / span)
    } else if high == g {
        60.0 * ((b - r) / span) + 120.0
    } else {
        60.0 * ((r - g) / span) + 240.0
    };
    [if hue < 0.0 { hue + 360.0 } else { hue }, if high > 0.0 { span / high } else { 0.0 }, high]
}

fn median(hsv: &mut [[f32; 3]], channel: usize) -> f32 {
    let middle = hsv.len() / 2;
    hsv.select_nth_unstable_by(middle, |a, b| a[channel].total_cmp(&b[channel])).1[channel]
}

/// Median of the hues of the coloured pixels, taken around the fullest sector so that red does not fall apart at 0°;
/// `None` when no sector holds most of them.
fn median_hue(hsv: &mut [[f32; 3]]) -> Option<f32> {
    let mut sectors = [0usize; 24];
    for p in hsv.iter().filter(|p| p[1] > 0.2) {
        sectors[(p[0] / 15.0) as usize % 24] += 1;
    }
    let fullest = (0..24).max_by_key(|&i| sectors[i])?;
    let centre = fullest as f32 * 15.0 + 7.5;
    let mut off: Vec<f32> =
        hsv.iter().filter(|p| p[1] > 0.2).map(|p| (p[0] - centre + 540.0) % 360.0 - 180.0).collect();
    let close = off.iter().filter(|d| d.abs() < 30.0).count();
    if off.is_empty() || close * 10 < off.len() * 7 {
        return None;
    }
    let middle = off.len() / 2;
    let d = *off.select_nth_unstable_by(middle, f32::total_cmp).1;
    Some((centre + d + 360.0) % 360.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn swatch(rgb: [u8; 3]) -> Option<Colour> {
        median_colour(std::iter::repeat_n(rgb, 40))
    }

    #[test]
    fn names_plain_swatches() {
        let chart = [
            ([245, 245, 240], Colour::White),
            ([20, 20, 22], Colour::Black),
            ([120, 122, 125], Colour::Grey),
            ([200, 25, 30], Colour::Red),
            ([235, 130, 30], Colour::Orange),
            ([240, 205, 40], Colour::Yellow),
            ([40, 150, 60], Colour::Green),
            ([30, 70, 190], Colour::Blue),
            ([110, 68, 35], Colour::Brown),
        ];
        for (rgb, colour) in chart {
            assert_eq!(swatch(rgb), Some(colour), "{rgb:?}");
        }
    }

    #[test]
    fn keeps_silent_between_words() {
        for rgb in [[172, 172, 172], [235, 165, 30], [150, 200, 40], [30, 170, 170], [170, 120, 130]] {
            assert_eq!(swatch(rgb), None, "{rgb:?}");
        }
        assert_eq!(median_colour(std::iter::repeat_n([200, 25, 30], 5)), None, "five pixels are too few");
    }

    #[test]
    fn red_does_not_fall_apart_at_the_end_of_the_circle() {
        let around = (0..40).map(|i| if i % 2 == 0 { [200, 20, 40] } else { [200, 40, 20] });
        assert_eq!(median_colour(around), Some(Colour::Red));
    }

    #[test]
    fn two_coats_have_no_one_colour() {
        let coats = (0..40).map(|i| if i % 2 == 0 { [30, 70, 190] } else { [40, 150, 60] });
        assert_eq!(median_colour(coats), None);
    }
}
