//! Masks drawn on pictures, for people.

use crate::banner;
use crate::bitmap::Bitmap;
use crate::error::Error;
use image::RgbImage;
use kestrel_link::{Mask, Outcome, Refusal, Verdict};

/// How a mask looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Style {
    /// Colour of fill and outline, RGB.
    pub colour: [u8; 3],
    /// How much of the picture the fill hides, 0..=1; the outline hides it wholly.
    pub opacity: f32,
    /// Width of the outline in pixels; 0 draws none.
    pub outline: u32,
}

impl Default for Style {
    fn default() -> Self {
        Self { colour: COLOURS[0], opacity: 0.4, outline: 2 }
    }
}

/// Colours for several masks in one picture, told apart by people with the common kinds of colour blindness too (Okabe and Ito).
pub const COLOURS: [[u8; 3]; 7] =
    [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167]];

impl Style {
    /// The default style in the colour for the `index`-th mask.
    #[must_use]
    pub fn numbered(index: usize) -> Self {
        Self { colour: COLOURS[index % COLOURS.len()], ..Self::default() }
    }
}

/// Draws a mask of the picture's size: a tinted fill and an outline.
pub fn draw(image: &mut RgbImage, mask: &Bitmap, style: &Style) -> Result<(), Error> {
    if (image.width(), image.height()) != (mask.width(), mask.height()) {
        return Err(Error::Shape {
            operation: "draw mask",
            expected: format!("a mask of {}×{} pixels", image.width(), image.height()),
            got: format!("{}×{}", mask.width(), mask.height()),
        });
    }
    let opacity = style.opacity.clamp(0.0, 1.0);
    let reach = style.outline;
    for (index, (pixel, _)) in image.pixels_mut().zip(mask.bits()).enumerate().filter(|(_, (_, inside))| **inside) {
        let (x, y) = (index as u32 % mask.width(), index as u32 / mask.width());
        if reach > 0 && on_outline(mask, x, y, reach) {
            pixel.0 = style.colour;
            continue;
        }
        for (value, colour) in pixel.0.iter_mut().zip(style.colour) {
            *value = (f32::from(*value) * (1.0 - opacity) + f32::from(colour) * opacity).round() as u8;
        }
    }
    Ok(())
}

/// Draws a mask of the wire.
pub fn draw_mask(image: &mut RgbImage, mask: &Mask, style: &Style) -> Result<(), Error> {
    draw(image, &Bitmap::from_mask(mask)?, style)
}

/// Draws the masks of an outcome, each in a colour of its own; candidates of an ambiguous query bear their numbers, from 1.
///
/// # Errors
/// When a mask is not of the picture's size, or does not decode.
pub fn draw_outcome(image: &mut RgbImage, outcome: &Outcome) -> Result<(), Error> {
    let (segments, numbered) = match outcome {
        Outcome::Segmented { masks } => (masks.as_slice(), false),
        Outcome::Refused(Refusal { verdict: Verdict::TargetAmbiguous { candidates }, .. }) => {
            (candidates.as_slice(), true)
        }
        Outcome::Refused(_) => return Ok(()),
    };
    for (index, segment) in segments.iter().enumerate() {
        draw_mask(image, &segment.mask, &Style::numbered(index))?;
    }
    // Behind all masks, so that none hides a number.
    for (index, segment) in segments.iter().enumerate().filter(|_| numbered) {
        let [x, y, ..] = segment.bounding_box;
        label(image, &(index + 1).to_string(), [x, y], Style::numbered(index).colour);
    }
    Ok(())
}

/// The picture under a strip in `colour` that says `text`; the picture itself is not covered.
#[must_use]
pub fn with_banner(image: &RgbImage, text: &str, colour: [u8; 3]) -> RgbImage {
    banner::above(image, text, colour)
}

/// Writes a few words into a picture, on a strip in `colour` whose corner is near `corner`.
pub fn label(image: &mut RgbImage, text: &str, corner: [u32; 2], colour: [u8; 3]) {
    banner::within(image, text, corner, colour);
}

