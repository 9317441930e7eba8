//! `ground bundle`: canary frames, manifest and signature of a bundle.

use crate::steps::{self, BUNDLE, CALIBRATION_FILE, Step};
use crate::{draft, keys};
use anyhow::{Context, Result, bail};
use clap::Args;
use image::RgbImage;
use indicatif::{ProgressBar, ProgressStyle};
use kestrel_calibration::Table;
use kestrel_link::manifest::THRESHOLDS_FILE;
use kestrel_link::{CanarySpec, Query, Thresholds, signature};
use kestrel_onboard::bundle::seal;
use kestrel_onboard::engine::{EngineChoice, EngineOptions};
use kestrel_onboard::pipeline::{Segmenter, SegmenterOptions, union};
use kestrel_training::expressions::{Options, generate};
use kestrel_training::sample::Stratum;
use kestrel_training::scenes;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Scenes of the canaries: outside every other range of seeds.
const FIRST_SEED: u64 = 5_000_000;
/// Scenes looked through.
const SCENES: u64 = 40;
/// A mask of fewer pixels proves little.
const LEAST_AREA: u64 = 200;
/// Side of a canary frame in pixels: small, because canaries travel with every push.
const SIDE: u32 = 384;
/// Least IoU between a canary's mask here and on the drone; engines differ in rounding only.
const LEAST_IOU: f32 = 0.97;
/// Canaries that a bundle carries: so many with a mask, so many refusals.
const MASKS: usize = 3;
const REFUSALS: usize = 2;

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
        canaries(dir)?;
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

/// Replaces the canaries by frames and what this model answers on them. The old ones stay until all new ones are found.
fn canaries(dir: &Path) -> Result<()> {
    let bundle = seal(dir, draft::read(dir)?, None)?;
    let engine = EngineOptions::of(EngineChoice::Auto);
    let mut segmenter = Segmenter::open(&bundle, &engine, SegmenterOptions::default())?;
    let found = find(&mut segmenter)?;
    let folder = dir.join("canary");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for (number, (frame, spec)) in found.iter().enumerate() {
        let stem = folder.join(format!("{number:02}"));
        frame.save(stem.with_extension("png"))?;
        std::fs::write(stem.with_extension("json"), serde_json::to_string_pretty(spec)? + "\n")?;
    }
    seal(dir, draft::read(dir)?, None)?;
    Ok(())
}

/// Looks through the canary scenes for at most one question each that this model answers with a mask, or with a refusal,
/// where that is wanted.
fn find(segmenter: &mut Segmenter) -> Result<Vec<(RgbImage, CanarySpec)>> {
    let bar = ProgressBar::new(SCENES);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} canary scenes ({elapsed})")?);
    let (mut found, mut masks, mut refusals) = (Vec::new(), 0, 0);
    for seed in FIRST_SEED..FIRST_SEED + SCENES {
        bar.inc(1);
        let picture = scenes::render(seed, SIDE);
        let options = Options { count: 12, slip_share: 0.0, ..Options::default() };
        for proposed in generate(&picture, &options, &mut ChaCha8Rng::seed_from_u64(seed)) {
            let (ask, id) = (proposed.ask, format!("canary-{}", masks + refusals));
            let mask = matches!(ask.stratum, Stratum::Category | Stratum::Colour) && masks < MASKS;
            let refusal = matches!(ask.stratum, Stratum::AbsentCategory | Stratum::Nonsense) && refusals < REFUSALS;
            if !mask && !refusal {
                continue;
            }
            let query = Query { hint: ask.hint, ..Query::new(id, ask.text) };
            let expected = union(&segmenter.segment(&picture.image, &query)?.outcome)?;
            match &expected {
                Some(shown) if mask && shown.area() > LEAST_AREA => masks += 1,
                None if refusal => refusals += 1,
                _ => continue,
            }
            let expected = expected.map(|m| m.to_mask()).transpose()?;
            found.push((picture.image, CanarySpec { query, expected, min_iou: LEAST_IOU }));
            if masks == MASKS && refusals == REFUSALS {
                bar.finish_and_clear();
                return Ok(found);
            }
            break;
        }
    }
    bail!(
        "this model gives {masks} masks and {refusals} refusals on the canary scenes, {MASKS} and {REFUSALS} are wanted\n\
         hint: an untrained model cannot be bundled; train it, calibrate it, then bundle it"
    )
}
