//! The refusal threshold by risk control: P(mask | target absent or unseeable) ≤ α at confidence 1 − δ.
//!
//! The loss falls as the threshold rises, so the lowest threshold above which every upper bound stays within α keeps the
//! promise (Bates et al., "Distribution-free, risk-controlling prediction sets", J. ACM 2021, theorem 1; the same as testing
//! a fixed sequence from the strictest threshold down, Angelopoulos et al., "Learn then test", 2021).
//! Bonferroni's correction over the strata and their mixture makes all bounds hold at once.
//! Scenes are the unit: the questions of one picture hang together, so a scene gives one loss to each stratum.

use kestrel_link::{Presence, Thresholds};
use kestrel_training::metrics::Record;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::confidence::{needed, p_value, upper_bound};
use crate::measure::{self, Measured};
use crate::questions::{Curve, Judge, Question, Questions, Source, Unit};
use crate::rules::{Fitted, MIN_AREA_PIXELS, Rules, fit_of};
use crate::{CalibrationError, Missing};

/// What is to be promised, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Promise {
    /// Greatest risk: share of questions about absent or unseeable targets that a mask answers.
    pub alpha: f64,
    /// Greatest risk within a stratum, where it may be greater than the mixture's; otherwise `alpha` holds there too.
    pub stratum_alpha: Option<f64>,
    /// Greatest probability that the promise is wrong, over the draw of the records.
    pub delta: f64,
    /// What one scene's loss is.
    pub unit: Unit,
    /// Strata that are measured and not promised: their names, or beginnings of their names.
    pub left_out: Vec<String>,
    /// Greatest share of clear present targets that may be refused for it.
    pub most_false_refusals: f64,
    /// Seed of every split.
    pub seed: u64,
}

impl Default for Promise {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            stratum_alpha: None,
            delta: 0.05,
            unit: Unit::Mean,
            left_out: Vec::new(),
            most_false_refusals: 0.05,
            seed: 0,
        }
    }
}

impl Promise {
    /// Checks the numbers.
    ///
    /// # Errors
    /// Names what is out of range.
    pub fn validate(&self) -> Result<(), CalibrationError> {
        let within = |name, value: f64, low_open: bool| {
            let fine = value < 1.0 && if low_open { value > 0.0 } else { value >= 0.0 };
            if fine { Ok(()) } else { Err(CalibrationError::Share { name, got: value }) }
        };
        within("alpha", self.alpha, true)?;
        within("stratum alpha", self.risks().stratum, true)?;
        if self.risks().stratum < self.alpha {
            return Err(CalibrationError::StratumBelowMixture { alpha: self.alpha, stratum: self.risks().stratum });
        }
        within("delta", self.delta, true)?;
        within("most false refusals", self.most_false_refusals, false)
    }

    /// The risks that are bounded.
    pub(crate) fn risks(&self) -> Risks {
        Risks { mixture: self.alpha, stratum: self.stratum_alpha.unwrap_or(self.alpha) }
    }

    fn leaves_out(&self, stratum: &str) -> bool {
        self.left_out.iter().any(|name| stratum.starts_with(name.as_str()))
    }
}

/// The greatest risk of the mixture, and of each stratum by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Risks {
    pub(crate) mixture: f64,
    pub(crate) stratum: f64,
}

impl Risks {
    /// One risk for all.
    fn all(alpha: f64) -> Self {
        Self { mixture: alpha, stratum: alpha }
    }

    /// Fewest scenes of a stratum, and of the mixture, that could bound them.
    pub(crate) fn needed(self, level: f64) -> (usize, usize) {
        (needed(self.stratum, level), needed(self.mixture, level))
    }
}

/// Records with their source, one file each.
pub type Batch = (Source, Vec<Record>);

/// What is claimed of a stratum, and what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The stratum.
    pub name: String,
    /// Scenes: the losses.
    pub scenes: usize,
    /// Questions.
    pub questions: usize,
    /// Mean loss.
    pub risk: f64,
    /// Upper bound of the risk at this threshold, had it been fixed beforehand. What is promised is α: the threshold was chosen
    /// on the same losses, for which a bound below α does not allow.
    pub upper: f64,
    /// Fewest scenes that could bound it by what is promised of it.
    pub needed: usize,
}

/// A threshold with what it promises and what it costs.
#[derive(Debug, Clone)]
pub struct Calibrated {
    /// Presence, mask and doubt, fitted on scenes that nothing here is measured on.
    pub fitted: Fitted,
    /// Least presence that is shown.
    pub threshold: f32,
    /// All promised strata together: every scene with such a question, its loss over all of them.
    pub mixture: Claim,
    /// The promised strata.
    pub strata: Vec<Claim>,
    /// The others: measured, bounded, not promised.
    pub reported: Vec<Claim>,
    /// What the threshold does to targets that are there, and the error of the probability.
    pub measured: Measured,
    /// What other risks would cost.
    pub costs: Vec<Cost>,
}

