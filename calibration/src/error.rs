//! What can go wrong in calibration.

use thiserror::Error;

/// Errors of calibration.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// Too few records to say anything.
    #[error(
        "fitting {what}: expected at least {expected} {kind} records, got {got}; evaluate a larger tuning set with --records"
    )]
    TooFew {
        /// What was to be fitted.
        what: &'static str,
        /// Which records are missing.
        kind: &'static str,
        /// How many are needed.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// A set that must stay unseen was given.
    #[error("records of the set `{set}` test the model and may not set its thresholds; use a tuning set")]
    TestSet {
        /// Its name.
        set: String,
    },
    /// The fit did not settle on finite numbers.
    #[error("fitting the presence logistic: expected finite weights, got {got:?}")]
    Diverged {
        /// The weights and the bias.
        got: [f64; 4],
    },
    /// The thresholds do not pass the drone's own checks.
    #[error("fitted thresholds: {0}")]
    Refused(#[from] kestrel_link::LinkError),
}
