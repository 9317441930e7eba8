#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::crop::{Region, cut};
use super::paste::{cut_out, paste, placement};
use super::*;
use crate::sample::Category;

/// A folder with one 60×40 picture and the given annotation text after `"images"`.
fn folder(instances: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("images")).unwrap();
    let picture = RgbImage::from_fn(60, 40, |x, y| Rgb([(x * 4) as u8, (y * 6) as u8, 90]));
    picture.save(folder.path().join("images/1.png")).unwrap();
    let text = format!(
        r#"{{"dataset":"mine","images":[{{"file":"images/1.png","width":60,"height":40}}],"instances":[{instances}]}}"#
    );
    std::fs::write(folder.path().join("annotations.json"), text).unwrap();
    folder
}

const SHIP: &str = r#"{"image":0,"category":"ship","bbox":[10,10,20,16],"segmentation":[[10,10,30,10,30,26,10,26]]}"#;

#[test]
fn a_good_folder_loads_and_its_crop_keeps_the_outline() {
    let folder = folder(SHIP);
    let records = load(folder.path()).unwrap();
    assert_eq!(records[0].instances[0].category, Category::Boat);
    let image = records[0].image().unwrap();
    let picture = cut(&records[0], &image, &Region::whole(&records[0]), 120).unwrap();
    let instance = &picture.instances[0];
    // 60 px become 120, the picture is centred: 10 px above and below.
    assert_eq!(instance.bounding_box, [20.0, 40.0, 40.0, 32.0]);
    assert_eq!(instance.mask.as_ref().unwrap().area().unwrap(), 40 * 32);
    assert!((instance.visible - 1.0).abs() < 0.01);
    assert_eq!(picture.image.get_pixel(60, 2).0, [114; 3], "letterbox");
}

