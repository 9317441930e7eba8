//! What two bundles have in common, file by file.

use crate::steps::STEPS_FILE;
use anyhow::{Context, Result};
use kestrel_link::manifest::MANIFEST_FILE;
use kestrel_onboard::bundle::Bundle;
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// How a file made again stands to the bundle's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Made again, the same bytes.
    Same,
    /// Made again, other bytes; or it was not made.
    Differs,
    /// Copied from the bundle: nothing is known of it.
    TakenOver,
}

/// One file.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    pub(super) name: String,
    pub(super) state: State,
    /// In what it differs.
    pub(super) what: Option<String>,
}

/// Differences named of a JSON file, at most.
const NAMED: usize = 6;

/// Compares every file of the bundle, and the fields of the manifest that are not hashes of files: those were made again
/// where it was `drafted` again.
pub(super) fn files(
    bundle: &Bundle,
    again: &Path,
    ran: &dyn Fn(&String) -> bool,
    drafted: bool,
) -> Result<Vec<Compared>> {
    let mut all = Vec::new();
    for name in bundle.manifest.files.keys().filter(|name| *name != STEPS_FILE) {
        if !ran(name) {
            all.push(Compared { name: name.clone(), state: State::TakenOver, what: None });
            continue;
        }
        let what = match std::fs::read(again.join(name)) {
            Ok(bytes) => differs(name, &read(&bundle.path(name))?, &bytes),
            Err(error) => Some(format!("not made again: {error}")),
        };
        let state = if what.is_some() { State::Differs } else { State::Same };
        all.push(Compared { name: name.clone(), state, what });
    }
    let manifest = |path: &Path| -> Result<Value> {
        let mut value: Value = serde_json::from_slice(&read(path)?)?;
        if let Some(fields) = value.as_object_mut() {
            fields.remove("files");
        }
        Ok(value)
    };
    let mut changed = Vec::new();
    let (was, is) = (manifest(&bundle.path(MANIFEST_FILE))?, manifest(&again.join(MANIFEST_FILE))?);
    changes("", &was, &is, &mut changed);
    let state = match (changed.is_empty(), drafted) {
        (false, _) => State::Differs,
        (true, true) => State::Same,
        (true, false) => State::TakenOver,
    };
    all.push(Compared { name: MANIFEST_FILE.to_owned(), state, what: listed(changed) });
    Ok(all)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// In what two files differ; `None` when in nothing.
fn differs(name: &str, was: &[u8], is: &[u8]) -> Option<String> {
    if was == is {
        return None;
    }
    if name.ends_with(".json")
        && let (Ok(was), Ok(is)) = (serde_json::from_slice::<Value>(was), serde_json::from_slice::<Value>(is))
    {
        let mut changed = Vec::new();
        changes("", &was, &is, &mut changed);
        return listed(changed).or(Some("only in how it is written".to_owned()));
    }
    if was.len() != is.len() {
        return Some(format!("{} bytes, again {}", was.len(), is.len()));
    }
    let others = was.iter().zip(is).filter(|(a, b)| a != b).count();
    let first = was.iter().zip(is).position(|(a, b)| a != b).unwrap_or_default();
    Some(format!("{others} of {} bytes, the first at {first}", was.len()))
}

fn listed(changed: Vec<String>) -> Option<String> {
    let more = changed.len().saturating_sub(NAMED);
    let mut text = changed.into_iter().take(NAMED).collect::<Vec<_>>().join("; ");
    if more > 0 {
        text += &format!("; and {more} more");
    }
    (!text.is_empty()).then_some(text)
}

/// Paths of values that differ, each with both values.
fn changes(path: &str, was: &Value, is: &Value, changed: &mut Vec<String>) {
    match (was, is) {
        (Value::Object(a), Value::Object(b)) => {
            let only_there = b.keys().filter(|key| !a.contains_key(*key));
            for key in a.keys().chain(only_there) {
                let null = Value::Null;
                let place = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                changes(&place, a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null), changed);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().for_each(|(i, (a, b))| changes(&format!("{path}[{i}]"), a, b, changed));
        }
        _ if was == is => {}
        _ => {
            let short = |value: &Value| value.to_string().chars().take(40).collect::<String>();
            changed.push(format!("{path} {} again {}", short(was), short(is)));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn differences_are_named() {
        assert_eq!(differs("a.onnx", b"abc", b"abc"), None);
        assert_eq!(differs("a.onnx", b"abc", b"abcd").unwrap(), "3 bytes, again 4");
        assert_eq!(differs("a.onnx", b"abcd", b"axcx").unwrap(), "2 of 4 bytes, the first at 1");
        let (was, is) = (br#"{"a":{"b":[1,2]},"c":1}"#, br#"{"a":{"b":[1,3]},"d":1}"#);
        assert_eq!(differs("a.json", was, is).unwrap(), "a.b[1] 2 again 3; c 1 again null; d null again 1");
        assert_eq!(differs("a.json", b"{\"a\":1}", b"{ \"a\":1}").unwrap(), "only in how it is written");
        let many = |n: i32| serde_json::to_vec(&(0..9).map(|i| i * n).collect::<Vec<_>>()).unwrap();
        assert!(differs("a.json", &many(1), &many(2)).unwrap().ends_with("; and 2 more"));
    }
}
