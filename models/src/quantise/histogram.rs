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

    /// Mean squared error of a rounding: a twelfth of the step squared within its reach, and the distance beyond.
    pub fn error(&self, rounding: &Rounding) -> f64 {
        let (scale, (_, high)) = (f64::from(rounding.scale), rounding.codes());
        let reach = f64::from(high) * scale;
        let width = f64::from(self.range) / BINS as f64;
        let within = scale * scale / 12.0;
        let of = |(at, count): (usize, &u64)| {
            let beyond = ((at as f64 + 0.5) * width - reach).max(0.0);
            *count as f64 * (within + beyond * beyond)
        };
        self.bins.iter().enumerate().map(of).sum::<f64>() / self.values.max(1) as f64
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