#[test]
fn every_broken_annotation_is_named_with_file_and_index() {
    let cases = [
        (r#"{"image":3,"category":"ship","bbox":[1,1,2,2]}"#, "an image index under 1"),
        (r#"{"image":0,"category":"dragon","bbox":[1,1,2,2]}"#, "dragon"),
        (r#"{"image":0,"category":"ship","bbox":[1,1,2]}"#, "3 numbers"),
        (r#"{"image":0,"category":"ship","bbox":[1,1,0,2]}"#, "above 0"),
        (r#"{"image":0,"category":"ship","bbox":[1,1,2,2],"segmentation":[[1,2,3]]}"#, "three finite points"),
    ];
    for (broken, told) in cases {
        let folder = folder(&format!("{SHIP},{broken}"));
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("annotations.json") && error.contains("instances[1]") && error.contains(told),
            "{error}"
        );
    }
    let missing = folder(SHIP);
    std::fs::remove_file(missing.path().join("images/1.png")).unwrap();
    let error = load(missing.path()).unwrap_err().to_string();
    assert!(error.contains("images[0]") && error.contains("1.png"), "{error}");
    let corrupt = folder(SHIP);
    std::fs::write(corrupt.path().join("images/1.png"), b"not a picture").unwrap();
    let error = load(corrupt.path()).unwrap()[0].image().unwrap_err().to_string();
    assert!(error.contains("1.png") && error.contains("decodes"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// What would break: labels that drift from the pixels under flips, turns and scales, or leave the picture.
    #[test]
    fn crops_keep_labels_on_their_pixels(seed in any::<u64>()) {
        let folder = folder(SHIP);
        let record = load(folder.path()).unwrap().remove(0);
        // The ship is pure red on black.
        let image = RgbImage::from_fn(60, 40, |x, y| {
            if (10..30).contains(&x) && (10..26).contains(&y) { Rgb([255, 0, 0]) } else { Rgb([0, 0, 0]) }
        });
        let region = Region::random(&record, 96, &mut ChaCha8Rng::seed_from_u64(seed));
        let picture = cut(&record, &image, &region, 96).unwrap();
        for instance in &picture.instances {
            let [x, y, w, h] = instance.bounding_box;
            prop_assert!(x >= 0.0 && y >= 0.0 && x + w <= 96.0 && y + h <= 96.0);
            prop_assert!((0.0..=1.0).contains(&instance.visible));
            let bits = instance.mask.as_ref().unwrap().to_bits().unwrap();
            let on: Vec<u8> = picture.image.pixels().zip(&bits).filter(|(_, b)| **b).map(|(p, _)| p.0[0]).collect();
            let red = on.iter().filter(|r| **r > 100).count();
            prop_assert!(on.len() < 40 || red * 100 >= on.len() * 85, "{} of {} pixels are the ship's", red, on.len());
        }
    }
}

#[test]
fn pasting_adds_one_and_takes_covered_pixels_away() {
    let folder = folder(SHIP);
    let record = load(folder.path()).unwrap().remove(0);
    let image = record.image().unwrap();
    let cutout = cut_out(&record, &image, 0).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for _ in 0..20 {
        let mut picture = cut(&record, &image, &Region::whole(&record), 128).unwrap();
        let area = |p: &crate::sample::Picture, i: usize| p.instances[i].mask.as_ref().unwrap().area().unwrap();
        let before = area(&picture, 0);
        let place = placement(&cutout, 128, &mut rng);
        if paste(&mut picture, &cutout, &place).unwrap() {
            let (old, new) = (raster::bits(&picture, 0).unwrap().unwrap(), raster::bits(&picture, 1).unwrap().unwrap());
            assert!(old.iter().zip(&new).all(|(a, b)| !(a & b)), "one pixel belongs to two things");
            assert!(area(&picture, 0) <= before && area(&picture, 1) > 0);
        } else {
            assert_eq!(picture.instances.len(), 1);
        }
    }
}

fn data() -> Option<PathBuf> {
    let named = std::env::var_os("KESTREL_DATA").map(PathBuf::from);
    let beside = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../shared/data");
    let found = named.or(Some(beside)).filter(|p| p.join("nwpu_vhr10").is_dir());
    if found.is_none() {
        eprintln!("SKIPPED: no data sets; set KESTREL_DATA to their folder");
    }
    found
}

#[test]
fn the_real_sets_load_and_no_scene_is_in_two_splits() {
    let Some(data) = data() else { return };
    let sets = [
        ("nwpu_vhr10", 258),
        ("kit_ais_munich", 2),
        ("auair", 6),
        ("oam_kampala_buildings", 7),
        ("deepforest_samples", 9),
    ];
    for (name, scenes) in sets {
        let records = load(&data.join(name)).unwrap();
        let mut splits = std::collections::HashMap::new();
        for record in &records {
            let split = splits.entry(record.scene.clone()).or_insert(record.split());
            assert_eq!(*split, record.split(), "{name}: {}", record.scene);
        }
        // A file name that the rule misreads becomes a scene of its own and may land in another split.
        assert_eq!(splits.len(), scenes, "{name}");
        let trained = records.iter().filter(|r| r.split() == Split::Train).count();
        assert!(trained > 0 && trained < records.len(), "{name}: {trained} of {} train", records.len());
    }
    let desert = load(&data.join("odm_copr_desert")).unwrap();
    assert!(desert.iter().all(|r| r.split() == Split::Test), "the desert is held out of training");
}

#[test]
fn the_frozen_clusters_cover_every_image_once() {
    let Some(data) = data() else { return };
    let records = load(&data.join("nwpu_vhr10")).unwrap();
    let table: std::collections::BTreeMap<String, Vec<Vec<u32>>> =
        serde_json::from_str(include_str!("nwpu_clusters.json")).unwrap();
    let mut numbers: Vec<u32> = table.values().flatten().flatten().copied().collect();
    numbers.sort_unstable();
    let mut files: Vec<u32> = records.iter().map(|r| r.frame().trim_end_matches(".jpg").parse().unwrap()).collect();
    files.sort_unstable();
    assert_eq!(numbers, files);
}
