//! How well predicted boxes are those that are there.

use kestrel_perception::proposals;
use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;

use super::Unscorable;

/// Left, top, right and bottom of a box, in fractions of the picture.
pub type Edges = [f32; 4];

/// An IoU of 1 as an integer, for a matching that is exact.
const ONE: f64 = (1 << 30) as f64;
/// Room for the second criterion below the first: more than all pairs of a matching can sum to.
const FIRST: i128 = 1 << 62;

/// Intersection over union of two boxes, in 0..=1; a box without area overlaps nothing.
///
/// # Errors
/// When an edge of `predicted` or `truth` is not finite.
pub fn iou(predicted: &Edges, truth: &Edges) -> Result<f64, Unscorable> {
    finite(predicted, "answer")?;
    finite(truth, "truth")?;
    Ok(overlap(predicted, truth))
}

/// Refuses a box that is not a place.
pub(super) fn finite(edges: &Edges, side: &'static str) -> Result<(), Unscorable> {
    if edges.iter().all(|edge| edge.is_finite()) { Ok(()) } else { Err(Unscorable::NotFinite { side }) }
}

fn overlap(a: &Edges, b: &Edges) -> f64 {
    // Areas beyond f32 divide to NaN; rounding may lead beyond 1.
    let iou = f64::from(proposals::iou(a, b));
    if iou.is_nan() { 0.0 } else { iou.clamp(0.0, 1.0) }
}

/// The detection reward of GeoVLM-R1 (arXiv 2509.25026): boxes matched one to one at the least sum of 1 − IoU, then
/// `Σ_{IoU≥threshold} IoU / max(|P|, |G|)`, in 0..=1; nothing predicted where nothing is scores 1.
///
/// Of matchings with the same sum the one with most IoU over the threshold counts; the order of the boxes does not.
/// Derived: a box that the answer repeats more often than the truth holds it is matched once and still counts in |P|.
/// Otherwise one box said twice would be paid twice where two things overlap.
///
/// # Errors
/// When an edge is not finite.
pub fn detection(predicted: &[Edges], truth: &[Edges], threshold: f64) -> Result<f64, Unscorable> {
    predicted.iter().try_for_each(|edges| finite(edges, "answer"))?;
    truth.iter().try_for_each(|edges| finite(edges, "truth"))?;
    let most = predicted.len().max(truth.len());
    if most == 0 {
        return Ok(1.0);
    }
    let claims = claims(predicted, truth);
    let total: f64 = matched(&claims, truth, threshold).into_iter().filter(|iou| *iou >= threshold).sum();
    Ok((total / most as f64).min(1.0))
}

/// Whether an answer's boxes are the right ones: as many as there are, matched one to one as by [`detection`], each with an
/// IoU of at least `threshold`. Of one box this is what Acc@threshold counts.
///
/// # Errors
/// When an edge is not finite.
pub fn right(predicted: &[Edges], truth: &[Edges], threshold: f64) -> Result<bool, Unscorable> {
    predicted.iter().try_for_each(|edges| finite(edges, "answer"))?;
    truth.iter().try_for_each(|edges| finite(edges, "truth"))?;
    let found = || matched(predicted, truth, threshold).into_iter().filter(|iou| *iou >= threshold).count();
    Ok(predicted.len() == truth.len() && found() == truth.len())
}

/// The predicted boxes, each as often as the truth holds it but at least once.
fn claims(predicted: &[Edges], truth: &[Edges]) -> Vec<Edges> {
    let mut claims: Vec<Edges> = Vec::with_capacity(predicted.len());
    for edges in predicted {
        let said = claims.iter().filter(|claim| *claim == edges).count();
        if said < truth.iter().filter(|thing| *thing == edges).count().max(1) {
            claims.push(*edges);
        }
    }
    claims
}

/// IoU of the pairs of the best one-to-one matching.
fn matched(a: &[Edges], b: &[Edges], threshold: f64) -> Vec<f64> {
    let (few, many) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    // A box that overlaps nothing adds 0 wherever it is matched.
    let few: Vec<&Edges> = few.iter().filter(|one| many.iter().any(|other| overlap(one, other) > 0.0)).collect();
    if few.is_empty() {
        return Vec::new();
    }
    let overlaps = Matrix::from_fn(few.len(), many.len(), |(row, column)| overlap(few[row], &many[column]));
    let weights = Matrix::from_fn(few.len(), many.len(), |at| weight(overlaps[at], threshold));
    let (_, columns) = kuhn_munkres(&weights);
    columns.into_iter().enumerate().map(|at| overlaps[at]).collect()
}

/// What a pair adds to its matching: first its IoU, then its IoU over the threshold.
fn weight(iou: f64, threshold: f64) -> i128 {
    let first = (iou * ONE).round() as i128;
    first * FIRST + if iou >= threshold { first } else { 0 }
}

