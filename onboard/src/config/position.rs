//! The section on where on the earth masks lie.

use std::path::PathBuf;

use kestrel_perception::Georeferencer;
use kestrel_perception::geo::{Bounds, Choice, PosesOptions};
use serde::Deserialize;

use super::ConfigError;
use crate::position::read_camera;

/// A pose of this age says nothing of where a vehicle is.
const MOST_AGE_MILLIS: u64 = 10_000;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    camera: PathBuf,
    pixel_sigma: f64,
    most_sigma_metres: f64,
    most_range_metres: f64,
    pose_choice: Choice,
    pose_most_age_millis: u64,
}

impl Position {
    /// What places masks on the earth; `None` gives no positions.
    pub(super) fn georeferencer(&self) -> Result<Option<Georeferencer>, ConfigError> {
        let bounds = Bounds {
            pixel_sigma: self.pixel_sigma,
            most_sigma_metres: self.most_sigma_metres,
            most_range_metres: self.most_range_metres,
        };
        bounds.check().map_err(|error| ConfigError::Value {
            key: match error.field {
                "pixel_sigma" => "position.pixel_sigma",
                "most_sigma_metres" => "position.most_sigma_metres",
                _ => "position.most_range_metres",
            },
            expected: error.expected.to_owned(),
            got: error.got.to_string(),
        })?;
        if self.camera.as_os_str().is_empty() {
            return Ok(None);
        }
        read_camera(&self.camera, bounds).map(Some).map_err(|error| ConfigError::Value {
            key: "position.camera",
            expected: "the calibration of the camera".to_owned(),
            got: error.to_string(),
        })
    }

    /// Which pose is taken for a frame that brings none.
    pub(super) fn poses(&self) -> Result<PosesOptions, ConfigError> {
        if self.pose_most_age_millis > MOST_AGE_MILLIS {
            return Err(ConfigError::Value {
                key: "position.pose_most_age_millis",
                expected: format!("0 to {MOST_AGE_MILLIS}"),
                got: self.pose_most_age_millis.to_string(),
            });
        }
        Ok(PosesOptions { choice: self.pose_choice, most_age_nanos: self.pose_most_age_millis * 1_000_000 })
    }
}
