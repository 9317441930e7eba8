//! DOTA's `labelTxt` (source: the DOTA dataset's page on annotation format), which VSAI uses too.
//!
//! One text file a picture: optional `imagesource:` and `gsd:` lines, then a line a thing: eight corner coordinates, category,
//! difficulty. `labelTxt/` and `images/` lie in the folder, or in its `train`, `val` and `test`.
//!
//! Difficulty 1 means hard to recognise: such a thing is neither asked about nor counted. Difficulty 2 is what DOTA's own tool
//! writes for the pieces of things that it cut into patches: they are left out.

use std::path::{Path, PathBuf};

use super::files;
use super::gather::{Gather, Labels, Size};
use super::shape::Shape;
use super::{Annotations, Format};
use crate::datasets::{DataError, Result};

/// Visible share that stands for "hard to recognise": under [`crate::expressions::meaning::MIN_VISIBLE`].
pub(super) const DIFFICULT: f32 = 0.25;

pub(super) fn read(folder: &Path) -> Result<Annotations> {
    let mut gather = Gather::new(Format::Dota, folder, &[]);
    let labels = label_folders(folder)?;
    for (labels, own) in &labels {
        for path in files::with_ending(labels, "txt")? {
            let text = files::text(&path)?;
            let at = files::name(&path);
            if let Some(picture) = gather.picture(&files::stem(&path), Size::Measured, own.as_deref(), &at) {
                for (number, line) in (1..).zip(text.lines()) {
                    thing(&mut gather, picture, line, &format!("{at}:{number}"));
                }
            }
        }
    }
    Ok(gather.finish(Labels::All))
}

fn thing(gather: &mut Gather, picture: usize, line: &str, at: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.is_empty() || line.starts_with("imagesource:") || line.starts_with("gsd:") {
        return;
    }
    let (numbers, name, difficulty) = match &words[..] {
        [numbers @ .., name] if numbers.len() == 8 => (numbers, *name, "0"),
        [numbers @ .., name, difficulty] if numbers.len() == 8 => (numbers, *name, *difficulty),
        _ => {
            gather.doubt_all(picture);
            return gather.skip("line that is not eight coordinates, a category and a difficulty", at);
        }
    };
    if difficulty == "2" {
        return gather.leave_out(picture, name, "piece of a thing that a patch cuts (difficulty 2)", at);
    }
    let mut flat = [0.0; 8];
    let mut whole = true;
    for (value, word) in flat.iter_mut().zip(numbers) {
        match word.parse() {
            Ok(number) => *value = number,
            Err(_) => whole = false,
        }
    }
    let shape = if whole { Shape::quad(&flat) } else { Err("coordinates that are no numbers") };
    let visible = if difficulty == "0" { 1.0 } else { DIFFICULT };
    gather.thing(picture, name, shape, visible, at);
}

/// The folders of label files and the split that each belongs to.
fn label_folders(folder: &Path) -> Result<Vec<(PathBuf, Option<String>)>> {
    if let Some(labels) = labels_in(folder)? {
        return Ok(vec![(labels, None)]);
    }
    let mut found = Vec::new();
    for split in ["train", "val", "test"] {
        let own = folder.join(split);
        if own.is_dir()
            && let Some(labels) = labels_in(&own)?
        {
            found.push((labels, Some(split.to_owned())));
        }
    }
    if found.is_empty() && !files::with_ending(folder, "txt")?.is_empty() {
        return Ok(vec![(folder.to_path_buf(), None)]);
    }
    if found.is_empty() {
        let expected = "labelTxt/, a split's labelTxt/, or .txt files";
        return Err(files::form(folder, expected, "none of them".to_owned()));
    }
    Ok(found)
}

/// `labelTxt`, or the one folder whose name begins so, as in `labelTxt-v1.5`.
fn labels_in(folder: &Path) -> Result<Option<PathBuf>> {
    let plain = folder.join("labelTxt");
    if plain.is_dir() {
        return Ok(Some(plain));
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io("reading", folder))? {
        let path = entry.map_err(DataError::io("reading", folder))?.path();
        if path.is_dir() && files::name(&path).starts_with("labelTxt") {
            found.push(path);
        }
    }
    match &found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => {
            let mut names: Vec<String> = several.iter().map(|path| files::name(path)).collect();
            names.sort();
            Err(files::form(folder, "one folder of labels; rename it to labelTxt", names.join(", ")))
        }
    }
}
