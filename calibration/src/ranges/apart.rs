//! How far two readings of one model are apart.

use serde::Serialize;

use super::bench::{SMALLEST_MASK, iou};

/// What one reading of the model says to one question.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Logits of the answer's first token, one for each word.
    pub logits: Vec<f32>,
    /// Mask logits at stride 4, row-major.
    pub mask: Vec<f32>,
}

/// Two readings of the same questions, side by side.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Apart {
    /// Questions.
    pub questions: usize,
    /// Mean difference of a logit, irrespective of its sign.
    pub logits_mean: f64,
    /// Largest difference of a logit.
    pub logits_most: f64,
    /// The same as a part of the largest magnitude of a logit of the first reading.
    pub logits_share: f64,
    /// Questions of which the first reading draws a mask of 16 cells or more.
    pub masks: usize,
    /// Mean IoU of these masks; `None` where there is none.
    pub mask_iou: Option<f64>,
    /// The least of them.
    pub mask_iou_least: Option<f64>,
}

impl Apart {
    /// How far `other` is from `one`, question by question.
    pub fn of(one: &[Reading], other: &[Reading]) -> Self {
        let (mut sum, mut count, mut most, mut largest) = (0.0, 0usize, 0.0_f64, 0.0_f64);
        let mut overlaps = Vec::new();
        for (a, b) in one.iter().zip(other) {
            for (a, b) in a.logits.iter().zip(&b.logits) {
                let apart = f64::from((a - b).abs());
                sum += apart;
                count += 1;
                // A difference that is no number is beyond every bound.
                most = if apart.is_nan() { f64::INFINITY } else { most.max(apart) };
                largest = largest.max(f64::from(a.abs()));
            }
            if a.mask.iter().filter(|z| **z > 0.0).count() >= SMALLEST_MASK {
                overlaps.push(iou(&a.mask, &b.mask));
            }
        }
        let masks = overlaps.len();
        Self {
            questions: one.len().min(other.len()),
            logits_mean: if count == 0 { 0.0 } else { sum / count as f64 },
            logits_most: most,
            logits_share: if largest > 0.0 { most / largest } else { 0.0 },
            masks,
            mask_iou: (masks > 0).then(|| overlaps.iter().sum::<f64>() / masks as f64),
            mask_iou_least: overlaps.into_iter().reduce(f64::min),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn reading(logits: &[f32], on: usize) -> Reading {
        Reading { logits: logits.to_vec(), mask: (0..64).map(|i| if i < on { 1.0 } else { -1.0 }).collect() }
    }

    #[test]
    fn logits_and_masks_are_held_against_the_first_reading() {
        let one = [reading(&[4.0, -8.0], 32), reading(&[1.0, 1.0], 4)];
        let other = [reading(&[4.5, -8.0], 24), reading(&[1.0, 0.5], 0)];
        let apart = Apart::of(&one, &other);
        assert_eq!((apart.questions, apart.logits_mean, apart.logits_most), (2, 0.25, 0.5));
        assert_eq!(apart.logits_share, 0.0625);
        // The second mask is too small to count.
        assert_eq!((apart.masks, apart.mask_iou, apart.mask_iou_least), (1, Some(0.75), Some(0.75)));
        let same = Apart::of(&one, &one);
        assert_eq!((same.logits_most, same.mask_iou), (0.0, Some(1.0)));
    }

    #[test]
    fn what_is_no_number_is_as_far_apart_as_can_be() {
        let apart = Apart::of(&[reading(&[1.0, 2.0], 0)], &[reading(&[f32::NAN, 2.0], 0)]);
        assert_eq!((apart.logits_most, apart.mask_iou), (f64::INFINITY, None));
        assert_eq!(Apart::of(&[], &[]).questions, 0);
    }
}
