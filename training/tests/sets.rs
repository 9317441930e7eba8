//! Somebody's own pictures: read, parted, trained on, and refused where nothing can be learnt from them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use image::{Rgb, RgbImage};
use kestrel_training::cache::{Cache, Sources, Spec, make};
use kestrel_training::datasets::Split;
use kestrel_training::datasets::folder::Folder;
use kestrel_training::datasets::formats::{Annotations, Format, read, write_coco};
use kestrel_training::sample::Category;
use kestrel_training::sft::{self, Options, Progress, Recipe, TrainError, train};
use kestrel_training::{grpo, scenes};
use tempfile::TempDir;

mod sets {
    pub(crate) mod refused;
    pub(crate) mod words;
}

/// Seeds that nothing else uses.
const FIRST_SEED: u64 = 7_100_000;

fn coco(pictures: u64, side: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let scenes = (FIRST_SEED..FIRST_SEED + pictures).map(|seed| scenes::render(seed, side));
    assert_eq!(write_coco(folder.path(), scenes).unwrap() as u64, pictures);
    folder
}

fn smoke(change: impl FnOnce(&mut toml::Table)) -> Result<Recipe, TrainError> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/smoke.toml");
    let mut table: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    change(&mut table);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recipe.toml");
    std::fs::write(&file, toml::to_string(&table).unwrap()).unwrap();
    Recipe::load(&file)
}

/// The smoke recipe with these sets in place of scenes.
fn with_sets(sets: &str) -> Result<Recipe, TrainError> {
    smoke(|table| {
        let data = table["data"].as_table_mut().unwrap();
        data.insert("scenes".into(), toml::Value::Integer(0));
        let sets: toml::Table = sets.parse().unwrap();
        data.insert("sets".into(), sets["sets"].clone());
    })
}

fn set(folder: &Path, more: &str) -> String {
    format!("[[sets]]\nformat = \"coco\"\nfolder = {:?}\n{more}\n", folder.display().to_string())
}

fn files(part: &Annotations) -> BTreeSet<PathBuf> {
    part.records.iter().map(|r| r.path.clone()).collect()
}

#[test]
fn what_is_written_as_coco_is_read_back() {
    let folder = coco(2, 160);
    let set = read(Format::Coco, folder.path()).unwrap().with_pictures();
    assert!(set.skipped.total() == 0 && set.unknown.is_empty(), "{:?} {:?}", set.skipped, set.unknown);
    for (seed, record) in (FIRST_SEED..).zip(&set.records) {
        let scene = scenes::render(seed, 160);
        let seen: Vec<Category> = scene
            .instances
            .iter()
            .filter(|i| i.mask.as_ref().unwrap().area().unwrap() > 0)
            .map(|i| i.category)
            .collect();
        assert_eq!(record.instances.iter().map(|i| i.category).collect::<Vec<_>>(), seen);
        assert_eq!(record.image().unwrap(), scene.image);
        assert!(record.instances.iter().all(|i| !i.outline.is_weak()));
    }
}

/// A folder with one 8×8 picture a name, all of them of one car.
fn cars(names: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("images")).unwrap();
    for (split, _) in names {
        std::fs::create_dir_all(folder.path().join(split)).unwrap();
    }
    let splits: BTreeSet<&str> = names.iter().map(|(split, _)| *split).collect();
    for split in splits {
        let (mut images, mut things) = (Vec::new(), Vec::new());
        for (id, (_, name)) in names.iter().filter(|(own, _)| *own == split).enumerate() {
            RgbImage::from_pixel(8, 8, Rgb([9; 3])).save(folder.path().join("images").join(name)).unwrap();
            images.push(serde_json::json!({ "id": id, "file_name": name, "width": 8, "height": 8 }));
            things.push(serde_json::json!({ "id": id, "image_id": id, "category_id": 1, "bbox": [1, 1, 4, 4] }));
        }
        let categories = [serde_json::json!({ "id": 1, "name": "car" })];
        let text = serde_json::json!({ "images": images, "annotations": things, "categories": categories }).to_string();
        std::fs::write(folder.path().join(split).join("_annotations.coco.json"), text).unwrap();
    }
    folder
}

