//! Why a node does not start.

use kestrel_link::DroneId;

use crate::bundle::BundleError;
use crate::pipeline::SegmentError;
use crate::record::RecordError;
use crate::slots::SlotError;

/// A node that cannot start; [`NodeError::hint`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The bundle cannot be flown.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The slots cannot be used.
    #[error(transparent)]
    Slots(#[from] SlotError),
    /// There is no model to fly.
    #[error("model slots {path}: expected a committed model, got none")]
    NoModel {
        /// The folder of the slots.
        path: String,
    },
    /// Engine or tokenizer do not fit.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The flight cannot be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Zenoh refused.
    #[error("link: {operation}: {why}")]
    Link {
        /// What was being done.
        operation: &'static str,
        /// What zenoh said.
        why: String,
    },
    /// Another drone on the network has the name.
    #[error("link: expected a name that no drone on the network has, got {drone}")]
    NameTaken {
        /// The name.
        drone: DroneId,
    },
    /// The address for metrics cannot be had.
    #[error("metrics.listen: {address}: {source}")]
    Metrics {
        /// Which address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error("starting thread {name}: {source}")]
    Thread {
        /// The thread.
        name: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl NodeError {
    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Bundle(error) => error.hint(),
            Self::Slots(error) => error.hint(),
            Self::NoModel { .. } => {
                "set model.bundle beside model.slots: it flies until the first pushed model is committed"
            }
            Self::Segment(error) => error.hint(),
            Self::Record(error) => error.hint(),
            Self::Link { .. } => {
                "check link.listen and link.connect: endpoints look like tcp/0.0.0.0:7447, and a port can be taken only once"
            }
            Self::NameTaken { .. } => {
                "give each drone a name of its own with `drone`; one that lost its power is forgotten after about ten seconds"
            }
            Self::Metrics { .. } => "choose another port in metrics.listen, or leave it empty to give no metrics",
            Self::Thread { .. } => "the system is out of threads or memory",
        }
    }

    pub(super) fn link<E: std::fmt::Display>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Link { operation, why: error.to_string() }
    }
}
