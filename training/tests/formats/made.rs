//! Small sets made here, for formats whose real files cannot be had and for what real files do not show.

use std::path::Path;

use image::{GrayImage, Luma, Rgb, RgbImage};
use kestrel_link::Mask;
use kestrel_training::datasets::crop::{Region, cut_indexed};
use kestrel_training::datasets::formats::{Annotations, Format, read};
use kestrel_training::datasets::{Outline, Record};
use kestrel_training::sample::Category;
use tempfile::TempDir;

/// A folder with these files; names that end like pictures become pictures of the given size.
pub(crate) fn folder(pictures: &[(&str, u32, u32)], files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    for (name, width, height) in pictures {
        RgbImage::from_fn(*width, *height, |x, y| Rgb([x as u8, y as u8, 90])).save(place(name)).unwrap();
    }
    for (name, text) in files {
        std::fs::write(place(name), text).unwrap();
    }
    folder
}

fn of<'a>(set: &'a Annotations, name: &str) -> &'a Record {
    set.records.iter().find(|r| r.frame() == name).unwrap_or_else(|| panic!("{name}"))
}

/// A thing's category and its box in whole pixels.
type Named = (Category, [i32; 4]);

/// Expressions with their targets' categories and boxes, rounded.
fn said(record: &Record) -> Vec<(&str, Vec<Named>)> {
    let thing = |t: &usize| {
        let instance = &record.instances[*t];
        (instance.category, instance.bounding_box.map(|v| v.round() as i32))
    };
    record.expressions.iter().map(|e| (&*e.text, e.targets.iter().map(thing).collect())).collect()
}

#[test]
fn coco_gives_polygons_run_lengths_and_boxes_and_counts_the_rest() {
    let rle = Mask::from_fn(60, 40, |x, y| (20..30).contains(&x) && (5..15).contains(&y)).unwrap();
    let text = format!(
        r#"{{"images": [{{"id": 7, "file_name": "a.png", "width": 60, "height": 40}},
                       {{"id": "b", "file_name": "b.png", "width": 60.0, "height": 40.0}},
                       {{"id": 9, "file_name": "gone.png", "width": 60, "height": 40}},
                       {{"id": 10, "file_name": "../a.png", "width": 60, "height": 40}}],
            "categories": [{{"id": 1, "name": "Car"}}, {{"id": 2, "name": "storage tank"}}, {{"id": 3, "name": "cow"}}],
            "annotations": [
              {{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 9, 8], "segmentation": [[1, 2, 10, 2, 5, 10]]}},
              {{"id": 2, "image_id": 7, "category_id": 2, "segmentation": {{"size": [40, 60], "counts": "{}"}}}},
              {{"id": 3, "image_id": 7, "category_id": "1", "bbox": [30, 20, 10, 5], "iscrowd": 0, "segmentation": []}},
              {{"id": 4, "image_id": 7, "category_id": 3, "bbox": [1, 1, 4, 4]}},
              {{"id": 5, "image_id": "b", "category_id": 1, "bbox": [1, 1, 4, 4], "iscrowd": 1,
                "segmentation": {{"size": [40, 60], "counts": [0, 2400]}}}},
              {{"id": 6, "image_id": "b", "category_id": 2, "bbox": [5, 5, 20, 10],
                "segmentation": [[5, 5, 25, 5, 25, 15, 5, 15]]}},
              {{"id": 7, "image_id": "b", "category_id": 2, "bbox": [5, 5, -20, 10]}},
              {{"id": 8, "image_id": 99, "category_id": 2, "bbox": [5, 5, 20, 10]}},
              {{"id": 9, "image_id": 9, "category_id": 9, "bbox": [5, 5, 20, 10]}}
            ]}}"#,
        rle.counts
    );
    let pictures = [("images/a.png", 60, 40), ("images/b.png", 60, 40)];
    let folder = folder(&pictures, &[("annotations.json", &text)]);
    let set = read(Format::Coco, folder.path()).unwrap();
    let a = of(&set, "a.png");
    let kinds: Vec<_> = a.instances.iter().map(|i| (i.category, i.outline.is_weak(), i.bounding_box)).collect();
    let expected = [
        (Category::Car, false, [1.0, 2.0, 9.0, 8.0]),
        (Category::StorageTank, false, [20.0, 5.0, 10.0, 10.0]),
        (Category::Car, true, [30.0, 20.0, 10.0, 5.0]),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(a.exhaustive, [Category::Car, Category::StorageTank]);
    // The pixels of the run lengths, seen twice as large and turned by a quarter.
    let region = Region { lay: 1, ..Region::whole(a) };
    let (picture, indices) = cut_indexed(a, &a.image().unwrap(), &region, 120).unwrap();
    assert_eq!(indices, [Some(0), Some(1), Some(2)]);
    let tank = &picture.instances[1];
    // 60×40 lies in a square of 60 with 10 rows above: x 20..30, y 15..25, turned to x 35..45, y 20..30, doubled.
    assert_eq!(tank.bounding_box, [70.0, 40.0, 20.0, 20.0]);
    assert_eq!(tank.mask.as_ref().unwrap().area().unwrap(), 400);
    assert!((tank.visible - 1.0).abs() < 1e-3);
    assert!(picture.instances[2].mask.is_none(), "a box is no outline");

    let b = of(&set, "b.png");
    assert_eq!(b.instances.len(), 1);
    assert_eq!(b.instances[0].outline, Outline::Box);
    assert_eq!(b.exhaustive, [], "a crowd of cars and a broken tank are in it");
    assert_eq!(set.noted.of("outline that is only a box, kept as a box"), 1);
    let skipped: Vec<_> = set.skipped.iter().map(|(reason, count)| (reason, count.count)).collect();
    let expected = [
        ("annotation of a category that is not listed", 1),
        ("annotation of a picture that is not listed", 1),
        ("box without area", 1),
        ("crowd instead of a thing", 1),
        ("picture whose name leads out of the folder", 1),
    ];
    assert_eq!(skipped, expected);
    assert_eq!(set.unknown["cow"], 1);
    let there = set.with_pictures();
    assert_eq!((there.records.len(), there.skipped.of("picture that is missing")), (2, 1));
    assert!(there.boxes_only().records.iter().flat_map(|r| &r.instances).all(|i| i.outline.is_weak()));
}

