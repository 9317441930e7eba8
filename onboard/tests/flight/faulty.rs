//! An engine that fails, stalls or panics when it is told to. Otherwise it does what tract does, under the name of another.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

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
    pace: Mutex<Pace>,
    changed: Condvar,
    opened: AtomicU32,
}

/// What runs wait for.
#[derive(Default)]
struct Pace {
    /// Every run waits.
    stalled: bool,
    /// Frames that may still be seen; `None` is any number.
    frames: Option<u32>,
    /// How much longer the next frame takes.
    longer: Duration,
    /// The graph that fails at its next run.
    failing: Option<Graph>,
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
        self.pace.lock().unwrap().stalled = stalled;
        self.changed.notify_all();
    }

    /// No frame is seen from now on but those that are [permitted](Self::permit), or any when `paced` is false.
    pub(crate) fn pace(&self, paced: bool) {
        self.pace.lock().unwrap().frames = paced.then_some(0);
        self.changed.notify_all();
    }

    /// One more frame may be seen.
    pub(crate) fn permit(&self) {
        if let Some(frames) = &mut self.pace.lock().unwrap().frames {
            *frames += 1;
        }
        self.changed.notify_all();
    }

    /// The next frame takes this much longer to be seen.
    pub(crate) fn slow(&self, longer: Duration) {
        self.pace.lock().unwrap().longer = longer;
    }

    /// The next run of this graph fails.
    pub(crate) fn fail_in(&self, graph: Graph) {
        self.pace.lock().unwrap().failing = Some(graph);
    }

    /// How often it was opened, or tried to be.
    pub(crate) fn opened(&self) -> u32 {
        self.opened.load(Ordering::SeqCst)
    }

    fn meet(&self, graph: Graph) -> Result<(), EngineError> {
        let mut pace = self.pace.lock().unwrap();
        while pace.stalled || (graph == Graph::Vision && pace.frames == Some(0)) {
            pace = self.changed.wait(pace).unwrap();
        }
        let mut longer = Duration::ZERO;
        if graph == Graph::Vision {
            pace.frames = pace.frames.map(|frames| frames - 1);
            longer = std::mem::take(&mut pace.longer);
        }
        let is_told = pace.failing == Some(graph);
        pace.failing = pace.failing.filter(|_| !is_told);
        drop(pace);
        // The delay is the fault: nothing is waited for.
        std::thread::sleep(longer);
        assert!(!self.panicking.load(Ordering::SeqCst), "told to panic");
        let fails = |left: u32| left.checked_sub(1);
        let failed = self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_ok();
        if failed || is_told || self.broken.load(Ordering::SeqCst) {
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
