//! What was seen of a tensor: magnitudes, counted.

use serde::{Deserialize, Serialize};

use super::rounding::Rounding;
use crate::error::{Error, Result};

/// Counted magnitudes: even, so that pairs can be joined when the range doubles.
const BINS: usize = 2048;

/// How the largest magnitude that is kept is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The largest that was seen.
    MinMax,
    /// The magnitude under which this percentage of all values lies.
    Percentile(f64),
    /// Of the two, for each tensor, the one with the smaller mean squared error.
    LeastError(f64),
}

/// Magnitudes of a tensor's values, with extremes. What it holds does not depend on the order of the values.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Smallest value.
    pub min: f32,
    /// Largest value.
    pub max: f32,
    /// Values, zeros included.
    pub values: u64,
    zeros: u64,
    /// Upper end of the last bin: a power of two.
    range: f32,
    bins: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { min: f32::INFINITY, max: f32::NEG_INFINITY, values: 0, zeros: 0, range: 0.0, bins: vec![0; BINS] }
    }
}

impl Histogram {
    /// Counts values; `place` names them in errors.
    ///
    /// # Errors
    /// When one is not finite; then nothing of them is counted.
    pub fn add(&mut self, place: &str, values: &[f32]) -> Result<()> {
        let (mut min, mut max, mut broken) = (self.min, self.max, false);
        for &value in values {
            broken |= !value.is_finite();
            min = min.min(value);
            max = max.max(value);
        }
        if broken {
            let count = values.iter().filter(|value| !value.is_finite()).count();
            return Err(Error::Format {
                path: place.to_owned(),
                expected: "finite activations".into(),
                got: format!("{count} of {} that are not", values.len()),
            });
        }
        (self.min, self.max) = (min, max);
        self.widen(self.largest());
        let per_unit = if self.range > 0.0 { BINS as f32 / self.range } else { 0.0 };
        for &value in values {
            if value == 0.0 {
                self.zeros += 1;
            } else {
                self.bins[((value.abs() * per_unit) as usize).min(BINS - 1)] += 1;
            }
        }
        self.values += values.len() as u64;
        Ok(())
    }

    /// Largest magnitude, 0 when nothing was seen.
    pub fn largest(&self) -> f32 {
        if self.min > self.max { 0.0 } else { self.max.max(-self.min) }
    }

    /// Whether no value was negative.
    pub fn is_never_negative(&self) -> bool {
        self.min >= 0.0
    }

    /// Doubles the range until it holds `largest`.
    fn widen(&mut self, largest: f32) {
        if largest == 0.0 {
            return;
        }
        if self.range == 0.0 {
            self.range = power_above(largest);
        }
        while self.range < largest && self.range < f32::MAX / 2.0 {
            for at in 0..BINS / 2 {
                self.bins[at] = self.bins[2 * at] + self.bins[2 * at + 1];
            }
            self.bins[BINS / 2..].fill(0);
            self.range *= 2.0;
        }
    }

    /// The magnitude under which `percent` of all values lie, at most the largest; the upper end of its bin.
    pub fn percentile(&self, percent: f64) -> f32 {
        let wanted = (percent / 100.0).clamp(0.0, 1.0) * self.values as f64;
        let mut below = self.zeros as f64;
        for (at, count) in self.bins.iter().enumerate() {
            below += *count as f64;
            if *count > 0 && below >= wanted {
                return ((at + 1) as f32 * self.range / BINS as f32).min(self.largest());
            }
        }
        self.largest()
    }

    /// Mean squared error of a rounding over all values, which are taken to lie evenly within their bins; zeros err never.
    pub fn error(&self, rounding: &Rounding) -> f64 {
        let (scale, high) = (f64::from(rounding.scale), f64::from(rounding.codes().1));
        let width = f64::from(self.range) / BINS as f64;
        if width == 0.0 {
            return 0.0;
        }
        let up_to = |bin: usize| summed_error(bin as f64 * width, scale, high);
        let counted = self.bins.iter().enumerate().filter(|(_, count)| **count > 0);
        let sum: f64 = counted.map(|(at, count)| *count as f64 * (up_to(at + 1) - up_to(at)) / width).sum();
        sum / self.values.max(1) as f64
    }

