//! Choosing the next token from logits, and what that choice was worth.

use crate::error::{Error, Result};

/// How the next token is chosen among those that the constraint allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Choice {
    /// The greatest logit; of equals the least id. Log-probabilities are at temperature 1.
    Greedy,
    /// By chance, with probabilities `softmax(logits / temperature)`.
    Sampled {
        /// Above 0; 1 is the model's own distribution.
        temperature: f32,
    },
}

/// The chosen token and its log-probability under π.
///
/// `logits` are restricted already: what is forbidden stands at −∞. With the temperature τ,
/// `π(i) = exp(zᵢ/τ) / Σⱼ exp(zⱼ/τ)` over what is allowed: first the restriction, then the temperature, then the softmax.
/// `draw` is uniform in `[0, 1)`; the token is the one in whose part of the cumulative π it falls.
///
/// # Errors
/// When the temperature is not above 0, a logit is NaN or +∞, or nothing is allowed.
pub(super) fn choose(logits: &[f32], choice: Choice, draw: f64) -> Result<(u32, f32)> {
    let temperature = match choice {
        Choice::Greedy => 1.0,
        Choice::Sampled { temperature } => f64::from(temperature),
    };
    if !(temperature > 0.0 && temperature.is_finite()) {
        return Err(refused("a temperature above 0", temperature));
    }
    if let Some(broken) = logits.iter().find(|z| z.is_nan() || **z == f32::INFINITY) {
        return Err(refused("logits that are numbers or −∞", broken));
    }
    let best = logits.iter().enumerate().fold(None, |best: Option<(usize, f32)>, (i, &z)| match best {
        Some((_, top)) if top >= z => best,
        _ => Some((i, z)),
    });
    let Some((best, top)) = best.filter(|(_, top)| top.is_finite()) else {
        return Err(refused("a token that the constraint allows", "none"));
    };
    // Relative to the greatest, so that no exponential overflows.
    let score = |z: f32| (f64::from(z) - f64::from(top)) / temperature;
    let sum: f64 = logits.iter().map(|&z| score(z).exp()).sum();
    let id = match choice {
        Choice::Greedy => best,
        Choice::Sampled { .. } => {
            let mut left = draw * sum;
            let falls = |z: &f32| {
                let share = score(*z).exp();
                left -= share;
                // A part without width is never hit, not even by a draw of 0.
                share > 0.0 && left < 0.0
            };
            // Rounding may leave a rest behind the last part; it goes to the likeliest.
            logits.iter().position(falls).unwrap_or(best)
        }
    };
    Ok((id as u32, (score(logits[id]) - sum.ln()) as f32))
}

