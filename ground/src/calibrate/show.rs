//! A calibration as a person reads it, and its curve.

use crate::steps::CALIBRATION_FILE;
use anyhow::{Context, Result};
use kestrel_calibration::measure::Measured;
use kestrel_calibration::{Calibrated, Claim, Cost, Promise, Resplits, Share, Table};
use kestrel_training::curves;
use std::path::Path;

/// Writes table and curve into a folder.
pub(super) fn write(out: &Path, table: &Table) -> Result<()> {
    write_curve(out, &table.measured)?;
    let path = out.join(CALIBRATION_FILE);
    std::fs::write(&path, table.to_json()?).with_context(|| format!("writing {}", path.display()))
}

/// Writes `risk-coverage.svg`.
pub(super) fn write_curve(out: &Path, measured: &Measured) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let path = out.join("risk-coverage.svg");
    let risk = measured.curve.iter().map(|point| (point.coverage, point.risk)).collect();
    let threshold = measured.curve.iter().map(|point| (point.coverage, f64::from(point.threshold))).collect();
    let text = curves::square(
        "share of clear present targets answered",
        &[("risk", "#c0392b", risk), ("presence threshold", "#2c7fb8", threshold)],
    );
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

/// Prints a table that holds.
pub(super) fn print(table: &Table) {
    println!("{}: {}\n", table.model, table.thresholds.data);
    println!(
        "presence threshold {:.4}, mask threshold {:.2}",
        table.thresholds.presence_threshold, table.thresholds.mask_threshold
    );
    claims(&table.mixture, &table.strata, &table.reported);
    measured(&table.measured);
    costs(&table.costs);
    if let Some(again) = &table.resplits {
        print_resplits(again, (table.alpha, table.stratum_alpha));
    }
}

/// Prints what was found, whether or not it can be afforded.
pub(super) fn print_found(found: &Calibrated, promise: &Promise) {
    let risk = risk((promise.alpha, promise.stratum_alpha));
    println!("presence threshold {:.4} would keep a risk of {risk}", found.threshold);
    claims(&found.mixture, &found.strata, &found.reported);
    measured(&found.measured);
    costs(&found.costs);
}

/// A risk of the mixture, and of each stratum where that is another.
fn risk((alpha, stratum): (f64, Option<f64>)) -> String {
    stratum.map_or_else(|| alpha.to_string(), |stratum| format!("{alpha}, {stratum} in a stratum"))
}

fn claims(mixture: &Claim, strata: &[Claim], reported: &[Claim]) {
    println!("\n{:<32} {:>7} {:>9} {:>8} {:>8}", "masks for what is not there", "scenes", "questions", "risk", "bound");
    for claim in [mixture].into_iter().chain(strata) {
        println!("{}", row(claim));
    }
    for claim in reported {
        let wanting = if claim.scenes < claim.needed {
            format!("; a promise needs {} scenes", claim.needed)
        } else {
            String::new()
        };
        println!("{}  not promised{wanting}", row(claim));
    }
}

/// One line about a claim.
pub(super) fn row(claim: &Claim) -> String {
    format!("{:<32} {:>7} {:>9} {:>8.4} {:>8.4}", claim.name, claim.scenes, claim.questions, claim.risk, claim.upper)
}

fn measured(measured: &Measured) {
    println!();
    let line = |name: &str, share: &Option<Share>| match share {
        Some(s) => println!("{name:<40} {:.3}  [{:.3}, {:.3}]  n = {}", s.value, s.low, s.high, s.n),
        None => println!("{name:<40} no such question"),
    };
    line("clear present targets refused", &measured.clear);
    line("present targets refused, any view", &measured.present);
    let number = |value: Option<f64>| value.map_or("—".to_owned(), |value| format!("{value:.3}"));
    let (before, after) = (number(measured.calibration_error_before), number(measured.calibration_error_after));
    println!("{:<40} {before} before, {after} after", "calibration error of the presence");
}

fn costs(costs: &[Cost]) {
    println!("\n{:>6} {:>10} {:>24} {:>18}", "risk", "threshold", "clear targets refused", "targets answered");
    for cost in costs {
        match (cost.threshold, cost.false_refusals, cost.coverage) {
            (Some(threshold), refused, answered) => {
                let percent = |share: Option<f64>| share.map_or("—".to_owned(), |s| format!("{:.1} %", 100.0 * s));
                println!("{:>6} {threshold:>10.4} {:>24} {:>18}", cost.alpha, percent(refused), percent(answered));
            }
            (None, ..) if cost.missing_scenes > 0 => {
                println!("{:>6} {:>10}   {} scenes are missing", cost.alpha, "—", cost.missing_scenes);
            }
            (None, ..) => println!("{:>6} {:>10}   no threshold keeps it", cost.alpha, "—"),
        }
    }
}

/// Prints what re-splits found.
pub(super) fn print_resplits(again: &Resplits, risks: (f64, Option<f64>)) {
    println!(
        "\n{} re-splits by scene, {} with a threshold; measured on the half that was not calibrated on:",
        again.count, again.promised
    );
    println!("risk of at most {}", risk(risks));
    println!("{:<32} {:>10} {:>8} {:>9}", "", "within", "mean", "greatest");
    for (name, kept) in &again.strata {
        let promised = if kept.promised { "" } else { "  not promised" };
        println!("{name:<32} {:>8.1} % {:>8.4} {:>9.4}{promised}", 100.0 * kept.within, kept.mean, kept.greatest);
    }
    if let Some(refused) = again.false_refusals {
        println!("clear present targets refused there: {:.1} %", 100.0 * refused);
    }
}