/// What a risk would cost that bounds each stratum and their mixture alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// The risk.
    pub alpha: f64,
    /// The threshold that keeps it; `None` where none does or the scenes are too few.
    pub threshold: Option<f32>,
    /// Scenes that the poorest stratum lacks.
    pub missing_scenes: usize,
    /// Share of clear present targets refused at that threshold.
    pub false_refusals: Option<f64>,
    /// Share of all present targets answered at that threshold.
    pub coverage: Option<f64>,
}

/// Risks of [`Calibrated::costs`], beside the one asked for.
const COSTED: [f64; 7] = [0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3];
/// Name of all promised strata together.
const MIXTURE: &str = "mixture";
/// Of the scenes, one in so many fits the presence; the others bound the risk.
const FITTING: usize = 3;

/// The lowest threshold that keeps the promise, with the presence fitted anew.
///
/// `fitting` are records of their own for the fit; without them a third of the scenes of `batches` serves.
///
/// # Errors
/// When a set tests the model, when scenes are too few for α and δ (it says how many are missing in each stratum), or when
/// no threshold keeps the bound. A promise that costs more than allowed is no error, see [`Calibrated::affordable`].
pub fn calibrate(batches: &[Batch], fitting: &[Batch], promise: &Promise) -> Result<Calibrated, CalibrationError> {
    promise.validate()?;
    let (questions, others) = Questions::both(batches, fitting)?;
    let whole = vec![true; questions.scenes.len()];
    let Chosen { fitted, bounding, strata, threshold } = choose(&questions, &others, &whole, promise)?;
    let judge = Judge::of(&fitted);
    let level = strata.level(promise);
    let risks = promise.risks();
    let claims =
        |curves: &[Curve]| curves.iter().map(|c| c.claim(threshold, risks.stratum, level)).collect::<Vec<Claim>>();
    let shown: Vec<Question> = questions.all.iter().copied().filter(|q| bounding[q.scene]).collect();
    Ok(Calibrated {
        threshold,
        mixture: strata.mixture.claim(threshold, risks.mixture, level),
        strata: claims(&strata.promised),
        reported: claims(&strata.reported),
        measured: measure::measured(&shown, &questions.scenes, &judge, &strata.mixture, threshold, promise.seed),
        costs: costs(&shown, &judge, &strata, promise),
        fitted,
    })
}

impl Calibrated {
    /// Whether clear present targets are refused no more often than the promise may cost; not where there was none to see.
    pub fn affordable(&self, promise: &Promise) -> bool {
        self.measured.clear.is_some_and(|share| share.value <= promise.most_false_refusals)
    }

    /// The thresholds as the drone reads them, for the graphs of `model_hash`.
    ///
    /// # Errors
    /// When they do not pass the drone's own checks.
    pub fn thresholds(&self, promise: &Promise, model_hash: &str, date: &str) -> Result<Thresholds, CalibrationError> {
        let [a, b, c, bias] = self.fitted.presence.map(|weight| weight as f32);
        let thresholds = Thresholds {
            model_hash: model_hash.to_owned(),
            presence: Presence { weights: [a, b, c], bias },
            presence_threshold: self.threshold,
            mask_threshold: self.fitted.mask_threshold,
            doubt_threshold: self.fitted.doubt_threshold,
            min_area_pixels: MIN_AREA_PIXELS,
            data: self.summary(promise),
            seed: promise.seed,
            date: date.to_owned(),
        };
        thresholds.validate()?;
        Ok(thresholds)
    }

    /// The promise in one line.
    pub fn summary(&self, promise: &Promise) -> String {
        let names: Vec<&str> = self.strata.iter().map(|claim| claim.name.as_str()).collect();
        let (names, scenes, seen) = (names.join("; "), self.mixture.scenes, 100.0 * self.mixture.risk);
        let Risks { mixture, stratum } = promise.risks();
        let (mixture, stratum, sure) = (100.0 * mixture, 100.0 * stratum, 100.0 * (1.0 - promise.delta));
        let whom = "of questions for absent or unseeable targets";
        if promise.stratum_alpha.is_none() {
            return format!(
                "a mask answers at most {mixture:.1} % {whom}, confidence {sure:.1} %, in each of [{names}] \
                 and in their mixture ({scenes} scenes, on which {seen:.1} % were seen)"
            );
        }
        format!(
            "a mask answers at most {mixture:.1} % {whom}, confidence {sure:.1} %, in the mixture of [{names}] \
             ({scenes} scenes, on which {seen:.1} % were seen), and at most {stratum:.1} % in each of them"
        )
    }
}

