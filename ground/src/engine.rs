//! Which engine and which bundle a command uses.

use anyhow::{Result, bail};
use kestrel_onboard::engine::{EngineChoice, EngineOptions};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

/// Engine options shared by the commands that run a model.
#[derive(Debug, Clone, clap::Args)]
pub struct EngineArguments {
    /// `auto`, `tract`, or `ort` with a provider (`ort/cpu`, `ort/cuda`, `ort/tensorrt`).
    #[arg(long, default_value = "auto")]
    pub engine: EngineChoice,
    /// Threads within one operation; 0 means one per core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

impl EngineArguments {
    /// As the engine takes them; `quiet` draws no progress bar.
    pub fn options(&self, quiet: bool) -> EngineOptions {
        EngineOptions {
            threads: self.threads,
            progress: !quiet && std::io::stderr().is_terminal(),
            ..EngineOptions::of(self.engine)
        }
    }
}

/// The bundle that was asked for, or the released one: `KESTREL_BUNDLE`, else `models/released/kestrel-s` here or above.
pub fn bundle_folder(asked: Option<&Path>) -> Result<PathBuf> {
    if let Some(folder) = asked {
        return Ok(folder.to_owned());
    }
    match kestrel_onboard::released::find() {
        Some(folder) => Ok(folder),
        None => bail!("no released bundle here or above\nhint: name one with --bundle or KESTREL_BUNDLE"),
    }
}
