//! `ground score` on files of answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};

const ANSWERS: &str = r#"
{"task": "classification", "answer": "<think>Tanks.</think><answer>storage tank</answer>", "truth": {"labels": ["storage_tank"]}}
{"task": "classification", "answer": "harbour", "truth": {"labels": ["bridge"]}}
{"task": "classification", "answer": "harbour", "truth": {}}
{"task": "multi_label", "answer": "bridge, river, farm", "truth": {"labels": ["river", "bridge"]}}

{"task": "referred_detection", "answer": "<answer><box>0.1 0.1 0.5 0.5</box></answer>", "truth": {"boxes": [[0.1, 0.1, 0.5, 0.5]], "size": [640, 480]}}
{"task": "referred_detection", "answer": "[nan, 0.1, 0.5, 0.5]", "truth": {"boxes": [[0.1, 0.1, 0.5, 0.5]]}}
{"task": "detection", "answer": "[0.0, 0.0, 0.5, 0.4]", "truth": {"boxes": [[0.0, 0.0, 0.5, 1.0]]}}
{"task": "dancing", "answer": "", "truth": {}}
{"task": "detection", "answer": "cut off
{"task": "detection", "answer": "", "truth": {"boxen": []}}
{"task": "region_caption", "answer": "a white truck", "truth": {"texts": ["a truck"]}}
"#;

/// Runs the command where nothing can be fetched.
fn score(folder: &Path, text: &[u8], more: &[&str]) -> Output {
    let file = folder.join("answers.jsonl");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ground"));
    command.arg("score").arg(&file).args(more);
    command.env("KESTREL_CACHE", folder.join("cache")).env("PIP_INDEX_URL", "http://127.0.0.1:9/simple");
    for proxy in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "KESTREL_SBERT"] {
        command.env_remove(proxy);
    }
    command.output().unwrap()
}

fn report(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What would break: a report that hides what it could not read or score behind a mean.
#[test]
fn answers_are_scored_by_task_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let output = score(folder.path(), ANSWERS.as_bytes(), &["--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = report(&output);
    let labels = &report["tasks"]["classification"];
    assert_eq!((labels["count"].as_u64(), labels["reward"]["n"].as_u64()), (Some(3), Some(2)));
    assert_eq!(labels["reward"]["value"], 0.5);
    assert!((labels["format_rate"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-9);
    let reasons = labels["unscorable"].as_object().unwrap();
    assert!(reasons.len() == 1 && reasons.keys().all(|reason| reason.contains("one label")), "{reasons:?}");
    assert!((report["tasks"]["multi_label"]["reward"]["value"].as_f64().unwrap() - 0.8).abs() < 1e-9);
    assert_eq!(report["tasks"]["multi_label"]["parts"]["recall"]["value"], 1.0);

    let referred = &report["tasks"]["referred_detection"];
    assert_eq!((referred["reward"]["value"].as_f64(), referred["reward"]["n"].as_u64()), (Some(1.0), Some(1)));
    assert_eq!(referred["parts"]["position"]["value"], 1.0);
    assert_eq!(report["tasks"]["detection"]["reward"]["value"], 0.0);
    let captions = &report["tasks"]["region_caption"];
    assert!(captions["reward"]["value"].is_null(), "a missing model is no zero: {captions}");
    assert!(captions["unscorable"].to_string().contains("sentence model"));

    assert_eq!(report["broken"], 3);
    let said = String::from_utf8(output.stderr).unwrap();
    for wanted in ["answers.jsonl:10: ", "answers.jsonl:11: ", "answers.jsonl:12: ", "dancing", "boxen", "127.0.0.1:9"]
    {
        assert!(said.contains(wanted), "{wanted} is not in {said}");
    }
}

#[test]
fn what_is_chosen_changes_the_score() {
    let folder = tempfile::tempdir().unwrap();
    let published = report(&score(folder.path(), ANSWERS.as_bytes(), &["--json", "--published", "--iou", "0.25"]));
    assert_eq!(published["tasks"]["multi_label"]["reward"]["value"], 1.0);
    assert!((published["tasks"]["detection"]["reward"]["value"].as_f64().unwrap() - 0.4).abs() < 1e-6);
    let refused = score(folder.path(), b"", &["--iou", "nan"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("from 0 to 1"));
}

#[test]
fn a_person_reads_figures_and_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let output = score(folder.path(), ANSWERS.as_bytes(), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    for wanted in ["classification: 3 answers", "  reward ", "not scored     1: ", "broken lines skipped: 3"] {
        assert!(text.contains(wanted), "{wanted} is not in {text}");
    }
}

#[test]
fn a_file_without_a_scored_answer_fails() {
    let folder = tempfile::tempdir().unwrap();
    for (text, wanted) in [(&b""[..], "holds no answer"), (b"\xff\xfe\n{}\n", "2 broken lines")] {
        let output = score(folder.path(), text, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(wanted), "{said}");
    }
    let unscorable = br#"{"task": "detection", "answer": "", "truth": {}}"#;
    let output = score(folder.path(), unscorable, &["--json"]);
    assert!(!output.status.success());
    assert_eq!(report(&output)["tasks"]["detection"]["count"], 1);
    let named = score(folder.path(), ANSWERS.as_bytes(), &["--sentences", folder.path().to_str().unwrap()]);
    assert!(!named.status.success() && String::from_utf8_lossy(&named.stderr).contains("model.safetensors"));
}
