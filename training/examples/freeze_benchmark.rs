//! Freezes the benchmark.
//!
//! `freeze_benchmark clusters DATA` writes `training/src/datasets/nwpu_clusters.json` from the images;
//! `freeze_benchmark describe DATA [SET]…` writes `docs/benchmark.json`: counts, strata, sizes and a hash of every set,
//! or of the named sets only, keeping the others.
//! Run from the repository's root. Both overwrite files that are meant to stay as they are once a model was trained.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use kestrel_training::benchmark;
use kestrel_training::datasets::clusters::{assign, clusters, signature};
use kestrel_training::datasets::{load, raster};
use kestrel_training::sample::{Sample, Target};
use sha2::{Digest, Sha256};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(what), Some(data)) = (arguments.next(), arguments.next()) else {
        return Err("usage: freeze_benchmark clusters|describe DATA".into());
    };
    match what.as_str() {
        "clusters" => freeze_clusters(Path::new(&data)),
        "describe" => describe(Path::new(&data), &arguments.collect::<Vec<_>>()),
        other => Err(format!("expected clusters or describe, got `{other}`").into()),
    }
}

fn freeze_clusters(data: &Path) -> Result<(), Box<dyn Error>> {
    let mut signatures = Vec::new();
    for record in load(&data.join("nwpu_vhr10"))? {
        let number = record.frame().trim_end_matches(".jpg").parse()?;
        let mut categories: Vec<_> = record.instances.iter().map(|i| i.category).collect();
        categories.sort_unstable();
        categories.dedup();
        signatures.push(signature(number, &record.image()?, categories));
    }
    signatures.sort_by_key(|s| s.number);
    let groups = clusters(&signatures);
    let splits = assign(&signatures, &groups);
    let mut table: BTreeMap<&str, Vec<Vec<u32>>> = BTreeMap::new();
    for (group, split) in groups.iter().zip(&splits) {
        let name = ["train", "tune", "test"][*split];
        table.entry(name).or_default().push(group.iter().map(|m| signatures[*m].number).collect());
    }
    for (name, groups) in &table {
        let images: usize = groups.iter().map(Vec::len).sum();
        let largest = groups.iter().map(Vec::len).max().unwrap_or(0);
        eprintln!("{name}: {images} images in {} clusters, largest {largest}", groups.len());
    }
    std::fs::write("training/src/datasets/nwpu_clusters.json", serde_json::to_string(&table)? + "\n")?;
    Ok(())
}

fn describe(data: &Path, only: &[String]) -> Result<(), Box<dyn Error>> {
    let mut sets = serde_json::Map::new();
    if !only.is_empty() {
        let before: serde_json::Value = serde_json::from_slice(&std::fs::read("docs/benchmark.json")?)?;
        sets.extend(before["sets"].as_object().cloned().unwrap_or_default());
    }
    let asked = |name: &&str| *name != "scenes" && (only.is_empty() || only.iter().any(|o| o == name));
    for name in benchmark::NAMES.into_iter().filter(asked) {
        let samples: Vec<Sample> = benchmark::set(name, 0, None, Some(data))?.collect::<Result<_, _>>()?;
        sets.insert(name.to_owned(), summary(&samples)?);
        eprintln!("{name}: {} pictures", samples.len());
    }
    let seeds = serde_json::json!({
        "train": "below 1000000", "tune": benchmark::TUNE_SEED, "test": benchmark::TEST_SEED,
        "test_scenes": benchmark::TEST_SCENES, "tune_scenes": benchmark::TUNE_SCENES
    });
    let all = serde_json::json!({ "picture_pixels": benchmark::SIZE, "scene_seeds": seeds, "sets": sets });
    std::fs::write("docs/benchmark.json", serde_json::to_string_pretty(&all)? + "\n")?;
    Ok(())
}

/// Sizes are the square root of the target's area in pixels of the picture.
fn summary(samples: &[Sample]) -> Result<serde_json::Value, Box<dyn Error>> {
    let mut strata: BTreeMap<String, usize> = BTreeMap::new();
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut hash = Sha256::new();
    let (mut asks, mut slipped, mut held_out) = (0, 0, 0);
    for sample in samples {
        for ask in &sample.asks {
            hash.update(serde_json::to_vec(ask)?);
            asks += 1;
            slipped += usize::from(ask.slipped);
            held_out += usize::from(ask.held_out_phrasing);
            let stratum = serde_json::to_value(ask.stratum)?;
            *strata.entry(stratum.as_str().unwrap_or("?").to_owned()).or_default() += 1;
            if let Target::Masks(list) | Target::Boxes(list) = &ask.target {
                *sizes.entry(size(sample, list)?).or_default() += 1;
            }
        }
    }
    let hash: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(serde_json::json!({
        "pictures": samples.len(), "asks": asks, "slipped": slipped, "held_out_phrasing": held_out,
        "strata": strata, "target_sizes": sizes, "asks_sha256": hash
    }))
}

fn size(sample: &Sample, targets: &[usize]) -> Result<&'static str, Box<dyn Error>> {
    let mut area = 0.0;
    for target in targets {
        let [_, _, w, h] = sample.picture.instances[*target].bounding_box;
        let bits = raster::bits(&sample.picture, *target)?;
        area += bits.map_or(w * h, |b| b.iter().filter(|b| **b).count() as f32);
    }
    Ok(match area.sqrt() {
        s if s < 16.0 => "tiny_under_16",
        s if s < 32.0 => "small_under_32",
        s if s < 96.0 => "medium_under_96",
        _ => "large",
    })
}
