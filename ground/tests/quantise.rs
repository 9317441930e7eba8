//! A model in half precision becomes a bundle of integers, and what does not fit is refused.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};

use kestrel_link::Manifest;
use kestrel_onboard::bundle::{Bundle, seal};

fn ground(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ground")).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn refused(arguments: &[&str], words: &[&str]) {
    let output = ground(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?}");
    assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{arguments:?} does not say {word:?}: {stderr}");
    }
}

#[test]
fn a_bundle_becomes_small_flies_and_needs_thresholds_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (wide, small) = (dir.path().join("wide"), dir.path().join("small"));
    assert!(ground(&["export", "--untrained", "--out", text(&wide)]).status.success());
    std::fs::write(wide.join("MODEL_CARD.md"), "# A card\n").unwrap();
    seal(&wide, Bundle::open(&wide).unwrap().manifest, None).unwrap();
    // What an earlier run left.
    std::fs::create_dir_all(small.join("canary")).unwrap();
    std::fs::write(small.join("canary/00.json"), "{}").unwrap();
    std::fs::write(small.join("calibration.json"), "{}").unwrap();

    let made =
        ground(&["quantise", text(&wide), "--limit", "8", "--sweep-frames", "1", "--json", "--out", text(&small)]);
    let record: serde_json::Value = serde_json::from_slice(&made.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&made.stderr)));
    assert!(record["bytes"]["share"].as_f64().unwrap() <= 0.30, "{}", record["bytes"]);
    assert_eq!(record["calibration"]["frames"], 8);
    assert!(record["shift"]["questions"].as_u64().unwrap() > 0);
    assert!(record["scheme"]["layers"].as_object().unwrap().len() > 100, "{record}");

    let bundle = Bundle::open(&small).unwrap();
    assert_eq!(bundle.thresholds.data, "not calibrated");
    assert_eq!(bundle.canaries.len(), 0);
    assert!(!bundle.manifest.files.contains_key("calibration.json"), "a promise of thresholds that are gone");
    assert_eq!(bundle.manifest.version, "0.0.0-untrained-int8");
    let precision = &bundle.manifest.provenance["precision.vision.onnx"];
    assert!(precision.starts_with("int8 in ") && precision.ends_with("kept f16: none"), "{precision}");
    for kept in ["quantisation.json", "MODEL_CARD.md"] {
        assert!(bundle.manifest.files.contains_key(kept), "{kept}");
    }

    // The runtime that flies takes it.
    let judged = ground(&["eval", "--bundle", text(&small), "--limit", "1", "--json"]);
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));

    // What is quantised already is not quantised again.
    let twice = dir.path().join("twice");
    refused(&["quantise", text(&small), "--out", text(&twice)], &["quantised already"]);

    // Thresholds of the model that it was made from do not start it.
    std::fs::copy(wide.join("thresholds.json"), small.join("thresholds.json")).unwrap();
    let manifest = Manifest::from_json(&std::fs::read(small.join("manifest.json")).unwrap()).unwrap();
    let error = seal(&small, manifest, None).unwrap_err().to_string();
    assert!(error.contains("model_hash"), "{error}");

    let wide = text(&wide);
    refused(&["quantise", wide, "--limit", "1", "--out", text(&twice)], &["1 frames", "at least 8", "7 more"]);
    refused(&["quantise", wide, "--calibration", "scenes-test", "--out", text(&twice)], &["tests the model", "hint:"]);
    refused(&["quantise", wide, "--calibration", "nowhere", "--out", text(&twice)], &["nowhere", "scenes-tune"]);
    refused(&["quantise", wide, "--out", wide], &["another folder"]);
    refused(&["quantise", "nothing/there", "--out", text(&twice)], &["nothing/there", "hint:"]);
    refused(&["quantise", wide, "--mask-bound", "0", "--out", text(&twice)], &["bounds above 0"]);
    assert!(!twice.exists());
}
