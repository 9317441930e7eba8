//! Real annotation files, with counts that were taken from them by hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kestrel_training::datasets::formats::{Annotations, Format, read};
use kestrel_training::datasets::{Modality, Outline};
use kestrel_training::sample::Category;

/// The folder of real annotation files.
fn shared() -> Option<PathBuf> {
    let named = std::env::var_os("KESTREL_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let found = named.or(Some(beside)).map(|p| p.join("formats")).filter(|p| p.is_dir());
    if found.is_none() {
        eprintln!("SKIPPED: no real annotation files; set KESTREL_SHARED to the folder that holds formats/");
    }
    found
}

fn categories(annotations: &Annotations) -> BTreeMap<Category, usize> {
    let mut counts = BTreeMap::new();
    for instance in annotations.records.iter().flat_map(|r| &r.instances) {
        *counts.entry(instance.category).or_default() += 1;
    }
    counts
}

#[test]
fn uavvaste_is_coco_whose_one_category_is_unknown() {
    let Some(shared) = shared() else { return };
    let set = read(Format::Coco, &shared.join("coco_uavvaste")).unwrap();
    assert_eq!((set.records.len(), set.instances()), (772, 0));
    assert_eq!(set.unknown, BTreeMap::from([("rubbish".to_owned(), 3718)]));
    assert_eq!((set.skipped.total(), set.noted.of("outline that is only a box, kept as a box")), (0, 5));
    let splits = ["train", "val", "test"].map(|split| {
        let own = |r: &&kestrel_training::datasets::Record| r.own_split.as_deref() == Some(split);
        set.records.iter().filter(own).count()
    });
    assert_eq!(splits, [540, 116, 116]);
    assert!(set.records.iter().all(|r| r.exhaustive.is_empty()), "nothing is known of any category");
    let there = set.with_pictures();
    assert_eq!((there.records.len(), there.skipped.of("picture that is missing")), (0, 772));
}

#[test]
fn dota_reads_both_kinds_of_numbers_and_lines() {
    let Some(shared) = shared() else { return };
    let set = read(Format::Dota, &shared.join("dota_labelTxt")).unwrap();
    assert_eq!((set.records.len(), set.instances()), (11, 1564));
    let expected = BTreeMap::from([
        (Category::Vehicle, 684),
        (Category::Boat, 561),
        (Category::StorageTank, 255),
        (Category::Airplane, 22),
        (Category::TennisCourt, 14),
        (Category::Harbor, 9),
        (Category::Pool, 9),
        (Category::Bridge, 6),
        (Category::GroundTrackField, 2),
        (Category::BaseballDiamond, 2),
    ]);
    assert_eq!(categories(&set), expected);
    assert_eq!(set.unknown, BTreeMap::from([("soccer-ball-field".to_owned(), 2)]));
    assert_eq!((set.skipped.total(), set.skipped.of("piece of a thing that a patch cuts (difficulty 2)")), (5, 5));
    let hard = set.records.iter().flat_map(|r| &r.instances).filter(|i| i.visible < 1.0).count();
    assert_eq!(hard, 138, "difficulty 1");
    let patch = set.records.iter().find(|r| r.scene == "P1478").unwrap();
    assert!(!patch.exhaustive.contains(&Category::Vehicle), "cut vehicles lie in it without a label");
    let first = &set.records[0].instances[0];
    let quad = [[937.0, 913.0], [921.0, 912.0], [923.0, 874.0], [940.0, 875.0]];
    assert_eq!((first.bounding_box, &first.outline), ([921.0, 874.0, 19.0, 39.0], &Outline::Oriented(quad)));
}

#[test]
fn hit_uav_prefers_oriented_boxes_and_is_thermal() {
    let Some(shared) = shared() else { return };
    let set = read(Format::HitUav, &shared.join("hit_uav")).unwrap();
    assert_eq!((set.records.len(), set.instances()), (579, 4780));
    let expected = BTreeMap::from([
        (Category::Person, 2611),
        (Category::Car, 1339),
        (Category::Bicycle, 796),
        (Category::Vehicle, 34),
    ]);
    assert_eq!(categories(&set), expected);
    assert_eq!((set.skipped.total(), set.skipped.of("region that the set asks to ignore")), (31, 31));
    assert_eq!(set.records.iter().filter(|r| r.exhaustive.is_empty()).count(), 23, "pictures with such a region");
    assert!(set.records.iter().all(|r| r.modality == Modality::Thermal && r.own_split.as_deref() == Some("test")));
    let all = || set.records.iter().flat_map(|r| &r.instances);
    assert!(all().all(|i| matches!(i.outline, Outline::Oriented(_))));
    let normal = tempfile::tempdir().unwrap();
    std::fs::copy(shared.join("hit_uav/normal_test.json"), normal.path().join("test.json")).unwrap();
    let upright = read(Format::HitUav, normal.path()).unwrap();
    assert_eq!(categories(&upright), expected);
    assert!(upright.records.iter().flat_map(|r| &r.instances).all(|i| i.outline == Outline::Box));
    // The same things, up to the rounding of the upright boxes: a wrong turn of the angle would not agree.
    let worst = all()
        .zip(upright.records.iter().flat_map(|r| &r.instances))
        .flat_map(|(a, b)| [0, 1].map(|axis| a.bounding_box[axis] - b.bounding_box[axis]))
        .fold(0.0, |worst: f32, gap| worst.max(gap.abs()));
    assert!(worst <= 2.0, "{worst} px");
}

#[test]
fn refdrone_counts_as_visdrone_does_and_keeps_its_refusals() {
    let Some(shared) = shared() else { return };
    let set = read(Format::Refdrone, &shared.join("refdrone")).unwrap();
    assert_eq!((set.records.len(), set.expressions(), set.instances()), (1595, 3314, 11503));
    assert_eq!(set.skipped.of("expression for something that is left out"), 118);
    assert_eq!(set.skipped.total(), 118);
    let unknown = [("motor", 149), ("awning-tricycle", 105), ("tricycle", 67)];
    assert_eq!(set.unknown, unknown.map(|(name, n)| (name.to_owned(), n)).into());
    let targets = |n: std::ops::RangeInclusive<usize>| {
        let all = set.records.iter().flat_map(|r| &r.expressions);
        all.filter(|e| n.contains(&e.targets.len())).count()
    };
    assert_eq!([targets(0..=0), targets(1..=1), targets(2..=9999)], [156, 1106, 2052]);
    assert_eq!(categories(&set)[&Category::Car], 6591);
    assert!(set.records.iter().all(|r| r.exhaustive.is_empty()), "only what was spoken of is labelled");
    let said = |text: &str| {
        let found = set.records.iter().find_map(|r| r.expressions.iter().find(|e| e.text == text).map(|e| (r, e)));
        found.map(|(record, e)| e.targets.iter().map(|t| record.instances[*t].category).collect::<Vec<_>>()).unwrap()
    };
    assert_eq!(said("The white vans parked on the left side of the road."), [Category::Van]);
    assert_eq!(said("The black cars traveling on the right side of the road."), [Category::Car; 2]);
}

#[test]
fn auair_and_visdrone_give_their_boxes() {
    let Some(shared) = shared() else { return };
    let set = read(Format::Auair, &shared.join("auair_json")).unwrap();
    assert_eq!((set.records.len(), set.instances(), set.skipped.total()), (80, 335, 0));
    assert_eq!((categories(&set)[&Category::Car], categories(&set)[&Category::Person]), (265, 15));
    assert_eq!((set.records[0].width, set.records[0].height), (1920, 1080));
    assert_eq!(set.records[0].scene, "frame_20190829091111");

    let set = read(Format::Visdrone, &shared.join("visdrone_txt")).unwrap();
    // 256 lines: 4 regions to ignore, 93 motors, 19 tricycles with awnings and 5 without.
    assert_eq!((set.records.len(), set.instances()), (3, 256 - 4 - 93 - 19 - 5));
    assert_eq!(set.skipped.of("region that the set asks to ignore"), 4);
    assert_eq!(set.unknown.values().sum::<usize>(), 93 + 19 + 5);
    let there = set.with_pictures();
    assert_eq!((there.records.len(), there.skipped.of("picture that is missing")), (3, 0));
    assert!(there.records.iter().all(|r| r.image().is_ok()));
}

/// The real lists of running numbers, over objects made here: 38,320 in files of uneven length.
#[test]
fn the_splits_of_dior_rsvg_count_objects_over_all_files() {
    let Some(shared) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    for split in ["train.txt", "val.txt", "test.txt"] {
        std::fs::copy(shared.join("dior_rsvg_splits").join(split), folder.path().join(split)).unwrap();
    }
    std::fs::create_dir(folder.path().join("Annotations")).unwrap();
    let mut running = 0;
    for file in 1.. {
        let count = (38_320 - running).min(900 + file % 7 * 40);
        if count == 0 {
            break;
        }
        let object = |n: usize| {
            let (x, y) = (n % 30 * 20, n / 30 * 15);
            format!(
                "<object><name>ship</name><pose>Unspecified</pose><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{}</xmax>\
                 <ymax>{}</ymax></bndbox><description>ship {}</description></object>",
                x + 9,
                y + 9,
                running + n
            )
        };
        let objects: String = (0..count).map(object).collect();
        let size = "<size><width>800</width><height>800</height><depth>3</depth></size>";
        let text = format!("<annotation><filename>{file:05}.jpg</filename>{size}{objects}</annotation>");
        std::fs::write(folder.path().join(format!("Annotations/{file:05}.xml")), text).unwrap();
        running += count;
    }
    let set = read(Format::DiorRsvg, folder.path()).unwrap();
    assert_eq!((set.expressions(), set.skipped.total()), (38_320, 0));
    for (split, count) in [("train", 26_991), ("val", 3_829), ("test", 7_500)] {
        let own = set.clone().of_split(split, folder.path()).unwrap();
        assert_eq!(own.expressions(), count, "{split}");
        let list = std::fs::read_to_string(folder.path().join(format!("{split}.txt"))).unwrap();
        let mut said: Vec<&str> = own.records.iter().flat_map(|r| &r.expressions).map(|e| &e.text[5..]).collect();
        let mut listed: Vec<&str> = list.lines().collect();
        said.sort_unstable();
        listed.sort_unstable();
        assert_eq!(said, listed, "{split}");
    }
}
