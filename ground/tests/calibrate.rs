//! From records to thresholds with a promise, into a bundle, and the same again from its record of steps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::released::RELEASED;
use kestrel_training::metrics::{Kind, Record};
use kestrel_training::sample::Stratum;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn ground(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ground")).args(arguments).env_remove("KESTREL_DATA").output().unwrap()
}

/// What a command that must succeed prints.
fn said(arguments: &[&str]) -> String {
    let output = ground(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that must fail complains of.
fn refused(arguments: &[&str]) -> String {
    let output = ground(arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && !error.contains("panicked"), "{arguments:?}: {error}");
    error
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { std::fs::copy(&path, &target).map(drop).unwrap() }
    }
}

/// A bundle of one's own: the graphs of the released one, without what its own steps, ranges and calibration left.
fn bundle(folder: &Path) -> (PathBuf, String) {
    let dir = folder.join("bundle");
    copy(&Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).parent().unwrap().join(RELEASED), &dir);
    let manifest = Bundle::open(&dir).unwrap().manifest;
    for name in ["steps.json", "calibration.json", "quantisation.json"].map(|name| dir.join(name)) {
        if name.exists() {
            std::fs::remove_file(name).unwrap();
        }
    }
    let hash = kestrel_onboard::bundle::seal(&dir, manifest, None).unwrap().thresholds.model_hash;
    (dir, hash)
}

fn record(scene: usize, expected: Kind, stratum: Stratum, margin: f32) -> Record {
    Record {
        set: "scenes-tune".into(),
        scene: format!("scene {scene}"),
        frame: "0".into(),
        text: "the red car".into(),
        stratum,
        expected,
        weak: false,
        target: if expected == Kind::Mask { 2000 } else { 0 },
        held_out_phrasing: false,
        slipped: false,
        degradation: None,
        given: Kind::Absent,
        predicted: 0,
        intersection: 0,
        presence: 0.5,
        features: [margin, 1.0, 1.0],
        doubt: -4.0,
        sweep: Vec::new(),
    }
}

/// Records as `ground eval --records` writes them: present and absent targets whose margins overlap a little.
fn records(path: &Path, hash: &str, scenes: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let header = serde_json::json!({
        "records": 2, "model": "kestrel-s@test", "model_hash": hash, "set": "scenes-tune", "seed": 0, "real": false,
        "gate": true, "engine": "tract", "date": "2026-01-01",
    });
    let mut lines = vec![header.to_string()];
    for scene in 0..scenes {
        let mut add = |expected, stratum, middle: f32| {
            let record = record(scene, expected, stratum, middle + rng.random_range(-3.0..3.0));
            lines.push(serde_json::to_string(&record).unwrap());
        };
        add(Kind::Absent, Stratum::AbsentCategory, 2.8);
        add(Kind::Absent, Stratum::WrongRelation, 2.8);
        add(Kind::Mask, Stratum::Colour, -2.8);
        add(Kind::Mask, Stratum::Category, -2.8);
    }
    std::fs::write(path, lines.join("\n") + "\n").unwrap();
}

