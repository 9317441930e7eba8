//! Frames of a camera over the link: a small header beside the bytes of a picture.
//!
//! The picture is the payload of a zenoh sample, so that any viewer can show a JPEG; the header is its attachment.

use crate::codec::Message;
use crate::error::LinkError;
use crate::mask::MAX_SIDE;
use serde::{Deserialize, Serialize};

/// Most bytes of the picture beside a header.
pub const MAX_PICTURE_BYTES: usize = 64 * 1024 * 1024;

/// Most bytes of [`FrameHeader::pose`].
pub const MAX_POSE_BYTES: usize = 4 * 1024;

/// What the bytes of a picture are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PictureFormat {
    /// A JPEG file.
    Jpeg,
    /// A PNG file.
    Png,
    /// Red, green and blue in a byte each, row by row from the top left, nothing between rows.
    Rgb8,
}

/// What is said of one frame beside its picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameHeader {
    /// When the picture was taken, nanoseconds since the Unix epoch as the camera says.
    pub capture_unix_nanos: u64,
    /// What the bytes of the picture are.
    pub format: PictureFormat,
    /// Width in pixels, 1 to [`MAX_SIDE`].
    pub width_pixels: u32,
    /// Height in pixels, 1 to [`MAX_SIDE`].
    pub height_pixels: u32,
    /// The camera's pose at that moment: the text of a pose file, at most [`MAX_POSE_BYTES`] bytes of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pose: Option<String>,
}

impl Message for FrameHeader {
    const NAME: &'static str = "frame header";
    const MAX_BYTES: usize = 8 * 1024;

    fn validate(&self) -> Result<(), LinkError> {
        for (field, side) in [("frame.width_pixels", self.width_pixels), ("frame.height_pixels", self.height_pixels)] {
            if !(1..=MAX_SIDE).contains(&side) {
                return Err(LinkError::field(field, format!("1..={MAX_SIDE}"), side));
            }
        }
        match &self.pose {
            Some(pose) if pose.len() > MAX_POSE_BYTES => {
                Err(LinkError::TooLarge { operation: "frame.pose", limit: MAX_POSE_BYTES, got: pose.len() })
            }
            _ => Ok(()),
        }
    }
}

impl FrameHeader {
    /// Checks the number of bytes of the picture before anything is made of them.
    ///
    /// # Errors
    /// When there are none or too many, or, of [`PictureFormat::Rgb8`], not exactly as many as the sides ask for.
    pub fn check_picture(&self, bytes: usize) -> Result<(), LinkError> {
        if bytes > MAX_PICTURE_BYTES {
            return Err(LinkError::TooLarge { operation: "frame picture", limit: MAX_PICTURE_BYTES, got: bytes });
        }
        let expected = u64::from(self.width_pixels) * u64::from(self.height_pixels) * 3;
        match self.format {
            PictureFormat::Rgb8 if bytes as u64 != expected => {
                Err(LinkError::field("frame picture", format!("{expected} bytes of red, green and blue"), bytes))
            }
            _ if bytes == 0 => Err(LinkError::field("frame picture", "the bytes of a picture", bytes)),
            _ => Ok(()),
        }
    }
}
