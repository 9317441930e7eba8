//! `onboard soak`, short.

use std::path::Path;
use std::process::{Command, Output};

use crate::red;

fn soak(root: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onboard"))
        .args(["soak", "--bundle"])
        .arg(root.join("bundle"))
        .args(["--engine", "tract", "--no-gate", "--deadline-millis", "400", "--frames-per-second", "30", "--json"])
        .args(more)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

/// The report of a soak in which every promise held.
fn held(output: &Output) -> serde_json::Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    assert_eq!(report["broken"], serde_json::json!([]), "{report}");
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    report
}

/// Setup: a drone and an operator in a real process. Fault: every one that a soak knows, at least once: the engine fails, and
/// stalls; the picture freezes, tears, changes its size; the camera stops; its clock jumps; garbage.
/// Expected: exit code 0, and a report without a broken promise.
/// Invariant: the books of camera, frames and queries balance, and nothing is shown but what the camera's clock and the
/// faults make. Memory is not judged in so short a flight, and the report says so.
///
/// Promise: P1, P2, P13, P14
#[test]
fn a_short_soak_holds() {
    let root = tempfile::tempdir().unwrap();
    red::write(&root.path().join("bundle"), "1", None);
    let report = held(&soak(root.path(), &["--frames", "180", "--seed", "4"]));
    let count = |what: &serde_json::Value| what.as_u64().unwrap_or_else(|| panic!("{report}"));
    let faults = report["faults"].as_object().unwrap();
    assert!(faults.len() >= 10 && faults.values().all(|fault| count(fault) > 0), "{report}");
    assert!(count(&report["queries"]) > 5 && count(&report["frames"]["taken"]) > 50, "{report}");
    let most = 180 + count(&report["faults"]["garbage_for_the_camera"]);
    assert!(count(&report["frames"]["published"]) <= most, "{report}");
    assert_eq!(report["memory"]["judgement"], "too_short", "{report}");
    let shares = report["shares"].as_object().unwrap().values().filter_map(serde_json::Value::as_f64).sum::<f64>();
    assert!((shares - 1.0).abs() < 1e-9, "{report}");
}

/// Setup: as above. Fault: none. Expected: exit code 0, no fault in the report, frames as many as were asked for.
/// Invariant: the books balance.
///
/// Promise: P1
#[test]
fn a_soak_without_faults_makes_none() {
    let root = tempfile::tempdir().unwrap();
    red::write(&root.path().join("bundle"), "1", None);
    let report = held(&soak(root.path(), &["--frames", "30", "--faults", "none"]));
    assert!(report["faults"].as_object().unwrap().values().all(|count| count == 0), "{report}");
    assert_eq!(report["frames"]["published"], 30, "{report}");
    assert_eq!(report["under_fault"], 0.0, "{report}");
}

#[test]
fn bad_flags_of_a_soak_are_told() {
    let root = tempfile::tempdir().unwrap();
    for flags in [["--frames", "0"], ["--faults", "some"]] {
        assert_eq!(soak(root.path(), &flags).status.code(), Some(2));
    }
    let output = soak(root.path(), &["--minutes", "NaN"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--minutes: expected above 0"));
}
