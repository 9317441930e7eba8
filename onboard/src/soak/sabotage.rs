//! The engine of a soak: what was asked for, in a shell that fails and stalls when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::engine::{self, Engine, EngineError, Graph, Input, Opener, Tensor};

/// What the engine of a soak is told to do wrong; otherwise it does what the engine does that was asked for.
#[derive(Debug)]
pub(super) struct Sabotage {
    /// How much longer each frame takes to be seen.
    slower: Duration,
    failing_runs: AtomicU32,
    stall_millis: AtomicU64,
    /// How long the slowest opening took.
    opening_millis: AtomicU64,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Sabotage {
    /// Nothing goes wrong, but each frame takes this much longer to be seen.
    pub(super) fn new(slower: Duration) -> Self {
        Self {
            slower,
            failing_runs: AtomicU32::new(0),
            stall_millis: AtomicU64::new(0),
            opening_millis: AtomicU64::new(0),
        }
    }

    /// The next runs fail.
    pub(super) fn fail(&self, runs: u32) {
        self.failing_runs.store(runs, Ordering::Relaxed);
    }

    /// The next run takes this much longer.
    pub(super) fn stall(&self, time: Duration) {
        self.stall_millis.store(millis(time), Ordering::Relaxed);
    }

    /// Nothing more goes wrong.
    pub(super) fn end(&self) {
        self.fail(0);
        self.stall(Duration::ZERO);
    }

    /// How long it took to open the engine, the longest time if it was opened more than once.
    pub(super) fn opening(&self) -> Duration {
        Duration::from_millis(self.opening_millis.load(Ordering::Relaxed))
    }

    /// Opens engines that do as they are told.
    pub(super) fn opener(self: &Arc<Self>) -> Opener {
        let sabotage = Arc::clone(self);
        Opener::new(move |graphs, options| {
            let begun = Instant::now();
            let inner = engine::open(graphs, options)?;
            sabotage.opening_millis.fetch_max(millis(begun.elapsed()), Ordering::Relaxed);
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
