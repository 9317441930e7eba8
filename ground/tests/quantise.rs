//! A model in half precision becomes a bundle of integers, and what does not fit is refused.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};

use kestrel_link::Manifest;
use kestrel_onboard::bundle::{Bundle, seal};

fn ground(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ground")).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn refused(arguments: &[&str], words: &[&str]) {
    let output = ground(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?}");
    assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{arguments:?} does not say {word:?}: {stderr}");
    }
}

/// A folder of pictures, each with a red car on grey ground.
fn pictures(folder: &Path, count: usize) {
    std::fs::create_dir_all(folder.join("images")).unwrap();
    let (mut images, mut instances) = (Vec::new(), Vec::new());
    for index in 0..count {
        let (left, top) = (100 + 80 * index as u32, 150);
        let inside = |x: u32, y: u32| (left..left + 120).contains(&x) && (top..top + 60).contains(&y);
        let picture = image::RgbImage::from_fn(512, 512, |x, y| {
            image::Rgb(if inside(x, y) { [200, 30, 30] } else { [90 + (x % 7) as u8, 95, 90 + (y % 5) as u8] })
        });
        let file = format!("images/{index}.png");
        picture.save(folder.join(&file)).unwrap();
        images.push(serde_json::json!({ "file": file, "width": 512, "height": 512 }));
        let (right, bottom) = (left + 120, top + 60);
        instances.push(serde_json::json!({
            "image": index, "category": "car", "bbox": [left, top, 120, 60],
            "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
        }));
    }
    let file = serde_json::json!({ "dataset": "own", "images": images, "instances": instances });
    std::fs::write(folder.join("annotations.json"), file.to_string()).unwrap();
}

#[test]
fn a_bundle_becomes_small_flies_and_needs_thresholds_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (wide, small) = (dir.path().join("wide"), dir.path().join("small"));
    assert!(ground(&["export", "--untrained", "--out", text(&wide)]).status.success());
    std::fs::write(wide.join("MODEL_CARD.md"), "# A card\n").unwrap();
    seal(&wide, Bundle::open(&wide).unwrap().manifest, None).unwrap();
    // What an earlier run left.
    std::fs::create_dir_all(small.join("canary")).unwrap();
    std::fs::write(small.join("canary/00.json"), "{}").unwrap();
    std::fs::write(small.join("calibration.json"), "{}").unwrap();

    let made =
        ground(&["quantise", text(&wide), "--limit", "8", "--sweep-frames", "1", "--json", "--out", text(&small)]);
    let record: serde_json::Value = serde_json::from_slice(&made.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&made.stderr)));
    assert!(record["bytes"]["share"].as_f64().unwrap() <= 0.30, "{}", record["bytes"]);
    assert_eq!(
        (&record["calibration"]["frames"], &record["calibration"]["sets"][0]),
        (&8.into(), &"scenes-tune".into())
    );
    assert!(record["shift"]["questions"].as_u64().unwrap() > 0);
    assert!(record["scheme"]["layers"].as_object().unwrap().len() > 100, "{record}");

    let bundle = Bundle::open(&small).unwrap();
    assert_eq!(bundle.thresholds.data, "not calibrated");
    assert_eq!(bundle.canaries.len(), 0);
    assert!(!bundle.manifest.files.contains_key("calibration.json"), "a promise of thresholds that are gone");
    assert_eq!(bundle.manifest.version, "0.0.0-untrained-int8");
    let precision = &bundle.manifest.provenance["precision.vision.onnx"];
    assert!(precision.starts_with("int8 in ") && precision.ends_with("kept f16: none"), "{precision}");
    for kept in ["quantisation.json", "MODEL_CARD.md"] {
        assert!(bundle.manifest.files.contains_key(kept), "{kept}");
    }

    // The runtime that flies takes it.
    let judged = ground(&["eval", "--bundle", text(&small), "--limit", "1", "--json"]);
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));

    // What is quantised already is not quantised again.
    let twice = dir.path().join("twice");
    refused(&["quantise", text(&small), "--out", text(&twice)], &["quantised already"]);

    // Thresholds of the model that it was made from do not start it.
    std::fs::copy(wide.join("thresholds.json"), small.join("thresholds.json")).unwrap();
    let manifest = Manifest::from_json(&std::fs::read(small.join("manifest.json")).unwrap()).unwrap();
    let error = seal(&small, manifest, None).unwrap_err().to_string();
    assert!(error.contains("model_hash"), "{error}");

    // A bundle that does not tell how it was made: said before anything is measured.
    let silent = dir.path().join("silent");
    std::fs::create_dir(&silent).unwrap();
    let opened = Bundle::open(&wide).unwrap();
    for name in opened.manifest.files.keys().filter(|name| *name != "steps.json") {
        std::fs::copy(wide.join(name), silent.join(name)).unwrap();
    }
    seal(&silent, opened.manifest, None).unwrap();
    let told = ["warning:", "no steps.json", "model.safetensors", "1 frames"];
    refused(&["quantise", text(&silent), "--limit", "1", "--out", text(&twice)], &told);

    let wide = text(&wide);
    refused(&["quantise", wide, "--limit", "1", "--out", text(&twice)], &["1 frames", "at least 8", "7 more"]);
    refused(&["quantise", wide, "--calibration", "scenes-test", "--out", text(&twice)], &["tests the model", "hint:"]);
    let twice_named = ["--calibration", "scenes-tune", "--calibration", "scenes-tune"];
    refused(
        &[&["quantise", wide, "--out", text(&twice)][..], &twice_named].concat(),
        &["every set once", "scenes-tune"],
    );
    refused(&["quantise", wide, "--calibration", "nowhere", "--out", text(&twice)], &["nowhere", "scenes-tune"]);
    refused(&["quantise", wide, "--out", wide], &["another folder"]);
    refused(&["quantise", "nothing/there", "--out", text(&twice)], &["nothing/there", "hint:"]);
    refused(&["quantise", wide, "--mask-bound", "0", "--out", text(&twice)], &["bounds above 0"]);
    assert!(!twice.exists());
}

