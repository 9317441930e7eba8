//! Pictures of a record.

use std::io::Cursor;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use image::{ImageFormat, ImageReader, Limits, RgbImage};

use super::foxglove::CompressedImage;
use super::read::parse;

/// Most bytes that decoding one picture may take.
const MOST_PICTURE_BYTES: u64 = 512 * 1024 * 1024;

/// A picture as it lies in the record.
#[derive(Debug, Clone)]
pub struct Picture(Arc<Vec<u8>>);

impl Picture {
    pub(super) fn parse(message: &[u8]) -> Result<Self, String> {
        let image: CompressedImage<'_> = parse(message)?;
        if image.format != "png" {
            let format: String = image.format.chars().take(20).collect();
            return Err(format!("picture: expected a png, got {format:?}"));
        }
        let bytes = BASE64_STANDARD.decode(image.data.as_bytes()).map_err(|error| format!("picture: {error}"))?;
        Ok(Self(Arc::new(bytes)))
    }

    /// The pixels, `width` × `height` of them.
    ///
    /// # Errors
    /// Says what is wrong with the picture.
    pub fn decode(&self, width: u32, height: u32) -> Result<RgbImage, String> {
        let mut reader = ImageReader::with_format(Cursor::new(self.0.as_slice()), ImageFormat::Png);
        let mut limits = Limits::default();
        limits.max_image_width = Some(width);
        limits.max_image_height = Some(height);
        limits.max_alloc = Some(MOST_PICTURE_BYTES);
        reader.limits(limits);
        let picture = reader.decode().map_err(|error| format!("picture: {error}"))?.into_rgb8();
        if (picture.width(), picture.height()) != (width, height) {
            let got = format!("{}×{}", picture.width(), picture.height());
            return Err(format!("picture: expected {width}×{height} pixels, got {got}"));
        }
        Ok(picture)
    }
}
