//! What an experiment found: figures of every arm, their differences to the reference, and how small a difference it could have seen.

use super::columns::COLUMNS;
use super::cost::Cost;
use kestrel_calibration::Fitted;
use kestrel_training::metrics::{Figure, Kind, NO_DOUBT, Record, report, resampled};
use serde::Serialize;

/// Widths of a normal distribution's intervals: 95 % in two directions, and 80 % power beside it.
const NORMAL_95: f64 = 1.96;
const DETECTABLE: f64 = 2.8;

/// The records of one run on the test sets, with its thresholds applied.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// The arm.
    pub(super) arm: String,
    /// Seed of the run.
    pub(super) seed: u64,
    /// What it cost.
    pub(super) cost: Cost,
    /// Judged records.
    pub(super) records: Vec<Record>,
}

/// Applies thresholds: what is shown depends on them alone. Of the doubt only its decision is left: above 0 refuses.
pub(super) fn judged(record: &Record, fitted: &Fitted) -> Record {
    let z: f64 = record.features.iter().zip(fitted.presence).map(|(f, w)| f64::from(*f) * w).sum::<f64>();
    let presence = 1.0 / (1.0 + (-(z + fitted.presence[3])).exp());
    let understood = 1.0 / (1.0 + (-record.doubt).exp()) < fitted.doubt_threshold;
    let shown = presence >= fitted.presence_threshold && understood;
    let mask = record.sweep.first().filter(|_| shown);
    let (predicted, intersection) = mask.map_or((0, 0), |m| (m.predicted, m.intersection));
    let given = match record.given {
        _ if predicted > 0 => Kind::Mask,
        Kind::Mask => Kind::Other,
        reason => reason,
    };
    let doubt = if understood { NO_DOUBT } else { -NO_DOUBT };
    Record { presence: presence as f32, predicted, intersection, given, doubt, ..record.clone() }
}

/// One row of the table.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    /// The arm.
    pub(super) arm: String,
    /// What it is.
    pub(super) about: String,
    /// Seeds.
    pub(super) seeds: Vec<u64>,
    /// Mean wall seconds of training one seed.
    pub(super) seconds: f64,
    /// The same times its workers, in hours; `None` where nobody knows those.
    pub(super) core_hours: Option<f64>,
    /// Mean wall seconds of judging one seed on pictures that are seen already, over the seeds of which it is known.
    pub(super) judging_seconds: Option<f64>,
    /// The most MiB of memory that were resident while any seed trained; with what the program held before.
    pub(super) peak_mebibytes: Option<f64>,
    /// Questions that were judged.
    pub(super) records: usize,
    /// Figures by column, all seeds' records together, resampled by scene.
    pub(super) figures: Vec<(String, Figure)>,
    /// Deviation over seeds, by column; not a number for one seed.
    pub(super) deviations: Vec<f64>,
    /// Differences to the reference with intervals, by column, paired by scene; empty for the reference.
    pub(super) differences: Vec<Figure>,
    /// The smallest difference that would have been seen with 80 % power at 5 %, by column.
    pub(super) detectable: Vec<f64>,
}

/// The table on one kind of pictures.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Table {
    /// The kind of pictures.
    pub(super) pictures: &'static str,
    /// One row for each arm.
    pub(super) rows: Vec<Row>,
}

/// A kind of pictures with a table of its own.
struct Pictures {
    name: &'static str,
    /// Whether a record is of this kind, by its set.
    of: fn(&Record) -> bool,
    /// Whether a record of this kind stands in the table; of the others only thresholds are read.
    counts: fn(&Record) -> bool,
}

/// Scenes are never averaged with photographs. Degraded photographs stand apart, so that those that are as they were taken can
/// be compared with earlier tables.
const PICTURES: [Pictures; 3] = [
    Pictures { name: "Drawn scenes", of: drawn, counts: |_| true },
    Pictures { name: "Photographs", of: |r| !drawn(r), counts: |r| r.degradation.is_none() },
    Pictures { name: "Degraded photographs", of: |r| !drawn(r), counts: |r| r.degradation.is_some() },
];

/// How the names of the sets of drawn scenes begin.
const DRAWN: &str = "scenes";

fn drawn(record: &Record) -> bool {
    record.set.starts_with(DRAWN)
}

