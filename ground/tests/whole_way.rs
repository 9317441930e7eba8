//! The whole way with a model that was never trained: export, drone, link, outcomes, page. What the answers are worth
//! is for `ground eval` to say; here every question gets exactly one, and the gate needs no training.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};

fn ground(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ground")).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Promise: P1, P4, P12
#[test]
fn every_question_gets_one_outcome_and_the_gate_refuses_degraded_frames() {
    let dir = tempfile::tempdir().unwrap();
    let (bundle, out) = (dir.path().join("bundle"), dir.path().join("demo"));
    let exported = ground(&["export", "--untrained", "--explain", "--out", text(&bundle)]);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    // The graph that decodes is a file like any other: hashed, and no hindrance to flying.
    let manifest = std::fs::read(bundle.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert!(manifest["files"]["explain.onnx"]["bytes"].as_u64().unwrap() > 1 << 20, "{manifest}");

    // It answers with reasons, and is judged by them.
    let judged = ground(&["eval", "--bundle", text(&bundle), "--limit", "2", "--reasoned", "1", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&judged.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&judged.stderr)));
    let reasoned = &report["reasoned"];
    assert_eq!(
        (reasoned["completed"]["n"].as_u64(), reasoned["agreement"]["n"].as_u64()),
        (Some(2), Some(2)),
        "{report}"
    );
    assert!(reasoned["tokens"]["value"].as_f64().unwrap() > 0.0, "{reasoned}");

    let demo = ground(&["demo", "--headless", "--json", "--bundle", text(&bundle), "--out", text(&out)]);
    let summary: serde_json::Value = serde_json::from_slice(&demo.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&demo.stderr)));
    let rows = summary["rows"].as_array().unwrap();
    assert!(rows.len() >= 20, "{} questions", rows.len());
    for row in rows {
        let kind = row["reply"]["outcome"]["kind"].as_str();
        assert!(matches!(kind, Some("segmented" | "refused")), "{row}");
    }
    let check = |what: &str| {
        let checks = summary["checks"].as_array().unwrap();
        checks.iter().find(|check| check["what"].as_str().unwrap().contains(what)).unwrap().clone()
    };
    assert_eq!(check("degraded")["passed"], true, "{summary}");
    // Nobody taught it anything: an untrained model must not pass as a trained one.
    assert_eq!(summary["passed"], false);
    assert_eq!(demo.status.code(), Some(1));
    let page = std::fs::read_to_string(out.join("index.html")).unwrap();
    assert_eq!(page.matches("<article>").count(), rows.len());
}

#[test]
fn wrong_input_is_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    let broken = dir.path().join("recipe.toml");
    std::fs::write(&broken, "nmae = \"misspelt\"\n").unwrap();
    for (arguments, word) in [
        (vec!["demo", "--headless", "--bundle", text(&nowhere)], "nowhere"),
        (vec!["eval", "--bundle", text(&nowhere)], "nowhere"),
        (vec!["train", text(&broken)], "nmae"),
        (vec!["train", text(&nowhere)], "nowhere"),
        (vec!["export", text(&nowhere), "--out", text(dir.path())], "nowhere"),
        (vec!["keys", "show", text(&nowhere)], "hint:"),
        (vec!["push", "kestrel-1", text(&nowhere)], "nowhere"),
        (vec!["ask", "Not A Drone", "the car"], "drone"),
        (vec!["ask", "kestrel-1", ""], "text"),
        (vec!["demo", "--frames", text(&nowhere)], "--ask"),
    ] {
        let output = ground(&arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(stderr.contains(word), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
}
