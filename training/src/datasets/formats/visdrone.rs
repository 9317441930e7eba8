//! VisDrone's text files (source: the VisDrone toolkits' README): one a picture, a line a thing:
//! left, top, width, height, score, category, truncation, occlusion.
//!
//! `annotations/` and `images/` lie in the folder or in its `train`, `val` and `test`, or the text files lie beside the
//! pictures. Category 0 are regions to ignore; a score of 0 marks a thing that is not to be counted.

use std::path::{Path, PathBuf};

use super::files;
use super::gather::{Gather, Labels, Size};
use super::shape::Shape;
use super::{Annotations, Format};
use crate::datasets::Result;

/// The categories by number.
pub(super) const NAMES: [&str; 12] = [
    "ignored regions",
    "pedestrian",
    "people",
    "bicycle",
    "car",
    "van",
    "truck",
    "tricycle",
    "awning-tricycle",
    "bus",
    "motor",
    "others",
];

pub(super) fn read(folder: &Path) -> Result<Annotations> {
    let mut gather = Gather::new(Format::Visdrone, folder, &[]);
    for (labels, own) in label_folders(folder)? {
        for path in files::with_ending(&labels, "txt")? {
            let text = files::text(&path)?;
            let at = files::name(&path);
            let Some(picture) = gather.picture(&files::stem(&path), Size::Measured, own.as_deref(), &at) else {
                continue;
            };
            for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
                thing(&mut gather, picture, line, &format!("{at}:{number}"));
            }
        }
    }
    Ok(gather.finish(Labels::All))
}

fn thing(gather: &mut Gather, picture: usize, line: &str, at: &str) {
    let fields: Vec<&str> = line.trim().trim_end_matches(',').split(',').map(str::trim).collect();
    let numbers: Vec<f64> = fields.iter().filter_map(|field| field.parse().ok()).collect();
    let [x, y, w, h, score, category, truncation, occlusion] = numbers[..] else {
        gather.doubt_all(picture);
        return gather.skip("line that is not eight numbers", at);
    };
    let name = usize::try_from(category as i64).ok().and_then(|number| NAMES.get(number));
    let Some(name) = name.filter(|_| category >= 0.0 && category.fract() == 0.0) else {
        gather.doubt_all(picture);
        return gather.skip("annotation of a category that is not listed", at);
    };
    if score == 0.0 && category != 0.0 {
        return gather.leave_out(picture, name, "thing that the set does not count (score 0)", at);
    }
    gather.thing(picture, name, Shape::boxed([x, y, w, h]), visible(truncation, occlusion), at);
}

/// The middle of what the set's levels mean: 0 is whole, 1 hides up to half, 2 more than half.
fn visible(truncation: f64, occlusion: f64) -> f32 {
    let share = |level: f64| match level {
        l if l < 1.0 => 1.0,
        l if l < 2.0 => 0.75,
        _ => 0.25,
    };
    share(truncation) * share(occlusion)
}

/// The folders of label files and the split that each belongs to.
fn label_folders(folder: &Path) -> Result<Vec<(PathBuf, Option<String>)>> {
    let top = folder.join("annotations");
    if top.is_dir() {
        return Ok(vec![(top, None)]);
    }
    let mut found = Vec::new();
    for split in ["train", "val", "test"] {
        let labels = folder.join(split).join("annotations");
        if labels.is_dir() {
            found.push((labels, Some(split.to_owned())));
        }
    }
    if found.is_empty() {
        if files::with_ending(folder, "txt")?.is_empty() {
            let expected = "annotations/, a split's annotations/, or .txt files";
            return Err(files::form(folder, expected, "none of them".to_owned()));
        }
        found.push((folder.to_path_buf(), None));
    }
    Ok(found)
}