/// What would break: figures of a model on pictures that it was trained on.
#[test]
fn no_picture_is_in_two_parts() {
    let names: Vec<String> = (0..90).map(|n| format!("DJI_{n:04}.png")).collect();
    let plain: Vec<(&str, &str)> = names.iter().map(|name| ("", &**name)).collect();
    // The set's own splits, two of which list the same pictures.
    let split = [
        ("train", "a.png"),
        ("train", "b.png"),
        ("train", "c.png"),
        ("valid", "b.png"),
        ("test", "c.png"),
        ("test", "d.png"),
    ];
    for (given, expected) in [(&plain[..], None), (&split[..], Some([1, 1, 2]))] {
        let folder = cars(given);
        let part = |split| Folder::new(Format::Coco, folder.path()).part(None, split).unwrap();
        let parts = Split::ALL.map(part);
        let of = parts.each_ref().map(files);
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            assert!(of[one].is_disjoint(&of[other]), "{:?} and {:?}", of[one], of[other]);
        }
        let distinct: BTreeSet<&str> = given.iter().map(|(_, name)| *name).collect();
        assert_eq!(of.iter().map(BTreeSet::len).sum::<usize>(), distinct.len(), "every picture has its part");
        match expected {
            Some(sizes) => {
                assert_eq!(of.each_ref().map(BTreeSet::len), sizes);
                let twice = "picture that a split kept further from training has too";
                assert_eq!(parts[0].skipped.of(twice), 2, "{:?}", parts[0].skipped);
            }
            None => assert!(of[0].len() > 45 && of[1].len() > 3 && of[2].len() > 3, "{:?}", of.map(|p| p.len())),
        }
    }
}

