//! What an experiment found: figures of every arm, their differences to the reference, and how small a difference it could have seen.

use kestrel_calibration::Fitted;
use kestrel_training::metrics::{
    CLEAR_PIXELS, Figure, Kind, Record, Size, iou, presence_correlation, report, resampled,
};
use kestrel_training::sample::Stratum;
use serde::Serialize;
use std::fmt::Write as _;

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
    /// Wall seconds of its training.
    pub(super) seconds: f64,
    /// Judged records.
    pub(super) records: Vec<Record>,
}

/// Applies thresholds: what is shown depends on them alone.
pub(super) fn judged(record: &Record, fitted: &Fitted) -> Record {
    let z: f64 = record.features.iter().zip(fitted.presence).map(|(f, w)| f64::from(*f) * w).sum::<f64>();
    let presence = 1.0 / (1.0 + (-(z + fitted.presence[3])).exp());
    let doubt = 1.0 / (1.0 + (-record.doubt).exp());
    let shown = presence >= fitted.presence_threshold && doubt < fitted.doubt_threshold;
    let mask = record.sweep.first().filter(|_| shown);
    let (predicted, intersection) = mask.map_or((0, 0), |m| (m.predicted, m.intersection));
    let given = match record.given {
        _ if predicted > 0 => Kind::Mask,
        Kind::Mask => Kind::Other,
        reason => reason,
    };
    Record { presence: presence as f32, predicted, intersection, given, ..record.clone() }
}

/// One column: its name, and its value from records; not a number where nothing contributes.
struct Column {
    name: &'static str,
    value: fn(&[&Record]) -> f64,
}

fn mean(records: &[&Record], keep: impl Fn(&Record) -> bool, of: impl Fn(&Record) -> f64) -> f64 {
    let kept: Vec<f64> = records.iter().filter(|r| keep(r)).map(|r| of(r)).collect();
    kept.iter().sum::<f64>() / kept.len() as f64
}

fn specific(r: &Record) -> bool {
    r.present() && !r.weak && r.stratum != Stratum::Plural
}

fn shown(r: &Record) -> f64 {
    f64::from(r.shown())
}

const COLUMNS: [Column; 13] = [
    Column { name: "gIoU specific", value: |r| mean(r, specific, Record::iou) },
    Column { name: "gIoU ≥32 px", value: |r| mean(r, |r| specific(r) && r.target >= CLEAR_PIXELS, Record::iou) },
    Column { name: "gIoU tiny", value: |r| mean(r, |r| specific(r) && Size::of(r.target) == Size::Tiny, Record::iou) },
    Column {
        name: "P@0.5 tiny, shown",
        value: |r| {
            let tiny = |r: &Record| specific(r) && Size::of(r.target) == Size::Tiny && r.shown();
            mean(r, tiny, |r| f64::from(iou(r.predicted, r.intersection, r.target) >= 0.5))
        },
    },
    Column { name: "gIoU general", value: |r| mean(r, |r| r.present() && r.stratum == Stratum::Plural, Record::iou) },
    Column { name: "hallucinated, absent", value: |r| mean(r, Record::hard_negative, shown) },
    Column { name: "hallucinated, unseeable", value: |r| mean(r, |r| r.expected == Kind::Unseeable, shown) },
    Column {
        name: "false refusals, clean",
        value: |r| 1.0 - mean(r, |r| r.present() && r.degradation.is_none(), shown),
    },
    Column {
        name: "false refusals, degraded",
        value: |r| 1.0 - mean(r, |r| r.present() && r.degradation.is_some(), shown),
    },
    Column { name: "AUC absent", value: |r| separation(r, |r| r.hard_negative() && r.degradation.is_none(), false) },
    Column { name: "AUC unseeable", value: |r| separation(r, |r| r.expected == Kind::Unseeable, true) },
    Column { name: "IL_MCC", value: presence_correlation },
    Column { name: "risk–coverage", value: risk },
];

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
    kestrel_training::metrics::risk_coverage(&kept).1
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

/// Kinds of pictures, and whether they are drawn: scenes are never averaged with photographs.
const PICTURES: [(&str, bool); 2] = [("Drawn scenes", true), ("Photographs", false)];
/// How the names of the sets of drawn scenes begin.
const DRAWN: &str = "scenes";

/// A table for each kind of pictures, of all arms in the order of `arms` (name and what it is).
pub(super) fn tables(outcomes: &[Outcome], arms: &[(String, String)], reference: &str) -> Vec<Table> {
    let of = |drawn: bool| -> Vec<Outcome> {
        let kept =
            |o: &Outcome| o.records.iter().filter(|r| r.set.starts_with(DRAWN) == drawn).cloned().collect::<Vec<_>>();
        outcomes.iter().map(|o| Outcome { records: kept(o), ..o.clone() }).collect()
    };
    let table = |(pictures, drawn)| Table { pictures, rows: rows(&of(drawn), arms, reference) };
    PICTURES.into_iter().map(table).filter(|t| t.rows.iter().any(|row| row.records > 0)).collect()
}

