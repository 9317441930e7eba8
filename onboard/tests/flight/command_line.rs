//! `onboard` as its users see it: exit codes, messages and hints.

use std::path::Path;
use std::process::{Command, Output};

use kestrel_onboard::bundle::{Bundle, seal};

use crate::explain::FOUND;
use crate::red::{self, RED, picture};

pub(crate) struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        red::write(&root.path().join("bundle"), "1", None);
        picture(320, 240, &[(100, 60, 50, RED)]).save(root.path().join("red.png")).unwrap();
        std::fs::write(root.path().join("broken.png"), b"\x89PNG\r\n\x1a\nrest").unwrap();
        Self { root }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.root.path().join(name).display().to_string()
    }

    pub(crate) fn onboard(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_onboard"))
            .args(arguments)
            .current_dir(self.root.path())
            .env("KESTREL_CACHE", self.root.path().join("cache"))
            .env_remove("KESTREL_BUNDLE")
            .env_remove("RUST_LOG")
            .output()
            .unwrap()
    }

    fn segment(&self, image: &str, query: &str, more: &[&str]) -> Output {
        let (image, bundle) = (self.path(image), self.path("bundle"));
        let mut arguments = vec!["segment", &image, query, "--bundle", &bundle, "--engine", "tract", "--no-gate"];
        arguments.extend(more);
        self.onboard(&arguments)
    }
}

