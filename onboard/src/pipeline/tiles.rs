//! A second, closer look: the tiles of a frame that is larger than the model's input.

use kestrel_link::{Outcome, Query, Refusal, Segment, Verdict};
use kestrel_perception::postprocess::MOST_CANDIDATES;
use kestrel_perception::{Bitmap, Decision, policy, refine, segment, tile_hint, touched};

use super::timings::{Timings, timed};
use super::words::Tokens;
use super::{Glance, Look, SegmentError, segmented};

/// Words that only make sense in the whole frame: a tile has its own left, largest and third.
const WHOLE_FRAME_WORDS: [&str; 36] = [
    "left",
    "right",
    "top",
    "bottom",
    "upper",
    "lower",
    "middle",
    "centre",
    "center",
    "corner",
    "edge",
    "side",
    "leftmost",
    "rightmost",
    "topmost",
    "northern",
    "southern",
    "largest",
    "biggest",
    "smallest",
    "longest",
    "nearest",
    "closest",
    "farthest",
    "furthest",
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "last",
    "next",
    "between",
    "most",
    "only",
    "half",
];

/// Words that ask for all things of a kind.
const PLURAL_WORDS: [&str; 5] = ["all", "every", "each", "both", "any"];

/// A tile's answer.
struct Found {
    mask: Bitmap,
    presence: f32,
    predicted_iou: f32,
}

impl Look<'_> {
    /// The mask of the whole frame, drawn again by the tiles that it touches; `None` when the overview's stands.
    ///
    /// Each is asked with the words and the box of what the overview found in it, so it looks for the same thing;
    /// a tile that does not see it, or is less sure of its outline, leaves the overview's word standing: a thing that a
    /// tile's edge cuts is seen better whole.
    pub(super) fn refined(
        &mut self,
        whole: &Glance,
        predicted_iou: f32,
        tokens: &Tokens,
        timings: &mut Timings,
    ) -> Result<Option<Bitmap>, SegmentError> {
        let tiles = self.segmenter.views.tiles();
        if tiles.is_empty() {
            return Ok(None);
        }
        let mut refined = Vec::new();
        for index in touched(&tiles, &whole.mask) {
            let view = index + 1;
            let Some(hint) = tile_hint(&whole.mask, &self.segmenter.views.letterbox(view)) else { continue };
            let glance = self.glance(view, tokens, Some(&hint), timings)?;
            if replaces(&glance.decision, predicted_iou) {
                refined.push((tiles[index], glance.mask));
            }
        }
        if refined.is_empty() {
            return Ok(None);
        }
        let mask = timed(&mut timings.postprocess, || refine(&whole.mask, &refined))?;
        // A refinement that loses the target is worse than none.
        Ok(Some(mask).filter(|mask| mask.area() > 0))
    }

    /// Asks every tile when the overview saw nothing, or too little; `None` leaves the refusal standing.
    pub(super) fn tiles_instead(
        &mut self,
        query: &Query,
        refusal: &Refusal,
        tokens: &Tokens,
        timings: &mut Timings,
    ) -> Result<Option<Outcome>, SegmentError> {
        let tiles = self.segmenter.views.tiles();
        let unseen = matches!(refusal.verdict, Verdict::TargetAbsent | Verdict::TargetTooSmall);
        if !unseen || tiles.is_empty() || query.hint.is_some() || has_word(&query.text, &WHOLE_FRAME_WORDS) {
            return Ok(None);
        }
        let mut found = Vec::new();
        for view in 1..=tiles.len() {
            let glance = self.glance(view, tokens, None, timings)?;
            if let Decision::Segment { presence, predicted_iou } = glance.decision {
                found.push(Found { mask: glance.mask, presence, predicted_iou });
            }
        }
        timed(&mut timings.postprocess, || merge(found, asks_for_all(&query.text)))
    }
}

/// Whether a tile's answer stands instead of the overview's: it sees the target, and is as sure of its outline.
fn replaces(closer: &Decision, overview_iou: f32) -> bool {
    matches!(closer, Decision::Segment { predicted_iou, .. } if *predicted_iou >= overview_iou)
}

