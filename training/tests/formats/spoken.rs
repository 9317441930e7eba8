//! `tasks.jsonl`: what people ask and answer in words, about one picture or two.

use std::path::Path;

use image::{Rgb, RgbImage};
use kestrel_training::datasets::Split;
use kestrel_training::datasets::folder::{Folder, content};
use kestrel_training::datasets::formats::{Annotations, Format, read};
use kestrel_training::rewards::TaskKind;

use super::made::folder;

fn line(image: &str, more: &str, task: &str, texts: &[&str]) -> String {
    format!(
        r#"{{"image": "{image}", {more}"task": "{task}", "request": "what is there?", "truth": {{"texts": {texts:?}}}}}"#
    )
}

fn after(image: &str) -> String {
    format!(r#""image_after": "{image}", "#)
}

fn of(pictures: &[(&str, u32, u32)], lines: &[String]) -> (tempfile::TempDir, Annotations) {
    let folder = folder(pictures, &[("tasks.jsonl", &lines.join("\n"))]);
    let read = read(Format::Spoken, folder.path()).unwrap();
    (folder, read)
}

#[test]
fn tasks_are_read_with_their_pictures_and_the_rest_is_counted() {
    let lines = [
        line("a.png", "", "caption", &["A park\n by  the sea.", ""]),
        line("a.png", "", "short_vqa", &["yes"]),
        line("b.png", "", "region_caption", &["a red roof"]),
        line("gone.png", "", "caption", &["nothing"]),
        line("a.png", "", "classification", &["park"]),
    ];
    let (_folder, set) = of(&[("images/a.png", 60, 40), ("b.png", 30, 30)], &lines);
    assert_eq!((set.spoken(), set.instances(), set.expressions()), (4, 0, 0));
    assert_eq!(set.skipped.of("task whose right answer is no text"), 1);
    let set = set.with_pictures();
    assert_eq!((set.records.len(), set.skipped.of("picture that is missing")), (2, 1));
    let [park, roof] = &set.records[..] else { panic!("two pictures") };
    assert_eq!((park.width, park.height, park.files().count()), (60, 40, 1));
    assert!(park.exhaustive.is_empty(), "nothing may be called absent");
    let asked: Vec<_> = park.spoken.iter().map(|spoken| (spoken.task, &spoken.texts[..])).collect();
    let texts = [["A park by the sea.".to_owned()], ["yes".to_owned()]];
    assert_eq!(asked, [(TaskKind::Caption, &texts[0][..]), (TaskKind::ShortVqa, &texts[1][..])]);
    assert_eq!((roof.spoken[0].task, roof.spoken[0].request.as_str()), (TaskKind::RegionCaption, "what is there?"));
}

#[test]
fn two_pictures_of_a_place_are_seen_side_by_side() {
    let change = |before: &str, then: &str| line(before, &after(then), "change_caption", &["a house was built"]);
    let lines = [
        change("a.png", "b.png"),
        change("a.png", "c.png"),
        change("a.png", "gone.png"),
        change("a.png", "b.png"),
        line("a.png", &after("b.png"), "caption", &["a park"]),
        line("a.png", "", "caption", &["a park"]),
    ];
    let (folder, set) = of(&[("images/a.png", 60, 40), ("images/b.png", 60, 40), ("images/c.png", 40, 40)], &lines);
    RgbImage::from_pixel(60, 40, Rgb([250, 9, 7])).save(folder.path().join("images/b.png")).unwrap();
    assert_eq!(set.skipped.of("pair of pictures of different sizes"), 1);
    assert_eq!(set.skipped.of("second picture of a task about one"), 1);
    let set = set.with_pictures();
    assert_eq!(set.skipped.of("picture that is missing"), 1);
    let [pair, alone] = &set.records[..] else { panic!("a pair and a picture") };
    assert_eq!((pair.spoken.len(), alone.spoken.len()), (2, 1), "the same pair is one record, its picture another");
    let [before, then] = [0, 1].map(|at| image::open(pair.files().nth(at).unwrap()).unwrap().into_rgb8());
    let both = pair.image().unwrap();
    assert_eq!((both.dimensions(), pair.width, pair.height), ((120, 40), 120, 40));
    for (x, y, pixel) in both.enumerate_pixels() {
        let own = if x < 60 { before.get_pixel(x, y) } else { then.get_pixel(x - 60, y) };
        assert_eq!(pixel, own, "{x}, {y}");
    }
    assert_eq!(alone.image().unwrap(), before);
}

/// What would break: figures on pictures that a pair has shown in training.
#[test]
fn a_picture_is_used_in_one_way_in_a_pair_and_alone() {
    let split = |name: &str| format!(r#""split": "{name}", "#);
    let change = |before: &str, then: &str, own: &str| {
        line(before, &format!("{}{}", after(then), split(own)), "change_caption", &["a house"])
    };
    let lines = [
        line("a.png", &split("train"), "caption", &["a park"]),
        change("a.png", "b.png", "train"),
        change("b.png", "c.png", "train"),
        line("c.png", &split("test"), "caption", &["a street"]),
        line("d.png", &split("train"), "caption", &["a farm"]),
        line("e.png", &split("val"), "caption", &["a beach"]),
    ];
    let names = ["images/a.png", "images/b.png", "images/c.png", "images/d.png", "images/e.png"];
    let (folder, set) = of(&names.map(|name| (name, 8, 8)), &lines);
    let test = Some(Split::Test);
    assert_eq!(set.uses(), [test, test, test, test, Some(Split::Train), Some(Split::Tune)]);
    let train = Folder::new(Format::Spoken, folder.path()).part(None, Split::Train).unwrap();
    assert_eq!(train.records.iter().map(|record| record.frame()).collect::<Vec<_>>(), ["d.png"]);
}

/// What would break: samples of other answers, or of another later picture, taken for these.
#[test]
fn what_is_asked_and_shown_is_part_of_the_content() {
    let hash = |texts: &[&str], later: &str| {
        let lines = [line("a.png", &after(later), "change_caption", texts)];
        let pictures = [("images/a.png", 60, 40), ("images/b.png", 60, 40), ("images/c.png", 60, 40)];
        let (_folder, set) = of(&pictures, &lines);
        content(&set.records)
    };
    let first = hash(&["a house"], "b.png");
    assert_eq!(first, hash(&["a house"], "b.png"));
    assert_ne!(first, hash(&["a shed"], "b.png"));
    assert_ne!(first, hash(&["a house"], "c.png"));
}

#[test]
fn a_folder_in_which_nobody_asks_anything_is_refused_with_the_reason() {
    let lines = [line("gone.png", "", "caption", &["a park"])];
    let (folder, _) = of(&[], &lines);
    let error = Folder::new(Format::Spoken, folder.path()).part(None, Split::Train).unwrap_err().to_string();
    assert!(error.contains("picture that is missing") && error.contains(&text(folder.path())), "{error}");
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
