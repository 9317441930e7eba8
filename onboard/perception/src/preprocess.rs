//! From a region of the frame to the model's input, and the way back for coordinates.

use crate::error::Error;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use kestrel_link::Hint;
use ndarray::Array4;

/// Width and height of the model's input in pixels.
pub const MODEL_SIZE: u32 = 512;

/// Per-channel mean of ImageNet in 0..=1, RGB.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];

/// Per-channel standard deviation of ImageNet in 0..=1, RGB.
pub const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// The grey that fills a letterbox, before normalisation.
pub const PADDING: u8 = 114;

/// The normalised value of every byte, per channel: a look-up is exact and as fast as the arithmetic.
const NORMALISED: [[f32; 256]; 3] = normalised();

const fn normalised() -> [[f32; 256]; 3] {
    let mut table = [[0.0; 256]; 3];
    let mut channel = 0;
    while channel < 3 {
        let mut value = 0;
        while value < 256 {
            table[channel][value] = (value as f32 / 255.0 - MEAN[channel]) / DEVIATION[channel];
            value += 1;
        }
        channel += 1;
    }
    table
}

/// A region of the frame in frame pixels; `x` and `y` are its top left corner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
}

impl View {
    /// The whole of a frame of `width` × `height` pixels.
    #[must_use]
    pub fn whole(width: u32, height: u32) -> Self {
        Self { x: 0.0, y: 0.0, width: width as f32, height: height as f32 }
    }

    /// Fails unless the view has at least one pixel and lies in a frame of `width` × `height` pixels.
    pub fn check(&self, operation: &'static str, width: u32, height: u32) -> Result<(), Error> {
        if width == 0 || height == 0 {
            return Err(Error::Empty { operation, width, height });
        }
        let inside = self.x >= 0.0
            && self.y >= 0.0
            && self.width >= 1.0
            && self.height >= 1.0
            && self.x + self.width <= width as f32 + EDGE_TOLERANCE
            && self.y + self.height <= height as f32 + EDGE_TOLERANCE;
        if inside {
            Ok(())
        } else {
            let view = format!("{}×{} at ({}, {})", self.width, self.height, self.x, self.y);
            Err(Error::ViewOutside { operation, width, height, view })
        }
    }
}

/// How far rounding may carry a view over the frame's edge, in pixels.
const EDGE_TOLERANCE: f32 = 1e-2;

/// Where a view lies in the model's input: the map between model pixels and frame pixels.
///
/// Both systems are continuous, with (0, 0) at the outer corner of the top left pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Letterbox {
    /// The region that is shown.
    pub view: View,
    /// Width and height of the model's input in pixels.
    pub size: u32,
    /// Width of the picture inside the padding, in model pixels.
    pub inner_width: u32,
    /// Height of the picture inside the padding, in model pixels.
    pub inner_height: u32,
    /// Padding at the left, in model pixels.
    pub pad_x: u32,
    /// Padding at the top, in model pixels.
    pub pad_y: u32,
    /// Model pixels per frame pixel along x; rounding to whole pixels makes it differ a little from `scale_y`.
    pub scale_x: f32,
    /// Model pixels per frame pixel along y.
    pub scale_y: f32,
}

impl Letterbox {
    /// The letterbox that shows `view` as large as it fits into `size` × `size` pixels, centred.
    #[must_use]
    pub fn new(view: View, size: u32) -> Self {
        let scale = size as f32 / view.width.max(view.height);
        let inner_width = ((view.width * scale).round() as u32).clamp(1, size);
        let inner_height = ((view.height * scale).round() as u32).clamp(1, size);
        Self {
            view,
            size,
            inner_width,
            inner_height,
            pad_x: (size - inner_width) / 2,
            pad_y: (size - inner_height) / 2,
            scale_x: inner_width as f32 / view.width,
            scale_y: inner_height as f32 / view.height,
        }
    }

    /// A point of the frame in model pixels.
    #[must_use]
    pub fn to_model(&self, x: f32, y: f32) -> (f32, f32) {
        ((x - self.view.x) * self.scale_x + self.pad_x as f32, (y - self.view.y) * self.scale_y + self.pad_y as f32)
    }

