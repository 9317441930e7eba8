//! Which camera, and how it is run.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::ffmpeg::{self, Ffmpeg, Input};
use super::folder::{self, Folder};
use super::network::{FromNetwork, Network};
use super::stamps::StampLimits;
use super::{CameraError, Source};

/// What can be written for a source.
const EXPECTED: &str = "folder:PATH, video:PATH, rtsp://HOST/PATH, v4l2:/dev/videoN, or zenoh: with a key or without";

/// Where frames come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A picture, or a folder of pictures in the order of their names.
    Folder(PathBuf),
    /// A video file, or an address that ffmpeg plays.
    Video(String),
    /// A live stream (`rtsp://` or `rtsps://`), played by ffmpeg.
    Stream(String),
    /// A V4L2 device of Linux.
    V4l2(PathBuf),
    /// Frames that another process publishes on this key; `None` is the drone's own, `kestrel/{drone}/camera`.
    Zenoh(Option<String>),
}

impl FromStr for Origin {
    type Err = CameraError;

    fn from_str(text: &str) -> Result<Self, CameraError> {
        let wrong = || CameraError::Origin { expected: EXPECTED, got: without_password(text) };
        let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
        let named = |rest: &str| if rest.is_empty() { Err(wrong()) } else { Ok(rest.to_owned()) };
        match scheme {
            "folder" => Ok(Self::Folder(named(rest)?.into())),
            "video" => Ok(Self::Video(named(rest)?)),
            "rtsp" | "rtsps" if rest.len() > 2 && rest.starts_with("//") => Ok(Self::Stream(text.to_owned())),
            "v4l2" => Ok(Self::V4l2(named(rest)?.into())),
            "zenoh" if rest.is_empty() => Ok(Self::Zenoh(None)),
            "zenoh" => match zenoh::key_expr::KeyExpr::try_from(rest) {
                Ok(_) if !rest.contains('*') => Ok(Self::Zenoh(Some(rest.to_owned()))),
                _ => {
                    Err(CameraError::Origin { expected: "a key without wildcards behind zenoh:", got: text.to_owned() })
                }
            },
            _ => Err(wrong()),
        }
    }
}

/// The text that names the source, without a password.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "folder:{}", path.display()),
            Self::Video(address) => write!(f, "video:{}", without_password(address)),
            Self::Stream(address) => f.write_str(&without_password(address)),
            Self::V4l2(path) => write!(f, "v4l2:{}", path.display()),
            Self::Zenoh(key) => write!(f, "zenoh:{}", key.as_deref().unwrap_or_default()),
        }
    }
}

/// An address with `…` for what stands before the host.
fn without_password(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match host.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}{path}"),
        None => address.to_owned(),
    }
}

/// A camera and how it is run.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraOptions {
    /// Where frames come from.
    pub origin: Origin,
    /// Pictures per second of a folder; the most that are taken of a video or stream. Above 0.
    pub frames_per_second: f64,
    /// Whether a folder or video file starts again at its end.
    pub repeat: bool,
    /// The ffmpeg that plays videos and streams; `None` takes the one in `PATH`.
    pub ffmpeg: Option<PathBuf>,
    /// Width and height in pixels that a V4L2 device is asked for; `None` leaves its own.
    pub size_pixels: Option<(u32, u32)>,
    /// A source that gives no frame for this long is stopped and opened again; silence is told in any case.
    pub stall: Duration,
    /// Pause before a source is opened again, doubled with every further failure…
    pub restart_first: Duration,
    /// …up to this one.
    pub restart_most: Duration,
    /// Which capture times are believed.
    pub stamps: StampLimits,
}

impl CameraOptions {
    /// Two frames a second, again and again; 5 s of patience; pauses of 0.5 s to 30 s.
    #[must_use]
    pub fn of(origin: Origin) -> Self {
        Self {
            origin,
            frames_per_second: 2.0,
            repeat: true,
            ffmpeg: None,
            size_pixels: None,
            stall: Duration::from_secs(5),
            restart_first: Duration::from_millis(500),
            restart_most: Duration::from_secs(30),
            stamps: StampLimits::default(),
        }
    }

