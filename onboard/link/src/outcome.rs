//! What a drone answers: masks, or a refusal that says why.

use crate::codec::Message;
use crate::error::LinkError;
use crate::key::{DroneId, check_query_id};
use crate::mask::Mask;
use crate::position::{Georeference, MAX_PIECES};
use crate::query::MAX_TEXT_BYTES;
use crate::standing::{Standing, Track};
use serde::{Deserialize, Serialize};

/// Most candidates of an ambiguous query.
pub const MAX_CANDIDATES: usize = 8;

/// Most masks in one [`Outcome::Segmented`].
pub const MAX_MASKS: usize = 64;

/// Most named numbers beside a refusal.
pub const MAX_EVIDENCE: usize = 64;

/// One answer for one query and one admitted frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// The target was found.
    Segmented {
        /// One entry per returned mask; never empty.
        masks: Vec<Segment>,
    },
    /// The drone stays silent, and says why.
    Refused(Refusal),
}

/// A mask with what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// In pixels of the frame named in the [`Reply`].
    pub mask: Mask,
    /// Calibrated probability that the target is there, 0..=1.
    pub presence: f32,
    /// The model's own estimate of the mask's IoU with the truth, 0..=1.
    pub predicted_iou: f32,
    /// `[x, y, width, height]` of the mask in pixels of the frame.
    pub bounding_box: [u32; 4],
    /// Set pixels of the mask.
    pub area_pixels: u64,
    /// Where on the earth its connected pieces lie, largest first; empty when the drone knows no camera.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positions: Vec<Georeference>,
    /// Which thing it is among those of a standing query; `None` when the query does not stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<Track>,
}

/// Why no mask was given. A refusal is a value, never an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// What stood in the way.
    pub verdict: Verdict,
    /// Named numbers that led to it, e.g. `("mean_luma", 0.02)`.
    pub evidence: Vec<(String, f32)>,
    /// One line for the operator: what to try.
    pub advice: String,
}

/// The reasons for a refusal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Gate: too little light.
    TooDark,
    /// Gate: clipped highlights.
    Overexposed,
    /// Gate: no sharp edge left.
    Blurred,
    /// Gate: noise drowns the picture.
    Noisy,
    /// Gate: contrast lost to haze.
    Hazy,
    /// Gate: the same picture again and again.
    Frozen,
    /// Gate: torn or truncated picture.
    Truncated,
    /// Gate: not a colour photograph (thermal, false-colour infrared).
    WrongModality,
    /// Model: nothing in the frame is what was asked for.
    TargetAbsent,
    /// Model: several things fit; `candidates` are masks of them, best first (may be empty when they cannot be told apart).
    TargetAmbiguous {
        /// At most eight.
        candidates: Vec<Segment>,
    },
    /// Model: the target would be too few pixels to tell.
    TargetTooSmall,
    /// Model: the target cannot be told in this degraded view.
    TargetUnseeable,
    /// The words make no sense to the model.
    QueryNotUnderstood {
        /// The word that did not, when one stands out.
        word: Option<String>,
    },
    /// Model: something may be there, but below the calibrated bound.
    LowConfidence,
    /// Runtime: the answer came too late to be of use.
    DeadlineMissed,
    /// Runtime: the engine failed.
    EngineDegraded,
    /// Runtime: a model switch is under way.
    ModelSwitching,
}

/// Why the capture time that a camera gave with a frame is not to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CaptureDoubt {
    /// The same time as of the frame before.
    Duplicate,
    /// The same time again and again while pictures change.
    StampsFrozen,
    /// The same picture again and again while times go on.
    PictureFrozen,
    /// Earlier than the frame before.
    Backwards,
    /// Times went on by another amount than the drone's monotonic clock: one of the clocks was set.
    Jumped,
    /// A clock was set a short while ago, and has not yet run steadily for long enough.
    Unsettled,
    /// Ahead of the drone's wall clock.
    Ahead,
    /// Too far behind the drone's wall clock.
    Stale,
}

impl CaptureDoubt {
    /// Its name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::StampsFrozen => "stamps_frozen",
            Self::PictureFrozen => "picture_frozen",
            Self::Backwards => "backwards",
            Self::Jumped => "jumped",
            Self::Unsettled => "unsettled",
            Self::Ahead => "ahead",
            Self::Stale => "stale",
        }
    }
}

/// An [`Outcome`] with its place: which drone, query, frame and model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The drone's id.
    pub drone: String,
    /// [`crate::Query::id`].
    pub query_id: String,
    /// The query's text, repeated for those who only listen.
    pub query_text: String,
    /// Number of the frame, counted by the drone from 0.
    pub frame: u64,
    /// Width of the frame in pixels; masks are in these pixels.
    pub frame_width: u32,
    /// Height of the frame in pixels.
    pub frame_height: u32,
    /// The camera's capture time, nanoseconds since the Unix epoch as the camera says; 0 when it is not known or, see
    /// [`Reply::capture_doubt`], not to be trusted.
    pub capture_unix_nanos: u64,
    /// Why the camera's capture time is not given; `None` when it is, or when the reply is about no frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture_doubt: Option<CaptureDoubt>,
    /// From when both frame and query were there to the finished outcome, on the drone's monotonic clock: how long the asker
    /// waited, and what is held against the deadline. How old the mask is, [`Reply::age_micros`] says.
    pub latency_micros: u64,
    /// From admission of the frame to the finished outcome, on the drone's monotonic clock: more than `latency_micros` where a
    /// query came behind its frame. `None` when the reply is about no frame, or from a drone that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_age_micros: Option<u64>,
    /// `name@version` of the model bundle that answered, empty when no model ran.
    pub model: String,
    /// Engine and provider that ran, e.g. `ort/cpu`, `tract`.
    pub engine: String,
    /// The answer.
    pub outcome: Outcome,
    /// How it stands to the answers before; `None` when the query does not stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
}

