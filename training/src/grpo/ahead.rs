//! Episodes read on a thread beside: while one step is played and learnt from, the next one's are read.
//!
//! Which episodes a step has, and their order, is that of [`Order`] alone: reading ahead changes no number.

use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};

use candle_core::Device;
use kestrel_models::kestrel::Config;

use super::bake::Episodes;
use super::episode::Episode;
use crate::sft::order::Order;
use crate::sft::{Result, TrainError};

/// A picture of a step.
#[derive(Debug)]
pub(super) struct Drawn {
    /// Its number among the episodes.
    pub(super) index: usize,
    /// Everything random that is done about it follows from this.
    pub(super) seed: u64,
    /// The picture with its views, on the device.
    pub(super) episode: Episode,
}

/// What is read, step by step.
pub(super) struct Source<'a> {
    /// Where from.
    pub(super) episodes: Episodes,
    /// The model's sizes.
    pub(super) config: &'a Config,
    /// Where features go.
    pub(super) device: Device,
    /// Which picture comes when.
    pub(super) order: Order,
    /// Pictures a step.
    pub(super) batch: usize,
    /// The steps, one after the other.
    pub(super) steps: Range<usize>,
}

impl Source<'_> {
    fn step(&mut self, step: usize) -> Result<Vec<Drawn>> {
        let places = step * self.batch..(step + 1) * self.batch;
        places
            .map(|place| {
                let (index, seed) = self.order.at(place);
                let episode = self.episodes.get(index, self.config)?.on(&self.device)?;
                Ok(Drawn { index, seed, episode })
            })
            .collect()
    }

    /// Reads until the steps are done, one fails or nobody takes them any more.
    fn read(mut self, to: &SyncSender<Result<Vec<Drawn>>>) {
        for step in self.steps.clone() {
            let read = catch_unwind(AssertUnwindSafe(|| self.step(step)));
            let read = read.unwrap_or_else(|_| Err(stopped(self.episodes.folder())));
            let failed = read.is_err();
            if to.send(read).is_err() || failed {
                return;
            }
        }
    }
}

/// The steps' episodes, in the order of the steps.
pub(super) struct Ahead {
    steps: Receiver<Result<Vec<Drawn>>>,
    folder: PathBuf,
}

impl Ahead {
    /// Begins to read. The thread ends with the scope, once this is dropped.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn begin<'scope>(scope: &'scope Scope<'scope, '_>, source: Source<'scope>) -> Result<Self> {
        let folder = source.episodes.folder().to_path_buf();
        // Nothing waits in the channel: memory holds the step that is played and the one after it, never more.
        let (to, steps) = sync_channel(0);
        let thread = Builder::new().name("episodes".to_owned()).spawn_scoped(scope, move || source.read(&to));
        thread.map_err(TrainError::io("starting a thread to read", &folder))?;
        Ok(Self { steps, folder })
    }

    /// The next step's pictures, waited for where they are not read yet.
    ///
    /// # Errors
    /// When an episode is damaged, or there is no further step.
    pub(super) fn next_step(&mut self) -> Result<Vec<Drawn>> {
        self.steps.recv().unwrap_or_else(|_| Err(stopped(&self.folder)))
    }
}

fn stopped(folder: &Path) -> TrainError {
    TrainError::io("reading", folder)(io::Error::other("the thread that reads episodes has stopped"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::bake::path;
    use super::super::episode::write;
    use super::*;
    use crate::sample::Origin;

    /// Episodes without views, told apart by their origin.
    fn episodes(folder: &Path, count: usize) -> Episodes {
        let episodes = Episodes::of(folder.to_path_buf(), count);
        for index in 0..count {
            let origin = Origin { dataset: "scenes".into(), scene: index.to_string(), frame: "0".into() };
            write(&path(folder, index), &Episode { origin, sights: Vec::new() }).unwrap();
        }
        episodes
    }

    fn source<'a>(folder: &Path, config: &'a Config, steps: Range<usize>) -> Source<'a> {
        let (episodes, order) = (episodes(folder, 5), Order::new(7, 5));
        Source { episodes, config, device: Device::Cpu, order, batch: 3, steps }
    }

    /// What would break: a resumed run that goes on with other pictures than the one that was not stopped.
    #[test]
    fn every_step_has_the_pictures_of_the_order_wherever_reading_begins() {
        let (folder, config) = (tempfile::tempdir().unwrap(), Config::tiny());
        for first in [0, 2] {
            let mut order = Order::new(7, 5);
            std::thread::scope(|scope| {
                let mut ahead = Ahead::begin(scope, source(folder.path(), &config, first..4)).unwrap();
                for step in first..4 {
                    let expected: Vec<_> = (3 * step..3 * step + 3).map(|place| order.at(place)).collect();
                    let drawn = ahead.next_step().unwrap();
                    assert_eq!(drawn.iter().map(|d| (d.index, d.seed)).collect::<Vec<_>>(), expected);
                    assert!(drawn.iter().all(|d| d.episode.origin.scene == d.index.to_string()));
                }
                let error = ahead.next_step().unwrap_err().to_string();
                assert!(error.contains("has stopped"), "{error}");
            });
        }
    }

    /// What would break: a damaged file would be told of a step too late, or a stopped run would wait without end.
    #[test]
    fn a_damaged_episode_is_told_and_a_run_may_end_before_its_steps() {
        let (folder, config) = (tempfile::tempdir().unwrap(), Config::tiny());
        std::thread::scope(|scope| {
            let mut ahead = Ahead::begin(scope, source(folder.path(), &config, 0..1000)).unwrap();
            assert_eq!(ahead.next_step().unwrap().len(), 3);
        });
        let broken = source(folder.path(), &config, 0..1000);
        for index in 0..5 {
            std::fs::write(path(folder.path(), index), b"no episode").unwrap();
        }
        std::thread::scope(|scope| {
            let error = Ahead::begin(scope, broken).unwrap().next_step().unwrap_err().to_string();
            assert!(error.contains("expected an episode"), "{error}");
        });
    }
}
