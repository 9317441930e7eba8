//! What a teacher says as the thing to learn: divergences of distributions, and its maps on the student's grid.
//!
//! All of them are 0 where the student says what the teacher says, and more anywhere else.

use super::{sigmoid, softplus};

/// Divergence of two choices among the same things, softened by a temperature T: `weight · T² · Σ p ln(p / q)` with
/// `p = softmax(teacher / T)` and `q = softmax(student / T)`.
///
/// Source: Hinton, Vinyals and Dean, arXiv 1503.02531, section 2; T² keeps the gradient's size where T changes. The
/// gradient is `weight · T · (q − p)`.
pub fn choice(student: &[f32], teacher: &[f32], temperature: f32, weight: f32, gradient: &mut [f32]) -> f32 {
    let (own, theirs) = (log_softmax(student, temperature), log_softmax(teacher, temperature));
    let mut sum = 0.0;
    for ((q, p), g) in own.iter().zip(&theirs).zip(gradient) {
        *g += weight * temperature * (q.exp() - p.exp());
        sum += p.exp() * (p - q);
    }
    // Never less than 0, but for rounding.
    weight * temperature * temperature * sum.max(0.0)
}

fn log_softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|z| ((z - top) / temperature).exp()).sum();
    logits.iter().map(|z| (z - top) / temperature - sum.ln()).collect()
}

/// Divergence of a yes or no, `t ln(t / p) + (1 − t) ln((1 − t) / (1 − p))` with `p` the logistic of `logit`, and its
/// derivative by the logit, `p − t`.
pub fn yes_or_no(logit: f32, target: f32) -> (f32, f32) {
    let information = |share: f32| if share > 0.0 { share * share.ln() } else { 0.0 };
    let own = information(target) + information(1.0 - target);
    ((softplus(logit) - logit * target + own).max(0.0), sigmoid(logit) - target)
}

/// Divergence of a mask from the teacher's probabilities, cell by cell, summed and divided by the teacher's area, as the
/// focal loss of [`super::mask::dense`] is: a mean over all cells would hear nothing but background.
pub fn mask(logits: &[f32], target: &[f32], weight: f32, gradient: &mut [f32]) -> f32 {
    let scale = weight / (target.iter().sum::<f32>() + super::mask::floor(logits));
    let mut sum = 0.0;
    for ((&z, &t), g) in logits.iter().zip(target).zip(gradient) {
        let (loss, slope) = yes_or_no(z, t);
        *g += scale * slope;
        sum += loss;
    }
    scale * sum
}

/// A map of `from²` cells with `channels` numbers each, on a grid of `to²` cells over the same picture: means by area. A
/// coarser grid loses detail, a finer one repeats it; the mean over the picture stays.
pub fn resample(map: &[f32], channels: usize, from: usize, to: usize) -> Vec<f32> {
    if from == to {
        return map.to_vec();
    }
    let shares = shares(from, to);
    let mut narrow = vec![0.0; from * to * channels];
    for (row, out) in map.chunks_exact(from * channels).zip(narrow.chunks_exact_mut(to * channels)) {
        blend(row, out, channels, &shares);
    }
    let mut resampled = vec![0.0; to * to * channels];
    // Whole rows are blended as single cells are.
    blend(&narrow, &mut resampled, to * channels, &shares);
    resampled
}

/// Sums cells of `width` numbers into others, by their shares.
fn blend(cells: &[f32], out: &mut [f32], width: usize, shares: &[Vec<(usize, f32)>]) {
    for (out, shares) in out.chunks_exact_mut(width).zip(shares) {
        for &(at, share) in shares {
            out.iter_mut().zip(&cells[at * width..][..width]).for_each(|(out, cell)| *out += share * cell);
        }
    }
}

