//! From numbers to integers and back.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How the values of one tensor are rounded: `q = saturate(round(x / scale))`, `x' = q · scale`, ties to even, zero at
/// zero (source: ONNX QuantizeLinear-13 with zero point 0).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rounding {
    /// Distance of two neighbours.
    pub scale: f32,
    /// Codes 0..=255 instead of −128..=127, for a tensor that is never negative.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsigned: bool,
}

impl Rounding {
    /// The rounding that just reaches `largest`, the largest magnitude. A tensor of zeros has any scale: 1 is taken.
    ///
    /// # Errors
    /// When `largest` is negative or not finite.
    pub fn reaching(largest: f32, unsigned: bool) -> Result<Self> {
        let levels = if unsigned { 255.0 } else { 127.0 };
        Ok(Self { scale: step(largest, levels)?, unsigned })
    }

    /// The lowest and the highest code.
    pub fn codes(&self) -> (f32, f32) {
        if self.unsigned { (0.0, 255.0) } else { (-128.0, 127.0) }
    }

    /// The code of a value; what is beyond the range gets the last code.
    pub fn code(&self, x: f32) -> f32 {
        let (low, high) = self.codes();
        (x / self.scale).round_ties_even().clamp(low, high)
    }

    /// The nearest value that a code stands for.
    pub fn round(&self, x: f32) -> f32 {
        self.code(x) * self.scale
    }

    /// Whether a value lies within the codes, so that a gradient passes.
    pub fn reaches(&self, x: f32) -> bool {
        let (low, high) = self.codes();
        (low..=high).contains(&(x / self.scale))
    }
}

/// The distance of two codes when `levels` of them reach `largest`.
fn step(largest: f32, levels: f32) -> Result<f32> {
    if !(largest.is_finite() && largest >= 0.0) {
        return Err(Error::Request {
            operation: "quantise",
            expected: "a finite largest magnitude".into(),
            got: largest.to_string(),
        });
    }
    // A scale whose reciprocal is not finite would break a runtime that multiplies by it.
    Ok(if largest == 0.0 { 1.0 } else { (largest / levels).max(1e-30) })
}

/// A layer's kernel as integers, symmetric, with one scale for each output channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// One for each value, in its order.
    pub codes: Vec<i8>,
    /// One for each channel.
    pub scales: Vec<f32>,
}

/// Rounds a kernel. Value i belongs to the channel `i / inner % channels`; codes go from `−levels` to `levels`.
///
/// # Errors
/// When a value is not finite; `name` is the parameter's.
pub fn kernel(name: &str, values: &[f32], channels: usize, inner: usize, levels: i8) -> Result<Kernel> {
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(Error::Format {
            path: name.to_owned(),
            expected: "finite values to quantise".into(),
            got: value.to_string(),
        });
    }
    let channel = |i: usize| i / inner.max(1) % channels.max(1);
    let mut largest = vec![0f32; channels];
    for (i, value) in values.iter().enumerate() {
        let most = &mut largest[channel(i)];
        *most = most.max(value.abs());
    }
    let levels = f32::from(levels);
    let scales = largest.into_iter().map(|most| step(most, levels)).collect::<Result<Vec<_>>>()?;
    let code = |(i, value): (usize, &f32)| (value / scales[channel(i)]).round_ties_even().clamp(-levels, levels) as i8;
    let codes = values.iter().enumerate().map(code).collect();
    Ok(Kernel { codes, scales })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_within_the_range_moves_by_half_a_step_at_most(largest in 1e-6_f32..1e6, part in -1.0_f32..=1.0) {
            let rounding = Rounding::reaching(largest, false).unwrap();
            let x = largest * part;
            prop_assert!((rounding.round(x) - x).abs() <= rounding.scale * 0.5001);
            prop_assert!(rounding.reaches(x * 0.999));
        }

        #[test]
        fn signed_codes_are_symmetric(largest in 1e-6_f32..1e6, part in 0.0_f32..=1.0) {
            let rounding = Rounding::reaching(largest, false).unwrap();
            prop_assert_eq!(rounding.code(largest * part), -rounding.code(-largest * part));
            prop_assert_eq!(rounding.code(0.0), 0.0);
        }

        #[test]
        fn codes_keep_the_order(a in -1e4_f32..1e4, b in -1e4_f32..1e4, largest in 1e-3_f32..1e3, unsigned in any::<bool>()) {
            let rounding = Rounding::reaching(largest, unsigned).unwrap();
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(rounding.code(low) <= rounding.code(high));
        }

        #[test]
        fn what_is_beyond_gets_the_last_code(largest in 1e-3_f32..1e3, times in 1.5_f32..1e6, unsigned in any::<bool>()) {
            let rounding = Rounding::reaching(largest, unsigned).unwrap();
            let (low, high) = rounding.codes();
            prop_assert_eq!((rounding.code(-largest * times), rounding.code(largest * times)), (low, high));
            prop_assert!(!rounding.reaches(largest * times));
        }

        #[test]
        fn kernels_move_by_half_a_step_of_their_channel(
            values in prop::collection::vec(-3.0_f32..3.0, 24),
            order in 0usize..2,
        ) {
            // Three channels of eight values, outermost and innermost.
            let (channels, inner) = (3, [8, 1][order]);
            let rounded = kernel("w", &values, channels, inner, 127).unwrap();
            for (i, (code, value)) in rounded.codes.iter().zip(&values).enumerate() {
                let scale = rounded.scales[i / inner % channels];
                prop_assert!((f32::from(*code) * scale - value).abs() <= scale * 0.5001);
            }
            for channel in 0..channels {
                let own = |i: &usize| i / inner % channels == channel;
                let most = (0..24).filter(own).map(|i| rounded.codes[i].abs()).max();
                prop_assert_eq!(most, Some(127));
            }
        }
    }

    #[test]
    fn zeros_are_kept_and_what_is_no_number_is_refused() {
        let zeros = kernel("w", &[0.0; 4], 2, 2, 127).unwrap();
        assert_eq!((zeros.codes, zeros.scales), (vec![0; 4], vec![1.0; 2]));
        assert_eq!(Rounding::reaching(0.0, false).unwrap().round(0.0), 0.0);
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = kernel("a.weight", &[1.0, broken], 1, 2, 127).unwrap_err().to_string();
            assert!(error.contains("a.weight") && error.contains("finite"), "{error}");
            assert!(Rounding::reaching(broken, false).is_err());
        }
        assert!(Rounding::reaching(-1.0, false).is_err());
        // The smallest numbers there are.
        let tiny = Rounding::reaching(f32::MIN_POSITIVE, false).unwrap();
        assert!(tiny.scale > 0.0 && (1.0 / tiny.scale).is_finite());
    }

    #[test]
    fn seven_bits_stay_within_sixty_three() {
        let rounded = kernel("w", &[-2.0, 2.0, 0.5, 0.01], 1, 4, 63).unwrap();
        assert_eq!(rounded.codes, [-63, 63, 16, 0]);
    }
}
