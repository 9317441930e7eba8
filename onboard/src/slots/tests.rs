//! Pushes that go well, and pushes that go wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::memory::MemoryDisk;
use super::*;
use crate::bundle::Bundle;
use crate::bundle::fixture::{self, key};
use kestrel_link::signature::{SigningKey, VerifyingKey};
use kestrel_link::{ChunkRequest, PushOffer, PushPhase};
use proptest::prelude::*;
use std::path::Path;
use std::sync::OnceLock;

pub(super) const ROOT: &str = "/slots";

/// Three versions of a bundle on the real disk, made once.
pub(super) fn version(number: usize) -> &'static Bundle {
    static BUNDLES: OnceLock<Vec<(tempfile::TempDir, Bundle)>> = OnceLock::new();
    let bundles = BUNDLES.get_or_init(|| {
        (0..4)
            .map(|n| {
                let dir = tempfile::tempdir().unwrap();
                let bundle = fixture::bundle(dir.path(), &format!("{n}.0.0"));
                (dir, bundle)
            })
            .collect()
    });
    &bundles[number].1
}

pub(super) fn trusted() -> Vec<VerifyingKey> {
    vec![key().verifying_key()]
}

pub(super) fn open(disk: &MemoryDisk) -> (SlotStore<MemoryDisk>, Recovery) {
    SlotStore::open(disk.clone(), Path::new(ROOT), trusted()).unwrap()
}

fn passed(_: &Bundle) -> Result<TrialReport, TrialError> {
    Ok(TrialReport { canaries: 2, worst_iou: 1.0, slowest_micros: 1 })
}

pub(super) fn download(store: &mut SlotStore<MemoryDisk>, bundle: &Bundle) -> Result<Bundle, SlotError> {
    let mut receiver = store.begin(&bundle.offer().unwrap())?;
    while let Some(request) = receiver.next_request() {
        let bytes = bundle.chunk(&request).unwrap().unwrap();
        store.receive(&mut receiver, &request, &bytes)?;
    }
    assert!(receiver.is_complete());
    store.finish(&receiver)
}

pub(super) fn push(store: &mut SlotStore<MemoryDisk>, bundle: &Bundle) -> Result<Trialled, SlotError> {
    download(store, bundle)?;
    store.trial(passed)
}

/// A disk on which version 1 flies.
pub(super) fn flying() -> MemoryDisk {
    let disk = MemoryDisk::with_root(Path::new(ROOT));
    let (mut store, recovery) = open(&disk);
    assert!(recovery.bundle.is_none() && recovery.notes.is_empty());
    push(&mut store, version(1)).unwrap();
    disk
}

pub(super) fn hash(bundle: &Bundle) -> &str {
    &bundle.manifest_hash
}

/// Promise: P7
#[test]
fn a_good_push_flies_and_the_old_model_stays() {
    let disk = flying();
    let (mut store, _) = open(&disk);
    let Trialled::Committed { bundle, report } = push(&mut store, version(2)).unwrap() else {
        panic!("rolled back");
    };
    assert_eq!((hash(&bundle), report.canaries), (hash(version(2)), 2));
    assert_eq!(store.push_state("d", None).phase, PushPhase::Committed);
    let (store, recovery) = open(&disk);
    assert_eq!(hash(&recovery.bundle.unwrap()), hash(version(2)));
    assert_eq!(store.record().previous.as_ref().unwrap().manifest_hash, hash(version(1)));
    assert!(matches!(open(&disk).0.begin(&version(2).offer().unwrap()), Err(SlotError::Order(_))));
}

/// Promise: P7
#[test]
fn a_failed_trial_rolls_back_and_says_why() {
    let disk = flying();
    let (mut store, _) = open(&disk);
    download(&mut store, version(2)).unwrap();
    let outcome = store.trial(|_| Err(TrialError { why: "canary 00: IoU 0.1".into() })).unwrap();
    assert!(matches!(outcome, Trialled::RolledBack { why } if why.contains("IoU 0.1")));
    assert_eq!(hash(&store.current().unwrap().unwrap()), hash(version(1)));
    let phase = open(&disk).0.push_state("d", None).phase;
    assert_eq!(phase, PushPhase::RolledBack { why: "canary 00: IoU 0.1".into() });
}

