//! Runs with a teacher: killed and resumed, quantised, and refused where teacher and student do not fit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::Device;
use kestrel_models::kestrel::Config;
use kestrel_models::tokenizer;
use kestrel_models::weights::{Weights, checkpoint as weights};
use kestrel_training::expressions::corpus;
use kestrel_training::sft::recipe::Terms;
use kestrel_training::sft::{
    Distil, Options, Phase, Progress, Recipe, Summary, TOKENIZER, TrainError, checkpoint, distil, recipe, train,
    untrained,
};

/// Sizes of the teachers here: wider than the student.
fn sizes() -> Config {
    Config { max_tokens: 24, language_layers: 1, ..Config::tiny() }
}

/// A teacher that nobody has taught, in a folder of its own.
fn teacher(folder: &Path, config: &Config, words: u64) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let all = Weights::from_params(&untrained(config, 8).unwrap()).unwrap();
    let metadata = [("config".to_owned(), serde_json::to_string(config).unwrap())];
    weights::save(&folder.join(checkpoint::MODEL), &all, &metadata.into()).unwrap();
    tokenizer::train(corpus(words, 300), config.vocabulary).unwrap().save(&folder.join(TOKENIZER)).unwrap();
    folder.to_path_buf()
}

fn student(teacher: &Path) -> Recipe {
    let mut recipe: Recipe = toml::from_str(include_str!("../recipes/smoke-distil.toml")).unwrap();
    recipe.distil.as_mut().unwrap().teacher = Some(teacher.to_path_buf());
    recipe
}

