//! Labelled pictures drawn for people: what the trainer sees.

use image::{Rgb, RgbImage};
use kestrel_perception::overlay::{COLOURS, label};
use kestrel_perception::{Style, draw_mask};

use crate::datasets::{DataError, Result};
use crate::sample::Picture;

/// How much of the picture an outlined thing's tint hides.
const TINT: f32 = 0.15;

/// The picture with every outline drawn, every box as a frame, each in its own colour.
///
/// # Errors
/// When a mask does not fit its picture.
pub fn outlined(picture: &Picture) -> Result<RgbImage> {
    let mut image = picture.image.clone();
    for (index, instance) in picture.instances.iter().enumerate() {
        let style = Style { opacity: TINT, outline: 1, ..Style::numbered(index) };
        match &instance.mask {
            Some(mask) => draw_mask(&mut image, mask, &style).map_err(|error| DataError::Mask {
                instance: index,
                dataset: picture.origin.dataset.clone(),
                frame: picture.origin.frame.clone(),
                got: error.to_string(),
            })?,
            None => frame(&mut image, instance.bounding_box, style.colour),
        }
    }
    Ok(image)
}

/// [`outlined`] with the number of every thing, from 1, in the order of the picture's instances.
///
/// # Errors
/// As [`outlined`].
pub fn numbered(picture: &Picture) -> Result<RgbImage> {
    let mut image = outlined(picture)?;
    for (index, instance) in picture.instances.iter().enumerate() {
        let [x, y, ..] = instance.bounding_box.map(|v| v.max(0.0) as u32);
        // Above the thing, where there is room: small things must not vanish under their number.
        let corner = [x, y.saturating_sub(9 * (image.width() / 480).max(1))];
        label(&mut image, &(index + 1).to_string(), corner, COLOURS[index % COLOURS.len()]);
    }
    Ok(image)
}

fn frame(image: &mut RgbImage, [x, y, w, h]: [f32; 4], colour: [u8; 3]) {
    let (width, height) = image.dimensions();
    if width == 0 || height == 0 {
        return;
    }
    let at = |v: f32, side: u32| (v.max(0.0) as u32).min(side - 1);
    let (x0, x1, y0, y1) = (at(x, width), at(x + w, width), at(y, height), at(y + h, height));
    for column in x0..=x1 {
        image.put_pixel(column, y0, Rgb(colour));
        image.put_pixel(column, y1, Rgb(colour));
    }
    for row in y0..=y1 {
        image.put_pixel(x0, row, Rgb(colour));
        image.put_pixel(x1, row, Rgb(colour));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use kestrel_link::Mask;

    use super::*;
    use crate::sample::{Category, Instance, Origin};

    #[test]
    fn masks_boxes_and_numbers_are_drawn_and_what_lies_at_the_edge_does_no_harm() {
        let mask = Mask::from_fn(64, 64, |x, y| (10..30).contains(&x) && (20..40).contains(&y)).unwrap();
        let thing =
            |bounding_box, mask| Instance { category: Category::Car, colour: None, bounding_box, mask, visible: 1.0 };
        let instances = vec![thing([10.0, 20.0, 20.0, 20.0], Some(mask)), thing([40.0, 40.0, 30.0, 24.0], None)];
        let origin = Origin { dataset: "d".into(), scene: "s".into(), frame: "f".into() };
        let picture = Picture { image: RgbImage::new(64, 64), instances, exhaustive: vec![], origin };
        let image = outlined(&picture).unwrap();
        assert_eq!((image.get_pixel(10, 25).0, image.get_pixel(40, 50).0), (COLOURS[0], COLOURS[1]));
        assert_eq!(image.get_pixel(50, 50).0, [0; 3], "a box is a frame");
        assert_ne!(numbered(&picture).unwrap(), image);
    }
}
