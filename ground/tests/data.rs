//! `ground data check` on a folder with one good picture and the ordinary kinds of trouble.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

fn check(folder: &Path, arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ground"))
        .args(["data", "check", "coco"])
        .arg(folder)
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn annotations() -> serde_json::Value {
    serde_json::json!({
        "images": [
            { "id": 1, "file_name": "a.png", "width": 64, "height": 64 },
            { "id": 2, "file_name": "missing.png", "width": 64, "height": 64 },
        ],
        "categories": [{ "id": 1, "name": "car" }, { "id": 2, "name": "helicopter" }],
        "annotations": [
            { "id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 4, 10, 8], "segmentation": [[4, 4, 14, 4, 14, 12, 4, 12]] },
            { "id": 2, "image_id": 1, "category_id": 2, "bbox": [20, 20, 10, 8] },
            { "id": 3, "image_id": 2, "category_id": 1, "bbox": [4, 4, 10, 8] },
        ],
    })
}

#[test]
fn what_is_there_and_what_was_left_out_is_said() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("annotations.json"), annotations().to_string()).unwrap();
    image::RgbImage::new(64, 64).save(folder.path().join("a.png")).unwrap();
    let (fine, out, err) = check(folder.path(), &["--json"]);
    assert!(fine, "{err}");
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((found["pictures"].as_u64(), found["instances"].as_u64()), (Some(1), Some(1)), "{out}");
    assert_eq!(found["unknown_categories"]["helicopter"], 1);
    assert_eq!(found["left_out"]["picture that is missing"]["count"], 1);
    let (fine, out, _) = check(folder.path(), &[]);
    assert!(fine && out.contains("`helicopter`") && out.contains("missing.png"), "{out}");
}

#[test]
fn a_broken_file_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("annotations.json"), "{\"images\": [").unwrap();
    let (fine, _, err) = check(folder.path(), &[]);
    assert!(!fine && err.contains("annotations.json"), "{err}");
}