#[test]
fn a_folder_of_coco_trains_and_is_told_before_it_does() {
    let folder = coco(14, 320);
    // A picture that is missing and a thing that is broken are counted, and the rest trains.
    std::fs::remove_file(folder.path().join(format!("images/{FIRST_SEED}.png"))).unwrap();
    let path = folder.path().join("annotations.json");
    let mut whole: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let broken = serde_json::json!({ "id": 0, "image_id": 2, "category_id": 1, "bbox": [5, 5, -4, 4] });
    whole["annotations"].as_array_mut().unwrap().push(broken);
    std::fs::write(&path, whole.to_string()).unwrap();

    let mut recipe = with_sets(&set(folder.path(), "pictures = 5")).unwrap();
    recipe.data.scenes = 2;
    (recipe.evaluate_steps, recipe.evaluate_pictures, recipe.evaluate_sets) = (5, 2, vec!["sets".into()]);
    let runs = tempfile::tempdir().unwrap();
    let options = Options { runs: runs.path().to_path_buf(), ..Options::default() };
    let told = Mutex::new(Vec::new());
    let trained = train(&recipe, &options, &|progress| {
        match progress {
            Progress::Doing(words) => told.lock().unwrap().push(words.to_owned()),
            Progress::Step(entry) => {
                told.lock().unwrap().push(format!("step {}", entry.step));
                assert_eq!(entry.evaluation.is_some(), entry.step == 5);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    assert!(trained.unwrap().finished);
    let told = told.into_inner().unwrap();
    let at =
        |words: &str| told.iter().position(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}: {told:?}"));
    assert!(at("pictures to train on") < at("step 1"));
    assert!(at("1 × picture that is missing") < at("step 1") && at("1 × box without area") < at("step 1"));

    // The same recipe over other annotations is another run: its samples are made anew, and its checkpoint is refused.
    let settled = recipe.data.settled(None, &|_| {}).unwrap();
    assert_eq!((settled.len(), settled.sets[0].pictures), (7, Some(5)));
    let cache = Cache::open(&Cache::folder(runs.path(), &settled)).unwrap();
    assert!(cache.complete());
    let own = (0..7).map(|at| cache.get(at).unwrap()).filter(|s| s.picture.origin.dataset.starts_with("coco/")).count();
    assert_eq!(own, 5);
    let things = whole["annotations"].as_array_mut().unwrap();
    things.retain(|thing| thing["image_id"] != 3);
    std::fs::write(&path, whole.to_string()).unwrap();
    assert_ne!(recipe.data.settled(None, &|_| {}).unwrap().hash(), settled.hash());
    let resumed = train(&recipe, &Options { resume: true, ..options.clone() }, &|_| ControlFlow::Continue(()));
    assert!(resumed.unwrap_err().to_string().contains("another name"));
    // What tunes must not train.
    let mut all = Recipe { name: "all".into(), ..recipe.clone() };
    all.data.sets[0].split = Some("all".into());
    let error = train(&all, &options, &|_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(error.contains("evaluate_sets"), "{error}");
    let pinned = Recipe { data: settled, ..recipe };
    let error = train(&pinned, &options, &|_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(error.contains("which the recipe names"), "{error}");
}

#[test]
fn shares_and_numbers_say_how_much_of_an_epoch_a_set_is() {
    let folder = cars(&[("train", "a.png"), ("train", "b.png"), ("test", "c.png")]);
    let count = |more: &str, scenes: usize| {
        let recipe = with_sets(&set(folder.path(), more)).unwrap();
        let spec = Spec { scenes, ..recipe.data }.settled(None, &|_| {}).unwrap();
        (spec.sets[0].pictures, spec.len())
    };
    assert_eq!(count("", 0), (Some(16), 16));
    assert_eq!(count("pictures = 3", 6), (Some(3), 9));
    let half = Spec { scenes: 30, ..smoke(|_| {}).unwrap().data };
    let share = Folder { share: Some(0.25), ..Folder::new(Format::Coco, folder.path()) };
    let spec = Spec { sets: vec![share], ..half }.settled(None, &|_| {}).unwrap();
    assert_eq!((spec.sets[0].pictures, spec.len()), (Some(10), 40));
    let sources = Sources::open(&spec, None).unwrap();
    for (kind, seed) in spec.plan().into_iter().filter(|(kind, _)| kind.stream() >= 8) {
        let sample = make(&spec, &sources, kind, seed).unwrap();
        assert!(["a.png", "b.png"].contains(&&*sample.picture.origin.frame), "only what trains");
    }
}

#[test]
fn reinforcement_takes_the_same_sets() {
    let folder = coco(8, 256);
    let runs = tempfile::tempdir().unwrap();
    let options = Options { runs: runs.path().to_path_buf(), ..Options::default() };
    let start = sft::train(&smoke(|_| {}).unwrap(), &options, &|_| ControlFlow::Continue(())).unwrap().folder;
    let smoke = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/grpo/smoke.toml")).unwrap();
    let sets = set(folder.path(), "pictures = 3").replace("[[sets]]", "[[data.pictures.sets]]");
    let recipe = |text: &str| grpo::Recipe::of(text.parse().unwrap()).unwrap();
    let own = recipe(&format!("{}\n{sets}", smoke.replace("scenes = 4", "scenes = 1")));
    own.check().unwrap();
    let options = grpo::Options { runs: runs.path().to_path_buf(), from: Some(start), ..grpo::Options::default() };
    let told = Mutex::new(Vec::new());
    let summary = grpo::train(&own, &options, &|progress| {
        match progress {
            grpo::Progress::Doing(words) => told.lock().unwrap().push(words.to_owned()),
            grpo::Progress::Episodes(_, all) => assert_eq!(all, 4),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    assert!(summary.unwrap().finished);
    assert!(told.into_inner().unwrap().iter().any(|line| line.contains("pictures to train on")));
    let spoken = recipe(&format!("{smoke}\n{}", sets.replace("\"coco\"", "\"spoken\"")));
    assert!(spoken.check().unwrap_err().to_string().contains("data.pictures.sets[0].format"));
    let wrong = recipe(&format!("{smoke}\n{}", sets.replace("pictures = 3", "pictures = 0")));
    assert!(wrong.check().unwrap_err().to_string().contains("data.pictures.sets[0].pictures"));
}
