//! A second, closer look: the tiles of a frame that is larger than the model's input.

use kestrel_link::{Hint, Outcome, Query, Refusal, Segment, Verdict};
use kestrel_perception::postprocess::MOST_CANDIDATES;
use kestrel_perception::{Bitmap, Decision, Part, Tiling, View, policy, refine, segment, tile_hint, touched};

use super::timings::{Timings, timed};
use super::words::Tokens;
use super::{Glance, Look, SegmentError, Segmenter, segmented};

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

/// Share of a tile that a mask must not fill for a budget to be spent on drawing it again: what fills it is large enough in the
/// overview.
const FILLED_SHARE: f32 = 0.25;

/// A tile's answer.
struct Found {
    part: Part,
    presence: f32,
    predicted_iou: f32,
}

impl Look<'_> {
    /// The mask of the whole frame, drawn again by the tiles that it touches; `None` when the overview's stands.
    ///
    /// Each is asked with the words and the box of what the overview found in it, so it looks for the same thing;
    /// a tile that does not see it, or is less sure of its outline, leaves the overview's word standing: a thing that a
    /// tile's edge cuts is seen better whole. Where a budget is spent on words for all things of a kind, tiles are asked
    /// without a box: some of those things may be too small for the overview.
    pub(super) fn refined(
        &mut self,
        query: &Query,
        whole: &Glance,
        predicted_iou: f32,
        tokens: &Tokens,
        timings: &mut Timings,
    ) -> Result<Option<Bitmap>, SegmentError> {
        let tiles = self.segmenter.views.tiles();
        if tiles.is_empty() {
            return Ok(None);
        }
        let closer: Vec<(usize, Option<Hint>)> =
            match self.most_views.is_some() && asks_freely(query) && asks_for_all(&query.text) {
                true => self.tiles_to_ask(&tiles)?.into_iter().map(|view| (view, None)).collect(),
                false => self.hinted_tiles(&tiles, &whole.mask),
            };
        let views: Vec<usize> = closer.iter().map(|&(view, _)| view).collect();
        self.see_all(&views, timings)?;
        let mut refined = Vec::new();
        for (view, hint) in closer {
            let glance = self.glance(view, tokens, hint.as_ref(), timings)?;
            let tile = &tiles[view - 1];
            // Where the overview saw nothing there is no outline to be better than.
            let least = if whole.mask.area_in(tile) > 0 { predicted_iou } else { 0.0 };
            if replaces(&glance.decision, least) {
                refined.push(timed(&mut timings.postprocess, || Part::of(&glance.mask, tile)));
            }
        }
        if refined.is_empty() {
            return Ok(None);
        }
        let mask = timed(&mut timings.postprocess, || refine(&whole.mask, &refined));
        // A refinement that loses the target is worse than none.
        Ok(Some(mask).filter(|mask| mask.area() > 0))
    }

    /// Views of the tiles that a coarse mask touches, each with the box of what it sees of it.
    fn hinted_tiles(&self, tiles: &[View], coarse: &Bitmap) -> Vec<(usize, Option<Hint>)> {
        let filled = |tile: &View| coarse.area_in(tile) as f32 > FILLED_SHARE * tile.width * tile.height;
        let open: Vec<usize> =
            (0..tiles.len()).filter(|&index| self.most_views.is_none() || !filled(&tiles[index])).collect();
        let open_tiles: Vec<View> = open.iter().map(|&index| tiles[index]).collect();
        let chosen = touched(&open_tiles, coarse, self.most_tiles()).into_iter().map(|at| open[at] + 1);
        chosen
            .filter_map(|view| Some((view, Some(tile_hint(coarse, &self.segmenter.views.letterbox(view))?))))
            .collect()
    }

    /// Asks tiles when the overview saw nothing, or too little; `None` leaves the refusal standing, with how closely the frame
    /// was looked at where a budget bounded that.
    pub(super) fn tiles_instead(
        &mut self,
        query: &Query,
        refusal: &mut Refusal,
        tokens: &Tokens,
        timings: &mut Timings,
    ) -> Result<Option<Outcome>, SegmentError> {
        let tiles = self.segmenter.views.tiles();
        let unseen = matches!(refusal.verdict, Verdict::TargetAbsent | Verdict::TargetTooSmall);
        if !unseen || tiles.is_empty() || !asks_freely(query) {
            return Ok(None);
        }
        let asked = self.tiles_to_ask(&tiles)?;
        self.see_all(&asked, timings)?;
        let mut found = Vec::new();
        for &view in &asked {
            let glance = self.glance(view, tokens, None, timings)?;
            if let Decision::Segment { presence, predicted_iou } = glance.decision {
                let part = timed(&mut timings.postprocess, || Part::of(&glance.mask, &tiles[view - 1]));
                found.push(Found { part, presence, predicted_iou });
            }
        }
        let size = [self.frame.width(), self.frame.height()];
        let outcome = timed(&mut timings.postprocess, || merge(found, asks_for_all(&query.text), size))?;
        if outcome.is_none() && self.most_views.is_some() {
            let Segmenter { options, views, .. } = &*self.segmenter;
            let longest = tiles[0].width.max(tiles[0].height);
            let smallest = options.tiles.smallest_in(longest, views.input_size());
            let (count, left) = (asked.len() as f32, (tiles.len() - asked.len()) as f32);
            let evidence = [("tiles_asked", count), ("tiles_left", left), ("smallest_pixels", smallest)];
            refusal.evidence.extend(evidence.map(|(name, value)| (name.to_owned(), value)));
        }
        Ok(outcome)
    }

    /// Views of the tiles that are asked for what the overview did not see, in that order.
    fn tiles_to_ask(&self, tiles: &[View]) -> Result<Vec<usize>, SegmentError> {
        match self.segmenter.options.tiling {
            Tiling::CoarseToFine => self.segmenter.views.hottest(self.most_tiles()),
            // Never more than the budget allows: the grid was made for it.
            _ => Ok((1..=tiles.len()).collect()),
        }
    }

    /// Tiles that one answer may look at.
    fn most_tiles(&self) -> usize {
        self.most_views.map_or(usize::MAX, |views| views.saturating_sub(1) as usize)
    }

    /// Sees views before they are asked about, where the engine gains by seeing several at once.
    fn see_all(&mut self, views: &[usize], timings: &mut Timings) -> Result<(), SegmentError> {
        let Segmenter { engine, views: seen, budget, .. } = &mut *self.segmenter;
        let before = *timings;
        let count = seen.see_all(views, self.frame, engine.as_mut(), timings)?;
        budget.saw(count, &before, timings);
        Ok(())
    }
}