/// For each of `to` intervals of a line, the intervals out of `from` that it overlaps, with their shares of it.
fn shares(from: usize, to: usize) -> Vec<Vec<(usize, f32)>> {
    // In units of 1 / (from · to) of the line all edges are whole numbers.
    let overlap = |i: usize, j: usize| ((i + 1) * from).min((j + 1) * to).saturating_sub((i * from).max(j * to));
    let share = |i: usize, j: usize| (j, overlap(i, j) as f32 / from as f32);
    let touched = |i: usize| i * from / to..((i + 1) * from).div_ceil(to);
    (0..to).map(|i| touched(i).map(|j| share(i, j)).collect()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::check;
    use super::*;
    use proptest::prelude::*;

    fn logits(count: usize) -> impl Strategy<Value = Vec<f32>> {
        proptest::collection::vec(-8f32..8.0, count)
    }

    proptest! {
        #[test]
        fn a_choice_costs_nothing_where_it_is_the_teachers_and_never_earns(
            (a, b) in (logits(5), logits(5)), temperature in 0.5f32..6.0,
        ) {
            let cost = |x: &[f32], y: &[f32]| choice(x, y, temperature, 1.0, &mut [0.0; 5]);
            prop_assert_eq!(cost(&a, &a), 0.0);
            prop_assert!(cost(&a, &b) >= 0.0);
            // What all logits have in common says nothing.
            let moved: Vec<f32> = a.iter().map(|z| z + 3.0).collect();
            prop_assert!(cost(&moved, &a) < 1e-3);
            let mut gradient = [0.0; 5];
            choice(&a, &b, temperature, 1.0, &mut gradient);
            prop_assert!(gradient.iter().sum::<f32>().abs() < 1e-4, "{:?}", gradient);
        }

        #[test]
        fn a_yes_or_no_costs_nothing_where_it_is_the_teachers_and_never_earns(a in -12f32..12.0, b in -12f32..12.0) {
            let (same, slope) = yes_or_no(a, sigmoid(a));
            prop_assert!(same < 1e-5 && slope == 0.0, "{} {}", same, slope);
            let (other, slope) = yes_or_no(a, sigmoid(b));
            prop_assert!(other >= 0.0 && slope * (a - b) >= 0.0, "{} {}", other, slope);
        }

        #[test]
        fn a_mask_costs_nothing_where_it_is_the_teachers_and_never_earns((a, b) in (logits(36), logits(36))) {
            let cost = |x: &[f32], y: &[f32]| {
                let target: Vec<f32> = y.iter().map(|z| sigmoid(*z)).collect();
                mask(x, &target, 2.0, &mut [0.0; 36])
            };
            prop_assert!(cost(&a, &a) < 1e-4);
            prop_assert!(cost(&a, &b) >= 0.0);
        }

        #[test]
        fn another_grid_keeps_the_mean(from in 1usize..9, to in 1usize..9, seed in 0usize..100) {
            let map: Vec<f32> = (0..from * from * 2).map(|i| ((i * 37 + seed) % 23) as f32 - 11.0).collect();
            let resampled = resample(&map, 2, from, to);
            prop_assert_eq!(resampled.len(), to * to * 2);
            for channel in 0..2 {
                let mean = |map: &[f32]| {
                    let of: Vec<f32> = map.iter().skip(channel).step_by(2).copied().collect();
                    of.iter().sum::<f32>() / of.len() as f32
                };
                prop_assert!((mean(&map) - mean(&resampled)).abs() < 1e-3, "{} {}", mean(&map), mean(&resampled));
            }
            let (low, high) = (map.iter().copied().fold(f32::MAX, f32::min), map.iter().copied().fold(f32::MIN, f32::max));
            prop_assert!(resampled.iter().all(|v| (low - 1e-3..=high + 1e-3).contains(v)));
        }
    }

    #[test]
    fn gradients_are_the_derivatives() {
        let number = |i: usize| ((i * 7) % 5) as f32 * 0.4 - 0.8;
        let z: Vec<f32> = (0..6).map(number).collect();
        let teacher: Vec<f32> = (0..6).map(|i| number(i + 3) * 2.0).collect();
        for temperature in [1.0, 2.5] {
            let mut gradient = vec![0.0; 6];
            choice(&z, &teacher, temperature, 1.5, &mut gradient);
            check::differences(&z, &gradient, |x| choice(x, &teacher, temperature, 1.5, &mut [0.0; 6]));
        }
        let target: Vec<f32> = teacher.iter().map(|z| sigmoid(*z)).collect();
        let mut gradient = vec![0.0; 6];
        mask(&z, &target, 9.0, &mut gradient);
        check::differences(&z, &gradient, |x| mask(x, &target, 9.0, &mut [0.0; 6]));
        let (_, slope) = yes_or_no(0.4, 0.9);
        check::differences(&[0.4], &[slope], |x| yes_or_no(x[0], 0.9).0);
    }

    #[test]
    fn extreme_logits_stay_numbers() {
        let mut gradient = [0.0; 2];
        let loss = choice(&[300.0, -300.0], &[-300.0, 300.0], 1.0, 1.0, &mut gradient);
        assert!((loss - 600.0).abs() < 1.0 && gradient == [1.0, -1.0], "{loss} {gradient:?}");
        assert_eq!(yes_or_no(-200.0, 0.0), (0.0, 0.0));
        assert!((yes_or_no(200.0, 0.0).0 - 200.0).abs() < 1e-3);
    }

    #[test]
    fn cells_are_shared_by_area() {
        assert_eq!(resample(&[1.0, 2.0, 3.0, 4.0], 1, 2, 1), [2.5]);
        assert_eq!(resample(&[7.0, 9.0], 2, 1, 2), [7.0, 9.0, 7.0, 9.0, 7.0, 9.0, 7.0, 9.0]);
        // Three columns on two: the middle one belongs to both.
        let two = resample(&[0.0, 3.0, 6.0, 0.0, 3.0, 6.0, 0.0, 3.0, 6.0], 1, 3, 2);
        assert!(two.iter().zip([1.0, 5.0, 1.0, 5.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{two:?}");
    }
}
