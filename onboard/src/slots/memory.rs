//! A disk in memory whose power is cut, or that is full, at a chosen operation.
//!
//! Adversarial within what POSIX allows: after a cut, bytes that were not flushed may be old, new or half there,
//! and names that were not flushed may or may not be there, each independently.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::disk::Disk;
use crate::bundle::ReadFiles;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// What goes wrong at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It and all later ones fail.
    PowerCut,
    /// It alone fails, half done.
    Full,
}

#[derive(Clone, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<Inner>>);

#[derive(Clone, Default)]
struct Inner {
    contents: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
    durable_folders: BTreeSet<PathBuf>,
    operations: usize,
    fault: Option<(usize, Fault)>,
}

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
}

impl MemoryDisk {
    pub(crate) fn with_root(root: &Path) -> Self {
        let disk = Self::default();
        disk.inner().durable_folders.extend(root.ancestors().map(Path::to_path_buf));
        let durable = disk.inner().durable_folders.clone();
        disk.inner().folders = durable;
        disk
    }

    /// A disk of its own with the same state.
    pub(crate) fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.inner().clone())))
    }

    pub(crate) fn set_fault(&self, at: usize, fault: Fault) {
        let mut inner = self.inner();
        inner.operations = 0;
        inner.fault = Some((at, fault));
    }

    pub(crate) fn operations(&self) -> usize {
        self.inner().operations
    }

    /// The power comes back: what was not flushed is there or not, as `seed` has it.
    pub(crate) fn power_on(&self, seed: u64) {
        let mut inner = self.inner();
        let mut coin = Coin(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        inner.folders = merged(&inner.folders, &inner.durable_folders, &mut coin);
        let every: BTreeSet<PathBuf> = inner.names.keys().chain(inner.durable_names.keys()).cloned().collect();
        let mut names = BTreeMap::new();
        for path in every {
            let (now, durable) = (inner.names.get(&path), inner.durable_names.get(&path));
            let kept = if now == durable || coin.toss(2) == 0 { now } else { durable };
            if let Some(&content) = kept
                && path.parent().is_none_or(|folder| inner.folders.contains(folder))
            {
                names.insert(path, content);
            }
        }
        for content in &mut inner.contents {
            if content.bytes != content.durable {
                content.bytes = match coin.toss(3) {
                    0 => content.durable.clone(),
                    1 => content.bytes.clone(),
                    _ => content.bytes[..content.bytes.len() / 2].to_vec(),
                };
                content.durable = content.bytes.clone();
            }
        }
        inner.durable_names = names.clone();
        inner.names = names;
        inner.durable_folders = inner.folders.clone();
        inner.fault = None;
        inner.operations = 0;
    }

    /// Changes one byte of a file behind everyone's back.
    pub(crate) fn damage(&self, path: &Path) {
        let mut inner = self.inner();
        let content = inner.names[path];
        let bytes = &mut inner.contents[content].bytes;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        inner.contents[content].durable = inner.contents[content].bytes.clone();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Counts an operation; `Some` when it is the one that fails half done.
    fn step(&self) -> io::Result<(MutexGuard<'_, Inner>, bool)> {
        let mut inner = self.inner();
        let number = inner.operations;
        inner.operations += 1;
        match inner.fault {
            Some((at, Fault::PowerCut)) if number > at => Err(io::Error::other("no power")),
            Some((at, _)) if number == at => Ok((inner, true)),
            _ => Ok((inner, false)),
        }
    }
}

fn merged(now: &BTreeSet<PathBuf>, durable: &BTreeSet<PathBuf>, coin: &mut Coin) -> BTreeSet<PathBuf> {
    let mut kept: BTreeSet<PathBuf> = BTreeSet::new();
    // Sorted, so that a folder comes after those above it.
    for path in now.union(durable) {
        let certain = now.contains(path) && durable.contains(path);
        let above = path.parent().is_none_or(|folder| kept.contains(folder));
        if above && (certain || coin.toss(2) == 0) {
            kept.insert(path.clone());
        }
    }
    kept
}

struct Coin(u64);

impl Coin {
    fn toss(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % sides
    }
}

fn failed() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "no space left, or no power")
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

impl ReadFiles for MemoryDisk {
    fn length(&self, path: &Path) -> io::Result<u64> {
        self.read(path, u64::MAX).map(|bytes| bytes.len() as u64)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let inner = self.inner();
        if let Some((at, Fault::PowerCut)) = inner.fault
            && inner.operations > at
        {
            return Err(io::Error::other("no power"));
        }
        let content = *inner.names.get(path).ok_or_else(|| missing(path))?;
        let bytes = &inner.contents[content].bytes;
        Ok(bytes[..bytes.len().min(usize::try_from(limit).unwrap_or(usize::MAX))].to_vec())
    }
}

impl Disk for MemoryDisk {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (mut inner, fails) = self.step()?;
        if !path.parent().is_some_and(|folder| inner.folders.contains(folder)) {
            return Err(missing(path));
        }
        let taken = if fails { &bytes[..bytes.len() / 2] } else { bytes };
        match inner.names.get(path).copied() {
            Some(content) => inner.contents[content].bytes = taken.to_vec(),
            None => {
                inner.contents.push(Content { bytes: taken.to_vec(), durable: Vec::new() });
                let content = inner.contents.len() - 1;
                inner.names.insert(path.to_path_buf(), content);
            }
        }
        if fails { Err(failed()) } else { Ok(()) }
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (mut inner, fails) = self.step()?;
        let content = *inner.names.get(path).ok_or_else(|| missing(path))?;
        let taken = if fails { &bytes[..bytes.len() / 2] } else { bytes };
        inner.contents[content].bytes.extend_from_slice(taken);
        if fails { Err(failed()) } else { Ok(()) }
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let (mut inner, fails) = self.step()?;
        let content = *inner.names.get(path).ok_or_else(|| missing(path))?;
        if fails {
            return Err(failed());
        }
        inner.contents[content].durable = inner.contents[content].bytes.clone();
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let (mut inner, fails) = self.step()?;
        if !inner.folders.contains(path) {
            return Err(missing(path));
        }
        if fails {
            return Err(failed());
        }
        let inside = |name: &Path| name.parent() == Some(path);
        let Inner { names, durable_names, folders, durable_folders, .. } = &mut *inner;
        durable_names.retain(|name, _| !inside(name));
        durable_names.extend(names.iter().filter(|(name, _)| inside(name)).map(|(n, c)| (n.clone(), *c)));
        durable_folders.retain(|folder| !inside(folder));
        durable_folders.extend(folders.iter().filter(|folder| inside(folder)).cloned());
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut inner, fails) = self.step()?;
        if fails {
            return Err(failed());
        }
        let content = inner.names.remove(from).ok_or_else(|| missing(from))?;
        inner.names.insert(to.to_path_buf(), content);
        Ok(())
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let (mut inner, fails) = self.step()?;
        if fails {
            return Err(failed());
        }
        inner.folders.extend(path.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let (mut inner, fails) = self.step()?;
        // Half done: every second file is gone.
        let mut count = 0;
        inner.names.retain(|name, _| {
            count += 1;
            !name.starts_with(path) || (fails && count % 2 == 0)
        });
        if fails {
            return Err(failed());
        }
        inner.folders.retain(|folder| !folder.starts_with(path));
        Ok(())
    }
}