    /// Says what is missing, before a flight is made ready for nothing. A stream or device that is not there yet may come.
    ///
    /// # Errors
    /// When the source cannot give frames as things are.
    pub fn check(&self) -> Result<(), CameraError> {
        match &self.origin {
            Origin::Folder(path) => folder::pictures(path).map(drop),
            Origin::Video(address) => {
                ffmpeg::find(self.ffmpeg.as_deref())?;
                let path = PathBuf::from(address);
                match address.contains("://") || path.exists() {
                    true => Ok(()),
                    false => Err(CameraError::Read {
                        operation: "open",
                        path,
                        source: std::io::Error::from(std::io::ErrorKind::NotFound),
                    }),
                }
            }
            Origin::Stream(_) => ffmpeg::find(self.ffmpeg.as_deref()).map(drop),
            Origin::V4l2(_) if cfg!(all(target_os = "linux", feature = "v4l2")) => Ok(()),
            Origin::V4l2(_) => Err(self.not_built()),
            Origin::Zenoh(_) => Ok(()),
        }
    }

    /// Opens the source.
    ///
    /// # Errors
    /// When it cannot be had now.
    pub fn open(&self, network: &Network) -> Result<Box<dyn Source>, CameraError> {
        match &self.origin {
            Origin::Folder(path) => Ok(Box::new(Folder::open(path, self.frames_per_second, self.repeat)?)),
            Origin::Video(address) => {
                let is_file = !address.contains("://");
                // With the protocol named, a colon in a file's name names none.
                let address = if is_file { format!("file:{address}") } else { address.clone() };
                self.play(address, is_file)
            }
            Origin::Stream(address) => self.play(address.clone(), false),
            #[cfg(all(target_os = "linux", feature = "v4l2"))]
            Origin::V4l2(path) => Ok(Box::new(super::v4l2::Device::open(path, self.size_pixels, self.stall)?)),
            #[cfg(not(all(target_os = "linux", feature = "v4l2")))]
            Origin::V4l2(_) => Err(self.not_built()),
            Origin::Zenoh(key) => Ok(Box::new(FromNetwork::open(network, key.as_deref())?)),
        }
    }

    fn play(&self, address: String, is_file: bool) -> Result<Box<dyn Source>, CameraError> {
        let program = ffmpeg::find(self.ffmpeg.as_deref())?;
        let input = Input {
            address,
            shown: self.origin.to_string(),
            is_file,
            repeat: self.repeat,
            frames_per_second: self.frames_per_second,
        };
        Ok(Box::new(Ffmpeg::start(&program, input, self.stall)?))
    }

    fn not_built(&self) -> CameraError {
        CameraError::NotBuilt { source_name: self.origin.to_string(), needs: "the feature v4l2, on Linux" }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_kind_of_source_is_read_and_named_alike() {
        for (text, origin) in [
            ("folder:frames", Origin::Folder("frames".into())),
            ("video:a:b.mp4", Origin::Video("a:b.mp4".into())),
            ("video:http://camera/v.mjpeg", Origin::Video("http://camera/v.mjpeg".into())),
            ("rtsp://camera:554/1", Origin::Stream("rtsp://camera:554/1".into())),
            ("v4l2:/dev/video0", Origin::V4l2("/dev/video0".into())),
            ("zenoh:", Origin::Zenoh(None)),
            ("zenoh:ros/camera", Origin::Zenoh(Some("ros/camera".into()))),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap(), origin);
            assert_eq!(origin.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_source_is_told_with_what_would_be() {
        for text in ["", "frames", "folder:", "video:", "v4l2:", "rtsp:", "rtsp://", "usb:0", "zenoh:a/*", "zenoh:/a"] {
            let error = text.parse::<Origin>().unwrap_err();
            assert!(error.to_string().starts_with("camera.source: expected "), "{text}: {error}");
        }
    }

    /// What would break: a password in health, which everybody on the network can read.
    #[test]
    fn a_password_is_never_shown() {
        let origin: Origin = "rtsp://pilot:s3cret@10.0.0.2:554/live".parse().unwrap();
        assert_eq!(origin.to_string(), "rtsp://…@10.0.0.2:554/live");
        let error = "rtmp://pilot:s3cret@host/x".parse::<Origin>().unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
        assert_eq!(without_password("rtsp://a@b:c@host"), "rtsp://…@host");
    }

    #[test]
    fn what_is_missing_is_told_before_the_flight() {
        let nowhere = CameraOptions::of(Origin::Folder("no/such/folder".into()));
        assert!(matches!(nowhere.check(), Err(CameraError::Read { .. })));
        let origin = Origin::Stream("rtsp://camera/".into());
        let no_program = CameraOptions { ffmpeg: Some("no/such/ffmpeg".into()), ..CameraOptions::of(origin) };
        assert!(matches!(no_program.check(), Err(CameraError::NoFfmpeg { .. })));
        assert!(CameraOptions::of(Origin::Zenoh(None)).check().is_ok());
    }
}
