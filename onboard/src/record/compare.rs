//! Two outcomes held against each other.

use std::fmt;

use kestrel_link::{LinkError, Mask, Outcome, Refusal, Segment, Standing, Verdict};

use super::drawing::reason;

/// The first field in which two outcomes differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Path of the field, e.g. `masks[0].presence`.
    pub field: String,
    /// What was recorded.
    pub expected: String,
    /// What came instead.
    pub got: String,
    /// How far masks differ, where the field is a mask.
    pub mask: Option<MaskDifference>,
}

/// How far two masks differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskDifference {
    /// Intersection over union.
    pub iou: f32,
    /// Pixels that are set in one of them only.
    pub pixels: u64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, got {}", self.field, self.expected, self.got)?;
        match self.mask {
            Some(MaskDifference { iou, pixels }) => write!(f, "; IoU {iou}, {pixels} pixels differ"),
            None => Ok(()),
        }
    }
}

impl Difference {
    pub(super) fn new(field: impl Into<String>, expected: impl fmt::Display, got: impl fmt::Display) -> Self {
        Self { field: field.into(), expected: expected.to_string(), got: got.to_string(), mask: None }
    }

    /// Nothing when both are alike.
    fn unless_equal<T: PartialEq + fmt::Debug>(field: &str, expected: &T, got: &T) -> Option<Self> {
        (expected != got).then(|| Self::new(field, format!("{expected:?}"), format!("{got:?}")))
    }

    /// Nothing when both have the same bits.
    fn unless_same_bits(field: String, expected: f32, got: f32) -> Option<Self> {
        (expected.to_bits() != got.to_bits()).then(|| Self::new(field, format!("{expected:?}"), format!("{got:?}")))
    }
}

/// The first field in which an outcome is not bit for bit the expected one; `None` when there is none.
#[must_use]
pub fn exact(expected: &Outcome, got: &Outcome) -> Option<Difference> {
    match (expected, got) {
        (Outcome::Segmented { masks }, Outcome::Segmented { masks: others }) => segments("masks", masks, others),
        (Outcome::Refused(refusal), Outcome::Refused(other)) => refusals(refusal, other),
        _ => Some(Difference::new("outcome", kind(expected), kind(got))),
    }
}

/// Whether an outcome is of the expected kind: a mask whose IoU reaches `least_iou`, or a refusal for the same reason.
///
/// Several masks count as their union.
#[must_use]
pub fn loose(expected: &Outcome, got: &Outcome, least_iou: f32) -> Option<Difference> {
    match (expected, got) {
        (Outcome::Segmented { masks }, Outcome::Segmented { masks: others }) => match (union(masks), union(others)) {
            (Ok(Some(mask)), Ok(Some(other))) => {
                mask_difference("masks", &mask, &other).filter(|found| found.mask.is_none_or(|by| by.iou < least_iou))
            }
            (mask, other) => Difference::unless_equal("masks", &mask, &other),
        },
        (Outcome::Refused(refusal), Outcome::Refused(other)) => reasons(&refusal.verdict, &other.verdict),
        _ => Some(Difference::new("outcome", kind(expected), kind(got))),
    }
}

/// The first field in which two refusals differ.
pub(super) fn refusals(expected: &Refusal, got: &Refusal) -> Option<Difference> {
    reasons(&expected.verdict, &got.verdict)
        .or_else(|| verdicts(&expected.verdict, &got.verdict))
        .or_else(|| evidence(&expected.evidence, &got.evidence))
        .or_else(|| Difference::unless_equal("advice", &expected.advice, &got.advice))
}

/// Whether two refusals have another reason.
pub(super) fn reasons(expected: &Verdict, got: &Verdict) -> Option<Difference> {
    let (expected, got) = (reason(expected), reason(got));
    (expected != got).then(|| Difference::new("reason", expected, got))
}

/// The first field in which a query that stands stands otherwise to its answers before.
pub(super) fn standings(expected: Option<&Standing>, got: Option<&Standing>) -> Option<Difference> {
    let (Some(one), Some(two)) = (expected, got) else {
        return Difference::unless_equal("standing", &expected, &got);
    };
    let age = "standing.verified_frames_ago";
    Difference::unless_equal(age, &one.verified_frames_ago, &two.verified_frames_ago)
        .or_else(|| Difference::unless_equal("standing.refused", &one.refused, &two.refused))
        .or_else(|| Difference::unless_equal("standing.lost", &one.lost, &two.lost))
}

fn verdicts(expected: &Verdict, got: &Verdict) -> Option<Difference> {
    match (expected, got) {
        (Verdict::TargetAmbiguous { candidates }, Verdict::TargetAmbiguous { candidates: others }) => {
            segments("candidates", candidates, others)
        }
        (Verdict::QueryNotUnderstood { word }, Verdict::QueryNotUnderstood { word: other }) => {
            Difference::unless_equal("word", word, other)
        }
        _ => None,
    }
}