#[test]
fn splits_of_files_and_of_folders_find_their_own_pictures() {
    let one = |name: &str| {
        format!(
            r#"{{"images": [{{"id": 1, "file_name": "1.png", "width": 8, "height": 8}}],
                "categories": [{{"id": 1, "name": "{name}"}}],
                "annotations": [{{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4]}}]}}"#
        )
    };
    let (car, bus) = (one("car"), one("bus"));
    let pictures = [("train/1.png", 8, 8), ("valid/1.png", 8, 8)];
    let names = [("train/_annotations.coco.json", &*car), ("valid/_annotations.coco.json", &*bus)];
    let roboflow = folder(&pictures, &names);
    let pictures = [("train2017/1.png", 8, 8), ("images/val2017/1.png", 8, 8)];
    let names = [("annotations/instances_train2017.json", &*car), ("annotations/instances_val2017.json", &*bus)];
    let own = folder(&pictures, &names);
    for (folder, train, val) in [(roboflow, "train", "valid"), (own, "train2017", "val2017")] {
        let set = read(Format::Coco, folder.path()).unwrap().with_pictures();
        assert_eq!(set.splits().into_iter().collect::<Vec<_>>(), [train, val]);
        assert_eq!(set.skipped.total(), 0);
        let val = set.clone().of_split(val, folder.path()).unwrap();
        assert_eq!((val.records.len(), val.records[0].instances[0].category), (1, Category::Bus));
        let error = set.of_split("dev", folder.path()).unwrap_err().to_string();
        assert!(error.contains("`dev`") && error.contains(train), "{error}");
    }
}

