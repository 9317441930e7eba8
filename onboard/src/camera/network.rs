//! Frames that another process publishes: a simulator, a ROS bridge, a camera driver of its own.
//!
//! Each is one zenoh sample: the picture as payload, a [`FrameHeader`] as attachment (docs/reference/link.cddl). Bytes of the
//! network are judged before anything is made of them; what is wrong costs one frame and a line of the log.

use std::sync::Arc;
use std::time::Duration;

use image::{ImageFormat, RgbImage};
use kestrel_link::{DroneId, FrameHeader, PictureFormat, PoseSample, decode};
use kestrel_perception::Pose;
use zenoh::pubsub::Subscriber;
use zenoh::sample::{Sample, SampleKind};
use zenoh::{Session, Wait};

use super::slot::{Slot, Taken};
use super::{CameraError, Captured, Next, Source, picture};
use crate::position::parse_pose;

/// The network that frames may come from.
#[derive(Clone)]
pub struct Network {
    /// The drone's session.
    pub session: Session,
    /// Whose camera it is.
    pub drone: DroneId,
}

/// Frames published on a key.
pub(super) struct FromNetwork {
    key: String,
    samples: Arc<Slot<Sample>>,
    /// Takes samples in for as long as it is held.
    _subscriber: Subscriber<()>,
}

impl FromNetwork {
    /// Listens on a key, or on the drone's own.
    pub(super) fn open(network: &Network, key: Option<&str>) -> Result<Self, CameraError> {
        let key = key.map_or_else(|| network.drone.camera(), str::to_owned);
        let samples = Arc::new(Slot::new());
        let taking = Arc::clone(&samples);
        let subscriber = network
            .session
            .declare_subscriber(key.clone())
            .callback(move |sample| {
                // A deleted key is no frame, and whoever stopped listening wants none.
                if sample.kind() == SampleKind::Put {
                    taking.put(sample);
                }
            })
            .wait()
            .map_err(|error| CameraError::Open { source_name: format!("zenoh:{key}"), why: error.to_string() })?;
        Ok(Self { key, samples, _subscriber: subscriber })
    }
}

impl Source for FromNetwork {
    fn next(&mut self, wait: Duration) -> Result<Next, CameraError> {
        match self.samples.take(wait) {
            Taken::Item(sample) => {
                let header = sample.attachment().map(|header| header.to_bytes());
                let length = sample.payload().len();
                Ok(match announced(header.as_deref(), length) {
                    // Only now is the picture, which may lie in pieces, put together.
                    Ok(header) => captured(&header, &sample.payload().to_bytes()).map_or_else(Next::Lost, Next::Frame),
                    Err(error) => Next::Lost(error),
                })
            }
            Taken::Nothing => Ok(Next::Nothing),
            Taken::Closed(why) => Err(CameraError::Ended { source_name: format!("zenoh:{}", self.key), why }),
        }
    }

    fn replaced(&self) -> u64 {
        self.samples.replaced()
    }
}

fn wrong(why: impl Into<String>) -> CameraError {
    CameraError::Frame { source_name: "the network".into(), why: why.into() }
}

/// What the header announces, when a picture of so many bytes can be it.
fn announced(header: Option<&[u8]>, picture_bytes: usize) -> Result<FrameHeader, CameraError> {
    let header = header.ok_or_else(|| wrong("expected a frame-header as attachment, got none"))?;
    let header: FrameHeader = decode(header)?;
    header.check_picture(picture_bytes)?;
    Ok(header)
}

/// A frame of a header and the bytes of its picture.
fn captured(header: &FrameHeader, bytes: &[u8]) -> Result<Captured, CameraError> {
    let (width, height) = (header.width_pixels, header.height_pixels);
    let decoded = |format| picture::decode(bytes, format, width, height).map_err(wrong);
    let image = match header.format {
        PictureFormat::Jpeg => decoded(ImageFormat::Jpeg)?,
        PictureFormat::Png => decoded(ImageFormat::Png)?,
        PictureFormat::Rgb8 => RgbImage::from_raw(width, height, bytes.to_vec())
            .ok_or_else(|| wrong("expected as many bytes as the sides ask for"))?,
        other => return Err(wrong(format!("expected jpeg, png or rgb8, got {other:?}"))),
    };
    if image.dimensions() != (width, height) {
        let (got_width, got_height) = image.dimensions();
        return Err(wrong(format!("expected {width}x{height} pixels as announced, got {got_width}x{got_height}")));
    }
    Ok(Captured { image, capture_unix_nanos: header.capture_unix_nanos, pose: pose(header)? })
}

fn pose(header: &FrameHeader) -> Result<Option<Pose>, CameraError> {
    let Some(text) = &header.pose else { return Ok(None) };
    parse_pose(text).map(Some).map_err(|why| wrong(format!("pose: {why}")))
}

