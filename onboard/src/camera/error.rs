//! Why there are no frames.

use std::path::PathBuf;
use std::time::Duration;

use kestrel_link::LinkError;

/// Why there are no frames; [`CameraError::hint`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CameraError {
    /// A picture, folder or video cannot be read.
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
    /// The text names no source.
    #[error("camera.source: expected {expected}, got {got:?}")]
    Origin {
        /// What would be right.
        expected: &'static str,
        /// What is there.
        got: String,
    },
    /// This program was built without the source.
    #[error("camera.source {source_name}: expected a program with {needs}, got one without")]
    NotBuilt {
        /// Which source.
        source_name: String,
        /// What the program lacks.
        needs: &'static str,
    },
    /// There is no ffmpeg.
    #[error("start ffmpeg: expected it at {wanted}, got nothing that can be run")]
    NoFfmpeg {
        /// Where it was looked for.
        wanted: String,
    },
    /// A source cannot be opened.
    #[error("open {source_name}: {why}")]
    Open {
        /// Which source.
        source_name: String,
        /// What the system said.
        why: String,
    },
    /// A source that should go on has ended.
    #[error("{source_name} ended: {why}")]
    Ended {
        /// Which source.
        source_name: String,
        /// What is known of the end.
        why: String,
    },
    /// A source has fallen silent.
    #[error("{source_name}: expected a frame within {patience:?}, got none")]
    Stalled {
        /// Which source.
        source_name: String,
        /// How long was waited.
        patience: Duration,
    },
    /// A fault of the program on the camera's thread.
    #[error("{source_name} panicked: {why}")]
    Panicked {
        /// Which source.
        source_name: String,
        /// What was said.
        why: String,
    },
    /// A frame that cannot be used.
    #[error("frame of {source_name}: {why}")]
    Frame {
        /// Which source.
        source_name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A frame from the network that is not what the contract says.
    #[error("frame from the network: {0}")]
    Header(#[from] LinkError),
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
            Self::Origin { .. } => "docs/guides/frame-sources.md shows every kind of source",
            Self::NotBuilt { .. } => "build it with `cargo build -p kestrel-onboard --features v4l2` on Linux",
            Self::NoFfmpeg { .. } => {
                "install ffmpeg (Debian, Ubuntu: apt install ffmpeg), or name the program in camera.ffmpeg"
            }
            Self::Open { .. } => "`onboard doctor` lists the sources that can be used here",
            Self::Ended { .. } | Self::Stalled { .. } => {
                "check the camera, its cable and its address; the log holds what ffmpeg said"
            }
            Self::Panicked { .. } => "a fault of the program: report it with what stands above it in the log",
            Self::Frame { .. } | Self::Header(_) => {
                "docs/guides/frame-sources.md says what a publisher of frames must send"
            }
        }
    }
}
