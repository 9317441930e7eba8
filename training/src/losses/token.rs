//! The next token, among those that may follow.

/// What teaching one token came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learnt {
    /// The loss, weighted.
    pub loss: f32,
    /// `−ln π(target)`, whatever it weighs.
    pub nats: f32,
    /// The likeliest of the tokens that were allowed; where the target ties with another one, that one.
    pub likeliest: u32,
}

/// `−weight · ln π(target)`; π is the softmax of the logits whose ids are `allowed`, the target's among them: what a
/// sampler under the same grammar draws from at temperature 1.
///
/// What is forbidden gets no gradient, and where nothing but the target is allowed the loss is 0.
pub fn cross_entropy(
    logits: &[f32],
    allowed: impl Fn(u32) -> bool,
    target: u32,
    weight: f32,
    gradient: &mut [f32],
) -> Learnt {
    softened(logits, allowed, target, &[(target, 1.0)], weight, gradient)
}

/// As [`cross_entropy`], with what is right shared among several ids that are allowed: `weight · Σ s · ln(s / π)` over their
/// `shares` s, which sum to 1. It is 0 where π is those shares.
pub fn softened(
    logits: &[f32],
    allowed: impl Fn(u32) -> bool,
    target: u32,
    shares: &[(u32, f32)],
    weight: f32,
    gradient: &mut [f32],
) -> Learnt {
    let open: Vec<usize> = (0..logits.len()).filter(|&id| id == target as usize || allowed(id as u32)).collect();
    let top = open.iter().map(|&id| logits[id]).fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = open.iter().map(|&id| (logits[id] - top).exp()).sum();
    for &id in &open {
        gradient[id] += weight * (logits[id] - top).exp() / sum;
    }
    let nats = |id: u32| top + sum.ln() - logits[id as usize];
    let mut loss = 0.0;
    for &(id, share) in shares.iter().filter(|(_, share)| *share > 0.0) {
        gradient[id as usize] -= weight * share;
        loss += weight * share * (nats(id) + share.ln());
    }
    let beats = |best: u32, id: u32| match logits[id as usize].total_cmp(&logits[best as usize]) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => best == target,
        std::cmp::Ordering::Less => false,
    };
    let likeliest = open.iter().fold(target, |best, &id| if beats(best, id as u32) { id as u32 } else { best });
    Learnt { loss, nats: nats(target), likeliest }
}

/// What is right of a scale, shared among `allowed` marks by a normal of deviation `spread` around the `target`, which is one
/// of them; marks with less than a thousandth of the target's share have none.
pub fn shares(target: u32, allowed: impl Iterator<Item = u32>, spread: f32) -> Vec<(u32, f32)> {
    let share = |mark: u32| (-0.5 * (mark.abs_diff(target) as f32 / spread).powi(2)).exp();
    let mut shares: Vec<(u32, f32)> =
        allowed.map(|mark| (mark, share(mark))).filter(|(_, share)| *share > 1e-3).collect();
    let sum: f32 = shares.iter().map(|(_, share)| share).sum();
    shares.iter_mut().for_each(|(_, share)| *share /= sum);
    shares
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn gradient_is_the_derivative_and_leaves_what_is_forbidden() {
        let logits: Vec<f32> = (0..12).map(|i| ((i * 7) % 5) as f32 * 0.4 - 0.8).collect();
        let even = |id: u32| id.is_multiple_of(2);
        let mut gradient = vec![0.0; logits.len()];
        cross_entropy(&logits, even, 4, 1.5, &mut gradient);
        check::differences(&logits, &gradient, |x| cross_entropy(x, even, 4, 1.5, &mut vec![0.0; x.len()]).loss);
        assert!(gradient.iter().skip(1).step_by(2).all(|g| *g == 0.0), "{gradient:?}");
    }

    #[test]
    fn only_rivals_that_are_allowed_count() {
        let logits = [9.0, 1.0, 0.0, 1.0];
        let lost = |allowed: &[u32]| cross_entropy(&logits, |id| allowed.contains(&id), 1, 1.0, &mut [0.0; 4]);
        assert_eq!(lost(&[1]), Learnt { loss: 0.0, nats: 0.0, likeliest: 1 });
        let Learnt { loss, likeliest, .. } = lost(&[1, 2]);
        assert!((loss - (1.0 + (-1f32).exp()).ln()).abs() < 1e-6 && likeliest == 1);
        assert_eq!((lost(&[0, 1]).likeliest, lost(&[1, 3]).likeliest), (0, 3), "a tie is not right");
    }

    #[test]
    fn neighbours_have_a_share_of_right_and_a_near_miss_costs_less() {
        let near = shares(4, (0..12).filter(|mark| *mark >= 3), 1.0);
        assert!(near.iter().all(|(mark, _)| (3..=7).contains(mark)), "{near:?}");
        assert!((near.iter().map(|(_, share)| share).sum::<f32>() - 1.0).abs() < 1e-6);
        let logits: Vec<f32> = (0..12).map(|i| ((i * 7) % 5) as f32 * 0.4 - 0.8).collect();
        let open = |id: u32| id >= 3;
        let loss = |x: &[f32], slope: &mut [f32]| softened(x, open, 4, &near, 1.5, slope).loss;
        let mut gradient = vec![0.0; logits.len()];
        loss(&logits, &mut gradient);
        check::differences(&logits, &gradient, |x| loss(x, &mut [0.0; 12]));
        assert!(gradient[..3].iter().all(|g| *g == 0.0), "{gradient:?}");
        let says = |mark: usize| {
            let mut logits = [0.0; 12];
            logits[mark] = 3.0;
            loss(&logits, &mut [0.0; 12])
        };
        assert!(says(4) < says(5) && says(5) < says(8), "{} {} {}", says(4), says(5), says(8));
        let perfect: Vec<f32> = (0..12)
            .map(|id| near.iter().find(|(mark, _)| *mark == id).map_or(-30.0, |(_, share)| share.ln()))
            .collect();
        assert!(loss(&perfect, &mut [0.0; 12]).abs() < 1e-5);
    }
}
