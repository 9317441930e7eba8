//! VRSBench's referring task (source: github.com/lx709/VRSBench, `VRSBench_EVAL_referring.json`): a list of
//! `{image_id, question, ground_truth: "{<x0><y0><x1><y1>}", obj_corner: [x, y]·4, obj_cls}`.
//!
//! The text's box is on a grid of 100, the corners are fractions and finer: they are read where they are whole. Pictures are
//! 512×512 and lie in `Images_val/` or one of the usual places.

use std::path::Path;

use serde::Deserialize;

use super::files::{self, Entry};
use super::gather::{Gather, Labels, Size};
use super::shape::{Checked, Shape};
use super::{Annotations, Format};
use crate::datasets::Result;

const NAME: &str = "VRSBench_EVAL_referring.json";
/// Side of every picture.
const SIDE: u32 = 512;

#[derive(Deserialize)]
struct Question {
    image_id: String,
    question: String,
    ground_truth: String,
    obj_cls: String,
    #[serde(default)]
    obj_corner: Option<Entry<[f64; 8]>>,
}

pub(super) fn read(folder: &Path) -> Result<Annotations> {
    let mut gather = Gather::new(Format::Vrsbench, folder, &["Images_val", "images/Images_val"]);
    let path = files::first(folder, &[NAME])?;
    let list: Vec<Entry<Question>> = files::json(&path)?;
    for (index, entry) in list.into_iter().enumerate() {
        let at = format!("{NAME}[{index}]");
        let question = match entry.0 {
            Ok(question) => question,
            Err(error) => {
                gather.skip("entry that is not of its form", format!("{at}: {error}"));
                continue;
            }
        };
        let size = Size::MeasuredOr([SIDE; 2]);
        let Some(picture) = gather.picture(&question.image_id, size, None, &at) else { continue };
        let thing = gather.thing_once(picture, &question.obj_cls, shape(&question, gather.size(picture)), &at);
        gather.expression(picture, &question.question, thing.map(|t| vec![t]), None, at);
    }
    Ok(gather.finish(Labels::Named))
}

fn shape(question: &Question, [width, height]: [u32; 2]) -> Checked<Shape> {
    if let Some(Entry(Ok(corners))) = &question.obj_corner {
        let mut flat = *corners;
        for pair in flat.chunks_exact_mut(2) {
            pair[0] *= f64::from(width);
            pair[1] *= f64::from(height);
        }
        if let Ok(quad) = Shape::quad(&flat) {
            return Ok(quad);
        }
    }
    let [x0, y0, x1, y1] = grid(&question.ground_truth).ok_or("ground truth that is not one box on the grid")?;
    let (w, h) = (f64::from(width) / 100.0, f64::from(height) / 100.0);
    Shape::corners([x0 * w, y0 * h, x1 * w, y1 * h])
}

/// The numbers of `{<x0><y0><x1><y1>}`.
fn grid(text: &str) -> Option<[f64; 4]> {
    let inner = text.trim().strip_prefix("{<")?.strip_suffix(">}")?;
    let numbers: Vec<f64> = inner.split("><").map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
    let four: [f64; 4] = numbers.try_into().ok()?;
    four.iter().all(|v| (0.0..=100.0).contains(v)).then_some(four)
}
