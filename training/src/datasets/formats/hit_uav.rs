//! HIT-UAV (source: github.com/suojiashun/HIT-UAV-Infrared-Thermal-Dataset): COCO's form with `annotation` and `filename`.
//!
//! Its polygons are boxes written as four corners. The rotated files give `[centre x, centre y, width, height, radians]`; where a
//! split has both, they are read. `SPLIT.json` or `rotate_SPLIT.json` and `normal_SPLIT.json` lie in the folder or in its
//! `annotations/`. The pictures are thermal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::coco::{self, Annotation, Instances};
use super::dota::DIFFICULT;
use super::files::{self, Entry};
use super::gather::{Gather, Labels};
use super::shape::{Checked, Shape};
use super::{Annotations, Format};
use crate::datasets::Result;

pub(super) fn read(folder: &Path) -> Result<Annotations> {
    let mut gather = Gather::new(Format::HitUav, folder, &[]);
    for (split, path) in sources(folder)? {
        let file: Instances = files::json(&path)?;
        let origin = files::name(&path);
        let own = Some(split.as_str());
        let (pictures, names) = coco::lists(&mut gather, &origin, file.images, file.categories, |_| own);
        for (index, entry) in file.annotations.into_iter().enumerate() {
            let at = format!("{origin}: annotations[{index}]");
            match entry.0 {
                Ok(annotation) => {
                    let (picture, name) = (pictures.get(&annotation.image_id), names.get(&annotation.category_id));
                    let (Some(&picture), Some(name)) = (picture, name) else {
                        picture.into_iter().for_each(|picture| gather.doubt_all(*picture));
                        gather.skip("annotation of a picture or category that is not listed", at);
                        continue;
                    };
                    let visible = if annotation.difficult { DIFFICULT } else { 1.0 };
                    gather.thing(picture, name, shape(&annotation), visible, at);
                }
                Err(error) => {
                    if let Some(picture) = error.id("image_id").and_then(|id| pictures.get(&id)) {
                        gather.doubt_all(*picture);
                    }
                    gather.skip("entry that is not of its form", format!("{at}: {error}"));
                }
            }
        }
    }
    Ok(gather.finish(Labels::All))
}

fn shape(annotation: &Annotation) -> Checked<Shape> {
    let Some(Entry(Ok(numbers))) = &annotation.bbox else { return Err("bbox that is neither four nor five numbers") };
    match numbers[..] {
        [x, y, w, h] => Shape::boxed([x, y, w, h]),
        [x, y, w, h, radians] => Shape::turned([x, y, w, h, radians]),
        _ => Err("bbox that is neither four nor five numbers"),
    }
}

/// The file of every split.
fn sources(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for place in [folder.to_path_buf(), folder.join("annotations")] {
        if !place.is_dir() {
            continue;
        }
        for path in files::with_ending(&place, "json")? {
            let stem = files::stem(&path);
            let (split, rotated) = match (stem.strip_prefix("rotate_"), stem.strip_prefix("normal_")) {
                (Some(split), _) => (split, true),
                (None, Some(split)) => (split, false),
                (None, None) => (&*stem, false),
            };
            if ["train", "val", "test"].contains(&split) && (rotated || !found.contains_key(split)) {
                found.insert(split.to_owned(), path);
            }
        }
    }
    if found.is_empty() {
        let expected = "train.json, val.json, test.json, or the same beginning with rotate_ or normal_";
        return Err(files::form(folder, expected, "none of them".to_owned()));
    }
    Ok(found)
}
