//! `ground reproduce`: runs the steps that made a bundle again and compares what comes out.
//!
//! A step is run again when all that went into it is at hand with the same bytes; otherwise its files are taken over from
//! the bundle and said to be unverified. Steps run in a folder of their own, with the day that they were first run on.

mod compare;

use crate::draft::{self, EPOCH};
use crate::steps::{self, BEFORE, BUNDLE, INPUTS, Step};
use anyhow::{Context, Result, bail};
use clap::Args;
use compare::{Compared, State};
use kestrel_link::manifest::MANIFEST_FILE;
use kestrel_link::{FileEntry, sha256_hex};
use kestrel_onboard::bundle::Bundle;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Arguments of `ground reproduce`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Folder of the bundle.
    bundle: PathBuf,
    /// Work in this folder, which must be empty or new; by default one for temporary files.
    #[arg(long)]
    work: Option<PathBuf>,
    /// Look for what went into the steps (checkpoints, records) in this folder and below; may be given several times.
    #[arg(long)]
    inputs: Vec<PathBuf>,
    /// Also run training steps again: hours.
    #[arg(long)]
    train: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Steps that can be run again, and whether they train.
const KNOWN: [(&str, bool); 6] = [
    ("train", true),
    ("distil", true),
    ("export", false),
    ("quantise", false),
    ("calibrate", false),
    ("bundle", false),
];
/// Steps that say what stands in the manifest beside the files.
const DRAFTING: [&str; 2] = ["export", "quantise"];
/// Files looked through for inputs, at most.
const MOST_FILES: usize = 20_000;
/// Folders in folders.
const MOST_DEPTH: usize = 6;

/// What became of a step.
#[derive(Debug, Serialize)]
struct Done {
    step: String,
    date: String,
    /// Why its files were taken over from the bundle instead; `None` where it ran.
    unverified: Option<String>,
}

