//! The power cut, or the disk full, at every single write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::SlotStore;
use super::memory::{Fault, MemoryDisk};
use super::tests::{ROOT, download, flying, hash, open, push, trusted, version};
use crate::bundle::Bundle;
use std::path::Path;

/// Setup: an old model flies, alone, beside a staged one, or beside the one before it.
/// Fault: the power is cut at the k-th write of a push, and again during the recovery.
/// Expected: after the restart the old or the new model opens, whole and signed, and the next push works.
/// Invariant: once the push was told to be committed, the new one flies; what the record promises is whole.
///
/// Promise: P7
#[test]
fn the_power_may_be_cut_at_any_write() {
    let alone = flying();
    let staged = flying();
    download(&mut open(&staged).0, version(2)).unwrap();
    let followed = flying();
    push(&mut open(&followed).0, version(2)).unwrap();
    for (start, old, new) in [(alone, 1, 2), (staged, 1, 3), (followed, 2, 3)] {
        let whole = start.fork();
        whole.set_fault(usize::MAX, Fault::PowerCut);
        push(&mut open(&whole).0, version(new)).unwrap();
        let writes = whole.operations();
        assert!(writes > 40, "only {writes} writes");
        let outcomes: Vec<bool> = (0..=writes)
            .flat_map(|cut| (0..4).map(move |seed| (cut, seed)))
            .map(|(cut, seed)| cut_once(&start.fork(), cut, seed, old, new))
            .collect();
        // Both outcomes occur, or the test cuts nothing.
        let switched = outcomes.iter().filter(|switched| **switched).count();
        assert!(switched > 3 && outcomes.len() - switched > 40, "{switched} of {}", outcomes.len());
    }
}

/// Whether the new model flies in the end.
fn cut_once(disk: &MemoryDisk, cut: usize, seed: u64, old: usize, new: usize) -> bool {
    disk.set_fault(cut, Fault::PowerCut);
    let told = SlotStore::open(disk.clone(), Path::new(ROOT), trusted())
        .and_then(|(mut store, _)| push(&mut store, version(new)));
    disk.power_on(seed);
    disk.set_fault((cut + seed as usize) % 5, Fault::PowerCut);
    let _ = SlotStore::open(disk.clone(), Path::new(ROOT), trusted());
    disk.power_on(seed + 77);
    let (mut store, recovery) = open(disk);
    let bundle = recovery.bundle.unwrap_or_else(|| panic!("cut {cut}: nothing flies: {:?}", recovery.notes));
    let switched = hash(&bundle) == hash(version(new));
    assert!(switched || hash(&bundle) == hash(version(old)), "cut {cut}");
    assert!(switched || told.is_err(), "cut {cut}: told committed, but the old one flies");
    let record = store.record();
    for promised in record.phase.under_way().into_iter().chain(&record.previous) {
        let found = Bundle::load(&Path::new(ROOT).join(promised.slot.name()), disk);
        let found = found.unwrap_or_else(|error| panic!("cut {cut}: {promised:?}: {error}"));
        assert_eq!(hash(&found), promised.manifest_hash, "cut {cut}");
    }
    push(&mut store, version(0)).unwrap();
    assert_eq!(hash(&open(disk).1.bundle.unwrap()), hash(version(0)));
    switched
}

/// Fault: one write fails half done, as on a full disk; the program goes on.
///
/// Promise: P7
#[test]
fn the_disk_may_be_full_at_any_write() {
    let start = flying();
    let whole = start.fork();
    whole.set_fault(usize::MAX, Fault::Full);
    push(&mut open(&whole).0, version(2)).unwrap();
    for at in 0..whole.operations() {
        let disk = start.fork();
        let (mut store, _) = open(&disk);
        disk.set_fault(at, Fault::Full);
        let error = push(&mut store, version(2)).map(drop);
        assert!(error.is_err(), "write {at} failed unnoticed");
        assert_eq!(hash(&store.current().unwrap().unwrap()), hash(version(1)), "write {at}");
        // Without a restart, as soon as there is room again.
        push(&mut store, version(2)).unwrap();
        disk.power_on(at as u64);
        assert_eq!(hash(&open(&disk).1.bundle.unwrap()), hash(version(2)));
    }
}
