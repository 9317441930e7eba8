//! A V4L2 device of Linux: MJPEG, or YUYV where there is no MJPEG.
//!
//! The kernel stamps each frame with the monotonic clock when its transfer begins or ends; that is told in wall-clock time.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::{ImageFormat, RgbImage};
use rustix::time::{ClockId, clock_gettime};
use v4l::buffer::{Flags, Metadata, Type};
use v4l::io::mmap::Stream;
use v4l::io::traits::CaptureStream;
use v4l::video::Capture;
use v4l::{Format, FourCC};

use super::slot::{Slot, Taken};
use super::{CameraError, Captured, Next, Source, picture, unix_nanos, yuyv};

/// Buffers that the driver fills.
const BUFFERS: u32 = 3;
/// Longest time that one wait for the driver may take.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A frame as the driver gives it.
struct Raw {
    bytes: Vec<u8>,
    capture_unix_nanos: u64,
}

/// A device that is read by a thread of its own, because a driver may hang.
pub(super) struct Device {
    name: String,
    format: Format,
    frames: Arc<Slot<Raw>>,
    stall: Duration,
    /// When it must have given a frame.
    due: Instant,
}

impl Device {
    /// Opens the device at `path` with the size that is asked for, or its own.
    pub(super) fn open(path: &Path, size: Option<(u32, u32)>, stall: Duration) -> Result<Self, CameraError> {
        let name = format!("v4l2:{}", path.display());
        let failed = |what: &str, error: io::Error| CameraError::Open {
            source_name: name.clone(),
            why: format!("{what}: {error}"),
        };
        let device = v4l::Device::with_path(path).map_err(|error| failed("open", error))?;
        let format = negotiate(&device, size).map_err(|error| failed("format", error))?;
        let frames = Arc::new(Slot::new());
        let filling = Arc::clone(&frames);
        let patience = stall.min(LONGEST_WAIT);
        std::thread::Builder::new()
            .name("camera-v4l2".into())
            .spawn(move || {
                let _closing = Closing(Arc::clone(&filling));
                if let Err(error) = fill(&device, patience, &filling) {
                    filling.close(error.to_string());
                }
            })
            .map_err(|error| failed("starting thread camera-v4l2", error))?;
        tracing::info!("{name}: {} of {}x{} pixels", format.fourcc, format.width, format.height);
        Ok(Self { name, format, frames, stall, due: Instant::now() + stall })
    }
}

/// Says that nothing more comes, however its thread ends.
struct Closing(Arc<Slot<Raw>>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close("its thread has ended");
    }
}

/// The format and size nearest to what is wanted.
fn negotiate(device: &v4l::Device, size: Option<(u32, u32)>) -> io::Result<Format> {
    let mut wanted = device.format()?;
    if let Some((width, height)) = size {
        (wanted.width, wanted.height) = (width, height);
    }
    for code in [b"MJPG", b"YUYV"] {
        wanted.fourcc = FourCC::new(code);
        let got = device.set_format(&wanted)?;
        if &got.fourcc.repr == code {
            return Ok(got);
        }
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, "expected a device that gives MJPEG or YUYV, it gives neither"))
}

/// Takes frames from the driver until nobody wants them.
fn fill(device: &v4l::Device, patience: Duration, frames: &Slot<Raw>) -> io::Result<()> {
    let mut stream = Stream::with_buffers(device, Type::VideoCapture, BUFFERS)?;
    stream.set_timeout(patience);
    loop {
        let (bytes, about) = stream.next()?;
        let used = (about.bytesused as usize).min(bytes.len());
        let raw = Raw { bytes: bytes[..used].to_vec(), capture_unix_nanos: captured_at(about) };
        if !frames.put(raw) {
            return Ok(());
        }
    }
}

/// When the driver says that a frame was taken; now, when it says that by no clock that is known.
fn captured_at(about: &Metadata) -> u64 {
    let unix_now = unix_nanos();
    if about.flags & Flags::TIMESTAMP_MASK != Flags::TIMESTAMP_MONOTONIC {
        return unix_now;
    }
    let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    let now = clock_gettime(ClockId::Monotonic);
    let taken = nanos(about.timestamp.sec, about.timestamp.usec.saturating_mul(1000));
    let age = nanos(now.tv_sec, now.tv_nsec).saturating_sub(taken);
    unix_now.saturating_sub(u64::try_from(age).unwrap_or(0))
}

impl Device {
    fn convert(&self, bytes: &[u8]) -> Result<RgbImage, String> {
        let Format { width, height, stride, .. } = self.format;
        if &self.format.fourcc.repr == b"MJPG" {
            return picture::decode(bytes, ImageFormat::Jpeg, width, height);
        }
        yuyv::to_rgb(bytes, width, height, stride as usize)
            .ok_or_else(|| format!("the picture is torn: {} bytes for {width}x{height} pixels", bytes.len()))
    }
}

impl Source for Device {
    fn next(&mut self, wait: Duration) -> Result<Next, CameraError> {
        match self.frames.take(wait) {
            Taken::Item(raw) => {
                self.due = Instant::now() + self.stall;
                let Raw { bytes, capture_unix_nanos } = raw;
                Ok(match self.convert(&bytes) {
                    Ok(image) => Next::Frame(Captured { image, capture_unix_nanos, pose: None }),
                    Err(why) => Next::Lost(CameraError::Frame { source_name: self.name.clone(), why }),
                })
            }
            Taken::Closed(why) => Err(CameraError::Ended { source_name: self.name.clone(), why }),
            Taken::Nothing if Instant::now() >= self.due => {
                Err(CameraError::Stalled { source_name: self.name.clone(), patience: self.stall })
            }
            Taken::Nothing => Ok(Next::Nothing),
        }
    }

    fn replaced(&self) -> u64 {
        self.frames.replaced()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Its thread ends with the next frame, or when none comes for too long.
        self.frames.close("the camera was stopped");
    }
}
