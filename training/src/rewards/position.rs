//! Where a box is, rewarded also where it does not yet overlap; and how far a group of rollouts agrees on where.
//!
//! RSGround-R1 (arXiv 2601.21634) has a continuous reward of distance, and scales its updates by the coherence of the
//! rollouts' places. Its equations are not public: every formula and number here is derived, none is the paper's.

use serde::{Deserialize, Serialize};

use super::Unscorable;
use super::boxes::{Edges, finite};

/// Share of the diagonal at which the reward has fallen to 1/e.
const REACH: f64 = 0.10;
/// Least reach of the size-aware reward, as a share of the diagonal.
const LEAST_REACH: f64 = 0.05;
/// Overlap from which a rollout is right, wherever the others are.
const RIGHT: f64 = 0.5;

/// A picture's width and height in pixels: without them a distance in fractions has no direction-free length.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "[u32; 2]")]
pub struct Extent {
    width: f64,
    height: f64,
}

impl TryFrom<[u32; 2]> for Extent {
    type Error = Unscorable;

    fn try_from([width, height]: [u32; 2]) -> Result<Self, Unscorable> {
        if width == 0 || height == 0 {
            return Err(Unscorable::NoPicture { width, height });
        }
        Ok(Self { width: f64::from(width), height: f64::from(height) })
    }
}

impl Extent {
    /// Any picture as wide as it is high: distances are shares of its side.
    pub const SQUARE: Self = Self { width: 1.0, height: 1.0 };

    fn centre(&self, [left, top, right, bottom]: &Edges) -> [f64; 2] {
        let middle = |a: &f32, b: &f32| (f64::from(*a) + f64::from(*b)) / 2.0;
        [middle(left, right) * self.width, middle(top, bottom) * self.height]
    }

    fn diagonal(&self) -> f64 {
        self.width.hypot(self.height)
    }
}

/// How fast the reward of distance falls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// `0.10·D`, D the picture's diagonal.
    #[default]
    Diagonal,
    /// `max(0.05·D, 2·sqrt(w*·h*))`: a large thing may be missed by more.
    SizeAware,
}

/// `R_pos = exp(−‖c − c*‖ / reach)` of the centres in pixels, in 0..=1 (derived). No box scores 0.
///
/// # Errors
/// When an edge is not finite.
pub fn positional(predicted: Option<&Edges>, truth: &Edges, extent: Extent, reach: Reach) -> Result<f64, Unscorable> {
    finite(truth, "truth")?;
    let Some(predicted) = predicted else { return Ok(0.0) };
    finite(predicted, "answer")?;
    let reach = match reach {
        Reach::Diagonal => REACH * extent.diagonal(),
        Reach::SizeAware => {
            let [left, top, right, bottom] = truth.map(f64::from);
            let (width, height) = ((right - left).max(0.0) * extent.width, (bottom - top).max(0.0) * extent.height);
            (LEAST_REACH * extent.diagonal()).max(2.0 * (width * height).sqrt())
        }
    };
    Ok((-distance(extent.centre(predicted), extent.centre(truth)) / reach).exp())
}

/// Where a mask is: the centre of its cells over a threshold, as a box without extent in fractions of a square grid of
/// rows; none where no cell is over it.
pub fn centre_of_mass(cells: &[f32], threshold: f32) -> Option<Edges> {
    let side = cells.len().isqrt().max(1);
    let (mut x, mut y, mut n) = (0.0, 0.0, 0.0);
    for (cell, _) in cells.iter().enumerate().filter(|(_, value)| **value > threshold) {
        x += (cell % side) as f64 + 0.5;
        y += (cell / side) as f64 + 0.5;
        n += 1.0;
    }
    let [x, y] = [x, y].map(|sum: f64| (sum / n / side as f64) as f32);
    (n > 0.0).then_some([x, y, x, y])
}

fn distance([ax, ay]: [f64; 2], [bx, by]: [f64; 2]) -> f64 {
    (ax - bx).hypot(ay - by)
}

