//! The table that ships: thresholds with the promise they keep, the data it rests on and the graphs it is of.

use kestrel_link::Thresholds;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::confidence::needed;
use crate::measure::Measured;
use crate::promise::{Calibrated, Claim, Cost, Promise};
use crate::questions::{Source, Unit};
use crate::resplit::Resplits;
use crate::{Batch, CalibrationError};

/// The format written and read here.
pub const FORMAT: u32 = 1;
/// Longest table, in bytes.
pub const MAX_TABLE_BYTES: usize = 256 * 1024;
/// Most strata of a table.
const MOST_CLAIMS: usize = 64;

/// A calibration, readable by machines; it stands in a bundle as `calibration.json` and under `calibration/tables`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// [`FORMAT`].
    pub format: u32,
    /// The model, `name@version`.
    pub model: String,
    /// What the drone reads; names the hash of the graphs, the seed and the day.
    pub thresholds: Thresholds,
    /// Greatest risk promised.
    pub alpha: f64,
    /// Greatest risk promised of each stratum, where it is greater than the mixture's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stratum_alpha: Option<f64>,
    /// One less the confidence.
    pub delta: f64,
    /// What one scene's loss is.
    pub unit: Unit,
    /// The records that it rests on.
    pub sources: Vec<Source>,
    /// The records of the fit, where they are others.
    pub fitting: Vec<Source>,
    /// All promised strata together.
    pub mixture: Claim,
    /// The promised strata.
    pub strata: Vec<Claim>,
    /// Measured and not promised.
    pub reported: Vec<Claim>,
    /// What it costs, and how true the probability is.
    pub measured: Measured,
    /// What other risks would cost.
    pub costs: Vec<Cost>,
    /// What re-splits found, where they were made.
    pub resplits: Option<Resplits>,
}

impl Table {
    /// The table of a calibration for the graphs of `model_hash`.
    ///
    /// # Errors
    /// When the thresholds do not pass the drone's own checks, or the calibration does not keep what it should promise.
    pub fn of(
        calibrated: &Calibrated,
        promise: &Promise,
        (batches, fitting): (&[Batch], &[Batch]),
        (model, model_hash): (&str, &str),
        date: &str,
    ) -> Result<Self, CalibrationError> {
        let sources = |batches: &[Batch]| batches.iter().map(|(source, _)| source.clone()).collect::<Vec<Source>>();
        let table = Self {
            format: FORMAT,
            model: model.to_owned(),
            thresholds: calibrated.thresholds(promise, model_hash, date)?,
            alpha: promise.alpha,
            stratum_alpha: promise.stratum_alpha,
            delta: promise.delta,
            unit: promise.unit,
            sources: sources(batches),
            fitting: sources(fitting),
            mixture: calibrated.mixture.clone(),
            strata: calibrated.strata.clone(),
            reported: calibrated.reported.clone(),
            measured: calibrated.measured.clone(),
            costs: calibrated.costs.clone(),
            resplits: None,
        };
        table.validate()?;
        Ok(table)
    }

    /// Reads and checks a table.
    ///
    /// # Errors
    /// When it is too long, not this JSON, or says what cannot be.
    pub fn from_json(bytes: &[u8]) -> Result<Self, CalibrationError> {
        let table: Self = parsed(bytes, MAX_TABLE_BYTES, "a table as `ground calibrate` writes it")?;
        table.validate()?;
        Ok(table)
    }

    /// The table as pretty JSON with a final newline.
    ///
    /// # Errors
    /// When a number is not finite.
    pub fn to_json(&self) -> Result<String, CalibrationError> {
        self.validate()?;
        pretty(self)
    }

