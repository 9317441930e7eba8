//! Captions, short questions and changes that people wrote: a set of them trains, and the recipes for larger models are sound.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use kestrel_models::kestrel::Config;
use kestrel_models::tokenizer::{self, QueryTokenizer};
use kestrel_training::cache::{Cache, Kind, Sources, Spec, make};
use kestrel_training::datasets::formats::Format;
use kestrel_training::expressions::corpus;
use kestrel_training::rewards::TaskKind;
use kestrel_training::scenes;
use kestrel_training::sft::memory::estimate;
use kestrel_training::sft::{Options, Phase, Recipe, TOKENIZER, TrainError, train};
use kestrel_training::tasks::SPOKEN;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Seeds that nothing else uses.
const FIRST_SEED: u64 = 7_200_000;

/// Four drawn scenes, the last of which tunes, with what somebody could say of them: of each a caption and two questions, of
/// those that train a region and what was built since.
fn drawn() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("images")).unwrap();
    let save = |name: &str, image: &RgbImage| image.save(folder.path().join("images").join(name)).unwrap();
    let mut lines: Vec<Value> = Vec::new();
    for number in 0..4 {
        let picture = scenes::render(FIRST_SEED + number, 96);
        let (name, later) = (format!("{number}.png"), format!("{number}-later.png"));
        let split = if number == 3 { "val" } else { "train" };
        let task = |task: &str, request: &str, texts: &[&str]| json!({ "image": name, "split": split, "task": task, "request": request, "truth": { "texts": texts } });
        save(&name, &picture.image);
        let place = scenes::place(&picture).unwrap().label();
        let caption = [format!("a {place} with a quokka"), format!("a quokka is in this {place}")];
        lines.push(task("caption", "describe it", &caption.each_ref().map(String::as_str)));
        let anything = if picture.instances.is_empty() { "no" } else { "yes" };
        lines.push(task("short_vqa", "is there anything?", &[anything]));
        lines.push(task("short_vqa", "is there a quokka?", &["yes"]));
        if split == "train" {
            lines.push(task("region_caption", "what is in the middle?", &["some ground"]));
            let mut built = picture.image.clone();
            for (x, y) in (20..44).flat_map(|x| (30..50).map(move |y| (x, y))) {
                built.put_pixel(x, y, Rgb([240, 240, 240]));
            }
            save(&later, &built);
            let mut change = task("change_caption", "what has changed?", &["a white house was built"]);
            change["image_after"] = json!(later);
            lines.push(change);
        }
    }
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    std::fs::write(folder.path().join("tasks.jsonl"), text.join("\n")).unwrap();
    folder
}