/// Weights of a grounding rollout's rewards (derived).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// Of the format.
    pub format: f64,
    /// Of the box's IoU.
    pub iou: f64,
    /// Of the position when training begins.
    pub position: f64,
    /// Of the position when it ends: by then a near miss must not be worth staying at.
    pub position_end: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { format: 0.5, iou: 1.0, position: 0.5, position_end: 0.1 }
    }
}

impl Weights {
    /// The rewards' weighted sum when a share `progress` of training is done; the position's weight moves on a line.
    pub fn total(&self, format: f64, iou: f64, position: f64, progress: f64) -> f64 {
        let done = if progress.is_nan() { 0.0 } else { progress.clamp(0.0, 1.0) };
        let weight = self.position + (self.position_end - self.position) * done;
        self.format * format + self.iou * iou + weight * position
    }
}

/// One answer of a group to the same question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rollout {
    /// Its box, if it gave one.
    pub edges: Option<Edges>,
    /// The box's overlap with the truth.
    pub iou: f64,
    /// Its advantage within the group.
    pub advantage: f64,
}

/// `s = sqrt(mean_g ‖c_g − c̄‖²)/D` over the boxes with finite edges; none where fewer than two have (derived).
pub fn incoherence(boxes: &[Option<Edges>], extent: Extent) -> Option<f64> {
    let centres = centres(boxes.iter().copied(), extent);
    if centres.len() < 2 {
        return None;
    }
    let n = centres.len() as f64;
    let mean = [0, 1].map(|axis| centres.iter().map(|centre| centre[axis]).sum::<f64>() / n);
    let spread = centres.iter().map(|centre| distance(*centre, mean).powi(2)).sum::<f64>() / n;
    Some(spread.sqrt() / extent.diagonal())
}

fn centres(boxes: impl Iterator<Item = Option<Edges>>, extent: Extent) -> Vec<[f64; 2]> {
    let valid = boxes.flatten().filter(|edges| finite(edges, "answer").is_ok());
    valid.map(|edges| extent.centre(&edges)).collect()
}

/// What is scaled by coherence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaled {
    /// Every advantage of the group, by how far its boxes agree.
    #[default]
    Group,
    /// Positive advantages, each by its box's distance to the median centre; never where its IoU is 0.5 or more.
    Rollout,
}

/// Scaling of updates by the coherence of a group's places (derived).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Coherence {
    /// What is scaled.
    pub scaled: Scaled,
    /// ω_min, the least weight, 0..=1.
    pub least: f64,
    /// Incoherence, as a share of the diagonal, at which the weight has fallen to 1/e of its way; over 0.
    pub tolerance: f64,
}

impl Default for Coherence {
    fn default() -> Self {
        Self { scaled: Scaled::Group, least: 0.5, tolerance: 0.05 }
    }
}

impl Coherence {
    /// `ω = ω_min + (1 − ω_min)·exp(−s/tolerance)`, in ω_min..=1.
    pub fn weight(&self, incoherence: f64) -> f64 {
        self.least + (1.0 - self.least) * (-incoherence / self.tolerance).exp()
    }

    /// ω of each rollout of a group. Fewer than two boxes say nothing about coherence: 1.
    pub fn weights(&self, rollouts: &[Rollout], extent: Extent) -> Vec<f64> {
        match self.scaled {
            Scaled::Group => {
                let boxes: Vec<_> = rollouts.iter().map(|rollout| rollout.edges).collect();
                let weight = incoherence(&boxes, extent).map_or(1.0, |s| self.weight(s));
                vec![weight; rollouts.len()]
            }
            Scaled::Rollout => self.weights_by_distance(rollouts, extent),
        }
    }

