//! Whether things keep their names over time: the CLEAR MOT measures.
//!
//! Bernardin and Stiefelhagen, Evaluating multiple object tracking performance: the CLEAR MOT metrics, EURASIP Journal on
//! Image and Video Processing 2008; fragmentation as in Milan et al., MOT16, arXiv 1603.00831.

use std::collections::BTreeMap;

use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;
use serde::Serialize;

/// An IoU of 1 as an integer, for a matching that is exact.
const ONE: f64 = (1 << 30) as f64;

/// One frame: the things that are there, those that are shown, and how they overlap.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tracked {
    /// Ids of the things that are there.
    pub truth: Vec<u64>,
    /// Ids of the things that are shown.
    pub shown: Vec<u64>,
    /// IoU of each true thing with each shown one, 0..=1: `overlap[truth][shown]`.
    pub overlap: Vec<Vec<f64>>,
}

/// Counts over all frames, and what follows from them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Tracking {
    /// True things, summed over frames.
    pub truths: u64,
    /// Those that are shown.
    pub matches: u64,
    /// Those that are not.
    pub misses: u64,
    /// Shown things that are none.
    pub false_positives: u64,
    /// How often a true thing is shown under another id than when it was shown last (IDSW).
    pub switches: u64,
    /// How often a true thing that was shown is shown again after it was missed while it was there (FM).
    pub fragments: u64,
    /// Mean IoU of the matches (MOTP with the IoU as the measure); 0 without matches.
    pub motp: f64,
    /// `1 − (misses + false positives + switches) / truths`; 0 where nothing is there.
    pub mota: f64,
}

/// What is known of a true thing from the frames before.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The id under which it was shown last.
    shown: u64,
    /// Whether it was there and missed since.
    missed: bool,
}

/// Counts over the frames of one film; a pair matches from an IoU of `least_iou` on.
///
/// As in CLEAR MOT, who matched in the last frame is matched again as long as that holds, and the others so that the sum of
/// IoUs is greatest.
#[must_use]
pub fn tracking(frames: &[Tracked], least_iou: f64) -> Tracking {
    let mut counts = Tracking::default();
    let mut known: BTreeMap<u64, Known> = BTreeMap::new();
    let mut sum = 0.0;
    for frame in frames {
        let pairs = matched(frame, &known, least_iou);
        counts.truths += frame.truth.len() as u64;
        counts.matches += pairs.len() as u64;
        counts.misses += (frame.truth.len() - pairs.len()) as u64;
        counts.false_positives += (frame.shown.len() - pairs.len()) as u64;
        for &(truth, shown) in &pairs {
            sum += overlap(frame, truth, shown);
            let now = Known { shown: frame.shown[shown], missed: false };
            if let Some(before) = known.insert(frame.truth[truth], now) {
                counts.switches += u64::from(before.shown != now.shown);
                counts.fragments += u64::from(before.missed);
            }
        }
        for (at, id) in frame.truth.iter().enumerate() {
            let is_shown = pairs.iter().any(|(truth, _)| *truth == at);
            if let Some(known) = known.get_mut(id).filter(|_| !is_shown) {
                known.missed = true;
            }
        }
    }
    counts.motp = if counts.matches == 0 { 0.0 } else { sum / counts.matches as f64 };
    let wrong = counts.misses + counts.false_positives + counts.switches;
    counts.mota = if counts.truths == 0 { 0.0 } else { 1.0 - wrong as f64 / counts.truths as f64 };
    counts
}

impl Tracking {
    /// Both films together.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let matches = self.matches + other.matches;
        let share = |of: &Self| of.motp * of.matches as f64;
        let mut both = Self {
            truths: self.truths + other.truths,
            matches,
            misses: self.misses + other.misses,
            false_positives: self.false_positives + other.false_positives,
            switches: self.switches + other.switches,
            fragments: self.fragments + other.fragments,
            motp: if matches == 0 { 0.0 } else { (share(self) + share(other)) / matches as f64 },
            mota: 0.0,
        };
        let wrong = both.misses + both.false_positives + both.switches;
        both.mota = if both.truths == 0 { 0.0 } else { 1.0 - wrong as f64 / both.truths as f64 };
        both
    }
}

fn overlap(frame: &Tracked, truth: usize, shown: usize) -> f64 {
    let found = frame.overlap.get(truth).and_then(|row| row.get(shown)).copied();
    found.filter(|iou| iou.is_finite()).unwrap_or(0.0).clamp(0.0, 1.0)
}

