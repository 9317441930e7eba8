//! What a piece looks like: a histogram of its colours.

use image::RgbImage;

use crate::bitmap::Component;

/// Steps of each colour channel.
const STEPS: usize = 4;
const BINS: usize = STEPS * STEPS * STEPS;

/// Shares of a piece's pixels by colour, four steps a channel: they sum to 1, or are all 0 where nothing was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Appearance {
    shares: [f32; BINS],
}

impl Default for Appearance {
    fn default() -> Self {
        Self { shares: [0.0; BINS] }
    }
}

impl Appearance {
    /// The colours of pixels, 8-bit RGB.
    #[must_use]
    pub fn of(pixels: impl Iterator<Item = [u8; 3]>) -> Self {
        let mut counts = [0_u32; BINS];
        let mut total = 0_u32;
        for [red, green, blue] in pixels {
            let step = |value: u8| usize::from(value) * STEPS / 256;
            let bin = (step(red) * STEPS + step(green)) * STEPS + step(blue);
            counts[bin] = counts[bin].saturating_add(1);
            total = total.saturating_add(1);
        }
        let scale = 1.0 / total.max(1) as f32;
        Self { shares: counts.map(|count| count as f32 * scale) }
    }

    /// The colours of the pixels that belong to a piece; pixels outside of the picture count nothing.
    #[must_use]
    pub fn under(picture: &RgbImage, piece: &Component) -> Self {
        let stride = picture.width() as usize * 3;
        let raw = picture.as_raw();
        let runs = piece.runs.iter().filter_map(|&(y, from, to)| {
            let start = y as usize * stride;
            raw.get(start + from as usize * 3..start + to as usize * 3)
        });
        Self::of(runs.flat_map(|run| run.chunks_exact(3)).map(|pixel| [pixel[0], pixel[1], pixel[2]]))
    }

    /// Histogram intersection, 0..=1 (Swain and Ballard, Color indexing, IJCV 7, 1991).
    #[must_use]
    pub fn similarity(&self, other: &Self) -> f32 {
        let shares = self.shares.iter().zip(&other.shares);
        shares.map(|(one, two)| one.min(*two)).sum::<f32>().clamp(0.0, 1.0)
    }

    /// Moves this appearance towards a newer one, by a share of 0..=1.
    pub fn blend(&mut self, newer: &Self, share: f32) {
        for (old, new) in self.shares.iter_mut().zip(&newer.shares) {
            *old += (new - *old) * share;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::bitmap::Bitmap;
    use image::Rgb;

    #[test]
    fn colours_tell_pieces_apart_and_a_little_noise_does_not() {
        let red = Appearance::of(std::iter::repeat_n([220, 20, 20], 50));
        let noisy = Appearance::of((0..50).map(|at| [215 + at % 10, 18 + at % 5, 22]));
        let blue = Appearance::of(std::iter::repeat_n([20, 20, 220], 50));
        assert!(red.similarity(&noisy) > 0.99);
        assert_eq!(red.similarity(&blue), 0.0);
        assert_eq!(red.similarity(&Appearance::default()), 0.0, "nothing is like nothing");
    }

    #[test]
    fn only_the_pixels_of_the_piece_count() {
        let picture = RgbImage::from_fn(20, 10, |x, _| if x < 10 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) });
        let mask = Bitmap::from_fn(20, 10, |x, y| (2..8).contains(&x) && y > 3);
        let piece = &mask.components()[0];
        let seen = Appearance::under(&picture, piece);
        assert_eq!(seen, Appearance::of(std::iter::once([255, 0, 0])));
        assert_eq!(Appearance::under(&RgbImage::new(1, 1), piece), Appearance::default(), "another picture");
    }

    #[test]
    fn blending_ends_at_the_newer_one() {
        let mut old = Appearance::of(std::iter::once([255, 0, 0]));
        let new = Appearance::of(std::iter::once([0, 0, 255]));
        old.blend(&new, 0.25);
        assert!((old.similarity(&new) - 0.25).abs() < 1e-6);
        old.blend(&new, 1.0);
        assert_eq!(old, new);
    }
}
