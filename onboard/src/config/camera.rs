//! The section on where frames come from.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use crate::camera::stamps::StampLimits;
use crate::camera::{CameraError, CameraOptions, Origin};

/// The longest pause or patience, and the largest side, that make sense.
const MOST_MILLIS: u64 = 3_600_000;
const MOST_PIXELS: u32 = kestrel_link::mask::MAX_SIDE;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Camera {
    source: String,
    path: PathBuf,
    frames_per_second: f64,
    repeat: bool,
    ffmpeg: PathBuf,
    width_pixels: u32,
    height_pixels: u32,
    stall_millis: u64,
    restart_first_millis: u64,
    restart_most_millis: u64,
    stamp_tolerance_millis: u64,
    stamp_most_age_millis: u64,
    gap_intervals: f64,
}

fn wrong(key: &'static str, expected: impl Into<String>, got: impl ToString) -> ConfigError {
    ConfigError::Value { key, expected: expected.into(), got: got.to_string() }
}

/// A time in milliseconds that is at least `least`.
fn millis(key: &'static str, value: u64, least: u64) -> Result<Duration, ConfigError> {
    match (least..=MOST_MILLIS).contains(&value) {
        true => Ok(Duration::from_millis(value)),
        false => Err(wrong(key, format!("{least} to {MOST_MILLIS}"), value)),
    }
}

impl Camera {
    /// Which camera, and how it is run.
    pub(super) fn options(&self) -> Result<CameraOptions, ConfigError> {
        let rate = self.frames_per_second;
        // Written so that NaN fails too.
        if !(rate > 0.0 && rate <= 1000.0) {
            return Err(wrong("camera.frames_per_second", "above 0 and at most 1000", rate));
        }
        let first = self.restart_first_millis;
        Ok(CameraOptions {
            origin: self.origin()?,
            frames_per_second: rate,
            repeat: self.repeat,
            ffmpeg: Some(self.ffmpeg.clone()).filter(|path| !path.as_os_str().is_empty()),
            size_pixels: self.size_pixels()?,
            stall: millis("camera.stall_millis", self.stall_millis, 100)?,
            restart_first: millis("camera.restart_first_millis", first, 1)?,
            restart_most: millis("camera.restart_most_millis", self.restart_most_millis, first)?,
            stamps: self.stamps()?,
        })
    }

    /// The source; `path` is the older way to name a folder.
    fn origin(&self) -> Result<Origin, ConfigError> {
        let is_path_given = !self.path.as_os_str().is_empty();
        match (self.source.is_empty(), is_path_given) {
            (true, true) => Ok(Origin::Folder(self.path.clone())),
            (true, false) => Err(wrong("camera.source", "where frames come from, e.g. folder:frames", "nothing")),
            (false, true) => {
                let expected = format!("nothing beside camera.source ({})", self.source_shown());
                Err(wrong("camera.path", expected, self.path.display()))
            }
            (false, false) => self.source.parse::<Origin>().map_err(|error| match error {
                CameraError::Origin { expected, got } => wrong("camera.source", expected, format!("{got:?}")),
                other => wrong("camera.source", "a source", other),
            }),
        }
    }

    /// The source without a password that it may hold.
    fn source_shown(&self) -> String {
        self.source.parse::<Origin>().map_or_else(|_| "which is no source".to_owned(), |origin| origin.to_string())
    }

    fn size_pixels(&self) -> Result<Option<(u32, u32)>, ConfigError> {
        let (width, height) = (self.width_pixels, self.height_pixels);
        for (key, side) in [("camera.width_pixels", width), ("camera.height_pixels", height)] {
            if side > MOST_PIXELS {
                return Err(wrong(key, format!("at most {MOST_PIXELS}"), side));
            }
        }
        match (width, height) {
            (0, 0) => Ok(None),
            (0, _) => Err(wrong("camera.width_pixels", "a width beside camera.height_pixels", 0)),
            (_, 0) => Err(wrong("camera.height_pixels", "a height beside camera.width_pixels", 0)),
            size => Ok(Some(size)),
        }
    }

    fn stamps(&self) -> Result<StampLimits, ConfigError> {
        let most_age = millis("camera.stamp_most_age_millis", self.stamp_most_age_millis, 0)?;
        if !(2.0..=1e6).contains(&self.gap_intervals) {
            return Err(wrong("camera.gap_intervals", "2 to 1000000", self.gap_intervals));
        }
        Ok(StampLimits {
            tolerance: millis("camera.stamp_tolerance_millis", self.stamp_tolerance_millis, 1)?,
            most_age: Some(most_age).filter(|age| !age.is_zero()),
            gap_intervals: self.gap_intervals,
            ..StampLimits::default()
        })
    }
}
