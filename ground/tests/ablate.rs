//! A small experiment on a tiny model: from a plan to a table, stopped and gone on with, and a changed plan.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

fn ground(runs: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ground"));
    command.args(arguments).env("KESTREL_RUNS", runs).env_remove("KESTREL_DATA").output().unwrap()
}

fn recipes() -> std::path::PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../training/recipes")
}

/// Two arms of the smoke recipe, judged on a few rendered scenes.
fn plan(steps: usize) -> String {
    let smoke = std::fs::read_to_string(recipes().join("grpo/smoke.toml")).unwrap();
    let mut base: toml::Table = smoke.parse().unwrap();
    for own in ["name", "seed"] {
        base.remove(own);
    }
    base.insert("steps".to_owned(), i64::try_from(steps).unwrap().into());
    let head = "name = \"tiny\"\nseeds = [1, 2]\nreference = \"supervised\"\nfalse_refusals = 0.2\nleast_records = 5\n\
                tune = [{ set = \"scenes-tune\", pictures = 6 }]\ntest = [{ set = \"scenes-test\", pictures = 4 }]\n";
    let arms = "[[arms]]\nname = \"supervised\"\nabout = \"Supervised.\"\n[arms.change.terms]\npolicy = 0.0\nsupervised = 1.0\n\
                [[arms]]\nname = \"policy\"\nabout = \"Reinforced.\"\nseeds = [1]\n";
    let base = toml::to_string(&toml::Table::from_iter([("base".to_owned(), toml::Value::Table(base))])).unwrap();
    format!("{head}{base}{arms}")
}

/// Rows of the one table that there is: that of drawn scenes.
fn drawn(stdout: &[u8]) -> serde_json::Value {
    let tables: serde_json::Value = serde_json::from_slice(stdout).unwrap();
    assert_eq!(tables.as_array().unwrap().len(), 1, "{tables}");
    assert_eq!(tables[0]["pictures"], "Drawn scenes");
    tables[0]["rows"].clone()
}

#[test]
fn an_experiment_gives_one_table_and_does_not_take_other_runs_for_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path();
    let smoke = recipes().join("smoke.toml");
    let trained = ground(runs, &["train", smoke.to_str().unwrap()]);
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    let (path, from) = (runs.join("plan.toml"), runs.join("smoke"));
    std::fs::write(&path, plan(1)).unwrap();
    let run = |more: &[&str]| {
        ground(runs, &[&["ablate", path.to_str().unwrap(), "--from", from.to_str().unwrap()], more].concat())
    };

    // Before any arm has run there is a table of the start alone.
    let early = run(&["--table-only", "--json"]);
    let rows = drawn(&early.stdout);
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");

    let done = run(&["--json"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let rows = drawn(&done.stdout);
    let names: Vec<&str> = rows.as_array().unwrap().iter().map(|r| r["arm"].as_str().unwrap()).collect();
    assert_eq!(names, ["start", "supervised", "policy"]);
    assert_eq!(rows[1]["seeds"], serde_json::json!([1, 2]));
    assert!(rows[1]["differences"].as_array().unwrap().is_empty(), "the reference differs from itself by nothing");
    let refusals = |row: usize| {
        let figures = rows[row]["figures"].as_array().unwrap();
        figures.iter().find(|f| f[0] == "false refusals, clean").unwrap()[1]["value"].as_f64().unwrap()
    };
    assert!((0..3).all(|row| (0.0..=1.0).contains(&refusals(row))), "{rows}");
    // What it cost is measured once and stays with the run.
    let cost = |row: usize, name: &str| rows[row][name].as_f64();
    assert!((0..3).all(|row| cost(row, "judging_seconds").is_some_and(|seconds| seconds > 0.0)), "{rows}");
    assert!((1..3).all(|row| cost(row, "core_hours").is_some_and(|hours| hours > 0.0)), "{rows}");
    assert_eq!(cost(0, "core_hours"), None, "nothing trained it here");
    if cfg!(target_os = "linux") {
        assert!((1..3).all(|row| cost(row, "peak_mebibytes").is_some_and(|peak| peak > 0.0)), "{rows}");
    }
    let table = std::fs::read_to_string(runs.join("tiny/table.md")).unwrap();
    assert!(table.contains("policy (1 seeds)") && table.contains("Difference to `supervised`"), "{table}");

    // The same command again trains nothing and says the same.
    assert_eq!(run(&["--json"]).stdout, done.stdout);

    // A run that was judged before costs were kept still has a table.
    std::fs::remove_file(runs.join("tiny-policy-1/cost.json")).unwrap();
    let rows = drawn(&run(&["--json"]).stdout);
    assert!(rows[2]["judging_seconds"].is_null() && rows[2]["seconds"].as_f64().is_some(), "{rows}");

    // Setup: finished runs. Fault: the plan is changed. Expected: an error that says what to do. Invariant: no old
    // record enters a new table.
    std::fs::write(&path, plan(2)).unwrap();
    let other = run(&[]);
    let error = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(!other.status.success() && error.contains("hint: remove the folder"), "{error}");
}
