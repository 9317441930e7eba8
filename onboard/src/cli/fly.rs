//! `onboard run`: the flight.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use kestrel_onboard::config::Config;
use kestrel_onboard::flight::fly;
use kestrel_onboard::health::exit;

use super::{hinted, hinted_as};

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The configuration: a TOML file, see onboard/kestrel-onboard.toml. Without one, its defaults and what is set here.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
        let variable = |name: &str| std::env::var(name).ok();
        let config = match &self.config {
            Some(path) => Config::load(path, variable, &sets),
            None => Config::parse("", "the defaults", variable, &sets),
        };
        let config = config.map_err(|error| hinted_as(exit::CONFIGURATION, &error, error.hint()))?;
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
        runtime.block_on(fly(config)).map_err(|error| hinted_as(error.exit_code(), &error, error.hint()))?;
        Ok(ExitCode::SUCCESS)
    }
}
