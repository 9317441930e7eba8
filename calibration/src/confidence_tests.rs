use super::*;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[test]
fn known_values() {
    assert!((binomial_tail(2, 10, 0.3) - 0.382_782_79).abs() < 1e-7);
    assert!((binomial_tail(0, 59, 0.05) - 0.95f64.powi(59)).abs() < 1e-12);
    assert_eq!((binomial_tail(5, 5, 0.4), binomial_tail(0, 5, 0.0), binomial_tail(4, 5, 1.0)), (1.0, 1.0, 0.0));
    // Clopper–Pearson, one-sided 95 %: no failure in 59 is just under 5 %, one in 93 too.
    assert_eq!((needed(0.05, 0.05), needed(0.1, 0.05), needed(0.05, 0.05 / 12.0)), (59, 29, 107));
    assert!(upper_bound(0.0, 59, 0.05, Losses::Binary) <= 0.05);
    assert!(upper_bound(0.0, 58, 0.05, Losses::Binary) > 0.05);
    assert!((upper_bound(1.0, 93, 0.05, Losses::Binary) - 0.05).abs() < 1e-3);
    // Without a failure Hoeffding's bound is the exact one.
    let (exact, bounded) = (upper_bound(0.0, 80, 0.1, Losses::Binary), upper_bound(0.0, 80, 0.1, Losses::Bounded));
    assert!((exact - bounded).abs() < 1e-9, "{exact} {bounded}");
}

#[test]
fn nothing_seen_bounds_nothing() {
    for losses in [Losses::Binary, Losses::Bounded] {
        assert_eq!((upper_bound(0.0, 0, 0.05, losses), p_value(0.0, 0, 0.5, losses)), (1.0, 1.0));
        assert_eq!(upper_bound(7.0, 7, 0.05, losses), 1.0);
    }
    for (alpha, delta) in [(0.0, 0.1), (1.0, 0.1), (0.1, 0.0), (f64::NAN, 0.1), (0.1, f64::NAN)] {
        assert_eq!(needed(alpha, delta), usize::MAX, "{alpha} {delta}");
    }
}

/// What would break: a bound that promises more than it keeps. Binary losses, and means of two questions that hang together.
#[test]
fn bounds_hold_in_all_but_delta_of_simulated_trials() {
    const TRIALS: usize = 2000;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (risk, n, delta) in [(0.05, 120, 0.05), (0.05, 400, 0.1), (0.2, 60, 0.02), (0.01, 300, 0.05)] {
        for losses in [Losses::Binary, Losses::Bounded] {
            let mut broken = 0;
            for _ in 0..TRIALS {
                let sum: f64 = (0..n)
                    .map(|_| match losses {
                        Losses::Binary => f64::from(rng.random_bool(risk)),
                        // Half the failures are of one question in two: the mean is still `risk`.
                        Losses::Bounded if rng.random_bool(0.5) => f64::from(rng.random_bool(risk)),
                        Losses::Bounded => {
                            0.5 * f64::from(rng.random_bool(risk)) + 0.5 * f64::from(rng.random_bool(risk))
                        }
                    })
                    .sum();
                broken += usize::from(upper_bound(sum, n, delta, losses) < risk);
            }
            let slack = 3.0 * (delta * (1.0 - delta) / TRIALS as f64).sqrt();
            let share = broken as f64 / TRIALS as f64;
            assert!(share <= delta + slack, "risk {risk}, n {n}, δ {delta}, {losses:?}: broken in {share}");
        }
    }
}

fn kinds() -> impl Strategy<Value = Losses> {
    prop_oneof![Just(Losses::Binary), Just(Losses::Bounded)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_bound_lies_above_the_mean_and_follows_its_arguments(
        failures in 0usize..60, n in 60usize..400, delta in 0.001f64..0.5, losses in kinds(),
    ) {
        let sum = failures as f64;
        let bound = upper_bound(sum, n, delta, losses);
        prop_assert!(bound >= sum / n as f64 && bound <= 1.0);
        // More failures, less data at the same mean or more confidence: never a smaller bound.
        prop_assert!(upper_bound(sum + 1.0, n, delta, losses) >= bound - 1e-9);
        prop_assert!(upper_bound(sum, n, delta / 2.0, losses) >= bound - 1e-9);
        prop_assert!(upper_bound(2.0 * sum, 2 * n, delta, losses) <= bound + 1e-9);
        prop_assert!(upper_bound(sum, n, delta, Losses::Bounded) >= upper_bound(sum, n, delta, Losses::Binary) - 1e-9);
    }

    #[test]
    fn what_is_needed_is_enough_and_no_more(alpha in 0.005f64..0.6, delta in 0.001f64..0.5) {
        let n = needed(alpha, delta);
        prop_assert!(p_value(0.0, n, alpha, Losses::Bounded) <= delta + 1e-12);
        prop_assert!(n == 0 || n == 1 || p_value(0.0, n - 1, alpha, Losses::Binary) > delta);
        prop_assert!(needed(alpha / 2.0, delta) >= n && needed(alpha, delta / 2.0) >= n);
    }
}
