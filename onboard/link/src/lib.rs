//! The contract between drone and operator.
//!
//! Both ends of the link speak only these types: [`Query`] in, [`Outcome`] out, its reasons in [`ExplanationPart`]s, [`Health`] beside it,
//! a [`Manifest`] for every model bundle and [`Mask`] for every answer.
//! There is no I/O and no clock here, so that any client can be held against it.
#![forbid(unsafe_code)]

pub mod camera;
pub mod canary;
pub mod codec;
pub mod error;
pub mod explanation;
pub mod hash;
pub mod health;
pub mod key;
pub mod manifest;
pub mod mask;
pub mod outcome;
pub mod pose;
pub mod position;
pub mod push;
pub mod query;
mod rle;
pub mod signature;
pub mod standing;
pub mod thresholds;

pub use camera::{FrameHeader, PictureFormat};
pub use canary::CanarySpec;
pub use codec::{Message, decode, encode, encode_into};
pub use error::LinkError;
pub use explanation::{CutShort, ExplanationPart, Part, ReasonedConclusion, Reasons, Unexplained};
pub use hash::{Hasher, sha256_hex};
pub use health::{Health, Readiness, Recording};
pub use key::DroneId;
pub use manifest::{AnswerTokens, FileEntry, Manifest};
pub use mask::{Mask, MaskScratch};
pub use outcome::{CaptureDoubt, Outcome, Refusal, Reply, Segment, Verdict};
pub use pose::PoseSample;
pub use position::{Ellipse, Georeference, Position, Unplaced};
pub use push::{ChunkRequest, PushOffer, PushPhase, PushState};
pub use query::{Hint, Query};
pub use standing::{Standing, Track, TrackEvent};
pub use thresholds::{Presence, Thresholds};
