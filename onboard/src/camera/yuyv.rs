//! Packed YUYV 4:2:2 to RGB.

use image::RgbImage;

/// A picture of rows of `stride` bytes, each of Y0 U Y1 V for two pixels; `None` when there are too few bytes or the width is odd.
///
/// BT.601 with the limited range of 16 to 235, as V4L2 assumes for YUYV where a device says nothing else.
/// Source: ITU-R BT.601-7, section 2.5; V4L2 documentation, "Default transfer functions and quantization".
pub(super) fn to_rgb(bytes: &[u8], width: u32, height: u32, stride: usize) -> Option<RgbImage> {
    let row_bytes = width as usize * 2;
    let stride = stride.max(row_bytes);
    let needed = stride.checked_mul(height as usize)?.checked_sub(stride - row_bytes)?;
    if !width.is_multiple_of(2) || width == 0 || height == 0 || bytes.len() < needed {
        return None;
    }
    let mut rgb = Vec::with_capacity(row_bytes / 2 * 3 * height as usize);
    for row in bytes.chunks(stride).take(height as usize) {
        for pair in row[..row_bytes].chunks_exact(4) {
            for luma in [pair[0], pair[2]] {
                rgb.extend(pixel(luma, pair[1], pair[3]));
            }
        }
    }
    RgbImage::from_raw(width, height, rgb)
}

/// One pixel in fixed point of 8 bits.
fn pixel(y: u8, u: u8, v: u8) -> [u8; 3] {
    let (y, u, v) = (298 * (i32::from(y) - 16), i32::from(u) - 128, i32::from(v) - 128);
    let level = |value: i32| ((value + 128) >> 8).clamp(0, 255) as u8;
    [level(y + 409 * v), level(y - 100 * u - 208 * v), level(y + 516 * u)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn colours_of_the_standard_come_out() {
        for ((y, u, v), rgb) in [
            ((16, 128, 128), [0, 0, 0]),
            ((235, 128, 128), [255, 255, 255]),
            ((126, 128, 128), [128, 128, 128]),
            ((81, 90, 240), [255, 0, 0]),
            ((145, 54, 34), [0, 255, 0]),
            ((41, 240, 110), [0, 0, 255]),
        ] {
            let got = pixel(y, u, v);
            let off = got.iter().zip(rgb).map(|(got, wanted)| got.abs_diff(wanted)).max();
            assert!(off <= Some(2), "{y} {u} {v}: {got:?} for {rgb:?}");
        }
    }

    #[test]
    fn two_pixels_share_their_colour_and_rows_may_be_padded() {
        let row: [u8; 6] = [16, 128, 235, 128, 99, 99];
        let picture = to_rgb(&[row, row].concat(), 2, 2, 6).unwrap();
        assert_eq!(picture.as_raw(), &[0, 0, 0, 255, 255, 255, 0, 0, 0, 255, 255, 255]);
        // The last row needs no padding.
        assert!(to_rgb(&[row, row].concat()[..10], 2, 2, 6).is_some());
        assert!(to_rgb(&[row, row].concat()[..9], 2, 2, 6).is_none());
        assert!(to_rgb(&row, 3, 1, 6).is_none());
    }

    proptest! {
        /// Promise: P13
        #[test]
        fn arbitrary_sizes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), width in 0_u32..40, height in 0_u32..40, stride in 0_usize..100) {
            if let Some(picture) = to_rgb(&bytes, width, height, stride) {
                prop_assert_eq!(picture.dimensions(), (width, height));
            }
        }
    }
}