/// A model that takes the program down during its trial must not do so at every start.
///
/// Promise: P7
#[test]
fn a_crash_during_the_trial_rolls_back() {
    let disk = flying();
    let (mut store, _) = open(&disk);
    download(&mut store, version(2)).unwrap();
    let crash = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.trial(|_| std::panic::resume_unwind(Box::new("engine")))
    }));
    assert!(crash.is_err());
    let (store, recovery) = open(&disk);
    assert_eq!(hash(&recovery.bundle.unwrap()), hash(version(1)));
    assert!(recovery.notes[0].contains("during its trial"), "{:?}", recovery.notes);
    assert!(store.record().phase.under_way().is_none());
}

/// Promise: P6
#[test]
fn offers_of_strangers_and_altered_offers_are_refused() {
    let disk = flying();
    let (mut store, _) = open(&disk);
    let before = store.record().clone();
    let good = version(2).offer().unwrap();
    let stranger = SigningKey::from_bytes(&[1; 32]);
    let forged = kestrel_link::signature::sign_manifest(good.manifest.as_bytes(), &stranger);
    let offers = [
        PushOffer { signature: forged, ..good.clone() },
        PushOffer { signature: String::new(), ..good.clone() },
        PushOffer { manifest: good.manifest.replace("2.0.0", "2.0.1"), ..good.clone() },
        PushOffer { signature: version(3).offer().unwrap().signature, ..good },
    ];
    for offer in offers {
        let error = store.begin(&offer).map(drop).unwrap_err();
        assert!(matches!(error, SlotError::Offer(_)) && !error.hint().is_empty(), "{error}");
        assert_eq!(store.record(), &before);
    }
}

/// Promise: P6
#[test]
fn a_signed_manifest_for_other_shapes_is_refused() {
    let disk = flying();
    let (mut store, _) = open(&disk);
    let manifest = version(2).offer().unwrap().manifest.replace("\"mask_width\": 128", "\"mask_width\": 8192");
    let signature = kestrel_link::signature::sign_manifest(manifest.as_bytes(), &key());
    let error = store.begin(&PushOffer { manifest, signature }).map(drop).unwrap_err().to_string();
    assert!(error.contains("mask_width") && error.contains("8192"), "{error}");
}

/// Promise: P6, P7
#[test]
fn one_flipped_byte_on_the_way_ends_the_push() {
    for file in version(2).manifest.files.keys() {
        let disk = flying();
        let (mut store, _) = open(&disk);
        let mut receiver = store.begin(&version(2).offer().unwrap()).unwrap();
        let mut ended = None;
        while let (None, Some(request)) = (&ended, receiver.next_request()) {
            let mut bytes = version(2).chunk(&request).unwrap().unwrap();
            bytes[0] ^= u8::from(request.path == *file);
            ended = store.receive(&mut receiver, &request, &bytes).err();
        }
        let error = ended.unwrap().to_string();
        assert!(error.contains(file.as_str()) && error.contains("SHA-256"), "{error}");
        assert!(matches!(store.record().phase, Phase::RolledBack { .. }));
        assert_eq!(hash(&open(&disk).1.bundle.unwrap()), hash(version(1)));
    }
}

/// Promise: P6, P7
#[test]
fn a_byte_that_rots_between_staging_and_trial_is_found() {
    let disk = flying();
    let (mut store, _) = open(&disk);
    download(&mut store, version(2)).unwrap();
    let slot = store.record().phase.under_way().unwrap().slot;
    disk.damage(&Path::new(ROOT).join(slot.name()).join("mask.onnx"));
    let error = store.trial(|_| panic!("must not be tried")).unwrap_err().to_string();
    assert!(error.contains("mask.onnx"), "{error}");
    assert_eq!(hash(&store.current().unwrap().unwrap()), hash(version(1)));
}

