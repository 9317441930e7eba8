//! RefSegRS (source: github.com/zhu-xlab/rrsis): `output_phrase_SPLIT.txt` with `ID EXPRESSION` a line, `images/ID.tif` and
//! `masks/ID.tif`, whose pixels above 0 are the target.
//!
//! A mask is the union of what the expression names; what does not touch is taken for things of their own. The set names no
//! categories: the expression's own noun does, and without a known one ("road", "low vegetation") the expression is left out.

use std::path::Path;

use kestrel_perception::{Bitmap, Component};

use super::files;
use super::gather::{Gather, Labels, Size};
use super::shape::{Checked, Shape};
use super::{Annotations, Format};
use crate::datasets::Result;
use crate::expressions::surface;

/// Largest side of a mask that is read.
const MAX_SIDE: u32 = 4096;
/// Parts of fewer pixels are specks of the mask's drawing, no things.
const MIN_PIXELS: u64 = 4;

pub(super) fn read(folder: &Path) -> Result<Annotations> {
    let mut gather = Gather::new(Format::Refsegrs, folder, &[]);
    let mut found = false;
    for split in ["train", "val", "test"] {
        let path = folder.join(format!("output_phrase_{split}.txt"));
        if !path.is_file() {
            continue;
        }
        found = true;
        let text = files::text(&path)?;
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            expression(&mut gather, folder, line.trim(), split, &format!("output_phrase_{split}.txt:{number}"));
        }
    }
    if !found {
        return Err(files::form(folder, "output_phrase_SPLIT.txt", "none for train, val or test".to_owned()));
    }
    Ok(gather.finish(Labels::Named))
}

fn expression(gather: &mut Gather, folder: &Path, line: &str, split: &str, at: &str) {
    let parts = line.split_once(char::is_whitespace);
    let Some((id, text)) = parts.filter(|(id, _)| id.bytes().all(|b| b.is_ascii_digit())) else {
        return gather.skip("line that is not a number and an expression", at);
    };
    let mask = match mask(&folder.join("masks"), id) {
        Ok(mask) => mask,
        Err(reason) => return gather.skip(reason, format!("{at}: masks/{id}")),
    };
    let size = Size::MeasuredOr([mask.width(), mask.height()]);
    let Some(picture) = gather.picture(id, size, Some(split), at) else { return };
    if gather.size(picture) != [mask.width(), mask.height()] {
        return gather.skip("mask of another size than its picture", at);
    }
    let surface = surface::read(text);
    let mut things = Vec::new();
    for part in mask.components().into_iter().filter(|part| part.area >= MIN_PIXELS) {
        things.push(gather.thing_once(picture, &surface.noun, shape(&mask, &part), at));
    }
    gather.expression(picture, text, things.into_iter().collect(), Some(split), at);
}

fn mask(folder: &Path, id: &str) -> std::result::Result<Bitmap, &'static str> {
    let path = files::picture(&[folder.to_path_buf()], id).ok_or("mask that is missing")?;
    let broken = |_| "mask that does not open";
    let (width, height) = image::image_dimensions(&path).map_err(broken)?;
    if width == 0 || height == 0 || width.max(height) > MAX_SIDE {
        return Err("mask of more than 4,096 px a side");
    }
    let pixels = image::open(&path).map_err(broken)?.into_luma16();
    Ok(Bitmap::from_fn(width, height, |x, y| pixels.get_pixel(x, y).0[0] > 0))
}

fn shape(mask: &Bitmap, part: &Component) -> Checked<Shape> {
    let [x, y, width, height] = part.bounding_box;
    let only = mask.only(part);
    let bits: Vec<bool> =
        (y..y + height).flat_map(|y| (x..x + width).map(move |x| (x, y))).map(|(x, y)| only.get(x, y)).collect();
    Shape::part(part.bounding_box, &bits)
}
