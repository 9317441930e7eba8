//! VSAI-Ref (source: github.com/phy709/Aerial-R1, `projects/datasets/vsai_ref.py` and `eval/`): `ref_annotations.json`, a list of
//! `{image | img_path, text, mask, task_type: refseg | global, mask_type: poly | rle}`.
//!
//! Its masks are filled oriented boxes, so every target is weak here, in whichever form it is written. An empty mask is a hard
//! negative. `hard_negative_annotations.json` beside it holds hard negatives without masks. Both lie in the folder or in its
//! `train`, `val` and `test`. The set is about vehicles only and does not say of which kind.
//!
//! Run lengths give the union of several boxes: what does not touch is taken apart, and the picture's vehicles do not count as
//! labelled one by one.

use std::path::{Path, PathBuf};

use kestrel_perception::Bitmap;
use serde::Deserialize;
use serde_json::Value;

use super::files::{self, Entry};
use super::gather::{Gather, Labels, Size};
use super::shape::{Checked, Rle, Shape};
use super::{Annotations, Format};
use crate::datasets::{Outline, Result};
use crate::sample::Category;

const NAME: &str = "ref_annotations.json";
const NEGATIVES: &str = "hard_negative_annotations.json";
const VEHICLE: &str = "vehicle";
/// What a global entry asks for when it says nothing itself.
const ALL: &str = "all vehicles";

#[derive(Deserialize)]
struct Item {
    #[serde(alias = "image")]
    img_path: String,
    #[serde(default)]
    text: Texts,
    #[serde(default)]
    mask: Option<Value>,
    #[serde(default)]
    task_type: Option<String>,
}

/// One expression, or several that name the same.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Several(Vec<String>),
}

impl Default for Texts {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

pub(super) fn read(folder: &Path) -> Result<Annotations> {
    let mut gather = Gather::new(Format::VsaiRef, folder, &[]);
    let mut found = false;
    for (place, own) in places(folder) {
        for name in [NAME, NEGATIVES] {
            let path = place.join(name);
            if !path.is_file() {
                continue;
            }
            found = true;
            let list: Vec<Entry<Item>> = files::json(&path)?;
            for (index, entry) in list.into_iter().enumerate() {
                let at = format!("{}[{index}]", path.strip_prefix(folder).unwrap_or(&path).display());
                match entry.0 {
                    Ok(entry) => item(&mut gather, &entry, own, name == NEGATIVES, &at),
                    Err(error) => gather.skip("entry that is not of its form", format!("{at}: {error}")),
                }
            }
        }
    }
    if !found {
        let expected = format!("{NAME} or {NEGATIVES}, or a split's");
        return Err(files::form(folder, &expected, "none of them".to_owned()));
    }
    Ok(gather.finish(Labels::Named))
}

fn item(gather: &mut Gather, item: &Item, own: Option<&str>, negative: bool, at: &str) {
    let Some(picture) = gather.picture(&item.img_path, Size::Measured, own, at) else { return };
    let global = item.task_type.as_deref() == Some("global");
    let targets = match (&item.mask, negative) {
        (None | Some(Value::Null), true) => Some(Vec::new()),
        // A mask that was forgotten must not teach that nothing is there.
        (None | Some(Value::Null), false) => return gather.skip("entry without a mask", at),
        (Some(mask), _) => match shapes(mask, gather.size(picture)) {
            Ok(Target { shapes, apart }) => {
                if global && apart {
                    gather.vouch(picture, Category::Vehicle);
                }
                if !apart {
                    gather.note("run lengths of boxes, taken apart where they do not touch", at);
                }
                let things = shapes.into_iter().map(|shape| gather.thing_once(picture, VEHICLE, Ok(shape), at));
                things.collect::<Vec<_>>().into_iter().collect()
            }
            Err(reason) => {
                gather.doubt(picture, Category::Vehicle);
                return gather.skip(reason, at);
            }
        },
    };
    let texts = match &item.text {
        Texts::One(text) => std::slice::from_ref(text),
        Texts::Several(texts) => &texts[..],
    };
    if global && texts.iter().all(|text| text.trim().is_empty()) {
        return gather.expression(picture, ALL, targets, own, at);
    }
    if texts.is_empty() {
        return gather.skip("entry without words", at);
    }
    for text in texts {
        gather.expression(picture, text, targets.clone(), own, at);
    }
}

/// What a mask holds, and whether each shape is one thing.
struct Target {
    shapes: Vec<Shape>,
    apart: bool,
}

/// Polygons nested as deep as the writer pleased, or run lengths.
fn shapes(mask: &Value, picture: [u32; 2]) -> Checked<Target> {
    if mask.is_object() {
        let rle = Rle::deserialize(mask).map_err(|_| "mask that is neither polygons nor run lengths")?;
        let Some(shape) = Shape::runs(&rle, picture)? else { return Ok(Target { shapes: vec![], apart: true }) };
        return Ok(Target { shapes: parts(&shape)?, apart: false });
    }
    let mut flat = Vec::new();
    collect(mask, &mut flat)?;
    let shape = |numbers: &Vec<f64>| match numbers[..] {
        [x, y, w, h] => Shape::boxed([x, y, w, h]),
        [a, b, c, d, e, f, g, h] => Shape::quad(&[a, b, c, d, e, f, g, h]),
        _ => Shape::polygons(std::slice::from_ref(numbers)).map(Shape::weak),
    };
    Ok(Target { shapes: flat.iter().map(shape).collect::<Checked<_>>()?, apart: true })
}

/// The innermost lists of numbers; empty ones are no shapes.
fn collect(value: &Value, flat: &mut Vec<Vec<f64>>) -> Checked<()> {
    const BROKEN: &str = "mask that is neither polygons nor run lengths";
    let items = value.as_array().ok_or(BROKEN)?;
    if items.iter().any(Value::is_number) {
        flat.push(items.iter().map(Value::as_f64).collect::<Option<_>>().ok_or(BROKEN)?);
        return Ok(());
    }
    items.iter().try_for_each(|item| collect(item, flat))
}

/// The boxes around the pieces of a mask that do not touch.
fn parts(shape: &Shape) -> Checked<Vec<Shape>> {
    let Outline::Pixels { left, top, mask } = &shape.outline else { return Ok(vec![shape.clone()]) };
    let bitmap = Bitmap::from_mask(mask).map_err(|_| "mask that is neither polygons nor run lengths")?;
    let boxed = |[x, y, w, h]: [u32; 4]| Shape::boxed([x + left, y + top, w, h].map(f64::from));
    bitmap.components().iter().map(|part| boxed(part.bounding_box)).collect()
}

fn places(folder: &Path) -> Vec<(PathBuf, Option<&'static str>)> {
    let mut places = vec![(folder.to_path_buf(), None)];
    places.extend(["train", "val", "test"].map(|split| (folder.join(split), Some(split))));
    places
}
