//! What the gate says of real photographs, clean and spoilt: `gate_table FOLDER… [--each]`.
//!
//! Every FOLDER holds `images/`; without one all folders of `$KESTREL_DATA` are read.
//! `--each` prints the statistics of every clean picture too.

#[path = "../tests/degrade/mod.rs"]
mod degrade;

use degrade::{FAMILIES, degrade};
use image::{RgbImage, imageops};
use kestrel_perception::{GateHistory, GateReport, GateThresholds, gate};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Pictures read of a folder, and how many of them are spoilt.
const CLEAN: usize = 260;
const SPOILT: usize = 12;

fn main() -> Result<(), Box<dyn Error>> {
    let (flags, folders): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|word| word == "--each");
    let each = !flags.is_empty();
    let folders: Vec<PathBuf> = if folders.is_empty() {
        let root = std::env::var("KESTREL_DATA").map_err(|_| "name a folder or set KESTREL_DATA")?;
        entries(Path::new(&root))?.into_iter().filter(|path| path.join("images").is_dir()).collect()
    } else {
        folders.into_iter().map(PathBuf::from).collect()
    };
    let mut spoilt = BTreeMap::new();
    println!("{:<24}{:>6}{:>10}{:>12}   reasons", "clean pictures", "n", "refused", "median ms");
    for folder in &folders {
        table(folder, each, &mut spoilt)?;
    }
    println!("\n{:<24}{:>6}{:>10}   reasons", "spoilt pictures", "n", "refused");
    for (name, verdicts) in &spoilt {
        println!("{name:<24}{}", summary(verdicts, None));
    }
    Ok(())
}

type Verdicts = Vec<Option<String>>;

/// Prints a folder's line and collects the verdicts on its spoilt pictures.
fn table(folder: &Path, each: bool, spoilt: &mut BTreeMap<String, Verdicts>) -> Result<(), Box<dyn Error>> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let files = entries(&folder.join("images"))?;
    let (mut verdicts, mut millis) = (Vec::new(), Vec::new());
    let step = files.len().div_ceil(CLEAN).max(1);
    for (index, file) in files.iter().enumerate().step_by(step) {
        let picture = image::open(file)?.to_rgb8();
        let start = Instant::now();
        let report = judge(&picture);
        millis.push(start.elapsed().as_secs_f32() * 1e3);
        if each || report.verdict.is_some() {
            println!("  {} {:?} {:?}", file.display(), report.verdict, report.statistics);
        }
        let usable = report.verdict.is_none();
        verdicts.push(word(&report));
        if usable && index % files.len().div_ceil(SPOILT).max(1) == 0 {
            spoil(&picture, spoilt);
        }
    }
    millis.sort_by(f32::total_cmp);
    println!("{name:<24}{}", summary(&verdicts, millis.get(millis.len() / 2).copied()));
    Ok(())
}

/// Spoils a picture at the model's size in every way and at its own size in the harshest.
fn spoil(picture: &RgbImage, spoilt: &mut BTreeMap<String, Verdicts>) {
    let scale = 512.0 / picture.width().max(picture.height()) as f32;
    let (width, height) = (picture.width() as f32 * scale, picture.height() as f32 * scale);
    let small = imageops::resize(picture, width as u32, height as u32, imageops::FilterType::Triangle);
    for family in FAMILIES {
        for severity in [0.3, 0.6, 1.0] {
            let name = format!("{family:?} {severity:.1}");
            spoilt.entry(name).or_default().push(word(&judge(&degrade(&small, family, severity, 7))));
        }
        let name = format!("{family:?} 1.0 full size");
        spoilt.entry(name).or_default().push(word(&judge(&degrade(picture, family, 1.0, 7))));
    }
}

fn judge(picture: &RgbImage) -> GateReport {
    gate(picture, &GateThresholds::default(), &GateHistory::default())
}

fn word(report: &GateReport) -> Option<String> {
    report.verdict.as_ref().map(|verdict| format!("{verdict:?}"))
}

fn summary(verdicts: &[Option<String>], millis: Option<f32>) -> String {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for verdict in verdicts.iter().flatten() {
        *reasons.entry(verdict).or_default() += 1;
    }
    let refused: usize = reasons.values().sum();
    let share = 100.0 * refused as f32 / verdicts.len().max(1) as f32;
    let millis = millis.map_or(String::new(), |millis| format!("{millis:>12.2}"));
    format!("{:>6}{share:>9.1}%{millis}   {reasons:?}", verdicts.len())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut paths = std::fs::read_dir(folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}
