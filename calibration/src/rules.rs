//! From records to thresholds, by rules that are stated before they are applied.

use kestrel_link::{Thresholds, thresholds::Presence};
use kestrel_training::metrics::{Kind, Record, iou};
use serde::Serialize;

use crate::logistic::{self, Logistic};
use crate::questions::refuse_test;
use crate::{CalibrationError, Share, wilson};

/// What is asked of the thresholds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Greatest share of present targets that may be refused on the tuning records.
    pub false_refusals: f64,
    /// Whether that counts clear views alone, so that what degraded ones hide does not move the threshold.
    pub clear_views_only: bool,
    /// Share of absent targets without a pixel that is enough: beyond it, fewer false refusals count more.
    pub enough_passes: f64,
    /// Greatest share of sensible questions of which a word may be doubted.
    pub false_doubts: f64,
    /// Fewest records with and without a target.
    pub least_records: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            false_refusals: 0.12,
            clear_views_only: false,
            enough_passes: 0.9,
            false_doubts: 0.01,
            least_records: 40,
        }
    }
}

/// Mask threshold where the records hold no sweep.
const MASK_THRESHOLD: f32 = 0.5;
/// Doubt threshold where no question was nonsense.
const DOUBT_THRESHOLD: f32 = 0.9;
/// Masks smaller than this, in pixels of the 512-pixel view, are noise.
pub(crate) const MIN_AREA_PIXELS: u32 = 8;

/// Fitted numbers and what they do on the records they were fitted on.
#[derive(Debug, Clone, Serialize)]
pub struct Fitted {
    /// Weights of none margin, object logit, predicted-IoU logit, then the bias.
    pub presence: [f64; 4],
    /// Least presence that is shown.
    pub presence_threshold: f64,
    /// Least probability of a mask's pixel.
    pub mask_threshold: f32,
    /// Least probability of doubt that refuses.
    pub doubt_threshold: f32,
    /// Present targets refused.
    pub false_refusals: Share,
    /// Absent targets without a pixel.
    pub passes: Share,
    /// Nonsense whose worst word is doubted.
    pub nonsense_found: Share,
    /// Sensible questions of which a word is doubted.
    pub false_doubts: Share,
    /// The sets of the records.
    pub sets: Vec<String>,
}

/// Fits by the default [`Rules`].
///
/// # Errors
/// When there are too few records or they come from a test set.
pub fn fit(records: &[Record]) -> Result<Fitted, CalibrationError> {
    fit_with(records, &Rules::default())
}

/// Fits by given rules.
///
/// # Errors
/// As [`fit`].
pub fn fit_with(records: &[Record], rules: &Rules) -> Result<Fitted, CalibrationError> {
    fit_of(&records.iter().collect::<Vec<_>>(), rules)
}

/// As [`fit_with`], of records that belong to someone else.
pub(crate) fn fit_of(records: &[&Record], rules: &Rules) -> Result<Fitted, CalibrationError> {
    // Records alone do not say of which seed they are: whoever knows it looks for frozen ones.
    records.iter().try_for_each(|record| refuse_test(&record.set, 1))?;
    // A frame that the gate refused reached no network: its features say nothing.
    let seen: Vec<&Record> = records
        .iter()
        .copied()
        .filter(|r| r.features != [0.0; 3] && r.features.iter().all(|f| f.is_finite()))
        .collect();
    let (there, missing) =
        (seen.iter().filter(|r| r.present()).count(), seen.iter().filter(|r| r.hard_negative()).count());
    for (kind, got) in [("present-target", there), ("absent-target", missing)] {
        if got < rules.least_records {
            return Err(CalibrationError::TooFew { what: "the presence", kind, expected: rules.least_records, got });
        }
    }
    let (doubt_threshold, nonsense_found, false_doubts) = doubt(&seen, rules);
    // What the words refuse already is no matter of presence.
    let understood: Vec<&Record> = seen.into_iter().filter(|r| sigmoid(r.doubt) < doubt_threshold).collect();
    let data: Vec<([f32; 3], bool)> =
        understood.iter().filter(|r| r.expected != Kind::NotUnderstood).map(|r| (r.features, r.present())).collect();
    let logistic = logistic::fit(&data)?;
    let threshold = presence_threshold(&understood, &logistic, rules);
    let shown = |r: &&&Record| logistic.probability(&r.features) >= threshold;
    let of = |keep: fn(&Record) -> bool| understood.iter().filter(move |r| keep(r));
    let (present, absent) = (of(Record::present).count(), of(Record::hard_negative).count());
    let mut sets: Vec<String> = records.iter().map(|r| r.set.clone()).collect();
    sets.sort();
    sets.dedup();
    Ok(Fitted {
        presence: [logistic.weights[0], logistic.weights[1], logistic.weights[2], logistic.bias],
        presence_threshold: threshold,
        mask_threshold: mask_threshold(&understood),
        doubt_threshold,
        false_refusals: wilson(present - of(Record::present).filter(shown).count(), present),
        passes: wilson(absent - of(Record::hard_negative).filter(shown).count(), absent),
        nonsense_found,
        false_doubts,
        sets,
    })
}

