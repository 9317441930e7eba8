//! The frames on which ranges are taken.

use anyhow::{Result, bail};
use kestrel_calibration::ranges::{FEWEST_FRAMES, Prepared, Preparer};
use kestrel_training::benchmark::{self, Samples};
use std::path::{Path, PathBuf};

use super::source::Source;
use super::{Arguments, Teller};

/// Frames of the calibration sets with their questions, one of each set in turn: the first few are of all sets.
pub(super) fn frames(arguments: &Arguments, source: &Source, teller: &Teller) -> Result<Vec<Prepared>> {
    let Arguments { calibration: names, limit, .. } = arguments;
    // All are opened first: what is missing ends the command before anything is prepared.
    let sets = names.iter().map(|name| samples(arguments, name)).collect::<Result<Vec<_>>>()?;
    teller.begin("frames prepared", limit.saturating_mul(sets.len()));
    let mut preparer = Preparer::new(&source.config, &source.tokenizer);
    let (mut all, mut done) = (Vec::with_capacity(sets.len()), 0);
    for (name, samples) in names.iter().zip(sets) {
        let mut frames = Vec::new();
        for sample in samples {
            frames.push(preparer.prepare(&sample?)?);
            done += 1;
            teller.done(done);
        }
        if frames.is_empty() {
            bail!("the calibration set `{name}` gives no frame\nhint: raise --limit or leave it out");
        }
        all.push(frames);
    }
    let frames = in_turn(all);
    if frames.len() < FEWEST_FRAMES {
        bail!(
            "the calibration set `{}` gives {} frames, ranges need at least {FEWEST_FRAMES}: {} more\n\
             hint: raise --limit or name a larger set",
            names.join("`, `"),
            frames.len(),
            FEWEST_FRAMES - frames.len()
        );
    }
    Ok(frames)
}

/// A set by its name or folder.
fn samples(arguments: &Arguments, name: &str) -> Result<Samples> {
    let (seed, limit) = (arguments.seed, Some(arguments.limit));
    let data = std::env::var_os("KESTREL_DATA").map(PathBuf::from);
    if arguments.calibration.iter().filter(|other| *other == name).count() > 1 {
        bail!("--calibration: expected every set once, got `{name}` twice");
    }
    if benchmark::NAMES.contains(&name) {
        if !name.ends_with("-tune") {
            bail!(
                "the set `{name}` tests the model and may not set its ranges\nhint: use a tuning set, such as scenes-tune"
            );
        }
        return Ok(benchmark::set(name, seed, limit, data.as_deref())?);
    }
    if Path::new(name).is_dir() {
        return Ok(benchmark::folder(Path::new(name), seed, limit)?);
    }
    bail!("`{name}` is neither a folder nor a frozen set\nhint: the sets are {}", benchmark::NAMES.join(", "));
}

/// One of each in turn, until all have come.
fn in_turn<T>(sets: Vec<Vec<T>>) -> Vec<T> {
    let mut all = Vec::with_capacity(sets.iter().map(Vec::len).sum());
    let mut sets: Vec<_> = sets.into_iter().map(Vec::into_iter).collect();
    loop {
        let before = all.len();
        all.extend(sets.iter_mut().filter_map(|set| set.next()));
        if all.len() == before {
            return all;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::in_turn;

    /// What would break: a sweep over the first frames that sees scenes only, though photographs were given too.
    #[test]
    fn the_first_frames_are_of_all_sets() {
        assert_eq!(in_turn(vec![vec![1, 2, 3], vec![10], vec![20, 21]]), [1, 10, 20, 2, 21, 3]);
        assert!(in_turn::<u8>(vec![]).is_empty());
    }
}