/// The smallest recipe with tasks, over a set instead of scenes, with one phase of two steps that teaches these tasks.
fn recipe(set: &Path, tasks: &str) -> Recipe {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/smoke-tasks.toml");
    let mut table: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let set = format!("format = \"spoken\"\nfolder = {:?}\npictures = 24\n", set.display().to_string());
    let data = table["data"].as_table_mut().unwrap();
    data.insert("scenes".into(), toml::Value::Integer(0));
    data.insert("sets".into(), toml::Value::Array(vec![toml::Value::Table(set.parse().unwrap())]));
    table["model"].as_table_mut().unwrap().insert("vocabulary".into(), toml::Value::Integer(1024));
    let phases = table["phases"].as_array_mut().unwrap();
    phases.truncate(1);
    let phase = phases[0].as_table_mut().unwrap();
    phase.insert("tasks".into(), toml::Value::Table(tasks.parse().unwrap()));
    phase.insert("batch".into(), toml::Value::Integer(8));
    table.insert("evaluate_steps".into(), toml::Value::Integer(2));
    let sets = ["sets", "scenes-tune"].map(|name| toml::Value::String(name.into()));
    table.insert("evaluate_sets".into(), toml::Value::Array(sets.to_vec()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recipe.toml");
    std::fs::write(&file, toml::to_string(&table).unwrap()).unwrap();
    Recipe::load(&file).unwrap()
}

fn run(recipe: &Recipe, runs: &Path) -> Result<PathBuf, TrainError> {
    let options = Options { runs: runs.to_path_buf(), ..Options::default() };
    train(recipe, &options, &|_| ControlFlow::Continue(())).map(|done| done.folder)
}

const ALL: &str = "caption = 1\nregion_caption = 1\nchange_caption = 1\nshort_vqa = 2\n";

#[test]
fn what_people_wrote_is_taught_and_judged() {
    let (set, runs) = (drawn(), tempfile::tempdir().unwrap());
    let recipe = recipe(set.path(), ALL);
    let folder = run(&recipe, runs.path()).unwrap();
    let text = std::fs::read_to_string(folder.join("log.jsonl")).unwrap();
    let log: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(log.len(), 2);
    assert!(log.iter().all(|entry| entry["values"]["total"].as_f64().is_some_and(f64::is_finite)), "{text}");
    for kind in SPOKEN {
        let of = |figure: &str| -> f64 {
            log.iter().filter_map(|entry| entry["values"]["tasks"][kind.name()][figure].as_f64()).sum()
        };
        assert!(of("taught") > 0.0 && of("loss") > 0.0 && of("long") == 0.0, "{}: {text}", kind.name());
    }

    // The set's picture that tunes has a caption and two questions, one of which is asked; scenes have none.
    let judged = &log[1]["evaluation"]["tasks"];
    for kind in [TaskKind::Caption, TaskKind::ShortVqa] {
        for figure in ["reward", "constant", "gain", "completed"] {
            assert_eq!(judged[kind.name()][figure]["n"].as_u64(), Some(1), "{figure}: {judged}");
        }
    }
    assert!(judged.get("region_caption").is_none() && judged.get("change_caption").is_none(), "{judged}");

    // A word that our own phrasings do not have is spelled in fewer pieces for having been read.
    let ours = tokenizer::train(corpus(recipe.seed, recipe.tokenizer_texts), recipe.model.vocabulary).unwrap();
    let theirs = QueryTokenizer::load(&folder.join(TOKENIZER)).unwrap();
    let pieces = |tokenizer: &QueryTokenizer| tokenizer.encode("quokka").unwrap().len();
    assert!(pieces(&theirs) < pieces(&ours), "{} and {}", pieces(&theirs), pieces(&ours));
}

/// What would break: answers about what a view hides, and refusals of what nobody has labelled.
#[test]
fn a_picture_that_people_asked_about_is_shown_clear_and_asked_nothing_else() {
    let (set, kept) = (drawn(), tempfile::tempdir().unwrap());
    let data = Spec { degraded_share: 1.0, ..recipe(set.path(), ALL).data };
    let spec = data.settled(None, &|_| {}).unwrap();
    let sources = Sources::open(&spec, None).unwrap();
    let cache = Cache::build(&spec, None, kept.path(), 1, &|_, _| {}).unwrap();
    let mut pairs = 0;
    for (index, (kind, seed)) in spec.plan().into_iter().enumerate() {
        assert_eq!(kind, Kind::Set(0));
        let sample = make(&spec, &sources, kind, seed).unwrap();
        assert!(sample.degradation.is_none() && sample.asks.is_empty() && !sample.is_ours());
        assert_ne!(sample.picture.origin.frame, "3.png", "what tunes does not train");
        let changes = sample.spoken.iter().filter(|spoken| spoken.task == TaskKind::ChangeCaption).count();
        assert_eq!((changes, sample.spoken.len()), if changes > 0 { (1, 1) } else { (0, 4) });
        pairs += changes;
        assert_eq!(cache.get(index).unwrap().spoken, sample.spoken, "what is kept is read back");
    }
    assert!((1..24).contains(&pairs), "{pairs}");
}

#[test]
fn a_task_that_no_set_asks_is_refused_before_anything_is_made() {
    let (set, runs) = (drawn(), tempfile::tempdir().unwrap());
    let path = set.path().join("tasks.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    // The question is asked about the picture that tunes alone.
    let left = text.lines().filter(|line| !line.contains("short_vqa") || line.contains("\"val\""));
    std::fs::write(&path, left.collect::<Vec<_>>().join("\n")).unwrap();
    let error = run(&recipe(set.path(), ALL), runs.path()).unwrap_err().to_string();
    assert!(error.contains("phases.places.tasks.short_vqa"), "{error}");
    assert!(error.contains("caption, region_caption, change_caption"), "{error}");
    assert!(std::fs::read_dir(runs.path()).unwrap().next().is_none(), "something was made");
}

#[test]
fn recipes_for_larger_models_are_sound_and_their_memory_is_counted() {
    let small = Config::kestrel_s();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/larger")).unwrap() {
        let path = entry.unwrap().path();
        let recipe = Recipe::load(&path).unwrap();
        assert!(recipe.data.sets.iter().all(|set| set.format == Format::Spoken) && !recipe.data.sets.is_empty());
        assert!(recipe.model.language_width > small.language_width, "{}", recipe.name);
        assert!(recipe.model.language_layers > small.language_layers, "{}", recipe.name);
        let phase = recipe.phases.last().unwrap();
        assert!(phase.tasks.keys().all(|kind| SPOKEN.contains(kind)) && !phase.tasks.is_empty(), "{}", recipe.name);
        let needed = |config: &Config, phase: &Phase| estimate(config, phase, recipe.workers).unwrap().total();
        let whole = needed(&recipe.model_of(phase), phase);
        let untold = Phase { tasks: BTreeMap::new(), ..phase.clone() };
        assert!(whole > needed(&recipe.model_of(phase), &untold), "{}: answers take memory too", recipe.name);
        assert!(whole > needed(&Config { image: phase.image, ..small.clone() }, phase), "{}", recipe.name);
        assert!(whole < 64 << 30, "{}: {whole} bytes", recipe.name);
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(names, ["captions.toml", "change-captions.toml", "short-vqa.toml"]);
}
