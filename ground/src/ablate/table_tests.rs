#![allow(clippy::unwrap_used)]

use super::cost::Cost;
use super::markdown::markdown;
use super::table::{Outcome, Row, Table, judged, tables};
use kestrel_calibration::{Fitted, wilson};
use kestrel_training::metrics::{Kind, Record, Swept};
use kestrel_training::sample::Stratum;

/// A record with a tiny mask that is shown, all of it on the target where there is one.
fn record(scene: usize, expected: Kind, presence: f32) -> Record {
    let (target, stratum) = match expected {
        Kind::Mask => (100, Stratum::Colour),
        Kind::Unseeable => (0, Stratum::Unseeable),
        _ => (0, Stratum::AbsentColour),
    };
    Record {
        set: "scenes-test".into(),
        scene: format!("scene {scene}"),
        frame: "0".into(),
        text: "the red car".into(),
        stratum,
        expected,
        weak: false,
        target,
        held_out_phrasing: false,
        slipped: false,
        degradation: (expected == Kind::Unseeable).then(|| ("noise".into(), 0.8)),
        given: Kind::Mask,
        predicted: 100,
        intersection: target,
        presence,
        features: [0.0, 0.0, 1.0],
        doubt: -5.0,
        sweep: vec![Swept { threshold: 0.5, predicted: 100, intersection: target }],
    }
}

/// So many clear targets in scenes of their own, their presences 1, 2, … of 21, times a scale.
fn clear(count: usize, scale: f32) -> Vec<Record> {
    (0..count).map(|i| record(i, Kind::Mask, scale * (i + 1) as f32 / 21.0)).collect()
}

/// Absent targets of these presences, of 21 and times a scale, in the first scenes.
fn absent(presences: &[f32], scale: f32) -> Vec<Record> {
    presences.iter().enumerate().map(|(i, p)| record(i, Kind::Absent, scale * p / 21.0)).collect()
}

fn outcome(arm: &str, seed: u64, records: Vec<Record>) -> Outcome {
    Outcome { arm: arm.to_owned(), seed, cost: Cost::default(), records }
}

/// The tables of these outcomes, compared with the arm `base`.
fn made(outcomes: &[Outcome]) -> Vec<Table> {
    let mut arms: Vec<(String, String)> = outcomes.iter().map(|o| (o.arm.clone(), "An arm.".to_owned())).collect();
    arms.dedup();
    tables(outcomes, &arms, "base")
}

fn row<'t>(tables: &'t [Table], pictures: &str, arm: &str) -> &'t Row {
    let table = tables.iter().find(|table| table.pictures == pictures).unwrap();
    table.rows.iter().find(|row| row.arm == arm).unwrap()
}

fn column(row: &Row, name: &str) -> usize {
    row.figures.iter().position(|(column, _)| column == name).unwrap()
}

fn value(row: &Row, name: &str) -> f64 {
    row.figures[column(row, name)].1.value
}

const SCENES: &str = "Drawn scenes";
const ABSENT: &str = "hallucinated, absent, at 10 % refused";
const UNSEEABLE: &str = "hallucinated, unseeable, at 10 % refused";
const NEVER: &str = "false refusals, clean, at any threshold";

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

/// What would break: arms compared at different rates of false refusals, which says nothing about either.
#[test]
fn hallucinations_are_compared_where_exactly_a_tenth_of_clear_targets_is_refused() {
    // Of 20 the two lowest are refused, so that 2.5 of 21 is silent and 3.5 and 4.5 are not.
    let mut records = [clear(20, 1.0), absent(&[2.5, 3.5, 4.5], 1.0)].concat();
    records.push(record(0, Kind::Unseeable, 2.9 / 21.0));
    records.push(record(1, Kind::Unseeable, 9.0 / 21.0));
    // Targets that a view degrades set no threshold.
    let rain = Some(("rain".to_owned(), 0.6));
    records.extend((0..20).map(|i| Record { degradation: rain.clone(), ..record(i, Kind::Mask, 0.0) }));
    let tables = made(&[outcome("base", 1, records)]);
    let base = row(&tables, SCENES, "base");
    assert!(near(value(base, ABSENT), 2.0 / 3.0) && near(value(base, UNSEEABLE), 0.5), "{base:?}");
    assert_eq!((value(base, "hallucinated, absent"), value(base, NEVER)), (1.0, 0.0));

    // Of 19, all of the lowest and nine tenths of the next: of what lies exactly there a tenth is answered.
    let tables = made(&[outcome("base", 1, [clear(19, 1.0), absent(&[2.0], 1.0)].concat())]);
    assert!(near(value(row(&tables, SCENES, "base"), ABSENT), 0.1));
}

