//! Where it is: masks, weak boxes, emptiness.

use super::{sigmoid, softplus};

/// Share of all cells added to the target's area when the focal sum is normalised, so that a target of few cells does
/// not outweigh a large one by orders of magnitude.
const AREA_FLOOR: f32 = 1.0 / 164.0;
/// Smoothing of the Dice quotient, in cells.
const DICE_SMOOTH: f32 = 1.0;

/// Weights of the parts of a mask loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parts {
    /// Focal binary cross-entropy.
    pub focal: f32,
    /// Dice.
    pub dice: f32,
}

/// Focal binary cross-entropy and Dice of mask logits against soft targets in 0..=1 (both row-major).
///
/// Focal with exponent 2 in its form for soft targets (Li et al., Generalized Focal Loss, arXiv 2006.04388), summed
/// and divided by the target's area: survey masks fill a thousandth of the picture, and a mean over all cells would
/// reward an empty answer. Dice after Milletari et al., arXiv 1606.04797, with plain sums in the denominator.
pub fn dense(logits: &[f32], target: &[f32], parts: Parts, gradient: &mut [f32]) -> f32 {
    let area: f32 = target.iter().sum();
    let focal = focal(logits, target, parts.focal / (area + floor(logits)), gradient);
    focal + dice(logits, target, parts.dice, gradient)
}

pub(super) fn floor(logits: &[f32]) -> f32 {
    (AREA_FLOOR * logits.len() as f32).max(4.0)
}

/// `weight · Σ |p − t|² · BCE(z, t)`.
fn focal(logits: &[f32], target: &[f32], weight: f32, gradient: &mut [f32]) -> f32 {
    let mut sum = 0.0;
    for ((&z, &t), g) in logits.iter().zip(target).zip(gradient) {
        let p = sigmoid(z);
        let (miss, entropy) = (p - t, softplus(z) - z * t);
        sum += miss * miss * entropy;
        *g += weight * (2.0 * miss * p * (1.0 - p) * entropy + miss * miss * miss);
    }
    weight * sum
}

/// `weight · (1 − (2 Σpt + s) / (Σp + Σt + s))`.
fn dice(logits: &[f32], target: &[f32], weight: f32, gradient: &mut [f32]) -> f32 {
    let p: Vec<f32> = logits.iter().map(|&z| sigmoid(z)).collect();
    let both: f32 = p.iter().zip(target).map(|(p, t)| p * t).sum();
    let sum: f32 = p.iter().sum::<f32>() + target.iter().sum::<f32>() + DICE_SMOOTH;
    let quotient = (2.0 * both + DICE_SMOOTH) / sum;
    for ((p, t), g) in p.iter().zip(target).zip(gradient) {
        *g -= weight * (2.0 * t - quotient) / sum * p * (1.0 - p);
    }
    weight * (1.0 - quotient)
}

/// Dice of the mask's projections on both axes against a box's, after BoxInst (Tian et al., arXiv 2012.02310):
/// `columns` and `rows` are the coverage of the box along x and y, each of the side of the square map.
pub fn projections(logits: &[f32], columns: &[f32], rows: &[f32], weight: f32, gradient: &mut [f32]) -> f32 {
    let side = columns.len();
    let mut loss = 0.0;
    for (along_x, target) in [(true, columns), (false, rows)] {
        let cell = |i: usize, j: usize| if along_x { j * side + i } else { i * side + j };
        let highest: Vec<usize> = (0..side)
            .map(|i| (0..side).map(|j| cell(i, j)).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0))
            .collect();
        let projected: Vec<f32> = highest.iter().map(|&at| logits[at]).collect();
        let mut back = vec![0.0; side];
        loss += dice(&projected, target, 0.5 * weight, &mut back);
        for (&at, g) in highest.iter().zip(&back) {
            gradient[at] += g;
        }
    }
    loss
}

