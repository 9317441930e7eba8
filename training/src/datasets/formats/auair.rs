//! AU-AIR (source: bozcani.github.io/auairdataset): one `annotations.json`, a list of frames with boxes by corner and size.

use std::path::Path;

use serde::Deserialize;

use super::coco::side;
use super::files::{self, Entry};
use super::gather::{Gather, Labels, Size};
use super::shape::Shape;
use super::{Annotations, Format};
use crate::datasets::Result;

#[derive(Deserialize)]
struct File {
    categories: Vec<String>,
    annotations: Vec<Entry<Frame>>,
}

#[derive(Deserialize)]
struct Frame {
    image_name: String,
    /// The full set's file has a colon in this key.
    #[serde(alias = "image_width:")]
    image_width: f64,
    image_height: f64,
    bbox: Vec<Entry<Corner>>,
}

#[derive(Deserialize)]
struct Corner {
    top: f64,
    left: f64,
    height: f64,
    width: f64,
    class: usize,
}

pub(super) fn read(folder: &Path) -> Result<Annotations> {
    let mut gather = Gather::new(Format::Auair, folder, &[]);
    let path = files::first(folder, &["annotations.json"])?;
    let file: File = files::json(&path)?;
    for (index, entry) in file.annotations.into_iter().enumerate() {
        let at = format!("annotations.json: annotations[{index}]");
        let frame = match entry.0 {
            Ok(frame) => frame,
            Err(error) => {
                gather.skip("entry that is not of its form", format!("{at}: {error}"));
                continue;
            }
        };
        let size = Size::Annotated([frame.image_width, frame.image_height].map(side));
        let Some(picture) = gather.picture(&frame.image_name, size, None, &at) else { continue };
        for (number, entry) in frame.bbox.into_iter().enumerate() {
            let at = format!("{at}.bbox[{number}]");
            match entry.0 {
                Ok(Corner { top, left, height, width, class }) => match file.categories.get(class) {
                    Some(name) => {
                        gather.thing(picture, name, Shape::boxed([left, top, width, height]), 1.0, at);
                    }
                    None => {
                        gather.doubt_all(picture);
                        gather.skip("annotation of a category that is not listed", at);
                    }
                },
                Err(error) => {
                    gather.doubt_all(picture);
                    gather.skip("entry that is not of its form", format!("{at}: {error}"));
                }
            }
        }
    }
    Ok(gather.finish(Labels::All))
}
