//! The well-known messages of Foxglove that a record uses, as JSON.
//!
//! Source: Foxglove's message schemas, <https://docs.foxglove.dev/docs/visualization/message-schemas/introduction>.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

use super::messages::Time;

/// A closed line through all points.
pub(super) const LINE_LOOP: u8 = 2;

/// `foxglove.CompressedImage`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CompressedImage<'a> {
    pub(super) timestamp: Time,
    #[serde(borrow)]
    pub(super) frame_id: Cow<'a, str>,
    /// The picture's file in base64.
    #[serde(borrow)]
    pub(super) data: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) format: Cow<'a, str>,
}

/// `foxglove.Color`, each part in 0..=1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Color {
    pub(super) r: f64,
    pub(super) g: f64,
    pub(super) b: f64,
    pub(super) a: f64,
}

/// `foxglove.Point2` in pixels; the origin is the top-left corner of the top-left pixel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Point2 {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// `foxglove.KeyValuePair`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct KeyValuePair {
    pub(super) key: &'static str,
    pub(super) value: String,
}

/// `foxglove.PointsAnnotation`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct PointsAnnotation {
    pub(super) timestamp: Time,
    #[serde(rename = "type")]
    pub(super) kind: u8,
    pub(super) points: Vec<Point2>,
    pub(super) outline_color: Color,
    pub(super) outline_colors: Vec<Color>,
    pub(super) fill_color: Color,
    /// In pixels.
    pub(super) thickness: f64,
    pub(super) metadata: Vec<KeyValuePair>,
}

/// `foxglove.TextAnnotation`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct TextAnnotation {
    pub(super) timestamp: Time,
    /// Bottom-left corner of the text.
    pub(super) position: Point2,
    pub(super) text: String,
    /// In pixels.
    pub(super) font_size: f64,
    pub(super) text_color: Color,
    pub(super) background_color: Color,
    pub(super) metadata: Vec<KeyValuePair>,
}

/// `foxglove.ImageAnnotations`. Each message replaces the one before it.
#[derive(Debug, Serialize)]
pub(super) struct ImageAnnotations<'a> {
    /// No circles are drawn, but the schema wants the list.
    pub(super) circles: [u8; 0],
    pub(super) points: &'a [PointsAnnotation],
    pub(super) texts: &'a [TextAnnotation],
}
