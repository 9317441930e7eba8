//! A student is taught by a run before it, judged beside both, and made into a bundle that tells how.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};

fn ground(runs: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ground"));
    command.args(arguments).env("KESTREL_RUNS", runs).env_remove("KESTREL_DATA").output().unwrap()
}

fn recipe(name: &str) -> String {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&manifest).join("../training/recipes").join(name).to_str().unwrap().to_owned()
}

fn refused(runs: &Path, arguments: &[&str], words: &[&str]) {
    let output = ground(runs, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !stderr.contains("panicked"), "{arguments:?}: {stderr}");
    assert!(words.iter().all(|word| stderr.contains(word)), "{arguments:?} does not say {words:?}: {stderr}");
}

fn names(table: &serde_json::Value) -> Vec<&str> {
    table[0]["rows"].as_array().unwrap().iter().map(|row| row["arm"].as_str().unwrap()).collect()
}

#[test]
fn a_run_teaches_a_narrower_one_and_both_are_judged() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path();
    let (wide, narrow) = (recipe("smoke.toml"), recipe("smoke-distil.toml"));
    let (wide, narrow) = (wide.as_str(), narrow.as_str());
    refused(runs, &["distil", wide], &["[distil]", "ground train"]);
    refused(runs, &["distil", narrow], &["distil.teacher", "--teacher"]);
    refused(runs, &["distil", narrow, "--teacher", "nowhere"], &["the teacher's model is missing"]);

    let trained = ground(runs, &["train", wide]);
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    let (teacher, student) = (runs.join("smoke"), runs.join("smoke-distil"));
    let teacher = teacher.to_str().unwrap();
    let done = ground(runs, &["distil", narrow, "--teacher", teacher, "--table", "--pictures", "2"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let read = |name: &str| std::fs::read_to_string(student.join(name)).unwrap();
    let table: serde_json::Value = serde_json::from_str(&read("table.json")).unwrap();
    assert_eq!(names(&table), ["teacher", "smoke-distil"]);
    assert_eq!(read("table.md").trim(), String::from_utf8(done.stdout).unwrap().trim());

    // A finished run is judged again without a step, beside another one.
    let again = ["distil", narrow, "--teacher", teacher, "--resume", "--beside", teacher, "--pictures", "1", "--json"];
    let done = ground(runs, &again);
    let told: serde_json::Value = serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&done.stderr)));
    assert_eq!(names(&told), ["teacher", "smoke", "smoke-distil"]);

    // The bundle tells how its model was made, in words that `ground reproduce` runs.
    let (model, bundle) = (student.join("model.safetensors"), runs.join("bundle"));
    let export = ["export", model.to_str().unwrap(), "--out", bundle.to_str().unwrap()];
    let made = ground(runs, &[&export[..], &["--recipe", narrow, "--teacher", teacher]].concat());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let steps: serde_json::Value = serde_json::from_slice(&std::fs::read(bundle.join("steps.json")).unwrap()).unwrap();
    let command =
        serde_json::json!(["distil", "{inputs}/smoke-distil.toml", "--teacher", "{inputs}/model.safetensors"]);
    assert_eq!(steps["steps"][0]["command"], command, "{steps}");
    assert!(steps["steps"][0]["inputs"]["tokenizer.json"].is_object(), "{steps}");
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bundle.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["name"], "smoke-distil", "a model of other sizes is not called kestrel-s");
    let words = steps["steps"][1]["command"].as_array().unwrap();
    let at = words.iter().position(|word| word == "--model-name").unwrap();
    assert_eq!(words[at + 1], "smoke-distil", "made again without the recipe, under the same name: {steps}");
}
