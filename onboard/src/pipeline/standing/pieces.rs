//! The pieces of an answer: what may have an identity.

use image::RgbImage;
use kestrel_link::{Hint, Outcome, Segment};
use kestrel_perception::track::MOST_PIECES;
use kestrel_perception::{Appearance, Bitmap, Component, Piece, Shape, segment};

use crate::pipeline::{SegmentError, union};

/// The pieces of an answer that may have identities, one for each of the first segments; the segments of an answer that
/// asks for all are made one for each connected piece. `drawn` is what the segments encode, where that is at hand.
pub(super) fn pieces(
    masks: &mut Vec<Segment>,
    each: bool,
    frame: &RgbImage,
    drawn: Option<&Bitmap>,
) -> Result<Vec<Piece>, SegmentError> {
    let decoded = if drawn.is_none() { decoded(masks)? } else { None };
    let Some(whole) = drawn.or(decoded.as_ref()) else { return Ok(Vec::new()) };
    let mut parts = whole.components();
    let rest = parts.split_off(parts.len().min(MOST_PIECES));
    if !each {
        return Ok(joined(parts.into_iter().chain(rest)).iter().map(|all| piece(all, frame)).collect());
    }
    if parts.len() > 1 {
        apart(masks, whole, &parts, rest)?;
    }
    Ok(parts.iter().map(|part| piece(part, frame)).collect())
}

/// All segments as one mask; `None` of none.
fn decoded(masks: &mut Vec<Segment>) -> Result<Option<Bitmap>, SegmentError> {
    let outcome = Outcome::Segmented { masks: std::mem::take(masks) };
    let whole = union(&outcome);
    if let Outcome::Segmented { masks: taken } = outcome {
        *masks = taken;
    }
    whole
}

/// Puts a segment for each part in place of those that there are, and one for the rest.
fn apart(
    masks: &mut Vec<Segment>,
    whole: &Bitmap,
    parts: &[Component],
    rest: Vec<Component>,
) -> Result<(), SegmentError> {
    let presence = masks.iter().map(|mask| mask.presence).fold(0.0, f32::max);
    let predicted_iou = masks.iter().map(|mask| mask.predicted_iou).fold(1.0, f32::min);
    let rest = joined(rest);
    let mut segments = Vec::with_capacity(parts.len() + 1);
    for part in parts.iter().chain(&rest) {
        segments.extend(segment(&whole.only(part), presence, predicted_iou)?);
    }
    *masks = segments;
    Ok(())
}

/// Several pieces of a mask as one; `None` of none.
fn joined(parts: impl IntoIterator<Item = Component>) -> Option<Component> {
    parts.into_iter().reduce(|mut all, part| {
        let edges = |[x, y, width, height]: [u32; 4]| [x, y, x + width, y + height];
        let ([ax0, ay0, ax1, ay1], [bx0, by0, bx1, by1]) = (edges(all.bounding_box), edges(part.bounding_box));
        let (x0, y0) = (ax0.min(bx0), ay0.min(by0));
        all.bounding_box = [x0, y0, ax1.max(bx1) - x0, ay1.max(by1) - y0];
        all.area += part.area;
        all.runs.extend(part.runs);
        all
    })
}

fn piece(part: &Component, frame: &RgbImage) -> Piece {
    let bounding_box = part.bounding_box.map(|pixels| pixels as f32);
    Piece { bounding_box, shape: Shape::of(part), appearance: Appearance::under(frame, part) }
}

/// The box around all masks as a hint; `None` where there is none.
pub(super) fn place(masks: &[Segment], frame: &RgbImage) -> Option<Hint> {
    let edges = masks.iter().map(|mask| {
        let [x, y, width, height] = mask.bounding_box;
        [x, y, x.saturating_add(width), y.saturating_add(height)]
    });
    let [x0, y0, x1, y1] =
        edges.reduce(|all, one| [all[0].min(one[0]), all[1].min(one[1]), all[2].max(one[2]), all[3].max(one[3])])?;
    let across = |x: u32| (x as f32 / frame.width() as f32).clamp(0.0, 1.0);
    let down = |y: u32| (y as f32 / frame.height() as f32).clamp(0.0, 1.0);
    let hint = Hint::Box { x0: across(x0), y0: down(y0), x1: across(x1), y1: down(y1) };
    hint.validate().is_ok().then_some(hint)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn segment_of(inside: impl Fn(u32, u32) -> bool) -> Segment {
        segment(&Bitmap::from_fn(100, 40, inside), 0.9, 0.8).unwrap().unwrap()
    }

    #[test]
    fn one_thing_stays_one_segment_and_all_things_are_told_apart() {
        let frame = RgbImage::new(100, 40);
        // Ten squares of 4, 5, … pixels a side at most.
        let inside = |x: u32, y: u32| x % 10 < 8 && y < 4 + x / 10;
        let mut masks = vec![segment_of(inside)];
        let drawn = Bitmap::from_fn(100, 40, inside);
        let found = pieces(&mut masks, false, &frame, None).unwrap();
        assert_eq!(pieces(&mut masks, false, &frame, Some(&drawn)).unwrap(), found, "decoded or at hand");
        assert_eq!((masks.len(), found.len()), (1, 1));
        assert_eq!(found[0].bounding_box, [0.0, 0.0, 98.0, 13.0]);
        assert_ne!(found[0].shape, Shape::default(), "gaps are no part of it");
        let area = masks[0].area_pixels;
        let found = pieces(&mut masks, true, &frame, None).unwrap();
        assert_eq!((masks.len(), found.len()), (MOST_PIECES + 1, MOST_PIECES), "the two smallest are one");
        assert_eq!(masks.iter().map(|mask| mask.area_pixels).sum::<u64>(), area, "no pixel is lost");
        assert_eq!(found[0].bounding_box, [90.0, 0.0, 8.0, 13.0], "the largest first");
        assert!(found.iter().all(|piece| piece.shape == Shape::default()), "each fills its box");
    }

    #[test]
    fn a_place_is_the_box_around_everything() {
        let masks = [segment_of(|x, y| x < 10 && y < 4), segment_of(|x, y| (40..50).contains(&x) && y == 19)];
        let hint = place(&masks, &RgbImage::new(100, 40)).unwrap();
        assert_eq!(hint, Hint::Box { x0: 0.0, y0: 0.0, x1: 0.5, y1: 0.5 });
        assert_eq!(place(&[], &RgbImage::new(100, 40)), None);
    }
}
