//! Why a node cannot go on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::super::Inner;
use crate::health::exit;

/// A node that cannot go on; the process that holds it is to end with [`Fault::exit_code`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// One of its threads panicked.
    Panicked {
        /// Which thread.
        thread: &'static str,
    },
    /// The engine did not answer within the hard limit. Its thread cannot be ended: [`crate::node::Node::stop`] would wait
    /// for it, so the process must end without.
    EngineHung {
        /// How long it has been silent.
        silent: Duration,
    },
    /// The engine was lost and could not be had again, nor the fallback where one is allowed.
    EngineLost {
        /// What happened last.
        why: String,
    },
}

impl Fault {
    /// What the process is to end with, see [`exit`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Panicked { .. } => exit::INTERNAL_FAULT,
            Self::EngineHung { .. } => exit::ENGINE_HUNG,
            Self::EngineLost { .. } => exit::ENGINE_LOST,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked { thread } => write!(f, "the {thread} thread panicked"),
            Self::EngineHung { silent } => write!(f, "the engine hangs: no answer for {:.1} s", silent.as_secs_f64()),
            Self::EngineLost { why } => write!(f, "the engine is lost: {why}"),
        }
    }
}

/// Says so when the thread that holds it panics.
pub(in crate::node) struct PanicGuard {
    inner: Arc<Inner>,
    thread: &'static str,
}

impl PanicGuard {
    pub(in crate::node) fn new(inner: &Arc<Inner>, thread: &'static str) -> Self {
        Self { inner: Arc::clone(inner), thread }
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.inner.panicked(self.thread);
        }
    }
}

impl Inner {
    /// Says that a thread has panicked, so that the node cannot go on.
    pub(in crate::node) fn panicked(&self, thread: &'static str) {
        self.upkeep.fail(Fault::Panicked { thread });
        self.health_changed();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// Promise: P3
    #[test]
    fn every_fault_has_its_own_code() {
        let faults = [
            Fault::Panicked { thread: "perception" },
            Fault::EngineHung { silent: Duration::from_millis(3200) },
            Fault::EngineLost { why: "no driver".into() },
        ];
        let codes: Vec<u8> = faults.iter().map(Fault::exit_code).collect();
        assert_eq!(codes, [70, 71, 72]);
        assert_eq!(faults[1].to_string(), "the engine hangs: no answer for 3.2 s");
    }
}
