//! All figures of a set of records.

use std::collections::BTreeMap;

use serde::Serialize;

use super::figure::{Figure, resampled, sums};
use super::{Record, Size};
use crate::sample::Stratum;

const BINS: usize = 10;
/// Area from which a target is large enough that missing it is no matter of resolution.
const PLAIN_PIXELS: u64 = 24 * 24;
/// Area from which a target is clear: 32 pixels square.
pub const CLEAR_PIXELS: u64 = 32 * 32;

/// Figures of masks, over questions whose target has an outline.
#[derive(Debug, Clone, Serialize)]
pub struct Masks {
    /// Mean IoU per question; a refusal counts 0.
    pub giou: Figure,
    /// Summed intersections over summed unions.
    pub ciou: Figure,
    /// Share with IoU ≥ 0.5, 0.6, 0.7, 0.8, 0.9, by threshold.
    pub precision: BTreeMap<String, Figure>,
    /// Share that was refused.
    pub false_refusal_rate: Figure,
}

/// Figures of questions for what is not there.
#[derive(Debug, Clone, Serialize)]
pub struct HardNegative {
    /// Share without a single pixel.
    pub pass_rate: Figure,
    /// Mean pixels where it failed.
    pub hallucinated_pixels: Figure,
}

/// Figures of questions with a target.
#[derive(Debug, Clone, Serialize)]
pub struct Present {
    /// Share that was refused.
    pub false_refusal_rate: Figure,
}

/// Every figure of methods and strata; all with intervals.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Records.
    pub records: usize,
    /// Mean over all questions with an outline or with nothing to show; empty against empty is 1.
    pub giou: Figure,
    /// One particular thing was asked for.
    pub specific: Masks,
    /// The same, where the target has at least the area of a square of 24 pixels at the model's input.
    pub specific_from_24: Masks,
    /// The same from a square of 32 pixels.
    pub specific_from_32: Masks,
    /// All things of a kind were asked for.
    pub general: Masks,
    /// Nothing was there.
    pub hard_negative: HardNegative,
    /// Something was there.
    pub present: Present,
    /// Refusals with the right reason, over questions to be refused.
    pub reason_accuracy: Figure,
    /// Matthews correlation of "shown" with "there", over present and absent targets (SAM 3).
    pub il_mcc: Figure,
    /// Expected calibration error of the presence probability, ten bins.
    pub calibration_error: Figure,
    /// Area under the curve of risk (1 − IoU) over coverage, answers ranked by presence.
    pub risk_coverage_area: Figure,
    /// Masks, by size at the model's input.
    pub sizes: BTreeMap<Size, Masks>,
    /// Masks or pass rate, by stratum.
    pub strata: BTreeMap<Stratum, Figure>,
    /// Refusal rate on present targets, by degradation family (`none` for clean pictures).
    pub refusals_by_degradation: BTreeMap<String, Figure>,
    /// Mean IoU of held-out phrasings and of questions with slips.
    pub phrasing: BTreeMap<String, Figure>,
}

/// Computes every figure.
pub fn report(records: &[Record], seed: u64) -> Report {
    let all: Vec<&Record> = records.iter().collect();
    let only = |keep: &dyn Fn(&Record) -> bool| all.iter().copied().filter(|r| keep(r)).collect::<Vec<_>>();
    let outlined = only(&|r| r.present() && !r.weak);
    let part =
        |keep: &dyn Fn(&Record) -> bool| masks(&outlined.iter().copied().filter(|r| keep(r)).collect::<Vec<_>>(), seed);
    Report {
        seed,
        records: records.len(),
        giou: mean(&all, seed, |r| (!r.weak).then(|| r.iou())),
        specific: part(&|r| r.stratum != Stratum::Plural),
        specific_from_24: part(&|r| r.stratum != Stratum::Plural && r.target >= PLAIN_PIXELS),
        specific_from_32: part(&|r| r.stratum != Stratum::Plural && r.target >= CLEAR_PIXELS),
        general: part(&|r| r.stratum == Stratum::Plural),
        hard_negative: hard_negative(&all, seed),
        present: Present { false_refusal_rate: mean(&all, seed, refused_present) },
        reason_accuracy: mean(&all, seed, |r| (!r.present()).then_some(f64::from(r.given == r.expected))),
        il_mcc: il_mcc(&all, seed),
        calibration_error: calibration_error(&all, seed),
        risk_coverage_area: resampled(&only(&|r| !r.weak && answerable(r)), seed, |r| risk_coverage(r).1),
        sizes: grouped(&outlined, |r| Some(Size::of(r.target)), |r| masks(r, seed)),
        strata: grouped(&all, |r| Some(r.stratum), |r| mean(r, seed, |r| (!r.weak).then(|| r.iou()))),
        refusals_by_degradation: grouped(
            &all,
            |r| Some(r.degradation.as_ref().map_or("none".to_owned(), |d| d.0.clone())),
            |r| mean(r, seed, refused_present),
        ),
        phrasing: grouped(&outlined, |r| Some(phrasing(r).to_owned()), |r| mean(r, seed, |r| Some(r.iou()))),
    }
}