/// A table for each kind of pictures, of all arms in the order of `arms` (name and what it is).
pub(super) fn tables(outcomes: &[Outcome], arms: &[(String, String)], reference: &str) -> Vec<Table> {
    let table = |pictures: &Pictures| -> Option<Table> {
        // From here on the set is the run, each of which has thresholds of its own.
        let own = |outcome: &Outcome| {
            let run = format!("{} {}", outcome.arm, outcome.seed);
            let records = outcome.records.iter().filter(|r| (pictures.of)(r));
            let records = records.map(|r| Record { set: run.clone(), ..r.clone() }).collect();
            Outcome { arm: outcome.arm.clone(), records, ..*outcome }
        };
        let outcomes: Vec<Outcome> = outcomes.iter().map(own).collect();
        let any = outcomes.iter().flat_map(|o| &o.records).any(pictures.counts);
        any.then(|| Table { pictures: pictures.name, rows: rows(&outcomes, arms, reference, pictures.counts) })
    };
    PICTURES.iter().filter_map(table).collect()
}

fn rows(outcomes: &[Outcome], arms: &[(String, String)], reference: &str, counts: fn(&Record) -> bool) -> Vec<Row> {
    let of = |arm: &str| outcomes.iter().filter(|o| o.arm == arm).collect::<Vec<_>>();
    let referred = of(reference);
    arms.iter()
        .filter(|(arm, _)| !of(arm).is_empty())
        .map(|(arm, about)| {
            let mut row = row(&of(arm), (arm, about), counts);
            if arm != reference && !referred.is_empty() {
                compare(&mut row, &of(arm), &referred, counts);
            }
            row
        })
        .collect()
}

fn row(outcomes: &[&Outcome], (arm, about): (&str, &str), counts: fn(&Record) -> bool) -> Row {
    let records: Vec<&Record> = outcomes.iter().flat_map(|o| &o.records).collect();
    let counted = records.iter().filter(|r| counts(r)).count();
    let costs: Vec<Cost> = outcomes.iter().map(|o| o.cost).collect();
    let known = |of: fn(&Cost) -> Option<f64>| costs.iter().filter_map(of).collect::<Vec<f64>>();
    let mut row = Row {
        arm: arm.to_owned(),
        about: about.to_owned(),
        seeds: outcomes.iter().map(|o| o.seed).collect(),
        seconds: costs.iter().map(|cost| cost.seconds).sum::<f64>() / costs.len() as f64,
        core_hours: mean(&known(Cost::core_hours)),
        judging_seconds: mean(&known(|cost| cost.judging_seconds)),
        peak_mebibytes: known(|cost| cost.peak_mebibytes).into_iter().reduce(f64::max),
        records: counted,
        figures: Vec::new(),
        deviations: Vec::new(),
        differences: Vec::new(),
        detectable: Vec::new(),
    };
    for column in &COLUMNS {
        let figure = resampled(&records, 1, |r| column.value(r, counts));
        row.figures.push((column.name.to_owned(), Figure { n: counted, ..figure }));
        let each = outcomes.iter().map(|o| column.value(&o.records.iter().collect::<Vec<_>>(), counts));
        row.deviations.push(deviation(&each.collect::<Vec<f64>>()));
    }
    row
}

/// Fills in the differences to the reference.
fn compare(row: &mut Row, outcomes: &[&Outcome], reference: &[&Outcome], counts: fn(&Record) -> bool) {
    // Both arms' records side by side, told apart by the beginning of their set, so that a drawn scene brings both.
    let (mine, theirs) = ("mine ", "theirs ");
    let tagged = |outcomes: &[&Outcome], tag: &str| -> Vec<Record> {
        let records = outcomes.iter().flat_map(|o| &o.records);
        records.map(|r| Record { set: format!("{tag}{}", r.set), ..r.clone() }).collect()
    };
    let both: Vec<Record> = tagged(outcomes, mine).into_iter().chain(tagged(reference, theirs)).collect();
    let both: Vec<&Record> = both.iter().collect();
    for (column, deviation) in COLUMNS.iter().zip(&row.deviations) {
        let difference = resampled(&both, 1, |r| {
            let (own, others): (Vec<&Record>, Vec<&Record>) = r.iter().copied().partition(|r| r.set.starts_with(mine));
            column.value(&own, counts) - column.value(&others, counts)
        });
        let by_scenes = (difference.high - difference.low) / (2.0 * NORMAL_95);
        // Seeds add their own uncertainty, once for each arm, where there are several.
        let by_seeds = if deviation.is_nan() { 0.0 } else { deviation * (2.0 / outcomes.len() as f64).sqrt() };
        row.differences.push(difference);
        row.detectable.push(DETECTABLE * by_scenes.hypot(by_seeds));
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return f64::NAN;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

/// The whole report of one arm's records, for whoever wants more than the table.
pub(super) fn whole(outcome: &Outcome) -> serde_json::Value {
    serde_json::json!({ "arm": outcome.arm, "seed": outcome.seed, "report": report(&outcome.records, 1) })
}
