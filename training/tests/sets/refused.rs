//! Recipes and folders that nothing can be learnt from, and pictures that do not decode.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use kestrel_training::cache::{Own, Spec};
use kestrel_training::datasets::Split;
use kestrel_training::datasets::folder::Folder;
use kestrel_training::datasets::formats::Format;
use kestrel_training::sft::{Options, train};

use crate::{cars, coco, set, with_sets};

/// What a person may write in a recipe, and what the error must say. Settings are refused when the recipe is read.
#[test]
fn garbage_in_a_recipe_is_one_clear_error() {
    let sets = [
        ("format = \"cocoo\"\nfolder = \"x\"", "unknown variant `cocoo`"),
        ("folder = \"x\"", "missing field `format`"),
        ("format = \"coco\"", "missing field `folder`"),
        ("format = \"coco\"\nfolder = \"\"", "data.sets[0].folder"),
        ("format = \"coco\"\nfolder = \"x\"\nsplitt = \"train\"", "unknown field `splitt`"),
        ("format = \"coco\"\nfolder = 7", "invalid type"),
        ("format = \"coco\"\nfolder = \"x\"\npictures = 0", "data.sets[0].pictures"),
        ("format = \"coco\"\nfolder = \"x\"\npictures = -4", "invalid value"),
        ("format = \"coco\"\nfolder = \"x\"\nshare = 1.0", "data.sets[0].share"),
        ("format = \"coco\"\nfolder = \"x\"\nshare = nan", "data.sets[0].share"),
        ("format = \"coco\"\nfolder = \"x\"\nshare = 0.5", "something beside it"),
        ("format = \"coco\"\nfolder = \"x\"\nshare = 0.5\npictures = 3", "either `pictures` or `share`"),
        (
            "format = \"coco\"\nfolder = \"x\"\n[[sets]]\nformat = \"coco\"\nfolder = \"y\"\nshare = -0.5",
            "data.sets[1].share",
        ),
    ];
    for (text, wanted) in sets {
        let error = with_sets(&format!("[[sets]]\n{text}\n")).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

/// Folders that are not what the recipe says. They are refused before anything is made.
#[test]
fn a_folder_that_nothing_can_be_learnt_from_is_one_clear_error() {
    let nothing = tempfile::tempdir().unwrap();
    let broken = tempfile::tempdir().unwrap();
    std::fs::write(broken.path().join("annotations.json"), "{\"images\": [").unwrap();
    let good = cars(&[("train", "a.png"), ("valid", "b.png")]);
    let gone = cars(&[("train", "a.png")]);
    std::fs::remove_file(gone.path().join("images/a.png")).unwrap();
    let unknown = cars(&[("train", "a.png")]);
    let file = unknown.path().join("train/_annotations.coco.json");
    let text = std::fs::read_to_string(&file).unwrap().replace("\"car\"", "\"wind turbine\"");
    std::fs::write(&file, text).unwrap();
    let cases = [
        (set(Path::new("/nowhere/at all"), ""), "/nowhere/at all"),
        (set(Path::new("somewhere"), ""), "KESTREL_DATA"),
        (set(nothing.path(), ""), "annotations/instances_SPLIT.json"),
        (set(nothing.path(), "annotations = \"mine.json\""), "mine.json"),
        (set(broken.path(), ""), "not valid JSON"),
        (set(gone.path(), ""), "picture that is missing"),
        (set(unknown.path(), ""), "`wind turbine`"),
        (
            set(good.path(), "split = \"tset\""),
            "expected a split among train, valid, or train, tune, test, or all, got `tset`",
        ),
        (set(good.path(), "split = \"test\""), "its splits: train, valid"),
        (set(good.path(), "content = \"0123\""), "the content 0123"),
    ];
    for (text, wanted) in cases {
        let runs = tempfile::tempdir().unwrap();
        let recipe = with_sets(&text).unwrap();
        let options = Options { runs: runs.path().to_path_buf(), ..Options::default() };
        let error = train(&recipe, &options, &|_| ControlFlow::Continue(())).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
        assert!(std::fs::read_dir(runs.path()).unwrap().next().is_none(), "{text}: something was made");
    }
}

/// A picture whose header is fine and whose pixels are not is found when it is decoded: another one takes its place.
#[test]
fn a_picture_that_does_not_decode_costs_nothing_but_itself() {
    let folder = coco(12, 96);
    let train = Folder::new(Format::Coco, folder.path()).part(None, Split::Train).unwrap();
    let cut = &train.records[0].path;
    let bytes = std::fs::read(cut).unwrap();
    std::fs::write(cut, &bytes[..bytes.len() / 2]).unwrap();
    let spec = Spec { size: 96, ..Spec::default() };
    let frames: BTreeSet<String> =
        (0..40).map(|seed| Own::new(train.records.clone()).sample(&spec, seed).unwrap().picture.origin.frame).collect();
    assert!(!frames.contains(&train.records[0].frame()) && frames.len() > 2, "{frames:?}");
    assert!(Own::new(train.records[..1].to_vec()).sample(&spec, 1).is_err());
    assert!(Own::new(Vec::new()).sample(&spec, 1).is_err());
}
