//! Which colour words an unclear colour might still be called by.

use image::RgbImage;

use crate::sample::Colour;

/// A set of colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tint(u16);

impl Tint {
    /// Any colour: nothing is known.
    pub const ANY: Self = Self(u16::MAX);

    /// Every colour that at least a third of the pixels could be called by, with margins much wider than those inside
    /// which a colour is named: what is not in the set can be denied.
    pub fn of(pixels: impl Iterator<Item = [u8; 3]>) -> Self {
        let mut votes = [0u32; Colour::ALL.len()];
        let mut all = 0u32;
        for pixel in pixels {
            all += 1;
            for (vote, colour) in votes.iter_mut().zip(Colour::ALL) {
                *vote += u32::from(may_be(pixel, colour));
            }
        }
        if all == 0 {
            return Self::ANY;
        }
        let bits = votes.iter().enumerate().filter(|(_, v)| **v * 3 >= all).map(|(i, _)| 1 << i);
        Self(bits.sum())
    }

    /// [`Tint::of`] the pixels of a picture where `bits` is set.
    pub fn under(image: &RgbImage, bits: &[bool]) -> Self {
        Self::of(image.pixels().zip(bits).filter(|(_, on)| **on).map(|(p, _)| p.0))
    }

    /// Whether the colour is possible.
    pub fn allows(self, colour: Colour) -> bool {
        Colour::ALL.iter().position(|c| *c == colour).is_none_or(|i| self.0 & 1 << i != 0)
    }
}

fn may_be(rgb: [u8; 3], colour: Colour) -> bool {
    let [r, g, b] = rgb.map(|v| f32::from(v) / 255.0);
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let span = high - low;
    let saturation = if high > 0.0 { span / high } else { 0.0 };
    let hue = if span <= 0.0 {
        0.0
    } else if high == r {
        (60.0 * (g - b) / span).rem_euclid(360.0)
    } else if high == g {
        60.0 * (b - r) / span + 120.0
    } else {
        60.0 * (r - g) / span + 240.0
    };
    let tinted = saturation > 0.14 && high > 0.12;
    let between = |from: f32, to: f32| tinted && (from..to).contains(&hue);
    match colour {
        Colour::White => high > 0.55 && saturation < 0.36,
        Colour::Black => high < 0.36,
        Colour::Grey => saturation < 0.36 && (0.14..0.86).contains(&high),
        Colour::Red => between(0.0, 22.0) || between(325.0, 360.0),
        Colour::Orange => between(8.0, 50.0) && high > 0.4,
        Colour::Yellow => between(34.0, 85.0) && high > 0.35,
        Colour::Green => between(60.0, 190.0),
        Colour::Blue => between(165.0, 290.0),
        Colour::Brown => between(0.0, 60.0) && high < 0.78,
    }
}
