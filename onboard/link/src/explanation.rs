//! An answer with reasons over the link: the thought piece by piece as it is written, then what it comes to.
//!
//! A query with [`Query::explain`](crate::Query::explain) is answered by its [`Reply`](crate::Reply) first. Its reasons follow
//! on a key of their own, [`DroneId::explanation`]: any number of [`Part::Piece`]s, and behind them exactly one part of
//! another kind, which ends the explanation. Pieces may be lost on a congested link; the last part repeats what they said.

use crate::codec::Message;
use crate::error::LinkError;
use crate::key::{DroneId, check_query_id};
use crate::outcome::{Refusal, Verdict};
use serde::{Deserialize, Serialize};

/// Most bytes of [`Part::Piece`]'s text.
pub const MAX_PIECE_BYTES: usize = 512;

/// Most statements of one thought, and most bytes of each.
pub const MAX_STATEMENTS: usize = 64;
/// See [`MAX_STATEMENTS`].
pub const MAX_STATEMENT_BYTES: usize = 1024;

/// Most boxes that a thought names, and most that an answer gives.
pub const MAX_BOXES: usize = 64;

/// One message of an explanation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplanationPart {
    /// The drone's id.
    pub drone: String,
    /// [`crate::Query::id`].
    pub query_id: String,
    /// Which explanation it is, counted by the drone from 0: a query that is asked anew under the same id has another one.
    pub explanation: u64,
    /// Which part it is, counted from 0: a gap is a piece that was lost on the way.
    pub sequence: u32,
    /// Number of the frame that it is about, that of the first [`Reply`](crate::Reply) to the query.
    pub frame: u64,
    /// Width of the frame in pixels; 0 when no frame was looked at.
    pub frame_width: u32,
    /// Height of the frame in pixels; 0 when no frame was looked at.
    pub frame_height: u32,
    /// `name@version` of the model that writes, empty when none does.
    pub model: String,
    /// Engine and provider that run it, empty when none does.
    pub engine: String,
    /// What it says.
    pub part: Part,
}

/// What one message of an explanation says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Part {
    /// More of the thought. Boxes stand there as `[1]`, `[2]`, …: the places in [`Reasons::candidates`].
    Piece {
        /// No control characters, at most [`MAX_PIECE_BYTES`] bytes.
        text: String,
    },
    /// The answer is whole.
    Complete {
        /// What it comes to.
        conclusion: ReasonedConclusion,
        /// What led to it.
        reasons: Reasons,
    },
    /// The answer was stopped before its end; there is no conclusion.
    CutShort {
        /// What stopped it.
        why: CutShort,
        /// What was written until then.
        reasons: Reasons,
    },
    /// There is no explanation. Whether the query itself is answered does not depend on it.
    Refused {
        /// What stood in the way.
        why: Unexplained,
        /// One line for the operator: what to try.
        advice: String,
    },
}

/// What a reasoned answer comes to. It is the model's word alone: the mask, and the bound on hallucination, are those of the
/// [`Reply`](crate::Reply).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ReasonedConclusion {
    /// A box around each target.
    Targets {
        /// Left, top, right, bottom in fractions of the frame; at least one.
        boxes: Vec<[f32; 4]>,
    },
    /// No target. Candidates of an ambiguous query are those of [`Reasons::candidates`].
    Refused(Refusal),
}

/// What a model wrote on its way to an answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reasons {
    /// The sentences of the thought, in order.
    pub statements: Vec<String>,
    /// The boxes that the thought names, left, top, right, bottom in fractions of the frame; `[1]` in a statement is the
    /// first of them.
    pub candidates: Vec<[f32; 4]>,
    /// Tokens that were written, those of the answer included.
    pub tokens: u32,
    /// Tokens of the question that did not fit and were left out.
    pub words_cut: u32,
    /// Time of reading picture and question, waiting for masks to be drawn included.
    pub prefill_micros: u64,
    /// Time of writing, waiting for masks to be drawn included.
    pub decode_micros: u64,
}

/// What stopped an explanation before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CutShort {
    /// Its deadline passed.
    Deadline,
    /// The drone is shutting down.
    Stopping,
}

