//! `steps.json` of a bundle: the commands that made it, with the hashes of what went in and came out.
//!
//! Every command that changes a bundle notes its step before it seals. `ground reproduce` reads them.

use crate::draft;
use crate::quantise::RECORD_FILE;
use anyhow::{Context, Result, bail};
use kestrel_link::manifest::RUNTIME_VERSION;
use kestrel_link::{FileEntry, sha256_hex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

/// The file in a bundle.
pub const STEPS_FILE: &str = "steps.json";
/// The table of a calibration in a bundle.
pub const CALIBRATION_FILE: &str = "calibration.json";
/// The format written and read here.
pub const FORMAT: u32 = 1;
/// Longest `steps.json`, in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// Most steps.
const MOST_STEPS: usize = 32;
/// Stands for the bundle's folder in a command.
pub const BUNDLE: &str = "{bundle}";
/// Stands, in a command that makes one bundle of another, for the bundle as the steps before left it.
pub const BEFORE: &str = "{before}";
/// Stands for the folder of a step's inputs in a command.
pub const INPUTS: &str = "{inputs}";

/// All steps, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// [`FORMAT`].
    pub format: u32,
    /// Each step once.
    pub steps: Vec<Step>,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The words behind `ground`; [`BUNDLE`], [`BEFORE`] and `{inputs}/NAME` stand for places.
    pub command: Vec<String>,
    /// Files that went in, by name; none of them need be in the bundle.
    pub inputs: BTreeMap<String, FileEntry>,
    /// Files of the bundle that came out, with their SHA-256.
    pub outputs: BTreeMap<String, String>,
    /// The recipe, where one was followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// The seed, where one was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The day, `YYYY-MM-DD`.
    pub date: String,
    /// Version of the program.
    pub program: String,
}

impl Step {
    /// A step of a command.
    pub fn new(command: &str) -> Self {
        Self {
            command: vec![command.to_owned()],
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            recipe: None,
            seed: None,
            date: draft::today(),
            program: RUNTIME_VERSION.to_owned(),
        }
    }

    /// Its name: the first word of the command.
    pub fn name(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    /// With another word of the command.
    #[must_use]
    pub fn word(mut self, word: impl ToString) -> Self {
        self.command.push(word.to_string());
        self
    }

    /// With an option and its value.
    #[must_use]
    pub fn option(self, name: &str, value: impl ToString) -> Self {
        self.word(name).word(value)
    }

    /// With a flag, if it was given.
    #[must_use]
    pub fn flag(self, name: &str, given: bool) -> Self {
        if given { self.word(name) } else { self }
    }

    /// With a file that goes in and is named in the command.
    pub fn input(self, path: &Path) -> Result<Self> {
        let (step, name) = self.take_in(path)?;
        Ok(step.word(format!("{INPUTS}/{name}")))
    }

    /// With a file that goes in because it lies beside another one.
    pub fn beside(self, path: &Path) -> Result<Self> {
        Ok(self.take_in(path)?.0)
    }

    fn take_in(mut self, path: &Path) -> Result<(Self, String)> {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let plain = plain(&path.file_name().unwrap_or_default().to_string_lossy());
        let entry = FileEntry::of(&bytes);
        // Two files of one name lie in two folders; the second one gets a number.
        let numbered = |n: usize| if n == 0 { plain.clone() } else { format!("{n}-{plain}") };
        let mut number = 0;
        while self.inputs.get(&numbered(number)).is_some_and(|known| *known != entry) {
            number += 1;
        }
        let name = numbered(number);
        self.inputs.insert(name.clone(), entry);
        Ok((self, name))
    }

    /// With files of the bundle as they lie there now.
    pub fn gives<'a>(mut self, dir: &Path, names: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        for name in names {
            let path = dir.join(name);
            let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            self.outputs.insert(name.to_owned(), sha256_hex(&bytes));
        }
        Ok(self)
    }
}

