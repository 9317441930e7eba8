//! Masks drawn on pictures, for people.

use crate::banner;
use crate::bitmap::Bitmap;
use crate::error::Error;
use image::RgbImage;
use kestrel_link::Mask;

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
