//! The tables of an experiment for people.

use super::columns::COLUMNS;
use super::table::{Row, Table};
use kestrel_training::metrics::Figure;
use std::fmt::Write as _;

/// What stands for a figure that nothing tells.
const NOTHING: &str = "–";

/// How the figures are to be read.
const READING: &str = "\
In square brackets 95 % intervals, resampled by scene; behind ± the deviation over seeds, where there are several.
\"At 10 % refused\": with the threshold of each run that refuses exactly 10 % of its present targets on clean views, those \
without any mask among them. It is read off the test set: for comparing arms, not a promise. Where more of them have no mask at \
any threshold, there is no such threshold (–).
";

/// The tables as Markdown: figures, then differences to the reference; how to read them, what a seed cost and what the arms are
/// stands once below.
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
    let _ = writeln!(out, "{READING}");
    let rows = tables.first().map_or(&[][..], |table| table.rows.as_slice());
    costs(&mut out, rows);
    let _ = writeln!(out);
    for row in rows {
        let _ = writeln!(out, "- `{}`: {}", row.arm, row.about);
    }
    out
}

fn line(out: &mut String, cells: &[String]) {
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

fn head<'a>(out: &mut String, names: impl Iterator<Item = &'a str>) {
    let cells: Vec<String> = std::iter::once("arm").chain(names).map(str::to_owned).collect();
    line(out, &cells);
    line(out, &vec!["---".to_owned(); cells.len()]);
}

fn figures(out: &mut String, rows: &[Row]) {
    head(out, COLUMNS.iter().map(|column| column.name));
    for row in rows {
        let mut cells = vec![format!("{} ({} seeds)", row.arm, row.seeds.len())];
        cells.extend(row.figures.iter().zip(&row.deviations).map(|((_, f), deviation)| figure(f, *deviation)));
        line(out, &cells);
    }
}

fn figure(figure: &Figure, deviation: f64) -> String {
    let Figure { value, low, high, .. } = figure;
    match (value.is_nan(), deviation.is_nan()) {
        (true, _) => NOTHING.to_owned(),
        (false, true) => format!("{value:.3} [{low:.3}, {high:.3}]"),
        (false, false) => format!("{value:.3} [{low:.3}, {high:.3}] ±{deviation:.3}"),
    }
}

fn differences(out: &mut String, rows: &[Row]) {
    head(out, COLUMNS.iter().map(|column| column.name));
    for row in rows.iter().filter(|row| !row.differences.is_empty()) {
        let mut cells = vec![row.arm.clone()];
        cells.extend(row.differences.iter().zip(&row.detectable).map(|(d, least)| {
            let sure = if d.low > 0.0 || d.high < 0.0 { "**" } else { "" };
            match d.value.is_nan() {
                true => NOTHING.to_owned(),
                false => format!("{sure}{:+.3}{sure} ({least:.3})", d.value),
            }
        }));
        line(out, &cells);
    }
}

/// Names of what a run cost.
const COSTS: [&str; 4] =
    ["training, s a seed", "core-hours a seed (s × workers)", "judging, s a seed", "peak memory in training, MiB"];

fn costs(out: &mut String, rows: &[Row]) {
    head(out, COSTS.into_iter());
    let told = |value: Option<f64>, digits: usize| match value {
        Some(value) => format!("{value:.digits$}"),
        None => NOTHING.to_owned(),
    };
    for row in rows {
        let Row { seconds, core_hours, judging_seconds, peak_mebibytes, .. } = row;
        line(
            out,
            &[
                row.arm.clone(),
                told(Some(*seconds), 0),
                told(*core_hours, 3),
                told(*judging_seconds, 1),
                told(*peak_mebibytes, 0),
            ],
        );
    }
}