/// Among thresholds that keep false refusals within the rule: the lowest that passes enough absent targets, or else
/// the highest.
fn presence_threshold(records: &[&Record], logistic: &Logistic, rules: &Rules) -> f64 {
    let counts = |r: &Record| !rules.clear_views_only || r.degradation.is_none();
    let sorted = |keep: &dyn Fn(&Record) -> bool| {
        let mut values: Vec<f64> =
            records.iter().filter(|r| keep(r)).map(|r| logistic.probability(&r.features)).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (present, absent) = (sorted(&|r| r.present() && counts(r)), sorted(&Record::hard_negative));
    // Refusing the first `lost` present targets means a threshold at the next one.
    let lost = (rules.false_refusals * present.len() as f64).floor() as usize;
    let highest = present.get(lost).copied().unwrap_or(0.5);
    let passing = (rules.enough_passes * absent.len() as f64).ceil() as usize;
    // Just above the absent target that has to be refused last.
    let enough = match passing.checked_sub(1).and_then(|i| absent.get(i)) {
        Some(last) => last + 1e-6,
        None => 0.0,
    };
    // The drone computes in single precision: a target at the threshold itself must not fall below it.
    enough.min(highest - 1e-5).clamp(0.0, 1.0)
}

/// The threshold that doubts at most the allowed share of sensible questions.
fn doubt(records: &[&Record], rules: &Rules) -> (f32, Share, Share) {
    let of = |nonsense: bool| {
        records.iter().filter(move |r| (r.expected == Kind::NotUnderstood) == nonsense).map(|r| sigmoid(r.doubt))
    };
    let mut sensible: Vec<f32> = of(false).collect();
    sensible.sort_by(|a, b| b.total_cmp(a));
    let nonsense: Vec<f32> = of(true).collect();
    let threshold = if nonsense.is_empty() {
        DOUBT_THRESHOLD
    } else {
        let spared = (rules.false_doubts * sensible.len() as f64).floor() as usize;
        let worst = sensible.get(spared).copied().unwrap_or_default();
        (worst + 1e-4).clamp(0.5, 0.999)
    };
    let share = |values: &[f32]| wilson(values.iter().filter(|p| **p >= threshold).count(), values.len());
    (threshold, share(&nonsense), share(&sensible))
}

/// The threshold of the sweep with the best mean IoU over outlined present targets.
fn mask_threshold(records: &[&Record]) -> f32 {
    let outlined: Vec<&&Record> = records.iter().filter(|r| r.present() && !r.weak && !r.sweep.is_empty()).collect();
    let Some(first) = outlined.first() else { return MASK_THRESHOLD };
    let mean = |threshold: f32| -> f64 {
        let at = |r: &&&Record| {
            let swept = r.sweep.iter().find(|s| s.threshold == threshold);
            let shown = swept.filter(|s| s.predicted >= u64::from(MIN_AREA_PIXELS));
            shown.map_or(0.0, |s| iou(s.predicted, s.intersection, r.target))
        };
        outlined.iter().map(at).sum()
    };
    let candidates = first.sweep.iter().map(|s| (s.threshold, mean(s.threshold)));
    candidates.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(MASK_THRESHOLD, |best| best.0).clamp(0.05, 0.95)
}

pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

impl Fitted {
    /// The thresholds as the drone reads them, for the graphs of `model_hash`.
    ///
    /// # Errors
    /// When they do not pass the drone's own checks.
    pub fn thresholds(&self, model_hash: &str, seed: u64, date: &str) -> Result<Thresholds, CalibrationError> {
        let thresholds = Thresholds {
            model_hash: model_hash.to_owned(),
            presence: Presence { weights: [0, 1, 2].map(|k| self.presence[k] as f32), bias: self.presence[3] as f32 },
            presence_threshold: self.presence_threshold as f32,
            mask_threshold: self.mask_threshold,
            doubt_threshold: self.doubt_threshold,
            min_area_pixels: MIN_AREA_PIXELS,
            data: self.summary(),
            seed,
            date: date.to_owned(),
        };
        thresholds.validate()?;
        Ok(thresholds)
    }

    /// What they were fitted on and what they do there, in one line.
    pub fn summary(&self) -> String {
        let percent =
            |s: &Share| format!("{:.1} % ({:.1}–{:.1}, n {})", 100.0 * s.value, 100.0 * s.low, 100.0 * s.high, s.n);
        format!(
            "{}: false refusals {}, absent targets without a pixel {}, nonsense found {}",
            self.sets.join(" + "),
            percent(&self.false_refusals),
            percent(&self.passes),
            percent(&self.nonsense_found)
        )
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
