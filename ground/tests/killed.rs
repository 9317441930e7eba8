//! Training killed at any instant with SIGKILL goes on to the very parameters that it would have had.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn ground(runs: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ground"));
    command.args(arguments).arg("--json").env("KESTREL_RUNS", runs).env_remove("KESTREL_DATA");
    command
}

/// Runs to the end.
fn whole(runs: &Path, arguments: &[&str]) {
    let done = ground(runs, arguments).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Kills the run while it works on the step after its `step`th line.
fn killed(runs: &Path, arguments: &[&str], step: usize) {
    let mut child = ground(runs, arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.map_while(Result::ok).take(step).count(), step, "the run ended before it could be killed");
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
}

fn recipe(name: &str) -> String {
    let folder = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../training/recipes");
    folder.join(name).to_str().unwrap().to_owned()
}

/// A safetensors file as its header and its numbers; the header's entries stand in any order.
fn parameters(path: &Path) -> (serde_json::Value, Vec<u8>) {
    let bytes = std::fs::read(path).unwrap();
    let (length, rest) = bytes.split_at(8);
    let (header, numbers) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    (serde_json::from_slice(header).unwrap(), numbers.to_vec())
}

/// Steps in a run's log, in the order of its lines.
fn logged(run: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap())
        .collect()
}

/// Setup: a run of `command`. Fault: SIGKILL twice, each after another step. Expected: `--resume` goes on. Invariant: the
/// parameters at the end are those of a run that was left alone, bit for bit, and every step is logged once.
fn survives(command: &str, recipe: &str, from: &[&str], alone: &Path, often: &Path, run: &str) {
    whole(alone, &[&[command, recipe], from].concat());
    killed(often, &[&[command, recipe], from].concat(), 2);
    killed(often, &[command, recipe, "--resume"], 1);
    whole(often, &[command, recipe, "--resume"]);
    let model = |runs: &Path| parameters(&runs.join(run).join("model.safetensors"));
    assert!(model(alone) == model(often), "{run}: other parameters after two kills");
    let steps = logged(&often.join(run));
    assert_eq!(steps, (1..=steps.len() as u64).collect::<Vec<_>>());
    assert_eq!(steps, logged(&alone.join(run)));
}

#[test]
fn training_and_reinforcement_survive_being_killed() {
    let (alone, often) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (alone, often) = (alone.path(), often.path());
    survives("train", &recipe("smoke.toml"), &[], alone, often, "smoke");
    let from = alone.join("smoke");
    survives("grpo", &recipe("grpo/smoke.toml"), &["--from", from.to_str().unwrap()], alone, often, "grpo-smoke");
}