/// A file's name as a bundle may hold it: what else stands in it becomes `_`.
fn plain(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let name: String = name.trim_start_matches('.').chars().map(allowed).take(56).collect();
    if name.is_empty() { "input".to_owned() } else { name }
}

/// Forgets what earlier steps left in a folder where a bundle begins.
pub fn begin(dir: &Path) -> Result<()> {
    remove(&dir.join(STEPS_FILE))?;
    remove(&dir.join(RECORD_FILE))?;
    remove(&dir.join(CALIBRATION_FILE))
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Appends a step to a bundle's record; one of the same name before it is forgotten with all that rested on it.
/// The bundle has to be sealed again.
pub fn note(dir: &Path, step: Step) -> Result<()> {
    forget(dir, step.name())?;
    let mut steps = read(dir)?.unwrap_or(Steps { format: FORMAT, steps: Vec::new() });
    steps.steps.push(step);
    write(dir, &steps)
}

/// Forgets a step whose files were replaced, and every later one. The bundle has to be sealed again.
pub fn forget(dir: &Path, name: &str) -> Result<()> {
    let Some(mut steps) = read(dir)? else { return Ok(()) };
    let Some(at) = steps.steps.iter().position(|step| step.name() == name) else { return Ok(()) };
    steps.steps.truncate(at);
    write(dir, &steps)
}

fn write(dir: &Path, steps: &Steps) -> Result<()> {
    let path = dir.join(STEPS_FILE);
    std::fs::write(&path, serde_json::to_string_pretty(steps)? + "\n")
        .with_context(|| format!("writing {}", path.display()))
}

/// The record of a bundle; `None` where it has none.
pub fn read(dir: &Path) -> Result<Option<Steps>> {
    let path = dir.join(STEPS_FILE);
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let mut bytes = Vec::new();
    // One byte more than fits tells that there is too much.
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).with_context(|| format!("reading {}", path.display()))?;
    parse(&bytes).map(Some).with_context(|| path.display().to_string())
}

