//! Whether a promise is kept: calibrated on half of the scenes, measured on the other half, many times.
//!
//! The measured risk of a half is itself a sample: a bound that holds for the risk is broken by a half's mean now and then.
//! Where scores are smooth, the chance is about that of a normal variable to exceed `z(1 − δ/(strata + 1)) / √2`.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::CalibrationError;
use crate::measure;
use crate::promise::{Batch, Promise, Risks, Strata, choose};
use crate::questions::{Judge, Question, Questions};

/// What came of all re-splits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resplits {
    /// How many.
    pub count: usize,
    /// Those in which some threshold kept the bound; in the others everything is refused, and nothing hallucinated.
    pub promised: usize,
    /// By stratum, and `mixture`: what the other halves measured.
    pub strata: BTreeMap<String, Kept>,
    /// Clear present targets refused in the other halves: mean over all re-splits; without a threshold all are refused.
    pub false_refusals: Option<f64>,
}

/// How a stratum's risk came out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Whether the stratum was promised; otherwise it was only measured.
    pub promised: bool,
    /// Re-splits in which the other half held such questions.
    pub measured: usize,
    /// Share of them with a measured risk of at most what is promised of the mixture, or of a stratum.
    pub within: f64,
    /// Mean measured risk.
    pub mean: f64,
    /// Greatest measured risk.
    pub greatest: f64,
}

/// Sums of one stratum.
#[derive(Default)]
struct Sums {
    promised: bool,
    measured: usize,
    within: usize,
    sum: f64,
    greatest: f64,
}

/// Splits the scenes in two `count` times; `tell` hears how many are done.
///
/// # Errors
/// As [`calibrate`](crate::calibrate), of a half of the scenes; except that a half without a threshold counts as silent.
pub fn resplits(
    batches: &[Batch],
    fitting: &[Batch],
    promise: &Promise,
    count: usize,
    tell: &mut dyn FnMut(usize),
) -> Result<Resplits, CalibrationError> {
    promise.validate()?;
    let (questions, others) = Questions::both(batches, fitting)?;
    let mut order: Vec<usize> = (0..questions.scenes.len()).collect();
    let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
    let (mut promised, mut refused, mut clear) = (0, 0.0, 0_usize);
    for number in 0..count {
        // The fit inside a half has a split of its own, from the same seed.
        let seed = promise.seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
        let promise = Promise { seed, ..promise.clone() };
        order.sort_unstable();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ 0x5eed));
        let mut keep = vec![false; order.len()];
        order[..order.len().div_ceil(2)].iter().for_each(|scene| keep[*scene] = true);
        let rest: Vec<bool> = keep.iter().map(|kept| !kept).collect();
        let held: Vec<Question<'_>> = questions.all.iter().copied().filter(|q| rest[q.scene]).collect();
        match choose(&questions, &others, &keep, &promise) {
            Ok(chosen) => {
                promised += 1;
                let judge = Judge::of(&chosen.fitted);
                let strata = Strata::of(&questions, &rest, &judge, &promise);
                note(&mut sums, &strata, Some(chosen.threshold), promise.risks());
                if let Some(share) = measure::refused(&held, &judge, chosen.threshold, true) {
                    refused += share;
                    clear += 1;
                }
            }
            Err(CalibrationError::NoThreshold { .. }) => {
                // Nothing is shown, so any judge will do.
                let judge = Judge::silent();
                note(&mut sums, &Strata::of(&questions, &rest, &judge, &promise), None, promise.risks());
                if held.iter().any(Question::clear) {
                    refused += 1.0;
                    clear += 1;
                }
            }
            Err(error) => return Err(error),
        }
        tell(number + 1);
    }
    let strata = sums.into_iter().map(|(name, sums)| (name, sums.kept())).collect();
    let false_refusals = (clear > 0).then(|| refused / clear as f64);
    Ok(Resplits { count, promised, strata, false_refusals })
}

/// Adds one half's risks.
fn note(sums: &mut BTreeMap<String, Sums>, strata: &Strata, threshold: Option<f32>, risks: Risks) {
    let promised = strata.bounded(risks).map(|(curve, alpha)| (curve, alpha, true));
    for (curve, alpha, promised) in promised.chain(strata.reported.iter().map(|curve| (curve, risks.stratum, false))) {
        let entry = sums.entry(curve.name.clone()).or_default();
        entry.promised = promised;
        if curve.scenes == 0 {
            continue;
        }
        let risk = threshold.map_or(0.0, |threshold| curve.sum_at(threshold) / curve.scenes as f64);
        entry.measured += 1;
        // A risk of exactly that, in sums of fractions.
        entry.within += usize::from(risk <= alpha + 1e-9);
        entry.sum += risk;
        entry.greatest = entry.greatest.max(risk);
    }
}

impl Sums {
    fn kept(&self) -> Kept {
        let n = self.measured.max(1) as f64;
        Kept {
            promised: self.promised,
            measured: self.measured,
            within: self.within as f64 / n,
            mean: self.sum / n,
            greatest: self.greatest,
        }
    }
}
