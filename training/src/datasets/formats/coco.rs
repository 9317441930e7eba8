//! COCO instances (source: the COCO data format, cocodataset.org): polygons, run lengths in both forms, boxes, crowds.
//!
//! One file at the top (`annotations.json`, `instances.json`, `_annotations.coco.json`, or another that the caller names), with
//! a `split.json` of file names where there is one, as UAVVaste has it; or `annotations/instances_SPLIT.json`; or
//! `SPLIT/_annotations.coco.json`.
//! A polygon that is the four corners of its own box is taken for what it is, a box.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files::{self, Entry, Id};
use super::gather::{Gather, Labels, Size};
use super::shape::{Checked, EMPTY, Rle, Shape};
use super::{Annotations, Format};
use crate::datasets::{Outline, Result};

const NAMES: [&str; 3] = ["annotations.json", "instances.json", "_annotations.coco.json"];

/// A whole file.
#[derive(Deserialize)]
pub(super) struct Instances {
    pub(super) images: Vec<Entry<Image>>,
    #[serde(alias = "annotation")]
    pub(super) annotations: Vec<Entry<Annotation>>,
    pub(super) categories: Vec<Entry<Named>>,
}

/// A picture.
#[derive(Deserialize)]
pub(super) struct Image {
    pub(super) id: Id,
    #[serde(alias = "filename")]
    pub(super) file_name: String,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A labelled thing. Its shape may be broken by itself: then its picture and category are still known.
#[derive(Deserialize)]
pub(super) struct Annotation {
    #[serde(default)]
    id: Option<Id>,
    pub(super) image_id: Id,
    pub(super) category_id: Id,
    #[serde(default)]
    pub(super) bbox: Option<Entry<Vec<f64>>>,
    #[serde(default)]
    segmentation: Option<Entry<Segmentation>>,
    #[serde(default)]
    iscrowd: i64,
    /// Not COCO's: HIT-UAV says so.
    #[serde(default)]
    pub(super) difficult: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Segmentation {
    Polygons(Vec<Vec<f64>>),
    Flat(Vec<f64>),
    Rle(Rle),
    Rles(Vec<Rle>),
}

/// A category.
#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) id: Id,
    pub(super) name: String,
}

pub(super) fn read(folder: &Path, named: Option<&Path>) -> Result<Annotations> {
    let mut gather = Gather::new(Format::Coco, folder, &[]);
    let listed = splits(folder)?;
    let sources = match named {
        Some(named) => vec![(folder.join(named), None)],
        None => sources(folder)?,
    };
    for (path, own) in sources {
        let file: Instances = files::json(&path)?;
        let split_of = |image: &str| own.as_deref().or_else(|| listed.get(image).map(String::as_str));
        things(&mut gather, &path, file, split_of);
    }
    Ok(gather.finish(Labels::All))
}

/// Where each annotation of a file ended up: the picture's index and, unless it is left out, the instance's.
pub(super) type Placed = HashMap<Id, (usize, Option<usize>)>;

/// Reads a file's pictures and things into `gather`.
pub(super) fn things<'s>(
    gather: &mut Gather,
    path: &Path,
    file: Instances,
    split_of: impl Fn(&str) -> Option<&'s str>,
) -> Placed {
    let origin = files::name(path);
    let (pictures, names) = lists(gather, &origin, file.images, file.categories, split_of);
    let mut placed = HashMap::new();
    for (index, entry) in file.annotations.into_iter().enumerate() {
        let at = format!("{origin}: annotations[{index}]");
        let annotation = match entry.0 {
            Ok(annotation) => annotation,
            Err(error) => {
                if let Some(picture) = error.id("image_id").and_then(|id| pictures.get(&id)) {
                    gather.doubt_all(*picture);
                }
                gather.skip("entry that is not of its form", format!("{at}: {error}"));
                continue;
            }
        };
        let Some(&picture) = pictures.get(&annotation.image_id) else {
            gather.skip("annotation of a picture that is not listed", at);
            continue;
        };
        let Some(name) = names.get(&annotation.category_id) else {
            gather.doubt_all(picture);
            gather.skip("annotation of a category that is not listed", at);
            continue;
        };
        if annotation.iscrowd != 0 {
            gather.leave_out(picture, name, "crowd instead of a thing", at);
            continue;
        }
        let shape = shape(&annotation, gather.size(picture));
        if let (Ok(Shape { outline: Outline::Box, .. }), true) = (&shape, has_outline(&annotation)) {
            gather.note("outline that is only a box, kept as a box", &at);
        }
        let thing = gather.thing(picture, name, shape, 1.0, at);
        if let Some(id) = annotation.id {
            placed.insert(id, (picture, thing));
        }
    }
    placed
}