/// Pushes a mask that should be empty below zero: the focal loss against nothing.
pub fn empty(logits: &[f32], weight: f32, gradient: &mut [f32]) -> f32 {
    focal(logits, &vec![0.0; logits.len()], weight / floor(logits), gradient)
}

/// Intersection and union of the mask `logit > 0` with the target `> 0.5`, in cells.
///
/// A target too thin to cover half of any cell counts where it covers most.
pub fn overlap(logits: &[f32], target: &[f32]) -> (f32, f32) {
    let most = target.iter().copied().fold(0.0, f32::max);
    let threshold = if most > 0.5 { 0.5 } else { most * 0.75 };
    let (mut both, mut either) = (0.0, 0.0);
    for (&z, &t) in logits.iter().zip(target) {
        let (predicted, wanted) = (z > 0.0, t > threshold);
        both += f32::from(predicted && wanted);
        either += f32::from(predicted || wanted);
    }
    (both, either)
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn logits(side: usize) -> Vec<f32> {
        (0..side * side).map(|i| ((i * 37) % 23) as f32 * 0.25 - 3.0).collect()
    }

    #[test]
    fn dense_gradient_is_the_derivative() {
        let z = logits(6);
        let target: Vec<f32> = (0..36).map(|i| [0.0, 0.0, 1.0, 0.4][i % 4]).collect();
        let parts = Parts { focal: 40.0, dice: 1.0 };
        let mut gradient = vec![0.0; 36];
        dense(&z, &target, parts, &mut gradient);
        check::differences(&z, &gradient, |x| dense(x, &target, parts, &mut [0.0; 36]));
    }

    #[test]
    fn projection_gradient_is_the_derivative_and_a_filled_box_is_right() {
        let (columns, rows) = ([0.0, 1.0, 1.0, 0.5, 0.0], [0.0, 0.0, 1.0, 1.0, 0.0]);
        let z = logits(5);
        let mut gradient = vec![0.0; 25];
        projections(&z, &columns, &rows, 1.0, &mut gradient);
        check::differences(&z, &gradient, |x| projections(x, &columns, &rows, 1.0, &mut [0.0; 25]));
        let filled: Vec<f32> = (0..25)
            .map(|i| if (1..3).contains(&(i % 5)) && (2..4).contains(&(i / 5)) { 20.0 } else { -20.0 })
            .collect();
        let off: Vec<f32> = filled.iter().rev().copied().collect();
        let loss = |z: &[f32]| projections(z, &[0.0, 1.0, 1.0, 0.0, 0.0], &rows, 1.0, &mut [0.0; 25]);
        assert!(loss(&filled) < 1e-3 && loss(&off) > 0.1);
    }

    #[test]
    fn a_small_target_is_worth_finding() {
        // Nine cells of 16,384: an all-empty answer must cost clearly more than the right one.
        let side = 128;
        let target: Vec<f32> = (0..side * side).map(|i| f32::from(i % side < 3 && i / side < 3)).collect();
        let right: Vec<f32> = target.iter().map(|t| if *t > 0.5 { 6.0 } else { -6.0 }).collect();
        let nothing = vec![-6.0; side * side];
        let parts = Parts { focal: 1.0, dice: 1.0 };
        let cost = |z: &[f32]| dense(z, &target, parts, &mut vec![0.0; side * side]);
        assert!(cost(&nothing) > cost(&right) + 0.5, "{} against {}", cost(&nothing), cost(&right));
    }

    #[test]
    fn overlap_counts_cells_and_finds_thin_targets() {
        assert_eq!(overlap(&[1.0, -1.0, 1.0, -1.0], &[1.0, 1.0, 0.0, 0.0]), (1.0, 3.0));
        assert_eq!(overlap(&[1.0, -1.0], &[0.3, 0.1]), (1.0, 1.0));
        assert_eq!(overlap(&[-1.0, -1.0], &[0.0, 0.0]), (0.0, 0.0));
    }
}