/// Runs until `stop` steps are done, or to the end.
fn run(recipe: &Recipe, options: &Options, stop: usize) -> Result<Summary, TrainError> {
    train(recipe, options, &|progress| match progress {
        Progress::Step(entry) if entry.step >= stop => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
}

fn options(runs: &Path, resume: bool) -> Options {
    Options { runs: runs.to_path_buf(), resume, ..Options::default() }
}

fn read(folder: &Path, file: &str) -> HashMap<String, Vec<f32>> {
    let loaded = candle_core::safetensors::load(folder.join(file), &Device::Cpu).unwrap();
    loaded.into_iter().map(|(name, t)| (name, t.flatten_all().unwrap().to_vec1().unwrap())).collect()
}

/// A number of every step in the log.
fn logged(folder: &Path, keys: &[&str]) -> Vec<f64> {
    let text = std::fs::read_to_string(folder.join("log.jsonl")).unwrap();
    let of = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        keys.iter().fold(&line, |value, key| &value[*key]).as_f64().unwrap_or(0.0)
    };
    text.lines().map(of).collect()
}

#[test]
fn a_killed_run_with_a_teacher_goes_on_to_the_same_numbers() {
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let known = teacher(&whole.path().join("known"), &sizes(), 1);
    let bytes = std::fs::read(known.join(checkpoint::MODEL)).unwrap();
    let recipe = student(&known);
    let done = run(&recipe, &options(whole.path(), false), usize::MAX).unwrap();
    for part in ["answer", "chain", "seg", "mask", "presence", "features", "reasoned"] {
        let sum: f64 = logged(&done.folder, &["values", "distil", part]).iter().sum();
        assert!(sum > 0.0, "{part} is not learnt");
    }

    // Setup: stopped within the run. Fault: nothing that the teacher said is kept over the stop, and less of what it saw.
    // Expected: the same numbers. Invariant: the teacher's file is not touched.
    let mut kept = recipe.clone();
    kept.distil.as_mut().unwrap().kept = 3;
    assert!(!run(&kept, &options(killed.path(), false), 1).unwrap().finished);
    let again = run(&recipe, &options(killed.path(), true), usize::MAX).unwrap();
    assert!(again.finished);
    let total = |folder: &Path| logged(folder, &["values", "total"]);
    assert_eq!(total(&done.folder), total(&again.folder));
    let model = read(&done.folder, checkpoint::MODEL);
    assert!(model == read(&again.folder, checkpoint::MODEL), "the exported parameters differ");
    assert_eq!(std::fs::read(known.join(checkpoint::MODEL)).unwrap(), bytes);

    // Learnt maps stay in the checkpoint.
    let state = read(&done.folder, checkpoint::STATE);
    assert!(state.contains_key("value:distil.seg.weight") && state.contains_key("value:distil.fine.weight"));
    assert!(!model.keys().any(|name| name.starts_with("distil.")), "a model that flies has no maps");
    let words = |folder: &Path| std::fs::read(folder.join(TOKENIZER)).unwrap();
    assert_eq!(words(&known), words(&done.folder), "the student hears what its teacher hears");

    // Another teacher is not taken for the first.
    teacher(&known, &Config { language_layers: 2, ..sizes() }, 1);
    let error = run(&recipe, &options(killed.path(), true), usize::MAX).unwrap_err().to_string();
    assert!(error.contains(distil::TEACHER) && error.contains("another name"), "{error}");
}

#[test]
fn a_few_steps_bring_a_student_nearer_to_its_teacher() {
    let runs = tempfile::tempdir().unwrap();
    let mut recipe = student(&teacher(&runs.path().join("known"), &sizes(), 1));
    recipe.workers = 1;
    recipe.data.scenes = 2;
    recipe.distil.as_mut().unwrap().degraded = 0.0;
    recipe.checkpoint_steps = 1000;
    let phase = recipe.phases[0].clone();
    let phase = Phase { steps: 30, warm_up_steps: 2, learning_rate: 4e-3, chains: 0, final_share: 0.5, ..phase };
    recipe.phases = vec![phase];
    let done = run(&recipe, &options(runs.path(), false), usize::MAX).unwrap();
    let parts: Vec<Vec<f64>> = ["answer", "seg", "mask", "presence", "features"]
        .iter()
        .map(|part| logged(&done.folder, &["values", "distil", part]))
        .collect();
    let total: Vec<f64> = (0..30).map(|step| parts.iter().map(|part| part[step]).sum::<f64>()).collect();
    let mean = |l: &[f64]| l.iter().sum::<f64>() / l.len() as f64;
    let (before, after) = (mean(&total[..4]), mean(&total[26..]));
    assert!(after < 0.8 * before, "{before} to {after}: {total:?}");
}

/// What would break: a student from scratch that is not the same but for what its teacher says.
#[test]
fn without_weights_the_teacher_is_not_asked() {
    let runs = tempfile::tempdir().unwrap();
    let known = teacher(&runs.path().join("known"), &sizes(), 1);
    let mut recipe = student(&known);
    recipe.distil.as_mut().unwrap().weights = Terms::NONE;
    let done = run(&recipe, &options(runs.path(), false), 2).unwrap();
    assert!(logged(&done.folder, &["values", "distil", "answer"]).iter().all(|loss| *loss == 0.0));
    assert!(!done.folder.join(distil::TEACHER).exists());
    let words = |folder: &Path| std::fs::read(folder.join(TOKENIZER)).unwrap();
    assert_eq!(words(&known), words(&done.folder));
}

/// What would break: fine-tuning for quantisation that loses what a teacher can tell it, or rounds the teacher too.
#[test]
fn a_quantised_student_learns_from_a_teacher_that_is_not() {
    let runs = tempfile::tempdir().unwrap();
    let mut recipe = student(&teacher(&runs.path().join("known"), &sizes(), 1));
    let record = runs.path().join("quantisation.json");
    let scheme = r#"{"scheme": {"target": "tensor_rt", "layers": {"neck.embed": {"scale": 0.05}}, "residuals": {}, "kept": []}}"#;
    std::fs::write(&record, scheme).unwrap();
    let wide = run(&recipe, &options(runs.path(), false), 1).unwrap();
    recipe.name = "rounded".into();
    recipe.quantisation = Some(record);
    let rounded = run(&recipe, &options(runs.path(), false), 1).unwrap();
    let features = |folder: &Path| logged(folder, &["values", "distil", "features"])[0];
    let (wide, rounded) = (features(&wide.folder), features(&rounded.folder));
    assert!(wide != rounded && rounded.is_finite(), "{wide} {rounded}");
}

/// What would break: a model that teaches itself by what it says with reasons, and needs no file for it.
#[test]
fn a_model_teaches_itself() {
    let runs = tempfile::tempdir().unwrap();
    let mut recipe = student(Path::new("nowhere"));
    let weights = Terms { reasoned: 1.0, ..Terms::NONE };
    recipe.distil = Some(Distil { itself: true, weights, ..Distil::default() });
    let done = run(&recipe, &options(runs.path(), false), usize::MAX).unwrap();
    assert!(logged(&done.folder, &["values", "distil", "reasoned"]).iter().sum::<f64>() > 0.0);
    assert!(!read(&done.folder, checkpoint::STATE).keys().any(|name| name.contains("distil.")), "equal widths: no map");
}

#[test]
fn teachers_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let known = teacher(&dir.path().join("known"), &sizes(), 1);
    let refused = |recipe: &Recipe, options: &Options, words: &[&str]| {
        let error = run(recipe, options, 1).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
    };
    let plain = options(dir.path(), false);

    let mut nobody = student(&known);
    nobody.distil.as_mut().unwrap().teacher = None;
    refused(&nobody, &plain, &["distil.teacher", "--teacher"]);
    refused(&student(&dir.path().join("nobody")), &plain, &["the teacher's model is missing", "model.safetensors"]);

    let other = teacher(&dir.path().join("other"), &Config { vocabulary: 600, ..sizes() }, 1);
    refused(&student(&other), &plain, &["model.vocabulary", "600", "512"]);

    // The same number of words, numbered otherwise: a run that begins from a model with words of its own.
    let words = teacher(&dir.path().join("words"), &student(&known).model, 9);
    let from = Options { from: Some(words), ..options(dir.path(), false) };
    refused(&student(&known), &from, &["tokenizer", "number words alike"]);

    let own = student(&teacher(&dir.path().join("smoke-distil"), &sizes(), 1));
    refused(&own, &plain, &["distil.teacher", "the run's own"]);

    let broken = teacher(&dir.path().join("broken"), &sizes(), 1);
    let (mut all, metadata) = weights::load(&broken.join(checkpoint::MODEL)).unwrap();
    all.insert("seg.out.bias", vec![sizes().mask_width], vec![f32::NAN; sizes().mask_width]).unwrap();
    weights::save(&broken.join(checkpoint::MODEL), &all, &metadata).unwrap();
    refused(&student(&broken), &plain, &["seg.out.bias", "numbers"]);
    std::fs::write(broken.join(checkpoint::MODEL), "not a model").unwrap();
    refused(&student(&broken), &plain, &["model.safetensors", "safetensors file"]);
    weights::save(&broken.join(checkpoint::MODEL), &all, &std::collections::BTreeMap::new()).unwrap();
    refused(&student(&broken), &plain, &["tells its sizes"]);
}

#[test]
fn a_teacher_is_named_by_folder_or_file() {
    let dir = tempfile::tempdir().unwrap();
    let known = teacher(&dir.path().join("known"), &sizes(), 1);
    let recipe = student(&known.join(checkpoint::MODEL));
    let taught = distil::Teacher::of(&recipe, dir.path()).unwrap().unwrap();
    assert_eq!(taught.config(), &sizes());
    assert_eq!(recipe::model_files(&known), (known.join(checkpoint::MODEL), known.join(TOKENIZER)));
}