/// What would break: a model that is surer of everything would seem to hallucinate more, or be averaged with another seed's.
#[test]
fn every_run_has_a_threshold_of_its_own_also_when_scenes_are_drawn() {
    let records = |scale: f32| [clear(20, scale), absent(&[2.5, 3.5, 4.5], scale)].concat();
    let runs = [outcome("base", 1, records(1.0)), outcome("arm", 1, records(1.0)), outcome("arm", 2, records(0.1))];
    let tables = made(&runs);
    let arm = row(&tables, SCENES, "arm");
    assert!(near(value(arm, ABSENT), 2.0 / 3.0), "{arm:?}");
    let at = column(arm, ABSENT);
    let difference = arm.differences[at];
    assert!(near(difference.value, 0.0) && near(difference.low, 0.0) && near(difference.high, 0.0), "{difference:?}");
    assert!(near(arm.deviations[at], 0.0) && row(&tables, SCENES, "base").differences.is_empty());
}

/// What would break: silence by empty masks, or by words that are not understood, would cost nothing.
#[test]
fn targets_without_a_mask_are_refused_at_any_threshold() {
    let without = |count: usize| {
        let mut records = [clear(20, 1.0), absent(&[4.5], 1.0)].concat();
        // The surest of all, and no pixel to show.
        records[20 - count..20].iter_mut().for_each(|r| r.sweep[0].predicted = 0);
        made(&[outcome("base", 1, records)])
    };
    let two = without(2);
    let base = row(&two, SCENES, "base");
    assert!(near(value(base, ABSENT), 1.0) && near(value(base, NEVER), 0.1), "{base:?}");
    let three = without(3);
    let base = row(&three, SCENES, "base");
    assert!(value(base, ABSENT).is_nan() && near(value(base, NEVER), 0.15), "{base:?}");
    assert!(markdown(&three, "base").contains(" | – | "));

    let fitted = |doubt_threshold: f32| Fitted {
        presence: [0.0, 0.0, 1.0, 0.0],
        presence_threshold: 0.5,
        mask_threshold: 0.5,
        doubt_threshold,
        false_refusals: wilson(0, 1),
        passes: wilson(1, 1),
        nonsense_found: wilson(1, 1),
        false_doubts: wilson(0, 1),
        sets: Vec::new(),
    };
    // A doubt of 0.73: refused for its words beside a threshold of 0.5, understood beside 0.9.
    let doubted = Record { doubt: 1.0, ..record(0, Kind::Mask, 0.9) };
    for (threshold, shown, never) in [(0.5, false, 1.0), (0.9, true, 0.0)] {
        let judged = judged(&doubted, &fitted(threshold));
        assert_eq!(judged.shown(), shown, "{judged:?}");
        let tables = made(&[outcome("base", 1, vec![judged])]);
        assert!(near(value(row(&tables, SCENES, "base"), NEVER), never));
    }
}

