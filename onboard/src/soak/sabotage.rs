//! What goes wrong in a soak: a deck of faults, each of which comes once before any comes again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::seeded::Seeded;
use crate::engine::{self, Engine, EngineError, Graph, Input, Opener, Tensor};

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    EngineFails,
    EngineStalls,
    PictureFreezes,
    PictureTears,
    PictureChangesSize,
    CameraStops,
    ClockJumps,
    GarbageForTheCamera,
    GarbageForAQuery,
    GarbageForAPush,
}

impl Fault {
    pub(super) const ALL: [Self; 10] = [
        Self::EngineFails,
        Self::EngineStalls,
        Self::PictureFreezes,
        Self::PictureTears,
        Self::PictureChangesSize,
        Self::CameraStops,
        Self::ClockJumps,
        Self::GarbageForTheCamera,
        Self::GarbageForAQuery,
        Self::GarbageForAPush,
    ];

    /// Its name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::EngineFails => "engine_fails",
            Self::EngineStalls => "engine_stalls",
            Self::PictureFreezes => "picture_freezes",
            Self::PictureTears => "picture_tears",
            Self::PictureChangesSize => "picture_changes_size",
            Self::CameraStops => "camera_stops",
            Self::ClockJumps => "clock_jumps",
            Self::GarbageForTheCamera => "garbage_for_the_camera",
            Self::GarbageForAQuery => "garbage_for_a_query",
            Self::GarbageForAPush => "garbage_for_a_push",
        }
    }
}

/// The faults in an order that a seed names.
#[derive(Debug)]
pub(super) struct Deck {
    left: Vec<Fault>,
    drawn: BTreeMap<&'static str, u64>,
}

impl Deck {
    pub(super) fn new() -> Self {
        // Every kind is in the report, drawn or not.
        Self { left: Vec::new(), drawn: Fault::ALL.iter().map(|fault| (fault.name(), 0)).collect() }
    }

    pub(super) fn draw(&mut self, numbers: &mut Seeded) -> Fault {
        let fault = self.left.pop().unwrap_or_else(|| {
            let mut all = Fault::ALL;
            numbers.shuffle(&mut all);
            let [first, rest @ ..] = all;
            self.left = rest.to_vec();
            first
        });
        *self.drawn.entry(fault.name()).or_default() += 1;
        fault
    }

    /// How often each kind came.
    pub(super) fn drawn(&self) -> &BTreeMap<&'static str, u64> {
        &self.drawn
    }
}

/// What the engine of a soak is told to do wrong; otherwise it does what the engine does that was asked for.
#[derive(Debug)]
pub(super) struct Sabotage {
    /// How much longer each frame takes to be seen.
    slower: Duration,
    failing_runs: AtomicU32,
    stall_millis: AtomicU64,
}

impl Sabotage {
    /// Nothing goes wrong, but each frame takes this much longer to be seen.
    pub(super) fn new(slower: Duration) -> Self {
        Self { slower, failing_runs: AtomicU32::new(0), stall_millis: AtomicU64::new(0) }
    }

    /// The next runs fail.
    pub(super) fn fail(&self, runs: u32) {
        self.failing_runs.store(runs, Ordering::Relaxed);
    }

    /// The next run takes this much longer.
    pub(super) fn stall(&self, time: Duration) {
        self.stall_millis.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Nothing more goes wrong.
    pub(super) fn end(&self) {
        self.fail(0);
        self.stall(Duration::ZERO);
    }

    /// Opens engines that do as they are told.
    pub(super) fn opener(self: &Arc<Self>) -> Opener {
        let sabotage = Arc::clone(self);
        Opener::new(move |graphs, options| {
            let inner = engine::open(graphs, options)?;
            Ok(Box::new(Sabotaged { inner, sabotage: Arc::clone(&sabotage) }) as Box<dyn Engine>)
        })
    }
}

struct Sabotaged {
    inner: Box<dyn Engine>,
    sabotage: Arc<Sabotage>,
}

impl Engine for Sabotaged {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn input_shapes(&self, graph: Graph) -> Result<Vec<Vec<usize>>, EngineError> {
        self.inner.input_shapes(graph)
    }

    fn views_per_run(&self) -> usize {
        self.inner.views_per_run()
    }

    fn run(&mut self, graph: Graph, inputs: &[Input<'_>], outputs: &mut [Tensor]) -> Result<(), EngineError> {
        let stall = Duration::from_millis(self.sabotage.stall_millis.swap(0, Ordering::Relaxed));
        let slower = if graph == Graph::Vision { self.sabotage.slower } else { Duration::ZERO };
        // The delay is the fault: nothing is waited for.
        std::thread::sleep(stall + slower);
        let fails = |left: u32| left.checked_sub(1);
        if self.sabotage.failing_runs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails).is_ok() {
            return Err(EngineError::Run {
                engine: self.name().to_owned(),
                graph,
                why: "the soak made it fail".into(),
            });
        }
        self.inner.run(graph, inputs, outputs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// What would break: a short soak that leaves a kind of fault out by chance.
    #[test]
    fn every_fault_comes_once_before_any_comes_again() {
        let (mut deck, mut numbers) = (Deck::new(), Seeded::new(9));
        for round in 1..=3 {
            let mut drawn: Vec<Fault> = Fault::ALL.iter().map(|_| deck.draw(&mut numbers)).collect();
            drawn.sort_unstable();
            assert_eq!(drawn, Fault::ALL);
            assert!(deck.drawn().values().all(|&count| count == round));
        }
    }
    struct Several;

    impl Engine for Several {
        fn name(&self) -> &str {
            "several"
        }

        fn input_shapes(&self, _: Graph) -> Result<Vec<Vec<usize>>, EngineError> {
            Ok(Vec::new())
        }

        fn views_per_run(&self) -> usize {
            3
        }

        fn run(&mut self, _: Graph, _: &[Input<'_>], _: &mut [Tensor]) -> Result<(), EngineError> {
            Ok(())
        }
    }

    /// What would break: a soak that shows an engine one view at a time, where it sees several at once in flight.
    #[test]
    fn the_shell_leaves_the_engine_as_it_is() {
        let sabotage = Arc::new(Sabotage::new(Duration::ZERO));
        let engine = Sabotaged { inner: Box::new(Several), sabotage };
        assert_eq!((engine.name(), engine.views_per_run()), ("several", 3));
    }
}
