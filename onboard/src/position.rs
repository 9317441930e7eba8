//! Files of geo-referencing: the camera's calibration, and a pose beside each picture.
//!
//! Both are JSON objects: [`Camera`] and [`Pose`], explained in `docs/concepts/geo-referencing.md`.

use std::io::Read;
use std::path::{Path, PathBuf};

use kestrel_perception::geo::{Bounds, Camera, GeoError, Georeferencer, Pose};
use serde::de::DeserializeOwned;

/// Most bytes of a calibration or a pose.
const MOST_BYTES: u64 = 64 * 1024;

/// A calibration or pose that cannot be used; [`PositionError::hint`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PositionError {
    /// A file cannot be read.
    #[error("read {path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not the JSON object that it should be.
    #[error("{path}: {why}", path = path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What the parser said.
        why: String,
    },
    /// A number out of its range.
    #[error("{path}: {source}", path = path.display())]
    Range {
        /// Which file.
        path: PathBuf,
        /// Which number.
        source: GeoError,
    },
}

impl PositionError {
    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "check the path; it is taken from the folder you are in",
            Self::Malformed { .. } | Self::Range { .. } => {
                "docs/concepts/geo-referencing.md shows a calibration and a pose with every field"
            }
        }
    }
}

/// A georeferencer for the calibration in the file at `path`.
///
/// # Errors
/// When the file cannot be read, is no calibration, or a number of it or of the bounds makes no sense.
pub fn read_camera(path: &Path, bounds: Bounds) -> Result<Georeferencer, PositionError> {
    let camera: Camera = read(path)?;
    Georeferencer::new(camera, bounds).map_err(|source| PositionError::Range { path: path.to_owned(), source })
}

/// The pose in the file at `path`.
///
/// # Errors
/// When the file cannot be read, is no pose, or a number of it makes no sense.
pub fn read_pose(path: &Path) -> Result<Pose, PositionError> {
    let pose: Pose = read(path)?;
    pose.check().map_err(|source| PositionError::Range { path: path.to_owned(), source })?;
    Ok(pose)
}

/// The pose beside a picture: `frame.pose.json` for `frame.png`; `None` where there is no such file.
///
/// # Errors
/// As [`read_pose`].
pub fn pose_beside(picture: &Path) -> Result<Option<Pose>, PositionError> {
    match read_pose(&picture.with_extension("pose.json")) {
        Ok(pose) => Ok(Some(pose)),
        Err(PositionError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The pose in a text that came over the link, whose length was checked.
pub(crate) fn parse_pose(text: &str) -> Result<Pose, String> {
    // Serde's texts quote the offending value; a hostile one must not fill the log.
    let malformed = |why: String| why.chars().take(200).collect::<String>();
    let pose: Pose = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    pose.check().map_err(|error| malformed(error.to_string()))?;
    Ok(pose)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, PositionError> {
    let failed = |source| PositionError::Read { path: path.to_owned(), source };
    let malformed = |why| PositionError::Malformed { path: path.to_owned(), why };
    let mut text = Vec::new();
    // One byte more than allowed is enough to know.
    std::fs::File::open(path).map_err(failed)?.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(malformed(format!("expected at most {MOST_BYTES} bytes, got more")));
    }
    serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const POSE: &str = include_str!("../../docs/concepts/pose.json");
    const CAMERA: &str = include_str!("../../docs/concepts/camera.json");

    /// What would break: an example of the documentation that cannot be used.
    #[test]
    fn the_documented_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("camera.json"), CAMERA).unwrap();
        std::fs::write(at("frame.pose.json"), POSE).unwrap();
        let georeferencer = read_camera(&at("camera.json"), Bounds::default()).unwrap();
        let pose = pose_beside(&at("frame.png")).unwrap();
        assert!(georeferencer.sight(1920, 1080, pose.as_ref()).is_ok());
        assert_eq!(pose_beside(&at("other.png")).unwrap(), None);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("frame.pose.json");
        std::fs::write(&file, POSE.replace("\"height_above_ground_metres\": ", "\"height_above_ground_metres\": -"))
            .unwrap();
        let error = pose_beside(&folder.path().join("frame.jpg")).unwrap_err().to_string();
        assert!(
            error.contains("frame.pose.json: pose.height_above_ground_metres: expected 0.1 to 20000 metres"),
            "{error}"
        );
        std::fs::write(&file, "{}").unwrap();
        assert!(matches!(read_pose(&file), Err(PositionError::Malformed { .. })));
        std::fs::write(&file, " ".repeat(100_000)).unwrap();
        assert!(read_pose(&file).unwrap_err().to_string().contains("at most 65536 bytes"));
        assert!(matches!(read_pose(&folder.path().join("none.json")), Err(PositionError::Read { .. })));
    }
}
