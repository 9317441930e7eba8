//! Pictures from files and bytes, with bounds on what decoding may take.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, ImageReader, Limits, RgbImage};
use kestrel_link::mask::MAX_SIDE;

use super::CameraError;

/// Most bytes that decoding one picture may take.
const MOST_BYTES: u64 = 512 * 1024 * 1024;

/// Columns and rows of pixels that a fingerprint is taken of.
const GRID: u32 = 64;

/// Reads one picture as RGB, at most 8192 pixels on a side.
///
/// # Errors
/// When the file cannot be read or is no such picture.
pub fn load(path: &Path) -> Result<RgbImage, CameraError> {
    let read = |source| CameraError::Read { operation: "open", path: path.to_owned(), source };
    let mut reader = ImageReader::open(path).map_err(read)?.with_guessed_format().map_err(read)?;
    reader.limits(limits(MAX_SIDE, MAX_SIDE));
    let picture =
        reader.decode().map_err(|error| CameraError::Decode { path: path.to_owned(), why: error.to_string() })?;
    Ok(picture.into_rgb8())
}

/// Decodes the bytes of a picture that is at most this large; an error is what the decoder said.
pub(super) fn decode(bytes: &[u8], format: ImageFormat, width: u32, height: u32) -> Result<RgbImage, String> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits(width.min(MAX_SIDE), height.min(MAX_SIDE)));
    Ok(reader.decode().map_err(|error| error.to_string())?.into_rgb8())
}

fn limits(width: u32, height: u32) -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(width);
    limits.max_image_height = Some(height);
    limits.max_alloc = Some(MOST_BYTES);
    limits
}

/// A hash of the picture's size and of at most 64×64 of its pixels (FNV-1a, 64 bits).
///
/// The noise of a real sensor changes it in every frame, whatever the scene does.
pub(super) fn fingerprint(picture: &RgbImage) -> u64 {
    let (width, height) = picture.dimensions();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut take = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    width.to_le_bytes().into_iter().chain(height.to_le_bytes()).for_each(&mut take);
    let places = |side: u32| {
        let count = side.min(GRID);
        // The middle of each part, in 64 bits: a side times the grid must not wrap.
        (0..count).map(move |i| (u64::from(2 * i + 1) * u64::from(side) / u64::from(2 * count)) as u32)
    };
    for y in places(height) {
        for x in places(width) {
            picture.get_pixel(x, y).0.into_iter().for_each(&mut take);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use image::Rgb;

    #[test]
    fn a_fingerprint_tells_pictures_apart() {
        let grey = RgbImage::from_pixel(320, 240, Rgb([114; 3]));
        let mut square = grey.clone();
        for (x, y) in (100..110).flat_map(|x| (60..70).map(move |y| (x, y))) {
            square.put_pixel(x, y, Rgb([255, 0, 0]));
        }
        assert_eq!(fingerprint(&grey), fingerprint(&grey.clone()));
        assert_ne!(fingerprint(&grey), fingerprint(&square));
        let turned = RgbImage::from_pixel(240, 320, Rgb([114; 3]));
        assert_ne!(fingerprint(&grey), fingerprint(&turned));
        for (width, height) in [(0, 0), (1, 1), (3, 200), (65, 64)] {
            fingerprint(&RgbImage::new(width, height));
        }
    }

    /// Promise: P5, P13
    #[test]
    fn a_picture_larger_than_announced_is_not_decoded() {
        let mut png = Vec::new();
        RgbImage::new(9, 4).write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
        assert_eq!(decode(&png, ImageFormat::Png, 9, 4).unwrap().dimensions(), (9, 4));
        assert!(decode(&png, ImageFormat::Png, 8, 4).is_err());
        assert!(decode(&png[..20], ImageFormat::Png, 9, 4).is_err());
        assert!(decode(&png, ImageFormat::Jpeg, 9, 4).is_err());
    }
}