#[test]
fn dota_splits_into_folders_and_finds_the_size_in_the_picture() {
    let labels = "imagesource:GoogleEarth\ngsd:0.1\n2 2 12 2 12 8 2 8 plane 0\n2 nan 12 2 12 8 2 8 plane 0\nbroken\n\
        90 90 99 90 99 99 90 99 ship 0\n20 5 30 5 30 15 20 15 Storage-Tank\n";
    let folder = folder(&[("val/images/P1__1__0.png", 60, 40)], &[("val/labelTxt-v1.5/P1__1__0.txt", labels)]);
    let set = read(Format::Dota, folder.path()).unwrap();
    let record = &set.records[0];
    assert_eq!((record.width, record.height, &*record.scene), (60, 40, "P1"));
    assert_eq!(record.own_split.as_deref(), Some("val"));
    assert_eq!(
        record.instances.iter().map(|i| i.category).collect::<Vec<_>>(),
        [Category::Airplane, Category::StorageTank]
    );
    assert_eq!(record.exhaustive, []);
    let reasons: Vec<_> = set.skipped.iter().map(|(reason, count)| (reason, &*count.first)).collect();
    let expected = [
        ("coordinates that are no pixels", "P1__1__0.txt:4"),
        ("line that is not eight coordinates, a category and a difficulty", "P1__1__0.txt:5"),
        ("outside the picture", "P1__1__0.txt:6"),
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn vsai_ref_targets_are_boxes_and_empty_masks_refuse() {
    let rle =
        Mask::from_fn(60, 40, |x, y| (20..30).contains(&x) && (5..15).contains(&y) || (x > 50 && y > 30)).unwrap();
    let text = format!(
        r#"[{{"image": "a.png", "text": ["the left vehicle"], "mask": [[[2, 2, 12, 2, 12, 8, 2, 8]]], "task_type": "refseg"}},
            {{"img_path": "a.png", "text": "the vehicle at the bottom", "mask": [[20, 20, 10, 5]], "mask_type": "poly"}},
            {{"img_path": "a.png", "text": "", "mask": [[2, 2, 12, 2, 12, 8, 2, 8], [20, 20, 10, 5]], "task_type": "global"}},
            {{"img_path": "a.png", "text": "the red vehicle", "mask": [[]]}},
            {{"img_path": "a.png", "text": "forgotten"}},
            {{"img_path": "b.png", "text": "all vehicles", "task_type": "global", "mask_type": "rle",
              "mask": {{"size": [40, 60], "counts": "{}"}}}},
            {{"img_path": "b.png", "text": "broken", "mask": [[1, 2, 3]]}},
            7]"#,
        rle.counts
    );
    let negatives = r#"[{"image": "b.png", "text": "the blue bus"}]"#;
    let files = [("test/ref_annotations.json", &*text), ("test/hard_negative_annotations.json", negatives)];
    let folder = folder(&[("test/images/a.png", 60, 40), ("test/images/b.png", 60, 40)], &files);
    let set = read(Format::VsaiRef, folder.path()).unwrap();
    let (a, b) = (of(&set, "a.png"), of(&set, "b.png"));
    let left = (Category::Vehicle, [2, 2, 10, 6]);
    let bottom = (Category::Vehicle, [20, 20, 10, 5]);
    let expected = [
        ("the left vehicle", vec![left]),
        ("the vehicle at the bottom", vec![bottom]),
        ("all vehicles", vec![left, bottom]),
        ("the red vehicle", vec![]),
    ];
    assert_eq!(said(a), expected);
    assert_eq!((a.instances.len(), &a.exhaustive), (2, &vec![Category::Vehicle]), "named twice, there once");
    let parts = vec![(Category::Vehicle, [20, 5, 10, 10]), (Category::Vehicle, [51, 31, 9, 9])];
    assert_eq!(said(b), [("all vehicles", parts), ("the blue bus", vec![])]);
    assert_eq!(b.exhaustive, []);
    assert!(set.records.iter().flat_map(|r| &r.instances).all(|i| i.outline.is_weak()), "filled boxes are no masks");
    assert_eq!(set.noted.total(), 1);
    assert_eq!((set.skipped.of("entry without a mask"), set.skipped.of("entry that is not of its form")), (1, 1));
    assert_eq!(set.skipped.of("outline of fewer than three points"), 1);
    assert_eq!(set.splits().into_iter().collect::<Vec<_>>(), ["test"]);
}

/// `[{"ref_id": 1, "ann_id": 5, "image_id": 1, "split": "train", "sentences": [{"sent": "…"}]}, …]` in pickle protocol 2.
pub(crate) fn refs(entries: &[(i32, &str, &[&str])]) -> Vec<u8> {
    let text = |t: &str| [b"X", &(t.len() as u32).to_le_bytes()[..], t.as_bytes()].concat();
    let int = |n: i32| [b"J", &n.to_le_bytes()[..]].concat();
    let mut pickle = b"\x80\x02](".to_vec();
    for (annotation, split, sentences) in entries {
        pickle.extend(b"}(");
        for (key, value) in [("ref_id", int(1)), ("ann_id", int(*annotation)), ("split", text(split))] {
            pickle.extend([text(key), value].concat());
        }
        pickle.extend([text("sentences"), b"](".to_vec()].concat());
        for sentence in *sentences {
            pickle.extend([b"}(".to_vec(), text("sent"), text(sentence), b"u".to_vec()].concat());
        }
        pickle.extend(b"eu");
    }
    pickle.extend(b"e.");
    pickle
}

pub(crate) const INSTANCES: &str = r#"{
    "images": [{"id": 1, "file_name": "1.jpg", "width": 60, "height": 40}, {"id": 2, "file_name": "2.jpg", "width": 60, "height": 40}],
    "categories": [{"id": 1, "name": "ship"}, {"id": 2, "name": "golf field"}],
    "annotations": [
        {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "segmentation": [{"size": [40, 60], "counts": [41, 5, 2354]}]},
        {"id": 6, "image_id": 1, "category_id": 2, "bbox": [1, 1, 9, 9], "segmentation": [[1, 1, 10, 1, 5, 10]]},
        {"id": 7, "image_id": 2, "category_id": 1, "bbox": [1, 1, 9, 9], "segmentation": [[1, 1, 10, 1, 5, 10]]}]}"#;

