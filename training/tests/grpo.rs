//! A whole reinforcement run of the smoke recipe: from a supervised start to checkpoints, killed and resumed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use candle_core::Device;
use kestrel_training::grpo::{self, Baker, Options, Progress, Recipe, record, train};
use kestrel_training::rewards::TaskKind;
use kestrel_training::rewards::views::Branch;
use kestrel_training::sft::{self, Summary, TrainError, checkpoint};

fn recipes() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("recipes")
}

fn smoke(changes: &str) -> Recipe {
    let text = std::fs::read_to_string(recipes().join("grpo/smoke.toml")).unwrap();
    let table = recipe_table(&text, changes);
    let recipe = Recipe::of(table).unwrap();
    recipe.check().unwrap();
    recipe
}

fn recipe_table(text: &str, changes: &str) -> toml::Table {
    grpo::recipe::merged(text.parse().unwrap(), &changes.parse().unwrap())
}

/// A folder of runs with a tiny model that supervised fine-tuning has begun, and that model's folder.
fn begun(runs: &Path) -> PathBuf {
    let recipe = sft::Recipe::load(&recipes().join("smoke.toml")).unwrap();
    let options = sft::Options { runs: runs.to_path_buf(), ..sft::Options::default() };
    sft::train(&recipe, &options, &|_| ControlFlow::Continue(())).unwrap().folder
}

