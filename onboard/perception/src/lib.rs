//! Pure functions over frames and tensors: preprocessing, tiling, gate, post-processing, refusal policy.
//!
//! The way of a frame: [`gate()`] looks at it before any network runs, [`plan`] cuts it into [`View`]s,
//! [`preprocess()`] turns a view into the model's input, [`layout`] does the same for the words,
//! [`upsample`] brings the model's mask back onto the frame, and [`decide`] says whether it is shown.
//! A [`Georeferencer`] says where on the earth a mask lies.
//! A query that stands has a [`Tracker`], which says which thing is which over time, and a [`Verification`], which says when
//! its words are read again.
//! An answer with reasons is written token by token under a [`Grammar`], and read as a [`Thought`].
//! No I/O, no clock and no engine here: the trainer, the calibration and the drone call the same functions.
#![forbid(unsafe_code)]

pub mod answer;
mod banner;
pub mod bitmap;
pub mod decoding;
pub mod error;
pub mod gate;
pub mod geo;
pub mod overlay;
pub mod policy;
pub mod postprocess;
pub mod preprocess;
pub mod proposals;
pub mod statements;
pub mod tiling;
pub mod tokens;
pub mod track;
pub mod verification;

pub use answer::{Answer, Conclusion, Grammar, Limits, ParseError, ReasonedIds, parse, prompt};
pub use bitmap::{Bitmap, Component, SpeckScratch};
pub use error::Error;
pub use gate::{GateHistory, GateReport, GateScratch, GateThresholds, Measured, Statistics, gate};
pub use geo::{Georeferencer, Pose};
pub use overlay::{Style, draw, draw_mask};
pub use policy::{AnswerLogits, Decision, Observation, decide, presence};
pub use postprocess::{UpsampleScratch, segment, segment_with, upsample, upsample_with};
pub use preprocess::{Letterbox, MODEL_SIZE, Scratch, View, preprocess};
pub use statements::Thought;
pub use tiling::{Part, TileOptions, Tiling, plan, refine, tile_hint, touched};
pub use tokens::{SpecialIds, TokenLayout, VocabularyError, WordDoubt, layout, word_doubts, word_doubts_into};
pub use track::{Appearance, Piece, Shape, TrackOptions, Tracker};
pub use verification::Verification;
