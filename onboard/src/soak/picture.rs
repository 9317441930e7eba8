//! What the camera of a soak sees: a picture over which it moves, or a textured ground with a red square on it.

use image::{Rgb, RgbImage, imageops};

const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;
/// How far the camera moves before it comes back.
const TRAVEL: u32 = 128;
const SQUARE: u32 = 60;

/// A ground that is drawn once; frames are cut out of it.
pub(super) struct Ground {
    wide: RgbImage,
    /// How far the camera moves over it, in pixels.
    travel: u32,
    has_square: bool,
}

impl Ground {
    /// Of a picture, an eighth of which the camera moves over.
    pub(super) fn of(picture: &RgbImage) -> Self {
        Self { wide: picture.clone(), travel: (picture.width() / 8).clamp(1, TRAVEL), has_square: false }
    }

    pub(super) fn drawn() -> Self {
        let wide = RgbImage::from_fn(WIDTH + TRAVEL, HEIGHT, |x, y| {
            let cell = |side: u32| {
                ((x / side).wrapping_mul(0x9E37_79B9) ^ (y / side).wrapping_mul(0x85EB_CA6B)).wrapping_mul(0xC2B2_AE35)
                    >> 24
            };
            let value = |shift: u32| ((cell(61 + shift) + cell(23 + shift) + cell(5)) / 3) as u8;
            Rgb([value(0), value(4), value(9)])
        });
        Self { wide, travel: TRAVEL, has_square: true }
    }

    /// The view of one frame; two that follow each other differ.
    pub(super) fn frame(&self, number: u64) -> RgbImage {
        let Self { wide, travel, has_square } = self;
        let at = (number * 3 % u64::from(*travel)) as u32;
        let mut view = imageops::crop_imm(wide, at, 0, wide.width() - travel, wide.height()).to_image();
        if !has_square {
            return view;
        }
        for (x, y) in (0..SQUARE).flat_map(|x| (0..SQUARE).map(move |y| (x, y))) {
            view.put_pixel(100 + at + x, 200 + y, Rgb([255, 0, 0]));
        }
        view
    }
}

/// The lower half of the picture did not arrive.
pub(super) fn torn(mut view: RgbImage) -> RgbImage {
    let rows = view.height() / 2;
    for row in view.rows_mut().skip(rows as usize) {
        row.for_each(|pixel| *pixel = Rgb([0; 3]));
    }
    view
}

/// A camera that was set to a quarter of its pixels.
pub(super) fn smaller(view: &RgbImage) -> RgbImage {
    imageops::thumbnail(view, (view.width() / 2).max(1), (view.height() / 2).max(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn frames_move_and_faults_show() {
        let ground = Ground::drawn();
        let view = ground.frame(7);
        assert_eq!(view.dimensions(), (WIDTH, HEIGHT));
        assert_ne!(view, ground.frame(8));
        assert_eq!(torn(view.clone()).get_pixel(5, HEIGHT - 1), &Rgb([0; 3]));
        assert_eq!(smaller(&view).dimensions(), (WIDTH / 2, HEIGHT / 2));
        for number in 0..200 {
            ground.frame(number);
        }
    }
}
