//! Where frames come from: a picture or a folder of pictures, played at a fixed rate.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use image::{ImageReader, Limits, RgbImage};
use kestrel_perception::Pose;

use crate::position::pose_beside;

/// Most bytes that decoding one picture may take.
const MOST_BYTES: u64 = 512 * 1024 * 1024;

/// Pictures to play.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// A picture, or a folder of pictures that are played in the order of their names.
    pub path: PathBuf,
    /// Pictures per second, above 0.
    pub frames_per_second: f64,
    /// Whether a folder starts again at its end.
    pub repeat: bool,
}

/// Why there are no frames; [`CameraError::hint`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CameraError {
    /// A picture or folder cannot be read.
    #[error("{operation} {path}: {source}", path = path.display())]
    Read {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are no picture.
    #[error("decode {path}: expected a PNG or JPEG picture: {why}", path = path.display())]
    Decode {
        /// Which file.
        path: PathBuf,
        /// What the decoder said.
        why: String,
    },
    /// A folder without pictures.
    #[error("{path}: expected .png, .jpg or .jpeg pictures, got none", path = path.display())]
    NoPictures {
        /// Which folder.
        path: PathBuf,
    },
}

impl CameraError {
    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "check the path; it is taken from the folder you are in",
            Self::Decode { .. } => {
                "open it in a picture viewer: it may be truncated, of another format, or larger than 8192 pixels"
            }
            Self::NoPictures { .. } => "put pictures into the folder or name another",
        }
    }
}

/// Reads one picture as RGB, at most 8192 pixels on a side.
///
/// # Errors
/// When the file cannot be read or is no such picture.
pub fn load(path: &Path) -> Result<RgbImage, CameraError> {
    let read = |source| CameraError::Read { operation: "open", path: path.to_owned(), source };
    let mut reader = ImageReader::open(path).map_err(read)?.with_guessed_format().map_err(read)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(kestrel_link::mask::MAX_SIDE);
    limits.max_image_height = Some(kestrel_link::mask::MAX_SIDE);
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let picture =
        reader.decode().map_err(|error| CameraError::Decode { path: path.to_owned(), why: error.to_string() })?;
    Ok(picture.into_rgb8())
}

/// The pictures of a source, in the order in which they are played.
///
/// # Errors
/// When the path cannot be read or holds no picture.
pub fn pictures(path: &Path) -> Result<Vec<PathBuf>, CameraError> {
    let read = |source| CameraError::Read { operation: "open", path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(read)?.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read)? {
        let entry = entry.map_err(read)?.path();
        let extension = entry.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if ["png", "jpg", "jpeg"].iter().any(|known| known.eq_ignore_ascii_case(extension)) {
            found.push(entry);
        }
    }
    found.sort();
    if found.is_empty() { Err(CameraError::NoPictures { path: path.to_owned() }) } else { Ok(found) }
}

/// Plays a source into `deliver`, which gets each picture with its capture time (nanoseconds since the Unix epoch) and the pose
/// beside it, if there is one, and says whether to go on.
/// Pictures that do not decode are logged and left out; a pose that makes no sense is logged and is no pose.
///
/// # Errors
/// When the source cannot be read at the start.
pub fn play(source: &Source, mut deliver: impl FnMut(RgbImage, u64, Option<Pose>) -> bool) -> Result<(), CameraError> {
    let pictures = pictures(&source.path)?;
    // A single picture is a still camera: it goes on showing the same thing.
    let repeat = source.repeat || pictures.len() == 1;
    let pause = Duration::try_from_secs_f64(1.0 / source.frames_per_second).unwrap_or(Duration::from_secs(1));
    let mut next = std::time::Instant::now();
    loop {
        let mut shown = 0;
        for path in &pictures {
            match load(path) {
                Ok(picture) => {
                    shown += 1;
                    if !deliver(picture, unix_nanos(), pose_of(path)) {
                        return Ok(());
                    }
                }
                Err(error) => tracing::warn!("picture left out: {error}"),
            }
            next += pause;
            std::thread::sleep(next.saturating_duration_since(std::time::Instant::now()));
        }
        if !repeat || shown == 0 {
            return Ok(());
        }
    }
}

fn pose_of(picture: &Path) -> Option<Pose> {
    pose_beside(picture).unwrap_or_else(|error| {
        tracing::warn!("pose left out: {error}");
        None
    })
}

/// The wall clock in nanoseconds since the Unix epoch.
#[must_use]
pub fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn pictures_come_in_order_and_broken_ones_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for (name, width) in [("b.png", 2), ("a.PNG", 1)] {
            RgbImage::new(width, 1).save_with_format(folder.path().join(name), image::ImageFormat::Png).unwrap();
        }
        std::fs::write(folder.path().join("broken.png"), b"\x89PNG\r\n").unwrap();
        std::fs::write(folder.path().join("notes.txt"), b"no picture").unwrap();
        let source = Source { path: folder.path().into(), frames_per_second: 1000.0, repeat: false };
        let mut widths = Vec::new();
        play(&source, |picture, _, pose| {
            assert_eq!(pose, None);
            widths.push(picture.width());
            true
        })
        .unwrap();
        assert_eq!(widths, [1, 2]);
    }

    #[test]
    fn missing_empty_and_broken_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(load(&folder.path().join("none.png")), Err(CameraError::Read { .. })));
        assert!(matches!(pictures(folder.path()), Err(CameraError::NoPictures { .. })));
        let broken = folder.path().join("broken.jpg");
        std::fs::write(&broken, b"not a picture").unwrap();
        assert!(matches!(load(&broken), Err(CameraError::Decode { .. })));
    }
}