#[test]
fn chunks_out_of_order_or_short_are_asked_for_again() {
    let disk = flying();
    let (mut store, _) = open(&disk);
    let mut receiver = store.begin(&version(2).offer().unwrap()).unwrap();
    let (first, second) = (receiver.next_request().unwrap(), receiver.next_request().unwrap());
    let bytes = |request: &ChunkRequest| version(2).chunk(request).unwrap().unwrap();
    let error = store.receive(&mut receiver, &second, &bytes(&second)).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let error = store.receive(&mut receiver, &first, &bytes(&first)[1..]).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    receiver.ask_again();
    assert_eq!(receiver.next_request().unwrap(), first);
    store.receive(&mut receiver, &first, &bytes(&first)).unwrap();
    // The same chunk twice must not be written twice.
    assert!(store.receive(&mut receiver, &first, &bytes(&first)).unwrap_err().is_retryable());
    while let Some(request) = receiver.next_request() {
        store.receive(&mut receiver, &request, &bytes(&request)).unwrap();
    }
    store.finish(&receiver).unwrap();
}

#[test]
fn an_unfinished_download_is_not_staged() {
    let disk = flying();
    let (mut store, _) = open(&disk);
    let mut receiver = store.begin(&version(2).offer().unwrap()).unwrap();
    let request = receiver.next_request().unwrap();
    store.receive(&mut receiver, &request, &version(2).chunk(&request).unwrap().unwrap()).unwrap();
    assert!(matches!(store.finish(&receiver), Err(SlotError::Bundle(_))));
    assert!(store.trial(passed).is_err());
    assert!(store.finish(&receiver).is_err());
}

#[test]
fn large_files_come_in_chunks() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write_files(dir.path(), "9.0.0");
    let large: Vec<u8> = (0..700_001u32).map(|i| (i % 251) as u8).collect();
    std::fs::write(dir.path().join("MODEL_CARD.md"), &large).unwrap();
    std::fs::write(dir.path().join("empty"), b"").unwrap();
    let bundle = crate::bundle::seal(dir.path(), fixture::manifest("9.0.0"), Some(&key())).unwrap();
    let mut receiver = Receiver::new(&bundle.offer().unwrap(), &trusted()).unwrap();
    let mut lengths = Vec::new();
    while let Some(request) = receiver.next_request() {
        assert_ne!(request.path, "empty");
        let bytes = bundle.chunk(&request).unwrap().unwrap();
        receiver.accept(&request, &bytes).unwrap();
        if request.path == "MODEL_CARD.md" {
            lengths.push(request.length);
        }
    }
    assert_eq!(lengths, [262_144, 262_144, 175_713]);
    let (received, total) = receiver.progress();
    assert!(receiver.is_complete() && received == total);
    let disk = flying();
    download(&mut open(&disk).0, &bundle).unwrap();
}

/// Promise: P7
#[test]
fn a_damaged_model_gives_way_to_the_one_before_it() {
    let disk = flying();
    let (mut store, _) = open(&disk);
    push(&mut store, version(2)).unwrap();
    let slot = store.record().committed.clone().unwrap().slot;
    disk.damage(&Path::new(ROOT).join(slot.name()).join("vision.onnx"));
    let (mut store, recovery) = open(&disk);
    assert_eq!(hash(&recovery.bundle.unwrap()), hash(version(1)));
    assert!(recovery.notes[0].contains("vision.onnx"), "{:?}", recovery.notes);
    // The damaged one can be pushed again.
    push(&mut store, version(2)).unwrap();
    assert_eq!(hash(&open(&disk).1.bundle.unwrap()), hash(version(2)));
}

/// A wrong list of trusted keys grounds the model, and giving the right list again brings it back.
///
/// Promise: P7
#[test]
fn wrong_trusted_keys_cost_no_model() {
    let disk = flying();
    let (_, recovery) = SlotStore::open(disk.clone(), Path::new(ROOT), vec![]).unwrap();
    assert!(recovery.bundle.is_none() && recovery.notes[0].contains("not trusted"));
    assert_eq!(hash(&open(&disk).1.bundle.unwrap()), hash(version(1)));
}