    /// A point of the model's input in frame pixels.
    #[must_use]
    pub fn to_frame(&self, x: f32, y: f32) -> (f32, f32) {
        ((x - self.pad_x as f32) / self.scale_x + self.view.x, (y - self.pad_y as f32) / self.scale_y + self.view.y)
    }

    /// An area of frame pixels in model pixels.
    #[must_use]
    pub fn area_to_model(&self, frame_pixels: u64) -> f32 {
        frame_pixels as f32 * self.scale_x * self.scale_y
    }

    /// A hint given in fractions of the frame, in fractions of the model's input, where location tokens live.
    ///
    /// A box is clipped to the view; `None` when the hint does not touch it.
    #[must_use]
    pub fn hint(&self, hint: &Hint, frame_width: u32, frame_height: u32) -> Option<Hint> {
        let (width, height) = (frame_width as f32, frame_height as f32);
        let size = self.size as f32;
        let right = self.view.x + self.view.width;
        let bottom = self.view.y + self.view.height;
        match *hint {
            Hint::Point { x, y } => {
                let (x, y) = (x * width, y * height);
                if x < self.view.x || x > right || y < self.view.y || y > bottom {
                    return None;
                }
                let (x, y) = self.to_model(x, y);
                Some(Hint::Point { x: x / size, y: y / size })
            }
            Hint::Box { x0, y0, x1, y1 } => {
                let (x0, x1) = ((x0 * width).max(self.view.x), (x1 * width).min(right));
                let (y0, y1) = ((y0 * height).max(self.view.y), (y1 * height).min(bottom));
                // Written so that a NaN counts as outside.
                if !(x1 > x0 && y1 > y0) {
                    return None;
                }
                let (x0, y0) = self.to_model(x0, y0);
                let (x1, y1) = self.to_model(x1, y1);
                Some(Hint::Box { x0: x0 / size, y0: y0 / size, x1: x1 / size, y1: y1 / size })
            }
        }
    }
}

/// Buffers that live from frame to frame.
#[derive(Debug, Default)]
pub struct Scratch {
    resizer: Resizer,
    resized: Vec<u8>,
}

/// Writes `view` of `image` into `out` `[1, 3, size, size]`: RGB, antialiased bilinear resize, grey letterbox, ImageNet mean and deviation.
///
/// `size` is [`MODEL_SIZE`] in flight; training may ask for another.
/// Returns the map back to frame pixels.
pub fn preprocess(
    image: &RgbImage,
    view: &View,
    out: &mut Array4<f32>,
    scratch: &mut Scratch,
) -> Result<Letterbox, Error> {
    const OPERATION: &str = "preprocess";
    view.check(OPERATION, image.width(), image.height())?;
    let shape @ (batch, channels, size, width) = out.dim();
    let slice = match out.as_slice_mut() {
        Some(slice) if batch == 1 && channels == 3 && size > 0 && width == size => slice,
        _ => {
            return Err(Error::Shape {
                operation: OPERATION,
                expected: "a contiguous tensor [1, 3, size, size]".into(),
                got: format!("{shape:?}"),
            });
        }
    };
    let side = u32::try_from(size).map_err(|_| Error::Shape {
        operation: OPERATION,
        expected: "a side that fits 32 bits".into(),
        got: format!("{shape:?}"),
    })?;
    let letterbox = Letterbox::new(*view, side);
    let untouched = letterbox.inner_width == image.width()
        && letterbox.inner_height == image.height()
        && *view == View::whole(image.width(), image.height());
    if untouched {
        normalise(image.as_raw(), &letterbox, slice);
    } else {
        resize(image, &letterbox, scratch)?;
        let bytes = letterbox.inner_width as usize * letterbox.inner_height as usize * 3;
        normalise(&scratch.resized[..bytes], &letterbox, slice);
    }
    Ok(letterbox)
}

