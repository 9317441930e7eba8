//! A flight as a process: a node with its camera, under a service manager, until it is asked to stop or cannot go on.

use std::io;
use std::time::Duration;

use kestrel_link::Readiness;

use crate::config::Config;
use crate::engine::EngineError;
use crate::health::exit;
use crate::health::notify::Notifier;
use crate::health::periodic::Periodic;
use crate::node::{Fault, Node, NodeError, Vitals};
use crate::pipeline::SegmentError;

/// How often the service manager is told how the drone is.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Why a flight ended that was not asked to; the process is to end with [`FlightError::exit_code`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlightError {
    /// The engine cannot be had at the start.
    #[error(transparent)]
    Engine(EngineError),
    /// The node does not start, or does not stop.
    #[error(transparent)]
    Node(NodeError),
    /// The node could not go on.
    #[error("{0}")]
    Fault(Fault),
    /// The system does not give what a process needs.
    #[error("{operation}: {source}")]
    System {
        /// What was being done.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl From<NodeError> for FlightError {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Segment(SegmentError::Engine(error)) => Self::Engine(error),
            error => Self::Node(error),
        }
    }
}

impl FlightError {
    /// What the process is to end with, see [`exit`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            // A service manager may try again.
            Self::Engine(_) => exit::ENGINE_LOST,
            Self::Fault(fault) => fault.exit_code(),
            Self::Node(_) | Self::System { .. } => exit::FAILURE,
        }
    }

    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Engine(error) => error.hint(),
            Self::Node(error) => error.hint(),
            Self::Fault(_) => "what led to it stands above; `onboard doctor` checks the engine",
            Self::System { .. } => "the system is out of threads or memory",
        }
    }
}

/// Flies until a signal asks for the end (SIGINT, SIGTERM). Needs tokio's multi-threaded runtime, as zenoh does.
///
/// When the engine hangs this does not come back, whether a stop was asked for or not: a thread that waits inside a driver
/// cannot be ended, so [`exit::leave`] ends the process with the fault's code.
///
/// # Errors
/// When the node does not start as configured, or could not go on.
pub async fn fly(config: Config) -> Result<(), FlightError> {
    let system = |operation| move |source| FlightError::System { operation, source };
    let Config { node, camera } = config;
    let drone = node.drone.clone();
    let node = Node::start(node).await?;
    if let Some(address) = node.metrics_address() {
        tracing::info!("metrics on http://{address}/metrics");
    }
    let feed = node.feed(camera)?;
    let notifier = Notifier::from_environment();
    notifier.ready(&status(&node.vitals()));
    let telling = tell(notifier, node.vitals()).map_err(system("start the thread that tells the service manager"))?;
    tracing::info!("{drone} is ready");
    let fault = tokio::select! {
        signal = stop_signal() => {
            signal.map_err(system("wait for a signal"))?;
            None
        }
        fault = node.fault() => Some(fault),
    };
    drop(telling);
    // A camera that hangs holds up the end for a bounded time only; ffmpeg must not outlive the drone.
    drop(feed);
    tracing::info!("{drone} stops");
    notifier.stopping(&fault.as_ref().map_or_else(|| "asked to stop".to_owned(), Fault::to_string));
    if let Some(hung @ Fault::EngineHung { .. }) = &fault {
        // Its thread would be waited for without end.
        exit::leave(hung.exit_code());
    }
    let vitals = node.vitals();
    let stopped = tokio::select! {
        stopped = node.stop() => stopped,
        // It may hang only now, when the engine is waited for.
        hung = hung(&vitals) => exit::leave(hung.exit_code()),
    };
    match fault {
        Some(fault) => Err(FlightError::Fault(fault)),
        None => stopped.map_err(FlightError::from),
    }
}

/// Waits until the engine counts as hung; for ever when something else went wrong before.
async fn hung(vitals: &Vitals) -> Fault {
    match vitals.fault().await {
        hung @ Fault::EngineHung { .. } => hung,
        _ => std::future::pending().await,
    }
}

/// Tells the service manager how the drone is, and that it lives as long as it watches itself.
fn tell(notifier: Notifier, vitals: Vitals) -> io::Result<Vec<Periodic>> {
    let mut threads = Vec::new();
    if let Some(every) = notifier.alive_every() {
        let watched = vitals.clone();
        threads.push(Periodic::start("alive", every, move || {
            if watched.is_alive() {
                notifier.alive();
            }
        })?);
    }
    let mut last = String::new();
    threads.push(Periodic::start("status", STATUS_EVERY, move || {
        let status = status(&vitals);
        if status != last {
            notifier.status(&status);
            last = status;
        }
    })?);
    Ok(threads)
}

/// One line on how the drone is.
fn status(vitals: &Vitals) -> String {
    let health = vitals.health();
    let state = match health.readiness {
        Readiness::Ready if health.degraded.is_empty() => "ready".to_owned(),
        Readiness::Ready => format!("ready, degraded: {}", health.degraded.join("; ")),
        Readiness::Starting => "starting".to_owned(),
        Readiness::NotReady { why } => format!("not ready: {why}"),
    };
    format!("{} on {}: {state}", health.model, health.engine)
}

async fn stop_signal() -> io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// Promise: P3
    #[test]
    fn every_end_has_its_code_and_a_hint() {
        let no_library = || EngineError::NoLibrary { why: "nowhere".into() };
        let ends = [
            (FlightError::from(NodeError::Segment(SegmentError::Engine(no_library()))), exit::ENGINE_LOST),
            (FlightError::from(NodeError::NoModel { path: "slots".into() }), exit::FAILURE),
            (FlightError::Fault(Fault::Panicked { thread: "perception" }), exit::INTERNAL_FAULT),
        ];
        for (end, code) in ends {
            assert_eq!(end.exit_code(), code, "{end}");
            assert!(!end.hint().is_empty());
        }
    }
}
