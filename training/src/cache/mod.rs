//! Finished samples on disk: made once by all cores, read by index without decoding.
//!
//! A folder holds `spec.json` and shards of [`shard::SHARD`] samples.
//! A shard appears whole or not at all (written beside, then renamed), so a killed build goes on where it stopped.

mod make;
mod sets;
pub mod shard;
mod spec;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub use make::{Sources, make};
pub(crate) use make::{asked, finish, looked, through};
pub use sets::{Own, Wrong};
pub(crate) use sets::{spoken, written};
pub use spec::{Kind, Spec};

use crate::datasets::{DataError, Result};
use crate::sample::Sample;

/// A cache open for reading. Cheap to share between threads: every read opens its own file handle.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    spec: Spec,
    /// Shards that are finished, in order, from the first.
    shards: usize,
}

impl Cache {
    /// The folder of a specification under `runs`: `runs/cache/<first 16 hex of its hash>`.
    pub fn folder(runs: &Path, spec: &Spec) -> PathBuf {
        runs.join("cache").join(&spec.hash()[..16])
    }

    /// Makes every missing shard with `threads` threads, telling `progress` (samples done, samples in all).
    ///
    /// `data` is the folder of the data sets; it may be missing when the specification asks for scenes only.
    ///
    /// # Errors
    /// The first failure of any thread; finished shards stay.
    pub fn build(
        spec: &Spec,
        data: Option<&Path>,
        folder: &Path,
        threads: usize,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(DataError::io("creating", folder))?;
        shard::write_spec(folder, spec)?;
        let sources = Sources::open(spec, data)?;
        let plan = spec.plan();
        let count = plan.len().div_ceil(shard::SHARD);
        let (next, done, stop) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let failure = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            break;
                        }
                        let tell = || progress(done.fetch_add(1, Ordering::Relaxed) + 1, plan.len());
                        if let Err(error) = build_shard(folder, spec, &sources, &plan, number, &tell) {
                            stop.store(true, Ordering::Relaxed);
                            let mut slot = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                            slot.get_or_insert(error);
                        }
                    }
                });
            }
        });
        match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Self::open(folder),
        }
    }

    /// Opens what is finished in a folder; see [`Cache::complete`].
    ///
    /// # Errors
    /// When there is no specification or no finished shard.
    pub fn open(folder: &Path) -> Result<Self> {
        let spec = shard::read_spec(folder)?;
        let count = spec.len().div_ceil(shard::SHARD);
        let shards = (0..count).take_while(|n| shard::path(folder, *n).is_file()).count();
        if shards == 0 {
            let got = "no finished shard".to_owned();
            return Err(DataError::Shard { path: shard::path(folder, 0), expected: "a first shard".to_owned(), got });
        }
        Ok(Self { folder: folder.to_path_buf(), spec, shards })
    }

    /// Samples that can be read.
    pub fn len(&self) -> usize {
        self.spec.len().min(self.shards * shard::SHARD)
    }

    /// Whether nothing can be read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every sample of the specification is there.
    pub fn complete(&self) -> bool {
        self.len() == self.spec.len()
    }

    /// The specification it was made from.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Reads one sample. The kinds are mixed: any run of indices holds all of them in about their shares.
    ///
    /// # Errors
    /// When the index is beyond the end or the shard is damaged.
    pub fn get(&self, index: usize) -> Result<Sample> {
        if index >= self.len() {
            return Err(DataError::OutOfRange { path: self.folder.clone(), index, len: self.len() });
        }
        shard::read(&shard::path(&self.folder, index / shard::SHARD), index % shard::SHARD)
    }
}

fn build_shard(
    folder: &Path,
    spec: &Spec,
    sources: &Sources,
    plan: &[(Kind, u64)],
    number: usize,
    tell: &dyn Fn(),
) -> Result<()> {
    let path = shard::path(folder, number);
    let from = number * shard::SHARD;
    let to = (from + shard::SHARD).min(plan.len());
    if path.is_file() {
        (from..to).for_each(|_| tell());
        return Ok(());
    }
    let mut writer = shard::Writer::create(&path)?;
    for (kind, seed) in &plan[from..to] {
        writer.push(&make(spec, sources, *kind, *seed)?)?;
        tell();
    }
    writer.finish()
}
