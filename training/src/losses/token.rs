//! The next token, among those that may follow.

/// `−weight · ln π(target)` and whether the target is the likeliest; π is the softmax of the logits whose ids are
/// `allowed`, the target's among them: what a sampler under the same grammar draws from at temperature 1.
///
/// What is forbidden gets no gradient, and where nothing but the target is allowed the loss is 0.
pub fn cross_entropy(
    logits: &[f32],
    allowed: impl Fn(u32) -> bool,
    target: u32,
    weight: f32,
    gradient: &mut [f32],
) -> (f32, bool) {
    let target = target as usize;
    let open: Vec<usize> = (0..logits.len()).filter(|&id| id == target || allowed(id as u32)).collect();
    let top = open.iter().map(|&id| logits[id]).fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = open.iter().map(|&id| (logits[id] - top).exp()).sum();
    for &id in &open {
        gradient[id] += weight * ((logits[id] - top).exp() / sum - f32::from(id == target));
    }
    (weight * (top + sum.ln() - logits[target]), open.iter().all(|&id| id == target || logits[id] < logits[target]))
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
        check::differences(&logits, &gradient, |x| cross_entropy(x, even, 4, 1.5, &mut vec![0.0; x.len()]).0);
        assert!(gradient.iter().skip(1).step_by(2).all(|g| *g == 0.0), "{gradient:?}");
    }

    #[test]
    fn only_rivals_that_are_allowed_count() {
        let logits = [9.0, 1.0, 0.0, 1.0];
        let lost = |allowed: &[u32]| cross_entropy(&logits, |id| allowed.contains(&id), 1, 1.0, &mut [0.0; 4]);
        assert_eq!(lost(&[1]), (0.0, true));
        let (loss, right) = lost(&[1, 2]);
        assert!((loss - (1.0 + (-1f32).exp()).ln()).abs() < 1e-6 && right);
        assert!(!lost(&[0, 1]).1 && !lost(&[1, 3]).1, "a tie is not right");
    }
}