/// Pairs of indices of true and shown things.
fn matched(frame: &Tracked, known: &BTreeMap<u64, Known>, least_iou: f64) -> Vec<(usize, usize)> {
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (truth, id) in frame.truth.iter().enumerate() {
        let last = known.get(id).filter(|known| !known.missed).map(|known| known.shown);
        let shown = last.and_then(|last| frame.shown.iter().position(|shown| *shown == last));
        if let Some(shown) = shown
            && overlap(frame, truth, shown) >= least_iou
            && !pairs.iter().any(|(_, taken)| *taken == shown)
        {
            pairs.push((truth, shown));
        }
    }
    let truths: Vec<usize> = (0..frame.truth.len()).filter(|at| !pairs.iter().any(|(truth, _)| truth == at)).collect();
    let others: Vec<usize> = (0..frame.shown.len()).filter(|at| !pairs.iter().any(|(_, shown)| shown == at)).collect();
    if truths.is_empty() || others.is_empty() {
        return pairs;
    }
    let weight = |truth: usize, shown: usize| match overlap(frame, truth, shown) {
        iou if iou >= least_iou => (iou * ONE).round() as i64 + 1,
        _ => 0,
    };
    // The solver wants no more rows than columns.
    let is_wide = truths.len() <= others.len();
    let (rows, columns) = if is_wide { (&truths, &others) } else { (&others, &truths) };
    let ordered = |row: usize, column: usize| match is_wide {
        true => (rows[row], columns[column]),
        false => (columns[column], rows[row]),
    };
    let weights = Matrix::from_fn(rows.len(), columns.len(), |(row, column)| {
        let (truth, shown) = ordered(row, column);
        weight(truth, shown)
    });
    let (_, chosen) = kuhn_munkres(&weights);
    let found = chosen.into_iter().enumerate().map(|(row, column)| ordered(row, column));
    pairs.extend(found.filter(|&(truth, shown)| weight(truth, shown) > 0));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Things that are shown where they are: pairs of a true and a shown id.
    fn frame(pairs: &[(u64, u64)]) -> Tracked {
        let row = |at: usize| (0..pairs.len()).map(|other| f64::from(u8::from(at == other))).collect::<Vec<f64>>();
        Tracked {
            truth: pairs.iter().map(|pair| pair.0).collect(),
            shown: pairs.iter().map(|pair| pair.1).collect(),
            overlap: (0..pairs.len()).map(row).collect(),
        }
    }

    #[test]
    fn a_perfect_film_has_no_faults() {
        let found = tracking(&[frame(&[(1, 10), (2, 20)]), frame(&[(2, 20), (1, 10)])], 0.5);
        let wanted = Tracking { truths: 4, matches: 4, motp: 1.0, mota: 1.0, ..Tracking::default() };
        assert_eq!(found, wanted);
        assert_eq!(tracking(&[], 0.5), Tracking::default());
    }

    #[test]
    fn exchanged_names_are_two_switches() {
        let found = tracking(&[frame(&[(1, 10), (2, 20)]), frame(&[(1, 20), (2, 10)])], 0.5);
        assert_eq!((found.switches, found.fragments, found.misses), (2, 0, 0));
        assert_eq!(found.mota, 0.5);
    }

    #[test]
    fn a_gap_is_a_fragment_and_another_name_behind_it_a_switch_too() {
        let gap = Tracked { truth: vec![1], shown: vec![], overlap: vec![vec![]] };
        let away = Tracked::default();
        let same = tracking(&[frame(&[(1, 10)]), gap.clone(), frame(&[(1, 10)])], 0.5);
        assert_eq!((same.misses, same.fragments, same.switches), (1, 1, 0));
        let other = tracking(&[frame(&[(1, 10)]), gap, frame(&[(1, 11)])], 0.5);
        assert_eq!((other.fragments, other.switches), (1, 1));
        let left = tracking(&[frame(&[(1, 10)]), away, frame(&[(1, 10)])], 0.5);
        assert_eq!((left.misses, left.fragments), (0, 0), "who is not there is not missed");
    }

    #[test]
    fn who_matched_before_is_preferred_to_who_fits_better() {
        let both = |first: f64, second: f64| Tracked {
            truth: vec![1],
            shown: vec![10, 11],
            overlap: vec![vec![first, second]],
        };
        let found = tracking(&[both(0.9, 0.2), both(0.6, 0.8)], 0.5);
        assert_eq!((found.switches, found.false_positives), (0, 2));
        let found = tracking(&[both(0.9, 0.2), both(0.4, 0.8)], 0.5);
        assert_eq!(found.switches, 1, "unless it does not match any more");
    }

    #[test]
    fn more_shown_than_true_and_the_other_way_round_are_matched_best() {
        let crowded = Tracked { truth: vec![1], shown: vec![7, 8], overlap: vec![vec![0.6, 0.9]] };
        let found = tracking(&[crowded], 0.5);
        assert_eq!((found.matches, found.false_positives, found.motp > 0.89), (1, 1, true));
        let poor = Tracked { truth: vec![1, 2], shown: vec![7], overlap: vec![vec![0.6], vec![0.9]] };
        let found = tracking(&[poor], 0.5);
        assert_eq!((found.matches, found.misses, found.motp > 0.89), (1, 1, true));
    }

    proptest! {
        #[test]
        fn every_thing_is_counted_once(
            frames in prop::collection::vec((0_u64..4, 0_u64..4, prop::collection::vec(0.0_f64..1.0, 9)), 0..12),
        ) {
            let frames: Vec<Tracked> = frames
                .into_iter()
                .map(|(truth, shown, overlap)| Tracked {
                    truth: (0..truth).collect(),
                    shown: (0..shown).collect(),
                    overlap: overlap.chunks(3).map(<[f64]>::to_vec).collect(),
                })
                .collect();
            let found = tracking(&frames, 0.5);
            prop_assert_eq!(found.matches + found.misses, found.truths);
            let shown: usize = frames.iter().map(|frame| frame.shown.len()).sum();
            prop_assert_eq!(found.matches + found.false_positives, shown as u64);
            prop_assert!(found.switches <= found.matches && found.fragments <= found.matches);
            prop_assert!(found.mota <= 1.0 && (0.0..=1.0).contains(&found.motp));
            let twice = found.with(&found);
            prop_assert_eq!(twice.switches, 2 * found.switches);
            prop_assert!((twice.mota - found.mota).abs() < 1e-12 && (twice.motp - found.motp).abs() < 1e-12);
        }
    }
}