impl Judge {
    pub(crate) fn of(fitted: &Fitted) -> Self {
        let [a, b, c, bias] = fitted.presence.map(|weight| weight as f32);
        Self {
            presence: Presence { weights: [a, b, c], bias },
            doubt_threshold: fitted.doubt_threshold,
            mask_threshold: fitted.mask_threshold,
        }
    }
}

/// What [`choose`] found.
pub(crate) struct Chosen {
    pub(crate) fitted: Fitted,
    /// Scenes that the bounds rest on.
    pub(crate) bounding: Vec<bool>,
    pub(crate) strata: Strata,
    pub(crate) threshold: f32,
}

/// Fits on `others`, or on a third of the scenes kept, and bounds on the rest of those kept.
pub(crate) fn choose(
    questions: &Questions<'_>,
    others: &Questions<'_>,
    keep: &[bool],
    promise: &Promise,
) -> Result<Chosen, CalibrationError> {
    let mut bounding = keep.to_vec();
    let mut fitting: Vec<&Record> = others.all.iter().map(|question| question.record).collect();
    if fitting.is_empty() {
        let mut scenes: Vec<usize> = (0..keep.len()).filter(|scene| keep[*scene]).collect();
        scenes.shuffle(&mut ChaCha8Rng::seed_from_u64(promise.seed));
        scenes.truncate(scenes.len() / FITTING);
        scenes.iter().for_each(|scene| bounding[*scene] = false);
        let fits = |question: &&Question<'_>| keep[question.scene] && !bounding[question.scene];
        fitting = questions.all.iter().filter(fits).map(|question| question.record).collect();
    }
    enough(questions, &bounding, promise)?;
    let fitted = fit_of(&fitting, &Rules::default())?;
    let strata = Strata::of(questions, &bounding, &Judge::of(&fitted), promise);
    let threshold = strata.lowest(promise.risks(), promise).ok_or_else(|| strata.none(promise))?;
    Ok(Chosen { fitted, bounding, strata, threshold })
}

/// Refuses scenes that could not keep the promise even without one failure.
fn enough(questions: &Questions<'_>, bounding: &[bool], promise: &Promise) -> Result<(), CalibrationError> {
    let count = |strata: &[usize]| {
        let mut scenes: Vec<usize> = questions
            .all
            .iter()
            .filter(|question| bounding[question.scene] && question.stratum.is_some_and(|s| strata.contains(&s)))
            .map(|question| question.scene)
            .collect();
        scenes.sort_unstable();
        scenes.dedup();
        scenes.len()
    };
    let promised: Vec<usize> =
        (0..questions.strata.len()).filter(|s| !promise.leaves_out(&questions.strata[*s])).collect();
    if promised.is_empty() {
        return Err(CalibrationError::NothingToBound { left_out: promise.left_out.clone() });
    }
    let risks = promise.risks();
    let (of_stratum, of_mixture) = risks.needed(promise.delta / (promised.len() + 1) as f64);
    let too_few = |alpha: f64, missing: Vec<Missing>| match missing.is_empty() {
        true => Ok(()),
        false => Err(CalibrationError::TooFewScenes { alpha, delta: promise.delta, missing }),
    };
    let missing = |stratum: String, got: usize, needed: usize| Missing { stratum, got, needed };
    let is_missing = |missing: &Missing| missing.got < missing.needed;
    let strata = promised.iter().map(|s| missing(questions.strata[*s].clone(), count(&[*s]), of_stratum));
    too_few(risks.stratum, strata.filter(is_missing).collect())?;
    let mixture = missing(MIXTURE.to_owned(), count(&promised), of_mixture);
    too_few(risks.mixture, Some(mixture).into_iter().filter(is_missing).collect())
}

/// Losses of every stratum and of the promised ones together.
pub(crate) struct Strata {
    pub(crate) promised: Vec<Curve>,
    pub(crate) reported: Vec<Curve>,
    pub(crate) mixture: Curve,
}