/// The day of the calibration is the one that is noted, so that the same bytes come again on another.
#[test]
fn a_promise_goes_into_a_bundle_and_can_be_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, hash) = bundle(folder.path());
    let (tune, out, work) = (folder.path().join("tune.jsonl"), folder.path().join("out"), folder.path().join("again"));
    records(&tune, &hash, 400);
    let told = said(&[
        "calibrate",
        text(&tune),
        "--bundle",
        text(&dir),
        "--alpha",
        "0.1",
        "--delta",
        "0.1",
        "--resplits",
        "5",
        "--out",
        text(&out),
        "--json",
    ]);
    let table: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((table["alpha"].as_f64(), table["thresholds"]["model_hash"].as_str()), (Some(0.1), Some(hash.as_str())));
    assert_eq!((table["strata"].as_array().unwrap().len(), table["resplits"]["count"].as_u64()), (2, Some(5)));
    let svg = std::fs::read_to_string(out.join("risk-coverage.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("polyline"));
    let sealed = Bundle::open(&dir).unwrap();
    assert!(sealed.thresholds.data.contains("at most 10.0 %"), "{:?}", sealed.thresholds);
    for name in ["calibration.json", "steps.json"] {
        assert!(sealed.manifest.files.contains_key(name), "{name} is not sealed");
    }
    assert_eq!(
        std::fs::read(out.join("calibration.json")).unwrap(),
        std::fs::read(dir.join("calibration.json")).unwrap()
    );

    let again = |more: &[&str]| {
        let mut all = vec!["reproduce", text(&dir), "--json", "--work"];
        all.extend(more);
        serde_json::from_str::<serde_json::Value>(&said(&all)).unwrap()
    };
    let found = again(&[text(&work), "--inputs", text(folder.path())]);
    assert_eq!(found["steps"][0]["step"], "calibrate");
    assert_eq!(found["steps"][0]["unverified"], serde_json::Value::Null, "{found}");
    let state = |found: &serde_json::Value, name: &str| {
        found["files"].as_array().unwrap().iter().find(|file| file["name"] == name).unwrap()["state"].clone()
    };
    for (name, wanted) in [
        ("thresholds.json", "same"),
        ("calibration.json", "same"),
        ("manifest.json", "taken_over"),
        ("vision.onnx", "taken_over"),
    ] {
        assert_eq!(state(&found, name), wanted, "{name}: {found}");
    }

    // Without the records it says what is missing, and vouches for nothing.
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let found = again(&[text(&folder.path().join("third")), "--inputs", text(&empty)]);
    assert!(found["steps"][0]["unverified"].as_str().unwrap().contains("tune.jsonl"), "{found}");
    assert_eq!(state(&found, "thresholds.json"), "taken_over");
    assert!(refused(&["reproduce", text(&dir), "--work", text(folder.path())]).contains("empty folder"));

    // Changed thresholds are found, even if the manifest was sealed over them.
    let path = dir.join("thresholds.json");
    let changed = std::fs::read_to_string(&path).unwrap().replace("\"min_area_pixels\": 8", "\"min_area_pixels\": 1");
    std::fs::write(&path, changed).unwrap();
    kestrel_onboard::bundle::seal(&dir, sealed.manifest, None).unwrap();
    let error = refused(&["bundle", text(&dir), "--keep-canaries"]);
    assert!(error.contains("expected the thresholds of calibration.json") && error.contains("hint:"), "{error}");
    let fourth = folder.path().join("fourth");
    let differs = ground(&["reproduce", text(&dir), "--work", text(&fourth), "--inputs", text(folder.path())]);
    let told = String::from_utf8(differs.stdout).unwrap();
    assert!(!differs.status.success() && told.contains("min_area_pixels 1 again 8"), "{told}");
}

/// What would break: a bundle whose record begins in the middle, and a complaint about files where steps are missing.
#[test]
fn a_step_with_nothing_before_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, _) = bundle(folder.path());
    let manifest = Bundle::open(&dir).unwrap().manifest;
    let step = serde_json::json!({
        "command": ["quantise", "{before}", "--out", "{bundle}"], "inputs": {}, "date": "2026-01-01", "program": "0",
        "outputs": { "vision.onnx": manifest.files["vision.onnx"].sha256 },
    });
    std::fs::write(dir.join("steps.json"), serde_json::json!({ "format": 1, "steps": [step] }).to_string()).unwrap();
    kestrel_onboard::bundle::seal(&dir, manifest, None).unwrap();
    let told = said(&["reproduce", text(&dir), "--json", "--work", text(&folder.path().join("work"))]);
    let found: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(found["steps"][0]["unverified"].as_str().unwrap().contains("no record of its own steps"), "{found}");
}

