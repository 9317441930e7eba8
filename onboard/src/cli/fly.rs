//! `onboard run`: the flight.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use kestrel_onboard::camera;
use kestrel_onboard::config::Config;
use kestrel_onboard::node::Node;

use super::hinted;

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
            .map_err(|error| hinted(&error, error.hint()))?;
        // A camera that is not there, or a record that is, is said before seconds go into opening a model.
        camera::pictures(&config.camera.path).map_err(|error| hinted(&error, error.hint()))?;
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
    let Config { node, camera: source } = config;
    let drone = node.drone.clone();
    let node = Node::start(node).await.map_err(|error| hinted(&error, error.hint()))?;
    let frames = node.frames();
    let playing = std::thread::Builder::new()
        .name("camera".into())
        .spawn(move || {
            match camera::play(&source, |picture, captured, pose| frames.put_posed(picture, captured, pose).is_some()) {
                Ok(()) => tracing::warn!("the camera has ended"),
                Err(error) => tracing::error!("camera: {error}"),
            }
        })
        .context("start the camera's thread")?;
    tracing::info!("{drone} is ready");
    stop_signal().await.context("wait for a signal")?;
    tracing::info!("{drone} stops");
    node.stop().await.map_err(|error| hinted(&error, error.hint()))?;
    // The camera's thread ends with its next frame, which nobody takes; the process does not wait for it.
    drop(playing);
    Ok(ExitCode::SUCCESS)
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
