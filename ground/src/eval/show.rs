//! Figures as a person reads them.

use kestrel_training::metrics::{Figure, Masks, Report};

/// Prints every figure of a report.
pub(super) fn print(set: &str, model: &str, engine: &str, report: &Report) {
    println!("{model} on {set}, engine {engine}, {} questions; 95 % intervals resampled by scene\n", report.records);
    masks("specific", &report.specific);
    masks("specific from 24 px", &report.specific_from_24);
    masks("specific from 32 px", &report.specific_from_32);
    masks("general (all …)", &report.general);
    line("hard negatives passed", &report.hard_negative.pass_rate);
    line("false refusals", &report.present.false_refusal_rate);
    line("right reason of refusal", &report.reason_accuracy);
    line("IL_MCC", &report.il_mcc);
    line("calibration error", &report.calibration_error);
    for (size, masks) in &report.sizes {
        line(&format!("gIoU, {size:?} targets").to_lowercase(), &masks.giou);
    }
    for (stratum, figure) in &report.strata {
        line(&format!("stratum {stratum:?}").to_lowercase(), figure);
    }
    for (phrasing, figure) in &report.phrasing {
        line(&format!("phrasing {phrasing}"), figure);
    }
    for (family, figure) in &report.refusals_by_degradation {
        line(&format!("refused, {family}"), figure);
    }
}

fn masks(name: &str, masks: &Masks) {
    line(&format!("{name} gIoU"), &masks.giou);
    line(&format!("{name} cIoU"), &masks.ciou);
    if let Some(figure) = masks.precision.get("0.5") {
        line(&format!("{name} P@0.5"), figure);
    }
}

/// One figure with its interval.
pub(super) fn line(name: &str, figure: &Figure) {
    println!("{name:<32} {:>6.3}  [{:.3}, {:.3}]  n = {}", figure.value, figure.low, figure.high, figure.n);
}