/// What would break: a bundle of somebody else's that has files called made again which no step made.
#[test]
fn a_step_that_makes_nothing_vouches_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, _) = bundle(folder.path());
    let opened = Bundle::open(&dir).unwrap();
    let hash = &opened.manifest.files["vision.onnx"].sha256;
    let step = |command: &[&str]| {
        serde_json::json!({
            "command": command, "inputs": {}, "outputs": { "vision.onnx": hash }, "date": "2026-01-01", "program": "0",
        })
    };
    let steps = serde_json::json!({ "format": 1, "steps": [step(&["mystery"]), step(&["calibrate", "--help"])] });
    std::fs::write(dir.join("steps.json"), steps.to_string()).unwrap();
    let work = folder.path().join("first");
    let error = refused(&["reproduce", text(&dir), "--work", text(&work)]);
    assert!(error.contains("steps.json in its manifest"), "one that nobody sealed: {error}");

    kestrel_onboard::bundle::seal(&dir, opened.manifest.clone(), None).unwrap();
    let work = folder.path().join("second");
    let told = ground(&["reproduce", text(&dir), "--json", "--work", text(&work)]);
    let found: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let vision = found["files"].as_array().unwrap().iter().find(|file| file["name"] == "vision.onnx").unwrap();
    assert_eq!((vision["state"].as_str(), told.status.success()), (Some("differs"), false), "{found}");
}

/// What would break: hours of evaluation thrown away because a half of them is too little.
#[test]
fn re_splits_that_are_too_small_cost_no_promise() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, hash) = bundle(folder.path());
    let (tune, out) = (folder.path().join("tune.jsonl"), folder.path().join("out"));
    records(&tune, &hash, 66);
    let promise = ["--alpha", "0.1", "--delta", "0.1", "--most-false-refusals", "0.9", "--resplits", "3"];
    let places = ["--out", text(&out), "--bundle", text(&dir)];
    let output = ground(&[&["calibrate", text(&tune)][..], &promise, &places].concat());
    let (told, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success() && error.contains("the promise stands"), "{error}");
    // 44 of the 66 bound it; a half has 33, of which 11 fit.
    assert!(error.contains("scenes: wrong relation: 22 scenes of at least 33, 11 missing"), "{error}");
    assert!(told.contains("presence threshold") && out.join("calibration.json").is_file(), "{told}");
    assert!(Bundle::open(&dir).unwrap().thresholds.data.contains("at most 10.0 %"));
    let steps = std::fs::read_to_string(dir.join("steps.json")).unwrap();
    assert!(steps.contains("calibrate") && !steps.contains("--resplits"), "a command that fails again: {steps}");
}

#[test]
fn what_cannot_be_promised_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let (hash, other) = ("1".repeat(64), "2".repeat(64));
    let place = |name: &str| folder.path().join(name);
    records(&place("few.jsonl"), &hash, 30);
    let error = refused(&["calibrate", text(&place("few.jsonl"))]);
    assert!(error.contains("scenes: wrong relation: 20 scenes of at least 80, 60 missing"), "{error}");

    records(&place("tune.jsonl"), &hash, 400);
    let out = place("out");
    let dear = ground(&[
        "calibrate",
        text(&place("tune.jsonl")),
        "--most-false-refusals",
        "0",
        "--alpha",
        "0.03",
        "--out",
        text(&out),
    ]);
    let (told, error) = (String::from_utf8_lossy(&dear.stdout), String::from_utf8_lossy(&dear.stderr));
    assert!(!dear.status.success() && error.contains("nothing is written"), "{told}{error}");
    assert!(told.contains("clear targets refused") && !out.join("calibration.json").exists(), "{told}");
    assert!(out.join("risk-coverage.svg").is_file());

    records(&place("other.jsonl"), &other, 10);
    let error = refused(&["calibrate", text(&place("tune.jsonl")), text(&place("other.jsonl"))]);
    assert!(error.contains("evaluate one model"), "{error}");

    let lines = std::fs::read_to_string(place("few.jsonl")).unwrap();
    std::fs::write(place("old.jsonl"), lines.split_once('\n').unwrap().1).unwrap();
    let error = refused(&["calibrate", text(&place("old.jsonl"))]);
    assert!(error.contains("older `ground eval`") && error.contains("hint:"), "{error}");
    std::fs::write(place("garbage.jsonl"), "{\n").unwrap();
    let error = refused(&["calibrate", text(&place("garbage.jsonl"))]);
    assert!(error.contains("garbage.jsonl:1"), "{error}");
    std::fs::write(place("cut.jsonl"), format!("{lines}{{\"set\":")).unwrap();
    let error = refused(&["calibrate", text(&place("cut.jsonl"))]);
    assert!(error.contains("cut.jsonl:122"), "{error}");
    // Photographs behind the first line of a file of scenes would count as scenes.
    let photograph = lines.lines().nth(1).unwrap().replace("scenes-tune", "nwpu-tune");
    std::fs::write(place("mixed.jsonl"), format!("{lines}{photograph}\n")).unwrap();
    let error = refused(&["calibrate", text(&place("mixed.jsonl"))]);
    assert!(error.contains("mixed.jsonl:122") && error.contains("`nwpu-tune`"), "{error}");
    let own = lines.replacen("\"seed\":0", "\"seed\":0,\"split\":\"test\"", 1);
    std::fs::write(place("own.jsonl"), own).unwrap();
    let error = refused(&["calibrate", text(&place("own.jsonl"))]);
    assert!(error.contains("the split `test`") && error.contains("--split tune"), "{error}");
    let error = refused(&["eval", "--salient", "--records", text(&place("blobs.jsonl"))]);
    assert!(error.contains("cannot be used with"), "a baseline's answers under the model's name: {error}");
    let error = refused(&["calibrate"]);
    assert!(error.contains("<RECORDS>"), "{error}");
    let error = refused(&["calibrate", "gate"]);
    assert!(error.contains("KESTREL_DATA"), "{error}");
}

