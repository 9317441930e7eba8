//! What runs cost: time of training and of judging, cores and memory.

use super::{TEST, TUNE, write};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

/// What one run cost, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Wall seconds of its training.
    pub(crate) seconds: f64,
    /// Its workers.
    pub(crate) workers: Option<usize>,
    /// Wall seconds of judging it on pictures that are seen already.
    pub(crate) judging_seconds: Option<f64>,
    /// The most MiB of memory that were resident while it trained.
    pub(crate) peak_mebibytes: Option<f64>,
}

impl Cost {
    /// Hours of training on all its workers' cores.
    pub(super) fn core_hours(&self) -> Option<f64> {
        Some(self.seconds * self.workers? as f64 / 3600.0)
    }
}

/// File in a run's folder with what its log does not tell.
pub(super) const COST: &str = "cost.json";

/// What that file holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Wall seconds of judging, by the file that the records went to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    judging_seconds: BTreeMap<String, f64>,
    /// The most MiB that were resident in any piece of training that came to its end or was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peak_mebibytes: Option<f64>,
}

impl Kept {
    /// Reads it; a run of an older program has none.
    pub(super) fn read(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| {
                format!("{}: expected what a run cost; without the file it is unknown", path.display())
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Reads it, changes it and writes it again.
    pub(super) fn change(path: &Path, change: impl FnOnce(&mut Self)) -> Result<()> {
        let mut kept = Self::read(path)?;
        change(&mut kept);
        write(path, &serde_json::to_string(&kept)?)
    }

    /// Records were judged and go to this file.
    pub(super) fn judged(&mut self, file: &str, seconds: f64) {
        self.judging_seconds.insert(file.to_owned(), seconds);
    }

    /// A piece of training held so much.
    pub(super) fn held(&mut self, mebibytes: Option<f64>) {
        self.peak_mebibytes = self.peak_mebibytes.into_iter().chain(mebibytes).reduce(f64::max);
    }

    /// What a run cost that trained for so long.
    pub(super) fn cost(&self, seconds: f64, workers: Option<usize>) -> Cost {
        let each = [TUNE, TEST].map(|file| self.judging_seconds.get(file).copied());
        let judging_seconds = each.into_iter().sum();
        Cost { seconds, workers, judging_seconds, peak_mebibytes: self.peak_mebibytes }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What would break: runs judged before costs were kept would stop the table, or seem to have cost nothing.
    #[test]
    fn what_is_not_known_is_nothing_and_what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(COST);
        let old = Kept::read(&path).unwrap().cost(7200.0, Some(2));
        assert_eq!((old.core_hours(), old.judging_seconds, old.peak_mebibytes), (Some(4.0), None, None));
        assert_eq!(Cost { workers: None, ..old }.core_hours(), None);
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(Kept::read(&path).unwrap(), Kept::default());

        // Three pieces of training, of which one could not tell; half judged, then all of it.
        for piece in [Some(700.0), None, Some(300.0)] {
            Kept::change(&path, |kept| kept.held(piece)).unwrap();
        }
        Kept::change(&path, |kept| kept.judged(TUNE, 3.0)).unwrap();
        assert_eq!(Kept::read(&path).unwrap().cost(1.0, None).judging_seconds, None);
        Kept::change(&path, |kept| kept.judged(TEST, 4.5)).unwrap();
        let cost = Kept::read(&path).unwrap().cost(1.0, None);
        assert_eq!((cost.judging_seconds, cost.peak_mebibytes), (Some(7.5), Some(700.0)));

        std::fs::write(&path, "{").unwrap();
        let error = format!("{:#}", Kept::read(&path).unwrap_err());
        assert!(error.contains(COST) && error.contains("expected"), "{error}");
    }
}