fn phrasing(record: &Record) -> &'static str {
    match (record.held_out_phrasing, record.slipped) {
        (true, false) => "held_out",
        (true, true) => "held_out_slipped",
        (false, true) => "slipped",
        (false, false) => "trained",
    }
}

fn grouped<K: Ord, V>(
    records: &[&Record],
    key: impl Fn(&Record) -> Option<K>,
    value: impl Fn(&[&Record]) -> V,
) -> BTreeMap<K, V> {
    let mut groups: BTreeMap<K, Vec<&Record>> = BTreeMap::new();
    for record in records {
        if let Some(key) = key(record) {
            groups.entry(key).or_default().push(record);
        }
    }
    groups.into_iter().map(|(k, r)| (k, value(&r))).collect()
}

fn mean(records: &[&Record], seed: u64, of: impl Fn(&Record) -> Option<f64>) -> Figure {
    sums(records, seed, |r| of(r).map(|v| [v, 1.0]), |[s, n]| s / n)
}

fn refused_present(record: &Record) -> Option<f64> {
    record.present().then(|| f64::from(!record.shown()))
}

fn masks(records: &[&Record], seed: u64) -> Masks {
    let union = |r: &Record| (r.predicted + r.target - r.intersection) as f64;
    let at = |tenth: u32| {
        let threshold = f64::from(tenth) / 10.0;
        (format!("{threshold:.1}"), mean(records, seed, |r| Some(f64::from(r.iou() >= threshold))))
    };
    Masks {
        giou: mean(records, seed, |r| Some(r.iou())),
        ciou: sums(records, seed, |r| Some([r.intersection as f64, union(r)]), |[i, u]| i / u),
        precision: (5..10).map(at).collect(),
        false_refusal_rate: mean(records, seed, refused_present),
    }
}

fn hard_negative(records: &[&Record], seed: u64) -> HardNegative {
    let pixels = |r: &Record| (r.hard_negative() && r.shown()).then_some(r.predicted as f64);
    HardNegative {
        pass_rate: mean(records, seed, |r| r.hard_negative().then(|| f64::from(!r.shown()))),
        hallucinated_pixels: mean(records, seed, pixels),
    }
}

fn answerable(record: &Record) -> bool {
    record.present() || record.hard_negative()
}

fn il_mcc(records: &[&Record], seed: u64) -> Figure {
    sums(records, seed, confusion, matthews)
}

/// A record's place in the table of true and false, positive and negative presence; `None` where presence is no question.
fn confusion(record: &Record) -> Option<[f64; 4]> {
    answerable(record).then(|| {
        let (there, shown) = (record.present(), record.shown());
        [there && shown, !there && shown, there && !shown, !there && !shown].map(f64::from)
    })
}

/// Matthews correlation coefficient; 0 where it is undefined.
fn matthews([tp, fp, fn_, tn]: [f64; 4]) -> f64 {
    let below = ((tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_)).sqrt();
    if below > 0.0 { (tp * tn - fp * fn_) / below } else { 0.0 }
}

/// Matthews correlation of "shown" with "there", over present and absent targets (SAM 3).
pub fn presence_correlation(records: &[&Record]) -> f64 {
    let mut table = [0.0; 4];
    for counted in records.iter().filter_map(|record| confusion(record)) {
        table.iter_mut().zip(counted).for_each(|(sum, one)| *sum += one);
    }
    matthews(table)
}

fn calibration_error(records: &[&Record], seed: u64) -> Figure {
    let bins = |r: &Record| {
        answerable(r).then(|| {
            let mut bins = [0.0; 3 * BINS];
            let bin = ((r.presence * BINS as f32) as usize).min(BINS - 1);
            bins[3 * bin] = 1.0;
            bins[3 * bin + 1] = f64::from(r.presence);
            bins[3 * bin + 2] = f64::from(r.present());
            bins
        })
    };
    sums(records, seed, bins, |bins| {
        let n: f64 = bins.chunks(3).map(|b| b[0]).sum();
        bins.chunks(3).map(|b| (b[1] - b[2]).abs()).sum::<f64>() / n
    })
}

