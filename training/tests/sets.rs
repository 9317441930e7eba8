//! Somebody's own pictures: read, parted, trained on, and refused where nothing can be learnt from them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use image::{GrayImage, Luma, Rgb, RgbImage};
use kestrel_training::cache::{Cache, Own, Sources, Spec, make};
use kestrel_training::datasets::folder::Folder;
use kestrel_training::datasets::formats::{Annotations, Format, read, write_coco};
use kestrel_training::datasets::{Record, Split};
use kestrel_training::metrics::published::Benchmark;
use kestrel_training::sample::{Category, Stratum, Target};
use kestrel_training::sft::{self, Options, Progress, Recipe, TrainError, train};
use kestrel_training::{benchmark, grpo, scenes};
use tempfile::TempDir;

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

/// Sets that split expressions put one picture into two splits: it is kept from training whole.
#[test]
fn a_picture_with_words_of_two_splits_is_kept_from_training() {
    let folder = tempfile::tempdir().unwrap();
    for place in ["Annotations", "JPEGImages"] {
        std::fs::create_dir(folder.path().join(place)).unwrap();
    }
    let object = |x: u32, text: &str| {
        format!(
            "<object><name>ship</name><bndbox><xmin>{x}</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>9</ymax></bndbox>\
             <description>{text}</description></object>",
            x + 8
        )
    };
    for (name, objects) in
        [("1", [object(2, "the left ship"), object(20, "the right ship")].concat()), ("2", object(5, "the ship"))]
    {
        RgbImage::new(40, 40).save(folder.path().join(format!("JPEGImages/{name}.jpg"))).unwrap();
        let text = format!("<annotation><filename>{name}.jpg</filename>{objects}</annotation>");
        std::fs::write(folder.path().join(format!("Annotations/{name}.xml")), text).unwrap();
    }
    std::fs::write(folder.path().join("train.txt"), "0\n2\n").unwrap();
    std::fs::write(folder.path().join("test.txt"), "1\n").unwrap();
    let set = Folder::new(Format::DiorRsvg, folder.path());
    let said = |part: &Annotations| -> Vec<String> {
        part.records.iter().flat_map(|r: &Record| r.expressions.iter().map(|e| e.text.clone())).collect()
    };
    let (train, test) = (set.part(None, Split::Train).unwrap(), set.part(None, Split::Test).unwrap());
    assert_eq!((said(&train), said(&test)), (vec!["the ship".to_owned()], vec!["the right ship".to_owned()]));
    let own = Folder { split: Some("train".into()), ..set.clone() }.part(None, Split::Test).unwrap();
    assert_eq!(files(&own), files(&train));
    let everything = Folder { split: Some("all".into()), ..set }.part(None, Split::Train).unwrap();
    assert_eq!(said(&everything).len(), 3);
    // What is said comes first, and a box is no mask.
    let sample = benchmark::from_records(test.records, 0, None).next().unwrap().unwrap();
    let ask = &sample.asks[0];
    assert_eq!((&*ask.text, ask.written, ask.stratum), ("the right ship", true, Stratum::Position));
    assert_eq!(ask.target, Target::Boxes(vec![1]));
    assert!(sample.asks[1..].iter().all(|ask| !ask.written));
    assert_eq!(Benchmark::of(Format::DiorRsvg), Some(Benchmark::Rsvg));
}

/// RefSegRS's form: pictures, mask pictures and a line of words each.
fn masks() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for place in ["images", "masks"] {
        std::fs::create_dir(folder.path().join(place)).unwrap();
    }
    for id in 1..=3 {
        let inside = |x: u32, y: u32| (10..50).contains(&x) && (20..60).contains(&y);
        let picture = RgbImage::from_fn(120, 120, |x, y| Rgb(if inside(x, y) { [200, 30, 30] } else { [90, 110, 90] }));
        picture.save(folder.path().join(format!("images/{id}.png"))).unwrap();
        let mask = GrayImage::from_fn(120, 120, |x, y| Luma([if inside(x, y) { 255 } else { 0 }]));
        mask.save(folder.path().join(format!("masks/{id}.png"))).unwrap();
    }
    std::fs::write(folder.path().join("output_phrase_train.txt"), "1 the red car on the left\n2 the red car\n")
        .unwrap();
    std::fs::write(folder.path().join("output_phrase_test.txt"), "3 the red car on the left\n").unwrap();
    folder
}

