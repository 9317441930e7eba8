//! `ground calibrate`: fits a bundle's thresholds to evaluation records.

use crate::draft;
use anyhow::{Context, Result};
use clap::Args;
use kestrel_link::Thresholds;
use kestrel_link::manifest::{GRAPH_FILES, THRESHOLDS_FILE};
use kestrel_training::metrics::Record;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `ground calibrate`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Folder of the bundle.
    #[arg(long)]
    bundle: PathBuf,
    /// Records written by `ground eval --records`, on data that neither trained nor will test; may be given several times.
    #[arg(long, required = true)]
    records: Vec<PathBuf>,
    /// Print the thresholds as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `ground calibrate`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut records = Vec::new();
    for path in &arguments.records {
        records.extend(read_records(path)?);
    }
    let [vision, language, mask] = graphs(&arguments.bundle)?;
    let fitted = kestrel_calibration::fit(&records)?;
    let thresholds = fitted.thresholds(&Thresholds::hash_graphs(&vision, &language, &mask), 0, &draft::today())?;
    let path = arguments.bundle.join(THRESHOLDS_FILE);
    std::fs::write(&path, serde_json::to_string_pretty(&thresholds)? + "\n")
        .with_context(|| format!("writing {}", path.display()))?;
    kestrel_onboard::bundle::seal(&arguments.bundle, draft::read(&arguments.bundle)?, None)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&thresholds)?);
    } else {
        println!("{}", serde_json::to_string_pretty(&thresholds)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// The three graphs in hashing order.
fn graphs(dir: &Path) -> Result<[Vec<u8>; 3]> {
    let read =
        |name: &str| std::fs::read(dir.join(name)).with_context(|| format!("reading {}", dir.join(name).display()));
    Ok([read(GRAPH_FILES[0])?, read(GRAPH_FILES[1])?, read(GRAPH_FILES[2])?])
}

/// Reads records, one line of JSON each.
pub(crate) fn read_records(path: &Path) -> Result<Vec<Record>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    text.lines()
        .enumerate()
        .map(|(i, line)| {
            serde_json::from_str(line)
                .with_context(|| format!("{}:{}: expected a record as `ground eval` writes it", path.display(), i + 1))
        })
        .collect()
}
