//! GeoChat-Bench's referring task (source: github.com/mbzuai-oryx/GeoChat, `referring.jsonl`): a line an expression, whose
//! ground truth is a list of four-corner polygons in pixels; pictures are `image_id` with `.png`.
//!
//! The set names no categories: the expression's own noun does, and without a known one the expression is left out.

use std::path::Path;

use serde::Deserialize;

use super::files;
use super::gather::{Gather, Labels, Size};
use super::shape::{Checked, Shape};
use super::{Annotations, Format};
use crate::datasets::Result;
use crate::expressions::surface;

const NAME: &str = "referring.jsonl";

#[derive(Deserialize)]
struct Question {
    image_id: String,
    question: String,
    ground_truth: Vec<Vec<[f64; 2]>>,
}

pub(super) fn read(folder: &Path) -> Result<Annotations> {
    let mut gather = Gather::new(Format::Geochat, folder, &[]);
    let path = files::first(folder, &[NAME])?;
    let text = files::text(&path)?;
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let at = format!("{NAME}:{number}");
        match serde_json::from_str::<Question>(line) {
            Ok(question) => expression(&mut gather, &question, &at),
            Err(error) => gather.skip("entry that is not of its form", format!("{at}: {error}")),
        }
    }
    if gather.is_empty() {
        return Err(files::form(&path, "a line of JSON an expression", "no line that is one".to_owned()));
    }
    Ok(gather.finish(Labels::Named))
}

fn expression(gather: &mut Gather, question: &Question, at: &str) {
    let Some(picture) = gather.picture(&question.image_id, Size::Measured, None, at) else { return };
    if question.ground_truth.is_empty() {
        return gather.skip("expression without a target", at);
    }
    let surface = surface::read(&question.question);
    let things: Vec<Option<usize>> = question
        .ground_truth
        .iter()
        .map(|polygon| gather.thing_once(picture, &surface.noun, corners(polygon), at))
        .collect();
    gather.expression(picture, &question.question, things.into_iter().collect(), None, at);
}

fn corners(polygon: &[[f64; 2]]) -> Checked<Shape> {
    let flat: [f64; 8] = polygon.as_flattened().try_into().map_err(|_| "polygon that is not four corners")?;
    Shape::quad(&flat)
}
