//! `ground calibrate gate`: how often clean frames are refused, with a bound.

use super::show;
use crate::draft;
use anyhow::{Context, Result, bail};
use clap::Args;
use image::RgbImage;
use image::imageops::{FilterType, resize};
use indicatif::{ProgressBar, ProgressStyle};
use kestrel_calibration::{GateTable, Seen, gate};
use kestrel_perception::{GateHistory, GateThresholds};
use kestrel_training::datasets::{Modality, Record, load};
use kestrel_training::views::{Family, View};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Sets of `$KESTREL_DATA` whose pictures count as clean frames of a camera.
const CLEAN: [&str; 6] =
    ["auair", "brighton_beach_drone", "deepforest_samples", "kit_ais_munich", "nwpu_vhr10", "oam_kampala_buildings"];
/// The table's file.
const FILE: &str = "gate.json";
/// Scenes of each camera of which one picture is spoilt, in every way.
const SPOILT: usize = 8;
/// Severities of the spoilt views.
const SEVERITIES: [f32; 2] = [0.5, 1.0];
/// Long side at which views are spoilt: the model's input.
const SIDE: u32 = 512;

/// Arguments of `ground calibrate gate`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folders with images/ and annotations.json, each a camera; by default the clean sets of $KESTREL_DATA.
    folders: Vec<PathBuf>,
    /// Folder of real data sets.
    #[arg(long, env = "KESTREL_DATA")]
    data: Option<PathBuf>,
    /// Greatest share of a scene's clean frames that may be refused.
    #[arg(long, default_value_t = 0.05)]
    alpha: f64,
    /// Greatest probability that the promise is wrong.
    #[arg(long, default_value_t = 0.05)]
    delta: f64,
    /// Write gate.json into this folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `ground calibrate gate`.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let (mut clean, mut spoilt) = (Vec::new(), Vec::new());
    for folder in folders(arguments)? {
        let camera = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut records = load(&folder)?;
        records.retain(|record| record.modality == Modality::Rgb);
        look(&camera, &records, arguments.json, &mut clean, &mut spoilt)?;
    }
    let table = gate(&clean, &spoilt, (arguments.alpha, arguments.delta), &draft::today())?;
    if let Some(out) = &arguments.out {
        std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
        let path = out.join(FILE);
        std::fs::write(&path, table.to_json()?).with_context(|| format!("writing {}", path.display()))?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&table)?)
    } else {
        print(&table)
    }
    Ok(ExitCode::SUCCESS)
}

fn folders(arguments: &Arguments) -> Result<Vec<PathBuf>> {
    if !arguments.folders.is_empty() {
        return Ok(arguments.folders.clone());
    }
    let Some(data) = &arguments.data else {
        bail!("no folder of pictures\nhint: name folders, or set KESTREL_DATA");
    };
    let found: Vec<PathBuf> = CLEAN.iter().map(|name| data.join(name)).filter(|folder| folder.is_dir()).collect();
    if found.is_empty() {
        bail!("{}: expected some of the folders {}, got none", data.display(), CLEAN.join(", "));
    }
    Ok(found)
}

/// Measures a camera's frames, and spoilt views of the first frame of some scenes.
fn look(camera: &str, records: &[Record], quiet: bool, clean: &mut Vec<Seen>, spoilt: &mut Vec<Seen>) -> Result<()> {
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(records.len() as u64) };
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} pictures of {msg} ({elapsed})")?);
    bar.set_message(camera.to_owned());
    let mut scenes: BTreeMap<&str, usize> = BTreeMap::new();
    for record in records {
        let picture = record.image()?;
        let count = scenes.len();
        let first = !scenes.contains_key(record.scene.as_str());
        *scenes.entry(&record.scene).or_default() += 1;
        clean.push(seen(camera, &record.scene, &picture));
        if first && count < SPOILT {
            spoil(&record.scene, &picture, spoilt);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

fn spoil(scene: &str, picture: &RgbImage, spoilt: &mut Vec<Seen>) {
    let scale = f64::from(SIDE) / f64::from(picture.width().max(picture.height()).max(1));
    let side = |length: u32| ((f64::from(length) * scale) as u32).max(1);
    let small = resize(picture, side(picture.width()), side(picture.height()), FilterType::Triangle);
    let mut rng = ChaCha8Rng::seed_from_u64(spoilt.len() as u64);
    for family in Family::TRAIN.into_iter().chain(Family::HELD_OUT) {
        for severity in SEVERITIES {
            let view = View::draw(family, severity, &mut rng);
            spoilt.push(seen(&format!("{} {severity:.1}", family.name()), scene, &view.apply(&small)));
        }
    }
}

fn seen(camera: &str, scene: &str, picture: &RgbImage) -> Seen {
    let report = kestrel_perception::gate(picture, &GateThresholds::default(), &GateHistory::default());
    let (camera, scene) = (camera.to_owned(), scene.to_owned());
    Seen { camera, scene, size: picture.dimensions(), statistics: report.statistics }
}

fn print(table: &GateTable) {
    println!(
        "the gate may refuse {:.1} % of a scene's clean frames, confidence {:.1} %\nbounds moved by {:+.2} of themselves\n",
        100.0 * table.alpha,
        100.0 * (1.0 - table.delta),
        table.loosened
    );
    println!("{:<32} {:>7} {:>9} {:>8} {:>8}", "clean frames refused", "scenes", "frames", "share", "bound");
    for claim in [&table.pooled].into_iter().chain(&table.cameras) {
        println!("{}", show::row(claim));
    }
    for claim in &table.reported {
        println!("{}  not promised; {} scenes are needed", show::row(claim), claim.needed);
    }
    println!("\nthe same by the built-in bounds");
    table.built_in.iter().for_each(|claim| println!("{}", show::row(claim)));
    println!("\n{:<32} {:>7} {:>9} {:>9}", "spoilt frames refused", "frames", "here", "built in");
    for (name, spoilt) in &table.spoilt {
        println!("{name:<32} {:>7} {:>9} {:>9}", spoilt.frames, spoilt.refused, spoilt.refused_built_in);
    }
    println!("\n[bounds]\n{}", toml::to_string(&table.bounds).unwrap_or_default());
}
