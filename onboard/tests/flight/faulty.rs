//! An engine that fails, stalls or panics when it is told to. Otherwise it does what tract does, under the name of another.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use kestrel_onboard::engine::{
    self, Engine, EngineChoice, EngineError, EngineOptions, Graph, Input, Opener, Provider, Tensor,
};

/// What the engine does wrong; shared by all engines that were opened with it.
#[derive(Default)]
pub(crate) struct Faults {
    /// Runs that fail before the next good one.
    failing: AtomicU32,
    /// Whether every run fails, so that it cannot be opened either.
    broken: AtomicBool,
    panicking: AtomicBool,
    stalled: Mutex<bool>,
    changed: Condvar,
    opened: AtomicU32,
}

impl Faults {
    pub(crate) fn fail(&self, runs: u32) {
        self.failing.store(runs, Ordering::SeqCst);
    }

    pub(crate) fn break_down(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    pub(crate) fn panic(&self) {
        self.panicking.store(true, Ordering::SeqCst);
    }

    /// Runs wait from now on, or go on.
    pub(crate) fn stall(&self, stalled: bool) {
        *self.stalled.lock().unwrap() = stalled;
        self.changed.notify_all();
    }

    /// How often it was opened, or tried to be.
    pub(crate) fn opened(&self) -> u32 {
        self.opened.load(Ordering::SeqCst)
    }

    fn meet(&self, graph: Graph) -> Result<(), EngineError> {
        let mut stalled = self.stalled.lock().unwrap();
        while *stalled {
            stalled = self.changed.wait(stalled).unwrap();
        }
        drop(stalled);
        assert!(!self.panicking.load(Ordering::SeqCst), "told to panic");
        let fails = |left: u32| left.checked_sub(1);
        let failed = self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_ok();
        if failed || self.broken.load(Ordering::SeqCst) {
            return Err(EngineError::Run { engine: "ort/cpu".into(), graph, why: "told to fail".into() });
        }
        Ok(())
    }
}

struct Faulty {
    inner: Box<dyn Engine>,
    faults: Arc<Faults>,
}

impl Engine for Faulty {
    fn name(&self) -> &str {
        "ort/cpu"
    }

    fn input_shapes(&self, graph: Graph) -> Result<Vec<Vec<usize>>, EngineError> {
        self.inner.input_shapes(graph)
    }

    fn run(&mut self, graph: Graph, inputs: &[Input<'_>], outputs: &mut [Tensor]) -> Result<(), EngineError> {
        self.faults.meet(graph)?;
        self.inner.run(graph, inputs, outputs)
    }
}

/// The engine that is asked for.
pub(crate) fn options() -> EngineOptions {
    EngineOptions { fetch: false, ..EngineOptions::of(EngineChoice::Ort(Provider::Cpu)) }
}

/// Opens the faulty engine where ONNX Runtime is asked for, and tract where tract is.
pub(crate) fn opener(faults: &Arc<Faults>) -> Opener {
    let faults = Arc::clone(faults);
    Opener::new(move |graphs, options| {
        let inner = engine::open(graphs, &EngineOptions::of(EngineChoice::Tract))?;
        if options.choice == EngineChoice::Tract {
            return Ok(inner);
        }
        faults.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Faulty { inner, faults: Arc::clone(&faults) }) as Box<dyn Engine>)
    })
}
