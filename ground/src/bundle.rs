//! `ground bundle`: canary frames, manifest and signature of a bundle.

mod canaries;

use crate::steps::{self, BUNDLE, CALIBRATION_FILE, Step};
use crate::{draft, keys};
use anyhow::{Context, Result, bail};
use canaries::FIRST_SEED;
use clap::Args;
use kestrel_calibration::Table;
use kestrel_link::manifest::THRESHOLDS_FILE;
use kestrel_link::{Thresholds, signature};
use kestrel_onboard::bundle::seal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `ground bundle`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Folder of the bundle, begun by `ground export`.
    bundle: PathBuf,
    /// Sign with this secret key.
    #[arg(long)]
    sign: Option<PathBuf>,
    /// Keep the canaries that are there.
    #[arg(long)]
    keep_canaries: bool,
}

/// Runs `ground bundle`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let dir = &arguments.bundle;
    // Read before anything is written, so that a missing key leaves the bundle as it was.
    let key = arguments.sign.as_deref().map(keys::read).transpose()?;
    promised(dir)?;
    if !arguments.keep_canaries {
        canaries::replace(dir)?;
    }
    note(arguments)?;
    let manifest = seal(dir, draft::read(dir)?, key.as_ref())?.manifest;
    println!("{}: {} files, {} bytes", manifest.model(), manifest.files.len(), manifest.total_bytes());
    if let Some(key) = key {
        println!("signed with key {}", signature::key_id(&key.verifying_key()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses a table that promises something of other thresholds than those that fly.
fn promised(dir: &Path) -> Result<()> {
    let path = dir.join(CALIBRATION_FILE);
    if !path.is_file() {
        return Ok(());
    }
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
    let table = Table::from_json(&read(&path)?).with_context(|| path.display().to_string())?;
    let flying = dir.join(THRESHOLDS_FILE);
    if table.thresholds != Thresholds::from_json(&read(&flying)?)? {
        bail!(
            "{}: expected the thresholds of {CALIBRATION_FILE}, which promises something of them, got others\n\
             hint: `ground calibrate apply {} --bundle {}` puts them back; `ground calibrate` makes new ones with their table",
            flying.display(),
            path.display(),
            dir.display()
        );
    }
    Ok(())
}

/// Notes what was done; the key and the signature stay out of it.
fn note(arguments: &Arguments) -> Result<()> {
    let dir = &arguments.bundle;
    let canaries = draft::read(dir)?;
    let canaries = canaries.files.keys().map(String::as_str).filter(|name| name.starts_with("canary/"));
    let step = Step::new("bundle").word(BUNDLE).flag("--keep-canaries", arguments.keep_canaries);
    // Canaries that were there before are no work of this step.
    let made = canaries.filter(|name| !arguments.keep_canaries && dir.join(name).is_file());
    let step = Step { seed: Some(FIRST_SEED), ..step };
    steps::note(dir, step.gives(dir, made)?)
}