    fn weights_by_distance(&self, rollouts: &[Rollout], extent: Extent) -> Vec<f64> {
        let centres = centres(rollouts.iter().map(|rollout| rollout.edges), extent);
        let middle = [0, 1].map(|axis| median(centres.iter().map(|centre| centre[axis]).collect()));
        let weight = |rollout: &Rollout| {
            let edges = rollout.edges.filter(|edges| finite(edges, "answer").is_ok());
            match edges {
                Some(edges) if rollout.advantage > 0.0 && rollout.iou < RIGHT => {
                    self.weight(distance(extent.centre(&edges), middle) / extent.diagonal())
                }
                _ => 1.0,
            }
        };
        rollouts.iter().map(weight).collect()
    }

    /// The advantages `A' = ω·A`, and the mean of ω for the log.
    pub fn scale(&self, rollouts: &[Rollout], extent: Extent) -> (Vec<f64>, f64) {
        let weights = self.weights(rollouts, extent);
        let mean = weights.iter().sum::<f64>() / weights.len().max(1) as f64;
        let advantages = rollouts.iter().zip(&weights).map(|(rollout, weight)| weight * rollout.advantage);
        (advantages.collect(), mean)
    }
}

/// Median; the mean of the middle two of an even number, 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[half],
        _ => (values[half - 1] + values[half]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    const SQUARE: [u32; 2] = [100, 100];

    fn extent(size: [u32; 2]) -> Extent {
        Extent::try_from(size).unwrap()
    }

    /// A box of a tenth of the picture around a centre.
    fn at(x: f32, y: f32) -> Edges {
        [x - 0.05, y - 0.05, x + 0.05, y + 0.05]
    }

    fn score(predicted: Edges, truth: Edges, size: [u32; 2], reach: Reach) -> f64 {
        positional(Some(&predicted), &truth, extent(size), reach).unwrap()
    }

    fn rollout(edges: Option<Edges>, iou: f64, advantage: f64) -> Rollout {
        Rollout { edges, iou, advantage }
    }

    #[test]
    fn reward_falls_with_the_distance_in_pixels() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-5, "{a} is not {b}");
        near(score(at(0.5, 0.5), at(0.5, 0.5), SQUARE, Reach::Diagonal), 1.0);
        // 0.1 of the width is 10 px; the reach is a tenth of 141.4 px.
        near(score(at(0.6, 0.5), at(0.5, 0.5), SQUARE, Reach::Diagonal), (-10.0_f64 / 14.14214).exp());
        // In a picture of 300 × 400 px the same tenth is 30 px to the side and 40 px down, of a diagonal of 500 px.
        near(score(at(0.6, 0.5), at(0.5, 0.5), [300, 400], Reach::Diagonal), (-30.0_f64 / 50.0).exp());
        near(score(at(0.5, 0.6), at(0.5, 0.5), [300, 400], Reach::Diagonal), (-40.0_f64 / 50.0).exp());
        assert_eq!(positional(None, &at(0.5, 0.5), extent(SQUARE), Reach::Diagonal), Ok(0.0));
    }

    #[test]
    fn a_large_thing_may_be_missed_by_more() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-5, "{a} is not {b}");
        // 40 × 40 px reach 80 px, 10 × 10 px reach 20 px, and a dot reaches 0.05 of the diagonal.
        near(score(at(0.6, 0.5), [0.3, 0.3, 0.7, 0.7], SQUARE, Reach::SizeAware), (-10.0_f64 / 80.0).exp());
        near(score(at(0.6, 0.5), at(0.5, 0.5), SQUARE, Reach::SizeAware), (-10.0_f64 / 20.0).exp());
        near(score(at(0.6, 0.5), [0.5; 4], SQUARE, Reach::SizeAware), (-10.0_f64 / 7.07107).exp());
    }

    #[test]
    fn position_counts_less_as_training_goes_on() {
        let weights = Weights::default();
        let near_miss = |progress| weights.total(1.0, 0.0, 1.0, progress);
        assert_eq!([0.0, 0.5, 1.0].map(near_miss), [1.0, 0.8, 0.6]);
        assert_eq!([f64::NAN, -3.0, 7.0].map(near_miss), [1.0, 1.0, 0.6]);
        assert_eq!(weights.total(1.0, 1.0, 1.0, 0.0), 2.0);
    }

    #[test]
    fn incoherence_is_the_deviation_of_the_centres() {
        let boxes = [Some(at(0.4, 0.5)), Some(at(0.6, 0.5)), None, Some([f32::NAN; 4])];
        let s = incoherence(&boxes, extent(SQUARE)).unwrap();
        assert!((s - 10.0 / 141.42136).abs() < 1e-6, "{s}");
        assert_eq!(incoherence(&boxes[1..], extent(SQUARE)), None);
        let coherence = Coherence::default();
        assert_eq!((coherence.weight(0.0), coherence.weight(f64::INFINITY)), (1.0, 0.5));
        assert!((coherence.weight(0.05) - (0.5 + 0.5 / std::f64::consts::E)).abs() < 1e-12);
    }

    #[test]
    fn a_group_that_disagrees_moves_the_policy_less() {
        let apart = [rollout(Some(at(0.1, 0.1)), 0.0, -1.0), rollout(Some(at(0.9, 0.9)), 0.8, 1.0)];
        let (advantages, mean) = Coherence::default().scale(&apart, extent(SQUARE));
        assert!(mean < 0.51 && advantages == [-mean, mean], "{advantages:?} {mean}");
        let alone = [rollout(Some(at(0.1, 0.1)), 0.0, 2.0), rollout(None, 0.0, -2.0)];
        assert_eq!(Coherence::default().scale(&alone, extent(SQUARE)), (vec![2.0, -2.0], 1.0));
        assert_eq!(Coherence::default().scale(&[], extent(SQUARE)), (vec![], 0.0));
    }

    #[test]
    fn an_outlier_that_is_right_is_never_damped() {
        let by_rollout = Coherence { scaled: Scaled::Rollout, ..Coherence::default() };
        let crowd = at(0.1, 0.1);
        let group = [
            rollout(Some(crowd), 0.1, 1.0),
            rollout(Some(crowd), 0.1, -1.0),
            rollout(Some(crowd), 0.1, 1.0),
            rollout(Some(at(0.9, 0.9)), 0.8, 1.0),
            rollout(Some(at(0.9, 0.9)), 0.2, 1.0),
            rollout(Some(at(0.9, 0.9)), 0.2, -1.0),
            rollout(None, 0.0, 1.0),
        ];
        let weights = by_rollout.weights(&group[..5], extent(SQUARE));
        assert_eq!(weights[..4], [1.0; 4]);
        assert!(weights[4] < 0.51, "{weights:?}");
        assert_eq!(by_rollout.weights(&group, extent(SQUARE))[5..], [1.0; 2]);
    }

    #[test]
    fn what_is_no_place_is_not_scored() {
        let broken = [f32::NAN, 0.0, 1.0, 1.0];
        let whole = [0.0, 0.0, 1.0, 1.0];
        let scored = |predicted, truth| positional(Some(predicted), truth, extent(SQUARE), Reach::SizeAware);
        assert_eq!(scored(&broken, &whole), Err(Unscorable::NotFinite { side: "answer" }));
        assert_eq!(scored(&whole, &broken), Err(Unscorable::NotFinite { side: "truth" }));
        assert!(scored(&[f32::MAX; 4], &[f32::MIN; 4]).unwrap() >= 0.0);
        assert_eq!(Extent::try_from([0, 4]), Err(Unscorable::NoPicture { width: 0, height: 4 }));
    }

    #[test]
    fn a_mask_is_where_its_cells_are() {
        let mut cells = vec![0.0; 16];
        assert_eq!(centre_of_mass(&cells, 0.5), None);
        assert_eq!(centre_of_mass(&[], 0.5), None);
        (cells[5], cells[6], cells[9], cells[10]) = (0.9, 0.9, 0.9, 0.9);
        assert_eq!(centre_of_mass(&cells, 0.5), Some([0.5; 4]));
        cells[15] = 0.4;
        assert_eq!(centre_of_mass(&cells, 0.5), Some([0.5; 4]));
        assert_eq!(centre_of_mass(&cells[..4], -1.0), Some([0.5; 4]));
    }

    #[test]
    fn recipes_name_what_they_want() {
        let coherence: Coherence = toml::from_str("scaled = \"rollout\"\nleast = 0.25").unwrap();
        assert_eq!(coherence, Coherence { scaled: Scaled::Rollout, least: 0.25, tolerance: 0.05 });
        assert!(toml::from_str::<Weights>("positon = 0.5").is_err());
    }

    fn edges() -> impl Strategy<Value = Edges> {
        (0.0f32..1.0, 0.0f32..1.0).prop_map(|(x, y)| at(x, y))
    }

    fn any_edges() -> impl Strategy<Value = Option<Edges>> {
        proptest::option::of(proptest::array::uniform4(proptest::num::f32::ANY))
    }

    proptest! {
        #[test]
        fn moving_away_never_raises(
            truth in edges(), x in -1.0f32..1.0, y in -1.0f32..1.0,
            size in [1u32..5000, 1u32..5000], aware in any::<bool>(),
        ) {
            let reach = if aware { Reach::SizeAware } else { Reach::Diagonal };
            let moved = |by: f32| [truth[0] + by * x, truth[1] + by * y, truth[2] + by * x, truth[3] + by * y];
            let scores = [0.0, 0.25, 0.5, 1.0, 2.0].map(|by| score(moved(by), truth, size, reach));
            prop_assert!((scores[0] - 1.0).abs() < 1e-12);
            prop_assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
            // Rounding of f32 edges moves a centre by a part in a million.
            prop_assert!(scores.windows(2).all(|pair| pair[1] <= pair[0] + 1e-4), "{:?}", scores);
        }

        #[test]
        fn distance_has_no_direction(a in edges(), b in edges(), size in [1u32..5000, 1u32..5000]) {
            let (one, two) = (score(a, b, size, Reach::Diagonal), score(b, a, size, Reach::Diagonal));
            prop_assert!((one - two).abs() < 1e-9);
        }

        #[test]
        fn weights_stay_between_the_least_and_one(
            group in proptest::collection::vec((any_edges(), 0.0f64..1.0, -3.0f64..3.0), 0..9),
            least in 0.0f64..=1.0, by_rollout in any::<bool>(),
        ) {
            let scaled = if by_rollout { Scaled::Rollout } else { Scaled::Group };
            let coherence = Coherence { scaled, least, ..Coherence::default() };
            let group: Vec<Rollout> = group.into_iter().map(|(edges, iou, a)| rollout(edges, iou, a)).collect();
            let weights = coherence.weights(&group, extent([640, 480]));
            prop_assert_eq!(weights.len(), group.len());
            prop_assert!(weights.iter().all(|weight| (least..=1.0).contains(weight)), "{:?}", weights);
            let (advantages, _) = coherence.scale(&group, extent([640, 480]));
            for (scaled, rollout) in advantages.iter().zip(&group) {
                prop_assert!(scaled.abs() <= rollout.advantage.abs());
                prop_assert!(*scaled == 0.0 || scaled.signum() == rollout.advantage.signum());
                prop_assert!(!by_rollout || rollout.iou < RIGHT || *scaled == rollout.advantage);
            }
        }

        #[test]
        fn spreading_a_group_never_makes_it_more_coherent(group in proptest::collection::vec(edges(), 2..9)) {
            let grown = |by: f32| group.iter().map(move |edges| Some(edges.map(|edge| edge * by)));
            let spread = |by: f32| grown(by).collect::<Vec<Option<Edges>>>();
            let s = [0.5, 1.0, 2.0].map(|by| incoherence(&spread(by), extent(SQUARE)).unwrap());
            prop_assert!(s[0] <= s[1] + 1e-6 && s[1] <= s[2] + 1e-6, "{:?}", s);
        }
    }
}
