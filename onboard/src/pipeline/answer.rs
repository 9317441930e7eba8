//! Answers, and what becomes of what the model said.

use image::RgbImage;
use kestrel_link::{AnswerTokens, Outcome, Query, Refusal, Segment, Standing, Thresholds, Verdict};
use kestrel_perception::{Bitmap, Decision, Observation, decide, policy, segment_with};

use super::SegmentError;
use super::arena::Arena;
use super::timings::Timings;
use super::views::Said;
use super::words::Tokens;

/// One answer with what led to it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Masks or a refusal.
    pub outcome: Outcome,
    /// Where the time went.
    pub timings: Timings,
    /// What the model said of the whole frame; `None` when the gate refused or the engine failed.
    pub whole: Option<Whole>,
    /// Word tokens that did not fit and were left out.
    pub words_cut: usize,
    /// What the engine did wrong, when it failed; the outcome is then [`Verdict::EngineDegraded`].
    pub failure: Option<String>,
    /// How it stands to the answers before; `None` when the query does not stand, or the engine failed.
    pub standing: Option<Standing>,
}

/// What the model said of the whole frame, before tiles and policy.
#[derive(Debug, Clone)]
pub struct Whole {
    /// Logits, doubts and area.
    pub observation: Observation,
    /// The mask in pixels of the frame, shown or not.
    pub mask: Bitmap,
    /// The mask cut at each probability of [`SegmenterOptions::sweep`](super::SegmenterOptions::sweep).
    pub sweep: Vec<Bitmap>,
}

impl Answer {
    /// An answer for which nothing was looked at.
    pub(super) fn unseen(outcome: Outcome, timings: Timings, failure: Option<String>) -> Self {
        Self { outcome, timings, whole: None, words_cut: 0, failure, standing: None }
    }

    /// The answer to a question that cannot be answered; its asker must see that too.
    pub(super) fn unanswerable(query: &Query, error: &SegmentError) -> Self {
        tracing::error!("query {}: {error}", query.id);
        Self::unseen(Outcome::Refused(failed()), Timings::default(), None)
    }
}

/// The model's word on one view, and the policy's on that.
pub(super) struct Glance {
    pub(super) observation: Observation,
    pub(super) mask: Bitmap,
    pub(super) sweep: Vec<Bitmap>,
    pub(super) decision: Decision,
}

impl From<Glance> for Whole {
    fn from(Glance { observation, mask, sweep, .. }: Glance) -> Self {
        Self { observation, mask, sweep }
    }
}

/// What the policy makes of what was said of a view; its mask cut at `levels` too.
pub(super) fn judged(
    said: &Said<'_>,
    frame: &RgbImage,
    (answers, thresholds): (&AnswerTokens, &Thresholds),
    tokens: &Tokens,
    (levels, arena): (&[f32], &mut Arena),
) -> Result<Glance, SegmentError> {
    let (observation, mask) = said.observe(frame, answers, thresholds, tokens, arena)?;
    let decision = decide(&observation, thresholds);
    let sweep = levels.iter().map(|&level| said.drawn.mask(frame, level, thresholds)).collect::<Result<_, _>>()?;
    Ok(Glance { observation, mask, sweep, decision })
}

/// What the policy refuses as the engine's fault: numbers that are not finite.
pub(super) fn not_finite(outcome: &Outcome) -> Option<String> {
    let degraded = matches!(outcome, Outcome::Refused(Refusal { verdict: Verdict::EngineDegraded, .. }));
    degraded.then(|| "its answers hold numbers that are not finite".to_owned())
}

/// What an engine that failed did wrong; any other error stays one.
pub(super) fn engine_failure(engine: &str, error: SegmentError) -> Result<String, SegmentError> {
    let failure = match error {
        SegmentError::Engine(error) => error.to_string(),
        SegmentError::Perception(kestrel_perception::Error::NotFinite { operation, count }) => {
            format!("{operation}: {count} numbers from {engine} are not finite")
        }
        error => return Err(error),
    };
    tracing::error!("{failure}");
    Ok(failure)
}

pub(super) fn failed() -> Refusal {
    let verdict = Verdict::EngineDegraded;
    let evidence = vec![("engine_failures".into(), 1.0)];
    Refusal { advice: policy::advice(&verdict), evidence, verdict }
}

pub(super) fn refused(mut refusal: Refusal, words_cut: usize) -> Outcome {
    if words_cut > 0 {
        refusal.evidence.push(("tokens_cut".into(), words_cut as f32));
    }
    Outcome::Refused(refusal)
}

pub(super) fn segmented(mask: &Bitmap, presence: f32, predicted_iou: f32) -> Result<Outcome, SegmentError> {
    segmented_in(mask, presence, predicted_iou, &mut Arena::default())
}

/// As [`segmented`], in memory of the arena.
pub(super) fn segmented_in(
    mask: &Bitmap,
    presence: f32,
    predicted_iou: f32,
    arena: &mut Arena,
) -> Result<Outcome, SegmentError> {
    let mut counts = arena.counts();
    let Some(segment) = segment_with(mask, presence, predicted_iou, &mut arena.encode, &mut counts)? else {
        // The policy shows no mask without area, so only a refinement could have emptied it.
        arena.keep_counts(counts);
        return Ok(too_small(presence));
    };
    let mut masks = arena.segments();
    masks.push(segment);
    Ok(Outcome::Segmented { masks })
}

fn too_small(presence: f32) -> Outcome {
    let verdict = Verdict::TargetTooSmall;
    let evidence = vec![("presence".into(), presence), ("area_pixels".into(), 0.0)];
    Outcome::Refused(Refusal { advice: policy::advice(&verdict), evidence, verdict })
}

/// All masks of an outcome as one; `None` for a refusal.
///
/// # Errors
/// When a mask does not decode.
pub fn union(outcome: &Outcome) -> Result<Option<Bitmap>, SegmentError> {
    let Outcome::Segmented { masks } = outcome else { return Ok(None) };
    let mut all: Option<Bitmap> = None;
    for Segment { mask, .. } in masks {
        let mask = Bitmap::from_mask(mask)?;
        match &mut all {
            Some(all) => all.unite(&mask)?,
            None => all = Some(mask),
        }
    }
    Ok(all)
}
