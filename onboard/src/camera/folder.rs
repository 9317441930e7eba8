//! A picture or a folder of pictures, played at a fixed rate.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kestrel_perception::Pose;

use super::{CameraError, Captured, Next, Source, load, unix_nanos};
use crate::position::pose_beside;

/// Pictures of a folder in the order of their names, each stamped with the drone's wall clock when it is played.
///
/// A pose that makes no sense is logged and is no pose.
pub(super) struct Folder {
    pictures: Vec<PathBuf>,
    pause: Duration,
    repeat: bool,
    /// Index of the next picture.
    at: usize,
    /// Pictures of this round that were shown.
    shown: usize,
    due: Instant,
}

impl Folder {
    /// A picture, or a folder that may start again at its end.
    pub(super) fn open(path: &Path, frames_per_second: f64, repeat: bool) -> Result<Self, CameraError> {
        let pictures = pictures(path)?;
        // A single picture is a still camera: it goes on showing the same thing.
        let repeat = repeat || pictures.len() == 1;
        let pause = Duration::try_from_secs_f64(1.0 / frames_per_second).unwrap_or(Duration::from_secs(1));
        Ok(Self { pictures, pause, repeat, at: 0, shown: 0, due: Instant::now() })
    }
}

impl Source for Folder {
    fn next(&mut self, wait: Duration) -> Result<Next, CameraError> {
        let left = self.due.saturating_duration_since(Instant::now());
        std::thread::sleep(left.min(wait));
        if left > wait {
            return Ok(Next::Nothing);
        }
        if self.at == self.pictures.len() {
            if !self.repeat || self.shown == 0 {
                return Ok(Next::Ended);
            }
            (self.at, self.shown) = (0, 0);
        }
        let path = &self.pictures[self.at];
        self.at += 1;
        self.due += self.pause;
        Ok(match load(path) {
            Ok(image) => {
                self.shown += 1;
                Next::Frame(Captured { image, capture_unix_nanos: unix_nanos(), pose: pose_of(path) })
            }
            Err(error) => Next::Lost(error),
        })
    }
}

/// The pictures of a path, in the order in which they are played.
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

fn pose_of(picture: &Path) -> Option<Pose> {
    pose_beside(picture).unwrap_or_else(|error| {
        tracing::warn!("pose left out: {error}");
        None
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use image::RgbImage;

    const SOON: Duration = Duration::from_secs(60);

    #[test]
    fn pictures_come_in_order_and_broken_ones_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for (name, width) in [("b.png", 2), ("a.PNG", 1)] {
            RgbImage::new(width, 1).save_with_format(folder.path().join(name), image::ImageFormat::Png).unwrap();
        }
        std::fs::write(folder.path().join("broken.png"), b"\x89PNG\r\n").unwrap();
        std::fs::write(folder.path().join("notes.txt"), b"no picture").unwrap();
        let mut source = Folder::open(folder.path(), 1000.0, false).unwrap();
        let mut widths = Vec::new();
        loop {
            match source.next(SOON).unwrap() {
                Next::Frame(captured) => {
                    assert_eq!(captured.pose, None);
                    widths.push(captured.image.width());
                }
                Next::Lost(error) => {
                    assert!(error.to_string().contains("broken.png"), "{error}");
                    widths.push(0);
                }
                Next::Nothing => panic!("a picture is due every millisecond"),
                Next::Ended => break,
            }
        }
        assert_eq!(widths, [1, 2, 0]);
    }

    #[test]
    fn a_folder_of_broken_pictures_ends_even_when_it_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.png", "b.png"] {
            std::fs::write(folder.path().join(name), b"\x89PNG\r\n").unwrap();
        }
        let mut source = Folder::open(folder.path(), 1000.0, true).unwrap();
        assert!(matches!(source.next(SOON), Ok(Next::Lost(_))));
        assert!(matches!(source.next(SOON), Ok(Next::Lost(_))));
        assert!(matches!(source.next(SOON), Ok(Next::Ended)));
    }

    /// What would break: the stop of a drone whose camera gives a picture an hour.
    #[test]
    fn waiting_for_the_next_picture_has_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        RgbImage::new(1, 1).save(folder.path().join("a.png")).unwrap();
        let mut source = Folder::open(folder.path(), 0.0003, true).unwrap();
        assert!(matches!(source.next(Duration::ZERO), Ok(Next::Frame(_))));
        assert!(matches!(source.next(Duration::from_millis(1)), Ok(Next::Nothing)));
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