impl Network {
    /// Publishes a frame on a key as this program takes it, as PNG or as raw pixels; `None` is the drone's own key.
    ///
    /// It blocks while the network is congested.
    ///
    /// # Errors
    /// When the frame is larger than the contract allows, or the network does not take it.
    pub fn publish(&self, key: Option<&str>, frame: &Captured, as_png: bool) -> Result<(), CameraError> {
        let (header, picture) = sendable(frame, as_png)?;
        let attachment = kestrel_link::encode(&header)?;
        let key = key.map_or_else(|| self.drone.camera(), str::to_owned);
        let encoding =
            if as_png { zenoh::bytes::Encoding::IMAGE_PNG } else { zenoh::bytes::Encoding::APPLICATION_OCTET_STREAM };
        // Droppable samples of this size are lost even on an idle link.
        let control = zenoh::qos::CongestionControl::Block;
        self.session
            .put(key.clone(), picture)
            .encoding(encoding)
            .attachment(attachment)
            .congestion_control(control)
            .wait()
            .map_err(|error| CameraError::Open { source_name: format!("zenoh:{key}"), why: error.to_string() })
    }
}

impl Network {
    /// Publishes the pose that held at a time, for a camera whose frames bring none.
    ///
    /// # Errors
    /// When the time is 0, or the network does not take it.
    pub fn publish_pose(&self, time_unix_nanos: u64, pose: &Pose) -> Result<(), CameraError> {
        let pose = serde_json::to_string(pose).map_err(|error| wrong(error.to_string()))?;
        let sample = kestrel_link::encode(&PoseSample { time_unix_nanos, pose })?;
        let key = self.drone.pose();
        self.session
            .put(key.clone(), sample)
            .encoding(zenoh::bytes::Encoding::APPLICATION_CBOR)
            .wait()
            .map_err(|error| CameraError::Open { source_name: format!("zenoh:{key}"), why: error.to_string() })
    }
}

/// A frame as header and bytes.
fn sendable(frame: &Captured, as_png: bool) -> Result<(FrameHeader, Vec<u8>), CameraError> {
    let picture = if as_png {
        let mut png = Vec::new();
        frame
            .image
            .write_to(&mut std::io::Cursor::new(&mut png), ImageFormat::Png)
            .map_err(|error| wrong(error.to_string()))?;
        png
    } else {
        frame.image.as_raw().clone()
    };
    let pose = frame.pose.map(|pose| serde_json::to_string(&pose)).transpose();
    let header = FrameHeader {
        capture_unix_nanos: frame.capture_unix_nanos,
        format: if as_png { PictureFormat::Png } else { PictureFormat::Rgb8 },
        width_pixels: frame.image.width(),
        height_pixels: frame.image.height(),
        pose: pose.map_err(|error| wrong(error.to_string()))?,
    };
    header.check_picture(picture.len())?;
    Ok((header, picture))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use image::Rgb;
    use proptest::prelude::*;

    const POSE: &str = include_str!("../../../docs/concepts/pose.json");

    fn frame() -> Captured {
        let image = RgbImage::from_fn(7, 5, |x, y| Rgb([x as u8 * 30, y as u8 * 40, 9]));
        Captured {
            image,
            capture_unix_nanos: 1_790_000_000_000_000_007,
            pose: Some(serde_json::from_str(POSE).unwrap()),
        }
    }

    fn take(header: Option<&[u8]>, picture: &[u8]) -> Result<Captured, CameraError> {
        captured(&announced(header, picture.len())?, picture)
    }

    #[test]
    fn what_is_published_is_taken_as_it_was() {
        for as_png in [true, false] {
            let (header, picture) = sendable(&frame(), as_png).unwrap();
            let header = kestrel_link::encode(&header).unwrap();
            assert_eq!(take(Some(&header), &picture).unwrap(), frame());
        }
    }

    /// Promise: P13
    #[test]
    fn a_picture_that_is_not_as_announced_is_left_out() {
        let (png, picture) = sendable(&frame(), true).unwrap();
        let cases = [
            (png.clone(), picture[..picture.len() / 2].to_vec(), "frame of the network"),
            (FrameHeader { width_pixels: 6, ..png.clone() }, picture.clone(), "frame of the network"),
            (FrameHeader { width_pixels: 8, ..png.clone() }, picture.clone(), "8x5 pixels as announced, got 7x5"),
            (FrameHeader { format: PictureFormat::Jpeg, ..png.clone() }, picture.clone(), "frame of the network"),
            (FrameHeader { format: PictureFormat::Rgb8, ..png.clone() }, picture.clone(), "105 bytes"),
            (FrameHeader { pose: Some("{}".into()), ..png.clone() }, picture.clone(), "pose: missing field"),
            (FrameHeader { pose: Some(POSE.replace("\": ", "\": -9999")), ..png }, picture, "pose: "),
        ];
        for (header, picture, words) in cases {
            let header = kestrel_link::encode(&header).unwrap();
            let error = take(Some(&header), &picture).unwrap_err().to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
        assert!(take(None, b"\xff\xd8").unwrap_err().to_string().contains("got none"));
    }

    proptest! {
        /// Promise: P13
        #[test]
        fn arbitrary_headers_and_pictures_never_panic(header in proptest::collection::vec(any::<u8>(), 0..200), picture in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = take(Some(&header), &picture);
        }

        /// Promise: P13
        #[test]
        fn a_damaged_frame_never_panics(in_header: bool, at: usize, value: u8, as_png: bool) {
            let (header, mut picture) = sendable(&frame(), as_png).unwrap();
            let mut header = kestrel_link::encode(&header).unwrap();
            let bytes = if in_header { &mut header } else { &mut picture };
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(captured) = take(Some(&header), &picture) {
                prop_assert!(captured.pose.is_none_or(|pose| pose.check().is_ok()));
            }
        }
    }
}
