//! Bounds of observed shares.

use serde::{Deserialize, Serialize};

/// 97.5th percentile of the normal distribution.
const Z: f64 = 1.959_963_985;

/// An observed share with its 95 % interval: Wilson's, or resampled by scene where it says so.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Observed share; 0 of nothing is not a number.
    pub value: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
    /// Of how many.
    pub n: usize,
}

/// Wilson's score interval (1927) of `hits` out of `n`: honest for few records and for shares near 0 and 1.
pub fn wilson(hits: usize, n: usize) -> Share {
    if n == 0 {
        return Share { value: f64::NAN, low: 0.0, high: 1.0, n };
    }
    let (count, share) = (n as f64, hits as f64 / n as f64);
    let below = 1.0 + Z * Z / count;
    let centre = (share + Z * Z / (2.0 * count)) / below;
    let half = Z * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt() / below;
    Share { value: share, low: (centre - half).max(0.0), high: (centre + half).min(1.0), n }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        let share = wilson(8, 10);
        assert!((share.low - 0.490_2).abs() < 1e-3 && (share.high - 0.943_3).abs() < 1e-3, "{share:?}");
        let none = wilson(0, 20);
        assert!(none.low == 0.0 && (none.high - 0.161_1).abs() < 1e-3, "no failure seen is not no failure: {none:?}");
        assert_eq!((wilson(0, 0).low, wilson(0, 0).high), (0.0, 1.0));
    }

    proptest! {
        #[test]
        fn bounds_hold_the_share_and_shrink(n in 1usize..500, seed in 0usize..500) {
            let hits = seed % (n + 1);
            let (few, many) = (wilson(hits, n), wilson(hits * 10, n * 10));
            prop_assert!(few.low <= few.value + 1e-12 && few.value <= few.high + 1e-12);
            prop_assert!(many.high - many.low < few.high - few.low);
        }
    }
}
