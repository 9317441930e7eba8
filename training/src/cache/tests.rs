#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::sample::Target;

fn small() -> Spec {
    Spec {
        size: 96,
        scenes: 6,
        nwpu: 0,
        pasted: 0,
        kit: 0,
        auair: 0,
        buildings: 0,
        trees: 0,
        unlabelled: 0,
        degraded_share: 0.3,
        later_share: 0.5,
        ..Spec::default()
    }
}

#[test]
fn what_is_built_is_read_back_and_a_finished_shard_is_not_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let spec = small();
    let told = AtomicUsize::new(0);
    let progress = |_: usize, all: usize| {
        assert_eq!(all, 6);
        told.fetch_add(1, Ordering::Relaxed);
    };
    let cache = Cache::build(&spec, None, folder.path(), 2, &progress).unwrap();
    assert_eq!((cache.len(), cache.complete(), told.load(Ordering::Relaxed)), (6, true, 6));
    let (kind, seed) = spec.plan()[4];
    let (read, made) = (cache.get(4).unwrap(), make(&spec, &Sources::default(), kind, seed).unwrap());
    assert_eq!(read.picture.image, made.picture.image);
    assert_eq!(read.picture.instances, made.picture.instances);
    assert_eq!(read.asks, made.asks);
    assert_eq!(read.later.map(|l| l.image), made.later.map(|l| l.image));
    for index in 0..6 {
        let sample = cache.get(index).unwrap();
        for ask in &sample.asks {
            if let Target::Masks(list) | Target::Boxes(list) | Target::Ambiguous(list) = &ask.target {
                assert!(list.iter().all(|i| *i < sample.picture.instances.len()));
            }
        }
    }
    let shard = shard::path(folder.path(), 0);
    let before = std::fs::metadata(&shard).unwrap().modified().unwrap();
    Cache::build(&spec, None, folder.path(), 2, &|_, _| {}).unwrap();
    assert_eq!(std::fs::metadata(&shard).unwrap().modified().unwrap(), before);
}

#[test]
fn damage_another_specification_and_a_missing_folder_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec { scenes: 1, ..small() };
    let cache = Cache::build(&spec, None, folder.path(), 1, &|_, _| {}).unwrap();
    assert!(matches!(cache.get(1), Err(DataError::OutOfRange { index: 1, len: 1, .. })));
    let other = Spec { seed: 2, ..spec.clone() };
    let error = Cache::build(&other, None, folder.path(), 1, &|_, _| {}).unwrap_err();
    assert!(error.to_string().contains("spec.json"), "{error}");
    let shard = shard::path(folder.path(), 0);
    let bytes = std::fs::read(&shard).unwrap();
    for keep in [0, 4, 8, 20, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&shard, &bytes[..keep]).unwrap();
        assert!(cache.get(0).is_err(), "{keep} of {} bytes were taken for a sample", bytes.len());
    }
    let real = Spec { nwpu: 3, ..small() };
    let nowhere = tempfile::tempdir().unwrap();
    let error = Sources::open(&real, Some(nowhere.path())).unwrap_err();
    assert!(error.to_string().contains("nwpu_vhr10"), "{error}");
}

/// What would break: every cache and every kept episode would be made again.
#[test]
fn a_specification_without_sets_keeps_its_name() {
    let text = "Spec { seed: 1, size: 512, scenes: 4000, nwpu: 1600, pasted: 800, kit: 150, auair: 200, buildings: 100, \
                trees: 100, unlabelled: 50, asks: 16, degraded_share: 0.22, later_share: 0.2, slip_share: 0.15, generation: 2 }";
    assert_eq!(format!("{:?}", Spec::default()), text);
    assert!(!serde_json::to_string(&Spec::default()).unwrap().contains("sets"));
}

#[test]
fn the_plan_keeps_training_seeds_below_the_benchmarks() {
    let spec = Spec::default();
    let plan = spec.plan();
    assert_eq!(plan.len(), spec.len());
    assert!(plan.iter().all(|(_, seed)| *seed < 1_000_000));
    assert_ne!(spec.hash(), Spec { scenes: 1, ..spec.clone() }.hash());
}