/// A guard against answers that say more than there is: `min(1, n_truth / n_predicted)`; 1 where nothing is said.
pub fn surplus(predicted: usize, truth: usize) -> f64 {
    if predicted <= truth { 1.0 } else { truth as f64 / predicted as f64 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    const LEFT: Edges = [0.0, 0.0, 0.5, 1.0];
    const RIGHT: Edges = [0.5, 0.0, 1.0, 1.0];
    const WHOLE: Edges = [0.0, 0.0, 1.0, 1.0];

    fn score(predicted: &[Edges], truth: &[Edges]) -> f64 {
        detection(predicted, truth, 0.5).unwrap()
    }

    #[test]
    fn boxes_overlap_by_their_areas() {
        assert_eq!(iou(&LEFT, &WHOLE).unwrap(), 0.5);
        assert_eq!(iou(&LEFT, &RIGHT).unwrap(), 0.0);
        assert_eq!(iou(&WHOLE, &WHOLE).unwrap(), 1.0);
        // Inverted and without area.
        assert_eq!(iou(&[1.0, 1.0, 0.0, 0.0], &WHOLE).unwrap(), 0.0);
        assert_eq!(iou(&[0.3; 4], &[0.3; 4]).unwrap(), 0.0);
    }

    #[test]
    fn what_is_missing_and_what_is_too_much_cost_alike() {
        assert_eq!(score(&[], &[]), 1.0);
        assert_eq!((score(&[WHOLE], &[]), score(&[], &[WHOLE])), (0.0, 0.0));
        assert_eq!((score(&[LEFT], &[LEFT, RIGHT]), score(&[LEFT, RIGHT], &[LEFT])), (0.5, 0.5));
        assert_eq!(score(&[RIGHT, LEFT], &[LEFT, RIGHT]), 1.0);
    }

    #[test]
    fn what_lies_under_the_threshold_is_matched_and_not_paid() {
        let wide = [0.0, 0.0, 0.6, 1.0];
        let expected = 0.3 / 0.8;
        assert_eq!(score(&[[0.2, 0.0, 0.5, 1.0]], &[[0.0, 0.0, 0.8, 1.0]]), 0.0);
        let low = detection(&[[0.2, 0.0, 0.5, 1.0]], &[[0.0, 0.0, 0.8, 1.0]], 0.25).unwrap();
        assert!((low - expected).abs() < 1e-6, "{low}");
        // At the threshold counts.
        assert_eq!(score(&[LEFT], &[WHOLE]), 0.5);
        assert!((score(&[wide], &[LEFT]) - 5.0 / 6.0).abs() < 1e-6);
    }

    #[test]
    fn the_whole_is_matched_and_not_each_box_for_itself() {
        // Each prefers the first thing; only the matching gives both of them one.
        let (first, second) = ([0.0, 0.0, 0.5, 1.0], [0.1, 0.0, 0.6, 1.0]);
        let (near, exact) = ([0.05, 0.0, 0.55, 1.0], [0.0, 0.0, 0.5, 1.0]);
        let total = 1.0 + iou(&near, &second).unwrap();
        assert!((score(&[near, exact], &[first, second]) - total / 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_repeat_is_paid_only_for_a_thing_that_is_there_twice() {
        // Two things overlap by more than the threshold, so one box fits both.
        let things = [[0.0, 0.0, 0.5, 1.0], [0.1, 0.0, 0.6, 1.0]];
        let claim = [0.05, 0.0, 0.55, 1.0];
        assert_eq!(score(&[claim, claim], &things), score(&[claim], &things));
        assert_eq!(score(&[LEFT, LEFT], &[LEFT, LEFT]), 1.0);
        assert_eq!(score(&[LEFT, LEFT], &[LEFT]), 0.5);
    }

    #[test]
    fn right_are_all_boxes_and_no_more() {
        let near = [0.05, 0.0, 0.55, 1.0];
        let right = |predicted: &[Edges], truth: &[Edges]| right(predicted, truth, 0.5).unwrap();
        assert!(right(&[near], &[LEFT]) && right(&[RIGHT, near], &[LEFT, RIGHT]) && right(&[], &[]));
        assert!(!right(&[RIGHT], &[LEFT]) && !right(&[LEFT], &[LEFT, RIGHT]) && !right(&[LEFT, RIGHT], &[LEFT]));
        assert!(!right(&[], &[LEFT]) && !right(&[LEFT, LEFT], &[LEFT, RIGHT]));
    }

    #[test]
    fn what_is_no_place_is_not_scored() {
        for edge in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let broken = [0.0, edge, 1.0, 1.0];
            assert_eq!(detection(&[WHOLE, broken], &[WHOLE], 0.5), Err(Unscorable::NotFinite { side: "answer" }));
            assert_eq!(detection(&[], &[broken], 0.5), Err(Unscorable::NotFinite { side: "truth" }));
            assert_eq!(iou(&broken, &WHOLE), Err(Unscorable::NotFinite { side: "answer" }));
        }
        let huge = [f32::MIN, f32::MIN, f32::MAX, f32::MAX];
        assert!((0.0..=1.0).contains(&detection(&[huge, WHOLE], &[huge, WHOLE], 0.5).unwrap()));
    }

    #[test]
    fn a_flood_of_boxes_is_scored() {
        let flood: Vec<Edges> = (0..2000).map(|i| [i as f32 / 4000.0, 0.0, 1.0, 1.0]).collect();
        let value = score(&flood, &[WHOLE, LEFT, RIGHT]);
        assert!(value > 0.0 && value < 0.01, "{value}");
    }

    #[test]
    fn saying_more_than_there_is_divides() {
        assert_eq!(
            [surplus(0, 0), surplus(0, 3), surplus(3, 3), surplus(4, 1), surplus(2, 0)],
            [1.0, 1.0, 1.0, 0.25, 0.0]
        );
    }

    fn edges() -> impl Strategy<Value = Edges> {
        // A coarse grid, so that boxes meet and repeat.
        (0u8..6, 0u8..6, 1u8..4, 1u8..4).prop_map(|(x, y, w, h)| [x, y, x + w, y + h].map(|edge| f32::from(edge) / 9.0))
    }

    fn any_edges() -> impl Strategy<Value = Edges> {
        proptest::array::uniform4(proptest::num::f32::ANY)
    }

    fn several() -> impl Strategy<Value = Vec<Edges>> {
        proptest::collection::vec(edges(), 0..6)
    }

    /// The greatest weight of all matchings, by trying each.
    fn tried(left: &[Edges], right: &[Edges], threshold: f64) -> i128 {
        let Some((first, rest)) = left.split_first() else { return 0 };
        let paired = (0..right.len()).map(|i| {
            let mut others = right.to_vec();
            let pair = weight(overlap(first, &others.swap_remove(i)), threshold);
            pair + tried(rest, &others, threshold)
        });
        paired.max().unwrap_or(0).max(tried(rest, right, threshold))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn iou_is_bounded_and_symmetric(a in edges(), b in edges()) {
            let value = iou(&a, &b).unwrap();
            prop_assert!((0.0..=1.0).contains(&value));
            prop_assert_eq!(value, iou(&b, &a).unwrap());
            prop_assert_eq!(iou(&a, &a).unwrap(), 1.0);
        }

        #[test]
        fn any_edges_are_scored_in_bounds_or_refused(a in any_edges(), b in any_edges()) {
            match detection(&[a, b], &[b], 0.5) {
                Ok(value) => prop_assert!((0.0..=1.0).contains(&value)),
                Err(error) => prop_assert!(a.iter().chain(&b).any(|edge| !edge.is_finite()), "{}", error),
            }
        }

        #[test]
        fn the_truth_scores_one_and_order_does_not_matter(mut a in several(), b in several(), turn in 0usize..6) {
            prop_assert!((score(&b, &b) - 1.0).abs() < 1e-9);
            let value = score(&a, &b);
            prop_assert!((0.0..=1.0).contains(&value));
            let by = turn.min(a.len());
            a.rotate_left(by);
            prop_assert!((score(&a, &b) - value).abs() < 1e-6);
        }

        #[test]
        fn a_repeat_never_raises(mut a in several(), b in several(), which in 0usize..6) {
            prop_assume!(which < a.len() && !b.contains(&a[which]));
            // A low threshold lets one box fit several things.
            let before = detection(&a, &b, 0.25).unwrap();
            a.push(a[which]);
            prop_assert!(detection(&a, &b, 0.25).unwrap() <= before + 1e-9);
        }

        #[test]
        fn both_sides_count_alike_where_nothing_repeats(mut a in several(), mut b in several()) {
            for boxes in [&mut a, &mut b] {
                boxes.sort_by(|x, y| x.partial_cmp(y).unwrap());
                boxes.dedup();
            }
            prop_assert!((score(&a, &b) - score(&b, &a)).abs() < 1e-6);
        }

        #[test]
        fn the_matching_is_the_best(a in several(), b in several(), low in any::<bool>()) {
            let threshold = if low { 0.25 } else { 0.5 };
            let over = tried(&claims(&a, &b), &b, threshold) % FIRST;
            let expected = over as f64 / ONE / a.len().max(b.len()).max(1) as f64;
            let expected = if a.is_empty() && b.is_empty() { 1.0 } else { expected };
            prop_assert!((detection(&a, &b, threshold).unwrap() - expected).abs() < 1e-6);
        }
    }
}