#[test]
fn rrsis_d_joins_its_pickle_and_its_instances() {
    let folder = folder(&[("images/rrsisd/JPEGImages/1.jpg", 60, 40)], &[("rrsisd/instances.json", INSTANCES)]);
    let entries = [
        (5, "train", &["The ship", "the vessel on the left"][..]),
        (6, "train", &["a green golf field"]),
        (7, "test", &["the ship"]),
        (99, "val", &["nothing of ours"]),
    ];
    std::fs::write(folder.path().join("rrsisd/refs(unc).p"), refs(&entries)).unwrap();
    let set = read(Format::RrsisD, folder.path()).unwrap();
    let ship = (Category::Boat, [1, 1, 1, 5]);
    assert_eq!(said(of(&set, "1.jpg")), [("The ship", vec![ship]), ("the vessel on the left", vec![ship])]);
    assert!(!of(&set, "1.jpg").instances[0].outline.is_weak());
    assert_eq!(set.unknown["golf field"], 1);
    assert_eq!(set.skipped.of("expression for something that is left out"), 1);
    assert_eq!(set.skipped.of("expression of an annotation that is not listed or broken"), 1);
    let train = set.clone().of_split("train", folder.path()).unwrap();
    assert_eq!((train.records.len(), train.expressions()), (1, 2));
    let test = set.of_split("test", folder.path()).unwrap().with_pictures();
    assert_eq!((test.records.len(), test.skipped.of("picture that is missing")), (0, 1));
}

#[test]
fn refsegrs_masks_become_things_that_do_not_touch() {
    let files = [
        ("output_phrase_train.txt", "1 vehicle along the road\n2 road\nno number\n"),
        ("output_phrase_test.txt", "1 the van on the left\n3 the building\n"),
    ];
    let folder = folder(&[("images/1.tif", 60, 40), ("images/2.tif", 60, 40), ("images/3.tif", 60, 40)], &files);
    std::fs::create_dir(folder.path().join("masks")).unwrap();
    let inside = |x: u32, y: u32| (x < 10 && y < 6) || (x >= 50 && y >= 30) || (x == 30 && y == 20);
    let mask = GrayImage::from_fn(60, 40, |x, y| Luma([u8::from(inside(x, y))]));
    mask.save(folder.path().join("masks/1.tif")).unwrap();
    mask.save(folder.path().join("masks/2.tif")).unwrap();
    let set = read(Format::Refsegrs, folder.path()).unwrap();
    let parts = |c| vec![(c, [50, 30, 10, 10]), (c, [0, 0, 10, 6])];
    assert_eq!(said(&set.records[0]), [("vehicle along the road", parts(Category::Vehicle))]);
    assert!(set.records[0].instances.iter().all(|i| !i.outline.is_weak()));
    assert_eq!(set.unknown["road"], 2);
    assert_eq!(set.skipped.of("line that is not a number and an expression"), 1);
    assert_eq!(set.skipped.of("mask that is missing"), 1);
    let test = set.of_split("test", folder.path()).unwrap().with_pictures();
    assert_eq!(said(&test.records[0]), [("the van on the left", parts(Category::Van))]);
}