/// Whether a set pixel has an unset one, or the picture's edge, within `reach` along a row or column.
fn on_outline(mask: &Bitmap, x: u32, y: u32, reach: u32) -> bool {
    (1..=reach).any(|step| {
        x < step
            || y < step
            || !mask.get(x - step, y)
            || !mask.get(x, y - step)
            || !mask.get(x + step, y)
            || !mask.get(x, y + step)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use image::Rgb;
    use kestrel_link::Segment;

    #[test]
    fn fill_is_tinted_and_edges_are_drawn() {
        let mut image = RgbImage::from_pixel(20, 20, Rgb([100, 100, 100]));
        let mask = Bitmap::from_fn(20, 20, |x, y| (5..15).contains(&x) && (5..15).contains(&y));
        let style = Style { colour: [200, 0, 100], opacity: 0.5, outline: 1 };
        draw(&mut image, &mask, &style).unwrap();
        assert_eq!(image.get_pixel(4, 10).0, [100, 100, 100]);
        assert_eq!(image.get_pixel(5, 10).0, [200, 0, 100]);
        assert_eq!(image.get_pixel(10, 10).0, [150, 50, 100]);
    }

    #[test]
    fn a_mask_of_the_wire_is_drawn_alike() {
        let mask = Bitmap::from_fn(9, 7, |x, y| x > y);
        let (mut one, mut two) = (RgbImage::new(9, 7), RgbImage::new(9, 7));
        draw(&mut one, &mask, &Style::default()).unwrap();
        draw_mask(&mut two, &mask.to_mask().unwrap(), &Style::default()).unwrap();
        assert_eq!(one, two);
        assert_ne!(one, RgbImage::new(9, 7));
    }

    /// What would break: an operator who is told of two candidates and cannot see which is which.
    #[test]
    fn candidates_bear_numbers_and_masks_do_not() {
        let segment = |left: u32| {
            let mask = Mask::from_fn(200, 100, |x, y| (left..left + 40).contains(&x) && (30..70).contains(&y)).unwrap();
            Segment::of(mask, 0.5, 0.5).unwrap()
        };
        let segments = vec![segment(20), segment(120)];
        let mut masked = RgbImage::new(200, 100);
        draw_outcome(&mut masked, &Outcome::Segmented { masks: segments.clone() }).unwrap();
        let verdict = Verdict::TargetAmbiguous { candidates: segments };
        let refusal = Refusal { verdict, evidence: vec![], advice: String::new() };
        let mut asked = RgbImage::new(200, 100);
        draw_outcome(&mut asked, &Outcome::Refused(refusal)).unwrap();
        assert_ne!(masked.get_pixel(20, 50), masked.get_pixel(120, 50), "a colour for each");
        for left in [20, 120] {
            let written = (left..left + 8).flat_map(|x| (30..40).map(move |y| (x, y)));
            assert!(written.clone().any(|(x, y)| masked.get_pixel(x, y) != asked.get_pixel(x, y)), "{left}");
        }
        let absent = Refusal { verdict: Verdict::TargetAbsent, evidence: vec![], advice: String::new() };
        let mut plain = RgbImage::new(200, 100);
        draw_outcome(&mut plain, &Outcome::Refused(absent)).unwrap();
        assert_eq!(plain, RgbImage::new(200, 100));
    }

    #[test]
    fn sizes_must_match() {
        let error = draw(&mut RgbImage::new(4, 4), &Bitmap::new(4, 5), &Style::default()).unwrap_err();
        assert_eq!(error.to_string(), "draw mask: expected a mask of 4×4 pixels, got 4×5");
    }

    #[test]
    fn the_banner_is_above_the_picture() {
        let image = RgbImage::from_pixel(200, 50, Rgb([1, 2, 3]));
        let framed = with_banner(&image, "the red car", [10, 20, 30]);
        let height = framed.height() - 50;
        assert!(height > 8);
        assert_eq!(framed.get_pixel(0, 0).0, [10, 20, 30]);
        assert_eq!(framed.get_pixel(199, height).0, [1, 2, 3]);
        let written = framed.rows().take(height as usize).flatten().filter(|pixel| pixel.0 != [10, 20, 30]).count();
        assert!(written > 50, "{written} pixels of text");
    }
}