/// Resizes the letterbox's view into `scratch.resized`.
fn resize(image: &RgbImage, letterbox: &Letterbox, scratch: &mut Scratch) -> Result<(), Error> {
    let failed = |message: String| Error::Resize { operation: "preprocess", message };
    let (width, height) = (letterbox.inner_width, letterbox.inner_height);
    let bytes = width as usize * height as usize * 3;
    if scratch.resized.len() < bytes {
        scratch.resized.resize(bytes, 0);
    }
    // Typed: the resizer's untyped entry would compile its kernels for every pixel type there is.
    let source = TypedImageRef::<U8x3>::from_buffer(image.width(), image.height(), image.as_raw())
        .map_err(|error| failed(error.to_string()))?;
    let mut target = TypedImage::<U8x3>::from_buffer(width, height, &mut scratch.resized[..bytes])
        .map_err(|error| failed(error.to_string()))?;
    let view = &letterbox.view;
    let (left, top) = (f64::from(view.x), f64::from(view.y));
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false).crop(
        left,
        top,
        f64::from(view.width).min(f64::from(image.width()) - left),
        f64::from(view.height).min(f64::from(image.height()) - top),
    );
    scratch.resizer.resize_typed(&source, &mut target, &options).map_err(|error| failed(error.to_string()))
}