/// One outcome of what the tiles found: one thing, all things, or several that could be meant.
fn merge(found: Vec<Found>, plural: bool) -> Result<Option<Outcome>, SegmentError> {
    let mut things: Vec<Found> = Vec::new();
    for one in found {
        // Tiles overlap, so a thing on a seam is found twice.
        let same =
            if plural { things.first_mut() } else { things.iter_mut().find(|thing| overlap(&thing.mask, &one.mask)) };
        match same {
            Some(thing) => {
                thing.mask.unite(&one.mask)?;
                thing.presence = thing.presence.max(one.presence);
                thing.predicted_iou = thing.predicted_iou.min(one.predicted_iou);
            }
            None => things.push(one),
        }
    }
    match things.as_slice() {
        [] => Ok(None),
        [thing] => segmented(&thing.mask, thing.presence, thing.predicted_iou).map(Some),
        several => ambiguous(several).map(Some),
    }
}

fn ambiguous(things: &[Found]) -> Result<Outcome, SegmentError> {
    let mut candidates: Vec<Segment> = Vec::new();
    for thing in things.iter().take(MOST_CANDIDATES) {
        candidates.extend(segment(&thing.mask, thing.presence, thing.predicted_iou)?);
    }
    candidates.sort_by(|one, two| two.presence.total_cmp(&one.presence));
    let evidence = vec![("tiles_with_target".into(), things.len() as f32)];
    let verdict = Verdict::TargetAmbiguous { candidates };
    Ok(Outcome::Refused(Refusal { advice: policy::advice(&verdict), evidence, verdict }))
}

fn overlap(one: &Bitmap, two: &Bitmap) -> bool {
    one.bits().iter().zip(two.bits()).any(|(&one, &two)| one && two)
}

/// Whether words ask for all things of a kind.
pub(super) fn asks_for_all(text: &str) -> bool {
    has_word(text, &PLURAL_WORDS)
}

fn has_word(text: &str, words: &[&str]) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|word| words.iter().any(|known| known.eq_ignore_ascii_case(word)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn found(x: u32, presence: f32) -> Found {
        let mask = Bitmap::from_fn(100, 20, |u, v| (x..x + 10).contains(&u) && (5..15).contains(&v));
        Found { mask, presence, predicted_iou: 0.8 }
    }

    #[test]
    fn a_thing_on_a_seam_is_one_thing() {
        let outcome = merge(vec![found(40, 0.7), found(45, 0.9)], false).unwrap().unwrap();
        let Outcome::Segmented { masks } = outcome else { panic!("expected a mask") };
        assert_eq!(masks[0].bounding_box, [40, 5, 15, 10]);
        assert_eq!(masks[0].presence, 0.9);
    }

    #[test]
    fn two_things_are_ambiguous_unless_all_were_asked_for() {
        let outcome = merge(vec![found(0, 0.7), found(80, 0.9)], false).unwrap().unwrap();
        let Outcome::Refused(Refusal { verdict: Verdict::TargetAmbiguous { candidates }, .. }) = outcome else {
            panic!("expected candidates")
        };
        assert_eq!(candidates.len(), 2);
        assert!(candidates[0].presence > candidates[1].presence, "best first");
        let outcome = merge(vec![found(0, 0.7), found(80, 0.9)], true).unwrap().unwrap();
        let Outcome::Segmented { masks } = outcome else { panic!("expected the union") };
        assert_eq!(masks[0].area_pixels, 200);
    }

    #[test]
    fn a_tile_draws_again_only_what_it_is_as_sure_of() {
        let sees = |predicted_iou| Decision::Segment { presence: 0.9, predicted_iou };
        assert!(replaces(&sees(0.8), 0.7) && replaces(&sees(0.7), 0.7));
        assert!(!replaces(&sees(0.3), 0.7), "a thing that the tile's edge cuts");
        assert!(!replaces(&sees(f32::NAN), 0.7));
        let verdict = Verdict::TargetAbsent;
        let refused = Refusal { advice: policy::advice(&verdict), evidence: Vec::new(), verdict };
        assert!(!replaces(&Decision::Refuse(refused), 0.0));
    }

    #[test]
    fn nothing_found_leaves_the_refusal() {
        assert!(merge(Vec::new(), true).unwrap().is_none());
    }

    #[test]
    fn words_are_matched_whole_and_in_any_case() {
        assert!(has_word("the car on the LEFT, please", &WHOLE_FRAME_WORDS));
        assert!(!has_word("the bright copyright sign", &WHOLE_FRAME_WORDS));
        assert!(has_word("All boats", &PLURAL_WORDS));
    }
}