#[test]
fn vrsbench_takes_the_finer_of_its_two_boxes() {
    let question = |rest: &str| {
        format!(r#"{{"image_id": "P0003_0002.png", "question": "The vehicle on the left.", "question_id": 0, {rest}}}"#)
    };
    let corners = r#""ground_truth": "{<25><40><33><60>}", "obj_cls": "small-vehicle", "unique": false,
        "obj_corner": [0.25, 0.5, 0.375, 0.5, 0.375, 0.75, 0.25, 0.75]"#;
    let grid = r#""ground_truth": "{<50><50><75><100>}", "obj_cls": "ship", "obj_corner": "[]""#;
    let broken = r#""ground_truth": "somewhere", "obj_cls": "ship""#;
    let unknown = r#""ground_truth": "{<1><1><2><2>}", "obj_cls": "helipad""#;
    let text = format!("[{}]", [corners, grid, broken, unknown].map(question).join(","));
    let folder = folder(&[("Images_val/P0003_0002.png", 80, 80)], &[("VRSBench_EVAL_referring.json", &text)]);
    let set = read(Format::Vrsbench, folder.path()).unwrap();
    let record = &set.records[0];
    assert_eq!(&*record.scene, "P0003");
    let boxes: Vec<_> = said(record).into_iter().flat_map(|(_, things)| things).collect();
    assert_eq!(boxes, [(Category::Vehicle, [20, 40, 10, 20]), (Category::Boat, [40, 40, 20, 40])]);
    assert!(matches!(record.instances[0].outline, Outline::Oriented(_)));
    assert_eq!(set.skipped.of("ground truth that is not one box on the grid"), 1);
    assert_eq!((set.unknown["helipad"], set.skipped.of("expression for something that is left out")), (1, 2));
}

#[test]
fn geochat_names_its_things_in_words_only() {
    let text = r#"{"image_id": "P1_2", "question": "2 airplanes at the right", "type": "ref", "question_id": 1,
        "ground_truth": [[[40.0, 5.0], [50, 5], [50, 15], [40, 15]], [[40, 20], [50, 20], [50, 30], [40, 30]]]}"#;
    let lines = [
        &*text.replace('\n', " "),
        r#"{"image_id": "P1_2", "question": "1 roundabout", "ground_truth": [[[1,1],[2,1],[2,2],[1,2]]]}"#,
        "{}",
    ];
    let folder = folder(&[("images/P1_2.png", 60, 40)], &[("referring.jsonl", &lines.join("\n"))]);
    let set = read(Format::Geochat, folder.path()).unwrap();
    let planes = vec![(Category::Airplane, [40, 5, 10, 10]), (Category::Airplane, [40, 20, 10, 10])];
    assert_eq!(said(&set.records[0]), [("2 airplanes at the right", planes)]);
    assert_eq!((set.unknown["roundabout"], set.skipped.of("entry that is not of its form")), (1, 1));
}

#[test]
fn rsvg_reads_floats_and_what_no_list_names() {
    let object = |name: &str, x0: &str, text: &str| {
        format!(
            "<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>2.5</ymin><xmax>20.5</xmax><ymax>30</ymax></bndbox>\
             <description> {text} </description></object>"
        )
    };
    let all =
        [object("vehicle", "10.5", "The first &amp; only"), object("T junction", "1", "a"), object("ship", "x", "b")];
    let text = format!("<annotation><filename>1.jpg</filename>{}</annotation>", all.concat());
    let folder = folder(&[("JPEGImages/1.jpg", 60, 40)], &[("Annotations/1.xml", &text), ("train.txt", "0\n1\n8\n")]);
    let set = read(Format::OptRsvg, folder.path()).unwrap();
    assert_eq!(said(&set.records[0]), [("The first & only", vec![(Category::Vehicle, [11, 3, 10, 28])])]);
    assert_eq!(set.records[0].expressions[0].split.as_deref(), Some("train"));
    assert_eq!((set.records[0].width, set.unknown["T junction"]), (60, 1));
    assert_eq!(set.skipped.of("bndbox that is not four numbers"), 1);
    assert_eq!(set.skipped.of("number of a split for which there is no object"), 1);
}

#[test]
fn pictures_that_are_not_what_the_annotations_say_are_counted() {
    let text = r#"{"images": [{"id": 1, "file_name": "small.png", "width": 60, "height": 40},
                              {"id": 2, "file_name": "broken.png", "width": 60, "height": 40}],
                   "categories": [], "annotations": []}"#;
    let folder = folder(&[("images/small.png", 30, 20)], &[("annotations.json", text), ("images/broken.png", "no")]);
    let set = read(Format::Coco, folder.path()).unwrap().with_pictures();
    assert!(set.records.is_empty());
    assert_eq!(set.skipped.of("picture of another size than annotated"), 1);
    assert_eq!(set.skipped.of("picture that does not open"), 1);
}

#[test]
fn a_folder_that_is_not_there_or_of_another_format_is_one_clear_error() {
    let empty = tempfile::tempdir().unwrap();
    for format in Format::ALL {
        let error = read(format, empty.path()).unwrap_err().to_string();
        let path = empty.path().display().to_string();
        assert!(error.contains(&path), "{format}: {error}");
        let error = read(format, Path::new("/nowhere/at all")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at all") && error.contains("expected"), "{format}: {error}");
        assert_eq!(format.name().parse::<Format>().unwrap(), format);
    }
    let error = "yolo".parse::<Format>().unwrap_err().to_string();
    assert!(error.contains("yolo") && error.contains("vsai_ref"), "{error}");
}
