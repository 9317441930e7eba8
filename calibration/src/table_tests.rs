#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use crate::Share;
use kestrel_link::Presence;
use proptest::prelude::*;
use std::path::Path;

fn claim(name: &str) -> Claim {
    Claim { name: name.into(), scenes: 300, questions: 410, risk: 0.01, upper: 0.04, needed: 107 }
}

fn table() -> Table {
    Table {
        format: FORMAT,
        model: "kestrel-s@0.2.0".into(),
        thresholds: Thresholds {
            model_hash: "c".repeat(64),
            presence: Presence { weights: [-0.7, 0.2, 0.1], bias: -1.0 },
            presence_threshold: 0.6,
            mask_threshold: 0.35,
            doubt_threshold: 0.9,
            min_area_pixels: 8,
            data: "scenes-tune".into(),
            seed: 0,
            date: "2026-01-01".into(),
        },
        alpha: 0.05,
        stratum_alpha: None,
        delta: 0.05,
        unit: Unit::Mean,
        sources: vec![Source {
            set: "scenes-tune".into(),
            seed: 1,
            limit: Some(1500),
            engine: Some("tract".into()),
            real: false,
            gate: true,
            gate_table: None,
            sha256: "d".repeat(64),
        }],
        fitting: vec![],
        mixture: claim("mixture"),
        strata: vec![claim("scenes: absent category"), claim("scenes: noise")],
        reported: vec![Claim { upper: 0.4, scenes: 9, questions: 9, ..claim("real: absent category") }],
        measured: Measured {
            clear: Some(Share { value: 0.03, low: 0.01, high: 0.08, n: 100 }),
            present: Some(Share { value: 0.1, low: 0.05, high: 0.2, n: 50 }),
            calibration_error_before: Some(0.1),
            calibration_error_after: None,
            curve: vec![],
        },
        costs: vec![],
        resplits: None,
    }
}

#[test]
fn a_table_comes_back() {
    let table = table();
    let text = table.to_json().unwrap();
    assert_eq!(Table::from_json(text.as_bytes()).unwrap(), table);
}

/// What would break: thresholds of one model deciding for another.
#[test]
fn a_table_is_of_one_model() {
    let table = table();
    table.check_model(&"c".repeat(64)).unwrap();
    let error = table.check_model(&"e".repeat(64)).unwrap_err().to_string();
    assert!(error.contains("eeee") && error.contains("cccc") && error.contains("calibrate this model"), "{error}");
}

#[test]
fn promises_that_the_numbers_do_not_keep_are_refused() {
    type Damage = fn(&mut Table);
    let wrongs: [(&str, Damage); 11] = [
        ("upper of scenes: noise", |t| t.strata[1].upper = 0.051),
        ("scenes of mixture", |t| t.mixture.scenes = 100),
        ("risk of mixture", |t| t.mixture.risk = f64::NAN),
        ("upper of mixture", |t| t.mixture.risk = 0.045),
        ("questions of", |t| t.reported[0].questions = 8),
        ("alpha", |t| t.alpha = 1.0),
        ("stratum_alpha", |t| t.stratum_alpha = Some(0.01)),
        ("stratum_alpha", |t| t.stratum_alpha = Some(f64::NAN)),
        ("strata", |t| t.strata.clear()),
        ("format", |t| t.format = 2),
        ("presence_threshold", |t| t.thresholds.presence_threshold = 2.0),
    ];
    for (word, change) in wrongs {
        let mut changed = table();
        change(&mut changed);
        let error = changed.to_json().unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
}

/// Files of `attacks/`: what each must be refused for stands in its name's other file, `NAME.expect`.
#[test]
fn hostile_tables_are_refused_for_their_reason() {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("attacks");
    let mut tried = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let expect = std::fs::read_to_string(path.with_extension("expect")).unwrap();
        let gate = path.file_name().unwrap().to_string_lossy().starts_with("gate-");
        let error =
            if gate { crate::GateTable::from_json(&bytes).unwrap_err() } else { Table::from_json(&bytes).unwrap_err() };
        assert!(error.to_string().contains(expect.trim()), "{}: {error}", path.display());
        tried += 1;
    }
    assert!(tried >= 10, "only {tried} attacks found");
}

/// What would break: a table that ships and says nothing that holds, or is of other graphs than the released ones.
#[test]
fn tables_that_ship_are_whole_and_of_the_released_model() {
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let released = Path::new(&here).join("../models/released/kestrel-s");
    let read = |name: &str| std::fs::read(released.join(name)).unwrap();
    let model = kestrel_link::Manifest::from_json(&read("manifest.json")).unwrap().model();
    let graphs = Thresholds::from_json(&read("thresholds.json")).unwrap().model_hash;
    for entry in std::fs::read_dir(Path::new(&here).join("tables")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        if path.file_stem().unwrap() == "gate" {
            crate::GateTable::from_json(&bytes).unwrap();
            continue;
        }
        let table = Table::from_json(&bytes).unwrap();
        if table.model == model {
            table.check_model(&graphs).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_table_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..3000) {
        let _ = Table::from_json(&bytes);
        let mut text = table().to_json().unwrap().into_bytes();
        let at = at % (text.len() - 1);
        text[at] ^= 0x15;
        let _ = Table::from_json(&text);
        text.truncate(at);
        prop_assert!(Table::from_json(&text).is_err());
    }
}
