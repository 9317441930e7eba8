//! Hostile and broken files (`training/attacks/`): each is one clear error or a counted skip, never a panic or a lost hour.

use std::path::{Path, PathBuf};

use kestrel_training::datasets::formats::{Annotations, Format, read};

use super::made::{INSTANCES, refs};

/// What must come of an attack.
enum Come {
    /// The file is refused; the error names it and says this.
    Refused(&'static str),
    /// The rest is read, and so many things are left out for this reason.
    Skipped(&'static str, usize),
}

use Come::{Refused, Skipped};

/// The folders of `training/attacks/`.
const ATTACKS: [(&str, Format, Come); 23] = [
    ("auair-negative-sizes", Format::Auair, Skipped("box without area", 2)),
    ("coco-bomb-of-runs", Format::Coco, Skipped("run lengths that do not fit their size", 4)),
    ("coco-deep", Format::Coco, Refused("recursion limit")),
    ("coco-huge-numbers", Format::Coco, Skipped("coordinates that are no pixels", 2)),
    ("coco-infinity", Format::Coco, Refused("number out of range")),
    ("coco-nan", Format::Coco, Refused("not valid JSON")),
    ("coco-truncated", Format::Coco, Refused("EOF")),
    ("coco-wrong-types", Format::Coco, Skipped("entry that is not of its form", 4)),
    ("dior-entity-bomb", Format::DiorRsvg, Refused("XML without a document type")),
    ("dior-external-entity", Format::DiorRsvg, Refused("XML without a document type")),
    ("dior-truncated", Format::DiorRsvg, Refused("XML without a document type")),
    ("dota-nan", Format::Dota, Skipped("coordinates that are no pixels", 3)),
    ("dota-not-text", Format::Dota, Refused("UTF-8")),
    ("geochat-path", Format::Geochat, Skipped("picture whose name leads out of the folder", 2)),
    ("refdrone-list-of-lists", Format::Refdrone, Refused("not valid JSON")),
    ("spoken-answers", Format::Spoken, Skipped("task without a right answer", 3)),
    ("spoken-pairs", Format::Spoken, Skipped("change without a second picture", 2)),
    ("spoken-paths", Format::Spoken, Skipped("picture whose name leads out of the folder", 4)),
    ("spoken-truncated", Format::Spoken, Refused("no line that is one")),
    ("spoken-wrong-types", Format::Spoken, Skipped("entry that is not of its form", 9)),
    ("visdrone-words", Format::Visdrone, Skipped("line that is not eight numbers", 3)),
    ("vrsbench-grid", Format::Vrsbench, Skipped("ground truth that is not one box on the grid", 4)),
    ("vsai_ref-nested", Format::VsaiRef, Skipped("mask that is neither polygons nor run lengths", 3)),
];

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks")
}

fn judge(name: &str, come: &Come, given: Result<Annotations, kestrel_training::datasets::DataError>) {
    match (come, given) {
        (Refused(told), Err(error)) => {
            let error = error.to_string();
            assert!(error.contains(told), "{name}: {error}");
        }
        (Skipped(reason, count), Ok(set)) => assert_eq!(set.skipped.of(reason), *count, "{name}: {:?}", set.skipped),
        (Refused(told), Ok(set)) => panic!("{name} was read instead of refused ({told}): {:?}", set.skipped),
        (Skipped(..), Err(error)) => panic!("{name}: one broken entry took the rest with it: {error}"),
    }
}

#[test]
fn every_attack_is_answered() {
    let mut folders: Vec<String> = std::fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name != "README.md")
        .collect();
    folders.sort();
    assert_eq!(folders, ATTACKS.map(|(name, ..)| name), "every folder has its answer here");
    for (name, format, come) in &ATTACKS {
        judge(name, come, read(*format, &corpus().join(name)));
    }
}

/// Every format's reader on every other format's files: no reader may trip over what it was not made for.
#[test]
fn no_reader_panics_on_another_formats_files() {
    for (name, ..) in &ATTACKS {
        for format in Format::ALL {
            let _ = read(format, &corpus().join(name));
        }
    }
}

#[test]
fn pickles_that_would_run_something_are_refused() {
    let hostile: [&[u8]; 5] = [
        b"cos\nsystem\n(S'touch /tmp/kestrel-pwned'\ntR.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"(ios\nsystem\nS'id'\no.",
        b"\x80\x02]q\x00(ccollections\nOrderedDict\n)Re.",
    ];
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("instances.json"), INSTANCES).unwrap();
    let path = folder.path().join("refs(unc).p");
    for pickle in hostile {
        std::fs::write(&path, pickle).unwrap();
        let error = read(Format::RrsisD, folder.path()).unwrap_err().to_string();
        assert!(error.contains("refs(unc).p") && error.contains("never run"), "{error}");
    }
    assert!(!Path::new("/tmp/kestrel-pwned").exists());
    let good = refs(&[(5, "train", &["the ship"])]);
    for length in 0..good.len() {
        std::fs::write(&path, &good[..length]).unwrap();
        assert!(read(Format::RrsisD, folder.path()).is_err(), "{length} of {} bytes", good.len());
    }
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&path, bytes).unwrap();
        let _ = read(Format::RrsisD, folder.path());
    }
}
