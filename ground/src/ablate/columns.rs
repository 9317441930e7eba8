//! The columns of an experiment's table: each a figure of records.

use kestrel_training::metrics::{CLEAR_PIXELS, Kind, Record, Size, iou, presence_correlation, risk_coverage};
use kestrel_training::sample::Stratum;
use std::collections::BTreeMap;

/// Share of clear present targets that the columns [`Value::AtSameRate`] refuse; their names say it.
const REFUSED: f64 = 0.10;

/// One column.
pub(super) struct Column {
    /// Its name.
    pub(super) name: &'static str,
    value: Value,
}

/// How a column comes from records; not a number where nothing contributes.
enum Value {
    /// From the records that count.
    Of(fn(&[&Record]) -> f64),
    /// The share of these records that a mask answers when every run has the threshold that refuses [`REFUSED`] of its clear
    /// present targets. Such a threshold is read off the records that it is applied to: it makes arms comparable and promises
    /// nothing.
    AtSameRate(fn(&Record) -> bool),
}

impl Column {
    /// Its value from the records of all runs on one kind of pictures, told apart by their set. Only those count that `counts`
    /// says; thresholds are found on all of them.
    pub(super) fn value(&self, records: &[&Record], counts: fn(&Record) -> bool) -> f64 {
        match self.value {
            Value::Of(value) => value(&records.iter().copied().filter(|r| counts(r)).collect::<Vec<_>>()),
            Value::AtSameRate(kept) => at_same_rate(records, |r| counts(r) && kept(r)),
        }
    }
}

/// All columns, in order.
pub(super) const COLUMNS: [Column; 16] = [
    Column { name: "gIoU specific", value: Value::Of(|r| mean(r, specific, Record::iou)) },
    Column {
        name: "gIoU ≥32 px",
        value: Value::Of(|r| mean(r, |r| specific(r) && r.target >= CLEAR_PIXELS, Record::iou)),
    },
    Column { name: "gIoU tiny", value: Value::Of(|r| mean(r, tiny, Record::iou)) },
    Column {
        name: "P@0.5 tiny, shown",
        value: Value::Of(|r| {
            let right = |r: &Record| f64::from(iou(r.predicted, r.intersection, r.target) >= 0.5);
            mean(r, |r| tiny(r) && r.shown(), right)
        }),
    },
    Column {
        name: "gIoU general",
        value: Value::Of(|r| mean(r, |r| r.present() && r.stratum == Stratum::Plural, Record::iou)),
    },
    Column { name: "hallucinated, absent", value: Value::Of(|r| mean(r, Record::hard_negative, shown)) },
    Column { name: "hallucinated, unseeable", value: Value::Of(|r| mean(r, unseeable, shown)) },
    Column { name: "false refusals, clean", value: Value::Of(|r| 1.0 - mean(r, clear, shown)) },
    Column {
        name: "false refusals, degraded",
        value: Value::Of(|r| 1.0 - mean(r, |r| r.present() && r.degradation.is_some(), shown)),
    },
    Column { name: "hallucinated, absent, at 10 % refused", value: Value::AtSameRate(Record::hard_negative) },
    Column { name: "hallucinated, unseeable, at 10 % refused", value: Value::AtSameRate(unseeable) },
    Column {
        name: "false refusals, clean, at any threshold",
        value: Value::Of(|r| mean(r, clear, |r| f64::from(reach(r) == f32::NEG_INFINITY))),
    },
    Column {
        name: "AUC absent",
        value: Value::Of(|r| separation(r, |r| r.hard_negative() && r.degradation.is_none(), false)),
    },
    Column { name: "AUC unseeable", value: Value::Of(|r| separation(r, unseeable, true)) },
    Column { name: "IL_MCC", value: Value::Of(presence_correlation) },
    Column { name: "risk–coverage", value: Value::Of(risk) },
];

fn mean(records: &[&Record], keep: impl Fn(&Record) -> bool, of: impl Fn(&Record) -> f64) -> f64 {
    let kept: Vec<f64> = records.iter().filter(|r| keep(r)).map(|r| of(r)).collect();
    kept.iter().sum::<f64>() / kept.len() as f64
}