    /// The rounding that a method chooses. `unsigned` codes are used where no value was negative.
    ///
    /// # Errors
    /// When nothing was seen, or a percentage is not within 0..=100.
    pub fn rounding(&self, method: Method, unsigned: bool) -> Result<Rounding> {
        if self.values == 0 {
            return Err(request("at least one value", "none"));
        }
        let unsigned = unsigned && self.is_never_negative();
        let at = |percent: f64| match percent > 0.0 && percent <= 100.0 {
            true => Rounding::reaching(self.percentile(percent), unsigned),
            false => Err(request("a percentile above 0 and up to 100", percent)),
        };
        let whole = Rounding::reaching(self.largest(), unsigned)?;
        match method {
            Method::MinMax => Ok(whole),
            Method::Percentile(percent) => at(percent),
            Method::LeastError(percent) => {
                let cut = at(percent)?;
                Ok(if self.error(&cut) < self.error(&whole) { cut } else { whole })
            }
        }
    }
}

fn request(expected: &str, got: impl ToString) -> Error {
    Error::Request { operation: "choose a range", expected: expected.to_owned(), got: got.to_string() }
}

/// Squared errors of all magnitudes from 0 to `x`: the integral of `(t − round(t))²`, whose last code is `high`.
///
/// Up to the code k that is a twelfth of the step cubed for each step, and a third of the distance cubed from there. So a
/// magnitude that is rounded to zero errs by itself, however long the step, and one beyond the last code by its distance.
fn summed_error(x: f64, scale: f64, high: f64) -> f64 {
    let code = (x / scale).round().min(high);
    let beside = x - code * scale;
    code * scale.powi(3) / 12.0 + beside.powi(3) / 3.0
}