/// Whether a tile's answer stands instead of the overview's: it sees the target, and is as sure of its outline.
fn replaces(closer: &Decision, overview_iou: f32) -> bool {
    matches!(closer, Decision::Segment { predicted_iou, .. } if *predicted_iou >= overview_iou)
}

/// What one tile, or several that see the same thing, found.
struct Thing {
    parts: Vec<Part>,
    presence: f32,
    predicted_iou: f32,
}

impl Thing {
    fn mask(&self, [width, height]: [u32; 2]) -> Bitmap {
        let mut mask = Bitmap::new(width, height);
        self.parts.iter().for_each(|part| part.lay(&mut mask));
        mask
    }
}

/// One outcome of what the tiles of a frame of `[width, height]` pixels found: one thing, all things, or several that could be
/// meant.
fn merge(found: Vec<Found>, plural: bool, size: [u32; 2]) -> Result<Option<Outcome>, SegmentError> {
    let mut things: Vec<Thing> = Vec::new();
    for Found { part, presence, predicted_iou } in found {
        // Tiles overlap, so a thing on a seam is found twice.
        let same = match plural {
            true => things.first_mut(),
            false => things.iter_mut().find(|thing| thing.parts.iter().any(|other| other.touches(&part))),
        };
        match same {
            Some(thing) => {
                thing.parts.push(part);
                thing.presence = thing.presence.max(presence);
                thing.predicted_iou = thing.predicted_iou.min(predicted_iou);
            }
            None => things.push(Thing { parts: vec![part], presence, predicted_iou }),
        }
    }
    match things.as_slice() {
        [] => Ok(None),
        [thing] => segmented(&thing.mask(size), thing.presence, thing.predicted_iou).map(Some),
        several => ambiguous(several, size).map(Some),
    }
}

fn ambiguous(things: &[Thing], size: [u32; 2]) -> Result<Outcome, SegmentError> {
    let mut candidates: Vec<Segment> = Vec::new();
    for thing in things.iter().take(MOST_CANDIDATES) {
        candidates.extend(segment(&thing.mask(size), thing.presence, thing.predicted_iou)?);
    }
    candidates.sort_by(|one, two| two.presence.total_cmp(&one.presence));
    let evidence = vec![("tiles_with_target".into(), things.len() as f32)];
    let verdict = Verdict::TargetAmbiguous { candidates };
    Ok(Outcome::Refused(Refusal { advice: policy::advice(&verdict), evidence, verdict }))
}

/// Whether any tile may be asked: nothing in the question depends on a place in the whole frame.
fn asks_freely(query: &Query) -> bool {
    query.hint.is_none() && !has_word(&query.text, &WHOLE_FRAME_WORDS)
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

    const SIZE: [u32; 2] = [100, 20];

    fn found(x: u32, presence: f32) -> Found {
        let mask = Bitmap::from_fn(SIZE[0], SIZE[1], |u, v| (x..x + 10).contains(&u) && (5..15).contains(&v));
        Found { part: Part::of(&mask, &View::whole(SIZE[0], SIZE[1])), presence, predicted_iou: 0.8 }
    }

    #[test]
    fn a_thing_on_a_seam_is_one_thing() {
        let outcome = merge(vec![found(40, 0.7), found(45, 0.9)], false, SIZE).unwrap().unwrap();
        let Outcome::Segmented { masks } = outcome else { panic!("expected a mask") };
        assert_eq!(masks[0].bounding_box, [40, 5, 15, 10]);
        assert_eq!(masks[0].presence, 0.9);
    }

    #[test]
    fn two_things_are_ambiguous_unless_all_were_asked_for() {
        let outcome = merge(vec![found(0, 0.7), found(80, 0.9)], false, SIZE).unwrap().unwrap();
        let Outcome::Refused(Refusal { verdict: Verdict::TargetAmbiguous { candidates }, .. }) = outcome else {
            panic!("expected candidates")
        };
        assert_eq!(candidates.len(), 2);
        assert!(candidates[0].presence > candidates[1].presence, "best first");
        let outcome = merge(vec![found(0, 0.7), found(80, 0.9)], true, SIZE).unwrap().unwrap();
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
        assert!(merge(Vec::new(), true, SIZE).unwrap().is_none());
    }

    #[test]
    fn words_are_matched_whole_and_in_any_case() {
        assert!(has_word("the car on the LEFT, please", &WHOLE_FRAME_WORDS));
        assert!(!has_word("the bright copyright sign", &WHOLE_FRAME_WORDS));
        assert!(has_word("All boats", &PLURAL_WORDS));
    }
}
