//! What every command says of itself, as docs/reference holds it.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

const COMMANDS: [&[&str]; 28] = [
    &[],
    &["demo"],
    &["ask"],
    &["data"],
    &["data", "check"],
    &["data", "show"],
    &["train"],
    &["distil"],
    &["grpo"],
    &["ablate"],
    &["export"],
    &["eval"],
    &["estimate"],
    &["follow"],
    &["score"],
    &["quantise"],
    &["calibrate"],
    &["calibrate", "begin"],
    &["calibrate", "apply"],
    &["calibrate", "gate"],
    &["bundle"],
    &["reproduce"],
    &["keys"],
    &["keys", "new"],
    &["keys", "show"],
    &["push"],
    &["simulate"],
    &["doctor"],
];

/// What would break: documentation of flags that are no more. `KESTREL_WRITE=1` writes the page anew.
#[test]
fn the_reference_says_what_the_commands_say() {
    let mut page =
        String::from("# ground\n\nWhat `ground --help` and its commands say; a test holds this page to it.\n");
    for arguments in COMMANDS {
        let output = Command::new(env!("CARGO_BIN_EXE_ground"))
            .args(arguments)
            .arg("--help")
            .env_remove("KESTREL_CONNECT")
            .env_remove("KESTREL_DATA")
            .env_remove("KESTREL_RUNS")
            .env_remove("KESTREL_SBERT")
            .output()
            .unwrap();
        assert!(output.status.success());
        let help = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        let name = ["ground"].iter().chain(arguments).copied().collect::<Vec<_>>().join(" ");
        page += &format!("\n## {name}\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
    }
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let file = Path::new(&manifest).join("../docs/reference/ground.md");
    if std::env::var_os("KESTREL_WRITE").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let held = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(held == page, "docs/reference/ground.md is out of date: run this test once with KESTREL_WRITE=1");
}

/// What would break: a recipe that was to run on a GPU would run elsewhere, or leave a folder behind that is no run.
#[test]
#[cfg(not(feature = "cuda"))]
fn a_device_that_this_build_lacks_is_refused_before_anything_is_written() {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let recipes = Path::new(&manifest).join("../training/recipes");
    let runs = tempfile::tempdir().unwrap();
    let run = |command: &str, recipe: &str, arguments: &[&str]| {
        let recipe = recipes.join(recipe);
        let mut ground = Command::new(env!("CARGO_BIN_EXE_ground"));
        ground.arg(command).arg(recipe).args(arguments).env("KESTREL_RUNS", runs.path()).env_remove("KESTREL_DATA");
        ground.output().unwrap()
    };
    for refused in [
        run("train", "smoke.toml", &["--device", "cuda"]),
        run("grpo", "grpo/smoke.toml", &["--from", "nowhere", "--device", "cuda_tf32"]),
    ] {
        let error = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && error.contains("--features cuda"), "{error}");
    }
    assert_eq!(std::fs::read_dir(runs.path()).unwrap().count(), 0);
    assert_eq!(run("train", "smoke.toml", &["--device", "toaster"]).status.code(), Some(2));
}

/// What would break: a figure that a reader takes for a measurement, or one of a graph that is not the bundle's.
#[test]
fn an_estimate_is_labelled_as_one_and_counts_the_released_graphs() {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let bundle = Path::new(&manifest).join("../models/released/kestrel-s");
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_ground")).arg("estimate").arg(&bundle).args(arguments).output().unwrap()
    };
    let told = run(&["--device", "agx-orin", "--json"]);
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let report: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(report["kind"], "estimate");
    assert!(report["assumptions"].as_array().unwrap().len() > 3);
    // EfficientNet-Lite0's trunk has 0.39 G at 224 pixels (see models/src/cost.rs), so 2 G at 512; the pyramid adds to it.
    let vision = &report["graphs"][0];
    let macs = vision["dense_macs"].as_f64().unwrap() + vision["grouped_macs"].as_f64().unwrap();
    assert!(vision["graph"] == "vision" && (1.9e9..6e9).contains(&macs), "{vision}");
    let question = &report["question_millis"];
    let (at_best, by_layer) = (question["at_best"].as_f64().unwrap(), question["by_layer"].as_f64().unwrap());
    assert!(0.0 < at_best && at_best < by_layer, "{question}");

    let table = String::from_utf8(run(&["--device", "orin-nano"]).stdout).unwrap();
    assert!(table.starts_with("ESTIMATE") && table.contains("not a measurement"), "{table}");
    assert_eq!(run(&["--device", "toaster"]).status.code(), Some(2));
}