fn evidence(expected: &[(String, f32)], got: &[(String, f32)]) -> Option<Difference> {
    let names = |all: &[(String, f32)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    Difference::unless_equal("evidence", &names(expected), &names(got)).or_else(|| {
        let mut pairs = expected.iter().zip(got);
        pairs.find_map(|((name, one), (_, two))| Difference::unless_same_bits(format!("evidence.{name}"), *one, *two))
    })
}

fn segments(field: &str, expected: &[Segment], got: &[Segment]) -> Option<Difference> {
    if expected.len() != got.len() {
        return Some(Difference::new(field, expected.len(), got.len()));
    }
    expected.iter().zip(got).enumerate().find_map(|(index, (one, two))| {
        let at = |name: &str| format!("{field}[{index}].{name}");
        mask_difference(&at("mask"), &one.mask, &two.mask)
            .or_else(|| Difference::unless_same_bits(at("presence"), one.presence, two.presence))
            .or_else(|| Difference::unless_same_bits(at("predicted_iou"), one.predicted_iou, two.predicted_iou))
            .or_else(|| Difference::unless_equal(&at("bounding_box"), &one.bounding_box, &two.bounding_box))
            .or_else(|| Difference::unless_equal(&at("area_pixels"), &one.area_pixels, &two.area_pixels))
            .or_else(|| Difference::unless_equal(&at("track"), &one.track, &two.track))
            .or_else(|| Difference::unless_equal(&at("positions"), &one.positions, &two.positions))
    })
}

fn mask_difference(field: &str, expected: &Mask, got: &Mask) -> Option<Difference> {
    if expected == got {
        return None;
    }
    let mut found = Difference::new(field, described(expected), described(got));
    found.mask = measured(expected, got).ok();
    Some(found)
}

fn described(mask: &Mask) -> String {
    let size = format!("{}×{}", mask.width, mask.height);
    match mask.area() {
        Ok(area) => format!("{area} of {size} pixels"),
        Err(error) => format!("a broken mask of {size} pixels ({error})"),
    }
}

fn measured(one: &Mask, two: &Mask) -> Result<MaskDifference, LinkError> {
    let either = one.union(two)?.area()?;
    Ok(MaskDifference { iou: one.iou(two)?, pixels: 2 * either - one.area()? - two.area()? })
}

fn union(masks: &[Segment]) -> Result<Option<Mask>, LinkError> {
    let Some((first, others)) = masks.split_first() else { return Ok(None) };
    others.iter().try_fold(first.mask.clone(), |all, segment| all.union(&segment.mask)).map(Some)
}

fn kind(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Segmented { masks } if masks.len() == 1 => "a mask".into(),
        Outcome::Segmented { masks } => format!("{} masks", masks.len()),
        Outcome::Refused(refusal) => format!("the refusal {}", reason(&refusal.verdict)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use kestrel_link::{Georeference, Track, TrackEvent, Unplaced};

    fn segment(side: u32) -> Segment {
        Segment::of(Mask::from_fn(40, 30, |x, y| x < side && y < side).unwrap(), 0.75, 0.5).unwrap()
    }

    fn masks(all: &[u32]) -> Outcome {
        Outcome::Segmented { masks: all.iter().map(|&side| segment(side)).collect() }
    }

    fn refused(verdict: Verdict) -> Refusal {
        Refusal { verdict, evidence: vec![("presence".into(), 0.25)], advice: "come closer".into() }
    }

    #[test]
    fn the_same_is_the_same() {
        assert_eq!(exact(&masks(&[4, 9]), &masks(&[4, 9])), None);
        let refused = Outcome::Refused(refused(Verdict::TargetAbsent));
        assert_eq!(exact(&refused, &refused.clone()), None);
    }

    #[test]
    fn masks_say_how_far_they_differ() {
        let found = exact(&masks(&[4, 10]), &masks(&[4, 8])).unwrap();
        assert_eq!(found.field, "masks[1].mask");
        assert_eq!(found.mask, Some(MaskDifference { iou: 0.64, pixels: 36 }));
        let text = found.to_string();
        assert!(
            text.ends_with("expected 100 of 40×30 pixels, got 64 of 40×30 pixels; IoU 0.64, 36 pixels differ"),
            "{text}"
        );
        assert_eq!(exact(&masks(&[4]), &masks(&[4, 8])).unwrap().to_string(), "masks: expected 1, got 2");
    }

    /// Promise: P11
    #[test]
    fn one_bit_of_one_number_is_found() {
        let next = |value: f32| f32::from_bits(value.to_bits() + 1);
        let mut other = segment(4);
        other.presence = next(other.presence);
        let found = exact(&masks(&[4]), &Outcome::Segmented { masks: vec![other] }).unwrap();
        assert_eq!(found.to_string(), "masks[0].presence: expected 0.75, got 0.75000006");
        let mut other = refused(Verdict::TargetAbsent);
        other.evidence[0].1 = next(0.25);
        assert_eq!(refusals(&refused(Verdict::TargetAbsent), &other).unwrap().field, "evidence.presence");
    }

    /// Promise: P11
    #[test]
    fn every_part_of_a_refusal_counts() {
        let one = refused(Verdict::QueryNotUnderstood { word: Some("blorf".into()) });
        let field = |other: &Refusal| refusals(&one, other).unwrap().field;
        assert_eq!(field(&refused(Verdict::TargetAbsent)), "reason");
        assert_eq!(field(&refused(Verdict::QueryNotUnderstood { word: None })), "word");
        assert_eq!(field(&Refusal { evidence: Vec::new(), ..one.clone() }), "evidence");
        assert_eq!(field(&Refusal { advice: String::new(), ..one.clone() }), "advice");
        let crowd = |side| refused(Verdict::TargetAmbiguous { candidates: vec![segment(side)] });
        assert_eq!(refusals(&crowd(4), &crowd(5)).unwrap().field, "candidates[0].mask");
        let kinds = exact(&masks(&[4]), &Outcome::Refused(one)).unwrap().to_string();
        assert_eq!(kinds, "outcome: expected a mask, got the refusal query_not_understood");
    }

    #[test]
    fn places_count() {
        let placed = |why| {
            let positions = vec![Georeference::Unplaced { why }];
            Outcome::Segmented { masks: vec![Segment { positions, ..segment(4) }] }
        };
        assert_eq!(exact(&placed(Unplaced::PoseUnknown), &placed(Unplaced::PoseUnknown)), None);
        let found = exact(&placed(Unplaced::PoseUnknown), &placed(Unplaced::PoseAwaited)).unwrap();
        assert_eq!(found.field, "masks[0].positions");
    }

    #[test]
    fn identities_count() {
        let named = |id| {
            let track = Some(Track { id, event: TrackEvent::New, age_frames: 0 });
            Outcome::Segmented { masks: vec![Segment { track, ..segment(4) }] }
        };
        assert_eq!(exact(&named(1), &named(1)), None);
        assert_eq!(exact(&named(1), &named(2)).unwrap().field, "masks[0].track");
        let lost = |ids: &[u64]| Standing { lost: ids.to_vec(), ..Standing::default() };
        assert_eq!(standings(Some(&lost(&[1])), Some(&lost(&[1]))), None);
        assert_eq!(standings(Some(&lost(&[1])), Some(&lost(&[]))).unwrap().field, "standing.lost");
        assert_eq!(standings(None, Some(&lost(&[]))).unwrap().field, "standing");
    }

    #[test]
    fn loosely_masks_may_differ_a_little_and_refusals_in_all_but_the_reason() {
        assert_eq!(loose(&masks(&[10]), &masks(&[9]), 0.8), None);
        assert!(loose(&masks(&[10]), &masks(&[8]), 0.8).is_some());
        assert_eq!(loose(&masks(&[10]), &masks(&[3, 10]), 1.0), None, "several masks count as their union");
        let other = Refusal { advice: String::new(), evidence: Vec::new(), verdict: Verdict::TargetAbsent };
        assert_eq!(loose(&Outcome::Refused(refused(Verdict::TargetAbsent)), &Outcome::Refused(other), 0.9), None);
        assert!(loose(&masks(&[4]), &Outcome::Refused(refused(Verdict::TargetAbsent)), 0.0).is_some());
    }

    #[test]
    fn a_broken_mask_is_a_difference_and_no_failure() {
        let mut broken = segment(4);
        broken.mask.counts = "~~~".into();
        let found = exact(&Outcome::Segmented { masks: vec![broken.clone()] }, &masks(&[4])).unwrap();
        assert_eq!(found.mask, None);
        assert!(found.expected.starts_with("a broken mask of 40×30 pixels"), "{found}");
        assert!(loose(&Outcome::Segmented { masks: vec![broken] }, &masks(&[4]), 0.5).is_some());
        let small = Mask::from_fn(4, 3, |_, _| true).unwrap();
        let small = Outcome::Segmented { masks: vec![Segment::of(small, 0.75, 0.5).unwrap()] };
        assert!(exact(&small, &masks(&[4])).unwrap().mask.is_none(), "masks of other sizes have no IoU");
    }
}
