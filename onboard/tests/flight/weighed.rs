//! An engine whose own allocations are told apart from those around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kestrel_onboard::engine::{self, Engine, EngineError, Graph, Input, Opener, Tensor};

use crate::counting::counted;

/// What all runs have allocated since it was forgotten.
#[derive(Default)]
pub(crate) struct Weighed {
    count: AtomicU64,
}

impl Weighed {
    pub(crate) fn forget(&self) {
        self.count.store(0, Ordering::SeqCst);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }
}

struct Weighing {
    inner: Box<dyn Engine>,
    weighed: Arc<Weighed>,
}

impl Engine for Weighing {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn input_shapes(&self, graph: Graph) -> Result<Vec<Vec<usize>>, EngineError> {
        self.inner.input_shapes(graph)
    }

    fn run(&mut self, graph: Graph, inputs: &[Input<'_>], outputs: &mut [Tensor]) -> Result<(), EngineError> {
        let (result, allocations) = counted(|| self.inner.run(graph, inputs, outputs));
        self.weighed.count.fetch_add(allocations.count, Ordering::SeqCst);
        result
    }
}

/// Opens engines as ever, and weighs them.
pub(crate) fn weighing(weighed: &Arc<Weighed>) -> Opener {
    let weighed = Arc::clone(weighed);
    Opener::new(move |graphs, options| {
        let inner = engine::open(graphs, options)?;
        Ok(Box::new(Weighing { inner, weighed: Arc::clone(&weighed) }) as Box<dyn Engine>)
    })
}
