//! `onboard soak`, short.

use std::process::Command;

use crate::red;

/// Setup: a drone and an operator in a real process. Fault: every one that a soak knows, at least once: the engine fails, and
/// stalls for up to ten deadlines; the picture freezes, tears, changes its size; the camera stops; its clock jumps; garbage.
/// Expected: exit code 0, and a report without a broken promise.
/// Invariant: the books of camera, frames and queries balance, and memory has not grown by more than is allowed.
///
/// Promise: P1, P2, P5, P13, P14
#[test]
fn a_short_soak_holds() {
    let root = tempfile::tempdir().unwrap();
    red::write(&root.path().join("bundle"), "1", None);
    let soak = |more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_onboard"))
            .args(["soak", "--bundle"])
            .arg(root.path().join("bundle"))
            .args(["--engine", "tract", "--no-gate", "--deadline-millis", "400", "--frames-per-second", "30", "--json"])
            .args(more)
            .env_remove("RUST_LOG")
            .output()
            .unwrap()
    };
    let output = soak(&["--frames", "180", "--seed", "4"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    assert_eq!(report["broken"], serde_json::json!([]), "{report}");
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let faults = report["faults"].as_object().unwrap();
    assert!(faults.len() >= 10 && faults.values().all(|count| count.as_u64() > Some(0)), "{report}");
    assert!(report["queries"].as_u64() > Some(5) && report["frames"]["taken"].as_u64() > Some(50), "{report}");

    // Bad flags are told.
    let output = soak(&["--frames", "0"]);
    assert_eq!(output.status.code(), Some(2));
    let output = soak(&["--minutes", "NaN"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--minutes: expected above 0"));
}