fn parse(bytes: &[u8]) -> Result<Steps> {
    if bytes.len() > MAX_BYTES {
        bail!("expected at most {MAX_BYTES} bytes, got {}", bytes.len());
    }
    let steps: Steps = serde_json::from_slice(bytes).context("expected the steps that made a bundle")?;
    if steps.format != FORMAT {
        bail!("expected steps of format {FORMAT}, got {}", steps.format);
    }
    if steps.steps.len() > MOST_STEPS {
        bail!("expected at most {MOST_STEPS} steps, got {}", steps.steps.len());
    }
    for step in &steps.steps {
        draft::days(&step.date).with_context(|| format!("the step `{}`", step.name()))?;
        for name in step.inputs.keys().chain(step.outputs.keys()) {
            kestrel_link::manifest::check_path(name)?;
        }
        // Both are printed, and a terminal obeys more than text.
        if step.name().chars().any(char::is_control) {
            bail!("expected a step named by a plain word, got {:?}", step.name().chars().take(80).collect::<String>());
        }
        let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if let Some((name, _)) = step.inputs.iter().find(|(_, entry)| !is_hash(&entry.sha256)) {
            bail!("the input {name}: expected a SHA-256 of 64 hex digits, got something else");
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn steps_come_back_and_a_repeated_one_replaces_itself() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("in.bin");
        std::fs::write(&input, "in").unwrap();
        std::fs::write(dir.path().join("out.bin"), "out").unwrap();
        let step = |alpha: f64| {
            let step = Step::new("calibrate").input(&input).unwrap().option("--alpha", alpha).flag("--worst", false);
            step.gives(dir.path(), ["out.bin"]).unwrap()
        };
        assert_eq!(read(dir.path()).unwrap(), None);
        note(dir.path(), Step::new("export")).unwrap();
        note(dir.path(), step(0.1)).unwrap();
        note(dir.path(), step(0.2)).unwrap();
        let steps = read(dir.path()).unwrap().unwrap().steps;
        assert_eq!((steps.len(), &steps[1]), (2, &step(0.2)));
        assert_eq!(steps[1].command, ["calibrate", "{inputs}/in.bin", "--alpha", "0.2"]);
        assert_eq!(steps[1].inputs["in.bin"], FileEntry::of(b"in"));
        note(dir.path(), Step::new("bundle")).unwrap();
        note(dir.path(), step(0.3)).unwrap();
        let names = |steps: Option<Steps>| steps.unwrap().steps.iter().map(|s| s.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(read(dir.path()).unwrap()), ["export", "calibrate"], "what rested on the old one is gone too");
        forget(dir.path(), "calibrate").unwrap();
        assert_eq!(names(read(dir.path()).unwrap()), ["export"]);
        for name in [CALIBRATION_FILE, RECORD_FILE] {
            std::fs::write(dir.path().join(name), "of other graphs").unwrap();
        }
        begin(dir.path()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        assert!(!dir.path().join(CALIBRATION_FILE).exists() && !dir.path().join(RECORD_FILE).exists());
    }

    #[test]
    fn two_inputs_of_one_name_stay_apart() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["a", "b"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
            std::fs::write(dir.path().join(folder).join("r.jsonl"), folder).unwrap();
        }
        let step = ["a", "b", "a"]
            .iter()
            .fold(Step::new("calibrate"), |step, folder| step.input(&dir.path().join(folder).join("r.jsonl")).unwrap());
        assert_eq!(step.command[1..], ["{inputs}/r.jsonl", "{inputs}/1-r.jsonl", "{inputs}/r.jsonl"]);
        assert_eq!(step.inputs.len(), 2);
    }

    #[test]
    fn names_fit_into_a_bundle() {
        for (name, wanted) in [("r.jsonl", "r.jsonl"), (".hidden", "hidden"), ("my täg.x", "my_t_g.x"), ("..", "input")]
        {
            assert_eq!(plain(name), wanted);
            kestrel_link::manifest::check_path(&plain(name)).unwrap();
        }
    }

    /// What would break: a bundle that somebody else made, followed out of its folder.
    #[test]
    fn hostile_steps_are_refused() {
        let with = |change: &str| {
            let step = r#"{"command":["export"],"inputs":{},"outputs":{},"date":"2026-01-01","program":"0"}"#;
            parse(format!(r#"{{"format":1,"steps":[{}]}}"#, step.replace("\"inputs\":{}", change)).as_bytes())
        };
        with("\"inputs\":{}").unwrap();
        for (change, word) in [
            (r#""inputs":{"../secret":{"sha256":"","bytes":1}}"#, "relative paths"),
            (r#""inputs":{"/etc/passwd":{"sha256":"","bytes":1}}"#, "relative paths"),
            (r#""inputs":7"#, "expected the steps"),
            (r#""inputs":{},"evil":1"#, "expected the steps"),
            (r#""inputs":{"a":{"sha256":"\u001b[2J","bytes":1}}"#, "64 hex digits"),
        ] {
            let error = format!("{:#}", with(change).unwrap_err());
            assert!(error.contains(word), "{change}: {error}");
        }
        for (text, word) in [
            (r#"{"format":2,"steps":[]}"#.to_owned(), "format 1, got 2"),
            (r#"{"format":1,"steps":[{"command":["export"],"inputs":{},"outputs":{},"date":"9999999-99-99","program":""}]}"#.to_owned(), "YYYY-MM-DD"),
            (r#"{"format":1,"steps":[{"command":["\u001b[2J"],"inputs":{},"outputs":{},"date":"2026-01-01","program":""}]}"#.to_owned(), "a plain word"),
            ("[".repeat(100_000), "expected the steps"),
            (" ".repeat(MAX_BYTES + 1), "at most"),
        ] {
            let error = format!("{:#}", parse(text.as_bytes()).unwrap_err());
            assert!(error.contains(word), "{word}: {error}");
        }
    }
}
