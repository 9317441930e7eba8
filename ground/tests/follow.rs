//! Films that are followed, by the released model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What would break: a standing query that reads its words for every frame, or a report that does not add up.
#[test]
fn a_film_is_followed_with_fewer_readings_than_frames() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(env!("CARGO_BIN_EXE_ground"))
        .current_dir(&root)
        .args(["follow", "--scenes", "1", "--frames", "5", "--engine", "tract", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |way: &str, what: &str| report[way][what].as_u64().unwrap();
    let questions = report["questions"].as_u64().unwrap();
    assert_eq!((report["scenes"].as_u64(), report["frames"].as_u64()), (Some(1), Some(5)));
    assert_eq!((count("standing", "vision_runs"), count("anew", "vision_runs")), (5, 5), "shared by the questions");
    assert_eq!(count("anew", "language_runs"), 5 * questions);
    assert!(count("standing", "language_runs") < 5 * questions, "{report}");
    let ratio = report["time_ratio"].as_f64().unwrap();
    assert!(ratio > 0.0 && ratio.is_finite(), "{report}");
    for kind in ["one", "all"] {
        let of = |what: &str| report[kind][what].as_u64().unwrap();
        assert_eq!(of("matches") + of("misses"), of("truths"));
    }
}