/// The curve (coverage, risk) with answers ranked by falling presence, and the area under it.
///
/// Risk is 1 − IoU of what would be shown; an absent target that is shown has risk 1.
pub fn risk_coverage(records: &[&Record]) -> (Vec<(f64, f64)>, f64) {
    let mut ranked: Vec<(f32, f64)> = records.iter().map(|r| (r.presence, risk(r))).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.total_cmp(&b.1)));
    let n = ranked.len() as f64;
    let mut sum = 0.0;
    let curve: Vec<(f64, f64)> = ranked
        .iter()
        .enumerate()
        .map(|(i, (_, risk))| {
            sum += risk;
            ((i + 1) as f64 / n, sum / (i + 1) as f64)
        })
        .collect();
    let area = curve.iter().map(|p| p.1).sum::<f64>() / n;
    (curve, area)
}

fn risk(record: &Record) -> f64 {
    if record.hard_negative() {
        return 1.0;
    }
    // What was refused would have been shown at the middle threshold.
    let middle = record.sweep.iter().min_by(|a, b| (a.threshold - 0.5).abs().total_cmp(&(b.threshold - 0.5).abs()));
    match middle {
        Some(swept) => 1.0 - super::iou(swept.predicted, swept.intersection, record.target),
        None => 1.0 - record.iou(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, example};
    use super::*;
    use proptest::prelude::*;

    fn any_record() -> impl Strategy<Value = Record> {
        (0..20usize, any::<bool>(), 0..500u64, 0..500u64, 0.0..1.0f32).prop_map(|(scene, there, a, b, presence)| {
            let (expected, target) = if there { (Kind::Mask, a + 1) } else { (Kind::Absent, 0) };
            Record { presence, ..example(scene, expected, target, b, b.min(target) / 2) }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn figures_stay_in_their_ranges(records in proptest::collection::vec(any_record(), 1..60)) {
            let report = report(&records, 3);
            for figure in [report.giou, report.specific.giou, report.specific.ciou, report.hard_negative.pass_rate,
                report.present.false_refusal_rate, report.calibration_error, report.risk_coverage_area] {
                if figure.n > 0 {
                    prop_assert!((0.0..=1.0).contains(&figure.value), "{figure:?}");
                    prop_assert!(figure.low <= figure.high);
                }
            }
            prop_assert!((-1.0..=1.0).contains(&report.il_mcc.value) || report.il_mcc.n == 0);
            let precision: Vec<f64> = report.specific.precision.values().map(|f| f.value).collect();
            prop_assert!(!precision.windows(2).any(|w| w[1] > w[0]), "stricter thresholds pass less");
        }

        #[test]
        fn a_perfect_answer_is_perfect(scenes in 2..20usize) {
            let records: Vec<Record> = (0..2 * scenes)
                .map(|i| if i % 2 == 0 { example(i, Kind::Mask, 50, 50, 50) } else { example(i, Kind::Absent, 0, 0, 0) })
                .collect();
            let report = report(&records, 3);
            prop_assert_eq!((report.giou.value, report.il_mcc.value, report.hard_negative.pass_rate.value), (1.0, 1.0, 1.0));
            prop_assert_eq!(report.present.false_refusal_rate.value, 0.0);
        }
    }

    #[test]
    fn refusing_everything_is_not_rewarded() {
        let mut records: Vec<Record> = (0..10).map(|i| example(i, Kind::Mask, 50, 0, 0)).collect();
        records.extend((0..10).map(|i| example(i, Kind::Absent, 0, 0, 0)));
        let report = report(&records, 3);
        assert_eq!((report.il_mcc.value, report.specific.giou.value), (0.0, 0.0));
        assert_eq!((report.present.false_refusal_rate.value, report.hard_negative.pass_rate.value), (1.0, 1.0));
        assert_eq!(report.giou.value, 0.5, "only the empty half counts as right");
    }

    #[test]
    fn sure_and_right_costs_less_risk_than_sure_and_wrong() {
        let with = |presence, intersection| Record { presence, ..example(0, Kind::Mask, 10, 10, intersection) };
        let (good, bad) = ([with(0.9, 10), with(0.1, 0)], [with(0.1, 10), with(0.9, 0)]);
        let area = |r: &[Record]| risk_coverage(&r.iter().collect::<Vec<_>>()).1;
        assert!(area(&good) < area(&bad));
        assert_eq!(risk_coverage(&good.iter().collect::<Vec<_>>()).0, [(0.5, 0.0), (1.0, 0.5)]);
    }

    #[test]
    fn a_report_serialises_even_when_empty() {
        let text = serde_json::to_string(&report(&[], 1)).unwrap_or_default();
        assert!(text.contains("\"il_mcc\":{\"value\":null"), "{text}");
    }
}
