//! Where a box is, rewarded also where it does not yet overlap; and how far a group of rollouts agrees on where.
//!
//! RSGround-R1 (arXiv 2601.21634) has a continuous reward of distance, and scales its updates by the coherence of the
//! rollouts' places. Its equations are not public: every formula and number here is derived, none is the paper's.

use kestrel_models::candle::overlap::side;
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "[u32; 2]", into = "[u32; 2]")]
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

impl From<Extent> for [u32; 2] {
    fn from(Extent { width, height }: Extent) -> Self {
        // Both were whole numbers of 32 bits.
        [width as u32, height as u32]
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
    let side = side(cells.len());
    let (mut columns, mut rows, mut count) = (0, 0, 0);
    for (cell, _) in cells.iter().enumerate().filter(|(_, value)| **value > threshold) {
        columns += (cell % side) as u64;
        rows += (cell / side) as u64;
        count += 1;
    }
    centre([columns, rows], count, cells.len())
}

/// The same from the sums of the columns and rows of `count` cells, in a grid of `cells`.
pub fn centre(sums: [u64; 2], count: u64, cells: usize) -> Option<Edges> {
    let (n, side) = (count as f64, side(cells) as f64);
    let [x, y] = sums.map(|sum| ((sum as f64 + 0.5 * n) / n / side) as f32);
    (count > 0).then_some([x, y, x, y])
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
    /// Those of format, IoU and position when a share `progress` of training is done; the position's moves on a line.
    pub fn at(&self, progress: f64) -> [f64; 3] {
        let done = if progress.is_nan() { 0.0 } else { progress.clamp(0.0, 1.0) };
        [self.format, self.iou, self.position + (self.position_end - self.position) * done]
    }

    /// The rewards' weighted sum when a share `progress` of training is done.
    pub fn total(&self, format: f64, iou: f64, position: f64, progress: f64) -> f64 {
        let [of_format, of_iou, of_position] = self.at(progress);
        of_format * format + of_iou * iou + of_position * position
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
#[path = "position_tests.rs"]
mod tests;
