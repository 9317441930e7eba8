//! How the extent of a labelled thing is known, and what people said of it.

use kestrel_link::Mask;

/// What is known of a thing's extent, in pixels of the whole image. Only polygons and pixels are outlines: a box, upright or
/// oriented, holds ground too and is never trained on as a mask.
#[derive(Debug, Clone, PartialEq)]
pub enum Outline {
    /// The upright box alone.
    Box,
    /// The four corners of an oriented box, in order around it.
    Oriented([[f32; 2]; 4]),
    /// Rings whose union it is.
    Polygons(Vec<Vec<[f32; 2]>>),
    /// Pixels, kept for the smallest upright box that holds them.
    Pixels {
        /// Left edge of that box.
        left: u32,
        /// Top edge of that box.
        top: u32,
        /// What is set within it.
        mask: Mask,
    },
}

impl Outline {
    /// Whether it says no more than a box.
    pub fn is_weak(&self) -> bool {
        matches!(self, Self::Box | Self::Oriented(_))
    }
}

/// A referring expression that a data set's annotators wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referring {
    /// The words, as written.
    pub text: String,
    /// The instances of the record that they name together; none where nothing in the picture fits (a hard negative).
    pub targets: Vec<usize>,
    /// The set's own name for the split that it belongs to, where expressions are split and not pictures.
    pub split: Option<String>,
}