/// The least power of two that is not below a positive number.
fn power_above(x: f32) -> f32 {
    let mut power = 1.0_f32;
    while power < x && power < f32::MAX / 2.0 {
        power *= 2.0;
    }
    while power * 0.5 >= x && power > f32::MIN_POSITIVE * 2.0 {
        power *= 0.5;
    }
    power
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn of(parts: &[&[f32]]) -> Histogram {
        let mut histogram = Histogram::default();
        for part in parts {
            histogram.add("x", part).unwrap();
        }
        histogram
    }

    #[test]
    fn extremes_and_counts_are_those_of_the_values() {
        let seen = of(&[&[0.5, -3.0, 0.0], &[1.25]]);
        assert_eq!((seen.min, seen.max, seen.values, seen.zeros), (-3.0, 1.25, 4, 1));
        assert_eq!(seen.largest(), 3.0);
        assert_eq!(seen.percentile(100.0), 3.0);
        assert!(!seen.is_never_negative() && of(&[&[0.0, 2.0]]).is_never_negative());
    }

    proptest! {
        #[test]
        fn the_order_of_values_changes_nothing(
            values in prop::collection::vec(-40.0_f32..40.0, 1..200),
            cut in 0usize..200,
        ) {
            let cut = cut.min(values.len());
            let (a, b) = values.split_at(cut);
            prop_assert_eq!(of(&[&values]), of(&[b, a]));
        }

        #[test]
        fn percentiles_rise_and_leave_so_many_above(
            values in prop::collection::vec(-8.0_f32..8.0, 50..400),
            percent in 10.0_f64..99.0,
        ) {
            let seen = of(&[&values]);
            let cut = seen.percentile(percent);
            prop_assert!(cut <= seen.percentile(percent + 1.0) && cut <= seen.largest());
            let above = values.iter().filter(|v| v.abs() > cut).count() as f64;
            prop_assert!(above <= (1.0 - percent / 100.0) * values.len() as f64);
        }

        #[test]
        fn the_error_is_that_of_the_values_but_for_their_place_in_a_bin(
            values in prop::collection::vec(0.0_f32..1.0, 50..400),
            power in 1i32..6,
            percent in 50.0_f64..=100.0,
            unsigned in any::<bool>(),
        ) {
            // The higher the power, the more values lie far below the largest.
            let values: Vec<f32> = values.iter().map(|value| 8.0 * value.powi(power)).collect();
            let seen = of(&[&values]);
            let rounding = seen.rounding(Method::Percentile(percent), unsigned).unwrap();
            let (width, high) = (f64::from(seen.range) / BINS as f64, f64::from(rounding.codes().1));
            let scale = f64::from(rounding.scale);
            // Along a bin a squared error changes by twice its root at most.
            let moves = |x: &f32| scale.max(2.0 * (f64::from(*x) + width - high * scale)) * width;
            let most = values.iter().map(moves).sum::<f64>() / values.len() as f64;
            let apart = (seen.error(&rounding) - direct(&values, &rounding)).abs();
            prop_assert!(apart <= most * 1.001 + 1e-9, "{apart} of at most {most}");
        }
    }

    /// The mean squared error, value by value.
    fn direct(values: &[f32], rounding: &Rounding) -> f64 {
        values.iter().map(|x| f64::from(x - rounding.round(*x)).powi(2)).sum::<f64>() / values.len() as f64
    }

    /// What would break: a long step that is said to err by a twelfth of its square on values that it takes to zero, and a
    /// tail that is then cut though that errs more.
    #[test]
    fn what_a_long_step_takes_to_zero_errs_by_itself_alone() {
        // Four bins on either side of zero evenly filled, and one value far out.
        let mut values: Vec<f32> = (0..250_000).map(|i| (i as f32 + 0.5) * 1e-6 - 0.125).collect();
        values.push(40.0);
        let seen = of(&[&values]);
        let whole = seen.rounding(Method::MinMax, false).unwrap();
        let cut = seen.rounding(Method::Percentile(99.99), false).unwrap();
        assert!(whole.scale > 0.3 && cut.scale < 0.002, "{whole:?} {cut:?}");
        for rounding in [&whole, &cut] {
            let (told, right) = (seen.error(rounding), direct(&values, rounding));
            assert!((told / right - 1.0).abs() < 0.01, "{rounding:?}: {told} is told and {right} is right");
        }
        assert_eq!(seen.rounding(Method::LeastError(99.99), false).unwrap(), whole, "0.0052 against 0.0064");
    }

    #[test]
    fn one_value_far_out_is_cut_only_where_that_errs_less() {
        let mut values: Vec<f32> = (0..400_000).map(|i| (i % 200) as f32 / 100.0 - 1.0).collect();
        values.push(40.0);
        let seen = of(&[&values]);
        let whole = seen.rounding(Method::MinMax, false).unwrap();
        let least = seen.rounding(Method::LeastError(99.99), false).unwrap();
        assert!((whole.scale - 40.0 / 127.0).abs() < 1e-5);
        assert!(least.scale < 0.01, "{least:?}");
        assert_eq!(least, seen.rounding(Method::Percentile(99.99), false).unwrap());
        // Without it there is nothing to gain.
        values.pop();
        let plain = of(&[&values]);
        let least = plain.rounding(Method::LeastError(50.0), false).unwrap();
        assert_eq!(least, plain.rounding(Method::MinMax, false).unwrap());
    }

    #[test]
    fn hostile_values_are_refused_and_leave_no_trace() {
        let mut seen = of(&[&[1.0, 2.0]]);
        let before = seen.clone();
        for broken in [f32::NAN, f32::INFINITY] {
            let error = seen.add("trunk.stem", &[3.0, broken]).unwrap_err().to_string();
            assert!(error.contains("trunk.stem") && error.contains("1 of 2"), "{error}");
        }
        assert_eq!(seen, before);
        assert!(Histogram::default().rounding(Method::MinMax, false).is_err());
        assert!(seen.rounding(Method::Percentile(0.0), false).is_err());
        assert!(seen.rounding(Method::Percentile(f64::NAN), false).is_err());
        let zeros = of(&[&[0.0; 9]]);
        assert_eq!(zeros.rounding(Method::LeastError(99.9), false).unwrap().round(0.0), 0.0);
        assert!(of(&[&[f32::MAX, 1e-38]]).percentile(60.0).is_finite());
    }

    #[test]
    fn unsigned_codes_are_for_what_is_never_negative() {
        assert!(of(&[&[0.0, 6.0]]).rounding(Method::MinMax, true).unwrap().unsigned);
        assert!(!of(&[&[-0.1, 6.0]]).rounding(Method::MinMax, true).unwrap().unsigned);
    }
}