/// Runs until `stop` steps are done, or to the end.
fn run(recipe: &Recipe, runs: &Path, from: Option<&Path>, stop: usize) -> Result<Summary, TrainError> {
    let options =
        Options { runs: runs.to_path_buf(), data: None, from: from.map(Path::to_path_buf), resume: from.is_none() };
    train(recipe, &options, &|progress| match progress {
        Progress::Step(entry) if entry.step >= stop => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
}

fn read(path: &Path) -> HashMap<String, Vec<f32>> {
    let loaded = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    loaded.into_iter().map(|(name, t)| (name, t.flatten_all().unwrap().to_vec1().unwrap())).collect()
}

fn log(folder: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(folder.join("log.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_killed_run_goes_on_to_the_same_parameters() {
    let runs = tempfile::tempdir().unwrap();
    let start = begun(runs.path());
    // The reference and the adapters have to come back too.
    let changes = "[objective]\nkl = 0.04\n[policy.lora]\non = [\"language.layers.*\"]\nrank = 2\nalpha = 4.0\n[policy]\ntrainable = [\"seg.*\"]";
    let (whole, killed) =
        (smoke(&format!("name = \"whole\"\n{changes}")), smoke(&format!("name = \"killed\"\n{changes}")));
    let first = run(&whole, runs.path(), Some(&start), usize::MAX).unwrap();
    assert_eq!((first.step, first.finished), (whole.steps, true));

    // Setup: stopped after its first step. Fault: a line of the log cut by the kill. Expected: the same numbers as
    // without. Invariant: no step is logged twice.
    let second = run(&killed, runs.path(), Some(&start), 1).unwrap();
    assert!(!second.finished);
    let path = second.folder.join("log.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + "{\"step\":2,\"mea").unwrap();
    assert!(run(&killed, runs.path(), None, usize::MAX).unwrap().finished);
    for file in [checkpoint::MODEL, checkpoint::STATE] {
        assert!(read(&first.folder.join(file)) == read(&second.folder.join(file)), "{file} differs");
    }
    let rewards =
        |folder: &Path| log(folder).iter().map(|e| e["measured"]["reward"].as_f64().unwrap()).collect::<Vec<_>>();
    assert_eq!(rewards(&first.folder), rewards(&second.folder));
    assert_eq!(rewards(&first.folder).len(), 4);

    // Every step says how long nobody played or learnt, and the run what share that was of what it did now.
    for entry in log(&first.folder) {
        let [waited, waiting, seconds] = ["waited", "waiting", "seconds"].map(|key| entry[key].as_f64().unwrap());
        assert!(waited > 0.0 && waiting <= 1.0 && (waiting * seconds - waited).abs() < 1e-4, "{entry}");
    }
    assert!(first.waiting.is_some_and(|share| share > 0.0 && share <= 1.0));
    assert_eq!(run(&killed, runs.path(), None, usize::MAX).unwrap().waiting, None, "nothing was left to do");

    // What flies has no adapters, and only what the patterns name has moved.
    let (was, is) = (read(&start.join(checkpoint::MODEL)), read(&first.folder.join(checkpoint::MODEL)));
    assert_eq!(was.len(), is.len());
    let moved = |name: &str| was[name] != is[name];
    assert!(moved("language.layers.0.mlp.up_proj.weight") && moved("seg.in.weight"));
    assert!(!moved("language.layers.0.self_attn.q_proj.bias") && !moved("trunk.blocks.1.depthwise.weight"));
    let svg = std::fs::read_to_string(first.folder.join("curves.svg")).unwrap();
    assert!(svg.contains("false refusals") && svg.contains("reward: consensus"), "{svg}");

    // A run is not begun anew by mistake, and goes on only as what it was.
    let error = run(&killed, runs.path(), Some(&start), 1).unwrap_err().to_string();
    assert!(error.contains("--resume"), "{error}");
    let error = run(&Recipe { seed: 77, ..killed }, runs.path(), None, 1).unwrap_err().to_string();
    assert!(error.contains("another name"), "{error}");
}

#[test]
fn every_kind_of_update_moves_what_it_should() {
    let runs = tempfile::tempdir().unwrap();
    let start = begun(runs.path());
    let was = read(&start.join(checkpoint::MODEL));
    // The decoder may move in all of them; no decay, so that only a gradient moves it.
    let all = "[optimiser]\nweight_decay = 0.0\n[policy]\ntrainable = [\"language.*\", \"seg.*\", \"mask.*\"]";
    for (name, changes, decoder) in [
        ("policy", String::new(), false),
        ("gspo", "[objective]\nratio = \"rollout\"\naverage = \"constant\"".to_owned(), false),
        ("supervised", "[terms]\npolicy = 0.0\nsupervised = 1.0".to_owned(), true),
        ("alone", "hidden_by_answer = true".to_owned(), false),
        ("published", String::new(), true),
    ] {
        let preset = if name == "published" { "preset = \"published\"\n" } else { "" };
        let recipe = smoke(&format!("{preset}name = \"{name}\"\n{all}\n{changes}"));
        let done = run(&recipe, runs.path(), Some(&start), usize::MAX).unwrap();
        let is = read(&done.folder.join(checkpoint::MODEL));
        let moved = |parameter: &str| {
            let pairs = was[parameter].iter().zip(&is[parameter]);
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) > 1e-5
        };
        assert!(moved("seg.in.weight"), "{name}");
        // A drawn mask is the reward's business, not an action: the surrogate teaches the decoder nothing.
        assert_eq!(moved("mask.kernel.out.weight"), decoder, "{name}");
        let entries = log(&done.folder);
        let total = |key: &str| entries.iter().map(|e| e["measured"][key].as_f64().unwrap()).sum::<f64>();
        assert_eq!(total("rollouts") > 0.0, name != "supervised", "supervision alone plays nothing: {name}");
        assert_eq!(total("unscorable"), 0.0, "{name}");
        assert!(entries.iter().all(|e| e["norm"].as_f64().unwrap().is_finite()), "{name}");
    }
}

/// What would break: a policy improved by probabilities that it did not act by.
#[test]
fn reasoned_rollouts_are_improved_by_the_probabilities_they_were_sampled_with() {
    let runs = tempfile::tempdir().unwrap();
    let start = begun(runs.path());
    // Nothing is answered fast, and an untaught model seldom ends its thoughts.
    let changes = "steps = 2\nupdates = 1\n[questions]\nhigh = 0\ndegraded = 0\nlow = 0\nabsent = 0\n\
                   [reasoning]\nquestions = 3\nthought_tokens = 12\n[reasoning.coherence]\nscaled = \"group\"\n\
                   [objective]\nmask_overlong = false\nkl = 0.01\n[policy]\ntemperature = 1.3\n[optimiser]\nweight_decay = 0.0";
    let recipe = smoke(changes);
    let done = run(&recipe, runs.path(), Some(&start), usize::MAX).unwrap();
    let entries = log(&done.folder);
    let first = &entries[0]["measured"];
    assert_eq!(first["reasoned"]["rollouts"].as_u64(), Some((recipe.batch * 3 * recipe.policy.rollouts) as u64));
    assert_eq!((first["rollouts"].as_u64(), first["clip_fraction"].as_f64()), (Some(0), Some(0.0)), "{first}");
    assert!(first["kl"].as_f64().unwrap().abs() < 1e-6, "{first}");
    let number = |key: &str| first["reasoned"][key].as_f64().unwrap();
    assert!((0.5..=1.0).contains(&number("weight")) && number("tokens") > 4.0 && number("reward") >= 0.0, "{first}");
    assert!(entries.iter().all(|e| e["norm"].as_f64().unwrap() > 0.0));
    let (was, is) = (read(&start.join(checkpoint::MODEL)), read(&done.folder.join(checkpoint::MODEL)));
    let moved = |name: &str| was[name].iter().zip(&is[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) > 1e-5;
    // A box's state draws no mask here, so nothing teaches it.
    assert!(moved("language.layers.0.mlp.up_proj.weight") && !moved("seg.in.weight"));
}

/// What would break: the ablation's arm that teaches reasons beside fast answers, which would teach none.
#[test]
fn chains_are_taught_beside_supervision_on_kept_features() {
    let runs = tempfile::tempdir().unwrap();
    let start = begun(runs.path());
    let alone = "steps = 2\nupdates = 1\n[terms]\npolicy = 0.0\nsupervised = 1.0\n[loss]\nchain = 0.5\n[reasoning]\nthought_tokens = 200";
    let beside = format!("name = \"beside\"\n{alone}\n[questions]\nchains = 3");
    let entries = |changes: &str| log(&run(&smoke(changes), runs.path(), Some(&start), usize::MAX).unwrap().folder);
    let (with, without) = (entries(&beside), entries(&format!("name = \"alone\"\n{alone}")));
    let first = |entries: &[serde_json::Value], key: &str| entries[0]["measured"]["improved"][key].as_f64();
    assert!(first(&with, "chains") > Some(0.0), "{}", with[0]);
    assert_eq!(first(&without, "chains"), None, "without chains the log is as it was");
    assert_eq!(first(&with, "supervised"), first(&without, "supervised"), "the same fast questions");
    assert!(with.iter().all(|entry| entry["norm"].as_f64().unwrap() > 0.0));
}

/// What asks for tasks only, about all of the scenes at each step: not every scene can be described.
fn tasks_alone(name: &str, tasks: &str) -> Recipe {
    smoke(&format!(
        "name = \"{name}\"\nsteps = 2\nbatch = 12\nupdates = 1\n[data]\nviews = 0\n[data.pictures]\nscenes = 12\n\
         [questions]\nhigh = 0\ndegraded = 0\nlow = 0\nabsent = 0\n[advantage]\nleast_deviation = 1e-6\n\
         [objective]\nmask_overlong = false\nkl = 0.01\n[optimiser]\nweight_decay = 0.0\n[tasks]\n{tasks}"
    ))
}

/// What would break: a policy improved by probabilities that it did not act by, or a run that goes on elsewhere.
#[test]
fn answers_to_tasks_are_improved_by_the_probabilities_they_were_sampled_with() {
    let runs = tempfile::tempdir().unwrap();
    let start = begun(runs.path());
    // An untaught model earns by the boxes that it hits by chance; flat probabilities have it write some.
    let tasks = "kinds = { grounding_description = 1 }\nrollouts = 32\ntemperature = 2.0";
    let whole = run(&tasks_alone("whole", tasks), runs.path(), Some(&start), usize::MAX).unwrap();
    let entries = log(&whole.folder);
    let first = &entries[0]["measured"];
    let told = &first["tasks"]["grounding_description"];
    let rollouts = told["rollouts"].as_u64().unwrap();
    assert!(rollouts > 0 && rollouts.is_multiple_of(32), "{first}");
    assert_eq!(first["tasks"].as_object().map(serde_json::Map::len), Some(1), "{first}");
    assert_eq!((first["rollouts"].as_u64(), first["clip_fraction"].as_f64()), (Some(0), Some(0.0)), "{first}");
    assert!(first["kl"].as_f64().unwrap().abs() < 1e-6, "{first}");
    let number = |key: &str| told[key].as_f64().unwrap();
    assert!(number("unscorable") == 0.0 && number("tokens") > 4.0 && (0.0..=1.0).contains(&number("reward")), "{told}");
    assert!(first["improved"]["actions"].as_f64().unwrap() > 0.0 && entries[0]["norm"].as_f64().unwrap() > 0.0);
    let (was, is) = (read(&start.join(checkpoint::MODEL)), read(&whole.folder.join(checkpoint::MODEL)));
    let moved = |name: &str| was[name].iter().zip(&is[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) > 1e-5;
    assert!(moved("language.layers.0.mlp.up_proj.weight") && !moved("seg.in.weight"), "words draw no mask");

    let killed = tasks_alone("killed", tasks);
    assert!(!run(&killed, runs.path(), Some(&start), 1).unwrap().finished);
    let resumed = run(&killed, runs.path(), None, usize::MAX).unwrap();
    for file in [checkpoint::MODEL, checkpoint::STATE] {
        assert!(read(&whole.folder.join(file)) == read(&resumed.folder.join(file)), "{file} differs");
    }
    let again: Vec<_> = log(&resumed.folder).iter().map(|entry| entry["measured"].clone()).collect();
    assert_eq!(again, entries.iter().map(|entry| entry["measured"].clone()).collect::<Vec<_>>());
}

/// What would break: a model that is moved although nothing it did was better than anything else.
#[test]
fn answers_to_tasks_that_earn_alike_move_nothing() {
    let runs = tempfile::tempdir().unwrap();
    let start = begun(runs.path());
    // No untaught model names a place: all earn nothing.
    let recipe = tasks_alone("alike", "kinds = { classification = 1 }\nrequests = 2\nrollouts = 3");
    let done = run(&recipe, runs.path(), Some(&start), usize::MAX).unwrap();
    for entry in log(&done.folder) {
        let told = &entry["measured"]["tasks"]["classification"];
        assert_eq!(told["rollouts"].as_u64(), Some(12 * 2 * 3), "every scene shows a place: {entry}");
        assert_eq!((told["reward"].as_f64(), told["silent_groups"].as_f64()), (Some(0.0), Some(1.0)), "{entry}");
        assert_eq!((entry["norm"].as_f64(), entry["measured"]["improved"]["actions"].as_u64()), (Some(0.0), Some(0)));
    }
    assert!(read(&start.join(checkpoint::MODEL)) == read(&done.folder.join(checkpoint::MODEL)));
}

#[test]
fn reinforcement_raises_the_reward() {
    let runs = tempfile::tempdir().unwrap();
    let start = begun(runs.path());
    // Silence where nothing is to be shown is quickly learnt by an untaught model.
    let changes = "steps = 40\nbatch = 4\nlearning_rate = 5e-3\n[policy]\nrollouts = 8\n[questions]\nhigh = 0\ndegraded = 0\nlow = 0\nabsent = 4";
    let done = run(&smoke(changes), runs.path(), Some(&start), usize::MAX).unwrap();
    let rewards: Vec<f64> = log(&done.folder).iter().map(|e| e["measured"]["reward"].as_f64().unwrap()).collect();
    let mean = |r: &[f64]| r.iter().sum::<f64>() / r.len() as f64;
    let (before, after) = (mean(&rewards[..8]), mean(&rewards[32..]));
    assert!(after > before + 0.2, "{before} to {after}");
}

#[test]
fn a_hidden_target_is_asked_for_in_the_clean_view_too() {
    let runs = tempfile::tempdir().unwrap();
    let start = grpo::load(&begun(runs.path()), checkpoint::MODEL).unwrap();
    let baker = Baker {
        params: &start.params,
        config: &start.config,
        runs: runs.path(),
        data: None,
        workers: 1,
        progress: &|_, _| {},
    };
    let episodes = baker.training(&smoke("").data).unwrap();
    let (mut hidden, mut degraded, mut chains) = (0, 0, [0; 2]);
    for index in 0..episodes.len() {
        let episode = episodes.get(index, &start.config).unwrap();
        assert!(episode.sights[0].degradation.is_none());
        let why = |sight: &grpo::episode::Sight| sight.asked.iter().filter(|posed| posed.chain.is_some()).count();
        chains = [chains[0] + why(&episode.sights[0]), chains[1] + episode.sights[1..].iter().map(why).sum::<usize>()];
        for sight in &episode.sights[1..] {
            degraded += usize::from(sight.degradation.is_some());
            for posed in &sight.asked {
                let clean = &episode.sights[0].asked[posed.clean.unwrap()];
                assert_eq!(clean.ask.text, posed.ask.text);
                if posed.branch() == Branch::Low {
                    assert!(clean.branch() == Branch::High && !clean.target().is_empty() && posed.target().is_empty());
                    hidden += 1;
                }
            }
        }
    }
    assert!(degraded == episodes.len() && hidden > 0, "{degraded} degraded views hide {hidden} targets");
    assert!(chains.iter().all(|count| *count > 0), "clear and degraded views have answers with reasons: {chains:?}");
}

/// What would break: episodes that are there already, made anew or without what is asked of them.
#[test]
fn episodes_with_tasks_are_the_same_but_for_them_and_kept_apart() {
    let runs = tempfile::tempdir().unwrap();
    let start = grpo::load(&begun(runs.path()), checkpoint::MODEL).unwrap();
    let baker = Baker {
        params: &start.params,
        config: &start.config,
        runs: runs.path(),
        data: None,
        workers: 1,
        progress: &|_, _| {},
    };
    let data = smoke("").data;
    let (without, with) = (baker.training(&data).unwrap(), baker.with_tasks(&data).unwrap());
    assert_eq!(without.len(), with.len());
    for index in 0..with.len() {
        let (a, b) = (without.get(index, &start.config).unwrap(), with.get(index, &start.config).unwrap());
        assert!(a.sights.iter().all(|sight| sight.tasks.is_empty()));
        let place = |known: &grpo::episode::Known| known.kind == TaskKind::Classification;
        assert!(b.sights[0].tasks.iter().any(place), "the renderer knows every place");
        assert!(b.sights[1..].iter().all(|sight| sight.tasks.is_empty()), "what a degraded view shows is not known");
        assert!(a.sights.iter().zip(&b.sights).all(|(a, b)| a.asked == b.asked && a.things == b.things));
    }
}

#[test]
fn episodes_are_made_once_and_judge_a_model() {
    let runs = tempfile::tempdir().unwrap();
    let start = grpo::load(&begun(runs.path()), checkpoint::MODEL).unwrap();
    let seen = Mutex::new(0);
    let progress = |_: usize, _: usize| *seen.lock().unwrap() += 1;
    let baker = Baker {
        params: &start.params,
        config: &start.config,
        runs: runs.path(),
        data: None,
        workers: 2,
        progress: &progress,
    };
    let made = baker.set("scenes-tune", 0, 2).unwrap();
    assert_eq!((made.len(), *seen.lock().unwrap()), (2, 2));
    let again = baker.set("scenes-tune", 0, 2).unwrap();
    assert_eq!((again.len(), *seen.lock().unwrap()), (2, 2), "nothing is made twice");
    let judge = |workers| {
        record::records(&start.params, &start.config, &start.tokenizer, "scenes-tune", &made, workers).unwrap()
    };
    let records = judge(1);
    assert!(records.len() > 8 && records.iter().all(|r| r.set == "scenes-tune"));
    assert_eq!(records, judge(2), "the number of workers changes nothing");
    // Every kind of question keeps its right answer on the way through the file.
    let present = records.iter().filter(|r| r.present()).count();
    assert!(present > 0 && records.iter().all(|r| r.present() == (r.target > 0)));
}

/// What would break: hours of seeing pictures before the system ends the run.
#[test]
fn what_cannot_fit_is_refused_before_a_picture_is_seen() {
    let runs = tempfile::tempdir().unwrap();
    let start = begun(runs.path());
    let error = run(&smoke("workers = 2000000"), runs.path(), Some(&start), 1).unwrap_err();
    assert!(matches!(error, TrainError::Memory { .. }), "{error}");
    assert!(error.to_string().contains("hint: fewer workers"), "{error}");
    assert!(!runs.path().join("episodes").exists());
    // What needs less goes on under the same name.
    assert_eq!(run(&smoke(""), runs.path(), Some(&start), 1).unwrap().step, 1);
}

#[test]
fn what_is_missing_or_fits_nothing_is_said() {
    let runs = tempfile::tempdir().unwrap();
    let error = run(&smoke(""), runs.path(), None, 1).unwrap_err().to_string();
    assert!(error.contains("--from"), "{error}");
    let start = begun(runs.path());
    let recipe = smoke("[policy]\ntrainable = [\"langauge.*\"]");
    let error = run(&recipe, runs.path(), Some(&start), 1).unwrap_err().to_string();
    assert!(error.contains("policy.trainable") && error.contains("langauge"), "{error}");
    let error = run(&smoke("name = \"nowhere\""), runs.path(), Some(Path::new("/nowhere")), 1).unwrap_err().to_string();
    assert!(error.contains("/nowhere"), "{error}");
}
