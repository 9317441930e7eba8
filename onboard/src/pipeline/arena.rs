//! Memory that goes round: what an answer was made in comes back when it has been given, and the next one is made in it.

use kestrel_link::{MaskScratch, Outcome, Segment};
use kestrel_perception::{Bitmap, SpeckScratch, UpsampleScratch, WordDoubt};

use super::answer::Whole;

/// Most pieces of memory of one kind that are kept: two answers under way, and one that is being made.
const MOST: usize = 3;

/// Memory that is waiting to be used again; bounded in number, and in size by the largest frame so far.
#[derive(Default)]
pub(super) struct Arena {
    pub(super) upsample: UpsampleScratch,
    pub(super) specks: SpeckScratch,
    pub(super) encode: MaskScratch,
    bitmaps: Vec<Bitmap>,
    doubts: Vec<Vec<WordDoubt>>,
    counts: Vec<String>,
    segments: Vec<Vec<Segment>>,
}

impl Arena {
    /// An empty mask.
    pub(super) fn bitmap(&mut self, width: u32, height: u32) -> Bitmap {
        let mut bitmap = self.bitmaps.pop().unwrap_or_default();
        bitmap.reset(width, height);
        bitmap
    }

    /// Doubts to write over.
    pub(super) fn doubts(&mut self) -> Vec<WordDoubt> {
        self.doubts.pop().unwrap_or_default()
    }

    /// Run lengths to write over.
    pub(super) fn counts(&mut self) -> String {
        self.counts.pop().unwrap_or_default()
    }

    /// No segment yet.
    pub(super) fn segments(&mut self) -> Vec<Segment> {
        self.segments.pop().unwrap_or_default()
    }

    /// Takes back run lengths that nothing was written over.
    pub(super) fn keep_counts(&mut self, counts: String) {
        keep(&mut self.counts, counts);
    }

    /// Takes back what the model said of a frame.
    pub(super) fn take_whole(&mut self, whole: Whole) {
        let Whole { observation, mask, sweep } = whole;
        keep(&mut self.doubts, observation.doubts);
        for bitmap in sweep.into_iter().chain([mask]) {
            keep(&mut self.bitmaps, bitmap);
        }
    }

    /// Takes back an outcome that has been sent.
    pub(super) fn take_outcome(&mut self, outcome: Outcome) {
        if let Outcome::Segmented { mut masks } = outcome {
            for segment in masks.drain(..) {
                keep(&mut self.counts, segment.mask.counts);
            }
            keep(&mut self.segments, masks);
        }
    }
}

/// Keeps a piece of memory if there is room.
fn keep<T>(kept: &mut Vec<T>, one: T) {
    if kept.len() < MOST {
        kept.push(one);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// What would break: the memory of a drone that answers for an hour, and masks with pixels of the one before.
    #[test]
    fn what_is_kept_is_bounded_and_clean() {
        let mut arena = Arena::default();
        for _ in 0..20 {
            let mut masks = Vec::new();
            let set = Bitmap::from_fn(40, 30, |x, _| x % 2 == 0);
            masks.push(kestrel_perception::segment(&set, 0.5, 0.5).unwrap().unwrap());
            arena.take_outcome(Outcome::Segmented { masks });
            keep(&mut arena.bitmaps, set);
        }
        assert_eq!((arena.counts.len(), arena.segments.len(), arena.bitmaps.len()), (MOST, MOST, MOST));
        assert!(arena.segments().is_empty());
        let bitmap = arena.bitmap(50, 10);
        assert_eq!((bitmap.width(), bitmap.height(), bitmap.area()), (50, 10, 0));
    }
}