/// Why there is no explanation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unexplained {
    /// Another one is being written; there is never more than one.
    Busy,
    /// Explanations are switched off on this drone.
    Off,
    /// The bundle that flies has no graph that answers with reasons.
    NoGraph,
    /// No frame came that the query could have been answered about.
    NoFrame,
    /// The query's outcome came from no model: the gate refused the frame, the engine failed, or it was too late.
    Unseen,
    /// It could not be begun in time.
    Expired,
    /// The engine failed.
    EngineDegraded,
    /// The drone is shutting down.
    Stopping,
}

impl Unexplained {
    /// One line for the operator: what to try.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Busy => "wait for the explanation that is being written, then ask again",
            Self::Off => "set explain.enabled in the drone's configuration",
            Self::NoGraph => "fly a bundle that was exported with `ground export … --explain`",
            Self::NoFrame => "check the drone's camera: no frame came",
            Self::Unseen => "the outcome of the query says why nothing was looked at",
            Self::Expired => "ask again: the drone was too busy to begin in time",
            Self::EngineDegraded => "the drone's log says what the engine did; ask again later",
            Self::Stopping => "the drone is shutting down",
        }
    }
}

impl Part {
    /// Whether no part follows.
    #[must_use]
    pub fn ends(&self) -> bool {
        !matches!(self, Self::Piece { .. })
    }
}

impl Message for ExplanationPart {
    const NAME: &'static str = "explanation";
    const MAX_BYTES: usize = 64 * 1024 - 1;

    fn validate(&self) -> Result<(), LinkError> {
        DroneId::new(&self.drone)?;
        check_query_id(&self.query_id)?;
        for (field, text) in [("explanation.model", &self.model), ("explanation.engine", &self.engine)] {
            words(field, text, 256)?;
        }
        match &self.part {
            Part::Piece { text } => words("explanation.text", text, MAX_PIECE_BYTES),
            Part::Complete { conclusion, reasons } => {
                conclusion.validate()?;
                reasons.validate()
            }
            Part::CutShort { reasons, .. } => reasons.validate(),
            Part::Refused { advice, .. } => words("explanation.advice", advice, 1024),
        }
    }
}

impl ReasonedConclusion {
    fn validate(&self) -> Result<(), LinkError> {
        match self {
            Self::Targets { boxes } if boxes.is_empty() => {
                Err(LinkError::field("explanation.boxes", "at least one box", boxes.len()))
            }
            Self::Targets { boxes } => places("explanation.boxes", boxes),
            Self::Refused(refusal) => {
                refusal.validate_words()?;
                match &refusal.verdict {
                    Verdict::TargetAmbiguous { candidates } if !candidates.is_empty() => {
                        let expected = "no masks: an explanation names boxes";
                        Err(LinkError::field("explanation.candidates", expected, candidates.len()))
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

impl Reasons {
    fn validate(&self) -> Result<(), LinkError> {
        if self.statements.len() > MAX_STATEMENTS {
            let expected = format!("at most {MAX_STATEMENTS}");
            return Err(LinkError::field("explanation.statements", expected, self.statements.len()));
        }
        self.statements
            .iter()
            .try_for_each(|statement| words("explanation.statements", statement, MAX_STATEMENT_BYTES))?;
        places("explanation.candidates", &self.candidates)
    }
}

/// Text that may be shown on a terminal as it is.
fn words(field: &'static str, text: &str, limit: usize) -> Result<(), LinkError> {
    if text.len() > limit {
        return Err(LinkError::TooLarge { operation: field, limit, got: text.len() });
    }
    if text.chars().any(char::is_control) {
        return Err(LinkError::field(field, "no control characters", text));
    }
    Ok(())
}

fn places(field: &'static str, boxes: &[[f32; 4]]) -> Result<(), LinkError> {
    if boxes.len() > MAX_BOXES {
        return Err(LinkError::field(field, format!("at most {MAX_BOXES}"), boxes.len()));
    }
    for edges in boxes {
        let [x0, y0, x1, y1] = *edges;
        // Written so that NaN fails too.
        if !(edges.iter().all(|edge| (0.0..=1.0).contains(edge)) && x0 <= x1 && y0 <= y1) {
            return Err(LinkError::field(field, "edges in 0..=1, left and top first", edges));
        }
    }
    Ok(())
}
