//! From a folder of pictures to what training and judging make of it, by the commands of docs/guides/bring-your-own-images.md.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};

use image::{GrayImage, Luma, Rgb, RgbImage};
use kestrel_training::datasets::formats::write_coco;
use kestrel_training::scenes;

/// Seeds that nothing else uses.
const FIRST_SEED: u64 = 7_200_000;

fn ground(runs: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ground"));
    command.args(arguments).env("KESTREL_RUNS", runs).env("KESTREL_DATA", runs).output().unwrap()
}

/// What a command that must succeed prints.
fn said(runs: &Path, arguments: &[&str]) -> String {
    let output = ground(runs, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(runs: &Path, arguments: &[&str]) -> String {
    let output = ground(runs, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && !error.contains("panicked"), "{arguments:?}: {error}");
    error
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The smoke recipe with a set in place of most scenes.
fn recipe(folder: &str) -> String {
    let smoke = Path::new(env!("CARGO_MANIFEST_DIR")).join("../training/recipes/smoke.toml");
    let smoke = std::fs::read_to_string(smoke).unwrap().replace("scenes = 6", "scenes = 2");
    format!("{smoke}\n[[data.sets]]\nformat = \"coco\"\nfolder = \"{folder}\"\nshare = 0.6\n")
}

#[test]
fn a_folder_of_pictures_trains_and_judges() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path();
    let mine = runs.join("mine");
    write_coco(&mine, (FIRST_SEED..FIRST_SEED + 24).map(|seed| scenes::render(seed, 320))).unwrap();

    let checked = said(runs, &["data", "check", "coco", text(&mine), "--json"]);
    let checked: serde_json::Value = serde_json::from_str(&checked).unwrap();
    let parts = &checked["parts"];
    let part = |name: &str| parts[name].as_u64().unwrap();
    assert_eq!((checked["pictures"].as_u64(), part("train") + part("tune") + part("test")), (Some(24), 24));
    assert!(part("train") > 10 && part("test") > 0, "{parts}");
    assert!(said(runs, &["data", "check", "coco", text(&mine)]).contains("pictures by use: "));

    let page = runs.join("page");
    let shown = said(runs, &["data", "show", "coco", text(&mine), "--limit", "3", "--out", text(&page)]);
    assert!(shown.trim().ends_with("index.html"));
    let html = std::fs::read_to_string(page.join("index.html")).unwrap();
    assert_eq!(html.matches("<article>").count(), 3);
    assert!(html.contains("labelled: <b>") && html.contains("→ mask of"), "{html}");
    assert_eq!(image::image_dimensions(page.join("002-sample.jpg")).unwrap(), (512, 512));

    let file = runs.join("own.toml");
    std::fs::write(&file, recipe("mine")).unwrap();
    let trained = ground(runs, &["train", text(&file)]);
    let told = String::from_utf8(trained.stderr).unwrap();
    assert!(
        trained.status.success() && told.contains("coco mine: ") && told.contains("pictures to train on"),
        "{told}"
    );

    // The runtime flies kestrel-s alone, not so small a model.
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/released/kestrel-s");
    let judge = |more: &[&str]| {
        let mut all = vec!["eval", "--bundle", text(&bundle), "--engine", "tract", "--limit", "2", "--json"];
        all.extend(more);
        serde_json::from_str::<serde_json::Value>(&said(runs, &all)).unwrap()
    };
    let report = judge(&["--format", "coco", "--folder", text(&mine)]);
    assert!(report["records"].as_u64().unwrap() > 4 && report.get("published").is_none(), "{report}");

    // A benchmark's own words are judged by its own definitions beside ours.
    let marked = runs.join("marked");
    for place in ["images", "masks"] {
        std::fs::create_dir_all(marked.join(place)).unwrap();
    }
    let inside = |x: u32, y: u32| (10..50).contains(&x) && (20..60).contains(&y);
    RgbImage::from_fn(120, 120, |x, y| Rgb(if inside(x, y) { [200, 30, 30] } else { [90, 110, 90] }))
        .save(marked.join("images/1.png"))
        .unwrap();
    GrayImage::from_fn(120, 120, |x, y| Luma([255 * u8::from(inside(x, y))])).save(marked.join("masks/1.png")).unwrap();
    std::fs::write(marked.join("output_phrase_test.txt"), "1 the red car on the left\n").unwrap();
    let report = judge(&["--format", "refsegrs", "--folder", text(&marked)]);
    assert_eq!(report["published"]["benchmark"], "rrsis");
    assert_eq!(report["published"]["figures"]["mIoU"]["n"], 1, "{report}");
}

#[test]
fn folders_that_hold_nothing_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path();
    let mine = runs.join("mine");
    write_coco(&mine, [scenes::render(FIRST_SEED, 96)]).unwrap();
    std::fs::remove_file(mine.join(format!("images/{FIRST_SEED}.png"))).unwrap();
    let file = runs.join("own.toml");
    for (folder, wanted) in [("mine", "picture that is missing"), ("nowhere", "nowhere")] {
        std::fs::write(&file, recipe(folder)).unwrap();
        let error = refused(runs, &["train", text(&file)]);
        assert!(error.contains(wanted) && error.contains("expected"), "{error}");
    }
    for (arguments, wanted) in [
        (vec!["data", "show", "coco", text(&mine)], "picture that is missing"),
        (vec!["data", "show", "coco", text(runs)], "annotations.json"),
        (vec!["data", "show", "cocoo", text(&mine)], "cocoo"),
        (vec!["data", "check", "dota", text(&mine), "--annotations", "a.json"], "has its own names"),
        (vec!["eval", "--format", "coco"], "--folder"),
        (vec!["eval", "--format", "spoken", "--folder", text(&mine)], "answers in words"),
        (vec!["eval", "--folder", "x"], "--format"),
        (vec!["eval", "--format", "coco", "--folder", text(&mine), "--set", "scenes"], "cannot be used with"),
        (vec!["eval", "--format", "coco", "--folder", text(&mine)], "picture that is missing"),
    ] {
        let error = refused(runs, &arguments);
        assert!(error.contains(wanted), "{arguments:?}: {error}");
    }
}