impl Strata {
    /// Of the scenes kept.
    pub(crate) fn of(questions: &Questions<'_>, keep: &[bool], judge: &Judge, promise: &Promise) -> Self {
        let scenes = questions.scenes.len();
        let mut scores = vec![vec![Vec::new(); scenes]; questions.strata.len()];
        let mut mixed = vec![Vec::new(); scenes];
        for question in questions.all.iter().filter(|question| keep[question.scene]) {
            let Some(stratum) = question.stratum else { continue };
            let score = judge.score(question.record);
            scores[stratum][question.scene].push(score);
            if !promise.leaves_out(&questions.strata[stratum]) {
                mixed[question.scene].push(score);
            }
        }
        let (mut promised, mut reported) = (Vec::new(), Vec::new());
        for (name, scores) in questions.strata.iter().zip(&scores) {
            let curve = Curve::new(name, scores.iter(), promise.unit);
            if promise.leaves_out(name) { reported.push(curve) } else { promised.push(curve) }
        }
        Self { promised, reported, mixture: Curve::new(MIXTURE, mixed.iter(), promise.unit) }
    }

    /// Share of δ that each bound gets.
    pub(crate) fn level(&self, promise: &Promise) -> f64 {
        promise.delta / (self.promised.len() + 1) as f64
    }

    /// The promised strata and their mixture, each with its greatest risk.
    pub(crate) fn bounded(&self, risks: Risks) -> impl Iterator<Item = (&Curve, f64)> {
        let strata = self.promised.iter().map(move |curve| (curve, risks.stratum));
        strata.chain([(&self.mixture, risks.mixture)])
    }

    /// The lowest threshold down to which every bound stays within its risk; `None` where not even the highest does.
    pub(crate) fn lowest(&self, risks: Risks, promise: &Promise) -> Option<f32> {
        let level = self.level(promise);
        let mut known: Vec<(f64, bool)> = vec![(f64::NAN, false); self.promised.len() + 1];
        let mut lowest = None;
        for threshold in thresholds() {
            let kept = self.bounded(risks).zip(&mut known).all(|((curve, alpha), known)| {
                let sum = curve.sum_at(threshold);
                // Most steps show nothing new.
                if known.0 != sum {
                    *known = (sum, p_value(sum, curve.scenes, alpha, curve.losses) <= level);
                }
                known.1
            });
            if !kept {
                break;
            }
            lowest = Some(threshold);
        }
        lowest
    }

    fn none(&self, promise: &Promise) -> CalibrationError {
        let strictest = thresholds().next().unwrap_or(1.0);
        let bound =
            |curve: &Curve| upper_bound(curve.sum_at(strictest), curve.scenes, self.level(promise), curve.losses);
        let over = |(curve, alpha): &(&Curve, f64)| bound(curve) - alpha;
        let worst = self.bounded(promise.risks()).max_by(|a, b| over(a).total_cmp(&over(b)));
        let (worst, alpha) = worst.unwrap_or((&self.mixture, promise.alpha));
        CalibrationError::NoThreshold { alpha, stratum: worst.name.clone(), bound: bound(worst) }
    }
}

/// The fixed sequence of thresholds, from the strictest down: even in the logit, from 12 to −12.
pub(crate) fn thresholds() -> impl Iterator<Item = f32> {
    (0..=1200).map(|step| {
        let logit = 12.0 - 0.02 * f64::from(step);
        (1.0 / (1.0 + (-logit).exp())) as f32
    })
}

impl Curve {
    /// What is claimed at a threshold, each bound at confidence 1 − `level`.
    pub(crate) fn claim(&self, threshold: f32, alpha: f64, level: f64) -> Claim {
        let sum = self.sum_at(threshold);
        Claim {
            name: self.name.clone(),
            scenes: self.scenes,
            questions: self.questions,
            risk: if self.scenes == 0 { 0.0 } else { sum / self.scenes as f64 },
            upper: upper_bound(sum, self.scenes, level, self.losses),
            needed: needed(alpha, level),
        }
    }
}

fn costs(shown: &[Question<'_>], judge: &Judge, strata: &Strata, promise: &Promise) -> Vec<Cost> {
    let mut risks = COSTED.to_vec();
    if !risks.contains(&promise.alpha) {
        risks.push(promise.alpha);
        risks.sort_by(f64::total_cmp);
    }
    let poorest = strata.promised.iter().map(|curve| curve.scenes).min().unwrap_or_default();
    risks
        .into_iter()
        .map(|alpha| {
            let missing_scenes = needed(alpha, strata.level(promise)).saturating_sub(poorest);
            let threshold = strata.lowest(Risks::all(alpha), promise).filter(|_| missing_scenes == 0);
            let refused = |clear: bool| threshold.and_then(|t| measure::refused(shown, judge, t, clear));
            let coverage = refused(false).map(|share| 1.0 - share);
            Cost { alpha, threshold, missing_scenes, false_refusals: refused(true), coverage }
        })
        .collect()
}

#[cfg(test)]
#[path = "promise_tests.rs"]
mod tests;