/// One error, one hint, no panic.
pub(crate) fn assert_clear(output: &Output, code: i32, words: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(words), "{stderr}");
    assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
    assert_eq!(stderr.matches("hint: ").count(), 1, "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// Setup: one picture. Fault: it is asked for something that is not in it. Expected: the reason in words.
/// Invariant: a mask and a refusal are told apart by the exit code alone.
///
/// Promise: P12
#[test]
fn a_mask_is_0_and_a_refusal_is_3() {
    let bench = Bench::new();
    let out = bench.path("overlay.png");
    let found = bench.segment("red.png", "red square", &["--json", "--out", &out]);
    assert_eq!(found.status.code(), Some(0), "{}", String::from_utf8_lossy(&found.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(answer["outcome"]["kind"], "segmented");
    assert_eq!(answer["engine"], "tract");
    let drawn = image::open(Path::new(&out)).unwrap().into_rgb8();
    assert_ne!(drawn.get_pixel(120, 80), &RED, "the mask is drawn");
    assert_eq!(drawn.get_pixel(5, 5).0, [114; 3], "and only the mask");

    let refused = bench.segment("red.png", "blue square", &[]);
    assert_eq!(refused.status.code(), Some(3));
    let stdout = String::from_utf8_lossy(&refused.stdout);
    assert!(stdout.starts_with("refused: target absent"), "{stdout}");
}

#[test]
fn a_mask_is_placed_with_a_camera_and_a_pose() {
    let bench = Bench::new();
    let (camera, pose) = (bench.path("camera.json"), bench.path("taken.json"));
    std::fs::write(&camera, serde_json::to_string(&red::camera()).unwrap()).unwrap();
    std::fs::write(&pose, serde_json::to_string(&red::pose()).unwrap()).unwrap();
    let found = bench.segment("red.png", "red square", &["--json", "--camera", &camera, "--pose", &pose]);
    let answer: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    let place = &answer["outcome"]["masks"][0]["positions"][0];
    assert_eq!(place["kind"], "placed", "{answer}");
    assert!((place["latitude_degrees"].as_f64().unwrap() - 56.2).abs() < 1e-4);

    // Without a pose there is none beside the picture; with one there is.
    let unknown = bench.segment("red.png", "red square", &["--camera", &camera]);
    let stdout = String::from_utf8_lossy(&unknown.stdout);
    assert!(stdout.contains("no position: the camera's pose is not known"), "{stdout}");
    std::fs::copy(&pose, bench.path("red.pose.json")).unwrap();
    let beside = bench.segment("red.png", "red square", &["--camera", &camera]);
    let stdout = String::from_utf8_lossy(&beside.stdout);
    assert!(stdout.contains("  at 56.2000"), "{stdout}");

    std::fs::write(&pose, "{}").unwrap();
    let broken = bench.segment("red.png", "red square", &["--camera", &camera, "--pose", &pose]);
    assert_clear(&broken, 1, "taken.json: missing field");
}

#[test]
fn bad_input_is_one_clear_error_with_a_hint() {
    let bench = Bench::new();
    assert_clear(&bench.segment("none.png", "red square", &[]), 1, "none.png");
    assert_clear(&bench.segment("broken.png", "red square", &[]), 1, "broken.png");
    assert_clear(&bench.segment("red.png", "", &[]), 1, "query.text");
    assert_clear(&bench.segment("red.png", &"a".repeat(10_000), &[]), 1, "at most 512 bytes");
    let image = bench.path("red.png");
    assert_clear(&bench.onboard(&["segment", &image, "red"]), 1, "no model bundle");
    assert_clear(&bench.onboard(&["segment", &image, "red", "--bundle", "nowhere"]), 1, "nowhere");
    let usage = bench.segment("red.png", "red", &["--box", "0.1,0.2"]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn reasons_are_told_before_the_answer_where_the_bundle_has_them() {
    let bench = Bench::new();
    assert_clear(&bench.segment("red.png", "red square", &["--explain"]), 1, "explain.onnx");

    red::write_thinking(&bench.root.path().join("thinking"), &FOUND);
    let (image, bundle) = (bench.path("red.png"), bench.path("thinking"));
    let arguments = ["segment", &image, "red square", "--bundle", &bundle, "--engine", "tract", "--no-gate"];
    let told = bench.onboard(&[&arguments[..], &["--explain"]].concat());
    let stdout = String::from_utf8_lossy(&told.stdout);
    assert_eq!(told.status.code(), Some(0), "{}", String::from_utf8_lossy(&told.stderr));
    let at = |words: &str| stdout.find(words).unwrap_or_else(|| panic!("no {words:?} in {stdout}"));
    assert!(at(" red<box><loc_16>") < at("reasoned box: 0.258,") && at("reasoned box") < at("mask: "), "{stdout}");

    let told = bench.onboard(&[&arguments[..], &["--explain", "--json"]].concat());
    let answer: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(answer["reasoned"]["tokens"], 15, "{answer}");
    assert_eq!(answer["reasoned"]["boxes"].as_array().map(Vec::len), Some(1));
    assert!(answer["reasoned"]["timings_millis"]["decode"].as_f64().unwrap() > 0.0);
    assert_eq!(answer["outcome"]["kind"], "segmented", "beside the fast answer");
}

#[test]
fn a_misspelt_configuration_key_stops_the_start() {
    let bench = Bench::new();
    let config = bench.path("drone.toml");
    std::fs::write(&config, "[camera]\npaht = \"frames\"\n").unwrap();
    let output = bench.onboard(&["run", "--config", &config]);
    assert_clear(&output, 78, "unknown key `camera.paht`");
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean `camera.path`?"));
    assert_clear(&bench.onboard(&["run", "--config", "none.toml"]), 78, "none.toml");
}

/// Setup: cameras that cannot be had. Fault: no ffmpeg, no feature, no such kind of source, two sources.
/// Expected: the start fails at once with a hint. Invariant: no flight without a camera that could give frames.
#[test]
fn a_camera_that_cannot_be_had_stops_the_start() {
    let bench = Bench::new();
    let config = bench.path("drone.toml");
    let bundle = bench.path("bundle");
    for (camera, code, words) in [
        ("source = \"rtsp://pilot:s3cret@camera/\"\nffmpeg = \"no/ffmpeg\"", 1, "no/ffmpeg"),
        ("source = \"video:none.mp4\"\nffmpeg = \"red.png\"", 1, "none.mp4"),
        ("source = \"usb:0\"", 78, "folder:PATH"),
        ("source = \"folder:nowhere\"", 1, "nowhere"),
        ("source = \"folder:.\"\npath = \"red.png\"", 78, "camera.path"),
        ("", 78, "camera.source"),
    ] {
        std::fs::write(&config, format!("[model]\nbundle = {bundle:?}\n[camera]\n{camera}\n")).unwrap();
        let output = bench.onboard(&["run", "--config", &config]);
        assert_clear(&output, code, words);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("s3cret"));
    }
}

/// Setup: a configuration that names an engine, and allows another one. Fault: its library is not there.
/// Expected: the start fails with the code of a lost engine. Invariant: nothing falls back at the start.
///
/// Promise: P3
#[test]
fn an_engine_that_cannot_be_had_stops_the_start() {
    let bench = Bench::new();
    let config = bench.path("drone.toml");
    let (bundle, picture, library) = (bench.path("bundle"), bench.path("red.png"), bench.path("no.so"));
    let text = format!(
        "[model]\nbundle = {bundle:?}\n[camera]\npath = {picture:?}\n\
         [engine]\nname = \"ort/cpu\"\nlibrary = {library:?}\nfallback = \"tract\"\n"
    );
    std::fs::write(&config, text).unwrap();
    assert_clear(&bench.onboard(&["run", "--config", &config]), 72, "no usable library");
}

#[test]
fn bench_splits_the_time_and_doctor_checks_the_bundle() {
    let bench = Bench::new();
    let bundle = bench.path("bundle");
    let output = bench.onboard(&["bench", "--bundle", &bundle, "--engine", "tract", "--frames", "1", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for stage in ["gate", "preprocess", "vision", "language", "mask", "postprocess"] {
        assert!(report["stages_millis"][stage].as_f64().unwrap() > 0.0, "{stage}");
    }
    let frame = report["frame_millis"].as_f64().unwrap();
    assert!(frame >= report["stages_millis"]["vision"].as_f64().unwrap());

    let output = bench.onboard(&["doctor", "--bundle", &bundle, "--engine", "tract", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert_eq!(report["healthy"], true);

    std::fs::write(bench.root.path().join("bundle/thresholds.json"), b"{}").unwrap();
    let output = bench.onboard(&["doctor", "--bundle", &bundle, "--engine", "tract", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("thresholds.json"));
}

/// Setup: a machine without TensorRT. Fault: engines are asked for, or checked, or asked of an engine that has none.
/// Expected: one clear error that names what is missing. Invariant: nothing is built, and nothing is left behind.
#[test]
fn engines_that_cannot_be_built_are_one_clear_error() {
    if std::path::Path::new("/proc/device-tree/compatible").exists() || std::env::var_os("LD_LIBRARY_PATH").is_some() {
        eprintln!("SKIPPED: this machine may have TensorRT");
        return;
    }
    let bench = Bench::new();
    let (bundle, prepared) = (bench.path("bundle"), bench.path("engines"));
    for action in ["build", "check"] {
        let output = bench.onboard(&["engines", action, &bundle, "--prepared", &prepared]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        // Without ONNX Runtime that is what is missing, else the provider.
        let words = if stderr.contains("no usable library") { "no usable library" } else { "provider tensorrt" };
        assert_clear(&output, 1, words);
        let plain = bench.onboard(&["engines", action, &bundle, "--engine", "tract"]);
        assert_clear(&plain, 1, "expected ort/tensorrt");
    }
    assert!(!Path::new(&prepared).exists());
}

/// What would break: documentation of flags that are no more. `KESTREL_WRITE=1` writes the page anew.
#[test]
fn the_reference_says_what_the_commands_say() {
    let mut page =
        String::from("# onboard\n\nWhat `onboard --help` and its commands say; a test holds this page to it.\n");
    let commands = [
        "",
        "run",
        "replay",
        "segment",
        "bench",
        "soak",
        "doctor",
        "engines",
        "engines build",
        "engines check",
        "conform",
    ];
    for command in commands {
        let mut arguments: Vec<&str> = command.split_whitespace().collect();
        let name = format!("onboard {command}");
        let name = name.trim_end();
        arguments.push("--help");
        let output =
            Command::new(env!("CARGO_BIN_EXE_onboard")).args(arguments).env_remove("KESTREL_BUNDLE").output().unwrap();
        assert!(output.status.success());
        let help = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        page += &format!("\n## {name}\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
    }
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let file = Path::new(&manifest).join("../docs/reference/onboard.md");
    if std::env::var_os("KESTREL_WRITE").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let held = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(held == page, "docs/reference/onboard.md is out of date: run this test once with KESTREL_WRITE=1");
}

/// Setup: a whole, consistent bundle. Fault: its thresholds were set on other graphs. Expected: no start, and the reason.
/// Invariant: thresholds decide about the graphs that they were calibrated on and no others.
#[test]
fn thresholds_of_another_model_do_not_start() {
    let bench = Bench::new();
    let folder = bench.root.path().join("bundle");
    let bundle = Bundle::open(&folder).unwrap();
    let path = folder.join("thresholds.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(&bundle.thresholds.model_hash, &"0".repeat(64))).unwrap();
    // The manifest names the new file: nothing else is wrong with the bundle.
    seal(&folder, bundle.manifest, None).unwrap_err();
    let refused = bench.segment("red.png", "red square", &[]);
    assert_clear(&refused, 1, "another model");
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(stderr.contains("thresholds.json") && stderr.contains("ground calibrate"), "{stderr}");
}