    /// Checks that the table can be what it says: every promised bound within α, on enough scenes.
    ///
    /// # Errors
    /// Names the field, what was expected and what it says.
    pub fn validate(&self) -> Result<(), CalibrationError> {
        if self.format != FORMAT {
            return Err(wrong("format", FORMAT, self.format));
        }
        if self.model.is_empty() || self.model.len() > 129 {
            return Err(wrong("model", "1 to 129 bytes", self.model.len()));
        }
        self.thresholds.validate()?;
        let of_stratum = self.stratum_alpha.unwrap_or(self.alpha);
        for (field, value) in [("alpha", self.alpha), ("stratum_alpha", of_stratum), ("delta", self.delta)] {
            if !(value > 0.0 && value < 1.0) {
                return Err(wrong(field, "a share between 0 and 1", value));
            }
        }
        if of_stratum < self.alpha {
            return Err(wrong("stratum_alpha", format!("at least alpha, {}", self.alpha), of_stratum));
        }
        let lists = [self.strata.len(), self.reported.len(), self.costs.len(), self.sources.len() + self.fitting.len()];
        if self.strata.is_empty() || lists.iter().any(|length| *length > MOST_CLAIMS) {
            return Err(wrong("lists", format!("1 to {MOST_CLAIMS} strata and no longer list"), format!("{lists:?}")));
        }
        for claim in self.strata.iter().chain(&self.reported).chain([&self.mixture]) {
            claim.check()?;
        }
        let level = self.delta / (self.strata.len() + 1) as f64;
        let least = |alpha: f64| needed(alpha, level);
        self.strata.iter().try_for_each(|claim| claim.check_within(of_stratum, least(of_stratum)))?;
        self.mixture.check_within(self.alpha, least(self.alpha))
    }

    /// Refuses a table of other graphs than those of `model_hash`.
    ///
    /// # Errors
    /// Names both hashes.
    pub fn check_model(&self, model_hash: &str) -> Result<(), CalibrationError> {
        if self.thresholds.model_hash == model_hash {
            return Ok(());
        }
        let (expected, got) = (model_hash.to_owned(), self.thresholds.model_hash.clone());
        Err(CalibrationError::OtherModel { expected, got })
    }
}

impl Claim {
    /// Whether it keeps a promise of `alpha`, for which the table needs `least` scenes whatever the claim says it needs.
    pub(crate) fn check_within(&self, alpha: f64, least: usize) -> Result<(), CalibrationError> {
        if self.upper > alpha + 1e-9 {
            return Err(wrong(&format!("upper of {}", self.name), format!("at most {alpha}"), self.upper));
        }
        let least = least.max(self.needed);
        if self.scenes < least {
            return Err(wrong(&format!("scenes of {}", self.name), format!("at least {least}"), self.scenes));
        }
        Ok(())
    }

    /// Whether it can be.
    pub(crate) fn check(&self) -> Result<(), CalibrationError> {
        for (field, value) in [("risk", self.risk), ("upper", self.upper)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(wrong(&format!("{field} of {}", self.name), "a share", value));
            }
        }
        if self.risk > self.upper + 1e-9 {
            return Err(wrong(
                &format!("upper of {}", self.name),
                format!("at least its risk {}", self.risk),
                self.upper,
            ));
        }
        if self.questions < self.scenes {
            return Err(wrong(&format!("questions of {}", self.name), "one a scene at least", self.questions));
        }
        Ok(())
    }
}

/// Hostile values must not fill logs.
pub(crate) fn wrong(field: &str, expected: impl ToString, got: impl ToString) -> CalibrationError {
    let short = |text: String| -> String { text.chars().take(200).collect() };
    let (expected, got) = (short(expected.to_string()), short(got.to_string()));
    CalibrationError::Table { field: short(field.to_owned()), expected, got }
}

/// A table of a file that is not too long, yet to be checked.
pub(crate) fn parsed<T: DeserializeOwned>(bytes: &[u8], most: usize, expected: &str) -> Result<T, CalibrationError> {
    if bytes.len() > most {
        return Err(wrong("the file", format!("at most {most} bytes"), bytes.len()));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let why: String = error.to_string().chars().take(200).collect();
        wrong("the file", expected, why)
    })
}

/// A table as a file, with a final newline.
pub(crate) fn pretty<T: Serialize>(table: &T) -> Result<String, CalibrationError> {
    let text = serde_json::to_string_pretty(table).map_err(|error| wrong("the table", "finite numbers", error))?;
    Ok(text + "\n")
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