fn rows(outcomes: &[Outcome], arms: &[(String, String)], reference: &str) -> Vec<Row> {
    let of = |arm: &str| outcomes.iter().filter(|o| o.arm == arm).collect::<Vec<_>>();
    let referred = of(reference);
    arms.iter()
        .filter(|(arm, _)| !of(arm).is_empty())
        .map(|(arm, about)| row(&of(arm), &referred, (arm, about), arm == reference))
        .collect()
}

fn row(outcomes: &[&Outcome], reference: &[&Outcome], (arm, about): (&str, &str), is_reference: bool) -> Row {
    let records: Vec<&Record> = outcomes.iter().flat_map(|o| &o.records).collect();
    let mut row = Row {
        arm: arm.to_owned(),
        about: about.to_owned(),
        seeds: outcomes.iter().map(|o| o.seed).collect(),
        seconds: outcomes.iter().map(|o| o.seconds).sum::<f64>() / outcomes.len() as f64,
        records: records.len(),
        figures: Vec::new(),
        deviations: Vec::new(),
        differences: Vec::new(),
        detectable: Vec::new(),
    };
    // Both arms' records side by side, told apart by their set, so that a drawn scene brings both.
    let mine = "mine";
    let tagged = |outcomes: &[&Outcome], set: &str| -> Vec<Record> {
        let records = outcomes.iter().flat_map(|o| &o.records);
        records.map(|r| Record { set: set.to_owned(), ..r.clone() }).collect()
    };
    let both: Vec<Record> = tagged(outcomes, mine).into_iter().chain(tagged(reference, "theirs")).collect();
    let both: Vec<&Record> = both.iter().collect();
    for column in &COLUMNS {
        row.figures.push((column.name.to_owned(), resampled(&records, 1, |r| (column.value)(r))));
        let each: Vec<f64> = outcomes.iter().map(|o| (column.value)(&o.records.iter().collect::<Vec<_>>())).collect();
        let deviation = deviation(&each);
        row.deviations.push(deviation);
        if is_reference || reference.is_empty() {
            continue;
        }
        let difference = resampled(&both, 1, |r| {
            let part = |own: bool| r.iter().copied().filter(|r| (r.set == mine) == own).collect::<Vec<_>>();
            (column.value)(&part(true)) - (column.value)(&part(false))
        });
        let by_scenes = (difference.high - difference.low) / (2.0 * NORMAL_95);
        // Seeds add their own uncertainty, once for each arm, where there are several.
        let by_seeds = if deviation.is_nan() { 0.0 } else { deviation * (2.0 / each.len() as f64).sqrt() };
        row.differences.push(difference);
        row.detectable.push(DETECTABLE * by_scenes.hypot(by_seeds));
    }
    row
}

fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return f64::NAN;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

/// The tables as Markdown: figures, then differences to the reference; what the arms are stands once below.
pub(super) fn markdown(tables: &[Table], reference: &str) -> String {
    let mut out = String::new();
    for table in tables {
        let _ = writeln!(out, "## {}\n", table.pictures);
        figures(&mut out, &table.rows);
        let _ = writeln!(
            out,
            "\nDifference to `{reference}`, paired by scene; in brackets the smallest that would have been seen:\n"
        );
        differences(&mut out, &table.rows);
        let _ = writeln!(out);
    }
    for row in tables.first().into_iter().flat_map(|table| &table.rows) {
        let _ = writeln!(out, "- `{}`: {} Training took {:.0} s a seed.", row.arm, row.about, row.seconds);
    }
    out
}

fn line(out: &mut String, cells: &[String]) {
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

fn head(out: &mut String) {
    let cells: Vec<String> = std::iter::once("arm").chain(COLUMNS.iter().map(|c| c.name)).map(str::to_owned).collect();
    line(out, &cells);
    line(out, &vec!["---".to_owned(); cells.len()]);
}

fn figures(out: &mut String, rows: &[Row]) {
    head(out);
    for row in rows {
        let mut cells = vec![format!("{} ({} seeds)", row.arm, row.seeds.len())];
        let figure = |f: &Figure| match f.value.is_nan() {
            true => "–".to_owned(),
            false => format!("{:.3} [{:.3}, {:.3}]", f.value, f.low, f.high),
        };
        cells.extend(row.figures.iter().map(|(_, f)| figure(f)));
        line(out, &cells);
    }
}

fn differences(out: &mut String, rows: &[Row]) {
    head(out);
    for row in rows.iter().filter(|row| !row.differences.is_empty()) {
        let mut cells = vec![row.arm.clone()];
        cells.extend(row.differences.iter().zip(&row.detectable).map(|(d, least)| {
            let sure = if d.low > 0.0 || d.high < 0.0 { "**" } else { "" };
            match d.value.is_nan() {
                true => "–".to_owned(),
                false => format!("{sure}{:+.3}{sure} ({least:.3})", d.value),
            }
        }));
        line(out, &cells);
    }
}

/// The whole report of one arm's records, for whoever wants more than the table.
pub(super) fn whole(outcome: &Outcome) -> serde_json::Value {
    serde_json::json!({ "arm": outcome.arm, "seed": outcome.seed, "report": report(&outcome.records, 1) })
}
