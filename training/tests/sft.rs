//! A whole run of the smoke recipe: from scenes to checkpoints, killed and resumed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use candle_core::Device;
use kestrel_training::sft::{Options, Phase, Progress, Recipe, Summary, TrainError, checkpoint, train};

fn smoke() -> Recipe {
    Recipe::load(&Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("recipes/smoke.toml")).unwrap()
}

fn options(runs: &Path, resume: bool) -> Options {
    Options { runs: runs.to_path_buf(), resume, ..Options::default() }
}

/// Runs until `stop` steps are done, or to the end.
fn run(recipe: &Recipe, runs: &Path, resume: bool, stop: usize) -> Result<Summary, TrainError> {
    train(recipe, &options(runs, resume), &|progress| match progress {
        Progress::Step(entry) if entry.step >= stop => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
}

/// The exported parameters.
fn model(runs: &Path, recipe: &Recipe) -> HashMap<String, Vec<f32>> {
    read(runs, recipe, checkpoint::MODEL)
}

fn read(runs: &Path, recipe: &Recipe, file: &str) -> HashMap<String, Vec<f32>> {
    let loaded = candle_core::safetensors::load(runs.join(&recipe.name).join(file), &Device::Cpu).unwrap();
    loaded.into_iter().map(|(name, t)| (name, t.flatten_all().unwrap().to_vec1().unwrap())).collect()
}

/// The losses of the log, by line.
fn losses(runs: &Path, recipe: &Recipe) -> Vec<f64> {
    let text = std::fs::read_to_string(runs.join(&recipe.name).join("log.jsonl")).unwrap();
    let total = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["values"]["total"].as_f64();
    text.lines().map(|line| total(line).unwrap()).collect()
}

#[test]
fn a_killed_run_goes_on_to_the_same_numbers() {
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let recipe = smoke();
    let summary = run(&recipe, whole.path(), false, usize::MAX).unwrap();
    assert_eq!((summary.step, summary.finished), (recipe.steps(), true));

    // Setup: stopped within the first phase, then within the second. Fault: the last line of the log was cut by the
    // kill. Expected: the same numbers as without. Invariant: no step is logged twice.
    assert!(!run(&recipe, killed.path(), false, 1).unwrap().finished);
    let log = killed.path().join(&recipe.name).join("log.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text + "{\"step\":2,\"valu").unwrap();
    assert!(!run(&recipe, killed.path(), true, 4).unwrap().finished);
    assert!(run(&recipe, killed.path(), true, usize::MAX).unwrap().finished);
    assert_eq!(losses(whole.path(), &recipe), losses(killed.path(), &recipe));
    assert!(model(whole.path(), &recipe) == model(killed.path(), &recipe), "the exported parameters differ");
    let svg = std::fs::read_to_string(killed.path().join(&recipe.name).join("curves.svg")).unwrap();
    assert!(svg.contains("step 7"));

    let text = std::fs::read_to_string(whole.path().join(&recipe.name).join("log.jsonl")).unwrap();
    for line in text.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let [waited, waiting, seconds] = ["waited", "waiting", "seconds"].map(|key| entry[key].as_f64().unwrap());
        assert!(waited > 0.0 && waiting <= 1.0 && (waiting * seconds - waited).abs() < 1e-4, "{entry}");
    }
    assert!(summary.waiting.is_some_and(|share| share > 0.0 && share <= 1.0));

    // A finished run is not begun anew by mistake, and its checkpoint does not fit another seed.
    let error = run(&recipe, killed.path(), false, 1).unwrap_err().to_string();
    assert!(error.contains("--resume"), "{error}");
    let mut other = recipe.clone();
    other.seed += 1;
    let error = run(&other, killed.path(), true, 1).unwrap_err().to_string();
    assert!(error.contains("another name"), "{error}");
}

#[test]
fn a_few_steps_lower_the_loss_and_frozen_parameters_stay() {
    let runs = tempfile::tempdir().unwrap();
    let mut recipe = smoke();
    recipe.workers = 1;
    recipe.data.scenes = 2;
    recipe.checkpoint_steps = 1000;
    let phase = Phase { steps: 16, warm_up_steps: 2, learning_rate: 2e-3, ..recipe.phases[1].clone() };
    recipe.phases = vec![Phase { frozen: vec!["trunk.blocks.0.".into()], ..phase }];
    run(&recipe, runs.path(), false, 1).unwrap();
    let first = read(runs.path(), &recipe, checkpoint::STATE);
    run(&recipe, runs.path(), true, usize::MAX).unwrap();
    let losses = losses(runs.path(), &recipe);
    let mean = |l: &[f64]| l.iter().sum::<f64>() / l.len() as f64;
    let (before, after) = (mean(&losses[..3]), mean(&losses[13..]));
    assert!(after < 0.8 * before, "{before} to {after}");
    let last = read(runs.path(), &recipe, checkpoint::STATE);
    let moved = |name: &str| first[name] != last[name];
    assert!(!moved("value:trunk.blocks.0.depthwise.weight"));
    assert!(moved("value:trunk.blocks.1.depthwise.weight") && moved("value:mask.likeness.seg.weight"));
}

#[test]
fn a_run_begins_from_a_trained_model_and_not_from_another() {
    let runs = tempfile::tempdir().unwrap();
    let first = smoke();
    run(&first, runs.path(), false, 2).unwrap();
    let folder = runs.path().join(&first.name);
    let mut second = Recipe { name: "second".into(), seed: 9, ..smoke() };
    let phase = Phase { learning_rate: 1e-9, warm_up_steps: 0, ..second.phases[0].clone() };
    second.phases = vec![phase];
    second.optimiser.weight_decay = 0.0;
    let from = Options { from: Some(folder.clone()), ..options(runs.path(), false) };
    let stop = |_: Progress<'_>| ControlFlow::Break(());
    // A run that was killed before its first checkpoint has left another tokenizer.
    std::fs::create_dir_all(runs.path().join("second")).unwrap();
    std::fs::write(runs.path().join("second/tokenizer.json"), "{}").unwrap();
    train(&second, &from, &stop).unwrap();
    let (was, is) = (model(runs.path(), &first), model(runs.path(), &second));
    for (name, values) in &was {
        assert!(values.iter().zip(&is[name]).all(|(a, b)| (a - b).abs() < 1e-5), "{name} did not come along");
    }

    let mut wider = Recipe { name: "wider".into(), ..smoke() };
    wider.model.mask_width *= 2;
    let error = train(&wider, &from, &stop).unwrap_err().to_string();
    assert!(error.contains("[model]"), "{error}");
}

/// What would break: released weights could not be taught where things are, and a fast answer would change by being told.
#[test]
fn a_model_is_told_of_things_from_one_that_was_not() {
    let runs = tempfile::tempdir().unwrap();
    let mut first = smoke();
    first.model.language_width = 128;
    run(&first, runs.path(), false, 2).unwrap();
    let mut second = Recipe { name: "told".into(), seed: 9, location_codes: true, ..first.clone() };
    second.model.things = true;
    second.phases = vec![Phase { learning_rate: 1e-9, warm_up_steps: 0, ..first.phases[0].clone() }];
    second.optimiser.weight_decay = 0.0;
    let from = Options { from: Some(runs.path().join(&first.name)), ..options(runs.path(), false) };
    train(&second, &from, &|_| ControlFlow::Break(())).unwrap();
    let (was, is) = (model(runs.path(), &first), model(runs.path(), &second));
    let new: Vec<&String> = is.keys().filter(|name| !was.contains_key(*name)).collect();
    assert!(new.len() > 8 && new.iter().all(|name| name.starts_with("language.things.") || name.contains(".point.")));
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    let words = "language.embed_tokens.weight";
    for (name, values) in was.iter().filter(|(name, _)| *name != words) {
        assert!(near(values, &is[name]), "{name} did not come along");
    }
    // Nothing but the 64 locations, behind 12 other tokens, begins anew.
    let (locations, end) = (12 * 128, (12 + 64) * 128);
    let (before, after) = (&was[words], &is[words]);
    assert!(near(&before[..locations], &after[..locations]) && near(&before[end..], &after[end..]));
    assert!(!near(&before[locations..end], &after[locations..end]));
}

/// What would break: a run whose results depend on what is kept of what its frozen vision part sees.
#[test]
fn keeping_what_frozen_vision_sees_changes_no_number() {
    let runs = tempfile::tempdir().unwrap();
    let of = |name: &str, kept: usize| {
        let mut recipe = Recipe { name: name.into(), ..smoke() };
        recipe.data.scenes = 3;
        let frozen = ["trunk.", "neck.", "projector.", "proposals."].map(str::to_owned).to_vec();
        recipe.phases = vec![Phase { steps: 4, kept, frozen, ..recipe.phases[1].clone() }];
        run(&recipe, runs.path(), false, usize::MAX).unwrap();
        recipe
    };
    let (without, with) = (of("without", 0), of("with", 2));
    assert_eq!(losses(runs.path(), &without), losses(runs.path(), &with));
    assert!(model(runs.path(), &without) == model(runs.path(), &with), "the exported parameters differ");
}

#[test]
fn a_pretrained_trunk_is_demanded_when_the_recipe_says_so() {
    let runs = tempfile::tempdir().unwrap();
    let recipe = Recipe { pretrained_trunk: true, ..smoke() };
    let error = run(&recipe, runs.path(), false, 1).unwrap_err().to_string();
    assert!(error.contains("trunk") && error.contains("ground train"), "{error}");
}