/// What would break: photographs as they were taken averaged with degraded ones, or thresholds read off the latter.
#[test]
fn degraded_photographs_have_a_table_of_their_own_at_the_thresholds_of_clean_ones() {
    let named = |set: &str, records: Vec<Record>| -> Vec<Record> {
        records.into_iter().map(|r| Record { set: set.to_owned(), ..r }).collect()
    };
    let clean = named("nwpu-test", [clear(20, 1.0), absent(&[2.5, 3.5], 1.0)].concat());
    let haze = Some(("haze".to_owned(), 0.4));
    let missed = Record { degradation: haze, predicted: 0, intersection: 0, ..record(2, Kind::Mask, 0.9) };
    let hidden = [2.5, 3.5, 4.5, 5.5].map(|p| record(3, Kind::Unseeable, p / 21.0));
    let degraded = named("nwpu-degraded", [vec![missed], hidden.to_vec()].concat());
    let (alone, both) =
        (made(&[outcome("base", 1, clean.clone())]), made(&[outcome("base", 1, [clean, degraded].concat())]));
    let names = |tables: &[Table]| tables.iter().map(|table| table.pictures).collect::<Vec<_>>();
    assert_eq!((names(&alone), names(&both)), (vec!["Photographs"], vec!["Photographs", "Degraded photographs"]));
    let (before, after) = (row(&alone, "Photographs", "base"), row(&both, "Photographs", "base"));
    assert_eq!((before.records, after.records), (22, 22));
    for ((name, was), (_, is)) in before.figures.iter().zip(&after.figures) {
        assert!(was.value == is.value || was.value.is_nan() && is.value.is_nan(), "{name}: {was:?} {is:?}");
    }
    assert!(near(value(after, ABSENT), 0.5) && value(after, "hallucinated, unseeable").is_nan());
    let base = row(&both, "Degraded photographs", "base");
    assert_eq!((base.records, value(base, "gIoU specific")), (5, 0.0));
    assert_eq!((value(base, "hallucinated, unseeable"), value(base, "false refusals, degraded")), (1.0, 1.0));
    assert!(near(value(base, UNSEEABLE), 0.75) && value(base, ABSENT).is_nan(), "{base:?}");
}

#[test]
fn precision_on_tiny_targets_and_deviations_over_seeds_are_printed() {
    let right = record(0, Kind::Mask, 0.9);
    let wrong = Record { intersection: 10, ..record(1, Kind::Mask, 0.9) };
    let silent = Record { predicted: 0, intersection: 0, ..record(2, Kind::Mask, 0.1) };
    let large = Record { target: 5000, intersection: 0, ..record(3, Kind::Mask, 0.9) };
    let runs = [
        outcome("base", 1, vec![right.clone(), wrong.clone(), silent, large]),
        outcome("arm", 1, vec![right.clone()]),
        outcome("arm", 2, vec![wrong, right]),
    ];
    let tables = made(&runs);
    let (base, arm) = (row(&tables, SCENES, "base"), row(&tables, SCENES, "arm"));
    let (tiny, text) = ("P@0.5 tiny, shown", markdown(&tables, "base"));
    assert_eq!((value(base, tiny), text.matches(tiny).count()), (0.5, 2));
    // 1 and 0.5 over the seeds.
    assert!(near(arm.deviations[column(arm, tiny)], 0.125f64.sqrt()));
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap();
    assert!(line("| arm (2 seeds)").contains("] ±0.354 |") && !line("| base (1 seeds)").contains('±'), "{text}");
    assert!(text.contains("read off the test set: for comparing arms, not a promise"), "{text}");
}

#[test]
fn what_seeds_cost_is_averaged_over_those_that_tell_and_printed() {
    let cost = |seconds: f64, judging_seconds: Option<f64>, peak: f64| Cost {
        seconds,
        workers: Some(2),
        judging_seconds,
        peak_mebibytes: Some(peak),
    };
    let run = |arm: &str, seed: u64, cost: Cost| Outcome { cost, ..outcome(arm, seed, clear(2, 1.0)) };
    let runs = [
        run("base", 0, Cost::default()),
        run("arm", 1, cost(3600.0, Some(4.0), 900.0)),
        run("arm", 2, cost(7200.0, None, 800.0)),
    ];
    let tables = made(&runs);
    let arm = row(&tables, SCENES, "arm");
    assert_eq!((arm.seconds, arm.core_hours), (5400.0, Some(3.0)));
    assert_eq!((arm.judging_seconds, arm.peak_mebibytes), (Some(4.0), Some(900.0)));
    let text = markdown(&tables, "base");
    assert!(text.contains("| arm | 5400 | 3.000 | 4.0 | 900 |") && text.contains("| base | 0 | – | – | – |"), "{text}");
    let json = serde_json::to_value(&tables).unwrap();
    let row = &json[0]["rows"][1];
    assert_eq!((row["core_hours"].as_f64(), row["peak_mebibytes"].as_f64()), (Some(3.0), Some(900.0)));
    assert!(json[0]["rows"][0]["judging_seconds"].is_null());
}