#[test]
fn written_words_are_asked_as_they_are_and_only_where_they_hold() {
    let folder = masks();
    let part = Folder::new(Format::Refsegrs, folder.path()).part(None, Split::Train).unwrap();
    let own = Own::new(part.records);
    let spec = Spec { size: 128, ..Spec::default() };
    let (mut placed, mut plain) = (0, 0);
    for seed in 0..60 {
        let sample = own.sample(&spec, seed).unwrap();
        for ask in sample.asks.iter().filter(|ask| ask.written) {
            let Target::Masks(of) = &ask.target else { panic!("{ask:?}") };
            let mask = sample.picture.instances[of[0]].mask.as_ref().unwrap();
            let [x, y, ..] = sample.picture.instances[of[0]].bounding_box;
            match &*ask.text {
                // Words about a place hold in the whole picture alone, upright: it lies at 10, 20 of 120.
                "the red car on the left" => {
                    placed += 1;
                    assert_eq!([x, y].map(|v| (v * 120.0 / 128.0).round()), [10.0, 20.0]);
                    assert!((mask.area().unwrap() as f32 / (40.0 * 128.0 / 120.0_f32).powi(2) - 1.0).abs() < 0.06);
                }
                "the red car" => plain += 1,
                other => panic!("{other}"),
            }
        }
    }
    assert!(placed > 10 && plain > placed / 2, "{placed} and {plain}");
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

/// What a person may write in a recipe, and what the error must say. Settings are refused when the recipe is read.
#[test]
fn garbage_in_a_recipe_is_one_clear_error() {
    let sets = [
        ("format = \"cocoo\"\nfolder = \"x\"", "unknown variant `cocoo`"),
        ("folder = \"x\"", "missing field `format`"),
        ("format = \"coco\"", "missing field `folder`"),
        ("format = \"coco\"\nfolder = \"\"", "data.sets[0].folder"),
        ("format = \"coco\"\nfolder = \"x\"\nsplitt = \"train\"", "unknown field `splitt`"),
        ("format = \"coco\"\nfolder = 7", "invalid type"),
        ("format = \"coco\"\nfolder = \"x\"\npictures = 0", "data.sets[0].pictures"),
        ("format = \"coco\"\nfolder = \"x\"\npictures = -4", "invalid value"),
        ("format = \"coco\"\nfolder = \"x\"\nshare = 1.0", "data.sets[0].share"),
        ("format = \"coco\"\nfolder = \"x\"\nshare = nan", "data.sets[0].share"),
        ("format = \"coco\"\nfolder = \"x\"\nshare = 0.5", "something beside it"),
        ("format = \"coco\"\nfolder = \"x\"\nshare = 0.5\npictures = 3", "either `pictures` or `share`"),
        (
            "format = \"coco\"\nfolder = \"x\"\n[[sets]]\nformat = \"coco\"\nfolder = \"y\"\nshare = -0.5",
            "data.sets[1].share",
        ),
    ];
    for (text, wanted) in sets {
        let error = with_sets(&format!("[[sets]]\n{text}\n")).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

/// Folders that are not what the recipe says. They are refused before anything is made.
#[test]
fn a_folder_that_nothing_can_be_learnt_from_is_one_clear_error() {
    let nothing = tempfile::tempdir().unwrap();
    let broken = tempfile::tempdir().unwrap();
    std::fs::write(broken.path().join("annotations.json"), "{\"images\": [").unwrap();
    let good = cars(&[("train", "a.png"), ("valid", "b.png")]);
    let gone = cars(&[("train", "a.png")]);
    std::fs::remove_file(gone.path().join("images/a.png")).unwrap();
    let unknown = cars(&[("train", "a.png")]);
    let file = unknown.path().join("train/_annotations.coco.json");
    let text = std::fs::read_to_string(&file).unwrap().replace("\"car\"", "\"wind turbine\"");
    std::fs::write(&file, text).unwrap();
    let cases = [
        (set(Path::new("/nowhere/at all"), ""), "/nowhere/at all"),
        (set(Path::new("somewhere"), ""), "KESTREL_DATA"),
        (set(nothing.path(), ""), "annotations/instances_SPLIT.json"),
        (set(nothing.path(), "annotations = \"mine.json\""), "mine.json"),
        (set(broken.path(), ""), "not valid JSON"),
        (set(gone.path(), ""), "picture that is missing"),
        (set(unknown.path(), ""), "`wind turbine`"),
        (
            set(good.path(), "split = \"tset\""),
            "expected a split among train, valid, or train, tune, test, or all, got `tset`",
        ),
        (set(good.path(), "split = \"test\""), "its splits: train, valid"),
        (set(good.path(), "content = \"0123\""), "the content 0123"),
    ];
    for (text, wanted) in cases {
        let runs = tempfile::tempdir().unwrap();
        let recipe = with_sets(&text).unwrap();
        let options = Options { runs: runs.path().to_path_buf(), ..Options::default() };
        let error = train(&recipe, &options, &|_| ControlFlow::Continue(())).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
        assert!(std::fs::read_dir(runs.path()).unwrap().next().is_none(), "{text}: something was made");
    }
}

/// A picture whose header is fine and whose pixels are not is found when it is decoded: another one takes its place.
#[test]
fn a_picture_that_does_not_decode_costs_nothing_but_itself() {
    let folder = coco(12, 96);
    let train = Folder::new(Format::Coco, folder.path()).part(None, Split::Train).unwrap();
    let cut = &train.records[0].path;
    let bytes = std::fs::read(cut).unwrap();
    std::fs::write(cut, &bytes[..bytes.len() / 2]).unwrap();
    let spec = Spec { size: 96, ..Spec::default() };
    let frames: BTreeSet<String> =
        (0..40).map(|seed| Own::new(train.records.clone()).sample(&spec, seed).unwrap().picture.origin.frame).collect();
    assert!(!frames.contains(&train.records[0].frame()) && frames.len() > 2, "{frames:?}");
    assert!(Own::new(train.records[..1].to_vec()).sample(&spec, 1).is_err());
    assert!(Own::new(Vec::new()).sample(&spec, 1).is_err());
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
    let wrong = recipe(&format!("{smoke}\n{}", sets.replace("pictures = 3", "pictures = 0")));
    assert!(wrong.check().unwrap_err().to_string().contains("data.pictures.sets[0].pictures"));
}
