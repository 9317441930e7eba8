//! What failures on a sample say about the risk: upper bounds that hold with a stated confidence.
//!
//! Losses lie in 0..=1 and are independent of each other. A null hypothesis is "the risk is greater than `risk`"; a p-value
//! of at most δ rejects it, and the greatest risk that is not rejected at δ is an upper bound with confidence 1 − δ.

use serde::{Deserialize, Serialize};

/// What values a loss can take, known before any loss is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Losses {
    /// 0 or 1: the exact binomial test (Clopper and Pearson 1934).
    Binary,
    /// Anything in 0..=1: Hoeffding–Bentkus (Bates, Angelopoulos, Lei, Malik, Jordan, "Distribution-free, risk-controlling
    /// prediction sets", 2021, proposition 6; Angelopoulos et al., "Learn then test", 2021, proposition 1).
    Bounded,
}

/// P(X ≤ `k`) of a binomial variable of `n` trials with success probability `p`.
pub fn binomial_tail(k: usize, n: usize, p: f64) -> f64 {
    if k >= n || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    let odds = (p / (1.0 - p)).ln();
    let mut term = n as f64 * (1.0 - p).ln();
    let mut sum = term;
    for i in 0..k {
        term += ((n - i) as f64 / (i + 1) as f64).ln() + odds;
        let (more, less) = if sum > term { (sum, term) } else { (term, sum) };
        sum = more + (less - more).exp().ln_1p();
    }
    sum.exp().min(1.0)
}

/// P-value of "the risk is greater than `risk`" when `n` losses add up to `sum`; 1 of no losses.
///
/// It never rises with `n` at an equal mean, and never falls with `sum`.
pub fn p_value(sum: f64, n: usize, risk: f64, losses: Losses) -> f64 {
    if n == 0 || risk <= 0.0 {
        return 1.0;
    }
    // A sum of exact thirds must not count one failure more than it has.
    let failures = (sum - 1e-9).ceil().max(0.0) as usize;
    let bentkus = binomial_tail(failures, n, risk);
    match losses {
        Losses::Binary => bentkus,
        Losses::Bounded => {
            let mean = (sum / n as f64).clamp(0.0, 1.0);
            let hoeffding = (-(n as f64) * divergence(mean.min(risk), risk)).exp();
            hoeffding.min(std::f64::consts::E * bentkus).min(1.0)
        }
    }
}

/// Kullback–Leibler divergence of two Bernoulli distributions, in nats.
fn divergence(a: f64, b: f64) -> f64 {
    let part = |x: f64, y: f64| if x <= 0.0 { 0.0 } else { x * (x / y).ln() };
    if b >= 1.0 {
        return if a >= 1.0 { 0.0 } else { f64::INFINITY };
    }
    part(a, b) + part(1.0 - a, 1.0 - b)
}

/// Upper bound of the risk with confidence 1 − `delta`; 1 of no losses.
pub fn upper_bound(sum: f64, n: usize, delta: f64, losses: Losses) -> f64 {
    if n == 0 || p_value(sum, n, 1.0, losses) > delta {
        return 1.0;
    }
    let (mut low, mut high) = ((sum / n as f64).clamp(0.0, 1.0), 1.0);
    // Forty halvings leave 1e-12.
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if p_value(sum, n, middle, losses) > delta { low = middle } else { high = middle }
    }
    high
}

/// Fewest losses, all 0, that bound the risk by `alpha` with confidence 1 − `delta`: (1 − α)ⁿ ≤ δ.
pub fn needed(alpha: f64, delta: f64) -> usize {
    if !(alpha > 0.0 && alpha < 1.0 && delta > 0.0 && delta < 1.0) {
        return usize::MAX;
    }
    let n = (delta.ln() / (1.0 - alpha).ln()).ceil() as usize;
    // The quotient of two logarithms may be a hair off a whole number.
    (n.saturating_sub(1)..n + 2).find(|&n| p_value(0.0, n, alpha, Losses::Binary) <= delta).unwrap_or(n + 2)
}

#[cfg(test)]
#[path = "confidence_tests.rs"]
mod tests;