fn refused(expected: &str, got: impl ToString) -> Error {
    Error::Request { operation: "choose a token", expected: expected.into(), got: got.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const NEVER: f32 = f32::NEG_INFINITY;

    fn sampled(temperature: f32) -> Choice {
        Choice::Sampled { temperature }
    }

    #[test]
    fn a_draw_picks_the_part_of_the_cumulative_distribution_it_falls_in() {
        // Probabilities 1/2, 0, 1/4, 1/4.
        let logits = [2f32.ln(), NEVER, 0.0, 0.0];
        let at = |draw| choose(&logits, sampled(1.0), draw).unwrap();
        assert_eq!([0.0, 0.499, 0.501, 0.749, 0.751, 0.999].map(|d| at(d).0), [0, 0, 2, 2, 3, 3]);
        assert!((at(0.0).1 - 0.5f32.ln()).abs() < 1e-6 && (at(0.9).1 - 0.25f32.ln()).abs() < 1e-6);
        // At temperature 1/2 the ratios are squared: 4 : 1 : 1.
        let (id, log_probability) = choose(&logits, sampled(0.5), 0.66).unwrap();
        assert!(id == 0 && (log_probability - (4f32 / 6.0).ln()).abs() < 1e-6);
    }

    #[test]
    fn greed_takes_the_first_of_the_greatest() {
        let (id, log_probability) = choose(&[0.0, 3.0, 3.0, NEVER], Choice::Greedy, 0.99).unwrap();
        assert_eq!(id, 1);
        let expected = -(2.0 + (-3f32).exp()).ln();
        assert!((log_probability - expected).abs() < 1e-6);
        assert_eq!(choose(&[NEVER, -7.0, NEVER], Choice::Greedy, 0.0).unwrap(), (1, 0.0), "a forced token is certain");
    }

    #[test]
    fn what_cannot_be_chosen_from_is_an_error() {
        let error = |logits: &[f32], choice| choose(logits, choice, 0.5).unwrap_err().to_string();
        assert!(error(&[], Choice::Greedy).contains("constraint allows"));
        assert!(error(&[NEVER; 3], sampled(1.0)).contains("constraint allows"));
        assert!(error(&[1.0, f32::NAN], Choice::Greedy).contains("NaN"));
        assert!(error(&[1.0, f32::INFINITY], sampled(1.0)).contains("inf"));
        for temperature in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(error(&[1.0], sampled(temperature)).contains("temperature"));
        }
    }

    fn logits() -> impl Strategy<Value = Vec<f32>> {
        let logit = prop_oneof![3 => -40f32..40.0, 1 => Just(NEVER), 1 => Just(f32::MAX), 1 => Just(f32::MIN)];
        prop::collection::vec(logit, 1..12)
    }

    proptest! {
        #[test]
        fn only_what_is_allowed_is_chosen_and_never_for_more_than_certain(
            logits in logits(), temperature in 1e-6f32..1e6, draw in 0f64..1.0,
        ) {
            prop_assume!(logits.iter().any(|z| z.is_finite()));
            for choice in [Choice::Greedy, sampled(temperature)] {
                let (id, log_probability) = choose(&logits, choice, draw).unwrap();
                prop_assert!(logits[id as usize].is_finite());
                prop_assert!(log_probability <= 0.0 && log_probability.is_finite());
            }
        }

        #[test]
        fn probabilities_of_all_draws_sum_to_one(logits in prop::collection::vec(-4f32..4.0, 1..8), tau in 0.2f32..4.0) {
            const DRAWS: usize = 4000;
            let mut times = vec![0usize; logits.len()];
            let mut probability = vec![0f64; logits.len()];
            for i in 0..DRAWS {
                let (id, log_probability) = choose(&logits, sampled(tau), (i as f64 + 0.5) / DRAWS as f64).unwrap();
                times[id as usize] += 1;
                probability[id as usize] = f64::from(log_probability).exp();
            }
            for (&times, &probability) in times.iter().zip(&probability) {
                // Evenly spread draws hit a part as often as it is wide.
                prop_assert!((times as f64 / DRAWS as f64 - probability).abs() < 1e-3);
            }
        }

        #[test]
        fn cold_sampling_is_greed(logits in prop::collection::vec(-4f32..4.0, 1..8), draw in 0f64..1.0) {
            let (greedy, _) = choose(&logits, Choice::Greedy, draw).unwrap();
            let (cold, _) = choose(&logits, sampled(1e-9), draw).unwrap();
            prop_assert_eq!(logits[greedy as usize], logits[cold as usize]);
        }

        #[test]
        fn a_shift_of_all_logits_changes_nothing(logits in prop::collection::vec(-4f32..4.0, 1..8), draw in 0f64..1.0) {
            // Whole numbers of a power of two, so that the shift is exact.
            let logits: Vec<f32> = logits.iter().map(|z| (z * 64.0).round() / 64.0).collect();
            let shifted: Vec<f32> = logits.iter().map(|z| z + 128.0).collect();
            prop_assert_eq!(
                choose(&logits, sampled(0.7), draw).unwrap(),
                choose(&shifted, sampled(0.7), draw).unwrap()
            );
        }
    }
}
