//! `onboard run`: the flight.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use kestrel_link::Readiness;
use kestrel_onboard::config::Config;
use kestrel_onboard::health::exit;
use kestrel_onboard::health::notify::Notifier;
use kestrel_onboard::health::periodic::Periodic;
use kestrel_onboard::node::{Fault, Node, NodeError, Vitals};
use kestrel_onboard::pipeline::SegmentError;

use super::{hinted, hinted_as};

/// How often the service manager is told how the drone is.
const STATUS_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The configuration: a TOML file, see onboard/kestrel-onboard.toml.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Set one key, e.g. engine.name=tract; wins over file and environment.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Record the flight into this new file, for `onboard replay`; the same as --set record.file=FILE.
    #[arg(long, value_name = "FILE")]
    record: Option<String>,
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut sets = self.set;
        sets.extend(self.record.map(|file| format!("record.file={file}")));
        let config = Config::load(&self.config, |name| std::env::var(name).ok(), &sets)
            .map_err(|error| hinted_as(exit::CONFIGURATION, &error, error.hint()))?;
        // A camera that is not there, or a record that is, is said before seconds go into opening a model.
        config.camera.check().map_err(|error| hinted(&error, error.hint()))?;
        if let Some(record) = &config.node.record {
            record.check().map_err(|error| hinted(&error, error.hint()))?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("start the asynchronous runtime")?;
        runtime.block_on(fly(config))
    }
}

async fn fly(config: Config) -> anyhow::Result<ExitCode> {
    let Config { node, camera } = config;
    let drone = node.drone.clone();
    let node = Node::start(node).await.map_err(|error| not_started(&error))?;
    if let Some(address) = node.metrics_address() {
        tracing::info!("metrics on http://{address}/metrics");
    }
    let feed = node.feed(camera).map_err(|error| hinted(&error, error.hint()))?;
    let notifier = Notifier::from_environment();
    notifier.ready(&status(&node.vitals()));
    let telling = tell(notifier, node.vitals()).context("start the thread that tells the service manager")?;
    tracing::info!("{drone} is ready");
    let fault = tokio::select! {
        signal = stop_signal() => {
            signal.context("wait for a signal")?;
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
    let stopped = node.stop().await.map_err(|error| hinted(&error, error.hint()));
    match fault {
        Some(fault) => {
            Err(hinted_as(fault.exit_code(), &fault, "what led to it stands above; `onboard doctor` checks the engine"))
        }
        None => stopped.map(|()| ExitCode::SUCCESS),
    }
}

/// An engine that cannot be had ends the process with a code of its own: a service manager may try again.
fn not_started(error: &NodeError) -> anyhow::Error {
    match error {
        NodeError::Segment(SegmentError::Engine(_)) => hinted_as(exit::ENGINE_LOST, error, error.hint()),
        _ => hinted(error, error.hint()),
    }
}

/// Tells the service manager how the drone is, and that it lives as long as it watches itself.
fn tell(notifier: Notifier, vitals: Vitals) -> std::io::Result<Vec<Periodic>> {
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

async fn stop_signal() -> std::io::Result<()> {
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
