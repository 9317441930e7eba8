//! What to answer: one of five tokens.

use super::dense::one_of;

/// Share of the cross-entropy over the whole vocabulary; it keeps the other pieces' logits below the answers'.
const FULL_SHARE: f32 = 0.1;

/// Cross-entropy of `logits` (one row over the vocabulary) against `answers[class]`, restricted to `answers`, plus a
/// tenth of the unrestricted one. Both are multiplied by `weight`.
pub fn cross_entropy(logits: &[f32], answers: &[u32; 5], class: usize, weight: f32, gradient: &mut [f32]) -> f32 {
    let chosen: Vec<f32> = answers.iter().map(|&id| logits[id as usize]).collect();
    let (restricted, probabilities) = log_softmax(&chosen, class);
    for (k, (&id, p)) in answers.iter().zip(&probabilities).enumerate() {
        gradient[id as usize] += weight * (p - f32::from(k == class));
    }
    let target = answers[class] as usize;
    let (full, probabilities) = log_softmax(logits, target);
    for (k, p) in probabilities.iter().enumerate() {
        gradient[k] += weight * FULL_SHARE * (p - f32::from(k == target));
    }
    weight * (restricted + FULL_SHARE * full)
}

/// Whether the words make sense, all that can be told without a picture: `−weight · ln` of the probability that the
/// answer among `answers` is, or is not, "not understood".
pub fn sense(logits: &[f32], answers: &[u32; 5], sensible: bool, weight: f32, gradient: &mut [f32]) -> f32 {
    const NOT_UNDERSTOOD: usize = 3;
    let chosen = answers.map(|id| logits[id as usize]);
    let mut slope = [0.0; 5];
    let loss = one_of(&chosen, |k| (k == NOT_UNDERSTOOD) != sensible, weight, &mut slope);
    for (id, slope) in answers.iter().zip(slope) {
        gradient[*id as usize] += slope;
    }
    loss
}

/// Negative log-probability of `class`, and all probabilities.
fn log_softmax(logits: &[f32], class: usize) -> (f32, Vec<f32>) {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut probabilities: Vec<f32> = logits.iter().map(|x| (x - top).exp()).collect();
    let sum: f32 = probabilities.iter().sum();
    probabilities.iter_mut().for_each(|p| *p /= sum);
    (top + sum.ln() - logits[class], probabilities)
}

/// `logsumexp(none logits) − logit[SEG]`: the first feature of the presence probability.
pub fn none_margin(logits: &[f32], answers: &[u32; 5]) -> f32 {
    let none: Vec<f32> = answers[1..].iter().map(|&id| logits[id as usize]).collect();
    let top = none.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    top + none.iter().map(|x| (x - top).exp()).sum::<f32>().ln() - logits[answers[0] as usize]
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    const ANSWERS: [u32; 5] = [2, 3, 4, 5, 6];

    #[test]
    fn gradient_is_the_derivative() {
        let logits: Vec<f32> = (0..12).map(|i| ((i * 7) % 5) as f32 * 0.4 - 0.8).collect();
        for class in 0..5 {
            let mut gradient = vec![0.0; logits.len()];
            let value = cross_entropy(&logits, &ANSWERS, class, 1.5, &mut gradient);
            assert!(value > 0.0);
            let loss = |x: &[f32]| cross_entropy(x, &ANSWERS, class, 1.5, &mut vec![0.0; x.len()]);
            check::differences(&logits, &gradient, loss);
        }
        for sensible in [true, false] {
            let mut gradient = vec![0.0; logits.len()];
            sense(&logits, &ANSWERS, sensible, 1.5, &mut gradient);
            check::differences(&logits, &gradient, |x| sense(x, &ANSWERS, sensible, 1.5, &mut vec![0.0; x.len()]));
        }
    }

    #[test]
    fn a_sure_right_answer_costs_nothing_and_the_margin_has_the_right_sign() {
        let mut logits = vec![-20.0; 10];
        logits[2] = 20.0;
        assert!(cross_entropy(&logits, &ANSWERS, 0, 1.0, &mut [0.0; 10]) < 1e-6);
        assert!(none_margin(&logits, &ANSWERS) < -30.0, "[SEG] sure: the none margin is low");
        logits[4] = 60.0;
        assert!(none_margin(&logits, &ANSWERS) > 30.0);
    }
}