#[test]
fn thresholds_are_of_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, hash) = bundle(folder.path());
    let place = |name: &str| folder.path().join(name);
    records(&place("other.jsonl"), &"2".repeat(64), 400);
    let error = refused(&["calibrate", text(&place("other.jsonl")), "--bundle", text(&dir)]);
    assert!(error.contains("expected records of the graphs") && error.contains(&hash), "{error}");

    // Scenes on which the ranges of the graphs were taken bound nothing.
    let ranges = r#"{"calibration":{"sets":["nwpu-tune","scenes-tune"],"seed":40}}"#;
    std::fs::write(dir.join("quantisation.json"), ranges).unwrap();
    records(&place("ranges.jsonl"), &hash, 400);
    let error = refused(&["calibrate", text(&place("ranges.jsonl")), "--bundle", text(&dir)]);
    assert!(error.contains("ranges of the graphs") && error.contains("--seed"), "{error}");
    std::fs::remove_file(dir.join("quantisation.json")).unwrap();

    // A table of another model, and one of this.
    let ask = |records: &str, out: &str| {
        said(&["calibrate", text(&place(records)), "--alpha", "0.1", "--delta", "0.1", "--out", text(&place(out))]);
        place(out).join("calibration.json")
    };
    let foreign = ask("other.jsonl", "foreign");
    let error = refused(&["calibrate", "apply", text(&foreign), "--bundle", text(&dir)]);
    assert!(error.contains("calibrate this model"), "{error}");
    records(&place("mine.jsonl"), &hash, 400);
    let mine = ask("mine.jsonl", "mine");
    said(&["calibrate", "apply", text(&mine), "--bundle", text(&dir)]);
    assert!(Bundle::open(&dir).unwrap().thresholds.data.contains("at most 10.0 %"));

    // New graphs make the old thresholds void; `begin` writes some that mean nothing, for the evaluation.
    std::fs::remove_file(dir.join("thresholds.json")).unwrap();
    let told = said(&["calibrate", "begin", text(&dir)]);
    let begun = Bundle::open(&dir).unwrap();
    assert!(told.contains("mean nothing") && begun.thresholds.data == "not calibrated");
    assert!(!begun.manifest.files.contains_key("calibration.json"), "a promise of thresholds that are gone");

    // What tests the model sets no threshold by rule either.
    let lines = std::fs::read_to_string(place("mine.jsonl")).unwrap();
    std::fs::write(place("frozen.jsonl"), lines.replace("scenes-tune", "scenes-degraded")).unwrap();
    let error = refused(&["calibrate", text(&place("frozen.jsonl")), "--bundle", text(&dir), "--without-promise"]);
    assert!(error.contains("test the model"), "{error}");

    // Few records: by rule, and it says so.
    said(&["calibrate", text(&place("mine.jsonl")), "--bundle", text(&dir), "--without-promise"]);
    assert!(Bundle::open(&dir).unwrap().thresholds.data.contains("nothing promised"));
}
