//! The one that is meant, the one that it is related to, and those that they are told from.

use super::binary;

/// Cross-entropy of `logits` (the first says "none", then one for each proposal) against any of the proposals for
/// which `fits` holds, or against "none" where it holds for none; whether the likeliest is right.
///
/// `−ln Σ softmax(z)ₖ` over those that fit: which of two proposals for one thing is chosen does not matter.
pub fn choosing(logits: &[f32], fits: impl Fn(usize) -> bool, weight: f32, gradient: &mut [f32]) -> (f32, bool) {
    let any = (1..logits.len()).any(|at| fits(at - 1));
    let right = |at: usize| if at == 0 { !any } else { fits(at - 1) };
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shares: Vec<f32> = logits.iter().map(|z| (z - top).exp()).collect();
    let all: f32 = shares.iter().sum();
    let good: f32 = shares.iter().enumerate().filter(|(at, _)| right(*at)).map(|(_, s)| s).sum();
    // So far off that a float cannot say how far: pull at everything that fits alike.
    let count = (0..logits.len()).filter(|at| right(*at)).count().max(1) as f32;
    let lost = good <= f32::MIN_POSITIVE;
    for (at, (share, g)) in shares.iter().zip(gradient).enumerate() {
        let wanted = match (right(at), lost) {
            (false, _) => 0.0,
            (true, true) => 1.0 / count,
            (true, false) => share / good,
        };
        *g += weight * (share / all - wanted);
    }
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    let loss = if lost { -f32::MIN_POSITIVE.ln() } else { (all / good).ln() };
    (weight * loss, best.is_some_and(right))
}

/// Mean binary cross-entropy of `logits` with what holds of each proposal; where that is not known, nothing is taught.
pub fn judging(logits: &[f32], holds: impl Fn(usize) -> Option<bool>, weight: f32, gradient: &mut [f32]) -> f32 {
    let known = (0..logits.len()).filter(|&at| holds(at).is_some()).count().max(1) as f32;
    let each = weight / known;
    let mut sum = 0.0;
    for (at, (&z, g)) in logits.iter().zip(gradient).enumerate() {
        if let Some(holds) = holds(at) {
            let (loss, slope) = binary(z, f32::from(holds));
            *g += each * slope;
            sum += each * loss;
        }
    }
    sum
}

/// Binary cross-entropy of one logit with whether it holds.
pub fn whether(logit: f32, holds: bool, weight: f32, gradient: &mut f32) -> f32 {
    let (loss, slope) = binary(logit, f32::from(holds));
    *gradient += weight * slope;
    weight * loss
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn gradients_are_the_derivatives() {
        let z = [0.2, -0.7, 1.3, 0.4];
        for fits in [|k: usize| k == 1, |k: usize| k > 0, |_: usize| false] {
            let mut gradient = [0.0; 4];
            choosing(&z, fits, 2.0, &mut gradient);
            check::differences(&z, &gradient, |x| choosing(x, fits, 2.0, &mut [0.0; 4]).0);
        }
        let holds = |at: usize| [Some(true), None, Some(false), Some(true)][at];
        let mut gradient = [0.0; 4];
        judging(&z, holds, 2.0, &mut gradient);
        check::differences(&z, &gradient, |x| judging(x, holds, 2.0, &mut [0.0; 4]));
        let mut gradient = [0.0];
        whether(0.6, false, 2.0, &mut gradient[0]);
        check::differences(&[0.6], &gradient, |x| whether(x[0], false, 2.0, &mut 0.0));
    }

    #[test]
    fn either_of_two_boxes_of_one_thing_may_be_chosen() {
        let both = |k: usize| k < 2;
        let (first, right) = choosing(&[-9.0, 9.0, -9.0], both, 1.0, &mut [0.0; 3]);
        let (second, _) = choosing(&[-9.0, -9.0, 9.0], both, 1.0, &mut [0.0; 3]);
        assert!(first < 1e-3 && second < 1e-3 && right);
        let (missed, right) = choosing(&[-9.0, 9.0, -9.0], |k| k == 1, 1.0, &mut [0.0; 3]);
        assert!(missed > 10.0 && !right);
    }

    #[test]
    fn what_is_hopelessly_far_off_still_pulls() {
        let mut gradient = [0.0; 3];
        let (loss, _) = choosing(&[500.0, -500.0, 0.0], |k| k == 0, 1.0, &mut gradient);
        assert!(loss.is_finite() && gradient[1] == -1.0 && gradient[0] == 1.0, "{gradient:?}");
        assert_eq!(choosing(&[0.3], |_| true, 1.0, &mut [0.0]), (0.0, true));
    }
}
