//! Weights are taught to bear rounding, and the bundle made of them tells by which record, so that it can be made again.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};

fn ground(runs: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ground"));
    command.args(arguments).env("KESTREL_RUNS", runs).env_remove("KESTREL_DATA").output().unwrap()
}

fn done(runs: &Path, arguments: &[&str]) -> String {
    let output = ground(runs, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(runs: &Path, arguments: &[&str], words: &[&str]) {
    let output = ground(runs, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !stderr.contains("panicked"), "{arguments:?}: {stderr}");
    assert!(words.iter().all(|word| stderr.contains(word)), "{arguments:?} does not say {words:?}: {stderr}");
}

fn recipe(name: &str) -> String {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&manifest).join("../training/recipes").join(name).to_str().unwrap().to_owned()
}

/// A record of a quantised model with one layer rounded.
fn record(path: &Path, layer: &str) {
    let scheme = serde_json::json!({
        "target": "tensor_rt", "layers": { layer: { "scale": 0.05 } }, "residuals": {}, "kept": [],
    });
    std::fs::write(path, serde_json::json!({ "scheme": scheme }).to_string()).unwrap();
}

/// What would break: a recipe whose record is not there yet trains for hours, and learns to bear nothing.
#[test]
fn the_recipe_waits_for_its_record() {
    let dir = tempfile::tempdir().unwrap();
    let qat = recipe("kestrel-s-qat.toml");
    let hint = ["quantisation.json", "ground quantise", "hint: `ground train --quantisation FILE`"];
    refused(dir.path(), &["train", &qat, "--quantisation", "nowhere/quantisation.json"], &hint);
    // The recipe's own word leads nowhere from here.
    let mut command = Command::new(env!("CARGO_BIN_EXE_ground"));
    let output =
        command.args(["train", &qat]).current_dir(dir.path()).env("KESTREL_RUNS", dir.path()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && hint.iter().all(|word| error.contains(word)), "{error}");
    assert!(!dir.path().join("kestrel-s-qat").exists(), "nothing was begun");
}

#[test]
fn a_bundle_tells_by_which_record_its_weights_were_taught() {
    let dir = tempfile::tempdir().unwrap();
    let (runs, smoke) = (dir.path(), recipe("smoke.toml"));
    let smoke = smoke.as_str();
    done(runs, &["train", smoke]);
    let begun = runs.join("smoke");
    let begun = begun.to_str().unwrap();
    let (file, foreign) = (runs.join("quantisation.json"), runs.join("foreign.json"));
    record(&file, "neck.embed");
    record(&foreign, "neck.strange");
    let (file, foreign) = (file.to_str().unwrap(), foreign.to_str().unwrap());
    let taught = runs.join("taught");
    let way = ["train", smoke, "--from", begun, "--quantisation"];
    refused(&taught, &[&way[..], &[foreign]].concat(), &["`neck.strange`", "[model]"]);
    done(&taught, &[&way[..], &[file]].concat());

    let (model, bundle) = (taught.join("smoke/model.safetensors"), runs.join("bundle"));
    let (model, out) = (model.to_str().unwrap(), bundle.to_str().unwrap());
    let export = ["export", model, "--out", out, "--recipe", smoke, "--trained-from", begun];
    refused(runs, &[&export[..], &["--quantisation", "nowhere.json"]].concat(), &["nowhere.json", "hint:"]);
    done(runs, &[&export[..], &["--quantisation", file]].concat());
    let steps: serde_json::Value = serde_json::from_slice(&std::fs::read(bundle.join("steps.json")).unwrap()).unwrap();
    let command =
        ["train", "{inputs}/smoke.toml", "--from", "{inputs}", "--quantisation", "{inputs}/quantisation.json"];
    assert_eq!(steps["steps"][0]["command"], serde_json::json!(command), "{steps}");

    // The recipe lies elsewhere than the rest.
    std::fs::copy(smoke, runs.join("smoke.toml")).unwrap();
    let work = runs.join("work");
    let again = ["reproduce", out, "--train", "--json", "--inputs", runs.to_str().unwrap()];
    let told = ground(&work, &[&again[..], &["--work", work.to_str().unwrap()]].concat());
    let found: serde_json::Value = serde_json::from_slice(&told.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&told.stderr)));
    assert_eq!(found["steps"][0]["step"], "train");
    assert_eq!(found["steps"][0]["unverified"], serde_json::Value::Null, "{found}");
}
