//! Where frames come from.
//!
//! A [`Source`] gives one frame after the other: pictures of a [folder](Origin::Folder), a video file or stream through
//! ffmpeg, a V4L2 device, or another process on the network. [`CameraOptions`] says which; a [`Feed`] is the thread that
//! runs it, opens it again when it fails, holds its stamps against the drone's clocks ([`stamps`]) and hands its frames on.
//! Between a source and whoever looks at its frames there is room for one frame: a newer one takes its place.

mod error;
mod feed;
mod ffmpeg;
mod folder;
mod network;
mod options;
mod picture;
mod ppm;
mod slot;
pub mod stamps;
#[cfg(all(target_os = "linux", feature = "v4l2"))]
mod v4l2;
mod watch;
#[cfg(any(test, all(target_os = "linux", feature = "v4l2")))]
mod yuyv;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use image::RgbImage;
use kestrel_perception::Pose;

pub use error::CameraError;
pub use feed::{Feed, STOP_WITHIN};
pub use ffmpeg::{find as find_ffmpeg, version as ffmpeg_version};
pub use folder::pictures;
pub use network::Network;
pub use options::{CameraOptions, Origin};
pub use picture::load;
pub use watch::{Counts, Watch};

/// A frame as its source gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Captured {
    /// The picture.
    pub image: RgbImage,
    /// When it was taken, nanoseconds since the Unix epoch as the camera says. It may be wrong.
    pub capture_unix_nanos: u64,
    /// Where the camera was and where it looked, if that is known.
    pub pose: Option<Pose>,
}

/// What a source has.
#[derive(Debug)]
pub enum Next {
    /// A frame.
    Frame(Captured),
    /// Nothing yet.
    Nothing,
    /// A frame that cannot be used, and why; the source goes on.
    Lost(CameraError),
    /// No more frames, and that is no fault.
    Ended,
}

/// A camera.
pub trait Source: Send {
    /// Waits for the next frame, and returns without one after about `wait`.
    ///
    /// # Errors
    /// When the source gives no more frames until it is opened again.
    fn next(&mut self, wait: Duration) -> Result<Next, CameraError>;

    /// Frames that were replaced by newer ones before [`Source::next`] took them, since the source was opened.
    fn replaced(&self) -> u64 {
        0
    }
}

/// V4L2 devices that the system lists, each with its name.
#[must_use]
pub fn v4l2_devices() -> Vec<(std::path::PathBuf, String)> {
    let Ok(entries) = std::fs::read_dir("/sys/class/video4linux") else { return Vec::new() };
    let mut devices: Vec<_> = entries
        .flatten()
        .map(|entry| {
            let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            (std::path::Path::new("/dev").join(entry.file_name()), name.trim().to_owned())
        })
        .collect();
    devices.sort();
    devices
}

/// The wall clock in nanoseconds since the Unix epoch.
#[must_use]
pub fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
