//! Which of a set's pictures train, which tune, which test.
//!
//! A set's own splits are kept. One without any is split by scene: a hash of the scene's name decides, so that a picture stays
//! where it is when others are added. No picture is used in two ways: one that the set itself puts into two splits, as sets do
//! that split expressions and not pictures, belongs to the one that is kept furthest from training.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Annotations, join};
use crate::datasets::{DataError, Record, Result, Split};

/// Asks for every picture, whatever its split.
pub const ALL: &str = "all";
/// Of a hundred scenes that no split of the set's own names, so many train and so many tune; the rest test.
const TRAIN: u16 = 70;
const TUNE: u16 = 15;

/// What is asked for.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    Everything,
    Use(Split),
    Own(&'a str),
}

impl Annotations {
    /// Only the pictures of a part, with what is said of them in that part: one of the set's own splits by its name, `train`,
    /// `tune` or `test`, or [`ALL`]; `usual` where none is asked for.
    ///
    /// # Errors
    /// When there is no such part; `folder` names the set.
    pub fn part(mut self, asked: Option<&str>, usual: Split, folder: &Path) -> Result<Self> {
        let wanted = match asked {
            None => Wanted::Use(usual),
            Some(ALL) => Wanted::Everything,
            Some(name) if self.splits().contains(name) => Wanted::Own(name),
            Some(name) => Wanted::Use(used(name).ok_or_else(|| self.no_part(name, folder))?),
        };
        if matches!(wanted, Wanted::Everything) {
            return Ok(self);
        }
        let (uses, split) = (self.uses(), !self.splits().is_empty());
        let skipped = &mut self.skipped;
        let mut uses = uses.into_iter();
        self.records.retain_mut(|record| {
            let of = uses.next().flatten();
            if split && names(record).next().is_none() {
                skipped.add("picture in none of the set's splits", record.path.display());
            }
            let (named, inside) = belongs(record, of, wanted);
            if named && !inside {
                skipped.add("picture that a split kept further from training has too", record.path.display());
            }
            record.expressions.retain(|e| e.split.as_deref().is_none_or(|own| of_part(own, wanted)));
            inside
        });
        Ok(self)
    }

    /// What each picture is used for, in their order; `None` where the set's own splits leave that open.
    pub fn uses(&self) -> Vec<Option<Split>> {
        let split = !self.splits().is_empty();
        let of = |record: &Record| match split {
            true => names(record).filter_map(used).max(),
            false => Some(hashed(&record.scene)),
        };
        let whole = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let files: Vec<Vec<PathBuf>> = self.records.iter().map(|record| record.files().map(whole).collect()).collect();
        let mut furthest: HashMap<&Path, Option<Split>> = HashMap::new();
        for (files, record) in files.iter().zip(&self.records) {
            for file in files {
                let entry = furthest.entry(file.as_path()).or_default();
                *entry = (*entry).max(of(record));
            }
        }
        while levelled(&files, &mut furthest) {}
        files.iter().map(|files| most(files, &furthest)).collect()
    }

    /// How many pictures there are of each use.
    pub fn parts(&self) -> BTreeMap<&'static str, usize> {
        let uses = self.uses();
        let count = |split: Split| uses.iter().filter(|of| **of == Some(split)).count();
        Split::ALL.into_iter().map(|split| (split.name(), count(split))).collect()
    }

    fn no_part(&self, asked: &str, folder: &Path) -> DataError {
        let ours = Split::ALL.map(Split::name).join(", ");
        let splits = self.splits();
        let known = if splits.is_empty() { ours } else { format!("{}, or {ours}", join(&splits)) };
        let known = format!("{known}, or {ALL}");
        DataError::Split { path: folder.to_path_buf(), known, got: format!("`{asked}`") }
    }
}

/// Takes either picture of a pair as far from training as the other; whether that moved any, and with it perhaps another pair's.
fn levelled(records: &[Vec<PathBuf>], furthest: &mut HashMap<&Path, Option<Split>>) -> bool {
    let mut moved = false;
    // There and back: a place that was seen again and again is a chain of pairs, levelled at once whichever end is furthest.
    for pair in records.iter().chain(records.iter().rev()).filter(|files| files.len() > 1) {
        let most = most(pair, furthest);
        for file in pair {
            if let Some(of) = furthest.get_mut(file.as_path())
                && *of < most
            {
                (*of, moved) = (most, true);
            }
        }
    }
    moved
}

/// The use of the file that is kept furthest from training.
fn most(files: &[PathBuf], furthest: &HashMap<&Path, Option<Split>>) -> Option<Split> {
    files.iter().filter_map(|file| furthest.get(file.as_path()).copied().flatten()).max()
}

/// The set's own names for the splits that a picture, or something said of it, is in.
fn names(record: &Record) -> impl Iterator<Item = &str> {
    record.own_split.iter().chain(record.expressions.iter().flat_map(|e| &e.split)).map(String::as_str)
}

/// What a set's own split is for, by the field's usual names.
fn used(name: &str) -> Option<Split> {
    let name = name.to_ascii_lowercase();
    let begins = |with: &[&str]| with.iter().any(|word| name.starts_with(word));
    match () {
        () if begins(&["train"]) => Some(Split::Train),
        () if begins(&["val", "tune", "dev"]) => Some(Split::Tune),
        () if begins(&["test"]) => Some(Split::Test),
        () => None,
    }
}

/// The use of a scene that the set itself does not split.
fn hashed(scene: &str) -> Split {
    let digest = Sha256::digest(scene.as_bytes());
    match u16::from_be_bytes([digest[0], digest[1]]) % 100 {
        at if at < TRAIN => Split::Train,
        at if at < TRAIN + TUNE => Split::Tune,
        _ => Split::Test,
    }
}

/// Whether a picture is named by the part, and whether it belongs to it.
fn belongs(record: &Record, of: Option<Split>, wanted: Wanted<'_>) -> (bool, bool) {
    match wanted {
        Wanted::Everything => (true, true),
        Wanted::Use(split) => {
            (of == Some(split) || names(record).any(|own| used(own) == Some(split)), of == Some(split))
        }
        // A split of an unusual name may train, but not on what another split keeps from training.
        Wanted::Own(name) => {
            let most = used(name).unwrap_or(Split::Train);
            let named = names(record).any(|own| own == name);
            (named, named && of.is_none_or(|of| of <= most))
        }
    }
}

/// Whether something said in one of the set's own splits is part of what is asked for.
fn of_part(own: &str, wanted: Wanted<'_>) -> bool {
    match wanted {
        Wanted::Everything => true,
        Wanted::Use(split) => used(own) == Some(split),
        Wanted::Own(name) => own == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_names_of_splits_are_known() {
        let known = ["train", "training", "trainval", "val", "valid", "Validation", "dev", "test", "testA", "test-dev"];
        let uses = known.map(|name| used(name).map(Split::name));
        let expected = ["train", "train", "train", "tune", "tune", "tune", "tune", "test", "test", "test"];
        assert_eq!(uses, expected.map(Some));
        assert_eq!(used("fold1"), None);
    }

    /// What would break: a picture that tested yesterday would train today, because others were added.
    #[test]
    fn a_scenes_use_is_its_own() {
        let uses: Vec<Split> = (0..1000).map(|n| hashed(&format!("scene {n}"))).collect();
        let share = |split| uses.iter().filter(|of| **of == split).count();
        assert!((650..750).contains(&share(Split::Train)) && share(Split::Tune) > 100 && share(Split::Test) > 100);
        assert_eq!([hashed("DJI_0001"), hashed("frame-7")], [hashed("DJI_0001"), hashed("frame-7")]);
    }
}