/// Runs `ground reproduce`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let bundle = Bundle::open(&arguments.bundle)?;
    // Only what the manifest lists was checked against it.
    let listed = bundle.manifest.files.contains_key(steps::STEPS_FILE);
    let Some(steps) = listed.then(|| steps::read(&bundle.dir)).transpose()?.flatten() else {
        bail!(
            "{}: expected {} in its manifest, the record of the steps that made the bundle, got none\n\
             hint: it was made before there was one; all that can be said is that its files are those of its manifest and \
             its thresholds those of its graphs",
            bundle.dir.display(),
            steps::STEPS_FILE
        );
    };
    let work = Work::begin(arguments)?;
    let made: BTreeSet<&String> = steps.steps.iter().flat_map(|step| step.outputs.keys()).collect();
    // What no step made, such as the model card, lies there from the start; the manifest too, for steps that change one.
    let carried = bundle.manifest.files.keys().filter(|name| !made.contains(name) && *name != steps::STEPS_FILE);
    work.take_over(&bundle.dir, carried.map(String::as_str).chain([MANIFEST_FILE]))?;
    let mut done = Vec::new();
    for (number, step) in steps.steps.iter().enumerate() {
        let unverified = work.again(arguments, number, step)?;
        if unverified.is_some() {
            let names = step.outputs.keys().map(String::as_str);
            let names = names.filter(|name| bundle.manifest.files.contains_key(*name));
            work.take_over(&bundle.dir, names)?;
        } else if !arguments.json {
            eprintln!("ran {} again", step.name());
        }
        done.push(Done { step: step.name().to_owned(), date: step.date.clone(), unverified });
    }
    let ran = |name: &String| {
        let by = steps.steps.iter().zip(&done).rev().find(|(step, _)| step.outputs.contains_key(name));
        by.is_some_and(|(_, done)| done.unverified.is_none())
    };
    // Other steps take the manifest over with all its fields.
    let drafted = done.iter().any(|done| done.unverified.is_none() && DRAFTING.contains(&done.step.as_str()));
    let files = compare::files(&bundle, &work.bundle, &ran, drafted)?;
    tell(arguments, &bundle, &work, &done, &files)?;
    let differs = files.iter().any(|file| file.state == State::Differs);
    Ok(if differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn tell(arguments: &Arguments, bundle: &Bundle, work: &Work, done: &[Done], files: &[Compared]) -> Result<()> {
    if arguments.json {
        let told = serde_json::json!({
            "model": bundle.manifest.model(), "work": work.bundle, "steps": done, "files": files,
        });
        println!("{told}");
        return Ok(());
    }
    println!("{}, rebuilt in {}\n", bundle.manifest.model(), work.bundle.display());
    for Done { step, date, unverified } in done {
        let what = unverified.as_ref().map_or("run again".to_owned(), |why| format!("not verified: {why}"));
        println!("step {step:<12} {date}  {what}");
    }
    println!();
    for Compared { name, state, what } in files {
        let state = match state {
            State::Same => "same",
            State::Differs => "differs",
            State::TakenOver => "taken over",
        };
        println!("{state:<12} {name}{}", what.as_ref().map_or(String::new(), |what| format!(": {what}")));
    }
    Ok(())
}

/// The folder in which a bundle is made again.
struct Work {
    root: PathBuf,
    bundle: PathBuf,
}

impl Work {
    fn begin(arguments: &Arguments) -> Result<Self> {
        let unique = || std::env::temp_dir().join(format!("kestrel-reproduce-{}", std::process::id()));
        let root = std::path::absolute(arguments.work.clone().unwrap_or_else(unique))?;
        std::fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
        let mut there = std::fs::read_dir(&root).with_context(|| format!("reading {}", root.display()))?;
        if there.next().is_some() {
            bail!(
                "{}: expected an empty folder, got one that holds files\nhint: name a new one with --work",
                root.display()
            );
        }
        let bundle = root.join("bundle");
        std::fs::create_dir_all(&bundle).with_context(|| format!("making {}", bundle.display()))?;
        Ok(Self { root, bundle })
    }

    /// Copies files of the bundle as they are.
    fn take_over<'a>(&self, from: &Path, names: impl Iterator<Item = &'a str>) -> Result<()> {
        for name in names {
            copy(&from.join(name), &self.bundle.join(name))?;
        }
        Ok(())
    }

    /// Runs a step; says why not where it cannot be run.
    fn again(&self, arguments: &Arguments, number: usize, step: &Step) -> Result<Option<String>> {
        let Some((_, trains)) = KNOWN.iter().find(|(name, _)| *name == step.name()) else {
            return Ok(Some("this program does not know the step".to_owned()));
        };
        if *trains && !arguments.train {
            return Ok(Some("training takes hours; --train runs it again".to_owned()));
        }
        let before_it = step.command.iter().any(|word| word == BEFORE);
        if before_it && number == 0 {
            let why = "it was made of a bundle that has no record of its own steps, so there is nothing to begin with";
            return Ok(Some(why.to_owned()));
        }
        let (found, missing) = self.find(arguments, &step.inputs)?;
        if let [first, rest @ ..] = missing.as_slice() {
            let others = if rest.is_empty() { String::new() } else { format!(" and {} others", rest.len()) };
            let hash = step.inputs.get(first).map_or("", |entry| entry.sha256.as_str());
            return Ok(Some(format!("{first} (SHA-256 {hash}){others} is not at hand; --inputs says where to look")));
        }
        let inputs = self.root.join(format!("inputs-{number}"));
        std::fs::create_dir_all(&inputs).with_context(|| format!("making {}", inputs.display()))?;
        for (name, path) in found {
            copy(&path, &inputs.join(name))?;
        }
        let before = self.root.join(format!("before-{number}"));
        if before_it {
            let files = files_below(&self.bundle)?;
            for file in files {
                copy(&self.bundle.join(&file), &before.join(&file))?;
            }
        }
        let words = match words(&step.command, &[(BUNDLE, &self.bundle), (BEFORE, &before)], &inputs) {
            Ok(words) => words,
            Err(why) => return Ok(Some(why)),
        };
        // What an earlier step left, or was taken over for, must not pass for this one's work.
        for name in step.outputs.keys() {
            steps::remove(&self.bundle.join(name))?;
        }
        let seconds = draft::days(&step.date)? * 86_400;
        let output = Command::new(std::env::current_exe().context("finding this program")?)
            .args(&words)
            .current_dir(&self.root)
            .env(EPOCH, seconds.to_string())
            .env("KESTREL_RUNS", self.root.join("runs"))
            .output()
            .with_context(|| format!("running {}", step.name()))?;
        if output.status.success() {
            return Ok(None);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let error = said.lines().rev().find(|line| line.starts_with("error"));
        let last = error.or_else(|| said.lines().next_back()).unwrap_or_default();
        Ok(Some(format!("it failed: {last}")))
    }

    /// Where inputs lie, by length and hash, and the names of those that lie nowhere.
    fn find(
        &self,
        arguments: &Arguments,
        inputs: &BTreeMap<String, FileEntry>,
    ) -> Result<(BTreeMap<String, PathBuf>, Vec<String>)> {
        let mut found = BTreeMap::new();
        let mut left: BTreeMap<&String, &FileEntry> = inputs.iter().collect();
        let mut looked = 0;
        // What an earlier step made again comes first.
        let made = [self.root.join("runs")].into_iter().filter(|folder| folder.is_dir());
        for folder in made.chain(arguments.inputs.iter().cloned()) {
            search(&folder, MOST_DEPTH, &mut looked, &mut |path, length| {
                if !left.values().any(|entry| entry.bytes == length) {
                    return Ok(!left.is_empty());
                }
                let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
                let hash = sha256_hex(&bytes);
                left.retain(|name, entry| {
                    let same = entry.bytes == length && entry.sha256 == hash;
                    if same {
                        found.insert((*name).clone(), path.to_owned());
                    }
                    !same
                });
                Ok(!left.is_empty())
            })?;
        }
        Ok((found, left.into_keys().cloned().collect()))
    }
}

/// Hands every file below a folder to `look`, with its length, until that says that it has seen enough.
fn search(
    folder: &Path,
    depth: usize,
    looked: &mut usize,
    look: &mut dyn FnMut(&Path, u64) -> Result<bool>,
) -> Result<bool> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("reading {}\nhint: --inputs names folders", folder.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    entries.sort();
    for path in entries {
        *looked += 1;
        if *looked > MOST_FILES {
            bail!(
                "{}: more than {MOST_FILES} files to look through\nhint: name a smaller folder with --inputs",
                folder.display()
            );
        }
        // What vanishes or cannot be asked is no input.
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        let on = if metadata.is_file() {
            look(&path, metadata.len())?
        } else if metadata.is_dir() && depth > 0 {
            search(&path, depth - 1, looked, look)?
        } else {
            true
        };
        if !on {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A step's command with its places; a word that names any other place is refused, because bundles come from anywhere.
fn words(command: &[String], places: &[(&str, &Path)], inputs: &Path) -> Result<Vec<String>, String> {
    let mut all = Vec::with_capacity(command.len());
    for (index, word) in command.iter().enumerate() {
        // Text for the manifest. Elsewhere the same words could stand before a place.
        let free = command[0] == "export"
            && index > 0
            && command[index - 1] == "--provenance"
            && word.split_once('=').is_some_and(|(key, _)| !key.starts_with('-'));
        let inside = |name: &str| kestrel_link::manifest::check_path(name).is_ok();
        all.push(if let Some((_, place)) = places.iter().find(|(name, _)| word == name) {
            place.display().to_string()
        } else if word == INPUTS {
            inputs.display().to_string()
        } else if let Some(name) =
            word.strip_prefix(INPUTS).and_then(|rest| rest.strip_prefix('/')).filter(|n| inside(n))
        {
            inputs.join(name).display().to_string()
        } else if free || !(word.contains(['/', '\\']) || word.contains("..") || word.contains(INPUTS)) {
            word.clone()
        } else {
            let shown: String = word.chars().take(80).collect();
            return Err(format!("its command names a place of its own, {shown:?}"));
        });
    }
    Ok(all)
}

/// Files of a folder and the folders in it, by their paths from there.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut looked) = (Vec::new(), 0);
    search(folder, MOST_DEPTH, &mut looked, &mut |path, _| {
        files.extend(path.strip_prefix(folder).ok().map(Path::to_owned));
        Ok(true)
    })?;
    Ok(files)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    std::fs::copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn placed(command: &[&str]) -> Result<Vec<String>, String> {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let places = [(BUNDLE, Path::new("/w/bundle")), (BEFORE, Path::new("/w/before-1"))];
        words(&command, &places, Path::new("/w/inputs-1"))
    }

    #[test]
    fn places_are_filled_in() {
        let words = placed(&["export", "{inputs}/model.safetensors", "--out", "{bundle}", "--provenance", "at=a/b"]);
        assert_eq!(
            words.unwrap(),
            ["export", "/w/inputs-1/model.safetensors", "--out", "/w/bundle", "--provenance", "at=a/b"]
        );
        assert_eq!(placed(&["train", "--from", "{inputs}"]).unwrap()[2], "/w/inputs-1");
        assert_eq!(placed(&["quantise", "{before}"]).unwrap()[1], "/w/before-1");
    }

    /// What would break: a bundle of somebody else's that makes the command write where it likes.
    #[test]
    fn words_that_name_other_places_are_refused() {
        for word in ["/etc/passwd", "../up", "..", "a\\b", "{inputs}/../x", "{inputs}//x", "--out=/tmp/x", "x{inputs}"]
        {
            let error = placed(&["export", word]).unwrap_err();
            assert!(error.contains("place of its own"), "{word}: {error}");
        }
        for command in [
            ["calibrate", "--", "--provenance", "/etc/passwd"],
            ["calibrate", "--", "--provenance", "a=/etc/passwd"],
            ["export", "--untrained", "--provenance", "--out=/tmp/x"],
        ] {
            assert!(placed(&command).unwrap_err().contains("place of its own"), "{command:?}");
        }
    }
}
