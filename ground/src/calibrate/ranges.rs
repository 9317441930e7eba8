//! Scenes that chose the ranges of a bundle's graphs bound no risk of it.

use crate::quantise::RECORD_FILE;
use crate::records::{Header, Recorded};
use anyhow::{Context, Result, bail};
use kestrel_training::benchmark;
use serde::Deserialize;
use std::path::Path;

/// What a quantised bundle tells of the scenes on which its ranges were taken.
#[derive(Debug, Deserialize)]
struct Quantised {
    calibration: Ranges,
}

#[derive(Debug, Deserialize)]
struct Ranges {
    #[serde(alias = "set")]
    sets: Names,
    seed: u64,
}

/// The sets of the ranges; earlier records name one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

impl Names {
    fn contain(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Several(all) => all.iter().any(|one| one == name),
        }
    }
}

/// Refuses to bound the risk on rendered scenes that chose the ranges of the graphs; another seed costs nothing.
pub(super) fn apart(dir: &Path, records: &[Recorded]) -> Result<()> {
    let path = dir.join(RECORD_FILE);
    if !path.is_file() {
        return Ok(());
    }
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let Quantised { calibration: ranges } =
        serde_json::from_slice(&bytes).with_context(|| format!("{}: expected how it was quantised", path.display()))?;
    let same = |header: &Header| {
        !header.real
            && ranges.sets.contain(&header.set)
            && header.seed % benchmark::SEEDS == ranges.seed % benchmark::SEEDS
    };
    match records.iter().find(|recorded| same(&recorded.header)) {
        None => Ok(()),
        Some(recorded) => bail!(
            "{}: expected scenes that did not choose the ranges of the graphs, got `{}` with the seed {}, on which they were taken\n\
             hint: `ground eval --seed …` draws others",
            recorded.path.display(),
            recorded.header.set,
            ranges.seed
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What would break: the second set of ranges would bound the risk that its own frames helped to make.
    #[test]
    fn every_set_of_ranges_is_known_and_so_is_the_one_of_an_earlier_record() {
        let sets = |text: &str| serde_json::from_str::<Quantised>(text).unwrap().calibration.sets;
        let several = sets(r#"{"calibration":{"sets":["nwpu-tune","scenes-tune"],"seed":7,"frames":40}}"#);
        let one = sets(r#"{"calibration":{"set":"scenes-tune","seed":7}}"#);
        for names in [&several, &one] {
            assert!(names.contain("scenes-tune") && !names.contain("scenes"), "{names:?}");
        }
        assert!(several.contain("nwpu-tune") && !one.contain("nwpu-tune"));
    }
}