/// The pictures' indices and the categories' names by their identifiers.
pub(super) fn lists<'s>(
    gather: &mut Gather,
    origin: &str,
    images: Vec<Entry<Image>>,
    categories: Vec<Entry<Named>>,
    split_of: impl Fn(&str) -> Option<&'s str>,
) -> (HashMap<Id, usize>, HashMap<Id, String>) {
    let mut pictures = HashMap::new();
    for (index, entry) in images.into_iter().enumerate() {
        let at = format!("{origin}: images[{index}]");
        match entry.0 {
            Ok(image) => {
                let size = Size::Annotated([image.width, image.height].map(side));
                let own = split_of(&image.file_name);
                if let Some(picture) = gather.picture(&image.file_name, size, own, at) {
                    pictures.insert(image.id, picture);
                }
            }
            Err(error) => gather.skip("entry that is not of its form", format!("{at}: {error}")),
        }
    }
    let mut names = HashMap::new();
    for (index, entry) in categories.into_iter().enumerate() {
        match entry.0 {
            Ok(named) => {
                names.insert(named.id, named.name);
            }
            Err(error) => {
                gather.skip("entry that is not of its form", format!("{origin}: categories[{index}]: {error}"));
            }
        }
    }
    (pictures, names)
}

/// A side in pixels as JSON tools write it; 0 for what is none.
pub(super) fn side(written: f64) -> u32 {
    if (1.0..=1e6).contains(&written) { written as u32 } else { 0 }
}

fn has_outline(annotation: &Annotation) -> bool {
    !matches!(&annotation.segmentation, None | Some(Entry(Ok(Segmentation::Polygons(_)))))
        || matches!(&annotation.segmentation, Some(Entry(Ok(Segmentation::Polygons(rings)))) if !rings.is_empty())
}

fn shape(annotation: &Annotation, picture: [u32; 2]) -> Checked<Shape> {
    const BROKEN: &str = "segmentation that is neither polygons nor run lengths";
    match &annotation.segmentation {
        None => boxed(annotation),
        Some(Entry(Err(_))) => Err(BROKEN),
        Some(Entry(Ok(Segmentation::Polygons(rings)))) if rings.is_empty() => boxed(annotation),
        Some(Entry(Ok(Segmentation::Polygons(rings)))) => Shape::polygons(rings),
        Some(Entry(Ok(Segmentation::Flat(ring)))) => Shape::polygons(std::slice::from_ref(ring)),
        Some(Entry(Ok(Segmentation::Rle(rle)))) => Shape::runs(rle, picture)?.ok_or(EMPTY),
        Some(Entry(Ok(Segmentation::Rles(rles)))) => match &rles[..] {
            [rle] => Shape::runs(rle, picture)?.ok_or(EMPTY),
            _ => Err(BROKEN),
        },
    }
}

fn boxed(annotation: &Annotation) -> Checked<Shape> {
    match &annotation.bbox {
        Some(Entry(Ok(numbers))) => match numbers[..] {
            [x, y, w, h] => Shape::boxed([x, y, w, h]),
            _ => Err("bbox that is not four numbers"),
        },
        Some(Entry(Err(_))) => Err("bbox that is not four numbers"),
        None => Err("annotation with neither bbox nor segmentation"),
    }
}

/// The annotation files and the split that each belongs to.
fn sources(folder: &Path) -> Result<Vec<(PathBuf, Option<String>)>> {
    let top = NAMES.map(|name| folder.join(name)).into_iter().find(|path| path.is_file());
    if let Some(path) = top {
        return Ok(vec![(path, None)]);
    }
    let mut found = Vec::new();
    let several = folder.join("annotations");
    if several.is_dir() {
        for path in files::with_ending(&several, "json")? {
            if let Some(split) = files::stem(&path).strip_prefix("instances_") {
                found.push((path.clone(), Some(split.to_owned())));
            }
        }
    }
    for split in ["train", "valid", "val", "test"] {
        let path = NAMES.map(|name| folder.join(split).join(name)).into_iter().find(|path| path.is_file());
        found.extend(path.map(|path| (path, Some(split.to_owned()))));
    }
    if found.is_empty() {
        let expected = format!("{}, annotations/instances_SPLIT.json or SPLIT/{}", NAMES.join(", "), NAMES[2]);
        return Err(files::form(folder, &expected, "none of them".to_owned()));
    }
    Ok(found)
}

/// The split of every file that `split.json` names.
fn splits(folder: &Path) -> Result<HashMap<String, String>> {
    let path = folder.join("split.json");
    if !path.is_file() {
        return Ok(HashMap::new());
    }
    let lists: BTreeMap<String, Vec<String>> = files::json(&path)?;
    let pairs = lists.into_iter().flat_map(|(split, names)| names.into_iter().map(move |name| (name, split.clone())));
    let mut of = HashMap::new();
    for (name, split) in pairs {
        if let Some(other) = of.insert(name.clone(), split.clone()).filter(|other| *other != split) {
            let got = format!("`{name}` in both {other} and {split}");
            return Err(files::form(&path, "every picture in one split", got));
        }
    }
    Ok(of)
}
