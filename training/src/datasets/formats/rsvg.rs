//! DIOR-RSVG and OPT-RSVG (sources: github.com/ZhanYang-nwpu/RSVG-pytorch, github.com/like413/OPT-RSVG, `data_loader.py`):
//! XML in VOC's manner, an object a description and a box by two corners.
//!
//! `train.txt`, `val.txt` and `test.txt` list running numbers of objects over all files; the files count in order of their
//! names. An object that no list names has no split.

use std::collections::HashMap;
use std::path::Path;

use roxmltree::{Document, Node, ParsingOptions};

use super::files;
use super::gather::{Gather, Labels, Size};
use super::shape::{Checked, Shape};
use super::{Annotations, Format};
use crate::datasets::Result;

/// Most nodes of one file: a picture of a thousand objects needs a tenth.
const MAX_NODES: u32 = 200_000;
const SPLITS: [&str; 3] = ["train", "val", "test"];

pub(super) fn read(format: Format, folder: &Path) -> Result<Annotations> {
    let mut gather = Gather::new(format, folder, &[]);
    let place = folder.join("Annotations");
    if !place.is_dir() {
        return Err(files::form(folder, "Annotations/", "none".to_owned()));
    }
    let splits = splits(folder)?;
    let mut running = 0usize;
    for path in files::with_ending(&place, "xml")? {
        let text = files::text(&path)?;
        // Entities are where XML bombs hide; these files need no document type, and none is read.
        let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
        let document = Document::parse_with_options(&text, options)
            .map_err(|error| files::form(&path, "XML without a document type", error.to_string()))?;
        let root = document.root_element();
        let at = files::name(&path);
        let picture = match written(&root, "filename") {
            Some(name) => gather.picture(name, size(&root), None, &at),
            None => {
                gather.skip("entry that is not of its form", format!("{at}: no filename"));
                None
            }
        };
        for object in root.children().filter(|node| node.has_tag_name("object")) {
            let split = splits.get(&running).copied();
            if let Some(picture) = picture {
                expression(&mut gather, picture, &object, split, &format!("{at}, object {running}"));
            }
            running += 1;
        }
    }
    let beyond = splits.keys().filter(|index| **index >= running).count();
    (0..beyond)
        .for_each(|_| gather.skip("number of a split for which there is no object", format!("{running} objects")));
    Ok(gather.finish(Labels::Named))
}

fn expression(gather: &mut Gather, picture: usize, object: &Node<'_, '_>, split: Option<&'static str>, at: &str) {
    let (Some(name), Some(text)) = (written(object, "name"), written(object, "description")) else {
        return gather.skip("entry that is not of its form", format!("{at}: no name or description"));
    };
    let thing = gather.thing_once(picture, name, corners(object), at);
    gather.expression(picture, text, thing.map(|t| vec![t]), split, at);
}

fn corners(object: &Node<'_, '_>) -> Checked<Shape> {
    const BROKEN: &str = "bndbox that is not four numbers";
    let bounds = child(object, "bndbox").ok_or(BROKEN)?;
    let number = |tag: &str| written(&bounds, tag).and_then(|text| text.parse::<f64>().ok()).ok_or(BROKEN);
    Shape::corners([number("xmin")?, number("ymin")?, number("xmax")?, number("ymax")?])
}

fn size(root: &Node<'_, '_>) -> Size {
    let side = |tag| {
        let written = child(root, "size").and_then(|size| written(&size, tag)?.parse::<u32>().ok());
        written.filter(|side| *side > 0)
    };
    match (side("width"), side("height")) {
        (Some(width), Some(height)) => Size::Annotated([width, height]),
        _ => Size::Measured,
    }
}

fn child<'a, 'i>(node: &Node<'a, 'i>, tag: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name(tag))
}

fn written<'a>(node: &Node<'a, '_>, tag: &str) -> Option<&'a str> {
    child(node, tag).and_then(|child| child.text()).map(str::trim)
}

/// The split of every running number.
fn splits(folder: &Path) -> Result<HashMap<usize, &'static str>> {
    let mut of = HashMap::new();
    for split in SPLITS {
        let path = folder.join(format!("{split}.txt"));
        if !path.is_file() {
            continue;
        }
        let text = files::text(&path)?;
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let running = line.trim().parse().map_err(|_| {
                files::form(&path, "a running number a line", format!("`{}` in line {number}", line.trim()))
            })?;
            if let Some(other) = of.insert(running, split).filter(|other| *other != split) {
                let got = format!("{running} in {other}.txt too");
                return Err(files::form(&path, "every object in one split", got));
            }
        }
    }
    Ok(of)
}
