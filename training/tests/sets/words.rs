//! Sets whose annotators wrote the words: asked as they are, of the part that they belong to.

use image::{GrayImage, Luma, Rgb, RgbImage};
use kestrel_training::benchmark;
use kestrel_training::cache::{Own, Spec};
use kestrel_training::datasets::folder::Folder;
use kestrel_training::datasets::formats::{Annotations, Format};
use kestrel_training::datasets::{Record, Split};
use kestrel_training::metrics::published::Benchmark;
use kestrel_training::sample::{Stratum, Target};
use tempfile::TempDir;

use crate::files;

/// Sets that split expressions put one picture into two splits: it is kept from training whole.
#[test]
fn a_picture_with_words_of_two_splits_is_kept_from_training() {
    let folder = tempfile::tempdir().unwrap();
    for place in ["Annotations", "JPEGImages"] {
        std::fs::create_dir(folder.path().join(place)).unwrap();
    }
    let object = |x: u32, text: &str| {
        format!(
            "<object><name>ship</name><bndbox><xmin>{x}</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>9</ymax></bndbox>\
             <description>{text}</description></object>",
            x + 8
        )
    };
    for (name, objects) in
        [("1", [object(2, "the left ship"), object(20, "the right ship")].concat()), ("2", object(5, "the ship"))]
    {
        RgbImage::new(40, 40).save(folder.path().join(format!("JPEGImages/{name}.jpg"))).unwrap();
        let text = format!("<annotation><filename>{name}.jpg</filename>{objects}</annotation>");
        std::fs::write(folder.path().join(format!("Annotations/{name}.xml")), text).unwrap();
    }
    std::fs::write(folder.path().join("train.txt"), "0\n2\n").unwrap();
    std::fs::write(folder.path().join("test.txt"), "1\n").unwrap();
    let set = Folder::new(Format::DiorRsvg, folder.path());
    let said = |part: &Annotations| -> Vec<String> {
        part.records.iter().flat_map(|r: &Record| r.expressions.iter().map(|e| e.text.clone())).collect()
    };
    let (train, test) = (set.part(None, Split::Train).unwrap(), set.part(None, Split::Test).unwrap());
    assert_eq!((said(&train), said(&test)), (vec!["the ship".to_owned()], vec!["the right ship".to_owned()]));
    let own = Folder { split: Some("train".into()), ..set.clone() }.part(None, Split::Test).unwrap();
    assert_eq!(files(&own), files(&train));
    let everything = Folder { split: Some("all".into()), ..set }.part(None, Split::Train).unwrap();
    assert_eq!(said(&everything).len(), 3);
    // What is said comes first, and a box is no mask.
    let sample = benchmark::from_records(test.records, 0, None).next().unwrap().unwrap();
    let ask = &sample.asks[0];
    assert_eq!((&*ask.text, ask.written, ask.stratum), ("the right ship", true, Stratum::Position));
    assert_eq!(ask.target, Target::Boxes(vec![1]));
    assert!(sample.asks[1..].iter().all(|ask| !ask.written));
    assert_eq!(Benchmark::of(Format::DiorRsvg), Some(Benchmark::Rsvg));
}

/// RefSegRS's form: pictures, mask pictures and a line of words each.
fn masks() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for place in ["images", "masks"] {
        std::fs::create_dir(folder.path().join(place)).unwrap();
    }
    for id in 1..=3 {
        let inside = |x: u32, y: u32| (10..50).contains(&x) && (20..60).contains(&y);
        let picture = RgbImage::from_fn(120, 120, |x, y| Rgb(if inside(x, y) { [200, 30, 30] } else { [90, 110, 90] }));
        picture.save(folder.path().join(format!("images/{id}.png"))).unwrap();
        let mask = GrayImage::from_fn(120, 120, |x, y| Luma([if inside(x, y) { 255 } else { 0 }]));
        mask.save(folder.path().join(format!("masks/{id}.png"))).unwrap();
    }
    std::fs::write(folder.path().join("output_phrase_train.txt"), "1 the red car on the left\n2 the red car\n")
        .unwrap();
    std::fs::write(folder.path().join("output_phrase_test.txt"), "3 the red car on the left\n").unwrap();
    folder
}

#[test]
fn written_words_are_asked_as_they_are_and_only_where_they_hold() {
    let folder = masks();
    let part = Folder::new(Format::Refsegrs, folder.path()).part(None, Split::Train).unwrap();
    let own = Own::new(part.records);
    let spec = Spec { size: 128, ..Spec::default() };
    let (mut placed, mut plain) = (0, 0);
    for seed in 0..60 {
        let sample = own.sample(&spec, seed).unwrap();
        for ask in sample.asks.iter().filter(|ask| ask.written) {
            let Target::Masks(of) = &ask.target else { panic!("{ask:?}") };
            let mask = sample.picture.instances[of[0]].mask.as_ref().unwrap();
            let [x, y, ..] = sample.picture.instances[of[0]].bounding_box;
            match &*ask.text {
                // Words about a place hold in the whole picture alone, upright: it lies at 10, 20 of 120.
                "the red car on the left" => {
                    placed += 1;
                    assert_eq!([x, y].map(|v| (v * 120.0 / 128.0).round()), [10.0, 20.0]);
                    assert!((mask.area().unwrap() as f32 / (40.0 * 128.0 / 120.0_f32).powi(2) - 1.0).abs() < 0.06);
                }
                "the red car" => plain += 1,
                other => panic!("{other}"),
            }
        }
    }
    assert!(placed > 10 && plain > placed / 2, "{placed} and {plain}");
}
