//! RefDrone (source: github.com/sunzc-sunny/refdrone, `RefDrone_SPLIT_mdetr.json`): an `images` entry is one expression about a
//! picture of VisDrone; its annotations are the boxes that it names, or one with `empty`, when nothing fits.
//!
//! The file's own list of categories counts from 0, its annotations from 1 as VisDrone does ("The black cars" are 4): the
//! list is not read.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::coco::side;
use super::files::{self, Entry, Id};
use super::gather::{Gather, Labels, Size};
use super::shape::Shape;
use super::{Annotations, Format, visdrone};
use crate::datasets::Result;

#[derive(Deserialize)]
struct File {
    images: Vec<Entry<Expression>>,
    annotations: Vec<Entry<Target>>,
}

#[derive(Deserialize)]
struct Expression {
    id: Id,
    file_name: String,
    width: f64,
    height: f64,
    caption: String,
}

#[derive(Deserialize)]
struct Target {
    image_id: Id,
    category_id: Id,
    bbox: Entry<[f64; 4]>,
    #[serde(default)]
    empty: bool,
}

pub(super) fn read(folder: &Path) -> Result<Annotations> {
    let mut gather = Gather::new(Format::Refdrone, folder, &[]);
    let mut found = false;
    for split in ["train", "val", "test"] {
        let path = folder.join(format!("RefDrone_{split}_mdetr.json"));
        if path.is_file() {
            found = true;
            expressions(&mut gather, &path, split)?;
        }
    }
    if !found {
        return Err(files::form(folder, "RefDrone_SPLIT_mdetr.json", "none for train, val or test".to_owned()));
    }
    Ok(gather.finish(Labels::Named))
}

fn expressions(gather: &mut Gather, path: &Path, split: &str) -> Result<()> {
    let file: File = files::json(path)?;
    let origin = files::name(path);
    let mut named: HashMap<Id, Vec<(usize, Option<Target>)>> = HashMap::new();
    for (index, entry) in file.annotations.into_iter().enumerate() {
        match entry.0 {
            Ok(target) => named.entry(target.image_id.clone()).or_default().push((index, Some(target))),
            Err(error) => {
                // Its expression must not pass for one that names the others only.
                error.id("image_id").into_iter().for_each(|id| named.entry(id).or_default().push((index, None)));
                gather.skip("entry that is not of its form", format!("{origin}: annotations[{index}]: {error}"));
            }
        }
    }
    for (index, entry) in file.images.into_iter().enumerate() {
        let at = format!("{origin}: images[{index}]");
        let expression = match entry.0 {
            Ok(expression) => expression,
            Err(error) => {
                gather.skip("entry that is not of its form", format!("{at}: {error}"));
                continue;
            }
        };
        let size = Size::Annotated([expression.width, expression.height].map(side));
        let Some(picture) = gather.picture(&expression.file_name, size, Some(split), &at) else { continue };
        match named.remove(&expression.id) {
            Some(targets) => {
                let targets = things(gather, picture, targets, &origin);
                gather.expression(picture, &expression.caption, targets, Some(split), at);
            }
            None => gather.skip("expression without a target", at),
        }
    }
    let orphans: usize = named.values().map(Vec::len).sum();
    (0..orphans).for_each(|_| gather.skip("annotation of a picture that is not listed", &origin));
    Ok(())
}

/// The things that an expression names; `None` when one of them is left out.
fn things(
    gather: &mut Gather,
    picture: usize,
    targets: Vec<(usize, Option<Target>)>,
    origin: &str,
) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    let mut whole = true;
    for (index, target) in targets {
        let at = format!("{origin}: annotations[{index}]");
        let Some(target) = target else {
            whole = false;
            continue;
        };
        if target.empty {
            continue;
        }
        let name = target.category_id.0.parse::<usize>().ok().and_then(|number| visdrone::NAMES.get(number));
        let Some(name) = name else {
            gather.skip("annotation of a category that is not listed", at);
            whole = false;
            continue;
        };
        let shape = match target.bbox.0 {
            Ok(numbers) => Shape::boxed(numbers),
            Err(_) => Err("bbox that is not four numbers"),
        };
        match gather.thing_once(picture, name, shape, at) {
            Some(thing) => found.push(thing),
            None => whole = false,
        }
    }
    whole.then_some(found)
}
