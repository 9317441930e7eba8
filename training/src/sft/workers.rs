//! A step's pictures shared among threads.
//!
//! Which thread handles which picture is fixed, and sums are added in a fixed order: a run's numbers depend on the
//! number of workers, never on their timing.

use std::thread;
use std::time::Instant;

use candle_core::{CpuStorage, Storage, Tensor};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::example::Maker;
use super::measured::{Times, Values, lap};
use super::optimiser::Slot;
use super::pass::{Setup, pass};
use super::{Result, TrainError, layouts, reading};
use crate::cache::Cache;

/// One thread's buffers.
#[derive(Debug)]
pub struct Worker<'a> {
    pool: ThreadPool,
    maker: Maker<'a>,
    /// Sums of gradients, one array for each slot; empty where frozen.
    pub sums: Vec<Vec<f32>>,
}

impl<'a> Worker<'a> {
    /// A worker with a thread pool of one thread, so that rayon inside an operation does not steal from another worker.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(number: usize, maker: Maker<'a>, sums: Vec<Vec<f32>>) -> Result<Self> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(1)
            .thread_name(move |_| format!("train-{number}"))
            .build()
            .map_err(|e| TrainError::Worker { worker: number, got: e.to_string() })?;
        Ok(Self { pool, maker, sums })
    }

    fn run(&mut self, setup: &Setup<'_>, slots: &[Slot], cache: &Cache, mine: &[(usize, u64)]) -> Result<Measured> {
        let Self { pool, maker, sums } = self;
        pool.install(|| {
            let mut measured = (Values::default(), Times::default());
            sums.iter_mut().for_each(|sum| sum.fill(0.0));
            for &(index, seed) in mine {
                let mut clock = Instant::now();
                let mut stores = Vec::with_capacity(3);
                if !maker.phase.blind {
                    let example = maker.draw(&cache.get(index)?, seed)?;
                    lap(&mut clock, &mut measured.1.prepare);
                    stores.push(pass(setup, &example, seed, &mut measured.1)?);
                }
                if maker.phase.texts > 0 {
                    stores.push(reading::pass(setup, maker, seed, &mut measured.1)?);
                }
                if maker.phase.layouts > 0 {
                    stores.push(layouts::pass(setup, maker, cache, seed, &mut measured.1)?);
                }
                for (grads, values) in stores {
                    measured.0 += values;
                    let mut clock = Instant::now();
                    for (slot, sum) in slots.iter().zip(sums.iter_mut()).filter(|(_, sum)| !sum.is_empty()) {
                        if let Some(grad) = grads.get(slot.var.as_tensor()) {
                            add(sum, grad)?;
                        }
                    }
                    lap(&mut clock, &mut measured.1.sum);
                }
                measured.0.pictures += 1.0;
            }
            Ok(measured)
        })
    }
}

type Measured = (Values, Times);

/// Runs a step's `pictures` (sample and seed) on all workers; the sums end up in the first.
///
/// # Errors
/// The first worker's failure.
pub fn step(
    workers: &mut [Worker<'_>],
    setup: &Setup<'_>,
    slots: &[Slot],
    cache: &Cache,
    pictures: &[(usize, u64)],
) -> Result<Measured> {
    let count = workers.len();
    let results: Vec<Result<Measured>> = thread::scope(|scope| {
        let started: Vec<_> = workers
            .iter_mut()
            .enumerate()
            .map(|(number, worker)| {
                let mine: Vec<(usize, u64)> = pictures.iter().skip(number).step_by(count).copied().collect();
                scope.spawn(move || worker.run(setup, slots, cache, &mine))
            })
            .collect();
        let dead = |worker| move |_| Err(TrainError::Worker { worker, got: "it panicked".to_owned() });
        started.into_iter().enumerate().map(|(n, handle)| handle.join().unwrap_or_else(dead(n))).collect()
    });
    let mut measured = (Values::default(), Times::default());
    for result in results {
        let (values, times) = result?;
        measured.0 += values;
        measured.1 += times;
    }
    if let Some((first, rest)) = workers.split_first_mut() {
        for worker in rest {
            for (to, from) in first.sums.iter_mut().zip(&worker.sums) {
                to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
            }
        }
    }
    Ok(measured)
}

/// `sum += grad`, without a copy on the CPU.
pub(crate) fn add(sum: &mut [f32], grad: &Tensor) -> Result<()> {
    let grad = grad.contiguous()?;
    {
        let (storage, layout) = grad.storage_and_layout();
        if let (Storage::Cpu(CpuStorage::F32(values)), Some((from, to))) = (&*storage, layout.contiguous_offsets()) {
            sum.iter_mut().zip(&values[from..to]).for_each(|(s, v)| *s += v);
            return Ok(());
        }
    }
    let values = super::pass::host(&grad)?;
    sum.iter_mut().zip(&values).for_each(|(s, v)| *s += v);
    Ok(())
}
