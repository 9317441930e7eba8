//! A step's pictures shared among threads.
//!
//! Sums are added in a fixed order: a run's numbers depend on the number of workers, never on their timing.

use std::time::Instant;

use candle_core::{CpuStorage, Storage, Tensor};

use super::distil::{Glasses, Tutor, viewed};
use super::example::Maker;
use super::idle::Idle;
use super::kept::Kept;
use super::measured::{Times, Values, lap};
use super::optimiser::Slot;
use super::pass::{Setup, pass, see};
use super::{Result, layouts, reading};
use crate::cache::Cache;
use crate::threads::Threads;

/// One thread's buffers.
#[derive(Debug)]
pub struct Worker<'a> {
    maker: Maker<'a>,
    /// Sums of gradients, one array for each slot; empty where frozen.
    pub sums: Vec<Vec<f32>>,
    /// Views of pictures, where vision is frozen and they are kept.
    kept: Option<&'a Kept>,
    /// What teaches beside the labels, and this thread's buffers to look at pictures at its size.
    tutor: Option<(&'a Tutor<'a>, Glasses)>,
    /// Share of clear pictures that are seen degraded.
    degraded: f32,
}

impl<'a> Worker<'a> {
    /// A worker with these buffers.
    pub fn new(maker: Maker<'a>, sums: Vec<Vec<f32>>) -> Self {
        Self { maker, sums, kept: None, tutor: None, degraded: 0.0 }
    }

    /// The same, whose frozen vision part sees no picture twice.
    pub(super) fn keeping(self, kept: &'a Kept) -> Self {
        Self { kept: Some(kept), ..self }
    }

    /// The same, which sees a share of clear pictures degraded.
    pub(super) fn degrading(self, degraded: f32) -> Self {
        Self { degraded, ..self }
    }

    /// The same, which learns from a teacher too.
    pub(super) fn taught_by(self, tutor: &'a Tutor<'a>) -> Self {
        Self { tutor: Some((tutor, tutor.glasses())), ..self }
    }

    fn run(
        &mut self,
        setup: &Setup<'_>,
        slots: &[Slot],
        cache: &Cache,
        mine: &[(usize, u64)],
        idle: &Idle,
    ) -> Result<Measured> {
        let Self { maker, sums, kept, tutor, degraded } = self;
        let mut measured = (Values::default(), Times::default());
        sums.iter_mut().for_each(|sum| sum.fill(0.0));
        for &(index, seed) in mine {
            let mut clock = Instant::now();
            let mut stores = Vec::with_capacity(3);
            if !maker.phase.blind {
                let (sample, anew) = viewed(cache.get(index)?, *degraded, maker.phase.queries, seed)?;
                // What is seen through a view of its own is seen once.
                let number = (!anew).then_some(index);
                let mut example = maker.draw(&sample, seed)?;
                lap(&mut clock, &mut measured.1.prepare);
                if let Some(kept) = kept {
                    let look = || idle.busy(|| see(setup, &example));
                    let seen = match number {
                        Some(number) => kept.view(number, look)?,
                        None => look()?,
                    };
                    example.seen = Some(seen);
                    lap(&mut clock, &mut measured.1.vision);
                }
                if let Some((tutor, glasses)) = tutor {
                    let lesson = || tutor.lesson(glasses, setup.config, (&sample, number), &example, seed);
                    let lesson = idle.busy(lesson)?;
                    example.lesson = Some(lesson);
                    lap(&mut clock, &mut measured.1.teacher);
                }
                stores.push(idle.busy(|| pass(setup, &example, seed, &mut measured.1))?);
            }
            if maker.phase.texts > 0 {
                stores.push(idle.busy(|| reading::pass(setup, maker, seed, &mut measured.1))?);
            }
            if maker.phase.layouts > 0 {
                stores.push(idle.busy(|| layouts::pass(setup, maker, cache, seed, &mut measured.1))?);
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
    }
}

/// Sums over pictures.
pub type Measured = (Values, Times);

/// Runs a step's `pictures` (sample and seed) on all workers, one a thread; the sums end up in the first. Gives beside what
/// was measured the seconds in which every worker waited for its data.
///
/// # Errors
/// The first worker's failure.
pub fn step(
    threads: &Threads,
    workers: &mut [Worker<'_>],
    setup: &Setup<'_>,
    slots: &[Slot],
    cache: &Cache,
    pictures: &[(usize, u64)],
) -> Result<(Measured, f32)> {
    let (count, idle) = (workers.len(), Idle::new());
    let results = threads.each(workers.iter_mut(), |number, worker| {
        let mine: Vec<(usize, u64)> = pictures.iter().skip(number).step_by(count).copied().collect();
        worker.run(setup, slots, cache, &mine, &idle)
    })?;
    let waited = idle.seconds();
    let mut measured = (Values::default(), Times::default());
    for (values, times) in results {
        measured.0 += values;
        measured.1 += times;
    }
    gather(workers.iter_mut().map(|worker| &mut worker.sums));
    Ok((measured, waited))
}

/// Adds all workers' sums to the first one's, in their order.
pub(crate) fn gather<'s>(mut sums: impl Iterator<Item = &'s mut Vec<Vec<f32>>>) {
    let Some(first) = sums.next() else { return };
    for other in sums {
        for (to, from) in first.iter_mut().zip(other.iter()) {
            to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
        }
    }
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