impl Message for Reply {
    const NAME: &'static str = "reply";
    /// Larger messages are lost more easily under congestion, so no reply reaches 64 KiB.
    const MAX_BYTES: usize = 64 * 1024 - 1;

    fn validate(&self) -> Result<(), LinkError> {
        Reply::validate(self)
    }
}

impl Reply {
    /// How old the frame, and with it each mask, was when the outcome was finished, in microseconds. Of a drone that does not
    /// say, it is the latency: less than the truth where the query came behind its frame.
    #[must_use]
    pub fn age_micros(&self) -> u64 {
        self.frame_age_micros.unwrap_or(self.latency_micros)
    }

    /// Checks that every number is finite and in range and that every mask is whole and of the frame's size.
    ///
    /// # Errors
    /// Names the field, the range and what was there.
    pub fn validate(&self) -> Result<(), LinkError> {
        DroneId::new(&self.drone)?;
        check_query_id(&self.query_id)?;
        for (field, text, limit) in [
            ("reply.query_text", &self.query_text, MAX_TEXT_BYTES),
            ("reply.model", &self.model, 256),
            ("reply.engine", &self.engine, 256),
        ] {
            at_most(field, text.len(), limit)?;
        }
        if self.capture_doubt.is_some() && self.capture_unix_nanos != 0 {
            return Err(LinkError::field("reply.capture_unix_nanos", "0 beside a doubt", self.capture_unix_nanos));
        }
        self.standing.iter().try_for_each(Standing::validate)?;
        match &self.outcome {
            Outcome::Segmented { masks } => {
                if masks.is_empty() {
                    return Err(LinkError::field("outcome.masks", "at least one mask", masks.len()));
                }
                at_most("outcome.masks", masks.len(), MAX_MASKS)?;
                masks.iter().try_for_each(|segment| self.check_segment(segment))
            }
            Outcome::Refused(refusal) => self.check_refusal(refusal),
        }
    }

    fn check_refusal(&self, refusal: &Refusal) -> Result<(), LinkError> {
        refusal.validate_words()?;
        match &refusal.verdict {
            Verdict::TargetAmbiguous { candidates } => {
                at_most("refusal.candidates", candidates.len(), MAX_CANDIDATES)?;
                candidates.iter().try_for_each(|segment| self.check_segment(segment))
            }
            _ => Ok(()),
        }
    }

    fn check_segment(&self, segment: &Segment) -> Result<(), LinkError> {
        let mask = &segment.mask;
        if (mask.width, mask.height) != (self.frame_width, self.frame_height) {
            return Err(LinkError::field(
                "segment.mask",
                format!("the frame's {}x{} pixels", self.frame_width, self.frame_height),
                (mask.width, mask.height),
            ));
        }
        for (field, value) in [("segment.presence", segment.presence), ("segment.predicted_iou", segment.predicted_iou)]
        {
            if !(0.0..=1.0).contains(&value) {
                return Err(LinkError::field(field, "0..=1", value));
            }
        }
        at_most("segment.positions", segment.positions.len(), MAX_PIECES)?;
        segment.positions.iter().try_for_each(Georeference::validate)?;
        segment.track.iter().try_for_each(Track::validate)?;
        mask.validate()?;
        let (area, around) = (mask.area()?, mask.bounding_box()?.unwrap_or_default());
        if (area, around) != (segment.area_pixels, segment.bounding_box) {
            return Err(LinkError::field(
                "segment.area_pixels and bounding_box",
                format!("{area} and {around:?} as in the mask"),
                (segment.area_pixels, segment.bounding_box),
            ));
        }
        Ok(())
    }
}

impl Refusal {
    /// Checks all but the masks of candidates, whose frame it does not know.
    pub(crate) fn validate_words(&self) -> Result<(), LinkError> {
        at_most("refusal.advice", self.advice.len(), 1024)?;
        at_most("refusal.evidence", self.evidence.len(), MAX_EVIDENCE)?;
        for (name, value) in &self.evidence {
            at_most("refusal.evidence name", name.len(), 128)?;
            if !value.is_finite() {
                return Err(LinkError::field(format!("refusal.evidence.{name}"), "a finite number", value));
            }
        }
        match &self.verdict {
            Verdict::QueryNotUnderstood { word: Some(word) } => at_most("refusal.word", word.len(), MAX_TEXT_BYTES),
            _ => Ok(()),
        }
    }
}

impl Segment {
    /// A segment whose box and area are those of the mask, without positions and identity.
    ///
    /// # Errors
    /// When the mask is not whole.
    pub fn of(mask: Mask, presence: f32, predicted_iou: f32) -> Result<Self, LinkError> {
        Ok(Self {
            presence,
            predicted_iou,
            bounding_box: mask.bounding_box()?.unwrap_or_default(),
            area_pixels: mask.area()?,
            positions: Vec::new(),
            track: None,
            mask,
        })
    }
}

fn at_most(field: &'static str, got: usize, limit: usize) -> Result<(), LinkError> {
    if got > limit {
        return Err(LinkError::field(field, format!("at most {limit}"), got));
    }
    Ok(())
}