/// Spreads interleaved bytes over three planes of `out` and fills the letterbox's bars.
fn normalise(bytes: &[u8], letterbox: &Letterbox, out: &mut [f32]) {
    let size = letterbox.size as usize;
    let (width, height) = (letterbox.inner_width as usize, letterbox.inner_height as usize);
    let (left, top) = (letterbox.pad_x as usize, letterbox.pad_y as usize);
    let (red, rest) = out.split_at_mut(size * size);
    let (green, blue) = rest.split_at_mut(size * size);
    for (channel, plane) in [red, green, blue].into_iter().enumerate() {
        let table = &NORMALISED[channel];
        let grey = table[PADDING as usize];
        plane[..top * size].fill(grey);
        plane[(top + height) * size..].fill(grey);
        let rows = plane[top * size..(top + height) * size].chunks_exact_mut(size);
        for (row, source) in rows.zip(bytes.chunks_exact(width * 3)) {
            row[..left].fill(grey);
            row[left + width..].fill(grey);
            for (value, pixel) in row[left..left + width].iter_mut().zip(source.chunks_exact(3)) {
                *value = table[pixel[channel] as usize];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use image::Rgb;
    use proptest::prelude::*;

    fn input(size: usize) -> Array4<f32> {
        Array4::zeros((1, 3, size, size))
    }

    #[test]
    fn picture_of_model_size_is_only_normalised() {
        let image = RgbImage::from_fn(512, 512, |x, y| Rgb([(x % 256) as u8, (y % 256) as u8, 7]));
        let mut out = input(512);
        let letterbox = preprocess(&image, &View::whole(512, 512), &mut out, &mut Scratch::default()).unwrap();
        assert_eq!((letterbox.pad_x, letterbox.pad_y), (0, 0));
        for (x, y) in [(0, 0), (300, 17), (511, 511)] {
            for channel in 0..3 {
                let value = f32::from(image.get_pixel(x, y)[channel]) / 255.0;
                let expected = (value - MEAN[channel]) / DEVIATION[channel];
                let got = out[[0, channel, y as usize, x as usize]];
                assert!((got - expected).abs() < 1e-5, "channel {channel} at ({x}, {y}): {got} is not {expected}");
            }
        }
    }

    #[test]
    fn wide_frame_is_letterboxed_with_grey_above_and_below() {
        let image = RgbImage::from_pixel(1920, 1080, Rgb([200, 100, 50]));
        let mut out = input(512);
        let letterbox = preprocess(&image, &View::whole(1920, 1080), &mut out, &mut Scratch::default()).unwrap();
        assert_eq!((letterbox.inner_width, letterbox.inner_height), (512, 288));
        assert_eq!((letterbox.pad_x, letterbox.pad_y), (0, 112));
        let grey = (114.0 / 255.0 - MEAN[0]) / DEVIATION[0];
        let red = (200.0 / 255.0 - MEAN[0]) / DEVIATION[0];
        assert!((out[[0, 0, 111, 256]] - grey).abs() < 1e-5);
        assert!((out[[0, 0, 112, 256]] - red).abs() < 1e-5);
        assert!((out[[0, 0, 399, 256]] - red).abs() < 1e-5);
        assert!((out[[0, 0, 400, 256]] - grey).abs() < 1e-5);
    }

    #[test]
    fn downscaling_averages_instead_of_skipping() {
        // One-pixel stripes alias to black or white without antialiasing; averaged they are mid grey.
        let image = RgbImage::from_fn(1024, 1024, |x, _| Rgb([if x % 2 == 0 { 0 } else { 254 }; 3]));
        let mut out = input(512);
        preprocess(&image, &View::whole(1024, 1024), &mut out, &mut Scratch::default()).unwrap();
        let expected = (127.0 / 255.0 - MEAN[1]) / DEVIATION[1];
        assert!((out[[0, 1, 250, 250]] - expected).abs() < 0.05);
    }

    #[test]
    fn a_view_shows_only_its_region() {
        let image = RgbImage::from_fn(800, 600, |x, _| if x < 400 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) });
        let view = View { x: 400.0, y: 0.0, width: 400.0, height: 400.0 };
        let mut out = input(256);
        preprocess(&image, &view, &mut out, &mut Scratch::default()).unwrap();
        let no_red = (0.0 - MEAN[0]) / DEVIATION[0];
        assert!((out[[0, 0, 128, 4]] - no_red).abs() < 1e-5);
    }

    #[test]
    fn bad_frames_and_views_are_errors() {
        let mut out = input(512);
        let mut scratch = Scratch::default();
        let empty = RgbImage::new(0, 0);
        let error = preprocess(&empty, &View::whole(0, 0), &mut out, &mut scratch).unwrap_err();
        assert!(matches!(error, Error::Empty { .. }));
        let image = RgbImage::new(10, 10);
        for view in [
            View { x: 5.0, y: 0.0, width: 6.0, height: 5.0 },
            View { x: -1.0, y: 0.0, width: 6.0, height: 5.0 },
            View { x: 0.0, y: 0.0, width: 0.0, height: 5.0 },
            View { x: f32::NAN, y: 0.0, width: 5.0, height: 5.0 },
        ] {
            let error = preprocess(&image, &view, &mut out, &mut scratch).unwrap_err();
            assert!(matches!(error, Error::ViewOutside { .. }), "{view:?}: {error}");
        }
        let mut wrong = Array4::zeros((1, 1, 512, 512));
        let error = preprocess(&image, &View::whole(10, 10), &mut wrong, &mut scratch).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }));
    }

    #[test]
    fn hint_in_the_frame_lands_on_the_same_spot_of_the_input() {
        let letterbox = Letterbox::new(View::whole(1920, 1080), 512);
        let centre = letterbox.hint(&Hint::Point { x: 0.5, y: 0.5 }, 1920, 1080);
        assert_eq!(centre, Some(Hint::Point { x: 0.5, y: 0.5 }));
        let top = letterbox.hint(&Hint::Point { x: 0.0, y: 0.0 }, 1920, 1080);
        assert_eq!(top, Some(Hint::Point { x: 0.0, y: 112.0 / 512.0 }));
        let tile = Letterbox::new(View { x: 0.0, y: 0.0, width: 100.0, height: 100.0 }, 512);
        assert_eq!(tile.hint(&Hint::Point { x: 0.5, y: 0.5 }, 1920, 1080), None);
    }

    proptest! {
        #[test]
        fn there_and_back_again(
            x in 0.0_f32..900.0, y in 0.0_f32..900.0, width in 1.0_f32..1000.0, height in 1.0_f32..1000.0,
            u in 0.0_f32..1.0, v in 0.0_f32..1.0,
        ) {
            let letterbox = Letterbox::new(View { x, y, width, height }, 512);
            let (px, py) = (x + u * width, y + v * height);
            let (mx, my) = letterbox.to_model(px, py);
            prop_assert!((0.0..=512.0).contains(&(mx - 1e-3).max(0.0)) && (0.0..=512.0).contains(&(my - 1e-3).max(0.0)));
            let (bx, by) = letterbox.to_frame(mx, my);
            prop_assert!((bx - px).abs() < 0.02 && (by - py).abs() < 0.02);
        }
    }
}
