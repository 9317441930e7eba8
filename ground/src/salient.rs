//! The baseline that reads no words: the largest blob that differs from the picture's mean colour.

use anyhow::Result;
use image::RgbImage;
use kestrel_link::Outcome;
use kestrel_onboard::pipeline::Answer;
use kestrel_perception::{Bitmap, segment};

/// Puts the largest salient blob into an answer, whatever was asked.
pub(crate) fn replace(answer: &mut Answer, image: &RgbImage) -> Result<()> {
    let blob = largest_blob(image);
    if let Some(found) = segment(&blob, 1.0, 0.0)? {
        answer.outcome = Outcome::Segmented { masks: vec![found] };
    }
    Ok(())
}

/// Pixels further than two deviations from the mean colour; of these the largest connected piece.
fn largest_blob(image: &RgbImage) -> Bitmap {
    let smooth = image::imageops::blur(image, 2.0);
    let count = f64::from(image.width()) * f64::from(image.height());
    let mut mean = [0f64; 3];
    for pixel in smooth.pixels() {
        for (sum, value) in mean.iter_mut().zip(pixel.0) {
            *sum += f64::from(value) / count;
        }
    }
    let distance = |x: u32, y: u32| -> f64 {
        smooth.get_pixel(x, y).0.iter().zip(mean).map(|(v, m)| (f64::from(*v) - m).powi(2)).sum()
    };
    let spread: f64 = smooth.enumerate_pixels().map(|(x, y, _)| distance(x, y)).sum::<f64>() / count;
    let far = Bitmap::from_fn(image.width(), image.height(), |x, y| distance(x, y) > 4.0 * spread);
    let largest = far.components().into_iter().max_by_key(|piece| piece.area);
    largest.map_or_else(|| Bitmap::new(image.width(), image.height()), |piece| far.only(&piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_odd_one_out() {
        let image = RgbImage::from_fn(64, 64, |x, y| {
            image::Rgb(if (20..34).contains(&x) && (30..40).contains(&y) { [250, 20, 20] } else { [90, 110, 90] })
        });
        let blob = largest_blob(&image);
        assert!(blob.get(27, 35) && !blob.get(5, 5));
        assert!((80..300).contains(&blob.area()), "{}", blob.area());
    }
}