/// What would break: ranges of scenes alone in a bundle that is said to know photographs too.
#[test]
fn several_sets_give_ranges_and_the_bundle_remembers_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (wide, small) = (dir.path().join("wide"), dir.path().join("small"));
    assert!(ground(&["export", "--untrained", "--out", text(&wide)]).status.success());
    let sets = ["--calibration", "scenes-tune", "--calibration", "kit-test"];
    refused(&[&["quantise", text(&wide), "--out", text(&small)][..], &sets].concat(), &["kit-test", "tests the model"]);

    // A folder of one's own beside the rendered scenes: three pictures, three labels.
    let photographs = dir.path().join("photographs");
    pictures(&photographs, 3);
    let sets = ["--calibration", "scenes-tune", "--calibration", text(&photographs), "--limit", "6"];
    let rest = ["--sweep-frames", "2", "--json", "--out", text(&small)];
    let made = ground(&[&["quantise", text(&wide)][..], &sets, &rest].concat());
    let record: serde_json::Value = serde_json::from_slice(&made.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&made.stderr)));
    assert_eq!(record["calibration"]["sets"], serde_json::json!(["scenes-tune", text(&photographs)]));
    assert_eq!(record["calibration"]["frames"], 9, "six scenes and three photographs");
    let steps: serde_json::Value = serde_json::from_slice(&std::fs::read(small.join("steps.json")).unwrap()).unwrap();
    let command: Vec<&str> = steps["steps"][1]["command"].as_array().unwrap().iter().flat_map(|w| w.as_str()).collect();
    let named: Vec<&str> = command.windows(2).filter(|two| two[0] == "--calibration").map(|two| two[1]).collect();
    assert_eq!(named, ["scenes-tune", text(&photographs)], "{steps}");
}