#[test]
fn slots_on_the_real_disk_are_held_by_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FolderDisk::open(dir.path()).unwrap();
    assert!(FolderDisk::open(dir.path()).is_err());
    let (mut store, _) = SlotStore::open(disk, dir.path(), trusted()).unwrap();
    let mut receiver = store.begin(&version(1).offer().unwrap()).unwrap();
    while let Some(request) = receiver.next_request() {
        let bytes = version(1).chunk(&request).unwrap().unwrap();
        store.receive(&mut receiver, &request, &bytes).unwrap();
    }
    store.finish(&receiver).unwrap();
    store.trial(passed).unwrap();
    drop(store);
    let disk = FolderDisk::open(dir.path()).unwrap();
    let (_, recovery) = SlotStore::open(disk, dir.path(), trusted()).unwrap();
    assert_eq!(recovery.bundle.unwrap().dir, dir.path().join("A"));
}

#[test]
fn a_record_of_another_format_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["{", "{\"format\": 2, \"committed\": null, \"previous\": null, \"phase\": {\"name\": \"idle\"}}"] {
        std::fs::write(dir.path().join("current.json"), text).unwrap();
        let disk = FolderDisk::open(dir.path()).unwrap();
        let error = SlotStore::open(disk, dir.path(), trusted()).map(drop).unwrap_err().to_string();
        assert!(error.contains("current.json") && error.contains("format 1"), "{error}");
    }
}

fn event() -> impl Strategy<Value = Event> {
    let why = "x".to_owned();
    prop_oneof![
        4 => (0..4u8, any::<bool>()).prop_map(|(n, repair)| Event::Offered {
            manifest_hash: format!("h{n}"),
            model: format!("m@{n}"),
            repair,
        }),
        4 => Just(Event::Received),
        4 => Just(Event::Rechecked),
        4 => Just(Event::TrialStarted),
        4 => Just(Event::TrialPassed),
        1 => Just(Event::Failed { why: why.clone() }),
        1 => Just(Event::Restarted),
        1 => Just(Event::CommittedDamaged { why }),
    ]
}

proptest! {
    /// Promise: P7
    #[test]
    fn the_last_good_slot_is_never_written_to(events in proptest::collection::vec(event(), 0..120)) {
        let mut record = Record::default();
        for event in events {
            let before = record.clone();
            let Ok(after) = record.after(event.clone()) else { continue };
            let committed = after.committed.as_ref().map(|release| release.slot);
            prop_assert!(after.writable().is_none() || after.writable() != committed);
            prop_assert_ne!(Some(after.spare()), committed);
            if let Some(release) = after.phase.under_way() {
                prop_assert_ne!(Some(release.slot), committed);
                // What is being replaced is not also promised as a way back.
                prop_assert!(after.previous.is_none());
            }
            if let Some(previous) = &after.previous {
                prop_assert_ne!(Some(previous.slot), committed);
            }
            // What flies changes only by a passed trial, or back to what flew before.
            if after.committed != before.committed {
                let back = after.committed == before.previous && matches!(event, Event::CommittedDamaged { .. });
                let forth = event == Event::TrialPassed && after.committed.as_ref() == before.phase.under_way();
                prop_assert!(back || forth);
            }
            // A restart changes nothing the second time.
            let restarted = after.after(Event::Restarted).unwrap();
            prop_assert_eq!(&restarted.after(Event::Restarted).unwrap(), &restarted);
            let half_way = matches!(
                restarted.phase,
                Phase::Trial { .. } | Phase::Downloading { .. } | Phase::Verified { .. }
            );
            prop_assert!(!half_way, "half way after a restart: {:?}", restarted.phase);
            let text = serde_json::to_string(&after).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Record>(&text).unwrap(), &after);
            record = after;
        }
    }
}