fn specific(r: &Record) -> bool {
    r.present() && !r.weak && r.stratum != Stratum::Plural
}

fn tiny(r: &Record) -> bool {
    specific(r) && Size::of(r.target) == Size::Tiny
}

fn unseeable(r: &Record) -> bool {
    r.expected == Kind::Unseeable
}

/// Present on a clean view.
fn clear(r: &Record) -> bool {
    r.present() && r.degradation.is_none()
}

fn shown(r: &Record) -> f64 {
    f64::from(r.shown())
}

/// The greatest threshold at which a mask answers: the presence, or −∞ where there is no mask to show or the words are refused.
fn reach(record: &Record) -> f32 {
    let pixels = record.sweep.first().map_or(record.predicted, |mask| mask.predicted);
    let answers = pixels > 0 && record.doubt <= 0.0 && !record.presence.is_nan();
    if answers { record.presence } else { f32::NEG_INFINITY }
}

/// The share of the `kept` records that a mask answers at [`REFUSED`], thresholds by run.
fn at_same_rate(records: &[&Record], kept: impl Fn(&Record) -> bool) -> f64 {
    let mut runs: BTreeMap<&str, (Vec<f32>, Vec<f32>)> = BTreeMap::new();
    for record in records {
        let (present, asked) = runs.entry(&record.set).or_default();
        if clear(record) {
            present.push(reach(record));
        }
        if kept(record) {
            asked.push(reach(record));
        }
    }
    let all: usize = runs.values().map(|(_, asked)| asked.len()).sum();
    let runs = runs.into_values().filter(|(_, asked)| !asked.is_empty());
    runs.map(|(present, asked)| answered(present, &asked)).sum::<f64>() / all as f64
}

/// How many of `asked` are answered at the highest threshold that refuses [`REFUSED`] of `present`, both given by the greatest
/// threshold that answers them. Where that share falls among equal ones, as many of all that are equal to them are refused, so
/// that it is exact: a straight line on the ROC curve (Fawcett 2006). Not a number where more are refused at any threshold.
fn answered(mut present: Vec<f32>, asked: &[f32]) -> f64 {
    present.sort_unstable_by(f32::total_cmp);
    let refused = REFUSED * present.len() as f64;
    let Some(&at) = present.get(refused as usize).filter(|at| at.is_finite()) else { return f64::NAN };
    let (below, up_to) = (present.partition_point(|p| *p < at), present.partition_point(|p| *p <= at));
    let lost = (refused - below as f64) / (up_to - below) as f64;
    let answer = |reach: &f32| match reach.total_cmp(&at) {
        std::cmp::Ordering::Less => 0.0,
        std::cmp::Ordering::Equal => 1.0 - lost,
        std::cmp::Ordering::Greater => 1.0,
    };
    asked.iter().map(answer).sum()
}

/// Probability that a target that can be seen has a higher presence than a record that `refused` keeps, ties half: the area
/// under the ROC curve, which no threshold enters. Both on degraded views, or both on clean ones.
fn separation(records: &[&Record], refused: impl Fn(&Record) -> bool, degraded: bool) -> f64 {
    let presence = |keep: &dyn Fn(&Record) -> bool| -> Vec<f32> {
        let kept = records.iter().filter(|r| !r.weak && r.degradation.is_some() == degraded && keep(r));
        kept.map(|r| r.presence).collect()
    };
    let (seen, mut silent) = (presence(&Record::present), presence(&refused));
    silent.sort_unstable_by(f32::total_cmp);
    let below = |p: f32| {
        let (under, up_to) = (silent.partition_point(|s| *s < p), silent.partition_point(|s| *s <= p));
        (under + up_to) as f64 / 2.0 / silent.len() as f64
    };
    seen.iter().map(|p| below(*p)).sum::<f64>() / seen.len() as f64
}

fn risk(records: &[&Record]) -> f64 {
    let kept: Vec<&Record> =
        records.iter().copied().filter(|r| !r.weak && (r.present() || r.hard_negative())).collect();
    risk_coverage(&kept).1
}
