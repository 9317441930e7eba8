//! What a threshold does to targets that are there, and how true the presence probability is.

use kestrel_training::metrics::scene_sums;
use serde::{Deserialize, Serialize};

use crate::Share;
use crate::promise::thresholds;
use crate::questions::{Curve, Judge, Question};

/// Bins of the calibration error, as everywhere (`kestrel_training::metrics`).
const BINS: usize = 10;
/// Every so many thresholds of the sequence make a point of the curve.
const DRAWN: usize = 12;

/// What the chosen threshold does on the scenes that the bounds rest on; the presence was not fitted on them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Clear present targets refused, resampled by scene: undegraded views, from a square of 32 pixels.
    pub clear: Option<Share>,
    /// Present targets refused in any view and of any size, resampled by scene.
    pub present: Option<Share>,
    /// Expected calibration error of the presence that the records were made with.
    pub calibration_error_before: Option<f64>,
    /// The same of the presence fitted here.
    pub calibration_error_after: Option<f64>,
    /// Risk of the mixture over the share of clear present targets answered, from the strictest threshold down.
    pub curve: Vec<Point>,
}

/// One threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Least presence shown.
    pub threshold: f32,
    /// Clear present targets answered.
    pub coverage: f64,
    /// Mean loss of the mixture.
    pub risk: f64,
}

/// Everything that is measured of the questions at a threshold.
pub(crate) fn measured(
    shown: &[Question<'_>],
    scenes: &[String],
    judge: &Judge,
    mixture: &Curve,
    threshold: f32,
    seed: u64,
) -> Measured {
    let rate = |clear: bool| {
        let counted = shown.iter().filter(|q| if clear { q.clear() } else { q.record.present() });
        let refused = counted.map(|q| {
            let refused = judge.score(q.record) < threshold;
            (scenes[q.scene].as_str(), [f64::from(refused), 1.0])
        });
        let figure = scene_sums(refused, seed, |[refused, n]| refused / n);
        let share = Share { value: figure.value, low: figure.low, high: figure.high, n: figure.n };
        (share.n > 0).then_some(share)
    };
    Measured {
        clear: rate(true),
        present: rate(false),
        calibration_error_before: calibration_error(shown, |q| q.record.presence),
        calibration_error_after: calibration_error(shown, |q| judge.presence.probability(&q.record.features)),
        curve: curve(shown, judge, mixture),
    }
}

/// Share of present targets refused at a threshold, clear ones only if asked; `None` of nothing.
pub(crate) fn refused(shown: &[Question<'_>], judge: &Judge, threshold: f32, clear: bool) -> Option<f64> {
    let counted = shown.iter().filter(|q| if clear { q.clear() } else { q.record.present() });
    let (refused, all) = counted.fold((0_usize, 0_usize), |(refused, all), q| {
        (refused + usize::from(judge.score(q.record) < threshold), all + 1)
    });
    (all > 0).then(|| refused as f64 / all as f64)
}

/// Expected calibration error over questions whose target is there or not, of those that reached the network.
fn calibration_error(shown: &[Question<'_>], presence: impl Fn(&Question<'_>) -> f32) -> Option<f64> {
    let reached = |q: &&Question<'_>| {
        let counted = q.record.present() || q.stratum.is_some();
        counted && q.record.features != [0.0; 3] && q.record.features.iter().all(|f| f.is_finite())
    };
    let mut bins = [[0.0_f64; 2]; BINS];
    let mut n = 0_usize;
    for question in shown.iter().filter(reached) {
        let probability = presence(question);
        if !probability.is_finite() {
            continue;
        }
        let bin = ((probability * BINS as f32) as usize).min(BINS - 1);
        bins[bin][0] += f64::from(probability);
        bins[bin][1] += f64::from(question.record.present());
        n += 1;
    }
    (n > 0).then(|| bins.iter().map(|[said, was]| (said - was).abs()).sum::<f64>() / n as f64)
}

fn curve(shown: &[Question<'_>], judge: &Judge, mixture: &Curve) -> Vec<Point> {
    let mut scores: Vec<f32> = shown.iter().filter(|q| q.clear()).map(|q| judge.score(q.record)).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    if scores.is_empty() || mixture.scenes == 0 {
        return Vec::new();
    }
    let at = |threshold: f32| Point {
        threshold,
        coverage: scores.partition_point(|score| *score >= threshold) as f64 / scores.len() as f64,
        risk: mixture.sum_at(threshold) / mixture.scenes as f64,
    };
    let mut points: Vec<Point> = thresholds().step_by(DRAWN).map(at).collect();
    points.dedup_by(|b, a| a.coverage == b.coverage && a.risk == b.risk);
    points
}
